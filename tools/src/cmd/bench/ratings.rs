//! `kindred bench ratings`: how well held-out ratings are predicted, with time and memory, for comparison with other libraries.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use serde::Serialize;

use crate::cmd::{Exit, Global};
use crate::machine::{Machine, peak_memory_bytes};
use crate::report::{self, Report, Table};
use crate::train::ratings::baseline::Baseline;
use crate::train::ratings::knn::{RatingKnn, Side, Similarity};
use crate::train::ratings::svd::Svd;
use crate::train::ratings::{RatingTrainer, Ratings, errors, read};

/// Users, or items, of which each may be compared with each: 4 bytes a pair, 10 GB.
const COMPARED_MAX: usize = 50_000;

/// The command line.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example: kindred bench ratings u1.base u1.test")]
pub struct Args {
    /// Ratings to learn from.
    train: PathBuf,
    /// Ratings to predict.
    test: PathBuf,
    /// What predicts; all without this.
    #[arg(long, value_enum, value_name = "NAME,...", value_delimiter = ',')]
    trainer: Vec<Name>,
    /// Where to write what was predicted: a CSV of trainer, held-out number and prediction, for whoever wants to check the errors.
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Seed of the `svd` trainer.
    #[arg(long, value_name = "N", default_value_t = Svd::default().seed)]
    seed: u64,
}

/// The trainers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Mean and biases.
    Baseline,
    /// Biases and factors by gradient descent.
    Svd,
    /// Similar items by Pearson's correlation about baselines.
    ItemKnn,
    /// Similar users by Pearson's correlation about baselines.
    UserKnn,
    /// Similar items by cosine.
    ItemKnnCosine,
    /// Similar users by cosine.
    UserKnnCosine,
}

#[derive(Debug, Serialize)]
struct Measured {
    machine: Machine,
    n_train: usize,
    n_test: usize,
    peak_memory_bytes: Option<u64>,
    trainers: Vec<One>,
}

#[derive(Debug, Serialize)]
struct One {
    name: &'static str,
    rmse: f64,
    mae: f64,
    fit_seconds: f64,
    predict_seconds: f64,
}

/// Runs the sub-command.
///
/// # Errors
/// A file that cannot be read or written, or a trainer was named that takes too much.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let read::Split { train, test } = read::split(&args.train, &args.test)?;
    let names = if args.trainer.is_empty() { Name::value_variants() } else { &args.trainer };
    let (names, left_out): (Vec<Name>, Vec<Name>) =
        names.iter().copied().partition(|name| name.compared(&train) <= COMPARED_MAX);
    for name in left_out {
        let what = format!(
            "{} compares each of {} with each, expected at most {}",
            name.trainer(args.seed).name(),
            report::count(name.compared(&train) as u64),
            report::count(COMPARED_MAX as u64)
        );
        ensure!(args.trainer.is_empty(), "{what}: name another --trainer");
        report::note(&format!("note: {what}, and is left out"));
    }
    let mut told = String::from("trainer,value,predicted\n");
    let mut one = |name: &Name| {
        let trainer = name.trainer(args.seed);
        let started = Instant::now();
        let model = trainer.fit(&train);
        let fit_seconds = started.elapsed().as_secs_f64();
        let started = Instant::now();
        let found = errors(model.as_ref(), &test);
        let predict_seconds = started.elapsed().as_secs_f64();
        if args.predictions.is_some() {
            for (user, item, value) in &test {
                told.push_str(&format!("{},{value},{}\n", trainer.name(), model.predict(*user, *item)));
            }
        }
        One { name: trainer.name(), rmse: found.rmse, mae: found.mae, fit_seconds, predict_seconds }
    };
    let trainers = names.iter().map(&mut one).collect();
    let (n_train, n_test) = (train.len(), test.len());
    let machine = Machine::here();
    let peak_memory_bytes = peak_memory_bytes();
    report::emit(&Measured { machine, n_train, n_test, peak_memory_bytes, trainers }, global.json)?;
    // Afterwards: what was measured is told also where this cannot be written.
    if let Some(path) = &args.predictions {
        std::fs::write(path, told).with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    Ok(Exit::Done)
}

impl Name {
    /// Users or items that are compared with each other.
    fn compared(self, ratings: &Ratings) -> usize {
        match self {
            Self::Baseline | Self::Svd => 0,
            Self::ItemKnn | Self::ItemKnnCosine => ratings.n_items,
            Self::UserKnn | Self::UserKnnCosine => ratings.n_users,
        }
    }

    fn trainer(self, seed: u64) -> Box<dyn RatingTrainer> {
        match self {
            Self::Baseline => Box::new(Baseline::default()),
            Self::Svd => Box::new(Svd { seed, ..Svd::default() }),
            Self::ItemKnn => Box::new(RatingKnn::new(Side::Items, Similarity::Pearson)),
            Self::UserKnn => Box::new(RatingKnn::new(Side::Users, Similarity::Pearson)),
            Self::ItemKnnCosine => Box::new(RatingKnn::new(Side::Items, Similarity::Cosine)),
            Self::UserKnnCosine => Box::new(RatingKnn::new(Side::Users, Similarity::Cosine)),
        }
    }
}

impl Report for Measured {
    fn text(&self) -> String {
        let (train, test) = (report::count(self.n_train as u64), report::count(self.n_test as u64));
        let mut text = format!("{}\n{train} ratings to learn from, {test} to predict\n", self.machine.line());
        let mut table = Table::new(["trainer", "RMSE", "MAE", "fit", "predict"]);
        for one in &self.trainers {
            let (rmse, mae) = (format!("{:.4}", one.rmse), format!("{:.4}", one.mae));
            table.row([
                one.name.to_owned(),
                rmse,
                mae,
                report::seconds(one.fit_seconds),
                report::seconds(one.predict_seconds),
            ]);
        }
        text.push_str(&table.text());
        if let Some(bytes) = self.peak_memory_bytes {
            text.push_str(&format!("peak memory of all: {}\n", report::bytes(bytes)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn what_would_take_all_memory_is_refused_or_left_out() {
        let place = tempfile::tempdir().unwrap();
        let (train, predictions) = (place.path().join("train"), place.path().join("predictions"));
        let rows: String = (0..=COMPARED_MAX).map(|user| format!("u{user}\ti{}\t{}\n", user % 3, user % 5)).collect();
        std::fs::write(&train, rows).unwrap();
        let run = |trainer: &str| {
            let [train, predictions] = [&train, &predictions].map(|path| path.to_str().unwrap());
            let line = ["ratings", train, train, "--trainer", trainer, "--predictions", predictions];
            run(&Line::parse_from(line).args, &Global::default())
        };
        let refused = run("user-knn").unwrap_err().to_string();
        assert!(refused.starts_with("user-knn compares each of 50,001 with each"), "{refused}");
        assert!(!predictions.exists(), "it is refused before anything is learned");
        assert_eq!(run("item-knn").unwrap(), Exit::Done, "there are three items");
    }
}
