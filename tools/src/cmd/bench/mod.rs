//! `kindred bench`: how fast, and how good at that speed.

pub mod asked;
pub mod curve;
mod data;
pub mod filters;
pub mod http;
pub mod http_report;
pub mod index;
pub mod index_report;
pub mod latency;
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
    ///
    /// Builds a graph with our builder and one with hnsw_rs over generated factors (or --npy rows), then measures four searches on one
    /// thread, in turns: ours of our graph, ours of hnsw_rs's graph, hnsw_rs's own of the same, and an exact scan. With --artifact the
    /// published graph is searched as it is, without hnsw_rs beside it. Prints a table, and the speeds at equal recall, read off the curves.
    Index(index::Args),
    /// The server: latency at a constant rate, and the most it can do
    ///
    /// With --spawn it starts a server with one worker on generated items, pinned to core 0, and sends from core 1; with --url it measures the
    /// one that runs there. Each request asks for recommendations with --interactions items in its body; --mix adds writes. In the open
    /// loop latency counts from the moment at which a request should have been sent, so a server that stalls is charged with all that waited.
    /// Without --closed and --rate both are measured, the rate being 5000. Exit code 1: a request or a swap failed, a rate was not held, or a bar of
    /// --overload is missed.
    Http(http::Args),
    /// The server for half an hour: reads, events, catalogue changes and swaps together; memory and tail minute by minute
    ///
    /// First a minute of reads alone, for comparison; then the mix, a line a minute. Interactions are kept on disk, with caches of 4 MiB, ten
    /// interactions a visitor and one bucket of trends, which are full soon. At the end the bars: no request failed, memory (median of each minute) is
    /// flat within 2 % over the last third and its peak no more than 2 % above that of the third before, the p99 of reads is within 1.5 times that
    /// of reads alone, each minute had its swap and held the rate. Exit code 1: a bar is missed. --spawn is needed; of the options of `bench http`
    /// those count that make the server, --rate (2000 if not given), --seed, --limit and --connections.
    Soak(soak::Args),
    /// The trainers of ratings: RMSE and MAE of held-out ratings, seconds, memory
    ///
    /// Files have a rating a line: user, item, number, separated by tabs, commas, `::` or spaces; packed by gzip or not. Trainers by neighbours take
    /// 4 bytes for each pair of users, or of items: of more than 50,000 they are left out.
    Ratings(ratings::Args),
    /// Recall over HTTP under filters of every selectivity, beside exact answers
    ///
    /// Starts a server with one worker on generated items and compares /v1/search with its own exact answers. Exit code 1: the recall is below --floor
    /// somewhere.
    Recall(recall::Args),
    /// The lists of a running server, on real interactions in the order of time, beside the offline evaluator's
    ///
    /// Sends what users did before the test part began; then what happened in the order of time, and for each interaction of the test part asks for
    /// a list first and looks where it stands in it. Without --url it starts a server on --artifacts whose clock is the replayed time
    /// (`http.clock = "request"`). With --url the server must serve the same artifacts with the settings of --config, or without one with those that
    /// are built in; each request names the replayed time, which the server heeds if it is set to. The evaluator looks at as many interactions of a
    /// user as the server keeps (`history.keep_per_actor`). Exit code 1: the hit rate or the mean reciprocal rank is further than 0.01 from the
    /// evaluator's, or an answer was degraded, which no evaluator's is.
    Replay(replay::Args),
    /// The embedded store: interactions kept a second, commits, look-ups meanwhile, restart
    ///
    /// The directory decides what is measured: it should be on the disk that will hold the store, and where none is named it may be memory. Acknowledged
    /// means synced.
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
