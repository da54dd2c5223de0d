//! `kindred evaluate`: how good the served list is on interactions held out from training.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use kindred::settings::Settings;
use kindred::snapshot::Snapshot;
use serde::Serialize;

use super::{Exit, Global};
use crate::dataset::Dataset;
use crate::evaluate::{self, AtK, EvaluateOptions, Evaluation, HeldOut, Protocol};
use crate::progress::Progress;
use crate::report::{self, Report, Table};

/// Measure the served list on held-out interactions: through the index, exactly, and against the most popular items.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: kindred evaluate --artifacts artifacts --dataset dataset --k 10,20")]
pub struct Args {
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
    /// Leave the approximate search out.
    #[arg(long)]
    exact_only: bool,
    /// Ask this many users, drawn at random, instead of all.
    #[arg(long, value_name = "N")]
    users: Option<usize>,
    /// Seed of the draw.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// What was measured, and on what.
#[derive(Debug, Serialize)]
struct Evaluated {
    generation: String,
    scenario: String,
    split: serde_json::Value,
    trained_on_this_dataset: bool,
    recency: String,
    #[serde(flatten)]
    evaluation: Evaluation,
}

/// How a metric is read from what was measured.
type Metric = fn(&AtK) -> f64;

/// Runs the sub-command.
///
/// # Errors
/// An artifact or dataset that cannot be read, an unknown scenario, nobody to ask.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let snapshot = match kindred::artifact::current(&args.artifacts) {
        Ok(current) => Snapshot::open(&current.directory)?,
        // Not a root; then it may be a generation itself.
        Err(error) => Snapshot::open(&args.artifacts).map_err(|_| error)?,
    };
    let scenarios = Settings::load(args.config.as_deref())?.scenarios;
    let Some(scenario) = scenarios.get(&args.scenario) else {
        let known: Vec<&str> = scenarios.keys().map(String::as_str).collect();
        bail!("there is no scenario {:?}; there are: {}", args.scenario, known.join(", "));
    };
    let dataset = Dataset::open(&args.dataset)?;
    let manifest = snapshot.manifest();
    let trained_on_this_dataset = manifest.dataset_fingerprint.as_deref() == Some(&*dataset.report.fingerprint);
    if !trained_on_this_dataset {
        report::note(
            "Warning: the artifact was not trained on this dataset; its training part may hold what is tested here.",
        );
    }
    let mut ks = args.k.clone();
    ks.sort_unstable();
    ks.dedup();
    let protocol = args.protocol;
    let mut scenario = scenario.clone();
    scenario.exclude_seen &= !args.allow_seen;
    let options = EvaluateOptions { protocol, ks, exact_only: args.exact_only, users: args.users, seed: args.seed };
    let progress = Progress::bar("evaluating", 0);
    let step = |done, total| progress.step("evaluating", done, total);
    let held_out = held_out(&dataset)?;
    let evaluation = evaluate::evaluate(snapshot.model(), &held_out, &scenario, &manifest.weighting, &options, &step)?;
    progress.finish();
    let evaluated = Evaluated {
        generation: snapshot.generation().to_owned(),
        scenario: args.scenario.clone(),
        split: serde_json::to_value(dataset.report.split)?,
        trained_on_this_dataset,
        recency: manifest.weighting.recency(),
        evaluation,
    };
    report::emit(&evaluated, global.json)?;
    Ok(Exit::Done)
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
    })
}

impl Report for Evaluated {
    fn text(&self) -> String {
        let Evaluation { n_users, n_lists, n_relevant, skipped, systems, list_overlap, .. } = &self.evaluation;
        let mut text = format!(
            "generation {}, scenario {}, {}\n{} users, {} lists, {} held-out items looked for\n",
            self.generation,
            self.scenario,
            self.recency,
            report::count(*n_users),
            report::count(*n_lists),
            report::count(*n_relevant),
        );
        let reasons = [
            (skipped.without_history, "of users without training interactions"),
            (skipped.unknown_items, "with items that the artifact does not have"),
            (skipped.seen_before, "with items seen before"),
            (skipped.not_liked, "not liked"),
            (skipped.repeated, "repeated"),
            (skipped.unavailable, "with items not available"),
        ];
        for (n, reason) in reasons.into_iter().filter(|(n, _)| *n > 0) {
            text.push_str(&format!("left out: {} test interactions {reason}\n", report::count(n)));
        }
        for (n, reason) in [(skipped.users_without_any, "without any left"), (skipped.users_not_sampled, "not drawn")] {
            if n > 0 {
                text.push_str(&format!("left out: {} users {reason}\n", report::count(n)));
            }
        }
        let metrics: [(&str, Metric); 8] = [
            ("HR", |at| at.hit_rate),
            ("Recall", |at| at.recall),
            ("NDCG", |at| at.ndcg),
            ("MRR", |at| at.mrr),
            ("MAP", |at| at.map),
            ("coverage", |at| at.coverage),
            ("popularity percentile", |at| at.popularity_percentile),
            ("Gini", |at| at.gini),
        ];
        let lengths = systems.first().map(|system| system.at.len()).unwrap_or_default();
        for place in 0..lengths {
            let at = || systems.iter().filter_map(|system| system.at.get(place));
            let k = at().next().map_or(0, |at| at.k);
            let mut table =
                Table::new(std::iter::once(format!("at {k}")).chain(systems.iter().map(|s| s.name.to_owned())));
            for (name, metric) in metrics {
                table.row(std::iter::once(name.to_owned()).chain(at().map(|at| format!("{:.4}", metric(at)))));
            }
            text.push('\n');
            text.push_str(&table.text());
            if let Some(overlap) = list_overlap.get(place) {
                text.push_str(&format!(
                    "  the list through the index has {} of the exact one\n",
                    report::percent(overlap.share)
                ));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use clap::Parser;

    use super::*;
    use crate::evaluate::{Overlap, Skipped, System};

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
    }

    #[test]
    fn systems_stand_side_by_side_and_what_was_left_out_is_said() {
        let at = |hit_rate: f64| AtK {
            k: 10,
            hit_rate,
            recall: 0.1,
            ndcg: 0.1,
            mrr: 0.1,
            map: 0.1,
            coverage: 0.5,
            popularity_percentile: 0.8,
            gini: 0.7,
        };
        let system = |name, hit_rate| System { name, at: vec![at(hit_rate)] };
        let evaluated = Evaluated {
            generation: "g1".to_owned(),
            scenario: "home".to_owned(),
            split: serde_json::Value::Null,
            trained_on_this_dataset: true,
            recency: "falling to 1/e in 3 interactions".to_owned(),
            evaluation: Evaluation {
                protocol: Protocol::HeldOut,
                n_users: 6_040,
                n_lists: 6_040,
                n_relevant: 6_040,
                skipped: Skipped { unknown_items: 3, ..Skipped::default() },
                systems: vec![system("index", 0.2345), system("exact", 0.2367), system("popular", 0.0363)],
                list_overlap: vec![Overlap { k: 10, share: 0.991 }],
            },
        };
        let text = evaluated.text();
        assert!(text.contains("6,040 users"), "{text}");
        assert!(text.contains("left out: 3 test interactions with items that the artifact does not have"), "{text}");
        assert!(text.contains("0.2345") && text.contains("0.2367") && text.contains("0.0363"), "{text}");
        assert!(text.contains("99.1 %"), "{text}");
        let json: serde_json::Value = serde_json::to_value(&evaluated).unwrap();
        assert_eq!(json["systems"][0]["at"][0]["hit_rate"], 0.2345);
    }
}
