//! `kindred bench index --peers`: beside hnswlib, usearch, faiss, SVS and glass, over the same rows and queries, in turns in one run, each on one thread.
//!
//! The libraries are driven by `peers.py` in an interpreter that has them. Their time is that of one batch call over all queries, which is
//! their fastest way; ours is the sum over single queries. A library that is not installed is named in the report and left out.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail, ensure};
use kindred_index::{Index, Metric, Scratch, SearchParams};
use serde::{Deserialize, Serialize};

use super::curve::{Point, median, or_not_reached, qps_at};
use super::data::fits;
use super::index::{Args, MemoryArg, SWEEP, Subject};
use super::passes::{Pass, times};
use crate::build::metric_name;
use crate::machine::Machine;
use crate::matrix::Matrix;
use crate::npy;
use crate::progress::Progress;
use crate::recall;
use crate::report::{Report, Table, bytes, count, seconds};
use crate::svg::{Axis, Chart, Mark, Series};

/// Drives the libraries.
const SCRIPT: &str = include_str!("peers.py");
/// Has the interpreter's malloc ask for large pages (glibc from 2.35 on), as we do for our index: most machines give them only to those who ask, and a
/// search waits for memory more than for anything else. A library that maps memory by itself is not reached by it.
const LARGE_PAGES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
/// The breadth that the libraries build with, if none is given: what hnswlib does unless told otherwise, and more than usearch and faiss do.
const THEIR_EF_CONSTRUCTION: usize = 200;
/// The recalls at which speeds are compared.
const RECALLS: [f64; 3] = [0.90, 0.95, 0.99];

/// Ours and the libraries, measured.
#[derive(Clone, Debug, Serialize)]
pub struct PeersReport {
    /// What it was measured on.
    pub machine: Machine,
    /// Where the rows are from.
    pub source: String,
    /// Rows.
    pub n_items: u32,
    /// Length of a row.
    pub dimensions: usize,
    /// How rows are compared.
    pub metric: &'static str,
    /// Queries.
    pub n_queries: usize,
    /// Nearest items asked for.
    pub k: usize,
    /// Links per item of the libraries' graphs, as ours has.
    pub m: u32,
    /// The breadth that the libraries build with.
    pub ef_construction: usize,
    /// That of ours, if it was built here.
    pub our_ef_construction: Option<usize>,
    /// Rounds of which the median counts.
    pub rounds: usize,
    /// Whether our index asks for large pages, as the malloc of the others does.
    pub large_pages: bool,
    /// Ours first.
    pub contestants: Vec<Contestant>,
    /// Libraries that are not installed.
    pub missing: Vec<String>,
    /// Ours against the best of the others.
    pub ratios: Vec<Ratio>,
}

/// One library.
#[derive(Clone, Debug, Serialize)]
pub struct Contestant {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Seconds it took to build, on as many threads as the machine has.
    pub build_seconds: Option<f64>,
    /// Bytes of its file.
    pub bytes: u64,
    /// Its curve; latencies are zero where queries are timed together.
    pub points: Vec<Point>,
}

/// How many times the best other's speed ours is.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// At this recall.
    pub recall: f64,
    /// Our queries per second.
    pub ours: Option<f64>,
    /// The best other's.
    pub best: Option<f64>,
    /// Who that is.
    pub best_name: Option<String>,
    /// Ours over the best.
    pub ratio: Option<f64>,
}

#[derive(Deserialize)]
struct About {
    peers: Vec<AboutPeer>,
    missing: Vec<String>,
}

#[derive(Deserialize)]
struct AboutPeer {
    name: String,
    version: String,
    build_seconds: f64,
    bytes: u64,
}

#[derive(Deserialize)]
struct Passed {
    seconds: f64,
    recall: f64,
}

/// The interpreter with the libraries in it.
struct Driver {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Driver {
    fn start(python: &Path, asked: &serde_json::Value) -> anyhow::Result<Self> {
        let mut child = Command::new(python)
            .args(["-c", SCRIPT, &asked.to_string()])
            .env(LARGE_PAGES.0, LARGE_PAGES.1)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}: name an interpreter with --python", python.display()))?;
        let orders = child.stdin.take().context("no way to the interpreter")?;
        let answers = BufReader::new(child.stdout.take().context("no way from the interpreter")?);
        Ok(Self { child, orders, answers })
    }

    fn answer<T: for<'a> Deserialize<'a>>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context("reading what the interpreter says")?;
        ensure!(!line.is_empty(), "the interpreter ended early; what it said is above");
        serde_json::from_str(&line).with_context(|| format!("the interpreter said {line}"))
    }

    fn pass(&mut self, peer: &str, breadth: usize) -> anyhow::Result<Passed> {
        writeln!(self.orders, "{}", serde_json::json!({ "peer": peer, "breadth": breadth }))
            .context("writing to the interpreter")?;
        self.answer()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Measures.
///
/// # Errors
/// No interpreter, none of the libraries in it, or queries that do not fit the rows.
pub(super) fn measure<D: AsRef<[u8]> + Sync>(
    args: &Args,
    index: &Index<D>,
    subject: &Subject,
    progress: &Progress,
) -> anyhow::Result<PeersReport> {
    let queries = comparable(&subject.queries, index.metric());
    fits(&queries, index.dimensions())?;
    progress.start("finding the true nearest", 0);
    let truth = recall::truth(index, &queries, args.k)?;
    let directory = tempfile::tempdir().context("making a directory for rows and queries")?;
    let asked = hand_over(args, index, &queries, &truth.worst, truth.k, directory.path())?;
    progress.start("building with the other libraries", 0);
    let mut driver = Driver::start(args.python.as_deref().unwrap_or(Path::new("python3")), &asked)?;
    let about: About = driver.answer()?;
    if about.peers.is_empty() {
        bail!(
            "none of {} is installed: install hnswlib, usearch, faiss-cpu, scalable-vs or pyglass-portable, or name an interpreter that has them \
             with --python",
            about.missing.join(", ")
        );
    }
    let breadths: Vec<usize> = if args.ef_search.is_empty() { SWEEP.to_vec() } else { args.ef_search.clone() };
    let mut ours = times(breadths.len())?;
    let mut theirs: Vec<Vec<(Vec<f64>, f64)>> = vec![vec![(Vec::new(), 0.0); breadths.len()]; about.peers.len()];
    let mut scratch = Scratch::default();
    progress.start("measuring", ((args.rounds + 1) * breadths.len()) as u64);
    // A round that is not counted brings rows, links and the processor's clock up.
    for round in 0..=args.rounds {
        for (place, &ef) in breadths.iter().enumerate() {
            let params = SearchParams { k: truth.k, ef_search: ef, exact: false };
            Pass::new(&queries, &truth, usize::MAX, round > 0).ours(
                index,
                &params,
                &mut scratch,
                ours.get_mut(place),
            )?;
            // They take what is below k as k.
            for (peer, points) in about.peers.iter().zip(&mut theirs).filter(|_| ef >= truth.k) {
                let passed = driver.pass(&peer.name, ef)?;
                if let Some((seconds, recall)) = points.get_mut(place).filter(|_| round > 0) {
                    seconds.push(passed.seconds / queries.rows as f64);
                    *recall = passed.recall;
                }
            }
            progress.inc(1);
        }
    }
    let mut contestants = vec![Contestant {
        name: "kindred".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        build_seconds: subject.build_seconds,
        bytes: index.container().file_len(),
        points: breadths.iter().zip(&ours).map(|(ef, times)| times.point(*ef, truth.k)).collect(),
    }];
    contestants.extend(about.peers.into_iter().zip(theirs).map(|(peer, points)| peer.measured(&breadths, points)));
    let ratios = RECALLS.into_iter().map(|recall| Ratio::at(recall, &contestants)).collect();
    Ok(PeersReport {
        machine: Machine::here(),
        source: subject.source.clone(),
        n_items: index.len(),
        dimensions: index.dimensions(),
        metric: metric_name(index.metric()),
        n_queries: queries.rows,
        k: truth.k,
        m: index.m(),
        ef_construction: args.ef_construction.unwrap_or(THEIR_EF_CONSTRUCTION),
        our_ef_construction: subject.ef_construction,
        rounds: args.rounds,
        large_pages: args.artifact.is_none() || args.memory == MemoryArg::Pinned,
        contestants,
        missing: about.missing,
        ratios,
    })
}

/// Queries as they are compared: of unit length where the metric is cosine, so that the libraries need not know.
fn comparable(queries: &Matrix, metric: Metric) -> Matrix {
    if metric == Metric::Cosine { queries.to_unit_length() } else { queries.clone() }
}

/// Writes what the libraries need into a directory; returns what the script is told.
fn hand_over<D: AsRef<[u8]>>(
    args: &Args,
    index: &Index<D>,
    queries: &Matrix,
    worst: &[f32],
    k: usize,
    directory: &Path,
) -> anyhow::Result<serde_json::Value> {
    let data: Vec<f32> = (0..index.len()).filter_map(|ordinal| index.row(ordinal)).flat_map(Cow::into_owned).collect();
    let rows = Matrix { rows: index.len() as usize, cols: index.dimensions(), data };
    let worst = Matrix { rows: worst.len(), cols: 1, data: worst.to_vec() };
    let write = |name: &str, matrix: &Matrix| -> anyhow::Result<PathBuf> {
        let path = directory.join(name);
        npy::write_matrix(&path, matrix).with_context(|| format!("writing {name} for the other libraries"))?;
        Ok(path)
    };
    Ok(serde_json::json!({
        "rows": write("rows.npy", &rows)?,
        "queries": write("queries.npy", queries)?,
        "worst": write("worst.npy", &worst)?,
        "k": k,
        // An artifact may have another than the command line.
        "m": index.m(),
        "ef_construction": args.ef_construction.unwrap_or(THEIR_EF_CONSTRUCTION),
        "threads": std::thread::available_parallelism().map_or(1, usize::from),
    }))
}

impl AboutPeer {
    fn measured(self, breadths: &[usize], points: Vec<(Vec<f64>, f64)>) -> Contestant {
        let point = |(ef, (mut seconds, recall)): (&usize, (Vec<f64>, f64))| Point {
            ef_search: *ef,
            recall,
            qps: 1.0 / median(&mut seconds).max(f64::MIN_POSITIVE),
            p50_us: 0.0,
            p99_us: 0.0,
            distances: None,
        };
        Contestant {
            name: self.name,
            version: self.version,
            build_seconds: Some(self.build_seconds),
            bytes: self.bytes,
            points: breadths.iter().zip(points).filter(|(_, (seconds, _))| !seconds.is_empty()).map(point).collect(),
        }
    }
}

impl Ratio {
    fn at(recall: f64, contestants: &[Contestant]) -> Self {
        let speed = |contestant: &Contestant| qps_at(&contestant.points, recall);
        let ours = contestants.first().and_then(speed);
        let others = contestants.iter().skip(1).filter_map(|other| Some((speed(other)?, other.name.clone())));
        let best = others.max_by(|a, b| a.0.total_cmp(&b.0));
        Self {
            recall,
            ours,
            ratio: ours.zip(best.as_ref()).map(|(ours, (best, _))| ours / best),
            best: best.as_ref().map(|(qps, _)| *qps),
            best_name: best.map(|(_, name)| name),
        }
    }
}

impl PeersReport {
    /// Speed against recall.
    pub fn chart(&self) -> Chart {
        let points =
            |contestant: &Contestant| contestant.points.iter().map(|point| (point.recall, point.qps)).collect();
        let series = self.contestants.iter().map(|contestant| Series {
            name: contestant.name.clone(),
            points: points(contestant),
            mark: Mark::Line,
        });
        Chart {
            title: format!("{} × {}, {}", count(self.n_items.into()), self.dimensions, self.metric),
            x: Axis::linear(format!("recall@{}", self.k)),
            y: Axis::log("queries/s, one thread"),
            series: series.collect(),
        }
    }
}

impl Report for PeersReport {
    fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine.line());
        let _ = writeln!(
            text,
            "{}: {} rows × {}, {}, m {}; {} queries, one thread, median of {} rounds in turns; queries/s at recall@{}",
            self.source,
            count(self.n_items.into()),
            self.dimensions,
            self.metric,
            self.m,
            count(self.n_queries as u64),
            self.rounds,
            self.k
        );
        let _ = write!(text, "the libraries build with ef_construction {}", self.ef_construction);
        if let Some(ours) = self.our_ef_construction {
            let _ = write!(text, ", kindred with {ours}");
        }
        text.push('\n');
        text.push_str(match self.large_pages {
            true => "large pages are asked for on both sides: by kindred for its index, by malloc (glibc 2.35 or later) for the libraries\n",
            false => "large pages are asked for by the libraries' malloc only: kindred maps a file (--memory pinned asks for them)\n",
        });
        for missing in &self.missing {
            let _ = writeln!(text, "left out: {missing} is not installed, or does not run here");
        }
        let mut table = Table::new(["library", "version", "built in", "file", "0.90", "0.95", "0.99"]);
        for contestant in &self.contestants {
            let [low, middle, high] = RECALLS.map(|recall| or_not_reached(qps_at(&contestant.points, recall), 0));
            let built = contestant.build_seconds.map_or_else(String::new, seconds);
            let (name, version) = (contestant.name.clone(), contestant.version.clone());
            table.row([name, version, built, bytes(contestant.bytes), low, middle, high]);
        }
        let ratios = self.ratios.iter().map(|ratio| {
            let name = ratio.best_name.as_deref().unwrap_or("none");
            ratio.ratio.map_or_else(|| "none".to_owned(), |times| format!("{times:.2} × {name}"))
        });
        let head = ["kindred against the best", "", "", ""].map(str::to_owned);
        table.row(head.into_iter().chain(ratios));
        text.push_str(&table.text());
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;
    use kindred::testing::Fixture;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_libraries_build_graphs_with_as_many_links() {
        let place = tempfile::tempdir().unwrap();
        let model = Fixture::shop().model();
        let index = model.index();
        let other = (index.m() + 1).to_string();
        let Line { args } = Line::parse_from(["index", "--m", &other]);
        let queries = Matrix::zeros(1, index.dimensions());
        let asked = hand_over(&args, index, &queries, &[0.0], 1, place.path()).unwrap();
        assert_eq!(asked["m"].as_u64(), Some(index.m().into()));
    }

    fn contestant(name: &str, factor: f64) -> Contestant {
        let point = |recall: f64, qps: f64| Point {
            ef_search: 10,
            recall,
            qps: factor * qps,
            p50_us: 0.0,
            p99_us: 0.0,
            distances: None,
        };
        let points = vec![point(0.8, 40_000.0), point(0.9, 20_000.0), point(0.96, 10_000.0)];
        Contestant { name: name.to_owned(), version: String::new(), build_seconds: None, bytes: 1, points }
    }

    #[test]
    fn ours_is_held_against_the_best_of_the_others() {
        let contestants = [contestant("kindred", 3.0), contestant("slow", 0.5), contestant("fast", 2.0)];
        let ratio = Ratio::at(0.9, &contestants);
        assert_eq!(ratio.best_name.as_deref(), Some("fast"));
        assert!((ratio.ratio.unwrap() - 1.5).abs() < 1e-9 && (ratio.ours.unwrap() - 60_000.0).abs() < 1e-6);
        let out_of_reach = Ratio::at(0.99, &contestants);
        assert_eq!((out_of_reach.ours, out_of_reach.best, out_of_reach.ratio), (None, None, None));
    }

    #[test]
    fn an_interpreter_that_is_not_there_is_told_with_the_remedy() {
        let error = Driver::start(Path::new("no-such-interpreter"), &serde_json::json!({})).err().unwrap();
        assert!(error.to_string().contains("--python"), "{error}");
    }
}
