//! The normal equations of one row: `(YᵀY + λI + Σ_k extra_k · y_k y_kᵀ) x = Σ_k target_k · y_k` over its observed pairs.

/// The equations of one user or item; borrows everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Equations<'a> {
    /// `YᵀY + λI`, d × d, the same for all rows.
    pub(crate) gram: &'a [f32],
    /// Y: the factors of the other side, d wide.
    pub(crate) fixed: &'a [f32],
    /// The rows of Y that this one was seen with.
    pub(crate) columns: &'a [u32],
    /// `α · weight` of each pair.
    pub(crate) values: &'a [f32],
    /// Number of factors.
    pub(crate) d: usize,
}

/// One observed pair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    /// The factors of the other side.
    pub(crate) y: &'a [f32],
    /// `c − 1`: the confidence beyond that of an unobserved pair.
    pub(crate) extra: f32,
    /// `c · p`: the confidence times the preference.
    pub(crate) target: f32,
}

impl<'a> Equations<'a> {
    /// Number of observed pairs.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.columns.len()
    }

    /// An observed pair. What is liked has preference 1, what is disliked preference 0, each with its confidence.
    #[inline(always)]
    pub(crate) fn row(&self, k: usize) -> Row<'a> {
        let value = self.values[k];
        let from = self.columns[k] as usize * self.d;
        let target = if value > 0.0 { 1.0 + value } else { 0.0 };
        Row { y: &self.fixed[from..from + self.d], extra: value.abs(), target }
    }

    /// Four observed pairs from `k` on.
    #[inline(always)]
    pub(crate) fn four(&self, k: usize) -> [Row<'a>; 4] {
        [self.row(k), self.row(k + 1), self.row(k + 2), self.row(k + 3)]
    }
}
