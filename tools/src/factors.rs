//! Generated factors: rows and queries that look like those of a factorized shop, from a seed.
//!
//! Real factors are neither uniform nor separate clusters: items gather around genres or brands of Zipf-distributed size, most belong a
//! little to a second one, each gathering has directions of its own in which its items differ, the spectrum falls by a power law,
//! and norms are log-normal and grow with popularity. A query is a session: the recency-weighted mean of 5 to 20 items of one to
//! three gatherings, popular ones more often, and some noise.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::matrix::{Matrix, norm};

/// How the spectrum over all items falls.
const SPECTRUM_DECAY: f32 = -0.45;
/// How the sizes of the gatherings fall.
const SIZE_DECAY: f64 = -0.7;
/// Spread of an item about its gathering, as a share of the distance between gatherings.
const SPREAD: f32 = 0.9;
/// Most of its second gathering that an item has.
const SECOND_MAX: f32 = 0.6;
/// Weight of each further item of a session, from the newest to the oldest.
const SESSION_DECAY: f32 = 0.85;
/// Noise of a query, as a share of its length.
const QUERY_NOISE: f32 = 0.15;

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactorsOptions {
    /// Rows.
    pub n_items: usize,
    /// Length of a row.
    pub dims: usize,
    /// Queries.
    pub n_queries: usize,
    /// The same seed gives the same numbers on every machine.
    pub seed: u64,
}

/// Generated factors.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratedFactors {
    /// n_items × dims; norms differ.
    pub items: Matrix,
    /// n_queries × dims.
    pub queries: Matrix,
    /// How often each item would be interacted with; positive.
    pub popularity: Vec<f32>,
    /// The gathering that each item is in.
    pub homes: Vec<u32>,
    members: Vec<Vec<u32>>,
}

/// The gatherings, and which items are in each.
struct Gatherings {
    centres: Matrix,
    members: Vec<Vec<u32>>,
    /// Running sums of the sizes.
    sizes: Vec<f64>,
}

/// Generates factors. Costs about 2 µs per item of 64 dimensions.
pub fn generate(options: &FactorsOptions) -> GeneratedFactors {
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let FactorsOptions { n_items, dims, .. } = *options;
    let mut gatherings = Gatherings::new(n_items, dims, &mut random);
    let axes = axes(gatherings.members.len(), dims, &mut random);
    let mut items = Matrix::zeros(n_items, dims);
    let mut popularity = Vec::with_capacity(n_items);
    let mut homes = Vec::with_capacity(n_items);
    for item in 0..n_items {
        let home = gatherings.draw(&mut random);
        let second = gatherings.draw(&mut random);
        let share = random.random_range(0.0..SECOND_MAX);
        let taste = normal(&mut random);
        let length = (0.40 * (0.8 * taste + 0.6 * normal(&mut random))).exp();
        let centres = (gatherings.centres.row(home), gatherings.centres.row(second));
        let (own, row) = (axes.row(home), items.row_mut(item));
        for (place, value) in row.iter_mut().enumerate() {
            let at = |row: &[f32]| row.get(place).copied().unwrap_or(0.0);
            *value = at(centres.0) + share * at(centres.1) + at(own) * normal(&mut random);
        }
        scale(row, length);
        popularity.push((1.2 * taste).exp());
        homes.push(home as u32);
        if let Some(members) = gatherings.members.get_mut(home) {
            members.push(item as u32);
        }
    }
    let queries = sessions(options, &items, &popularity, &gatherings, &mut random);
    GeneratedFactors { items, queries, popularity, homes, members: gatherings.members }
}

impl GeneratedFactors {
    /// A table of `k` neighbours per item with their cosines, nearest first, chosen from a sample of its gathering: not the nearest of
    /// all, but as many and as near as a real table has, which is what a benchmark needs. Unused places are `u32::MAX`.
    pub fn neighbours(&self, k: usize, seed: u64) -> (Vec<u32>, Vec<f32>) {
        let unit = self.items.to_unit_length();
        let one = |item: usize| {
            let mut random = ChaCha8Rng::seed_from_u64(seed ^ item as u64);
            let home = self.homes.get(item).map_or(0, |home| *home as usize);
            let members = self.members.get(home).map_or(&[][..], Vec::as_slice);
            let mut sample: Vec<u32> = (0..4 * k).filter_map(|_| members.choose(&mut random).copied()).collect();
            sample.sort_unstable();
            sample.dedup();
            sample.retain(|other| *other as usize != item);
            let cosine = |other: u32| kindred_index::dot(unit.row(item), unit.row(other as usize));
            let mut near: Vec<(f32, u32)> = sample.into_iter().map(|other| (cosine(other), other)).collect();
            near.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
            near.resize(k, (0.0, u32::MAX));
            near
        };
        let table: Vec<(f32, u32)> = (0..self.items.rows).into_par_iter().flat_map_iter(one).collect();
        table.into_iter().map(|(similarity, other)| (other, similarity)).unzip()
    }
}

impl Gatherings {
    fn new(n_items: usize, dims: usize, random: &mut ChaCha8Rng) -> Self {
        // About as many as a shop of this size has brands or genres: 600 for 200,000 items.
        let n = ((n_items as f64).sqrt() * 1.35).ceil().clamp(1.0, 1000.0) as usize;
        let mut centres = Matrix::zeros(n, dims);
        for gathering in 0..n {
            for (value, axis) in centres.row_mut(gathering).iter_mut().zip(1_u16..) {
                *value = f32::from(axis).powf(SPECTRUM_DECAY) * normal(random);
            }
        }
        let mut sum = 0.0;
        let sizes = (1..=n).map(|rank| {
            sum += (rank as f64).powf(SIZE_DECAY);
            sum
        });
        Self { centres, sizes: sizes.collect(), members: vec![Vec::new(); n] }
    }

    /// A gathering, larger ones more often.
    fn draw(&self, random: &mut ChaCha8Rng) -> usize {
        let at = random.random::<f64>() * self.sizes.last().copied().unwrap_or(1.0);
        self.sizes.partition_point(|sum| *sum < at).min(self.sizes.len().saturating_sub(1))
    }
}

/// How far items spread along each axis, for each gathering: its own steepness, its own order of the axes.
fn axes(n: usize, dims: usize, random: &mut ChaCha8Rng) -> Matrix {
    let spectrum = |steepness: f32| (1_u16..).take(dims).map(move |axis| f32::from(axis).powf(steepness));
    let target = SPREAD * spectrum(SPECTRUM_DECAY).map(|value| value * value).sum::<f32>().sqrt();
    let mut axes = Matrix::zeros(n, dims);
    for gathering in 0..n {
        let mut own: Vec<f32> = spectrum(-random.random_range(0.3..0.8)).collect();
        own.shuffle(random);
        scale(&mut own, target);
        axes.row_mut(gathering).copy_from_slice(&own);
    }
    axes
}

/// The queries.
fn sessions(
    options: &FactorsOptions,
    items: &Matrix,
    popularity: &[f32],
    gatherings: &Gatherings,
    random: &mut ChaCha8Rng,
) -> Matrix {
    let mut queries = Matrix::zeros(options.n_queries, options.dims);
    for query in 0..options.n_queries {
        let interests: Vec<usize> = (0..random.random_range(1..=3)).map(|_| gatherings.draw(random)).collect();
        let row = queries.row_mut(query);
        let mut weight = 1.0;
        for _ in 0..random.random_range(5..=20) {
            let interest = interests.get(random.random_range(0..interests.len())).copied().unwrap_or(0);
            let item = choose(gatherings.members.get(interest), options.n_items, popularity, random);
            for (value, part) in row.iter_mut().zip(items.row(item)) {
                *value += weight * part;
            }
            weight *= SESSION_DECAY;
        }
        let noise = QUERY_NOISE * norm(row) / (options.dims as f32).sqrt();
        row.iter_mut().for_each(|value| *value += noise * normal(random));
        scale(row, 1.0);
    }
    queries
}

/// An item of a gathering, the most popular of four drawn; any item where the gathering is empty.
fn choose(members: Option<&Vec<u32>>, n_items: usize, popularity: &[f32], random: &mut ChaCha8Rng) -> usize {
    let popular = |item: usize| popularity.get(item).copied().unwrap_or(0.0);
    let members = members.map_or(&[][..], Vec::as_slice);
    let mut draw = || {
        let any = random.random_range(0..n_items.max(1));
        members.get(any % members.len().max(1)).map_or(any, |item| *item as usize)
    };
    let first = draw();
    (0..3).fold(first, |best, _| {
        let next = draw();
        if popular(next) > popular(best) { next } else { best }
    })
}

/// Gives a row a length. A row of zeros stays.
fn scale(row: &mut [f32], length: f32) {
    let found = norm(row);
    if found > 0.0 {
        row.iter_mut().for_each(|value| *value *= length / found);
    }
}

/// A number of the standard normal distribution, by Box and Muller.
pub(crate) fn normal(random: &mut ChaCha8Rng) -> f32 {
    // 1 - u is in (0, 1], so the logarithm is finite.
    let (u, v): (f32, f32) = (random.random(), random.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: FactorsOptions = FactorsOptions { n_items: 500, dims: 16, n_queries: 20, seed: 7 };

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        assert_eq!(generate(&SMALL), generate(&SMALL));
        assert_ne!(generate(&SMALL).items, generate(&FactorsOptions { seed: 8, ..SMALL }).items);
    }

    #[test]
    fn rows_are_usable_and_their_norms_differ() {
        let factors = generate(&SMALL);
        assert_eq!((factors.items.rows, factors.items.cols, factors.queries.rows), (500, 16, 20));
        assert_eq!(factors.items.first_fault(), None);
        assert_eq!(factors.queries.first_fault(), None);
        let norms = factors.items.norms();
        let (least, most) = norms.iter().fold((f32::MAX, 0.0_f32), |(a, b), norm| (a.min(*norm), b.max(*norm)));
        assert!(most / least > 3.0, "{least} to {most}");
        assert!(factors.popularity.iter().all(|popularity| *popularity > 0.0));
    }

    /// One of these was lost for good where links came from what is near by rows: searches go by codes, which for it end elsewhere.
    #[test]
    fn every_item_is_found_in_a_graph_of_few_links() {
        use kindred_index::build::{GraphOptions, HnswBuilder, build_index};
        use kindred_index::{IndexInput, ItemTables, Metric};

        let factors = generate(&FactorsOptions { n_items: 20_000, dims: 64, n_queries: 20, seed: 7 });
        let keys: Vec<String> = (0..factors.items.rows).map(|row| row.to_string()).collect();
        let tables = ItemTables::new(&keys, &[]).unwrap();
        let (rows, dims) = (&factors.items.data, factors.items.cols);
        let input = IndexInput { tables: &tables, rows, dims, metric: Metric::Cosine };
        let options = GraphOptions { m: 3, ef_construction: 8, seed: 7, ..GraphOptions::default() };
        let built = build_index(&input, &options, &HnswBuilder, &());
        assert!(built.is_ok_and(|built| built.report.unreachable_repaired > 0));
    }

    #[test]
    fn neighbours_are_other_items_nearest_first() {
        let factors = generate(&SMALL);
        let (neighbours, similarities) = factors.neighbours(8, 1);
        assert_eq!((neighbours.len(), similarities.len()), (500 * 8, 500 * 8));
        for (item, (near, how)) in neighbours.chunks(8).zip(similarities.chunks(8)).enumerate() {
            let used = near.iter().take_while(|other| **other != u32::MAX).count();
            assert!(near.iter().skip(used).all(|other| *other == u32::MAX));
            assert!(near.iter().take(used).all(|other| *other as usize != item && (*other as usize) < 500));
            assert!(how.iter().take(used).is_sorted_by(|a, b| a >= b));
        }
    }

    #[test]
    fn normals_are_normal() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let draws: Vec<f32> = (0..20_000).map(|_| normal(&mut random)).collect();
        let mean = draws.iter().sum::<f32>() / draws.len() as f32;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / draws.len() as f32;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }
}
