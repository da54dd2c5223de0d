//! The rules that a scenario adds to the score, and those that shape the list: boosts, diversity, caps, pins, promotion.

use std::collections::BTreeMap;

use kindred_index::FilterExpr;
use serde::{Deserialize, Serialize};

use super::{ScenarioError, at_most};
use crate::filter::{Filter, FilterSyntaxError, GeoPoint};
use crate::limits;

/// What the clock says of `weekday`.
pub(crate) const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A filter of the settings, checked when it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Filter", into = "Filter")]
pub struct ItemFilter {
    written: Filter,
    expression: FilterExpr,
}

/// Something that is added to the score of the items it holds for: `weight`, times the decay if there is one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boost {
    /// Its name in the reasons.
    pub name: String,
    /// What it adds at most; negative pushes down.
    pub weight: f32,
    /// The requests it holds for: by key of the context, any of these values. `hour` (`0` to `23`) and `weekday` (`mon` to `sun`) are known of
    /// every request; hours may be given as `18-23`. Empty: every request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<String, Vec<String>>,
    /// The items it holds for; all if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<ItemFilter>,
    /// How it falls with the distance of an attribute from a target; not at all if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay: Option<Decay>,
    /// Whether `kindred train --learn-weights` learns how much of it counts, for models whose learned weights the scenario uses: for what is about
    /// items, as their age is, not for what the shop wants.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub learned: bool,
}

/// A function of a number, a time or a place that is 1 at its target and `midpoint` at the distance `scale`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decay {
    /// How it falls.
    pub function: DecayFunction,
    /// The attribute: a number, or the name of a place whose numbers are `<key>.lat` and `<key>.lon`.
    pub key: String,
    /// Where it is 1.
    pub target: Target,
    /// The distance at which it has fallen to `midpoint`: in the attribute's unit, in seconds if the target is `now`, in metres between places.
    pub scale: f64,
    /// What is left at that distance, above 0 and below 1.
    #[serde(default = "half")]
    pub midpoint: f64,
    /// Its value for items without the attribute.
    #[serde(default)]
    pub missing: f64,
}

/// How a decay falls; the names and formulas are those of Qdrant's `lin_decay`, `exp_decay` and `gauss_decay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayFunction {
    /// `max(0, 1 - (1 - midpoint) · distance / scale)`.
    Linear,
    /// `midpoint ^ (distance / scale)`.
    Exp,
    /// `midpoint ^ (distance / scale)²`.
    Gauss,
}

/// Where a decay is 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number, { lat, lon }, \"now\" or \"visitor\"")]
pub enum Target {
    /// At a number.
    Number(f64),
    /// At a place.
    Place(GeoPoint),
    /// At what only the request knows.
    OfRequest(RequestTarget),
}

/// A target that each request has its own of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestTarget {
    /// The time of the request; the attribute is milliseconds since 1970.
    Now,
    /// The place that the request names as the visitor's. Where it names none the boost adds nothing.
    Visitor,
}

/// At most so many items of the list share a value of an attribute. Items without the attribute are not counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// The attribute, one of text values.
    pub key: String,
    /// How many.
    pub at_most: usize,
}

/// An item with a fixed place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The item. It is left out like any other where it is not available, not let pass by a filter or excluded.
    pub item_id: String,
    /// Its place, counted from 1.
    pub position: usize,
}

/// A share of the list that is kept for some items, evenly spread over it; the best of them by score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promotion {
    /// The items.
    pub filter: ItemFilter,
    /// The share, above 0 and at most 1.
    pub share: f64,
}

impl Promotion {
    /// How many of the first so many places belong to it.
    pub fn places_of(&self, first: usize) -> usize {
        // The number nearest to a share that is written in decimals may lie just below it.
        (first as f64 * self.share + 1e-9).floor() as usize
    }
}

fn half() -> f64 {
    0.5
}

impl ItemFilter {
    /// The expression that the index evaluates.
    pub fn expression(&self) -> &FilterExpr {
        &self.expression
    }
}

impl TryFrom<Filter> for ItemFilter {
    type Error = FilterSyntaxError;

    fn try_from(written: Filter) -> Result<Self, Self::Error> {
        let expression = written.clone().expression()?.unwrap_or_else(|| FilterExpr::And(Vec::new()));
        Ok(Self { written, expression })
    }
}

impl From<ItemFilter> for Filter {
    fn from(filter: ItemFilter) -> Self {
        filter.written
    }
}

impl Boost {
    /// Checks every bound.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn validate(&self) -> Result<(), ScenarioError> {
        let wrong = |what| Err(ScenarioError::Rule { rule: format!("boost {:?}", self.name), what });
        if self.name.is_empty() || self.name.len() > limits::RULE_NAME_BYTES_MAX {
            return wrong("its name has 1 to 64 bytes, and is shown in reasons");
        }
        if !self.weight.is_finite() {
            return wrong("its weight is a finite number");
        }
        if self.when.len() > limits::CONTEXT_ENTRIES_MAX || self.when.values().any(Vec::is_empty) {
            return wrong("`when` has at most 32 keys, each with a list of values");
        }
        if self.when.iter().any(|(key, values)| !values.iter().all(|value| may_hold(key, value))) {
            return wrong(
                "`when` knows an hour as 0 to 23, without a zero before it, or as a span such as 22-5, and a weekday as mon, tue, wed, thu, fri, sat or sun",
            );
        }
        match &self.decay {
            Some(decay) if !decay.is_sound() => {
                wrong("a decay has a finite target, a scale above 0, a midpoint between 0 and 1 and a finite `missing`")
            }
            _ => Ok(()),
        }
    }
}

/// Whether what the clock says can be this value, or an hour lie in it.
fn may_hold(key: &str, value: &str) -> bool {
    let hour = |text: &str| text.trim().parse::<u8>().ok().filter(|hour| *hour < 24);
    match (key, value.split_once('-')) {
        ("hour", Some((from, to))) => hour(from).is_some() && hour(to).is_some(),
        ("hour", None) => hour(value).is_some_and(|hour| hour.to_string() == value),
        ("weekday", _) => WEEKDAYS.contains(&value),
        _ => true,
    }
}

impl Decay {
    fn is_sound(&self) -> bool {
        let target = match self.target {
            Target::Number(number) => number.is_finite(),
            Target::Place(place) => place.is_on_earth(),
            Target::OfRequest(_) => true,
        };
        let midpoint = self.midpoint > 0.0 && self.midpoint < 1.0;
        target && midpoint && self.scale > 0.0 && self.scale.is_finite() && self.missing.is_finite()
    }

    /// The value at a distance, which is not negative.
    pub fn at(&self, distance: f64) -> f64 {
        let steps = distance / self.scale;
        match self.function {
            DecayFunction::Linear => (1.0 - (1.0 - self.midpoint) * steps).max(0.0),
            DecayFunction::Exp => self.midpoint.powf(steps),
            DecayFunction::Gauss => self.midpoint.powf(steps * steps),
        }
    }
}

impl GeoPoint {
    /// Whether both degrees are within their range.
    pub fn is_on_earth(&self) -> bool {
        (-90.0..=90.0).contains(&self.lat) && (-180.0..=180.0).contains(&self.lon)
    }

    /// Metres to another place, over a sphere (haversine): within half a percent of the earth's shape.
    pub fn metres_to(&self, other: Self) -> f64 {
        const EARTH_RADIUS_M: f64 = 6_371_008.8;
        let half_sine = |a: f64, b: f64| ((b - a).to_radians() / 2.0).sin().powi(2);
        let across = half_sine(self.lon, other.lon) * self.lat.to_radians().cos() * other.lat.to_radians().cos();
        let h = (half_sine(self.lat, other.lat) + across).clamp(0.0, 1.0);
        2.0 * EARTH_RADIUS_M * h.sqrt().asin()
    }
}

/// Checks the rules that shape a list.
pub(super) fn validate_shape(
    caps: &[Cap],
    pins: &[Pin],
    promote: Option<&Promotion>,
    diversity: f32,
) -> Result<(), ScenarioError> {
    at_most("caps", caps.len(), limits::CAPS_MAX)?;
    at_most("pins", pins.len(), limits::ANSWER_ITEMS_MAX)?;
    let wrong = |rule: String, what| Err(ScenarioError::Rule { rule, what });
    if let Some(cap) = caps.iter().find(|cap| cap.at_most == 0 || cap.key.is_empty()) {
        return wrong(format!("cap on {:?}", cap.key), "it names an attribute and lets at least 1 item pass");
    }
    if let Some(pin) = pins.iter().find(|pin| !(1..=limits::ANSWER_ITEMS_MAX).contains(&pin.position)) {
        return wrong(format!("pin of {:?}", pin.item_id), "its position is 1 to 1000");
    }
    let is_again = |at: usize, pin: &Pin| {
        pins.iter().take(at).any(|other| other.item_id == pin.item_id || other.position == pin.position)
    };
    if let Some((_, pin)) = pins.iter().enumerate().find(|(at, pin)| is_again(*at, pin)) {
        let what = "another pin has the same item or the same position: give each item one position, and each position one item";
        return wrong(format!("pin of {:?}", pin.item_id), what);
    }
    if promote.is_some_and(|promotion| !(promotion.share > 0.0 && promotion.share <= 1.0)) {
        return wrong("promote".to_owned(), "its share is above 0 and at most 1");
    }
    if !(0.0..=limits::DIVERSITY_MAX).contains(&diversity) {
        return wrong("diversity".to_owned(), "it is 0 (none) to 10: what a cosine of 1 to an item above takes off");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decay(function: DecayFunction) -> Decay {
        let target = Target::Number(0.0);
        Decay { function, key: "price".to_owned(), target, scale: 10.0, midpoint: 0.25, missing: 0.0 }
    }

    #[test]
    fn a_decay_is_one_at_its_target_and_the_midpoint_at_its_scale() {
        for function in [DecayFunction::Linear, DecayFunction::Exp, DecayFunction::Gauss] {
            let decay = decay(function);
            assert_eq!(decay.at(0.0), 1.0);
            assert!((decay.at(10.0) - 0.25).abs() < 1e-12, "{function:?}");
            assert!(decay.at(20.0) < decay.at(10.0) && decay.at(1e9) >= 0.0);
        }
        // 1 - 0.75 · 1/2; 1/4 to the power of 1/2; 1/4 to the power of 1/4.
        assert!((decay(DecayFunction::Linear).at(5.0) - 0.625).abs() < 1e-12);
        assert!((decay(DecayFunction::Exp).at(5.0) - 0.5).abs() < 1e-12);
        assert!((decay(DecayFunction::Gauss).at(5.0) - 0.5_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_degree_of_latitude_is_111_kilometres() {
        let berlin = GeoPoint { lat: 52.52, lon: 13.405 };
        let paris = GeoPoint { lat: 48.8566, lon: 2.3522 };
        assert!((berlin.metres_to(paris) - 877_500.0).abs() < 2_000.0, "{}", berlin.metres_to(paris));
        let north = GeoPoint { lat: 53.52, ..berlin };
        assert!((berlin.metres_to(north) - 111_195.0).abs() < 10.0);
    }

    #[test]
    fn rules_are_read_as_they_are_documented() {
        let boost: Boost = serde_json::from_str(
            r#"{"name": "fresh", "weight": 0.3, "when": {"device": ["mobile"]}, "filter": {"key": "category", "match": {"value": "news"}},
                "decay": {"function": "exp", "key": "published_at", "target": "now", "scale": 3600}}"#,
        )
        .unwrap();
        assert_eq!(boost.validate(), Ok(()));
        let decay = boost.decay.unwrap();
        assert_eq!((decay.target, decay.midpoint), (Target::OfRequest(RequestTarget::Now), 0.5));
        let place: Target = serde_json::from_str(r#"{"lat": 1.0, "lon": 2.0}"#).unwrap();
        assert_eq!(place, Target::Place(GeoPoint { lat: 1.0, lon: 2.0 }));
        let array = serde_json::from_str::<Target>("[2.0, 1.0]").unwrap_err();
        assert!(array.to_string().contains("{ lat, lon }"), "{array}");
        let bad = serde_json::from_str::<ItemFilter>(r#"{"key": "category"}"#).unwrap_err();
        assert!(bad.to_string().contains("exactly one of"), "{bad}");
    }

    #[test]
    fn a_share_is_exact_in_its_decimals() {
        let filter: ItemFilter = serde_json::from_str(r#"{"key": "category", "match": {"value": "news"}}"#).unwrap();
        for (share, first, places) in
            [(0.7, 10, 7), (0.29, 100, 29), (0.57, 1_000, 570), (0.1, 9, 0), (0.1, 10, 1), (0.3, 3, 0), (1.0, 7, 7)]
        {
            let promotion = Promotion { filter: filter.clone(), share };
            assert_eq!(promotion.places_of(first), places, "{share} of {first}");
        }
    }

    #[test]
    fn a_place_holds_one_pin_and_an_item_has_one() {
        let pin = |item: &str, position: usize| Pin { item_id: item.to_owned(), position };
        let check = |pins: &[Pin]| validate_shape(&[], pins, None, 0.0).map_err(|error| error.to_string());
        assert_eq!(check(&[pin("a", 1), pin("b", 2)]), Ok(()));
        for pins in [[pin("a", 1), pin("b", 1)], [pin("b", 1), pin("b", 2)]] {
            let error = check(&pins).unwrap_err();
            assert!(error.starts_with("pin of \"b\": another pin"), "{error}");
        }
    }

    #[test]
    fn a_time_that_never_comes_is_refused() {
        let at = |key: &str, value: &str| {
            let when = BTreeMap::from([(key.to_owned(), vec![value.to_owned()])]);
            Boost { name: "b".to_owned(), weight: 1.0, when, ..Boost::default() }.validate()
        };
        for (key, value) in
            [("hour", "0"), ("hour", "23"), ("hour", "22-5"), ("hour", "06-12"), ("weekday", "sat"), ("device", "08")]
        {
            assert_eq!(at(key, value), Ok(()), "{key} {value}");
        }
        for (key, value) in [
            ("hour", "08"),
            ("hour", "24"),
            ("hour", "+8"),
            ("hour", " 8"),
            ("hour", "18-24"),
            ("hour", "evening"),
            ("weekday", "Sat"),
            ("weekday", "saturday"),
        ] {
            let error = at(key, value).unwrap_err().to_string();
            assert!(error.contains("22-5") && error.contains("sat"), "{error}");
        }
    }

    #[test]
    fn each_bound_of_a_boost_has_its_words() {
        let fine = || Boost { name: "b".to_owned(), weight: 1.0, ..Boost::default() };
        let scaled = Decay { scale: 0.0, ..decay(DecayFunction::Exp) };
        for (boost, says) in [
            (Boost { name: String::new(), ..fine() }, "name"),
            (Boost { weight: f32::NAN, ..fine() }, "finite"),
            (Boost { decay: Some(scaled), ..fine() }, "scale"),
            (Boost { when: BTreeMap::from([("device".to_owned(), Vec::new())]), ..fine() }, "`when`"),
        ] {
            let error = boost.validate().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
