//! The longest items: they are, in order, and their copies are copies.

use crate::codes::CodeView;
use crate::error::{LongestProblem, VerifyError};
use crate::longest::LongestView;
use crate::metric::{CODE_GROUP, WOVEN, length, weave};
use crate::row::RowsView;

/// How far the length written down may be from that of the row, as a share of it.
const TOLERANCE: f32 = 1e-5;

/// Checks each of the longest, and that no other item is longer.
pub(super) fn verify(longest: &LongestView<'_>, codes: &CodeView<'_>, rows: &RowsView<'_>) -> Result<(), VerifyError> {
    let wrong = |place: usize, problem| Err(VerifyError::Longest { place, problem });
    let mut others = vec![true; rows.len() as usize];
    let mut before = f32::INFINITY;
    for (place, (ordinal, found)) in longest.ordinals.iter().zip(longest.lengths).enumerate() {
        let Some(row) = rows.row(*ordinal) else { return wrong(place, LongestProblem::OutOfRange) };
        match others.get_mut(*ordinal as usize) {
            Some(other) if *other => *other = false,
            _ => return wrong(place, LongestProblem::Twice),
        }
        let expected = length(&row.values());
        if (expected - found).abs() > TOLERANCE * expected || found.is_nan() {
            return wrong(place, LongestProblem::Length);
        }
        if *found > before {
            return wrong(place, LongestProblem::Order);
        }
        before = *found;
    }
    let mut expected = vec![[0; CODE_GROUP]; codes.width() * WOVEN];
    let sixteens = longest.ordinals.chunks(WOVEN).zip(longest.codes.chunks(expected.len()));
    for (at, (ordinals, found)) in sixteens.enumerate() {
        weave(ordinals.iter().map(|ordinal| codes.row(*ordinal)), &mut expected);
        if found != expected {
            return wrong(at * WOVEN, LongestProblem::Codes);
        }
    }
    let longer = |ordinal: u32| rows.row(ordinal).is_some_and(|row| length(&row.values()) > before * (1.0 + TOLERANCE));
    let left_out = (0..).zip(others).find(|(ordinal, other)| *other && longer(*ordinal));
    if left_out.is_some() {
        return wrong(longest.ordinals.len(), LongestProblem::LeftOut);
    }
    Ok(())
}
