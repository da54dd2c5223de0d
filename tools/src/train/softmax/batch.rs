//! One batch: from examples to the gradients of the loss by all that took part.
//!
//! Work is split into fixed blocks, and what blocks have in common is summed in their order, so that the number of threads
//! changes nothing. Nearly all of it is three products of matrices: scores, gradients by users, gradients by targets.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::super::kernels::{Kernel, Simd, add_scaled, add_scaled4, dot, dot4, vectorised};
use super::dropout::Dropout;
use super::examples::Examples;
use super::exponential::SoftmaxRow;
use super::inverse::Inverse;
use super::parameters::Parameters;
use crate::matrix::Matrix;

/// Rows of a batch that one task scores: their scores stay in a core's cache.
const ROWS: usize = 64;
/// Items whose gradients one task sums.
const COLUMNS: usize = 256;
/// A sum of context rows shorter than this points nowhere.
const NORM_MIN: f32 = 1e-6;

/// What a batch is scored against.
#[derive(Debug, Default)]
pub(super) struct Scored {
    /// The items, ascending; none if all are.
    pub(super) sample: Option<Vec<u32>>,
    /// Added to the scores of a sample to make it stand for all; empty for all.
    pub(super) bias: Vec<f32>,
}

/// Numbers of one batch; allocated once.
#[derive(Debug)]
pub(super) struct Batch {
    d: usize,
    /// User vectors of length 1.
    users: Vec<f32>,
    /// Gradients by the user vectors before they are scaled.
    of_users: Vec<f32>,
    scores: Vec<f32>,
    /// Target rows after dropout.
    targets: Vec<f32>,
    of_targets: Vec<f32>,
    of_positions: Vec<f32>,
    pub(super) inverse: Inverse,
}

/// The gradients of the loss of a batch.
#[derive(Debug)]
pub(super) struct Gradients<'a> {
    /// By the weighted sums that user vectors are made of.
    pub(super) of_users: &'a [f32],
    /// By the target rows of the scored items as they were after dropout.
    pub(super) of_targets: &'a [f32],
    /// By the logarithms of the weights of positions.
    pub(super) of_positions: &'a [f32],
    /// Which items the first two are of.
    pub(super) inverse: &'a Inverse,
}

/// What a batch is computed with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) temperature: f32,
    /// Rows a full batch has: the loss is divided by it.
    pub(super) batch: usize,
    pub(super) context_dropout: Dropout,
    pub(super) target_dropout: Dropout,
}

impl Batch {
    /// For batches against all items.
    pub(super) fn new(n_items: usize, d: usize) -> Self {
        let mut inverse = Inverse::new(n_items);
        inverse.score_all();
        let (users, of_users, scores, targets) = (vec![], vec![], vec![], vec![]);
        Self { d, users, of_users, scores, targets, of_targets: vec![], of_positions: vec![], inverse }
    }

    /// From now on `now` is scored; `before` is what was.
    pub(super) fn score(&mut self, before: &Scored, now: &Scored) {
        if let Some(sample) = &now.sample {
            self.inverse.score(before.sample.as_deref(), sample);
        }
    }

    /// What the last run filled in.
    pub(super) fn gradients(&self) -> Gradients<'_> {
        let Self { of_users, of_targets, of_positions, inverse, .. } = self;
        Gradients { of_users, of_targets, of_positions, inverse }
    }

    /// Fills in the gradients and gives the sum of the examples' losses.
    pub(super) fn run(
        &mut self,
        parameters: &Parameters,
        examples: &Examples,
        rows: &[u32],
        scored: &Scored,
        settings: &Settings,
    ) -> f64 {
        let d = self.d;
        let n = scored.sample.as_ref().map_or(parameters.targets.rows, Vec::len);
        for (table, rows) in [(&mut self.users, rows.len()), (&mut self.of_users, rows.len())] {
            table.resize(rows * d, 0.0);
        }
        self.targets.resize(n * d, 0.0);
        self.of_targets.resize(n * d, 0.0);
        self.scores.resize(rows.len() * n, 0.0);
        let dropout = settings.target_dropout;
        self.targets.par_chunks_mut(COLUMNS * d).enumerate().for_each(|(tile, out)| {
            vectorised(Masked { first: tile * COLUMNS, from: &parameters.targets, scored, dropout, out });
        });
        let weights = parameters.position_weights();
        let inverse = &self.inverse;
        let targets = &self.targets;
        let blocks = self.users.par_chunks_mut(ROWS * d).zip(self.of_users.par_chunks_mut(ROWS * d));
        let sums: Vec<(f64, Vec<f32>)> = blocks
            .zip(self.scores.par_chunks_mut(ROWS * n))
            .zip(rows.par_chunks(ROWS))
            .enumerate()
            .map(|(block, (((users, of_users), scores), rows))| {
                let first = block * ROWS;
                let contexts = &parameters.contexts;
                let weights = &weights;
                let mut norms = vec![0.0; rows.len()];
                let dropout = settings.context_dropout;
                vectorised(Users { first, contexts, examples, weights, rows, dropout, users, norms: &mut norms });
                let users: &[f32] = users;
                let targets = MatRef::from_row_major_slice(targets, n, d);
                let out = MatMut::from_row_major_slice_mut(scores, rows.len(), n);
                let vectors = MatRef::from_row_major_slice(users, rows.len(), d);
                matmul(out, Accum::Replace, vectors, targets.transpose(), 1.0, Par::Seq);
                let scale = 1.0 / settings.batch as f32;
                let mut loss = 0.0;
                for (row, target) in scores.chunks_exact_mut(n).zip(rows) {
                    let Some(wanted) = inverse.place(examples.item(*target) as usize) else { continue };
                    let inverse_temperature = 1.0 / settings.temperature;
                    loss += vectorised(SoftmaxRow { row, bias: &scored.bias, wanted, inverse_temperature, scale });
                }
                let gradient = MatRef::from_row_major_slice(scores, rows.len(), n);
                let out = MatMut::from_row_major_slice_mut(of_users, rows.len(), d);
                matmul(out, Accum::Replace, gradient, targets, 1.0, Par::Seq);
                let mut of_positions = vec![0.0; weights.len()];
                let norms = &norms;
                let of_positions_ref = &mut of_positions;
                vectorised(Back {
                    first,
                    contexts,
                    examples,
                    weights,
                    rows,
                    dropout,
                    users,
                    norms,
                    of_users,
                    of_positions: of_positions_ref,
                });
                (loss, of_positions)
            })
            .collect();
        let mut total = 0.0;
        self.of_positions.clear();
        self.of_positions.resize(weights.len(), 0.0);
        for (loss, of_positions) in sums {
            total += loss;
            self.of_positions.iter_mut().zip(of_positions).for_each(|(sum, part)| *sum += part);
        }
        let gradient = MatRef::from_row_major_slice(&self.scores, rows.len(), n);
        let users = MatRef::from_row_major_slice(&self.users, rows.len(), d);
        self.of_targets.par_chunks_mut(COLUMNS * d).enumerate().for_each(|(tile, out)| {
            let columns = out.len() / d;
            let out = MatMut::from_row_major_slice_mut(out, columns, d);
            let gradient = gradient.subcols(tile * COLUMNS, columns).transpose();
            matmul(out, Accum::Replace, gradient, users, 1.0, Par::Seq);
        });
        let uses = (0..).zip(rows).flat_map(|(row, target)| {
            let weights = &weights;
            uses(examples, weights, *target).map(move |(item, weight, _)| (row, item, weight))
        });
        self.inverse.fill(uses);
        total
    }
}

/// The context of an example: item, weight, position.
#[inline(always)]
fn uses<'a>(
    examples: &'a Examples,
    weights: &'a [f32],
    target: u32,
) -> impl Iterator<Item = (u32, f32, usize)> + Clone + 'a {
    let range = examples.context(target);
    let items = examples.items.get(range.clone()).unwrap_or_default();
    let kinds = examples.weights.get(range).unwrap_or_default();
    items
        .iter()
        .zip(kinds)
        .rev()
        .zip(weights)
        .enumerate()
        .map(|(position, ((item, kind), weight))| (*item, kind * weight, position))
}

/// Target rows after dropout.
struct Masked<'a> {
    first: usize,
    from: &'a Matrix,
    scored: &'a Scored,
    dropout: Dropout,
    out: &'a mut [f32],
}

impl Kernel for Masked<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let d = self.from.cols;
        for (at, out) in self.out.chunks_exact_mut(d).enumerate() {
            let at = self.first + at;
            let item = match &self.scored.sample {
                Some(sample) => sample[at] as usize,
                None => at,
            };
            out.copy_from_slice(self.from.row(item));
            self.dropout.apply(item as u64, out);
        }
    }
}

/// User vectors of a block of examples.
struct Users<'a> {
    first: usize,
    contexts: &'a Matrix,
    examples: &'a Examples,
    weights: &'a [f32],
    rows: &'a [u32],
    dropout: Dropout,
    users: &'a mut [f32],
    norms: &'a mut [f32],
}

impl Kernel for Users<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { contexts, examples, weights, .. } = self;
        let d = contexts.cols;
        for (at, target) in self.rows.iter().enumerate() {
            let out = &mut self.users[at * d..][..d];
            out.fill(0.0);
            let range = examples.context(*target);
            let (end, mut position) = (range.end, 0);
            // From the most recent one back, four at a time.
            while position + 4 <= range.len() {
                let at = end - 1 - position;
                let places = [at, at - 1, at - 2, at - 3];
                let mut scales = [0.0; 4];
                let mut rows: [&[f32]; 4] = [&[]; 4];
                for k in 0..4 {
                    scales[k] = examples.weights[places[k]] * weights[position + k];
                    rows[k] = contexts.row(examples.items[places[k]] as usize);
                }
                add_scaled4(simd, out, scales, rows);
                position += 4;
            }
            while position < range.len() {
                let at = end - 1 - position;
                let scale = examples.weights[at] * weights[position];
                add_scaled(simd, out, scale, contexts.row(examples.items[at] as usize));
                position += 1;
            }
            self.dropout.apply((self.first + at) as u64, out);
            let norm = dot(simd, out, out).sqrt();
            self.norms[at] = norm;
            // A history that cancels itself out points nowhere and teaches nothing.
            let scale = if norm > NORM_MIN { 1.0 / norm } else { 0.0 };
            for value in out {
                *value *= scale;
            }
        }
    }
}

/// Gradients by the scaled user vectors into those by the sums they were made of; and those by the weights of positions.
struct Back<'a> {
    first: usize,
    contexts: &'a Matrix,
    examples: &'a Examples,
    weights: &'a [f32],
    rows: &'a [u32],
    dropout: Dropout,
    users: &'a [f32],
    norms: &'a [f32],
    of_users: &'a mut [f32],
    of_positions: &'a mut [f32],
}

impl Kernel for Back<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { contexts, examples, weights, of_positions, .. } = self;
        let d = contexts.cols;
        for (at, target) in self.rows.iter().enumerate() {
            let (user, gradient) = (&self.users[at * d..][..d], &mut self.of_users[at * d..][..d]);
            let norm = self.norms[at];
            let scale = if norm > NORM_MIN { 1.0 / norm } else { 0.0 };
            let along = dot(simd, user, gradient);
            add_scaled(simd, gradient, -along, user);
            for value in gradient.iter_mut() {
                *value *= scale;
            }
            self.dropout.apply((self.first + at) as u64, gradient);
            let range = examples.context(*target);
            let (end, mut position) = (range.end, 0);
            while position + 4 <= range.len() {
                let at = end - 1 - position;
                let places = [at, at - 1, at - 2, at - 3];
                let mut rows: [&[f32]; 4] = [&[]; 4];
                for k in 0..4 {
                    rows[k] = contexts.row(examples.items[places[k]] as usize);
                }
                let products = dot4(simd, rows, gradient);
                for k in 0..4 {
                    of_positions[position + k] += examples.weights[places[k]] * weights[position + k] * products[k];
                }
                position += 4;
            }
            while position < range.len() {
                let at = end - 1 - position;
                let product = dot(simd, contexts.row(examples.items[at] as usize), gradient);
                of_positions[position] += examples.weights[at] * weights[position] * product;
                position += 1;
            }
        }
    }
}
