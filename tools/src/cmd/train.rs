//! `kindred train`: a dataset to a model, or factors trained elsewhere to a model.

mod als;
mod bpr;
mod own;
mod slist;
mod softmax;
mod trained;
mod weights;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use kindred::manifest::{SessionLikeness, SessionsBy};
use kindred::telemetry::chain;
use kindred::user_vector::Weighting;
use serde::Serialize;

use self::weights::{BlendArgs, Wanted};
use super::{Exit, Global};
use crate::blend;
use crate::dataset::Dataset;
use crate::machine::peak_memory_bytes;
use crate::model_dir::{self, ModelDir, ModelInfo, ModelMetric};
use crate::progress::Progress;
use crate::report;
use crate::train::Trainer;
use crate::train::als::Als;
use crate::train::assemble::{self, Decay, Material, ModelOptions};
use crate::train::checkpoint::Checkpoints;
use crate::train::import::{self, Import};
use crate::train::neighbours::{NeighbourOptions, Order};
use crate::train::sessions::Cut;
use crate::train::{TrainingData, neighbour_choice};
use crate::whole_dir;

/// The command line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kindred train --dataset dataset --output model\n  \
    kindred train --import factors.npy --ids ids.txt --output model")]
pub struct Args {
    /// Refuses settings of other trainers.
    #[command(flatten)]
    own: own::OwnSettings,
    /// The dataset that `kindred prepare` wrote.
    #[arg(long, value_name = "DIR", default_value = "dataset", conflicts_with = "import")]
    dataset: PathBuf,
    /// Where to write the model.
    #[arg(long, short, value_name = "DIR", default_value = "model")]
    output: PathBuf,
    /// Replace a model that is already there.
    #[arg(long)]
    force: bool,
    /// Keep what training has reached in this directory, each minute, and go on from there if it is stopped: for long runs. What this
    /// command kept is removed when the model is written; what others have kept there stays, and is told.
    #[arg(long, value_name = "DIR", conflicts_with = "import")]
    checkpoint: Option<PathBuf>,
    /// What makes the factors.
    #[arg(long, value_enum, default_value = "softmax", conflicts_with = "import")]
    trainer: TrainerName,
    /// Numbers per item: more know finer tastes and make search slower.
    #[arg(long, value_name = "N", default_value_t = Als::default().factors, conflicts_with = "import")]
    factors: usize,
    /// Seed of everything random: the same seed makes the same model, for any number of threads.
    #[arg(long, value_name = "N", default_value_t = Als::default().seed)]
    seed: u64,
    /// Days after which an interaction (with `slist`, a session) counts half in training, or with `softmax` and `bpr` is half as often an example;
    /// for every trainer and for neighbours. Without it age does not matter.
    #[arg(long, value_name = "DAYS", conflicts_with = "import")]
    train_half_life_days: Option<f64>,
    /// Settings of the `softmax` trainer.
    #[command(flatten, next_help_heading = "Trainer softmax")]
    softmax: softmax::SoftmaxArgs,
    /// Settings of the `als` trainer.
    #[command(flatten, next_help_heading = "Trainer als")]
    als: als::AlsArgs,
    /// Settings of the `bpr` trainer.
    #[command(flatten, next_help_heading = "Trainer bpr")]
    bpr: bpr::BprArgs,
    /// Settings of the `slist` trainer.
    #[command(flatten, next_help_heading = "Trainer slist")]
    slist: slist::SlistArgs,
    /// Settings of the tables beside the factors.
    #[command(flatten, next_help_heading = "User vector and neighbours")]
    beside: BesideArgs,
    /// How weights of sources are learned.
    #[command(flatten, next_help_heading = "Weights of sources")]
    blend: BlendArgs,
    /// Factors trained elsewhere.
    #[command(flatten, next_help_heading = "Import")]
    import: ImportArgs,
}

/// How much of a run is lost at most when it is stopped, and one iteration.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// The trainers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TrainerName {
    /// Softmax over cosines, with learned weights by position (after CORE, Hou et al. 2022): learns what comes next; mostly the best.
    Softmax,
    /// Implicit-feedback alternating least squares (Hu, Koren, Volinsky 2008): the fastest.
    Als,
    /// Bayesian personalised ranking (Rendle et al. 2009): what was taken scores higher than what was not.
    Bpr,
    /// A linear model of what follows what in sessions, squeezed into factors (Choi et al. 2021).
    Slist,
}

#[derive(Debug, clap::Args)]
struct BesideArgs {
    /// Interactions after which one counts 1/e in the user vector; without it what the trainer learned, or what is best on held-back
    /// interactions.
    #[arg(long, value_name = "N")]
    position_decay: Option<f32>,
    /// Seconds after which an interaction counts half in the user vector; without it age does not matter.
    #[arg(long, value_name = "SECONDS")]
    half_life: Option<f64>,
    /// What makes items alike.
    #[arg(long, value_enum, default_value_t = NeighbourOptions::default().by, conflicts_with = "import")]
    neighbours_by: Order,
    /// Similar items kept per item.
    #[arg(long, value_name = "N", default_value_t = NeighbourOptions::default().k)]
    neighbours: usize,
    /// Users that two items must share, or times that one must follow the other, before half of their similarity counts; not with linear and pearson.
    #[arg(long, value_name = "X", default_value_t = NeighbourOptions::default().shrinkage, conflicts_with = "import")]
    neighbour_shrinkage: f32,
    /// Most recent interactions of a user that neighbours are found by, where it counts that the same users take them (together).
    #[arg(long, value_name = "N", default_value_t = NeighbourOptions::default().history, conflicts_with = "import")]
    neighbour_history: usize,
    /// Steps further apart after which one item following another counts 1/e, with --neighbours-by following.
    #[arg(long, value_name = "X", default_value_t = NeighbourOptions::default().reach, conflicts_with = "import")]
    neighbour_reach: f64,
    /// How much one item following another counts for the one before, 0 to 1; without it chosen on held-back interactions.
    #[arg(long, value_name = "X", conflicts_with = "import")]
    neighbour_backwards: Option<f64>,
    /// Keep no sessions: a smaller model, whose lists are made without session-kNN.
    #[arg(long, conflicts_with = "import")]
    no_sessions: bool,
    /// Keep each user's interactions as one session, whatever the pauses: session-kNN is then user-kNN.
    #[arg(long, conflicts_with_all = ["no_sessions", "import"])]
    user_sessions: bool,
    /// How a visitor is compared with the sessions: by the last items, by cosine or by Pearson's correlation of all; the last two with
    /// --user-sessions are the classic user-kNN.
    #[arg(long, value_enum, default_value = "recency", conflicts_with_all = ["no_sessions", "import"])]
    sessions_by: SessionsByName,
    /// Items that a session must share with the visitor before half of its likeness counts, by cosine or Pearson's correlation.
    #[arg(long, value_name = "X", default_value_t = 0.0, conflicts_with = "import")]
    session_shrinkage: f32,
    /// Learn no words from the catalogue: a smaller model, that makes the rows of new items of their categories and answers no text query.
    #[arg(long)]
    no_words: bool,
    /// Different users who took an item below which it has no popularity, so that no single one can be read off the popular list. Dislikes do
    /// not count.
    #[arg(long, value_name = "N", default_value_t = ModelOptions::default().popularity_min_people, conflicts_with = "import")]
    popularity_min_people: u32,
}

impl BesideArgs {
    /// The weighting as far as it is given, checked: a number that is none is told before the work and not after it.
    fn weighting(&self) -> anyhow::Result<Weighting> {
        let default = Weighting::default();
        let position_decay = self.position_decay.unwrap_or(default.position_decay);
        let weighting = Weighting { position_decay, half_life_s: self.half_life, ..default };
        weighting.validate()?;
        Ok(weighting)
    }

    /// How neighbours are found, checked.
    fn neighbours(&self, half_life_days: Option<f64>) -> anyhow::Result<NeighbourOptions> {
        let options = NeighbourOptions {
            by: self.neighbours_by,
            k: self.neighbours,
            shrinkage: self.neighbour_shrinkage,
            history: self.neighbour_history,
            half_life_days,
            reach: self.neighbour_reach,
            backwards: self.neighbour_backwards,
        };
        options.check()?;
        Ok(options)
    }

    fn session_likeness(&self) -> anyhow::Result<SessionLikeness> {
        let by = match self.sessions_by {
            SessionsByName::Recency => SessionsBy::Recency,
            SessionsByName::Cosine => SessionsBy::Cosine,
            SessionsByName::Pearson => SessionsBy::Pearson,
        };
        let likeness = SessionLikeness { by, shrinkage: self.session_shrinkage };
        if !likeness.is_valid() {
            bail!("--session-shrinkage is {}: give a finite number of at least 0", self.session_shrinkage);
        }
        Ok(likeness)
    }
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SessionsByName {
    Recency,
    Cosine,
    Pearson,
}

#[derive(Debug, clap::Args)]
struct ImportArgs {
    /// Factors trained elsewhere: an .npy file of f32 or f64, one row an item. Settings of trainers are of no use with it, and refused.
    #[arg(long, value_name = "FILE", requires = "ids")]
    #[arg(conflicts_with_all = ["SoftmaxArgs", "AlsArgs", "BprArgs", "SlistArgs"])]
    import: Option<PathBuf>,
    /// Item keys, one a line, in the order of the rows.
    #[arg(long, value_name = "FILE", requires = "import", conflicts_with = "dataset")]
    ids: Option<PathBuf>,
    /// Context factors, if they differ from the target factors: the same shape and order.
    #[arg(long, value_name = "FILE", requires = "import", conflicts_with = "dataset")]
    context: Option<PathBuf>,
    /// Catalogue entries as JSON, one a line, in any order.
    #[arg(long, value_name = "FILE", requires = "import", conflicts_with = "dataset")]
    items: Option<PathBuf>,
    /// How rows are compared; without it cosine if all are of length 1, else the dot product.
    #[arg(long, value_enum, requires = "import", conflicts_with = "dataset")]
    metric: Option<ModelMetric>,
}

/// What was trained.
#[derive(Debug, Serialize)]
struct Trained<'a> {
    output: &'a std::path::Path,
    seconds: f64,
    /// The most memory held at once.
    peak_memory_bytes: Option<u64>,
    #[serde(flatten)]
    info: &'a ModelInfo,
}

/// Runs the sub-command.
///
/// # Errors
/// A dataset or file that cannot be read, settings out of range, an output that exists.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    model_dir::writable(&args.output, args.force)?;
    let ImportArgs { import, ids, context, items, .. } = &args.import;
    let beside = [import, ids, context, items, &args.checkpoint];
    whole_dir::is_apart(&args.output, beside.into_iter().flatten())?;
    let started = Instant::now();
    if let Some(dir) = &args.checkpoint {
        whole_dir::can_be_made(dir).with_context(|| format!("--checkpoint {} is of no use", dir.display()))?;
    }
    let checkpoints = args.checkpoint.as_deref().map(|dir| Checkpoints::below(dir, CHECKPOINT_EVERY));
    let progress = Progress::bar("reading", 0).keeping(checkpoints.clone());
    let model = match &args.import.import {
        Some(factors) => args.imported(factors.clone(), &progress)?,
        None => args.trained(&progress)?,
    };
    progress.finish();
    model.write(&args.output, args.force)?;
    if let Some(checkpoints) = &checkpoints {
        // The model is there all the same.
        if let Err(error) = checkpoints.remove() {
            report::note(&format!("What this run has kept on the way could not be removed: {}", chain(&error)));
        }
        checkpoints.others().iter().for_each(|others| report::note(others));
    }
    let seconds = started.elapsed().as_secs_f64();
    report::emit(
        &Trained { output: &args.output, seconds, peak_memory_bytes: peak_memory_bytes(), info: &model.info },
        global.json,
    )?;
    Ok(Exit::Done)
}

impl Args {
    fn trained(&self, progress: &Progress) -> anyhow::Result<ModelDir> {
        self.beside.weighting()?;
        let session_likeness = self.beside.session_likeness()?;
        let half_life = self.train_half_life_days;
        let trainer: Box<dyn Trainer> = match self.trainer {
            TrainerName::Softmax => Box::new(self.softmax.trainer(self.factors, half_life, self.seed)),
            TrainerName::Als => Box::new(self.als.trainer(self.factors, half_life, self.seed)),
            TrainerName::Bpr => Box::new(self.bpr.trainer(self.factors, half_life, self.seed)),
            TrainerName::Slist => Box::new(self.slist.trainer(self.factors, half_life, self.seed)),
        };
        trainer.check()?;
        let neighbours = self.beside.neighbours(half_life)?;
        let wanted = self.blend.wanted()?;
        let material = material(&Dataset::open(&self.dataset)?)?;
        let mut options = ModelOptions {
            neighbours,
            decay: self.beside.position_decay.map_or(Decay::Chosen, Decay::Fixed),
            half_life_s: self.beside.half_life,
            sessions: match self.beside {
                BesideArgs { no_sessions: true, .. } => None,
                BesideArgs { user_sessions: true, .. } => Some(Cut::ByUser),
                _ => Some(Cut::AtPauses),
            },
            session_likeness,
            popularity_min_people: self.beside.popularity_min_people,
            encoder: !self.beside.no_words,
        };
        let (interactions, n_users, n_items) = (&material.interactions, material.n_users, material.items.len());
        let data = TrainingData { interactions, n_users, n_items };
        data.check()?;
        // Once for both models, where weights are learned.
        options.neighbours = neighbour_choice::choose(&data, &options.neighbours, self.seed, progress)?;
        let learn = |Wanted { scenario, trending, history_max }| {
            blend::learn(&material, trainer.as_ref(), &options, &scenario, &trending, history_max, progress)
        };
        let learned = wanted.map(learn).transpose()?;
        let mut model = assemble::model(material, trainer.as_ref(), &options, progress)?;
        model.info.learned = learned;
        Ok(model)
    }

    fn imported(&self, factors: PathBuf, progress: &Progress) -> anyhow::Result<ModelDir> {
        let Some(ids) = self.import.ids.clone() else { bail!("--import needs --ids FILE, the keys of its rows") };
        let weighting = self.beside.weighting()?;
        let k_neighbours = self.beside.neighbours(None)?.k;
        let wanted = Import {
            factors,
            ids,
            context: self.import.context.clone(),
            items: self.import.items.clone(),
            metric: self.import.metric,
            weighting,
            k_neighbours,
            encoder: !self.beside.no_words,
            seed: self.seed,
        };
        Ok(import::import(&wanted, progress)?)
    }
}

/// What a model is made of, read from a dataset into memory.
///
/// # Errors
/// A file of the dataset cannot be read.
pub fn material(dataset: &Dataset) -> anyhow::Result<Material> {
    Ok(Material {
        interactions: dataset.train().context("reading the training part")?,
        n_users: dataset.report.n_users as usize,
        items: dataset.items().context("reading the catalogue")?,
        kinds: dataset.report.kinds.clone(),
        kind_weights: dataset.report.kind_weights.clone(),
        fingerprint: Some(dataset.report.fingerprint.clone()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use clap::Parser;

    use super::*;
    use crate::model_dir::ModelFiles;
    use crate::train::als::{Context, Solver};
    use crate::train::bpr::Bpr;
    use crate::train::slist::Slist;
    use crate::train::softmax::Softmax;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(line: &str) -> Result<Args, clap::Error> {
        Line::try_parse_from(std::iter::once("train").chain(line.split_whitespace())).map(|line| line.args)
    }

    #[test]
    fn the_defaults_are_those_of_the_trainer() {
        let args = parsed("--dataset d").unwrap();
        assert_eq!(args.als.trainer(args.factors, None, args.seed), Als::default());
        assert_eq!(args.softmax.trainer(args.factors, None, args.seed), Softmax::default());
        assert_eq!(args.slist.trainer(args.factors, None, args.seed), Slist::default());
        assert_eq!(args.bpr.trainer(args.factors, None, args.seed), Bpr::default());
        assert_eq!(args.output, PathBuf::from("model"));
        let args = parsed("--trainer als --solver cholesky --context-factors same --factors 7").unwrap();
        let wanted = Als { factors: 7, solver: Solver::Cholesky, context: Context::Same, ..Als::default() };
        assert_eq!(args.als.trainer(args.factors, None, args.seed), wanted);
        let args =
            parsed("--dataset d --trainer softmax --symmetry asymmetric --epochs 3 --history 9 --seed 5").unwrap();
        let wanted = Softmax { symmetric: Some(false), epochs: Some(3), history: 9, seed: 5, ..Softmax::default() };
        assert_eq!(args.softmax.trainer(args.factors, None, args.seed), wanted);
    }

    #[test]
    fn a_dataset_or_an_import_and_not_both() {
        assert!(parsed("").is_ok(), "the dataset is where `kindred prepare` puts it");
        assert!(parsed("--import f.npy --ids i.txt").is_ok());
        assert!(parsed("--import f.npy").is_err());
        assert!(parsed("--ids i.txt --dataset d").is_err());
        assert!(parsed("--dataset d --import f.npy --ids i.txt").is_err());
        let import = "--import f.npy --ids i.txt --position-decay 7 --half-life 60 --neighbours 9 --no-words --seed 2";
        assert!(parsed(import).is_ok());
        let of_trainers = ["--trainer als", "--factors 8", "--epochs 3", "--alpha 2", "--bpr-epochs 3", "--together 0"];
        let of_datasets =
            ["--neighbours-by together", "--neighbour-history 3", "--user-sessions", "--popularity-min-people 2"];
        for ignored in of_trainers.iter().chain(&of_datasets).chain(&["--train-half-life-days 9"]) {
            let refused = parsed(&format!("{import} {ignored}")).unwrap_err();
            assert_eq!(refused.kind(), clap::error::ErrorKind::ArgumentConflict, "{ignored}");
        }
    }

    #[test]
    fn numbers_that_are_none_are_told_before_the_work() {
        let root = tempfile::tempdir().unwrap();
        let nothing = root.path().join("nothing");
        std::fs::write(root.path().join("file"), "").unwrap();
        let [in_a_file, new] = ["file", "new"].map(|dir| format!("--checkpoint {}", root.path().join(dir).display()));
        for (number, expected) in [
            (in_a_file.as_str(), "is of no use"),
            (new.as_str(), "nothing"),
            ("--position-decay 0", "position_decay is 0"),
            ("--half-life=-1", "half_life_s is -1"),
            ("--sessions-by cosine --session-shrinkage=-1", "--session-shrinkage is -1"),
            ("--epochs 1000", "epochs is 1000"),
            ("--trainer als --alpha 0", "alpha is 0"),
            ("--trainer bpr --bpr-epochs 0", "epochs is 0"),
            ("--trainer bpr --train-half-life-days=-1", "train-half-life-days is -1"),
            ("--trainer slist --together 2", "together is 2"),
            ("--neighbours 1001", "neighbours is 1001"),
            ("--neighbour-shrinkage=-1", "neighbour_shrinkage is -1"),
            ("--learn-weights --scenario nowhere", "there is no scenario \"nowhere\""),
        ] {
            let line = format!("--dataset {} --output {} {number}", nothing.display(), nothing.display());
            let error = run(&parsed(&line).unwrap(), &Global { json: true, quiet: true }).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "something was left behind");
    }

    #[test]
    fn what_is_read_or_kept_on_the_way_must_not_lie_in_the_model_that_is_written() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name).display().to_string();
        std::fs::create_dir(root.path().join("m")).unwrap();
        std::os::unix::fs::symlink(root.path().join("m"), root.path().join("link")).unwrap();
        let output = format!("--output {}", path("m"));
        for line in [
            format!("--import {} --ids {} {output}", path("m/f.npy"), path("i.txt")),
            format!("--import {} --ids {} {output} --force", path("f.npy"), path("link/i.txt")),
            format!("--dataset {} --checkpoint {} {output}", path("d"), path("m/kept/here")),
            format!("--dataset {} --checkpoint {} --output {}", path("d"), path("new/kept"), path("new")),
        ] {
            let refused = run(&parsed(&line).unwrap(), &Global { json: true, quiet: true }).unwrap_err();
            assert!(refused.to_string().contains("would be removed with what is replaced"), "{line}: {refused}");
        }
    }

    #[test]
    fn an_import_goes_all_the_way_to_a_model() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        crate::npy::write(&path("f.npy"), &[2, 2], &[1.0_f32, 2.0, 2.0, 1.0]).unwrap();
        std::fs::write(path("i.txt"), "a\nb\n").unwrap();
        let line = format!(
            "--import {} --ids {} --output {}",
            path("f.npy").display(),
            path("i.txt").display(),
            path("model").display()
        );
        let global = Global { json: true, quiet: true };
        assert_eq!(run(&parsed(&line).unwrap(), &global).unwrap(), Exit::Done);
        assert_eq!(ModelFiles::open(&path("model")).unwrap().parts().info.trainer, "import");
        let again = run(&parsed(&line).unwrap(), &global).unwrap_err();
        assert!(again.to_string().contains("--force"), "{again}");
        assert!(run(&parsed(&format!("{line} --force")).unwrap(), &global).is_ok());
    }
}
