//! Settings of another trainer than the one that is asked for: nothing would look at them, so they are refused.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueEnum};

use super::TrainerName;
use super::als::AlsArgs;
use super::bpr::BprArgs;
use super::slist::SlistArgs;
use super::softmax::SoftmaxArgs;

/// Takes nothing from the command line, but is only to be had where all settings on it are the trainer's own. What is read is taken out of the
/// matches, so this is read first.
#[derive(Debug)]
pub(super) struct OwnSettings;

impl FromArgMatches for OwnSettings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let Some(trainer) = matches.get_one::<TrainerName>("trainer").copied() else { return Ok(Self) };
        let others = TrainerName::value_variants().iter().filter(|other| **other != trainer);
        let strange: Vec<String> = others.flat_map(|other| given(*other, matches)).collect();
        if strange.is_empty() {
            return Ok(Self);
        }
        let message = format!(
            "--trainer {} does not look at {}: leave that out, or give another --trainer",
            name(trainer),
            strange.join(", ")
        );
        Err(clap::Error::raw(ErrorKind::ArgumentConflict, message))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for OwnSettings {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

/// The settings of a trainer that stand on the command line: `--epochs (of softmax)`.
fn given(trainer: TrainerName, matches: &ArgMatches) -> Vec<String> {
    let nothing = Command::new("train");
    let settings = match trainer {
        TrainerName::Softmax => SoftmaxArgs::augment_args(nothing),
        TrainerName::Als => AlsArgs::augment_args(nothing),
        TrainerName::Bpr => BprArgs::augment_args(nothing),
        TrainerName::Slist => SlistArgs::augment_args(nothing),
    };
    let is_given = |arg: &&Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let flag = |arg: &Arg| arg.get_long().map(|long| format!("--{long} (of {})", name(trainer)));
    settings.get_arguments().filter(is_given).filter_map(flag).collect()
}

fn name(trainer: TrainerName) -> String {
    trainer.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use crate::cmd::Cli;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(["kindred", "train"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn settings_of_other_trainers_are_refused() {
        for (line, told) in [
            ("--trainer als --epochs 3", "--trainer als does not look at --epochs (of softmax):"),
            ("--trainer softmax --alpha 2", "--trainer softmax does not look at --alpha (of als):"),
            // Whichever trainer is usual, and in any order.
            ("--bpr-epochs 30 --reach 5 --trainer bpr", "--trainer bpr does not look at --reach (of slist):"),
            ("--solver cg --together 0.5", "does not look at --solver (of als), --together (of slist):"),
        ] {
            let refused = parsed(line).unwrap_err();
            assert_eq!(refused.kind(), clap::error::ErrorKind::ArgumentConflict, "{line}");
            assert!(refused.to_string().contains(told), "{refused}");
        }
        let of_all = "--train-half-life-days 9 --factors 8 --seed 2";
        for line in ["--trainer als --alpha 2", "--epochs 3", "--trainer bpr --bpr-epochs 3", "--trainer slist"] {
            assert!(parsed(&format!("{line} {of_all}")).is_ok(), "{line}");
        }
    }
}
