//! `kindred backup` and `kindred restore`: a copy of a store, and a store made of one.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use kindred::store::embedded::{DEFAULT_PATH, copy, restore};
use serde::{Deserialize, Serialize};

use super::{Exit, Global, where_in_use};
use crate::load::connection::{API_KEY, call};
use crate::report::{Report, bytes, count, emit};

/// How long a server may take for a copy.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How long it is waited for one of several addresses of a name.
const KNOCK: Duration = Duration::from_secs(2);
/// What to do about a store that is in use, which is not copied from outside.
const ASK_THE_SERVER: &str = "a server has the store open, and makes the copy: `kindred backup --server HOST:PORT`";
/// The same of a restore, where it may be either store.
const STOP_THE_SERVER: &str = "a store that a server has open is not replaced, so stop the server; nor is it restored from: make a copy with \
                               `kindred backup --server HOST:PORT` and name that";

/// The command line.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example: kindred backup --server 127.0.0.1:8080\n\nA server with [tls] is asked with\n  curl -X POST https://HOST:PORT/admin/backup -H \"api-key: $KINDRED_API_KEY\""
)]
pub struct Args {
    /// Address of the server that has the store open
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "to")]
    pub server: Option<String>,
    /// The directory of the store
    #[arg(long, default_value = DEFAULT_PATH, value_name = "DIR", conflicts_with = "server")]
    pub store: PathBuf,
    /// Where the copy goes; nothing there is replaced
    #[arg(long, value_name = "DIR", required_unless_present = "server")]
    pub to: Option<PathBuf>,
}

/// The command line of `kindred restore`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: kindred restore store/backups/kindred-000000001234 --force")]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "DIR")]
    pub backup: PathBuf,
    /// The directory of the store
    #[arg(long, default_value = DEFAULT_PATH, value_name = "DIR")]
    pub store: PathBuf,
    /// Replace a store that is there, or that a restore which was cut off has put aside
    #[arg(long)]
    pub force: bool,
}

/// The copy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CopyReport {
    /// Where it is.
    pub file: String,
    /// Its bytes.
    pub bytes: u64,
    /// Interactions in it.
    pub interactions: u64,
    /// Documents in it.
    pub documents: u64,
    /// What is wrong with what was restored, the first ones; `kindred fsck` tells it again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// Copies and reports.
///
/// # Errors
/// The server cannot be asked or refuses, or the store or the copy cannot be read or written.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let report = match (&args.server, &args.to) {
        (Some(server), _) => ask(server)?,
        (None, Some(to)) => report(&copy(&args.store, to).map_err(where_in_use(ASK_THE_SERVER))?),
        (None, None) => bail!("neither --server nor --to is given: say who makes the copy, or where it goes"),
    };
    emit(&report, global.json)?;
    Ok(Exit::Done)
}

/// Restores and reports.
///
/// # Errors
/// The backup cannot be read to its end, or the store is in use or there and not to be replaced.
pub fn run_restore(args: &RestoreArgs, global: &Global) -> anyhow::Result<Exit> {
    let (copied, checked) = restore(&args.backup, &args.store, args.force).map_err(where_in_use(STOP_THE_SERVER))?;
    emit(&CopyReport { problems: checked.problems, ..report(&copied) }, global.json)?;
    Ok(Exit::Done)
}

fn report(copied: &kindred::store::Copied) -> CopyReport {
    CopyReport {
        file: copied.path.display().to_string(),
        bytes: copied.bytes,
        interactions: copied.interactions,
        documents: copied.documents,
        problems: Vec::new(),
    }
}

fn ask(server: &str) -> anyhow::Result<CopyReport> {
    let addresses = server.to_socket_addrs().with_context(|| format!("{server} is no HOST:PORT"))?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    let address = listening(&addresses).with_context(|| format!("{server} has no address"))?;
    let (status, body) = call(address, "POST", "/admin/backup", "", PATIENCE).with_context(|| {
        format!(
            "asking {server} for a backup; is the server running there? One with [tls] is asked with \
             `curl -X POST https://{server}/admin/backup -H \"api-key: ${API_KEY}\"`"
        )
    })?;
    if status == 401 || status == 403 {
        bail!("{server} wants a key of the role admin: set it in the environment as {API_KEY}; it said: {body}");
    }
    if status != 200 {
        bail!("the server refused with {status}: {body}");
    }
    serde_json::from_str(&body).with_context(|| format!("the server answered {body}"))
}

/// Of the addresses of a name the first at which somebody listens, or else the first: `localhost` mostly has two, and a server one of them.
pub(super) fn listening(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let [first, _, ..] = addresses else { return addresses.first().copied() };
    let found = addresses.iter().find(|address| TcpStream::connect_timeout(address, KNOCK).is_ok());
    Some(*found.unwrap_or(first))
}

impl Report for CopyReport {
    fn text(&self) -> String {
        let mut text = format!(
            "{}: {} interactions, {} documents, {}\n",
            self.file,
            count(self.interactions),
            count(self.documents),
            bytes(self.bytes)
        );
        for problem in &self.problems {
            text.push_str(&format!("  warning: {problem}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::net::TcpListener;

    use super::*;

    #[test]
    fn of_several_addresses_the_one_is_asked_where_somebody_listens() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let live = server.local_addr().unwrap();
        let dead = SocketAddr::from(([127, 0, 0, 1], crate::load::process::free_port().unwrap()));
        assert_eq!(listening(&[dead, live]), Some(live));
        assert_eq!((listening(&[dead, dead]), listening(&[dead]), listening(&[])), (Some(dead), Some(dead), None));
    }

    #[test]
    fn a_server_that_does_not_answer_may_speak_tls() {
        let server = format!("127.0.0.1:{}", crate::load::process::free_port().unwrap());
        let error = format!("{:#}", ask(&server).unwrap_err());
        let command = format!("`curl -X POST https://{server}/admin/backup -H \"api-key: $KINDRED_API_KEY\"`");
        assert!(error.contains(&command), "{error}");
    }
}
