//! `kindred bench`: how fast, and how good at that speed.

pub mod asked;
pub mod curve;
pub mod filters;
pub mod http;
pub mod http_report;
pub mod index;
pub mod index_report;
pub mod opening;
pub mod overload;
mod passes;
pub mod peers;
pub mod ratings;
pub mod recall;
pub mod replay;
pub mod scale;
pub mod soak;
pub mod store;
pub mod threads;

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, ensure};
use clap::Subcommand;

use super::backup::listening;
use super::{Exit, Global};

/// Measure speed, with the quality that it was measured at beside it
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: kindred bench index --items 200000 --dims 64")]
pub struct Args {
    /// What to measure.
    #[command(subcommand)]
    pub what: What,
}

/// What to measure.
#[derive(Clone, Debug, Subcommand)]
pub enum What {
    /// The index alone: recall against speed, beside hnsw_rs on the same graph and an exact scan
    Index(index::Args),
    /// The server: latency at a constant rate, and the most it can do
    Http(http::Args),
    /// The server for half an hour: reads, events, catalogue changes and swaps together; memory and tail minute by minute
    Soak(soak::Args),
    /// The trainers of ratings: RMSE and MAE of held-out ratings, seconds, memory
    Ratings(ratings::Args),
    /// Recall over HTTP under filters of every selectivity, beside exact answers
    Recall(recall::Args),
    /// The lists of a running server, on real interactions in the order of time, beside the offline evaluator's
    Replay(replay::Args),
    /// The embedded store: interactions kept a second, commits, look-ups meanwhile, restart
    Store(store::Args),
}

/// Measures and reports.
///
/// # Errors
/// As the measurement that was asked for.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    match &args.what {
        What::Index(args) => index::run(args, global),
        What::Http(args) => http::run(args, global),
        What::Soak(args) => soak::run(args, global),
        What::Ratings(args) => ratings::run(args, global),
        What::Recall(args) => recall::run(args, global),
        What::Replay(args) => replay::run(args, global),
        What::Store(args) => store::run(args, global),
    }
}

/// The address of the server at a URL; without a port it is 80.
fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    ensure!(
        !host.contains('/'),
        "--url is {url:?}, expected http://HOST:PORT: a server is asked without TLS, and without a path before its own"
    );
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let found = address.to_socket_addrs().with_context(|| format!("looking up {address}"))?.collect::<Vec<_>>();
    listening(&found).with_context(|| format!("{address} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_its_url() {
        let at = |url: &str| address(url).map(|address| address.to_string());
        assert_eq!(at("http://127.0.0.1").unwrap(), "127.0.0.1:80");
        assert_eq!(at("127.0.0.1:9/").unwrap(), "127.0.0.1:9");
        for wrong in ["https://127.0.0.1:9", "http://127.0.0.1:9/shop"] {
            assert!(at(wrong).unwrap_err().to_string().contains("expected http://HOST:PORT"), "{wrong}");
        }
    }
}
