//! The server as a child process: started, pinned to a core, watched, ended.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::connection::call;

/// How long a server may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(120);
const ASK_EVERY: Duration = Duration::from_millis(20);

/// What of a settings file does not hold: a server is asked over plain HTTP, for /metrics at the address of everything else, and whoever asks is no
/// operator, so that it is not audited.
const ASKED_PLAINLY: [(&str, &str); 5] = [
    ("KINDRED__TLS__CERTIFICATE", ""),
    ("KINDRED__TLS__PRIVATE_KEY", ""),
    ("KINDRED__TLS__CLIENT_AUTHORITIES", ""),
    ("KINDRED__ADMIN__SEPARATE", "false"),
    ("KINDRED__ADMIN__AUDIT_LOG", ""),
];

/// A server that ends when this is dropped, or this process ends.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// The core it is pinned to, if any.
    pub core: Option<usize>,
}

impl ServerProcess {
    /// Starts `kindred serve` on a free port, with one worker and settings by environment variables, over plain HTTP, and waits until it is ready.
    /// Interactions are kept in memory, if no store is named.
    ///
    /// # Errors
    /// This program cannot be started anew, or the server ends or is not ready in time.
    pub fn start(
        artifacts: &Path,
        config: Option<&Path>,
        core: Option<usize>,
        settings: &[(&str, String)],
        store: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding this program's own file")?;
        let port = free_port()?;
        let mut command = match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg("serve").arg("--artifacts").arg(artifacts);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--workers", "1", "--log", "warn"]);
        // Whatever ends this process, a kill too, closes the other end, and the server is not left behind.
        command.arg("--until-stdin-ends").stdin(Stdio::piped());
        match store {
            Some(store) => command.arg("--store").arg(store),
            None => command.arg("--memory"),
        };
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        command.envs(ASKED_PLAINLY).envs(settings.iter().map(|(key, value)| (key, value)));
        let child = command.stdout(Stdio::null()).spawn().context("starting the server")?;
        let mut server = Self { child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), core };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        while started.elapsed() < READY_WITHIN {
            if let Some(status) = self.child.try_wait().context("watching the server")? {
                bail!("the server ended before it was ready ({status}); what it said is above");
            }
            if let Ok((200, _)) = call(self.address, "GET", "/readyz", "", Duration::from_secs(1)) {
                return Ok(());
            }
            std::thread::sleep(ASK_EVERY);
        }
        bail!("the server was not ready within {} s", READY_WITHIN.as_secs())
    }

    /// Why a measurement failed, led by the server's end where it has ended: the rest follows from that.
    pub fn explained(&mut self, error: anyhow::Error) -> anyhow::Error {
        match self.child.try_wait() {
            Ok(Some(status)) => {
                error.context(format!("the server ended while it was measured ({status}); what it said is above"))
            }
            _ => error,
        }
    }

    /// Its process id. `taskset` replaces itself by the server, so the child is the server.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It serves a measurement; a store that it was given is the caller's to remove. If it is gone already, there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time that all threads of a process have had, in nanoseconds; none where the system does not say.
pub fn cpu_ns(process: u32) -> Option<u64> {
    scheduled_ns(process).filter(|ns| *ns > 0).or_else(|| ticks_ns(process))
}

/// As the scheduler counts it, exactly. Many kernels do not, and say 0 or nothing.
fn scheduled_ns(process: u32) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let of = |thread: fs::DirEntry| -> Option<u64> {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    // A thread that ends meanwhile is passed over; the server's threads live as long as it does.
    Some(threads.filter_map(|thread| of(thread.ok()?)).sum())
}

/// In ticks of a hundredth of a second, which is what every Linux has told programs for decades, whatever it counts in itself.
/// Sampled: right over many seconds of load, and coarse over few.
fn ticks_ns(process: u32) -> Option<u64> {
    const TICK_NS: u64 = 10_000_000;
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before the last parenthesis may hold anything. After it, user and system time are the 12th and 13th.
    let (_, rest) = text.rsplit_once(')')?;
    let times = rest.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().ok());
    Some(times.sum::<Option<u64>>()? * TICK_NS)
}

/// Pins every thread of this process to one core. Whether that worked: there may be no `taskset`, or no such core.
pub fn pin_self(core: usize) -> bool {
    let process = std::process::id().to_string();
    let mut command = Command::new("taskset");
    command.args(["-a", "-c", "-p", &core.to_string(), &process]);
    quietly(command)
}

/// Whether processes can be pinned to this core.
pub fn can_pin(core: usize) -> bool {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string(), "true"]);
    quietly(command)
}

fn quietly(mut command: Command) -> bool {
    let outcome = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    outcome.is_ok_and(|status| status.success())
}

/// A port of the loopback interface that nobody listens on.
///
/// # Errors
/// There is none.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port")?;
    Ok(listener.local_addr().context("finding a free port")?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_because_the_server_has_ended_says_so() {
        let told = |program: &str, has_ended: bool| {
            let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
            if has_ended {
                child.wait().unwrap();
            }
            let mut server = ServerProcess { child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), core: None };
            format!("{:#}", server.explained(anyhow::anyhow!("connection refused")))
        };
        // It ends with its input, which is open as long as the server is kept.
        assert_eq!(told("cat", false), "connection refused");
        let ended = told("true", true);
        assert!(ended.starts_with("the server ended while it was measured") && ended.ends_with("refused"), "{ended}");
    }

    #[test]
    fn this_process_has_had_time() {
        if cfg!(target_os = "linux") {
            assert!(cpu_ns(std::process::id()).is_some());
        }
        assert_eq!(cpu_ns(u32::MAX), None);
    }
}
