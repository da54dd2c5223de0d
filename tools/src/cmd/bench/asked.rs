//! What the benches ask of a server for: the items of an artifact, and filters on them.

use anyhow::Context;
use kindred::artifact;
use kindred::filter::Filter;
use serde_json::Value;

use super::http::Target;
use crate::load::ask;
use crate::load::plan::Items;

/// What the interactions of a read have to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Histories {
    /// They follow one to three interests, from an item to one of its neighbours in the artifact. Without the artifact any popular items.
    Related,
    /// Any items. No visitor is like that: the vector is near nothing, and takes broader searches.
    Random,
}

impl Histories {
    /// What those are that are drawn from these items, whatever was asked for.
    pub(super) fn of(items: &Items) -> Self {
        // Without the artifact, or in one without neighbours, none is known to be like another.
        if items.related.iter().all(Vec::is_empty) { Self::Random } else { Self::Related }
    }
}

/// A filter on availability and category that about this share of the artifact's items passes, as near as its categories let it; and the share that does.
pub(super) fn filter(target: &Target, share: f64) -> anyhow::Result<(Value, f64)> {
    let artifacts =
        target.artifacts.as_ref().context("--filtered needs --artifacts, to see what categories there are")?;
    let model = artifact::open(&artifact::current(artifacts)?.directory)?;
    let field = model.index().attributes().field("category").context("no item has a category to filter by")?;
    let mut categories: Vec<(&str, u32)> = field.terms().collect();
    categories.sort_by_key(|(_, items)| *items);
    let wanted = share * f64::from(model.len());
    let some = ((share * categories.len() as f64).round() as usize).clamp(1, categories.len().max(1));
    let off = |these: &[(&str, u32)]| (these.iter().map(|(_, items)| f64::from(*items)).sum::<f64>() - wanted).abs();
    let best = categories.windows(some).min_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or_default();
    let names: Vec<&str> = best.iter().map(|(name, _)| *name).collect();
    let filter = serde_json::json!({"must": [
        {"key": "available", "match": {"value": true}},
        {"key": "category", "match": {"any": names}},
    ]});
    let expression = serde_json::from_value::<Filter>(filter.clone())?.expression()?;
    let expression = expression.context("a filter of two conditions is none")?;
    let passing = model.passing(None, &expression)?.cardinality();
    Ok((filter, f64::from(passing) / f64::from(model.len().max(1))))
}

/// All items of the artifact where it is at hand, else the popular ones, of which it is not known which are alike.
pub(super) fn items(target: &Target, histories: Histories) -> anyhow::Result<Items> {
    let Some(artifacts) = &target.artifacts else {
        return Ok(Items { ids: ask::popular_items(target.address)?, related: Vec::new() });
    };
    let model = artifact::open(&artifact::current(artifacts)?.directory)?;
    let ids = (0..model.len()).map(|ordinal| model.index().key(ordinal).unwrap_or_default().to_owned()).collect();
    let related = |ordinal| model.neighbours(ordinal).map(|neighbour| neighbour.ordinal).collect();
    let related = match histories {
        Histories::Related => (0..model.len()).map(related).collect(),
        Histories::Random => Vec::new(),
    };
    Ok(Items { ids, related })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_of_items_that_are_not_known_to_be_alike_are_not_called_related() {
        let of = |related| Histories::of(&Items { ids: vec!["a".to_owned(), "b".to_owned()], related });
        assert_eq!(of(vec![vec![1], Vec::new()]), Histories::Related);
        assert_eq!(of(Vec::new()), Histories::Random, "there is no artifact");
        assert_eq!(of(vec![Vec::new(); 2]), Histories::Random, "the artifact has no neighbours");
    }
}
