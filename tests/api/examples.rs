//! The scripts of `tests/examples/` do what they say, against a server with generated data.

use std::process::Command;

use kindred::settings::Settings;
use kindred::testing::Fixture;
use serde_json::json;

use crate::support::Server;

/// Runs a script against a server, unless what runs it is not there.
#[allow(clippy::print_stdout, reason = "a test that does nothing must say so")]
fn run(program: &str, needs: &str, script: &str, server: &Server) {
    if Command::new(needs).arg("--version").output().is_err() {
        println!("skipped: {script} needs {needs}, which is not there");
        return;
    }
    let script = format!("{}/tests/examples/{script}", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(program);
    command.arg(&script).env("KINDRED_URL", format!("http://127.0.0.1:{}", server.port));
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {}\n{out}\n{err}", output.status);
}

#[test]
fn a_visit_to_a_shop() {
    let server = Server::with_shop();
    run("sh", "curl", "shop.sh", &server);
    run("sh", "curl", "shop.sh", &server);
}

#[test]
fn a_morning_at_a_news_site() {
    let mut fixture = Fixture::shop();
    for (hours, item) in (1_i64..).zip(&mut fixture.items) {
        item.attributes.insert("published_at".to_owned(), json!(1_795_568_523_000 - hours * 3_600_000));
    }
    let server = Server::with(&fixture, |settings| {
        let preset = format!("{}/config/presets/news.toml", env!("CARGO_MANIFEST_DIR"));
        let preset = Settings::load(Some(preset.as_ref())).unwrap();
        settings.scenarios = preset.scenarios;
        settings.scenarios.values_mut().for_each(|scenario| scenario.deadline_ms = 60_000);
        settings.trending = preset.trending;
        settings.trending.refresh_ms = 50;
    });
    run("python3", "python3", "news.py", &server);
}
