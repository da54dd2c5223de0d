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
        if !are_neighbours(view.len(), ordinal, ordinals)
            && let Some(found) = wrong_neighbour(view.len(), ordinal, ordinals)
        {
            return Err(wrong(section::NEIGHBOURS, ordinal, found));
        }
        if similarities.iter().fold(false, |wrong, similarity| wrong | !similarity.is_finite()) {
            return Err(wrong(section::NEIGHBOUR_SIMILARITIES, ordinal, "a similarity that is not finite"));
        }
    }
    Ok(())
}

/// Whether a list names other items only, and nothing after its end. Two passes without branches, which the compiler turns into vector
/// instructions.
fn are_neighbours(n: u32, ordinal: u32, ordinals: &[u32]) -> bool {
    let misplaced = |found: u32| (found >= n) & (found != u32::MAX) | (found == ordinal);
    let after_end = |before: u32, found: u32| (before == u32::MAX) & (found != u32::MAX);
    let rest = ordinals.get(1..).unwrap_or_default();
    !(ordinals.iter().fold(false, |wrong, found| wrong | misplaced(*found))
        | ordinals.iter().zip(rest).fold(false, |wrong, (before, found)| wrong | after_end(*before, *found)))
}

/// The slow twin of [`are_neighbours`], which says what is wrong; asked before neighbours are written, too.
pub(super) fn wrong_neighbour(n: u32, ordinal: u32, ordinals: &[u32]) -> Option<&'static str> {
    let used = ordinals.iter().take_while(|neighbour| **neighbour != u32::MAX).count();
    let (own, rest) = ordinals.split_at(used);
    match () {
        () if rest.iter().any(|neighbour| *neighbour != u32::MAX) => Some("a neighbour after the end of the list"),
        () if own.iter().any(|neighbour| *neighbour >= n) => Some("a neighbour that is not an item"),
        () if own.contains(&ordinal) => Some("the item as its own neighbour"),
        () => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The fast check and the slow one must agree on every short list.
    #[test]
    fn fast_and_slow_agree() {
        const VALUES: [u32; 5] = [0, 1, 2, 3, u32::MAX];
        for code in 0..VALUES.len().pow(4) {
            let list: [u32; 4] =
                std::array::from_fn(|place| VALUES[code / VALUES.len().pow(place as u32) % VALUES.len()]);
            assert_eq!(are_neighbours(3, 1, &list), wrong_neighbour(3, 1, &list).is_none(), "{list:?}");
        }
    }
}
