#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::batch::{Batch, Scored, Settings};
use super::dropout::Dropout;
use super::exponential::{SoftmaxRow, exp};
use super::inverse::Inverse;
use super::parameters::{Parameters, Shape};
use super::*;
use crate::dataset::Interactions;
use crate::train::kernels::vectorised;

/// Users who each stay with one of `groups` groups of ten items and go through it in order, from anywhere, with some noise.
const AGELESS: Fading = Fading { half_life_days: None };

fn walks(n_users: u32, groups: u32, each: usize, seed: u64) -> Interactions {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut out = Interactions::default();
    for user in 0..n_users {
        let group = rng.random_range(0..groups);
        let mut at = rng.random_range(0..10);
        for time in 0..each {
            out.user.push(user);
            out.item.push(group * 10 + at);
            out.kind.push((time % 3 == 2).into());
            out.weight.push(if time % 3 == 2 { 2.0 } else { 1.0 });
            out.time_ms.push(time as i64);
            at = (at + if rng.random::<f32>() < 0.1 { 3 } else { 1 }) % 10;
        }
    }
    out
}

fn data(interactions: &Interactions, n_users: usize, n_items: usize) -> TrainingData<'_> {
    TrainingData { interactions, n_users, n_items }
}

/// The slow twin, in double precision: the loss of a batch by its definition, given what is learned.
struct Slow<'a> {
    rows: Vec<Vec<f64>>,
    shifts: Vec<Vec<f64>>,
    /// Logarithms of the weights.
    positions: Vec<f64>,
    examples: &'a Examples,
    batch: &'a [u32],
    scored: &'a Scored,
    settings: Settings,
}

fn direction(row: &[f64]) -> Vec<f64> {
    let norm = row.iter().map(|value| value * value).sum::<f64>().sqrt();
    row.iter().map(|value| value / norm).collect()
}

/// The factor that dropout multiplies each number of a row by.
fn mask(dropout: Dropout, row: usize, d: usize) -> Vec<f64> {
    let mut ones = vec![1.0_f32; d];
    dropout.apply(row as u64, &mut ones);
    ones.into_iter().map(f64::from).collect()
}

impl Slow<'_> {
    fn loss(&self) -> f64 {
        let d = self.rows[0].len();
        let all: Vec<u32> = (0..self.rows.len() as u32).collect();
        let scored = self.scored.sample.as_ref().unwrap_or(&all);
        let temperature = f64::from(self.settings.temperature);
        let mut loss = 0.0;
        for (row, target) in self.batch.iter().enumerate() {
            let mut sum = vec![0.0; d];
            for (position, at) in self.examples.context(*target).rev().enumerate() {
                let item = self.examples.items[at] as usize;
                let context: Vec<f64> =
                    self.rows[item].iter().zip(&self.shifts[item]).map(|(row, shift)| row + shift).collect();
                let weight = f64::from(self.examples.weights[at]) * self.positions[position].exp();
                for (sum, value) in sum.iter_mut().zip(direction(&context)) {
                    *sum += weight * value;
                }
            }
            let keep = mask(self.settings.context_dropout, row, d);
            sum.iter_mut().zip(keep).for_each(|(sum, keep)| *sum *= keep);
            let user = direction(&sum);
            let wanted = self.examples.item(*target);
            let score = |item: u32| {
                let keep = mask(self.settings.target_dropout, item as usize, d);
                let target = direction(&self.rows[item as usize]);
                user.iter().zip(target).zip(keep).map(|((u, t), k)| u * t * k).sum::<f64>() / temperature
            };
            let normaliser: f64 = scored
                .iter()
                .enumerate()
                .map(|(place, item)| {
                    let bias = self.scored.bias.get(place).filter(|_| *item != wanted).copied().unwrap_or(0.0);
                    (score(*item) + f64::from(bias)).exp()
                })
                .sum();
            loss += normaliser.ln() - score(wanted);
        }
        loss / self.settings.batch as f64
    }

    /// The slope of the loss by one number, by central differences.
    fn slope(&mut self, number: impl Fn(&mut Self) -> &mut f64) -> f64 {
        let step = 1e-5;
        *number(self) += step;
        let above = self.loss();
        *number(self) -= 2.0 * step;
        let below = self.loss();
        *number(self) += step;
        (above - below) / (2.0 * step)
    }
}

#[test]
fn loss_and_gradients_are_those_of_the_slow_twin() {
    for (seed, asymmetric, dropout, sampled) in
        [(1, true, 0.0, false), (2, false, 0.25, false), (3, true, 0.25, true), (4, true, 0.4, false)]
    {
        let (n_items, d, history) = (30, 7, 5);
        let interactions = walks(16, 3, 8, seed);
        let examples = Examples::of(&data(&interactions, 20, n_items), &[1.0, 2.5], history, AGELESS);
        let parameters = Parameters::new(Shape { n_items, d, history, asymmetric }, seed);
        let rows: Vec<u32> = examples.targets.iter().copied().step_by(3).collect();
        let settings = Settings {
            temperature: 0.3,
            batch: 100,
            context_dropout: Dropout::new(dropout, seed),
            target_dropout: Dropout::new(dropout, seed + 100),
        };
        let mut scored = Scored::default();
        let mut batch = Batch::new(n_items, d);
        if sampled {
            let mut sample: Vec<u32> = rows.iter().map(|target| examples.item(*target)).chain([3, 7, 29]).collect();
            sample.sort_unstable();
            sample.dedup();
            let bias = (0..sample.len()).map(|place| place as f32 * 0.1).collect();
            scored = Scored { sample: Some(sample), bias };
            batch.score(&Scored::default(), &scored);
        }
        let loss = batch.run(&parameters, &examples, &rows, &scored, &settings) / settings.batch as f64;
        let wide = |row: &[f32]| row.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
        let mut slow = Slow {
            rows: (0..n_items).map(|item| wide(parameters.row(item))).collect(),
            shifts: vec![vec![0.0; d]; n_items],
            positions: parameters.position_weights().iter().map(|weight| f64::from(*weight).ln()).collect(),
            examples: &examples,
            batch: &rows,
            scored: &scored,
            settings,
        };
        let expected = slow.loss();
        assert!((loss - expected).abs() < 1e-5 * expected, "{loss} against {expected}");
        for item in (0..n_items).step_by(3) {
            let [of_row, of_shift] = parameters.gradients_of(item, &batch.gradients(), settings.target_dropout);
            for at in 0..d {
                let by_row = slow.slope(|slow| &mut slow.rows[item][at]);
                let by_shift = slow.slope(|slow| &mut slow.shifts[item][at]);
                let (row, shift) = (f64::from(of_row[at]), f64::from(of_shift[at]));
                assert!((row - by_row).abs() < 2e-4, "{seed}: row {item}, {at}: {row} against {by_row}");
                assert!((shift - by_shift).abs() < 2e-4, "{seed}: shift {item}, {at}: {shift} against {by_shift}");
            }
        }
        for position in 0..history {
            let by_position = slow.slope(|slow| &mut slow.positions[position]);
            let found = f64::from(batch.gradients().of_positions[position]);
            assert!((found - by_position).abs() < 2e-4, "{seed}: position {position}: {found} against {by_position}");
        }
    }
}

proptest! {
    #[test]
    fn the_exponential_is_within_a_millionth(x in -87.0_f32..88.0) {
        let exact = f64::from(x).exp();
        prop_assert!((f64::from(exp(x)) / exact - 1.0).abs() < 3e-7, "e^{} is {} for {}", x, exp(x), exact);
        prop_assert!(exp(x - 180.0) < 2e-38);
    }

    #[test]
    fn a_row_of_scores_becomes_its_gradient(
        row in prop::collection::vec(-1.0_f32..1.0, 1..70),
        wanted in 0..70_usize,
        temperature in 0.02_f32..1.0,
        with_bias in any::<bool>(),
    ) {
        let wanted = wanted % row.len();
        let bias: Vec<f32> = if with_bias { (0..row.len()).map(|at| at as f32 * 0.05).collect() } else { vec![] };
        let score = |at: usize| {
            let bias = bias.get(at).filter(|_| at != wanted).copied().unwrap_or(0.0);
            f64::from(row[at]) / f64::from(temperature) + f64::from(bias)
        };
        let normaliser: f64 = (0..row.len()).map(|at| score(at).exp()).sum();
        let mut fast = row.clone();
        let inverse_temperature = 1.0 / temperature;
        let loss = vectorised(SoftmaxRow { row: &mut fast, bias: &bias, wanted, inverse_temperature, scale: 0.5 });
        prop_assert!((loss - (normaliser.ln() - score(wanted))).abs() < 1e-4, "{}", loss);
        for (at, fast) in fast.iter().enumerate() {
            let share = score(at).exp() / normaliser - f64::from(u8::from(at == wanted));
            let slow = 0.5 * share / f64::from(temperature);
            prop_assert!((f64::from(*fast) - slow).abs() < 1e-4 / f64::from(temperature), "{} against {}", fast, slow);
        }
    }

    #[test]
    fn uses_are_found_by_item(uses in prop::collection::vec((0..5_u32, 0..8_u32), 0..40)) {
        let mut sorted = uses.clone();
        sorted.sort_unstable();
        let mut inverse = Inverse::new(8);
        for round in 0..2 {
            inverse.fill(sorted.iter().map(|(row, item)| (*row, *item, *row as f32 + round as f32)));
            for item in 0..8 {
                let slow: Vec<_> = sorted.iter().filter(|one| one.1 == item).map(|(row, _)| (*row, *row as f32 + round as f32)).collect();
                prop_assert_eq!(inverse.uses(item as usize), slow.as_slice());
            }
        }
        prop_assert!(inverse.uses(8).is_empty());
    }
}

#[test]
fn dropout_keeps_the_mean() {
    for share in [0.0, 0.1, 0.5] {
        let mut sum = 0.0;
        for row in 0..1_000 {
            let mut values = [1.0; 37];
            Dropout::new(share, 5).apply(row, &mut values);
            sum += values.iter().sum::<f32>() / 37_000.0;
        }
        assert!((sum - 1.0).abs() < 0.03, "{share}: {sum}");
    }
}

#[test]
fn histories_become_examples() {
    let interactions = Interactions {
        user: vec![0, 0, 0, 0, 0, 1, 2, 2],
        item: vec![4, 5, 5, 6, 7, 1, 2, 3],
        kind: vec![0, 0, 1, 2, 0, 0, 0, 1],
        weight: vec![1.0, 1.0, 2.0, 0.0, 1.0, 1.0, 1.0, -1.0],
        time_ms: (0..8).collect(),
    };
    // Item 6 weighs nothing, item 5 is repeated, item 3 is disliked.
    let examples = Examples::of(&data(&interactions, 3, 8), &[1.0, 0.5, 0.0], 2, AGELESS);
    assert_eq!(examples.items, [4, 5, 5, 7, 1, 2, 3]);
    assert_eq!(examples.targets, [1, 3, 6]);
    assert_eq!((examples.context(1), examples.context(3), examples.context(6)), (0..1, 1..3, 5..6));
    let disliked = Examples::of(&data(&interactions, 3, 8), &[1.0, -0.5, 0.0], 2, AGELESS);
    assert_eq!(disliked.targets, [1, 3]);
}

fn small() -> Softmax {
    Softmax {
        factors: 16,
        temperature: Some(0.1),
        symmetric: Some(false),
        dropout: Some(0.1),
        epochs: Some(6),
        learning_rate: 1e-2,
        batch: 64,
        history: 8,
        ..Softmax::default()
    }
}

#[test]
fn it_learns_what_comes_next() {
    let interactions = walks(300, 4, 20, 7);
    let factors = small().train(&data(&interactions, 300, 42), &()).unwrap();
    let context = factors.context.as_ref().unwrap();
    let nearest = |item: usize| {
        let score = |other: &usize| -> f32 {
            context.row(item).iter().zip(factors.items.row(*other)).map(|(a, b)| a * b).sum()
        };
        (0..40).filter(|other| *other != item).max_by(|a, b| score(a).total_cmp(&score(b))).unwrap()
    };
    let right = (0..40).filter(|item| nearest(*item) == item / 10 * 10 + (item % 10 + 1) % 10).count();
    assert!(right > 35, "{right} of 40 items point to the one that follows");
    assert!(factors.loss.windows(2).all(|two| two[1] < two[0]), "{:?}", factors.loss);
    let weights = factors.position_weights.unwrap();
    assert!(weights[0] == 1.0 && weights[3] < 0.7, "{weights:?}");
    assert_eq!(factors.items.row(41), [0.0; 16], "an item without interactions is left for others to fill");
    assert_eq!(factors.parameters.unwrap()["chosen_on"], serde_json::Value::Null);
}

#[test]
fn an_item_in_no_example_is_left_for_others_to_fill() {
    let mut interactions = walks(100, 2, 6, 7);
    // Somebody took item 20 and nothing else.
    interactions.push(100, 20, 0, 1.0, 0);
    let examples = Examples::of(&data(&interactions, 101, 21), &[1.0, 2.0], 3, AGELESS);
    let met: Vec<u32> = examples.met().map(|(item, _)| item).collect();
    assert!((0..20).all(|item| met.contains(&item)) && !met.contains(&20), "{met:?}");
    let factors = small().train(&data(&interactions, 101, 21), &()).unwrap();
    assert_eq!(factors.items.row(20), [0.0; 16]);
    assert_eq!(factors.context.unwrap().row(20), [0.0; 16]);
}

#[test]
fn an_item_of_old_examples_only_is_left_for_others_to_fill() {
    let long = 1_000 * 86_400_000;
    let mut interactions = walks(100, 2, 6, 7);
    interactions.time_ms.iter_mut().for_each(|time_ms| *time_ms += long);
    // One visitor never came back; the other took something new just now.
    for (user, item, time_ms) in [(100, 20, 0), (100, 3, 1), (101, 21, 0), (101, 4, 1), (101, 5, long)] {
        interactions.push(user, item, 0, 1.0, time_ms);
    }
    let rows = |half_life_days| {
        let softmax = Softmax { half_life_days, ..small() };
        let Factors { items, context, .. } = softmax.train(&data(&interactions, 102, 22), &()).unwrap();
        let context = context.unwrap();
        [(&items, 20), (&context, 20), (&items, 3), (&context, 21)].map(|(table, item)| table.row(item) == [0.0; 16])
    };
    assert_eq!(rows(Some(10.0)), [true, true, false, false], "a thousand days are a hundred half-lives");
    assert_eq!(rows(None), [false; 4]);
}

#[test]
fn an_item_of_one_young_example_is_learned_in_one_epoch() {
    let mut interactions = walks(100, 2, 6, 7);
    interactions.time_ms.iter_mut().for_each(|time_ms| *time_ms += 3_600_000);
    interactions.push(100, 20, 0, 1.0, 0);
    interactions.push(100, 3, 0, 1.0, 1);
    let softmax = Softmax { epochs: Some(1), half_life_days: Some(10.0), ..small() };
    let Factors { items, context, .. } = softmax.train(&data(&interactions, 101, 21), &()).unwrap();
    assert_ne!(items.row(20), [0.0; 16], "an hour is no age");
    assert_ne!(context.unwrap().row(20), [0.0; 16]);
}

#[test]
fn what_is_left_open_is_chosen() {
    // Histories shorter than the walk, so that what follows is new.
    let interactions = walks(300, 4, 7, 3);
    let open = Softmax { temperature: None, symmetric: None, dropout: None, epochs: None, ..small() };
    let parameters = open.train(&data(&interactions, 300, 40), &()).unwrap().parameters.unwrap();
    assert_eq!(parameters["symmetric"], false, "the order matters here: {parameters}");
    let tried = parameters["chosen_on"]["tried"].as_array().unwrap();
    let best =
        tried.iter().max_by(|a, b| a["ndcg_at_10"].as_f64().unwrap().total_cmp(&b["ndcg_at_10"].as_f64().unwrap()));
    for name in ["symmetric", "temperature", "dropout", "epochs"] {
        assert_eq!(parameters[name], best.unwrap()[name], "{parameters}");
    }
    let fixed = Softmax { symmetric: Some(true), epochs: Some(1), ..open };
    let parameters = fixed.train(&data(&interactions, 300, 40), &()).unwrap().parameters.unwrap();
    assert_eq!((&parameters["symmetric"], &parameters["epochs"]), (&true.into(), &1.into()));
}

#[test]
fn a_recipe_that_diverges_is_not_chosen() {
    let interactions = walks(300, 4, 7, 3);
    // Such steps and such a decay throw shifts beyond all bounds, and symmetric recipes have no shifts.
    let wild = Softmax { symmetric: None, epochs: None, learning_rate: 1.0, shift_decay: 100.0, ..small() };
    let parameters = wild.train(&data(&interactions, 300, 40), &()).unwrap().parameters.unwrap();
    assert_eq!(parameters["symmetric"], true, "{parameters}");
    assert!(parameters["chosen_on"]["tried"][0]["ndcg_at_10"].is_null(), "{parameters}");
    let wilder = Softmax { symmetric: Some(false), ..wild };
    assert!(matches!(wilder.train(&data(&interactions, 300, 40), &()), Err(TrainError::Diverged { iteration: 1 })));
}

#[test]
fn the_threads_do_not_change_a_bit() {
    let interactions = walks(200, 30, 15, 9);
    let softmax = Softmax { epochs: Some(2), batch: 300, ..small() };
    let with = |threads: usize, n_items: usize, softmax: &Softmax| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| softmax.train(&data(&interactions, 200, n_items), &()).unwrap())
    };
    // The larger catalogue is sampled.
    for n_items in [300, 20_001] {
        let one = with(1, n_items, &softmax);
        for threads in [2, 5] {
            assert!(with(threads, n_items, &softmax) == one, "{threads} threads, {n_items} items");
        }
    }
    assert!(with(2, 300, &softmax) != with(2, 300, &Softmax { seed: 2, ..softmax.clone() }));
}

#[test]
fn a_sampled_catalogue_is_learned_too() {
    let interactions = walks(200, 4, 10, 7);
    let factors = small().train(&data(&interactions, 200, 20_100), &()).unwrap();
    let context = factors.context.as_ref().unwrap();
    let score = |item: usize, other: usize| -> f32 {
        context.row(item).iter().zip(factors.items.row(other)).map(|(a, b)| a * b).sum()
    };
    let right = (0..40).filter(|item| {
        let next = item / 10 * 10 + (item % 10 + 1) % 10;
        (0..40).filter(|other| other != item).all(|other| score(*item, other) <= score(*item, next))
    });
    assert!(right.count() > 32);
}

#[test]
fn settings_and_data_out_of_range_are_refused() {
    let interactions = walks(10, 2, 4, 1);
    let refused = |softmax: Softmax| softmax.train(&data(&interactions, 10, 20), &()).unwrap_err().to_string();
    assert!(refused(Softmax { factors: 0, ..small() }).contains("factors is 0"));
    assert!(refused(Softmax { temperature: Some(0.001), ..small() }).contains("temperature is 0.001"));
    assert!(refused(Softmax { dropout: Some(1.0), ..small() }).contains("dropout"));
    assert!(refused(Softmax { learning_rate: f64::NAN, ..small() }).contains("learning-rate"));
    assert!(refused(Softmax { epochs: Some(0), ..small() }).contains("epochs"));
    assert!(refused(Softmax { history: 501, ..small() }).contains("history"));
    let alone = walks(10, 2, 1, 1);
    let error = small().train(&data(&alone, 10, 20), &()).unwrap_err();
    assert!(matches!(error, TrainError::NoSequences), "{error}");
    assert!(matches!(small().train(&data(&alone, 10, 2), &()), Err(TrainError::OutOfRange { column: "item", .. })));
}

#[test]
fn a_caller_can_stop_it() {
    struct Impatient;
    impl TrainProgress for Impatient {
        fn step(&self, _stage: &str, _done: u64, _total: u64) {}
        fn cancelled(&self) -> bool {
            true
        }
    }
    let interactions = walks(100, 2, 6, 1);
    for softmax in [small(), Softmax { epochs: None, ..small() }] {
        let cancelled = softmax.train(&data(&interactions, 100, 20), &Impatient);
        assert!(matches!(cancelled, Err(TrainError::Cancelled)));
    }
}
