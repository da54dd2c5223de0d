//! `kindred evaluate`: how good the served list is on interactions held out from training.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::builder::RangedU64ValueParser;
use kindred::limits;
use kindred::scenario::Basis;
use kindred::settings::{HistorySettings, Settings};
use kindred::snapshot::Snapshot;

use super::evaluate_report::Evaluated;
use super::{Exit, Global, evaluate_log};
use crate::dataset::Dataset;
use crate::evaluate::{self, EvaluateOptions, HeldOut, Protocol};
use crate::progress::Progress;
use crate::report;
use crate::whole_file::WholeFile;

/// The command line.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kindred evaluate --artifacts artifacts --dataset dataset --k 10,20\n  kindred evaluate --from-log store/backups/kindred-000000001234"
)]
pub struct Args {
    /// Read the recommendation log ([recommendation_log] in the settings) of a store or a backup, or of the directory that holds one: click-through,
    /// conversion, and what the lists would have been worth without exploration. The store must not be open elsewhere.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["artifacts", "dataset", "k", "scenario", "config", "protocol"])]
    #[arg(conflicts_with_all = ["allow_seen", "only_new", "exact_only", "history", "users", "lists", "html"])]
    from_log: Option<PathBuf>,
    /// With --from-log: the kinds of interaction that count as a click; may be given several times. All but not_interested and dislike if left out.
    #[arg(long, value_name = "KIND", requires = "from_log")]
    click: Vec<String>,
    /// The artifacts; the current generation is measured. A generation's own directory works too.
    #[arg(long, value_name = "DIR", default_value = "artifacts")]
    artifacts: PathBuf,
    /// The dataset with the held-out part, as `kindred prepare` wrote it.
    #[arg(long, value_name = "DIR", default_value = "dataset")]
    dataset: PathBuf,
    /// Lengths of list to judge.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "10,20")]
    k: Vec<usize>,
    /// The scenario whose list is judged.
    #[arg(long, value_name = "NAME", default_value = "home")]
    scenario: String,
    /// Settings file with scenarios; without it the built-in ones.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is asked: all that a user did in the test part at once, or each event from those before it.
    #[arg(long, value_enum, default_value = "held-out")]
    protocol: Protocol,
    /// Lists may contain what the visitor has seen, whatever the scenario says; what comes again is looked for too.
    #[arg(long)]
    allow_seen: bool,
    /// List and look for only items that no training interaction is with: how well new items are placed among each other. For datasets prepared
    /// with --split items=0.1.
    #[arg(long)]
    only_new: bool,
    /// Leave the approximate search out.
    #[arg(long)]
    exact_only: bool,
    /// Most recent interactions of a user that are looked at, at most. A server looks at no more than it keeps: `history.keep_per_actor` in its
    /// settings, 100 unless set; so it is here with --config. Without both it is 1000.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=limits::HISTORY_MAX as u64))]
    history: Option<usize>,
    /// Ask this many users, drawn at random, instead of all.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    users: Option<usize>,
    /// Seed of the draw, and of what the scenario leaves to chance.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write each list, what was looked for in it and those of the other systems as a line of JSON, for other programs to judge.
    #[arg(long, value_name = "FILE")]
    lists: Option<PathBuf>,
    /// Write the report as a page with pictures, too.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Runs the sub-command.
///
/// # Errors
/// An artifact or dataset that cannot be read, an unknown scenario, nobody to ask.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    if let Some(log) = &args.from_log {
        return evaluate_log::run(log, &args.click, args.seed, global);
    }
    let cannot_be_written = |path: &Path| format!("{}: cannot be written", path.display());
    let begin = |path: &Path| WholeFile::begin(path).with_context(|| cannot_be_written(path));
    let mut lists = args.lists.as_deref().map(begin).transpose()?;
    let page = args.html.as_deref().map(begin).transpose()?;
    let snapshot = Snapshot::open(&super::verify::directory(&args.artifacts)?)?;
    let Settings { scenarios, trending, history, .. } = Settings::load(args.config.as_deref())?;
    let (history_max, history_by) = args.history(&history);
    let scenario = super::scenario(&scenarios, &args.scenario)?;
    let dataset = Dataset::open(&args.dataset)?;
    let manifest = snapshot.manifest();
    let trained_on_this_dataset = manifest.dataset_fingerprint.as_deref() == Some(&*dataset.report.fingerprint);
    let mut ks = args.k.clone();
    ks.sort_unstable();
    ks.dedup();
    let protocol = args.protocol;
    let mut scenario = scenario.clone();
    scenario.exclude_seen &= !args.allow_seen;
    let options = EvaluateOptions {
        protocol,
        ks,
        exact_only: args.exact_only,
        users: args.users,
        only_new: args.only_new,
        seed: args.seed,
        trending: Some(trending),
    };
    let progress = Progress::bar("evaluating", 0);
    let step = |done, total| progress.step("evaluating", done, total);
    let held_out = HeldOut { history_max, ..held_out(&dataset)? };
    let into = lists.as_mut().map(|lists| lists as &mut dyn Write);
    let (model, weighting) = (snapshot.model(), &manifest.weighting);
    let evaluation = evaluate::evaluate(model, &held_out, &scenario, weighting, &options, &step, into)?;
    progress.finish();
    if let (Some(path), Some(lists)) = (&args.lists, lists) {
        lists.publish().with_context(|| cannot_be_written(path))?;
    }
    let evaluated = Evaluated {
        generation: snapshot.generation().to_owned(),
        scenario: args.scenario.clone(),
        split: serde_json::to_value(dataset.report.split)?,
        trained_on_this_dataset,
        recency: manifest.weighting.recency(),
        history_max,
        history_by,
        learned_weights_unused: manifest.learned_weights.is_some()
            && !scenario.learned_weights
            && scenario.based_on == Basis::Visitor,
        trends_not_counted: protocol == Protocol::HeldOut && scenario.weights_with(manifest).trending > 0.0,
        evaluation,
    };
    if let (Some(path), Some(mut page)) = (&args.html, page) {
        let written = page.write_all(evaluated.page().as_bytes()).and_then(|()| page.publish());
        written.with_context(|| cannot_be_written(path))?;
    }
    report::emit(&evaluated, global.json)?;
    Ok(Exit::Done)
}

impl Args {
    /// How many interactions of a user are looked at, and what says so.
    fn history(&self, settings: &HistorySettings) -> (usize, String) {
        let kept = settings.keep_per_actor;
        match (self.history, &self.config) {
            (Some(given), _) => (given, "--history".to_owned()),
            (None, Some(_)) => (kept, "history.keep_per_actor of the settings".to_owned()),
            (None, None) => {
                let by = format!("as many as a server can keep; with these settings it keeps {kept}: see --history");
                (limits::HISTORY_MAX, by)
            }
        }
    }
}

/// Both parts of a dataset, read into memory.
///
/// # Errors
/// A file of the dataset cannot be read.
pub fn held_out(dataset: &Dataset) -> anyhow::Result<HeldOut> {
    Ok(HeldOut {
        train: dataset.train().context("reading the training part")?,
        test: dataset.test().context("reading the test part")?,
        kinds: dataset.report.kinds.clone(),
        keys: dataset.items().context("reading the catalogue")?.into_iter().map(|item| item.id).collect(),
        history_max: limits::HISTORY_MAX,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn lengths_are_given_with_commas() {
        let line = Line::try_parse_from(["evaluate", "--k", "5,20", "--users", "100", "--exact-only"]).unwrap();
        assert_eq!((line.args.k, line.args.users, line.args.exact_only), (vec![5, 20], Some(100), true));
        assert_eq!(Line::try_parse_from(["evaluate"]).unwrap().args.k, [10, 20]);
        assert!(Line::try_parse_from(["evaluate", "--history", "1001"]).is_err(), "no server keeps so many");
        assert!(Line::try_parse_from(["evaluate", "--users", "0"]).is_err(), "nobody to ask");
    }

    #[test]
    fn with_the_settings_of_a_server_no_more_is_looked_at_than_it_keeps() {
        let settings = HistorySettings { keep_per_actor: 70, ..Settings::default().history };
        for (line, looked_at, by) in [
            (&["evaluate"][..], limits::HISTORY_MAX, "a server can keep; with these settings it keeps 70"),
            (&["evaluate", "--config", "mine.toml"][..], 70, "history.keep_per_actor"),
            (&["evaluate", "--config", "mine.toml", "--history", "90"][..], 90, "--history"),
        ] {
            let found = Line::try_parse_from(line.iter().copied()).unwrap().args.history(&settings);
            assert!(found.0 == looked_at && found.1.contains(by), "{line:?}: {found:?}");
        }
    }

    #[test]
    fn where_nothing_can_be_written_is_told_before_the_work() {
        for flag in ["--html", "--lists"] {
            let line = ["evaluate", "--artifacts", "/proc/no", flag, "/proc/no/page"];
            let Line { args } = Line::try_parse_from(line).unwrap();
            let error = run(&args, &Global { json: true, quiet: true }).unwrap_err().to_string();
            assert_eq!(error, "/proc/no/page: cannot be written", "{flag}");
        }
    }

    #[test]
    fn what_a_log_does_not_need_is_refused() {
        let parsed = |line: &str| Line::try_parse_from(line.split(' ').collect::<Vec<_>>()).map(|line| line.args);
        assert!(parsed("evaluate --from-log store --seed 3 --click buy").is_ok(), "defaults are not given");
        for ignored in ["--k 5", "--scenario home", "--protocol next-event", "--artifacts a", "--dataset d", "--html h"]
        {
            let refused = parsed(&format!("evaluate --from-log store {ignored}")).unwrap_err();
            assert_eq!(refused.kind(), clap::error::ErrorKind::ArgumentConflict, "{ignored}");
        }
    }
}
