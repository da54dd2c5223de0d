//! The graph: levels agree with slots and entry point; links lead to items on their level.

use crate::error::{LinkProblem, VerifyError};
use crate::format::NONE;
use crate::graph::GraphView;

/// The number of links on level 0, and on the levels above.
pub(super) fn verify(graph: &GraphView<'_>) -> Result<(u64, u64), VerifyError> {
    levels(graph)?;
    let mut links0 = 0;
    for (ordinal, links) in (0..).zip(graph.links0.chunks_exact(graph.m0_stride as usize)) {
        links0 += check(graph, ordinal, 0, links)?;
    }
    // Slots are in order of ordinals and levels, as `levels` has checked.
    let mut slots = graph.upper_links.chunks_exact(graph.m as usize);
    let mut upper = 0;
    for (ordinal, top) in (0..).zip(graph.levels) {
        for (level, links) in (1..=u32::from(*top)).zip(&mut slots) {
            upper += check(graph, ordinal, level, links)?;
        }
    }
    Ok((links0, upper))
}

fn levels(graph: &GraphView<'_>) -> Result<(), VerifyError> {
    let wrong = |ordinal, field, expected, found| Err(VerifyError::Level { ordinal, field, expected, found });
    let mut slots = 0_u64;
    for ((ordinal, level), slot) in (0..).zip(graph.levels).zip(graph.upper_index) {
        let (level, slot) = (u32::from(*level), u64::from(*slot));
        if level > graph.max_level {
            return wrong(ordinal, "the level", u64::from(graph.max_level), u64::from(level));
        }
        let expected = if level == 0 { u64::from(NONE) } else { slots };
        if slot != expected {
            return wrong(ordinal, "the first slot", expected, slot);
        }
        slots += u64::from(level);
    }
    if let Some(level) = graph.levels.get(graph.entry_point as usize)
        && u32::from(*level) != graph.max_level
    {
        return wrong(graph.entry_point, "the level (it is the entry point)", graph.max_level.into(), (*level).into());
    }
    let found = (graph.upper_links.len() / graph.m as usize) as u64;
    if found != slots {
        return wrong(graph.n.saturating_sub(1), "the number of slots up to that", slots, found);
    }
    Ok(())
}

/// Checks the links of one item on one level and counts them.
fn check(graph: &GraphView<'_>, ordinal: u32, level: u32, links: &[u32]) -> Result<u64, VerifyError> {
    // One pass without branches, which the compiler turns into vector instructions; which link is wrong is found out afterwards.
    let (mut wrong, mut used, mut before) = (false, 0, 0);
    for link in links {
        let unused = *link == NONE;
        wrong |= (*link >= graph.n) & !unused | (*link == ordinal);
        used += u32::from(!unused);
    }
    for link in links {
        wrong |= (before == NONE) & (*link != NONE);
        before = *link;
    }
    if wrong || level > 0 {
        check_each(graph, ordinal, level, links)?;
    }
    Ok(u64::from(used))
}

/// The slow twin of [`check`], which says what is wrong; and the only check of levels, which few links need.
fn check_each(graph: &GraphView<'_>, ordinal: u32, level: u32, links: &[u32]) -> Result<(), VerifyError> {
    let mut ended = false;
    for (place, &found) in (0..).zip(links) {
        let on_level = || graph.levels.get(found as usize).is_some_and(|top| u32::from(*top) >= level);
        let problem = match found {
            NONE => {
                ended = true;
                continue;
            }
            _ if ended => LinkProblem::AfterUnused,
            _ if found >= graph.n => LinkProblem::OutOfRange,
            _ if found == ordinal => LinkProblem::ToItself,
            _ if !on_level() => LinkProblem::NotOnLevel,
            _ => continue,
        };
        return Err(VerifyError::Link { ordinal, level, place, found, problem });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fast check and the slow one must agree on every short list of good and bad links.
    #[test]
    fn fast_and_slow_agree() {
        const VALUES: [u32; 5] = [0, 1, 2, 3, NONE];
        let levels = [0; 3];
        let graph = GraphView {
            n: 3,
            m: 4,
            m0_stride: 16,
            max_level: 0,
            entry_point: 0,
            links0: &[],
            levels: &levels,
            upper_index: &[],
            upper_links: &[],
        };
        for code in 0..VALUES.len().pow(4) {
            let links: [u32; 4] =
                std::array::from_fn(|place| VALUES[code / VALUES.len().pow(place as u32) % VALUES.len()]);
            let used = links.iter().filter(|link| **link != NONE).count() as u64;
            assert_eq!(check(&graph, 1, 0, &links), check_each(&graph, 1, 0, &links).map(|()| used), "{links:?}");
        }
    }
}
