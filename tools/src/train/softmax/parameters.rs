//! What is learned, and how a step changes it: Adam (Kingma, Ba 2015) over one record an item.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::super::kernels::{Kernel, Simd, add_scaled, dot, vectorised};
use super::batch::Gradients;
use super::dropout::Dropout;
use crate::matrix::Matrix;

/// Items whose records one task changes.
const TILE: usize = 64;
/// Share of the mean gradient that a step keeps.
const MOMENTUM: f32 = 0.9;
/// Share of the mean squared gradient that a step keeps.
const SECOND_MOMENTUM: f32 = 0.999;
const EPSILON: f32 = 1e-8;
/// Shorter than this, a row counts as one of no direction.
const NORM_MIN: f32 = 1e-12;
/// Vectors of a record: the row, its two moments and its running mean; the same of the shift.
const PARTS: usize = 8;

/// All that is learned.
#[derive(Clone, Debug)]
pub(super) struct Parameters {
    shape: Shape,
    /// For each item `PARTS` vectors of length d.
    records: Vec<f32>,
    /// For each position the logarithm of its weight, two moments and the running mean. The most recent is first.
    positions: Vec<[f32; 4]>,
    /// Target rows: each of length 1.
    pub(super) targets: Matrix,
    /// Context rows: the direction of row plus shift, of length 1.
    pub(super) contexts: Matrix,
}

/// What there is to learn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) n_items: usize,
    pub(super) d: usize,
    /// Positions that have a weight.
    pub(super) history: usize,
    /// Whether context rows point elsewhere than target rows.
    pub(super) asymmetric: bool,
}

/// How far a step goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stride {
    /// Steps so far, this one included.
    pub(super) step: u64,
    pub(super) learning_rate: f32,
    /// Share of shifts that a step of rate 1 takes away.
    pub(super) decay: f32,
    /// Share of the running mean that a step keeps.
    pub(super) averaging: f32,
}

/// What a step of Adam needs to know, the same for all numbers.
#[derive(Clone, Copy)]
struct Adam {
    rate: f32,
    second_scale: f32,
    mean_share: f32,
}

impl Adam {
    fn new(stride: &Stride) -> Self {
        let step = stride.step.min(1 << 30) as i32;
        let correction = 1.0 - f64::from(MOMENTUM).powi(step);
        let second_correction = 1.0 - f64::from(SECOND_MOMENTUM).powi(step);
        Self {
            rate: (f64::from(stride.learning_rate) / correction) as f32,
            second_scale: (1.0 / second_correction) as f32,
            // The mean of the first steps is a plain one: it does not remember the random start.
            mean_share: (1.0 - stride.averaging).max(1.0 / stride.step as f32),
        }
    }

    /// Changes a vector of a record: the vector itself, its moments and its running mean.
    #[inline(always)]
    fn step(self, [values, moments, seconds, means]: [&mut [f32]; 4], gradient: &[f32], decay: f32) {
        for ((((value, moment), second), mean), gradient) in
            values.iter_mut().zip(moments).zip(seconds).zip(means).zip(gradient)
        {
            self.one([value, moment, second, mean], *gradient, decay);
        }
    }

    #[inline(always)]
    fn one(self, [value, moment, second, mean]: [&mut f32; 4], gradient: f32, decay: f32) {
        *moment = MOMENTUM * *moment + (1.0 - MOMENTUM) * gradient;
        *second = SECOND_MOMENTUM * *second + (1.0 - SECOND_MOMENTUM) * gradient * gradient;
        *value -= self.rate * *moment / ((*second * self.second_scale).sqrt() + EPSILON) + decay * *value;
        *mean += self.mean_share * (*value - *mean);
    }
}

impl Parameters {
    /// Random rows, no shift, and weights by position that fall evenly to e⁻².
    pub(super) fn new(shape: Shape, seed: u64) -> Self {
        let Shape { n_items, d, history, .. } = shape;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut records = vec![0.0; n_items * PARTS * d];
        for record in records.chunks_exact_mut(PARTS * d) {
            for value in record.iter_mut().take(d) {
                *value = (rng.random::<f32>() - 0.5) * (12.0 / d as f32).sqrt();
            }
        }
        let mut parameters = Self {
            shape,
            records,
            positions: (0..history).map(|position| [-2.0 * position as f32 / history as f32, 0.0, 0.0, 0.0]).collect(),
            targets: Matrix::zeros(n_items, d),
            contexts: Matrix::zeros(n_items, d),
        };
        parameters.fill(0);
        parameters
    }

    /// The shapes of [`Parameters::tables`].
    pub(super) fn shapes(n_items: usize, d: usize, history: usize) -> [(usize, usize); 2] {
        [(n_items, PARTS * d), (history, 4)]
    }

    /// Every number, from which [`Parameters::set`] makes the same parameters again.
    pub(super) fn tables(&self) -> Vec<Matrix> {
        let Shape { n_items, d, history, .. } = self.shape;
        let data = [self.records.clone(), self.positions.concat()];
        let tables = Self::shapes(n_items, d, history).into_iter().zip(data);
        tables.map(|((rows, cols), data)| Matrix { rows, cols, data }).collect()
    }

    /// Sets every number.
    pub(super) fn set(&mut self, tables: Vec<Matrix>) {
        let mut tables = tables.into_iter();
        self.records = tables.next().unwrap_or_default().data;
        let positions = tables.next().unwrap_or_default().data;
        self.positions = positions.as_chunks::<4>().0.to_vec();
        self.fill(0);
    }

    /// The same with every number replaced by its running mean over the steps (Polyak, Juditsky 1992). No step can follow.
    pub(super) fn averaged(mut self) -> Self {
        for four in &mut self.positions {
            four[0] = four[3];
        }
        self.fill(3);
        self
    }

    /// Weight of each position, the most recent first.
    pub(super) fn position_weights(&self) -> Vec<f32> {
        self.positions.iter().map(|four| four[0].exp()).collect()
    }

    /// Fills the tables of rows from one part of the records: 0 for the values, 3 for their running means.
    fn fill(&mut self, part: usize) {
        let d = self.shape.d;
        let tables = self.targets.data.par_chunks_mut(d).zip(self.contexts.data.par_chunks_mut(d));
        let records = self.records.par_chunks(PARTS * d);
        records.zip(tables).for_each(|(record, (target, context))| {
            let (row, shift) = (&record[part * d..][..d], &record[(part + 4) * d..][..d]);
            vectorised(Rows { row, shift, target, context });
        });
    }

    /// Takes a step against the gradients; `dropout` is what the target rows were scored with.
    pub(super) fn step(&mut self, stride: &Stride, gradients: &Gradients<'_>, dropout: Dropout) {
        let (shape, adam) = (self.shape, Adam::new(stride));
        let decay = stride.decay * stride.learning_rate;
        let d = shape.d;
        let records = self.records.par_chunks_mut(TILE * PARTS * d);
        let tables = self.targets.data.par_chunks_mut(TILE * d).zip(self.contexts.data.par_chunks_mut(TILE * d));
        records.zip(tables).enumerate().for_each(|(tile, (records, (targets, contexts)))| {
            let first = tile * TILE;
            vectorised(Tile { first, shape, adam, decay, gradients, dropout, records, targets, contexts });
        });
        for ([value, moment, second, mean], gradient) in self.positions.iter_mut().zip(gradients.of_positions) {
            adam.one([value, moment, second, mean], *gradient, 0.0);
        }
    }
}

/// The two rows of an item from its record.
struct Rows<'a> {
    row: &'a [f32],
    shift: &'a [f32],
    target: &'a mut [f32],
    context: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { row, shift, target, context } = self;
        let factor = 1.0 / length(simd, row);
        for (target, value) in target.iter_mut().zip(row) {
            *target = factor * value;
        }
        add(row, shift, context);
        let factor = 1.0 / length(simd, context);
        for value in context {
            *value *= factor;
        }
    }
}

/// The step of a tile of items.
struct Tile<'a> {
    first: usize,
    shape: Shape,
    adam: Adam,
    decay: f32,
    gradients: &'a Gradients<'a>,
    dropout: Dropout,
    records: &'a mut [f32],
    targets: &'a mut [f32],
    contexts: &'a mut [f32],
}

impl Kernel for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { shape, adam, decay, gradients, .. } = self;
        let d = shape.d;
        let (mut of_row, mut of_shift, mut sum) = (vec![0.0; d], vec![0.0; d], vec![0.0; d]);
        for (at, record) in self.records.chunks_exact_mut(PARTS * d).enumerate() {
            let item = self.first + at;
            // An item that had no part keeps its moments: with a sampled softmax this is the lazy form of Adam.
            if gradients.inverse.uses(item).is_empty() && gradients.inverse.place(item).is_none() {
                continue;
            }
            let (row, rest) = record.split_at_mut(d);
            let (row_moments, rest) = rest.split_at_mut(d);
            let (row_seconds, rest) = rest.split_at_mut(d);
            let (row_means, rest) = rest.split_at_mut(d);
            let (shift, rest) = rest.split_at_mut(d);
            let (shift_moments, rest) = rest.split_at_mut(d);
            let (shift_seconds, shift_means) = rest.split_at_mut(d);
            let (target, context) = (&mut self.targets[at * d..][..d], &mut self.contexts[at * d..][..d]);
            add(row, shift, &mut sum);
            let dropout = self.dropout;
            Back { item, row, sum: &sum, gradients, dropout }.run(simd, &mut of_row, &mut of_shift);
            adam.step([row, row_moments, row_seconds, row_means], &of_row, 0.0);
            if shape.asymmetric {
                adam.step([shift, shift_moments, shift_seconds, shift_means], &of_shift, decay);
            }
            Rows { row, shift, target, context }.run(simd);
        }
    }
}

/// The gradients by what is learned of an item.
struct Back<'a> {
    item: usize,
    row: &'a [f32],
    /// Row plus shift.
    sum: &'a [f32],
    gradients: &'a Gradients<'a>,
    dropout: Dropout,
}

impl Back<'_> {
    /// Fills in the gradients by row and shift.
    #[inline(always)]
    fn run<S: Simd>(self, simd: S, of_row: &mut [f32], of_shift: &mut [f32]) {
        let Self { item, row, sum, gradients, dropout } = self;
        let d = row.len();
        of_row.fill(0.0);
        if let Some(place) = gradients.inverse.place(item) {
            of_row.copy_from_slice(&gradients.of_targets[place * d..][..d]);
            dropout.apply(item as u64, of_row);
            through_unit(simd, row, of_row);
        }
        of_shift.fill(0.0);
        for (user, weight) in gradients.inverse.uses(item) {
            add_scaled(simd, of_shift, *weight, &gradients.of_users[*user as usize * d..][..d]);
        }
        through_unit(simd, sum, of_shift);
        for (total, gradient) in of_row.iter_mut().zip(of_shift) {
            *total += *gradient;
        }
    }
}

/// A gradient by `row / |row|` into the gradient by the row.
#[inline(always)]
fn through_unit<S: Simd>(simd: S, row: &[f32], gradient: &mut [f32]) {
    let length = length(simd, row);
    let along = dot(simd, row, gradient) / (length * length);
    add_scaled(simd, gradient, -along, row);
    for value in gradient {
        *value /= length;
    }
}

#[inline(always)]
fn length<S: Simd>(simd: S, row: &[f32]) -> f32 {
    dot(simd, row, row).sqrt().max(NORM_MIN)
}

#[inline(always)]
fn add(a: &[f32], b: &[f32], out: &mut [f32]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = a + b;
    }
}

#[cfg(test)]
impl Parameters {
    /// The row of an item, which a slow twin starts from.
    pub(super) fn row(&self, item: usize) -> &[f32] {
        &self.records[item * PARTS * self.shape.d..][..self.shape.d]
    }

    /// The gradients by the row and the shift of an item.
    pub(super) fn gradients_of(&self, item: usize, gradients: &Gradients<'_>, dropout: Dropout) -> [Vec<f32>; 2] {
        let row = self.row(item);
        let (mut of_row, mut of_shift) = (row.to_vec(), row.to_vec());
        Back { item, row, sum: row, gradients, dropout }.run(
            crate::train::kernels::Scalar::new(),
            &mut of_row,
            &mut of_shift,
        );
        [of_row, of_shift]
    }
}
