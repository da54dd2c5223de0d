//! Rows of codes woven together, sixteen at a time, for comparing with all of them in the order in which they lie.
//!
//! A group of 64 codes has four dimensions of each of sixteen rows. So what is added up for a row stays in one place of a register, there is
//! nothing to fold at the end, and similarities come out side by side. The sums are those of [`CodeKernel::many`], bit by bit.
//!
//! [`CodeKernel::many`]: super::CodeKernel::many

use super::codes::{CODE_GROUP, CODE_ZERO, CodeGroup, CodedQuery};

/// Rows that are woven together.
pub(crate) const WOVEN: usize = 16;

/// Dimensions of a row in one group.
const STRAND: usize = CODE_GROUP / WOVEN;

/// Codes of one row in one group, or what they are multiplied with.
type Strand<T> = [T; STRAND];

/// Weaves up to sixteen rows together, as the file has them; places without a row get the codes of zeros.
pub(crate) fn weave<'a>(rows: impl Iterator<Item = &'a [CodeGroup]>, into: &mut [CodeGroup]) {
    into.fill([CODE_ZERO; CODE_GROUP]);
    for (place, row) in rows.take(WOVEN).enumerate() {
        for (codes, group) in strands(row.as_flattened()).iter().zip(&mut *into) {
            if let Some(strand) = group.as_chunks_mut().0.get_mut(place) {
                *strand = *codes;
            }
        }
    }
}

/// Groups of sixteen rows, for a query of so many groups.
pub(super) fn groups(query: &CodedQuery) -> usize {
    query.width().max(1) * WOVEN
}

/// Codes or values in the pieces that a group has of one row.
pub(super) fn strands<T>(codes: &[T]) -> &[Strand<T>] {
    codes.as_chunks().0
}

/// What every machine has, and the twin of the others.
#[inline(always)]
pub(super) fn portable(query: &CodedQuery, rows: &[CodeGroup], similarities: &mut [f32]) {
    for (sixteen, found) in rows.chunks_exact(groups(query)).zip(similarities.as_chunks_mut::<WOVEN>().0) {
        let mut sums = [0_i32; WOVEN];
        for (group, values) in sixteen.iter().zip(strands(query.whole().as_flattened())) {
            for (sum, codes) in sums.iter_mut().zip(strands(group)) {
                for (code, value) in codes.iter().zip(values) {
                    *sum = sum.wrapping_add(i32::from(*code) * i32::from(*value));
                }
            }
        }
        *found = sums.map(|sum| query.similarity(sum));
    }
}
