//! The checks of a model that read every value.

use super::layout::section::{self, Section};
use super::{Model, ModelError, encoder};

/// Checks all values of the model file; checksums have been checked before.
pub(super) fn values<D: AsRef<[u8]>>(model: &Model<D>) -> Result<(), ModelError> {
    context(model)?;
    neighbours(model)?;
    popularity(model)?;
    model.sessions().check()?;
    encoder::check(&model.encoder())?;
    model
        .catalog()
        .check()
        .map_err(|ordinal| wrong(section::CATALOG_JSON, ordinal, "not a JSON object where its offsets point"))
}

fn context<D: AsRef<[u8]>>(model: &Model<D>) -> Result<(), ModelError> {
    let view = model.view();
    if view.context.is_none() {
        return Ok(());
    }
    for ordinal in 0..view.len() {
        let finite = view.context_row(ordinal).is_some_and(|row| row.values().iter().all(|value| value.is_finite()));
        if !finite {
            return Err(wrong(section::CONTEXT, ordinal, "a value that is not finite"));
        }
    }
    Ok(())
}

fn neighbours<D: AsRef<[u8]>>(model: &Model<D>) -> Result<(), ModelError> {
    let view = model.view();
    let k = model.k_neighbours();
    if k == 0 {
        return Ok(());
    }
    let rows = view.neighbours.chunks_exact(k).zip(view.similarities.chunks_exact(k));
    for (ordinal, (ordinals, similarities)) in (0_u32..).zip(rows) {
        let used = ordinals.iter().take_while(|neighbour| **neighbour != u32::MAX).count();
        let (own, rest) = ordinals.split_at(used);
        if rest.iter().any(|neighbour| *neighbour != u32::MAX) {
            return Err(wrong(section::NEIGHBOURS, ordinal, "a neighbour after the end of the list"));
        }
        if own.iter().any(|neighbour| *neighbour >= view.len()) {
            return Err(wrong(section::NEIGHBOURS, ordinal, "a neighbour that is not an item"));
        }
        if own.contains(&ordinal) {
            return Err(wrong(section::NEIGHBOURS, ordinal, "the item as its own neighbour"));
        }
        if similarities.iter().any(|similarity| !similarity.is_finite()) {
            return Err(wrong(section::NEIGHBOUR_SIMILARITIES, ordinal, "a similarity that is not finite"));
        }
    }
    Ok(())
}

fn popularity<D: AsRef<[u8]>>(model: &Model<D>) -> Result<(), ModelError> {
    let view = model.view();
    for (ordinal, popularity) in (0_u32..).zip(view.popularity) {
        if !(0.0..=1.0).contains(popularity) {
            return Err(wrong(section::POPULARITY, ordinal, "a popularity outside 0 to 1"));
        }
    }
    let mut met = vec![false; view.popularity.len()];
    let mut before = f32::INFINITY;
    for &ordinal in view.popular {
        let Some(met) = met.get_mut(ordinal as usize) else {
            return Err(wrong(section::POPULAR, ordinal, "not an item"));
        };
        if std::mem::replace(met, true) {
            return Err(wrong(section::POPULAR, ordinal, "listed twice"));
        }
        let now = view.popularity(ordinal);
        if now > before {
            return Err(wrong(section::POPULAR, ordinal, "more popular than the one before it"));
        }
        before = now;
    }
    Ok(())
}

fn wrong(section: Section, ordinal: u32, found: &'static str) -> ModelError {
    ModelError::Value { section: section.kind, name: section.name, ordinal, found }
}
