//! `kindred tune`: searches the settings of a trainer on a part of the training data that is held back.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::builder::RangedU64ValueParser;
use serde::Serialize;

use super::{Exit, Global};
use crate::dataset::Dataset;
use crate::progress::Progress;
use crate::report::{self, Report, Table};
use crate::train::als::Als;
use crate::tune::journal::{Journal, Search, Trial};
use crate::tune::space::Tuned;
use crate::tune::{self, Method, TuneOptions};

/// Trials in the table, the best ones.
const SHOWN: usize = 10;

/// The command line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kindred tune --dataset dataset --minutes 30\n  \
    kindred tune --dataset dataset --trainer als --trials 20 --output tune-als\n\
    Stop it at any time: the same command goes on where it was. The last line is the command that trains with the best settings.")]
pub struct Args {
    /// The dataset that `kindred prepare` wrote. Its test part is not looked at.
    #[arg(long, value_name = "DIR", default_value = "dataset")]
    dataset: PathBuf,
    /// Where the trials are kept: `journal.jsonl`, which a later run goes on with, and `tune.svg`.
    #[arg(long, short, value_name = "DIR", default_value = "tune")]
    output: PathBuf,
    /// The trainer.
    #[arg(long, value_enum, default_value = "softmax")]
    trainer: Tuned,
    /// How the next settings are found.
    #[arg(long, value_enum, default_value = "tpe")]
    method: Method,
    /// Minutes to search; a trial that is not done by then is given up.
    #[arg(long, value_name = "N", default_value_t = 30.0)]
    minutes: f64,
    /// Trials, at most, with those of before.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    trials: usize,
    /// Numbers per item.
    #[arg(long, value_name = "N", default_value_t = Als::default().factors)]
    factors: usize,
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = Als::default().seed)]
    seed: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Found {
    trainer: &'static str,
    /// All trials, the best first.
    trials: Vec<Trial>,
    journal: PathBuf,
    picture: PathBuf,
    /// The command that trains with the best settings; none if no trial has a result.
    command: Option<String>,
}

/// Runs the sub-command. Exit 1 if no trial gave a result.
///
/// # Errors
/// A dataset that cannot be read or is too small, an output that cannot be written or is of another search.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let minutes = Duration::try_from_secs_f64(args.minutes * 60.0).context("--minutes is a number of at least 0")?;
    let dataset = Dataset::open(&args.dataset)?;
    std::fs::create_dir_all(&args.output).with_context(|| format!("{}: cannot be made", args.output.display()))?;
    let search = Search {
        trainer: args.trainer.name().to_owned(),
        settings: args.trainer.settings().iter().map(|setting| setting.name.to_owned()).collect(),
        factors: args.factors,
        dataset: dataset.report.fingerprint.clone(),
        seed: args.seed,
    };
    let (journal, picture) = (args.output.join("journal.jsonl"), args.output.join("tune.svg"));
    let (mut open, before) = Journal::open(&journal, &search)?;
    if !before.is_empty() {
        report::note(&format!("going on after {} trials in {}", before.len(), journal.display()));
    }
    let material = super::train::material(&dataset)?;
    let options = TuneOptions {
        tuned: args.trainer,
        factors: args.factors,
        method: args.method,
        until: started.checked_add(minutes),
        trials: args.trials,
        seed: args.seed,
    };
    let progress = Progress::bar("tuning", 0);
    let mut trials = tune::tune(&material, &options, &mut open, before, &progress)?;
    progress.finish();
    std::fs::write(&picture, tune::picture(args.trainer.name(), &trials))
        .with_context(|| format!("{}: cannot be written", picture.display()))?;
    trials.sort_by(|a, b| b.ndcg_at_10.total_cmp(&a.ndcg_at_10));
    let best = trials.iter().find(|trial| trial.failure.is_none());
    let command = best.map(|trial| args.command(trial));
    let exit = if command.is_some() { Exit::Done } else { Exit::No };
    report::emit(&Found { trainer: args.trainer.name(), trials, journal, picture, command }, global.json)?;
    Ok(exit)
}

impl Args {
    fn command(&self, trial: &Trial) -> String {
        let mut command = format!(
            "kindred train --dataset {} --trainer {} --factors {} --seed {}",
            word(&self.dataset.display().to_string()),
            self.trainer.name(),
            self.factors,
            self.seed
        );
        for setting in self.trainer.settings() {
            if let Some(value) = trial.settings.get(setting.name) {
                command.push(' ');
                command.push_str(&setting.argument(value));
            }
        }
        command
    }
}

/// A text as one word of a shell.
fn word(text: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_./+:=@%,".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

impl Report for Found {
    fn text(&self) -> String {
        let n = report::count(self.trials.len() as u64);
        let mut text = format!("trainer {}, {n} trials in {}\n", self.trainer, self.journal.display());
        let names: Vec<&String> = self.trials.first().map(|trial| trial.settings.keys().collect()).unwrap_or_default();
        let head = ["NDCG@10", "HR@10", "time"].into_iter().map(str::to_owned);
        let mut table = Table::new(head.chain(names.iter().map(|name| (*name).clone())));
        for trial in self.trials.iter().filter(|trial| trial.failure.is_none()).take(SHOWN) {
            let numbers = [
                format!("{:.4}", trial.ndcg_at_10),
                format!("{:.4}", trial.hit_rate_at_10),
                report::seconds(trial.seconds),
            ];
            let setting = |name: &&String| match trial.settings.get(*name) {
                Some(serde_json::Value::String(word)) => word.clone(),
                Some(value) => value.to_string(),
                None => String::new(),
            };
            table.row(numbers.into_iter().chain(names.iter().map(setting)));
        }
        text.push_str(&table.text());
        let failed: Vec<&String> = self.trials.iter().filter_map(|trial| trial.failure.as_ref()).collect();
        if let Some(first) = failed.first() {
            text.push_str(&format!("{} trials failed, one of them: {first}\n", failed.len()));
        }
        text.push_str(&format!("drawn in {}\n", self.picture.display()));
        match &self.command {
            Some(command) => text.push_str(&format!("the best settings:\n  {command}\n")),
            None if failed.is_empty() => text.push_str("no trial has a result: give it more --minutes\n"),
            None => text.push_str("no trial has a result\n"),
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_command_that_is_printed_is_one_that_train_takes() {
        for trainer in ["softmax", "als", "bpr", "slist"] {
            let line = Line::try_parse_from(["tune", "--dataset", "d", "--trainer", trainer]).unwrap();
            for place in [0.0, 0.3, 1.0] {
                let point = vec![place; line.args.trainer.settings().len()];
                let (_, settings) = line.args.trainer.at(&point, 8, 1).unwrap();
                let trial =
                    Trial { point, settings, hit_rate_at_10: 0.1, ndcg_at_10: 0.1, seconds: 1.0, failure: None };
                let command = line.args.command(&trial);
                let parsed = crate::cmd::Cli::try_parse_from(command.split_whitespace());
                assert!(parsed.is_ok(), "{command}: {parsed:?}");
            }
        }
    }

    #[test]
    fn a_search_of_no_trials_is_refused() {
        let trials = |n: &str| Line::try_parse_from(["tune", "--trials", n]).map(|line| line.args.trials);
        assert_eq!(trials("3").unwrap(), 3);
        assert!(trials("0").is_err());
    }

    #[test]
    fn a_directory_is_one_word_of_the_command() {
        assert_eq!(["data/set-1", "my data", "it's", ""].map(word), ["data/set-1", "'my data'", "'it'\\''s'", "''"]);
    }

    #[test]
    fn the_best_stand_first_and_failures_are_counted() {
        let trial = |ndcg_at_10: f64, failure: Option<&str>| Trial {
            point: vec![0.5],
            settings: serde_json::Map::from_iter([("alpha".to_owned(), json!(5.0))]),
            hit_rate_at_10: 0.2,
            ndcg_at_10,
            seconds: 3.0,
            failure: failure.map(str::to_owned),
        };
        let found = Found {
            trainer: "als",
            trials: vec![trial(0.125, None), trial(0.0, Some("the factors are no longer finite"))],
            journal: "tune/journal.jsonl".into(),
            picture: "tune/tune.svg".into(),
            command: Some("kindred train --alpha 5".to_owned()),
        };
        let text = found.text();
        assert!(
            text.contains("0.1250") && text.contains("alpha") && text.contains("kindred train --alpha 5"),
            "{text}"
        );
        assert!(text.contains("1 trials failed, one of them: the factors are no longer finite"), "{text}");
    }
}
