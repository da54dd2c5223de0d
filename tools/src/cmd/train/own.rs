//! Settings of another trainer, or another way to find neighbours or compare sessions, than the one that is asked for: nothing would look at
//! them, so they are refused.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueEnum};

use super::als::AlsArgs;
use super::bpr::BprArgs;
use super::slist::SlistArgs;
use super::softmax::SoftmaxArgs;
use super::{SessionsByName, TrainerName};
use crate::train::neighbours::Order;

/// Settings of neighbours, each with the ways to find them that look at it. What is left open tries several.
const OF_NEIGHBOURS: [(&str, &[Order]); 4] = [
    ("neighbour_shrinkage", &[Order::Auto, Order::Together, Order::Following]),
    ("neighbour_history", &[Order::Auto, Order::Together]),
    ("neighbour_reach", &[Order::Auto, Order::Following]),
    ("neighbour_backwards", &[Order::Auto, Order::Following]),
];

/// Takes nothing from the command line, but is only to be had where all settings on it are the trainer's own. What is read is taken out of the
/// matches, so this is read first.
#[derive(Debug)]
pub(super) struct OwnSettings;

impl FromArgMatches for OwnSettings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let Some(trainer) = matches.get_one::<TrainerName>("trainer").copied() else { return Ok(Self) };
        let others = TrainerName::value_variants().iter().filter(|other| **other != trainer);
        refuse("trainer", &name(&trainer), others.flat_map(|other| given(*other, matches)).collect())?;
        let flag = |id: &str| is_given(id, matches).then(|| format!("--{}", id.replace('_', "-")));
        if let Some(by) = matches.get_one::<Order>("neighbours_by") {
            let others = OF_NEIGHBOURS.iter().filter(|(_, ways)| !ways.contains(by));
            refuse("neighbours-by", &name(by), others.filter_map(|(id, _)| flag(id)).collect())?;
        }
        let sessions_by = matches.get_one::<SessionsByName>("sessions_by");
        if let Some(by) = sessions_by.filter(|by| matches!(by, SessionsByName::Recency)) {
            refuse("sessions-by", &name(by), flag("session_shrinkage").into_iter().collect())?;
        }
        Ok(Self)
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
    let flag = |arg: &Arg| arg.get_long().map(|long| format!("--{long} (of {})", name(&trainer)));
    settings.get_arguments().filter(|arg| is_given(arg.get_id().as_str(), matches)).filter_map(flag).collect()
}

fn is_given(id: &str, matches: &ArgMatches) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
}

fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Refuses settings that are given and that what the setting `way` asks for does not look at.
fn refuse(way: &str, asked: &str, strange: Vec<String>) -> Result<(), clap::Error> {
    if strange.is_empty() {
        return Ok(());
    }
    let strange = strange.join(", ");
    let message = format!("--{way} {asked} does not look at {strange}: leave that out, or give another --{way}");
    Err(clap::Error::raw(ErrorKind::ArgumentConflict, message))
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

    #[test]
    fn settings_that_another_way_would_look_at_are_refused() {
        for (line, told) in [
            ("--neighbours-by linear --neighbour-shrinkage 9", "linear does not look at --neighbour-shrinkage:"),
            ("--neighbour-history 9 --neighbours-by following", "following does not look at --neighbour-history:"),
            (
                "--neighbours-by pearson --neighbour-reach 2 --neighbour-backwards 0",
                "--neighbours-by pearson does not look at --neighbour-reach, --neighbour-backwards: leave that out",
            ),
            ("--session-shrinkage 9", "--sessions-by recency does not look at --session-shrinkage:"),
        ] {
            let refused = parsed(line).unwrap_err();
            assert_eq!(refused.kind(), clap::error::ErrorKind::ArgumentConflict, "{line}");
            assert!(refused.to_string().contains(told), "{refused}");
        }
        let of_all = "--neighbour-shrinkage 9 --neighbour-history 9 --neighbour-reach 2 --neighbour-backwards 0";
        for line in [of_all, "--neighbours-by linear --neighbours 9", "--sessions-by cosine --session-shrinkage 9"] {
            assert!(parsed(line).is_ok(), "{line}");
        }
    }
}
