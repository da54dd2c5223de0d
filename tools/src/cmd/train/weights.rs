//! How weights of sources are learned, as the command line takes it.

use std::path::PathBuf;

use kindred::limits;
use kindred::scenario::Scenario;
use kindred::settings::Settings;
use kindred::trending::TrendingSettings;

use crate::cmd::scenario;

#[derive(Debug, clap::Args)]
pub(super) struct BlendArgs {
    /// Learn what each source (vector, neighbours, sessions, popularity, trending) weighs in a score, on the users who were there last, or where
    /// nobody knows who was, on the last interactions of some; scenarios with learned_weights = true use it. Trains a second model, without those, so it
    /// takes twice the time and more.
    #[arg(long, conflicts_with = "import")]
    learn_weights: bool,
    /// Settings file with the scenario, how trends are counted, and how many interactions of a user a server keeps and looks at
    /// (`history.keep_per_actor`); without it the built-in ones, and 1000 interactions.
    #[arg(long, value_name = "FILE", requires = "learn_weights")]
    config: Option<PathBuf>,
    /// The scenario whose weights are learned.
    #[arg(long, value_name = "NAME", default_value = "home", requires = "learn_weights")]
    scenario: String,
}

/// What weights are to be learned for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The scenario.
    pub(super) scenario: Scenario,
    /// How trends are counted.
    pub(super) trending: TrendingSettings,
    /// Most recent interactions of a user that are looked at, at most.
    pub(super) history_max: usize,
}

impl BlendArgs {
    /// What weights are to be learned for; none where no weights are.
    pub(super) fn wanted(&self) -> anyhow::Result<Option<Wanted>> {
        let Self { learn_weights, config, scenario: name } = self;
        if !learn_weights {
            return Ok(None);
        }
        let Settings { scenarios, trending, history, .. } = Settings::load(config.as_deref())?;
        // As `kindred evaluate` judges.
        let history_max = if config.is_some() { history.keep_per_actor } else { limits::HISTORY_MAX };
        Ok(Some(Wanted { scenario: scenario(&scenarios, name)?.clone(), trending, history_max }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn with_the_settings_of_a_server_no_more_is_looked_at_than_it_keeps() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("mine.toml");
        std::fs::write(&file, "[history]\nkeep_per_actor = 70\n").unwrap();
        for (config, looked_at) in [(None, limits::HISTORY_MAX), (Some(file), 70)] {
            let args = BlendArgs { learn_weights: true, config, scenario: "home".to_owned() };
            assert_eq!(args.wanted().unwrap().unwrap().history_max, looked_at);
        }
    }
}
