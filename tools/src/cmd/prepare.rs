//! `kindred prepare`: a log of interactions to a dataset.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::builder::RangedU64ValueParser;
use kindred::limits;
use kindred::user_vector::Weighting;
use serde::Serialize;

use super::{Exit, Global};
use crate::dataset::clean::CleanOptions;
use crate::dataset::columns::ColumnNames;
use crate::dataset::log::RowRules;
use crate::dataset::read::{Preset, ReadOptions};
use crate::dataset::source::Format;
use crate::dataset::split::Split;
use crate::dataset::time::TimeUnit;
use crate::dataset::{self, DatasetReport, PrepareOptions};
use crate::progress::Progress;
use crate::report::{Report, emit, seconds};
use crate::whole_dir;

/// The command line.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  kindred prepare log.csv --items products.csv\n  \
    kindred prepare ml-1m/ratings.dat --items ml-1m/movies.dat --output dataset\n  \
    kindred prepare clicks.tsv.gz --preset sessions --split time=0.9\n  \
    kindred prepare events.jsonl --kind-column action --kind-weights view=1,cart=3,purchase=5")]
pub struct Args {
    /// Files of the log
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// Table of items: identifier, title, description, categories, price, image, available; other columns become attributes
    #[arg(long, value_name = "FILE")]
    items: Option<PathBuf>,
    /// Where to write the dataset
    #[arg(long, short, value_name = "DIR", default_value = "dataset")]
    output: PathBuf,
    /// Replace a dataset that is already there
    #[arg(long)]
    force: bool,
    /// How the log is read
    #[command(flatten, next_help_heading = "Reading")]
    reading: ReadingArgs,
    /// What interactions are worth
    #[command(flatten, next_help_heading = "Weighing")]
    weighing: WeighingArgs,
    /// What is dropped
    #[command(flatten, next_help_heading = "Cleaning")]
    cleaning: CleaningArgs,
    /// What to hold out for `kindred evaluate`: leave-last-out (of each user), last-basket (all of each user's last moment), sessions=14400 (users whose last interaction is of the newest 14,400 seconds, whole), time=2017-10-10T00:00:00Z (what happened then or later), time=0.9 (the newest tenth of the interactions), items=0.1 (every interaction with a tenth of the items, as if nobody had touched them yet), users=0.1 (everything a tenth of the users did; evaluate with --protocol next-event) or none
    #[arg(long, default_value = "leave-last-out", value_name = "HOW")]
    split: Split,
}

#[derive(Clone, Debug, clap::Args)]
struct ReadingArgs {
    /// Form of the log, where its content does not tell
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// A well-known form of log
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Column that says who
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    user_column: Option<String>,
    /// Column that says with which item
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    item_column: Option<String>,
    /// Column that says when; an empty name for none
    #[arg(long, value_name = "NAME")]
    time_column: Option<String>,
    /// Column that says what was done; an empty name for none
    #[arg(long, value_name = "NAME")]
    kind_column: Option<String>,
    /// Column of numbers that the weight of the kind is multiplied by; an empty name for none
    #[arg(long, value_name = "NAME")]
    value_column: Option<String>,
    /// Column of ratings, for --min-rating only; an empty name for none
    #[arg(long, value_name = "NAME")]
    rating_column: Option<String>,
    /// The first line is a row; columns are named 1, 2, 3...
    #[arg(long)]
    no_header: bool,
    /// What numbers of the time column count since 1970, or that they are dates; told by their size, for each file, without this
    #[arg(long, value_enum)]
    time_unit: Option<TimeUnit>,
}

#[derive(Clone, Debug, clap::Args)]
struct WeighingArgs {
    /// Weights of kinds, added to the usual ones (view=1, search_click=1.5, cart=3, purchase=5, like=2, rating=1, dislike=-1); rows of other kinds are dropped and counted
    #[arg(long, value_name = "KIND=WEIGHT,...", value_delimiter = ',', value_parser = kind_weight)]
    kind_weights: Vec<(String, f32)>,
    /// Kind of rows that name none; without this `rating` where there is a rating column, else `view`
    #[arg(long, value_name = "KIND")]
    default_kind: Option<String>,
    /// Least rating that counts as an interaction; without this every rating counts, and all count the same
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    min_rating: Option<f64>,
}

#[derive(Clone, Debug, clap::Args)]
struct CleaningArgs {
    /// Least interactions of a user; dropped with --min-item in rounds, until nobody left has fewer
    #[arg(long, value_name = "N", default_value_t = CleanOptions::default().min_user, value_parser = clap::value_parser!(u32).range(1..))]
    min_user: u32,
    /// Least interactions of an item
    #[arg(long, value_name = "N", default_value_t = CleanOptions::default().min_item, value_parser = clap::value_parser!(u32).range(1..))]
    min_item: u32,
    /// Most interactions of a user who is believed to be a person; those with more are dropped and counted; 0 for no bound
    #[arg(long, value_name = "N", default_value_t = u64::from(CleanOptions::default().max_user_interactions), value_parser = RangedU64ValueParser::<u64>::new().range(..=u64::from(u32::MAX)))]
    max_user_interactions: u64,
}

/// What was prepared.
#[derive(Debug, Serialize)]
struct Prepared {
    output: PathBuf,
    seconds: f64,
    #[serde(flatten)]
    report: DatasetReport,
}

/// Runs the sub-command.
///
/// # Errors
/// A file that cannot be read, columns that are not known, nothing left, an output that exists.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let options = args.options()?;
    dataset::writable(&args.output, args.force)?;
    whole_dir::is_apart(&args.output, args.logs.iter().chain(&args.items))?;
    let started = Instant::now();
    let progress = Progress::bar("reading", 0);
    let parts = dataset::prepare(&options, &progress)?;
    progress.start("writing", 0);
    parts.write(&args.output, args.force).context("writing the dataset")?;
    progress.finish();
    let seconds = started.elapsed().as_secs_f64();
    emit(&Prepared { output: args.output.clone(), seconds, report: parts.report }, global.json)?;
    Ok(Exit::Done)
}

impl Args {
    fn options(&self) -> anyhow::Result<PrepareOptions> {
        let Self { reading, weighing, cleaning, .. } = self;
        let mut kind_weights = Weighting::default().kinds;
        kind_weights.extend(weighing.kind_weights.iter().cloned());
        ensure!(
            kind_weights.len() <= limits::KINDS_MAX,
            "--kind-weights names {} kinds with the usual ones, at most {} are allowed",
            kind_weights.len(),
            limits::KINDS_MAX
        );
        if let Some(kind) = weighing.default_kind.as_ref().filter(|kind| !kind_weights.contains_key(*kind)) {
            anyhow::bail!("--default-kind {kind} has no weight: give one with --kind-weights {kind}=1");
        }
        let columns = ColumnNames {
            user: reading.user_column.clone(),
            item: reading.item_column.clone(),
            time: reading.time_column.clone(),
            kind: reading.kind_column.clone(),
            value: reading.value_column.clone(),
            rating: reading.rating_column.clone(),
        };
        let read = ReadOptions {
            format: reading.format,
            preset: reading.preset,
            columns,
            no_header: reading.no_header,
            time_unit: reading.time_unit,
            rules: RowRules {
                kind_weights,
                default_kind: weighing.default_kind.clone(),
                min_rating: weighing.min_rating,
            },
        };
        let clean = CleanOptions {
            min_user: cleaning.min_user,
            min_item: cleaning.min_item,
            max_user_interactions: cleaning.max_user_interactions as u32,
        };
        Ok(PrepareOptions { logs: self.logs.clone(), items: self.items.clone(), read, clean, split: self.split })
    }
}

fn kind_weight(text: &str) -> Result<(String, f32), String> {
    let (kind, weight) = text.split_once('=').ok_or("expected KIND=WEIGHT, as in view=1,cart=3")?;
    let (kind, weight) = (kind.trim(), weight.trim());
    if kind.is_empty() || kind.len() > limits::KIND_BYTES_MAX {
        return Err(format!("a kind has 1 to {} bytes", limits::KIND_BYTES_MAX));
    }
    let number: Option<f32> = weight.parse().ok().filter(|weight: &f32| weight.is_finite());
    number.map(|weight| (kind.to_owned(), weight)).ok_or_else(|| format!("{weight:?} is not a finite number"))
}

impl Report for Prepared {
    fn text(&self) -> String {
        format!("{}{} written in {}\n", self.report.text(), self.output.display(), seconds(self.seconds))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn options(line: &str) -> Result<PrepareOptions, String> {
        let line = Line::try_parse_from(std::iter::once("prepare").chain(line.split(' ')));
        line.map_err(|error| error.to_string())?.args.options().map_err(|error| error.to_string())
    }

    #[test]
    fn weights_add_to_the_usual_ones() {
        let found = options("log.csv --kind-weights listen=0.5,view=2").unwrap();
        let weights: &BTreeMap<String, f32> = &found.read.rules.kind_weights;
        assert_eq!((weights["listen"], weights["view"], weights["cart"]), (0.5, 2.0, 3.0));
        assert!(options("log.csv --kind-weights view").unwrap_err().contains("KIND=WEIGHT"));
        assert!(options("log.csv --default-kind hum").unwrap_err().contains("--kind-weights hum=1"));
    }

    #[test]
    fn without_options_everything_is_as_usual() {
        assert_eq!(options("log.csv").unwrap(), PrepareOptions::new(vec!["log.csv".into()]));
        assert!(options("log.csv --split half").unwrap_err().contains("leave-last-out"));
        assert!(options("log.csv --min-user 0").is_err());
    }
}
