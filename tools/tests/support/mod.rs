//! What the tests of the command share.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use kindred_tools::factors::FactorsOptions;
use kindred_tools::generated;
use kindred_tools::model_dir::ModelMetric;
use serde_json::Value;
use tempfile::TempDir;

/// The command, quiet, with no settings from the environment of the tests.
pub(crate) fn kindred() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kindred"));
    command.timeout(std::time::Duration::from_secs(300));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KINDRED__")) {
        command.env_remove(name);
    }
    command
}

/// Runs a command that must succeed, and reads its stdout as the one line of JSON that it must be.
pub(crate) fn json(mut command: impl std::borrow::BorrowMut<Command>) -> Value {
    let output = command.borrow_mut().output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().count(), 1, "more than one line of JSON: {text}");
    serde_json::from_str(&text).unwrap()
}

/// Generates a shop in `dir` and makes an artifact of it; what the command reported.
pub(crate) fn demo(dir: &Path, items: u32, visitors: u32) -> Value {
    let (items, visitors) = (items.to_string(), visitors.to_string());
    let sizes = ["--items", &items, "--visitors", &visitors];
    json(kindred().args(["demo", "--no-serve", "--seed", "3", "--json", "--dir"]).arg(dir).args(sizes))
}

/// A small generated model in a directory of its own, and room for its artifacts.
pub(crate) struct Workshop {
    dir: TempDir,
}

impl Workshop {
    pub(crate) fn new(n_items: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = FactorsOptions { n_items, dims: 16, n_queries: 50, seed: 7 };
        generated::model(&options, ModelMetric::InnerProduct).write(&dir.path().join("model"), false).unwrap();
        Self { dir }
    }

    pub(crate) fn model(&self) -> PathBuf {
        self.dir.path().join("model")
    }

    pub(crate) fn artifacts(&self) -> PathBuf {
        self.dir.path().join("artifacts")
    }

    /// `kindred build --json` of the model, to be run or to be given more arguments.
    pub(crate) fn build(&self) -> Command {
        let mut command = kindred();
        command.arg("build").arg("--model").arg(self.model()).arg("--output").arg(self.artifacts()).arg("--json");
        command
    }

    /// The same as a process that can be killed.
    pub(crate) fn build_process(&self) -> Process {
        let mut command = Process::new(env!("CARGO_BIN_EXE_kindred"));
        command.arg("build").arg("--model").arg(self.model()).arg("--output").arg(self.artifacts()).arg("--json");
        command
    }
}

/// Changes one byte of a published file, which is read-only.
pub(crate) fn flip_a_byte(path: &Path, at: usize) {
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    let mut bytes = fs::read(path).unwrap();
    *bytes.get_mut(at).expect("the file is longer") ^= 1;
    fs::write(path, bytes).unwrap();
}

/// A process that ends when this is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves artifacts on a port of the system's choice, as a user would, and waits until it is ready.
pub(crate) fn serve(dir: &Path, more: &[&str]) -> (Running, String) {
    let port = kindred_tools::load::process::free_port().unwrap();
    let mut command = Process::new(env!("CARGO_BIN_EXE_kindred"));
    command.arg("serve").arg("--artifacts").arg(dir.join("artifacts")).arg("--store").arg(dir.join("store/kindred"));
    command.args(["--port", &port.to_string(), "--workers", "1", "--log", "warn"]).args(more);
    // Limits of time that a busy machine does not reach.
    command.envs([
        ("KINDRED__SCENARIOS__HOME__DEADLINE_MS", "60000"),
        ("KINDRED__HISTORY__READ_TIMEOUT_MS", "30000"),
        ("KINDRED__OVERLOAD__ENABLED", "false"),
    ]);
    let child = Running(command.stdout(Stdio::null()).spawn().unwrap());
    let url = format!("http://127.0.0.1:{port}");
    let started = Instant::now();
    while ureq::get(format!("{url}/readyz")).call().is_err() {
        assert!(started.elapsed() < Duration::from_secs(60), "the server does not become ready");
        std::thread::sleep(Duration::from_millis(20));
    }
    (child, url)
}
