#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use faer::linalg::solvers::Solve;

use super::*;
use crate::dataset::Interactions;

/// Seeded interactions: `n_users` users with a few items each, some of negative weight, one user and one item without any.
fn random(n_users: usize, n_items: usize, each: usize, seed: u64) -> Interactions {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut out = Interactions { user: vec![], item: vec![], kind: vec![], weight: vec![], time_ms: vec![] };
    for user in 0..n_users - 1 {
        for time in 0..rng.random_range(1..=each) {
            out.user.push(user as u32);
            out.item.push(rng.random_range(0..n_items as u32 - 1));
            out.kind.push(0);
            out.weight.push(if rng.random::<f32>() < 0.1 { -1.0 } else { rng.random_range(0.5..3.0) });
            out.time_ms.push(time as i64);
        }
    }
    out
}

fn data(interactions: &Interactions, n_users: usize, n_items: usize) -> TrainingData<'_> {
    TrainingData { interactions, n_users, n_items }
}

fn small(solver: Solver) -> Als {
    Als { factors: 6, iterations: 8, tolerance: 0.0, solver, ..Als::default() }
}

fn dot(x: &[f32], y: &[f32]) -> f32 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// The loss by its definition: every cell of the matrix, in double precision.
fn slow_loss(als: &Als, pairs: &SparseRows, users: &Matrix, items: &Matrix) -> f64 {
    let (mut sum, mut confidences) = (0.0, 0.0);
    for user in 0..users.rows {
        let (columns, values) = pairs.row(user);
        for item in 0..items.rows {
            let weight = columns.iter().position(|c| *c as usize == item).map_or(0.0, |at| f64::from(values[at]));
            let confidence = 1.0 + als.alpha * weight.abs();
            let preference = if weight > 0.0 { 1.0 } else { 0.0 };
            let score: f64 =
                users.row(user).iter().zip(items.row(item)).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            sum += confidence * (preference - score) * (preference - score);
            confidences += confidence;
        }
    }
    let squares: f64 = users.data.iter().chain(&items.data).map(|v| f64::from(*v) * f64::from(*v)).sum();
    (sum + als.regularization * squares) / confidences
}

/// One half step by its definition: for each row the dense normal equations over every column, solved by faer.
fn slow_pass(als: &Als, pairs: &SparseRows, fixed: &Matrix) -> Vec<Vec<f64>> {
    let d = fixed.cols;
    let solve = |row: usize| {
        let (columns, values) = pairs.row(row);
        let mut a = faer::Mat::<f64>::from_fn(d, d, |i, j| if i == j { als.regularization } else { 0.0 });
        let mut b = faer::Mat::<f64>::zeros(d, 1);
        for column in 0..fixed.rows {
            let weight = columns.iter().position(|c| *c as usize == column).map_or(0.0, |at| f64::from(values[at]));
            let confidence = 1.0 + als.alpha * weight.abs();
            let y = fixed.row(column);
            for i in 0..d {
                for j in 0..d {
                    a[(i, j)] += confidence * f64::from(y[i]) * f64::from(y[j]);
                }
                b[(i, 0)] += if weight > 0.0 { confidence * f64::from(y[i]) } else { 0.0 };
            }
        }
        let x = a.llt(faer::Side::Lower).unwrap().solve(&b);
        (0..d).map(|i| x[(i, 0)]).collect()
    };
    (0..pairs.rows()).map(solve).collect()
}

fn pairs(interactions: &Interactions, n_users: usize, n_items: usize) -> SparseRows {
    SparseRows::users_by_items(&data(interactions, n_users, n_items), Fading { half_life_days: None })
}

#[test]
fn a_pass_solves_the_dense_equations() {
    let interactions = random(30, 20, 9, 3);
    let als = small(Solver::Cholesky);
    let weights = pairs(&interactions, 30, 20);
    let items = initial(20, 6, 5);
    let slow = slow_pass(&als, &weights, &items);
    for (solver, cg_steps, tolerance) in [(Solver::Cholesky, 1, 1e-4), (Solver::ConjugateGradient, 12, 1e-3)] {
        let als = Als { solver, cg_steps, ..als.clone() };
        let scaled = weights.clone().mapped(|weight| als.alpha as f32 * weight);
        let mut users = Matrix::zeros(30, 6);
        als.pass(&scaled, &items, &Gram::of(&items), &mut users, &()).unwrap();
        for (fast, slow) in users.iter().zip(&slow) {
            for (fast, slow) in fast.iter().zip(slow) {
                assert!((f64::from(*fast) - slow).abs() < tolerance, "{solver:?}: {fast} against {slow}");
            }
        }
    }
}

#[test]
fn the_loss_is_exact_and_never_increases() {
    for solver in [Solver::Cholesky, Solver::ConjugateGradient] {
        for seed in 0..3 {
            let interactions = random(40, 25, 8, seed);
            let als = small(solver);
            let weights = pairs(&interactions, 40, 25);
            let (users, items, losses) = als.fit(weights.clone(), 25, &Checkpoint::none(), &()).unwrap();
            assert_eq!(losses.len(), 8);
            let slow = slow_loss(&als, &weights, &users, &items);
            assert!((losses[7] - slow).abs() < 1e-5, "{} against {slow}", losses[7]);
            for two in losses.windows(2) {
                assert!(two[1] <= two[0] + 1e-6, "{solver:?}: {losses:?}");
            }
        }
    }
}

/// Users of even number like items of even number and likewise for odd; each misses one item of its colour.
fn checkerboard(n: u32) -> Interactions {
    let mut out = Interactions { user: vec![], item: vec![], kind: vec![], weight: vec![], time_ms: vec![] };
    for user in 0..n {
        for item in (0..n).filter(|item| item % 2 == user % 2 && *item != (user + 2) % n) {
            out.user.push(user);
            out.item.push(item);
            out.kind.push(0);
            out.weight.push(1.0);
            out.time_ms.push(i64::from(item));
        }
    }
    out
}

#[test]
fn fills_in_a_checkerboard() {
    let n = 20;
    let interactions = checkerboard(n);
    for solver in [Solver::Cholesky, Solver::ConjugateGradient] {
        let als = Als { factors: 2, regularization: 0.01, iterations: 20, solver, ..Als::default() };
        let (users, items, _) = als.fit(pairs(&interactions, 20, 20), 20, &Checkpoint::none(), &()).unwrap();
        for user in 0..n {
            let score = |item: u32| dot(users.row(user as usize), items.row(item as usize));
            let missing = score((user + 2) % n);
            assert!(missing > 0.7, "{solver:?}: the missing item of user {user} scores {missing}");
            for item in (0..n).filter(|item| item % 2 != user % 2) {
                assert!(score(item).abs() < 0.1, "{solver:?}: user {user}, item {item}: {}", score(item));
            }
        }
    }
}

#[test]
fn the_threads_do_not_change_a_bit() {
    let interactions = random(600, 90, 12, 9);
    for solver in [Solver::Cholesky, Solver::ConjugateGradient] {
        let als = Als { factors: 20, iterations: 3, solver, ..Als::default() };
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| als.train(&data(&interactions, 600, 90), &()).unwrap())
        };
        let one = with(1);
        for threads in [2, 3, 7] {
            let other = with(threads);
            assert_eq!(one, other);
            let bits = |factors: &Factors| factors.items.data.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&one), bits(&other));
        }
        assert_ne!(one, Als { seed: 2, ..als.clone() }.train(&data(&interactions, 600, 90), &()).unwrap());
    }
}

#[test]
fn both_solvers_find_models_of_the_same_loss() {
    let interactions = random(300, 60, 15, 4);
    let last = |solver| {
        let als = Als { factors: 16, iterations: 15, tolerance: 0.0, solver, ..Als::default() };
        als.train(&data(&interactions, 300, 60), &()).unwrap().loss[14]
    };
    let (exact, approximate) = (last(Solver::Cholesky), last(Solver::ConjugateGradient));
    assert!((exact - approximate).abs() < 0.01 * exact, "{exact} {approximate}");
}

#[test]
fn dislikes_are_confident_zeros() {
    let mut interactions = checkerboard(10);
    let like = Als { factors: 4, iterations: 10, ..Als::default() };
    let score = |interactions: &Interactions| {
        let (users, items, _) = like.fit(pairs(interactions, 10, 10), 10, &Checkpoint::none(), &()).unwrap();
        dot(users.row(0), items.row(4))
    };
    let liked = score(&interactions);
    let at = interactions.item.iter().position(|item| *item == 4).unwrap();
    interactions.weight[at] = -3.0;
    let disliked = score(&interactions);
    assert!(disliked < liked - 0.3, "{liked} {disliked}");
}

#[test]
fn an_item_that_is_only_disliked_is_left_for_others_to_fill() {
    let mut interactions = checkerboard(10);
    for (item, weight) in interactions.item.iter().zip(&mut interactions.weight) {
        *weight = if *item == 4 { -1.0 } else { 1.0 };
    }
    for solver in [Solver::Cholesky, Solver::ConjugateGradient] {
        let als = Als { factors: 4, iterations: 10, solver, ..Als::default() };
        let Factors { items, context, .. } = als.train(&data(&interactions, 10, 10), &()).unwrap();
        assert_eq!((items.row(4), context.unwrap().row(4)), (&[0.0; 4][..], &[0.0; 4][..]), "{solver:?}");
        assert_ne!(items.row(5), [0.0; 4], "{solver:?}");
    }
}

#[test]
fn training_ends_when_the_loss_settles() {
    let interactions = random(60, 30, 8, 6);
    let als = Als { factors: 8, iterations: 200, tolerance: 1e-3, ..Als::default() };
    let factors = als.train(&data(&interactions, 60, 30), &()).unwrap();
    assert!(factors.loss.len() < 100, "{}", factors.loss.len());
    assert_eq!(factors.items.row(29), [0.0; 8], "an item without interactions is left for others to fill");
}

#[test]
fn settings_and_data_out_of_range_are_refused() {
    let good = random(10, 5, 3, 1);
    let refused = |als: Als| als.train(&data(&good, 10, 5), &()).unwrap_err().to_string();
    assert!(refused(Als { factors: 0, ..Als::default() }).contains("factors is 0"));
    assert!(refused(Als { regularization: 0.0, ..Als::default() }).contains("regularization"));
    assert!(refused(Als { alpha: f64::NAN, ..Als::default() }).contains("alpha"));
    assert!(refused(Als { half_life_days: Some(-1.0), ..Als::default() }).contains("half-life"));
    let als = small(Solver::Cholesky);
    assert!(matches!(als.train(&data(&good, 5, 5), &()), Err(TrainError::OutOfRange { column: "user", .. })));
    assert!(matches!(als.train(&data(&good, 10, 2), &()), Err(TrainError::OutOfRange { column: "item", .. })));
    let mut bad = good.clone();
    bad.weight[3] = f32::INFINITY;
    assert!(matches!(als.train(&data(&bad, 10, 5), &()), Err(TrainError::Weight { at: 3, .. })));
    bad.weight.fill(0.0);
    assert!(matches!(als.train(&data(&bad, 10, 5), &()), Err(TrainError::NoInteractions)));
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
    let interactions = random(10, 5, 3, 1);
    let cancelled = small(Solver::Cholesky).train(&data(&interactions, 10, 5), &Impatient);
    assert!(matches!(cancelled, Err(TrainError::Cancelled)));
}
