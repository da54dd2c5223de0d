//! Fitting the weights of sources to what was taken: a conditional logit, as a choice among the candidates of each list (McFadden 1974; ListNet
//! with a single relevant item, Cao et al. 2007).
//!
//! The chance of candidate j of a list is `exp(w·x_j) / Σ_i exp(w·x_i)`, with x_j what the sources say about it, and the w of the least mean
//! `−ln` chance of what was taken is sought, with no weight below 0. That is convex, so coordinates are improved one after the other by Newton
//! steps, halved while they do not help, until none moves. A pass costs a few exponentials for each candidate and weight.
//!
//! That is a fair start, but likeliest is not the same as highest: a source that says nothing of most candidates and much of a few is no straight line.
//! So from there each weight in turn is moved to where NDCG@10 over the lists is greatest, as long as that gains anything (coordinate ascent on the
//! measure itself, Metzler and Croft 2007).

use rayon::prelude::*;

use crate::train::decay;

/// Sources whose weights are fitted; the last is what learned boosts add.
pub const SOURCES: usize = 6;
/// Passes over the weights, at most; some ten are usual.
const PASSES_MAX: usize = 60;
/// A pass that lowers the loss by less than this share is the last.
const TOLERANCE: f64 = 1e-6;
/// What the square of a weight costs, in units of what its source says at most, so that one on which nothing depends stays small.
const RIDGE: f64 = 1e-5;
/// Rounds of moving each weight to where the lists are best, at most.
const ROUNDS_MAX: usize = 4;
/// A move that gains less than this is chance.
const MOVE_GAIN_MIN: f64 = 1e-4;
/// Halvings of a step before the weight stays where it is.
const HALVINGS: usize = 8;

/// What the sources say about the candidates of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidates {
    /// One row a candidate, one number a source.
    pub parts: Vec<[f32; SOURCES]>,
    /// The candidate that was taken, if any was.
    pub taken: Option<usize>,
}

/// The loss and its first and second derivative by one weight, summed over lists.
#[derive(Clone, Copy, Debug, Default)]
struct Slope {
    loss: f64,
    first: f64,
    second: f64,
}

impl Candidates {
    /// How many candidates stand above the one that was taken; of those that score the same, half do.
    pub fn rank(&self, weights: &[f64; SOURCES]) -> Option<usize> {
        let taken = score(self.parts.get(self.taken?)?, weights);
        let (mut above, mut same) = (0, 0_usize);
        for other in self.parts.iter().map(|parts| score(parts, weights)) {
            above += usize::from(other > taken);
            same += usize::from(other == taken);
        }
        Some(above + same.saturating_sub(1) / 2)
    }

    fn slope(&self, weights: &[f64; SOURCES], source: usize) -> Slope {
        let Some(taken) = self.taken.and_then(|taken| self.parts.get(taken)) else { return Slope::default() };
        let scores: Vec<f64> = self.parts.iter().map(|parts| score(parts, weights)).collect();
        let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (mut total, mut mean, mut square) = (0.0, 0.0, 0.0);
        for (parts, score) in self.parts.iter().zip(&scores) {
            let (chance, part) = ((score - greatest).exp(), f64::from(parts[source]));
            total += chance;
            mean += chance * part;
            square += chance * part * part;
        }
        (mean, square) = (mean / total, square / total);
        Slope {
            loss: greatest + total.ln() - score(taken, weights),
            first: mean - f64::from(taken[source]),
            second: square - mean * mean,
        }
    }
}

fn score(parts: &[f32; SOURCES], weights: &[f64; SOURCES]) -> f64 {
    parts.iter().zip(weights).map(|(part, weight)| f64::from(*part) * weight).sum()
}

/// The weights under which what was taken stands highest. Lists of which nothing was taken teach nothing.
pub fn weights(lists: &[Candidates]) -> [f64; SOURCES] {
    if lists.iter().all(|list| list.taken.is_none()) {
        return [0.0; SOURCES];
    }
    let scales = scales(lists);
    let scaled = |list: &Candidates| Candidates {
        parts: list.parts.iter().map(|parts| std::array::from_fn(|at| parts[at] / scales[at] as f32)).collect(),
        taken: list.taken,
    };
    let lists: Vec<Candidates> = lists.par_iter().map(scaled).collect();
    let found = highest(&lists, likeliest(&lists));
    std::array::from_fn(|at| found[at] / scales[at])
}

/// The most that each source says; 1 where it says nothing.
fn scales(lists: &[Candidates]) -> [f64; SOURCES] {
    let parts = lists.iter().flat_map(|list| &list.parts);
    let most = parts.fold([0.0_f32; SOURCES], |most, parts| std::array::from_fn(|at| most[at].max(parts[at].abs())));
    most.map(|most| if most > 0.0 { f64::from(most) } else { 1.0 })
}

/// NDCG@10 over all lists; one of which nothing was taken counts as missed.
fn gain(lists: &[Candidates], weights: &[f64; SOURCES]) -> f64 {
    let gains: Vec<f64> = lists.par_iter().map(|list| list.rank(weights).map_or(0.0, decay::gain)).collect();
    gains.iter().sum::<f64>() / lists.len().max(1) as f64
}

/// From weights to such as put what was taken higher.
fn highest(lists: &[Candidates], start: [f64; SOURCES]) -> [f64; SOURCES] {
    let (mut weights, mut best) = (start, gain(lists, &start));
    for _ in 0..ROUNDS_MAX {
        let before = best;
        for source in 0..SOURCES {
            let others: f64 = (0..SOURCES).filter(|at| *at != source).map(|at| weights[at]).sum();
            let unit = if weights[source] > 0.0 { weights[source] } else { others / 16.0 };
            // Steps of a factor √2, six to either side, and none at all.
            let places = (-6..=6).map(|step| unit * (f64::from(step) / 2.0).exp2()).chain([0.0]);
            for place in places {
                let mut moved = weights;
                moved[source] = place;
                let there = gain(lists, &moved);
                if there > best + MOVE_GAIN_MIN {
                    (weights, best) = (moved, there);
                }
            }
        }
        if best <= before {
            break;
        }
    }
    weights
}

/// The weights under which what was taken is likeliest.
fn likeliest(lists: &[Candidates]) -> [f64; SOURCES] {
    let mut weights = [1.0; SOURCES];
    let mut loss = slope(lists, &weights, 0).loss;
    for _ in 0..PASSES_MAX {
        let before = loss;
        for source in 0..SOURCES {
            let here = slope(lists, &weights, source);
            let mut step = here.first / here.second.max(f64::MIN_POSITIVE);
            for _ in 0..HALVINGS {
                let mut moved = weights;
                moved[source] = (weights[source] - step).max(0.0);
                let there = slope(lists, &moved, source);
                if there.loss < loss {
                    (weights, loss) = (moved, there.loss);
                    break;
                }
                step /= 2.0;
            }
        }
        if before - loss <= TOLERANCE * before.abs() {
            break;
        }
    }
    weights
}

fn slope(lists: &[Candidates], weights: &[f64; SOURCES], source: usize) -> Slope {
    /// Added up block by block and the blocks in order, so that the number of threads changes nothing.
    const BLOCK: usize = 64;
    let add =
        |a: Slope, b: Slope| Slope { loss: a.loss + b.loss, first: a.first + b.first, second: a.second + b.second };
    let of_block =
        |block: &[Candidates]| block.iter().map(|list| list.slope(weights, source)).fold(Slope::default(), add);
    let blocks: Vec<Slope> = lists.par_chunks(BLOCK).map(of_block).collect();
    let sum = blocks.into_iter().fold(Slope::default(), add);
    let n = lists.iter().filter(|list| list.taken.is_some()).count().max(1) as f64;
    let squares: f64 = weights.iter().map(|weight| weight * weight).sum();
    Slope {
        loss: sum.loss / n + RIDGE * squares,
        first: sum.first / n + 2.0 * RIDGE * weights[source],
        second: sum.second / n + 2.0 * RIDGE,
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Lists whose taken candidate is drawn by the model with these weights.
    fn drawn(n: usize, truth: [f64; SOURCES]) -> Vec<Candidates> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut list = || {
            let parts: Vec<[f32; SOURCES]> = (0..20).map(|_| std::array::from_fn(|_| rng.random::<f32>())).collect();
            let chances: Vec<f64> = parts.iter().map(|parts| score(parts, &truth).exp()).collect();
            let mut left = rng.random::<f64>() * chances.iter().sum::<f64>();
            let taken = chances.iter().position(|chance| {
                left -= chance;
                left <= 0.0
            });
            Candidates { parts, taken }
        };
        (0..n).map(|_| list()).collect()
    }

    #[test]
    fn weights_that_lists_were_drawn_by_are_found_again() {
        let truth = [4.0, 0.0, 1.0, 0.0, 9.0, 2.0];
        let found = likeliest(&drawn(20_000, truth));
        for (found, truth) in found.iter().zip(truth) {
            assert!((found - truth).abs() < 0.2, "{found} for {truth}");
        }
    }

    #[test]
    fn no_other_weights_are_likelier() {
        let lists = drawn(500, [2.0, 3.0, 0.0, 1.0, 0.0, 0.0]);
        let best = likeliest(&lists);
        let loss = slope(&lists, &best, 0).loss;
        for source in 0..SOURCES {
            for change in [-0.05, 0.05] {
                let mut other = best;
                other[source] = (other[source] + change).max(0.0);
                assert!(slope(&lists, &other, 0).loss >= loss - 1e-6, "source {source} by {change}");
            }
        }
    }

    #[test]
    fn the_measure_decides_where_likelihood_is_led_astray() {
        // Of every four lists one is decided by the second source, which everywhere else says a little about what is not taken.
        let list = |at: usize| {
            let row = |first: f32, second: f32| [first, second, 0.0, 0.0, 0.0, 0.0];
            let crowd = |n: usize, second: f32| (0..n).map(move |_| row(0.5, second));
            match at % 4 {
                0 => Candidates { parts: crowd(12, 0.0).chain([row(0.45, 0.001)]).collect(), taken: Some(12) },
                _ => Candidates { parts: crowd(12, 0.0002).chain([row(0.7, 0.0)]).collect(), taken: Some(12) },
            }
        };
        let lists: Vec<Candidates> = (0..400).map(list).collect();
        let found = weights(&lists);
        assert!(gain(&lists, &found) > 0.99, "{found:?}: {}", gain(&lists, &found));
        assert!(found[1] > 50.0 * found[0], "{found:?}");
    }

    #[test]
    fn the_slope_is_that_of_the_loss() {
        let (lists, at) = (drawn(50, [1.0; SOURCES]), [0.7, 0.2, 1.5, 0.1, 3.0, 0.4]);
        for source in 0..SOURCES {
            let beside = |change: f64| {
                let mut weights = at;
                weights[source] += change;
                slope(&lists, &weights, source)
            };
            let (less, here, more) = (beside(-1e-4), beside(0.0), beside(1e-4));
            assert!((here.first - (more.loss - less.loss) / 2e-4).abs() < 1e-6);
            assert!((here.second - (more.first - less.first) / 2e-4).abs() < 1e-6);
        }
    }

    #[test]
    fn ranks_count_what_stands_above_and_half_of_what_is_level() {
        let row = |vector: f32| [vector, 0.0, 0.0, 0.0, 0.0, 0.0];
        let list = Candidates { parts: vec![row(3.0), row(1.0), row(1.0), row(2.0)], taken: Some(1) };
        let by_vector = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(list.rank(&by_vector), Some(2));
        assert_eq!(list.rank(&[0.0; SOURCES]), Some(1));
        assert_eq!(Candidates { taken: None, ..list }.rank(&by_vector), None);
        assert_eq!(weights(&[]), [0.0; SOURCES], "nothing teaches nothing");
    }
}
