//! An experiment: visitors of one scenario are divided, and each part gets a scenario of its own.
//!
//! Which part a visitor is in is a function of the experiment's name and the visitor's id and of nothing else: no state, the same on every
//! server, after every restart, and computable anywhere:
//!
//! `place = (first 8 bytes of SHA-256(experiment ‖ 0 ‖ visitor ‖ 0), big-endian) × (sum of shares) / 2^64`, and the variant is the one in
//! whose stretch of the shares, laid end to end in the order of the names, the place lies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::digest::sha256;
use crate::limits;
use crate::scenario::{Basis, Scenario};

/// One experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// The scenario that is divided. A scenario is in one experiment at most.
    pub scenario: String,
    /// Whether it runs; one that does not leaves its scenario as it is.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The parts, by name.
    pub variants: BTreeMap<String, Variant>,
}

/// One part of the visitors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Its share of the visitors, in proportion to the sum of all shares.
    pub share: u32,
    /// The scenario it gets; the one that is divided if left out, which makes it the control group.
    #[serde(default)]
    pub scenario: Option<String>,
}

/// Where a visitor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment<'a> {
    /// The experiment.
    pub experiment: &'a str,
    /// The variant.
    pub variant: &'a str,
    /// The scenario that makes the list.
    pub scenario: &'a str,
}

/// What is wrong with an experiment.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ExperimentError {
    /// A scenario that does not exist.
    #[error("it names scenario {found:?}, which is not one of [scenarios.*]: add it, or name another")]
    Scenario {
        /// The name.
        found: String,
    },
    /// No variant, or more than are counted apart.
    #[error("it has {found} variants, expected 1 to {most}", most = limits::VARIANTS_MAX)]
    Variants {
        /// How many.
        found: usize,
    },
    /// A variant that cannot stand in for the scenario: requests for one are no requests for the other, or ask for something else.
    #[error(
        "scenario {found:?} answers other requests than {scenario:?}: both make a list for item_ids, or rank item_ids, or take none; and both or neither have pages"
    )]
    Unlike {
        /// The variant's.
        found: String,
        /// The one that is divided.
        scenario: String,
    },
    /// A name that no metric and no log can carry.
    #[error("variant {found:?}: a name is 1 to 64 letters, digits, '-' and '_'")]
    Name {
        /// The name.
        found: String,
    },
    /// Nobody is in any variant.
    #[error("the shares of its variants are all 0: give at least one a share")]
    NoShare,
    /// Two experiments divide the same scenario.
    #[error("scenario {scenario:?} is in experiment {other:?} already: a scenario is in one experiment at most")]
    Overlap {
        /// The scenario.
        scenario: String,
        /// The other experiment.
        other: String,
    },
}

fn yes() -> bool {
    true
}

impl Experiment {
    /// The variant of a visitor, by the name of the experiment and the visitor's id; none if no variant has a share.
    #[must_use]
    pub fn variant(&self, name: &str, visitor: &str) -> Option<(&str, &Variant)> {
        let total: u64 = self.variants.values().map(|variant| u64::from(variant.share)).sum();
        let [a, b, c, d, e, f, g, h, ..] = sha256(&[name.as_bytes(), visitor.as_bytes()]);
        let hash = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let mut place = u64::try_from((u128::from(hash) * u128::from(total)) >> 64).unwrap_or(0);
        for (name, variant) in &self.variants {
            let share = u64::from(variant.share);
            if place < share {
                return Some((name, variant));
            }
            place -= share;
        }
        None
    }
}

/// Where a visitor of a scenario is: none if no experiment that runs divides it. One hash if one does.
#[must_use]
pub fn assign<'a>(
    experiments: &'a BTreeMap<String, Experiment>,
    scenario: &str,
    visitor: &str,
) -> Option<Assignment<'a>> {
    let divides = |(_, one): &(&String, &Experiment)| one.enabled && one.scenario == scenario;
    let (experiment, divided) = experiments.iter().find(divides)?;
    let (variant, found) = divided.variant(experiment, visitor)?;
    Some(Assignment { experiment, variant, scenario: found.scenario.as_deref().unwrap_or(&divided.scenario) })
}

/// Checks every experiment against the scenarios there are.
///
/// # Errors
/// The name of the first one at fault, and what is wrong with it.
pub fn validate(
    experiments: &BTreeMap<String, Experiment>,
    scenarios: &BTreeMap<String, Scenario>,
) -> Result<(), (String, ExperimentError)> {
    let mut divided: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, experiment) in experiments {
        let fail = |error| Err((name.clone(), error));
        if !(1..=limits::VARIANTS_MAX).contains(&experiment.variants.len()) {
            return fail(ExperimentError::Variants { found: experiment.variants.len() });
        }
        let named = experiment.variants.values().filter_map(|variant| variant.scenario.as_ref());
        if let Some(found) = named.chain([&experiment.scenario]).find(|name| !scenarios.contains_key(*name)) {
            return fail(ExperimentError::Scenario { found: found.clone() });
        }
        let asked = |name: &String| scenarios.get(name).map(what_is_asked);
        let mut variants = experiment.variants.values().filter_map(|variant| variant.scenario.as_ref());
        if let Some(found) = variants.find(|name| asked(name) != asked(&experiment.scenario)) {
            let scenario = experiment.scenario.clone();
            return fail(ExperimentError::Unlike { found: found.clone(), scenario });
        }
        let plain = |name: &str| {
            let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
            letters && (1..=64).contains(&name.len())
        };
        if let Some(found) = experiment.variants.keys().find(|name| !plain(name)) {
            return fail(ExperimentError::Name { found: found.clone() });
        }
        if experiment.variants.values().all(|variant| variant.share == 0) {
            return fail(ExperimentError::NoShare);
        }
        if experiment.enabled
            && let Some(other) = divided.insert(&experiment.scenario, name)
        {
            return fail(ExperimentError::Overlap { scenario: experiment.scenario.clone(), other: other.to_owned() });
        }
    }
    Ok(())
}

/// What a request of a scenario asks: whether for a list for the items that it names, for these in order, and for one page of several. A list for
/// somebody and one for nobody in particular are asked for alike.
fn what_is_asked(scenario: &Scenario) -> (bool, bool, bool) {
    (scenario.based_on.has_seeds(), scenario.based_on == Basis::List, scenario.paged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn experiment(shares: &[(&str, u32)]) -> Experiment {
        let variant = |(name, share): &(&str, u32)| ((*name).to_owned(), Variant { share: *share, scenario: None });
        Experiment { scenario: "home".to_owned(), enabled: true, variants: shares.iter().map(variant).collect() }
    }

    #[test]
    fn the_variant_is_that_of_the_formula_and_stays_for_ever() {
        let halves = experiment(&[("a", 50), ("b", 50)]);
        // Computed by another program: int(sha256(b"blend\0user-17\0").hexdigest()[:16], 16) * 100 >> 64.
        let place = |visitor: &str| halves.variant("blend", visitor).map(|(name, _)| name.to_owned());
        let found: Vec<_> =
            ["user-1", "user-2", "user-3", "user-4", "user-17"].map(place).into_iter().flatten().collect();
        assert_eq!(found, ["b", "b", "a", "a", "a"]);
    }

    #[test]
    fn visitors_are_divided_by_share() {
        let uneven = experiment(&[("a", 10), ("b", 0), ("c", 30)]);
        let mut count = BTreeMap::new();
        for visitor in 0..20_000 {
            let (name, _) = uneven.variant("uneven", &visitor.to_string()).unwrap();
            *count.entry(name).or_insert(0) += 1;
        }
        // Five standard deviations of a binomial count are 306.
        assert!((count["a"] - 5_000_i32).abs() < 306 && !count.contains_key("b"), "{count:?}");
        assert_eq!(experiment(&[("a", 0)]).variant("x", "y"), None);
    }

    proptest! {
        /// Only those whose stretch grows move, and they move into it: the last variant can be ramped up without reshuffling the others.
        #[test]
        fn growing_the_last_share_moves_visitors_only_into_it(visitor in "[a-z0-9]{1,12}", small in 1_u32..50, more in 1_u32..50) {
            let with = |share: u32| experiment(&[("a", 100 - share), ("b", share)]);
            let (before, after) = (with(small), with((small + more).min(100)));
            let name = |one: &Experiment| one.variant("ramp", &visitor).map(|(name, _)| name.to_owned());
            if name(&before) == Some("b".to_owned()) {
                prop_assert_eq!(name(&after), Some("b".to_owned()));
            }
        }
    }

    #[test]
    fn what_cannot_run_is_refused() {
        let scenarios = Scenario::built_in();
        let of = |one: Experiment| validate(&BTreeMap::from([("x".to_owned(), one)]), &scenarios).map_err(|(_, e)| e);
        assert_eq!(of(experiment(&[("a", 1)])), Ok(()));
        assert_eq!(of(experiment(&[])), Err(ExperimentError::Variants { found: 0 }));
        assert_eq!(of(experiment(&[("a", 0)])), Err(ExperimentError::NoShare));
        assert!(matches!(of(experiment(&[("a b", 1)])), Err(ExperimentError::Name { .. })));
        let nowhere = Experiment { scenario: "attic".to_owned(), ..experiment(&[("a", 1)]) };
        assert!(matches!(of(nowhere), Err(ExperimentError::Scenario { .. })));
        for (scenario, other, is_like) in [
            ("home", "cart", false),
            ("home", "next_page", false),
            ("home", "rerank", false),
            ("home", "popular", true),
            ("cart", "rerank", false),
            ("rerank", "similar", false),
            ("cart", "similar", true),
        ] {
            let mut one = Experiment { scenario: scenario.to_owned(), ..experiment(&[("a", 1)]) };
            one.variants.get_mut("a").unwrap().scenario = Some(other.to_owned());
            let found = of(one);
            let is_unlike = matches!(found, Err(ExperimentError::Unlike { .. }));
            assert_eq!((found.is_ok(), is_unlike), (is_like, !is_like), "{scenario} {other}");
        }
        let twice = BTreeMap::from(["x", "y"].map(|name| (name.to_owned(), experiment(&[("a", 1)]))));
        assert!(matches!(validate(&twice, &scenarios), Err((name, ExperimentError::Overlap { .. })) if name == "y"));
    }

    #[test]
    fn an_experiment_that_does_not_run_leaves_its_scenario_alone() {
        let mut one = experiment(&[("a", 1)]);
        one.variants.get_mut("a").unwrap().scenario = Some("other".to_owned());
        let all = |one: &Experiment| BTreeMap::from([("x".to_owned(), one.clone())]);
        let on = all(&one);
        let expected = Assignment { experiment: "x", variant: "a", scenario: "other" };
        assert_eq!(assign(&on, "home", "v"), Some(expected));
        assert_eq!(assign(&on, "similar", "v"), None);
        one.enabled = false;
        assert_eq!(assign(&all(&one), "home", "v"), None);
    }
}
