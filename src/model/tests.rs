//! Whole models read back; damaged ones are typed errors, never a panic.

use kindred_index::{AlignedBytes, Metric};

use super::*;
use crate::encoder::Features;
use crate::interaction::Interaction;
use crate::limits;
use crate::recommend::{RecommendRequest, RecommendScratch, recommend};
use crate::scenario::Scenario;
use crate::testing::{Fixture, Noise};
use crate::user_vector::Weighting;

fn fixture() -> Fixture {
    let mut fixture = Fixture::random(3, 30, 10, Metric::InnerProduct);
    fixture.learn_words();
    fixture
}

fn open(fixture: &Fixture, index: &AlignedBytes, data: &[u8]) -> Result<Model<AlignedBytes>, ModelError> {
    Model::open(index.clone(), AlignedBytes::from(data), fixture.manifest())
}

#[test]
fn what_was_written_is_read_back() {
    for fixture in [fixture(), Fixture::random(4, 30, 16, Metric::Cosine)] {
        let model = fixture.model();
        model.verify().unwrap();
        assert_eq!((model.len(), model.dimensions(), model.k_neighbours()), (30, fixture.dimensions, 6));
        assert_eq!(model.is_symmetric(), fixture.context.is_none());
        for (ordinal, item) in (0_u32..).zip(&fixture.items) {
            let at = ordinal as usize;
            let row = |rows: &[f32]| rows[at * fixture.dimensions..][..fixture.dimensions].to_vec();
            let context =
                fixture.context.as_ref().map_or_else(|| model.index().row(ordinal).unwrap().to_vec(), |all| row(all));
            assert_eq!(model.context_row(ordinal).unwrap().values(), context);
            assert_eq!(model.catalog().item(ordinal).unwrap().as_ref(), Some(item));
            let neighbours: Vec<_> = model.neighbours(ordinal).map(|one| (one.ordinal, one.similarity)).collect();
            let stored = at * 6..(at + 1) * 6;
            let expected: Vec<_> = fixture.neighbours[stored.clone()]
                .iter()
                .copied()
                .zip(fixture.similarities[stored].iter().copied())
                .collect();
            assert_eq!(neighbours, expected);
        }
        assert_eq!(model.popular().len(), 30);
        assert!(model.popular().windows(2).all(|pair| model.popularity(pair[0]) >= model.popularity(pair[1])));
        assert_eq!(model.popularity(model.popular()[0]), 1.0);
        assert_eq!(model.available().unwrap().cardinality(), 27);
        let said = model.encoder().encode(&Features::of_query("item 7"));
        assert_eq!(said.is_some(), fixture.words.is_some());
        if let Some(said) = said {
            assert_eq!((said.target.len(), said.context.unwrap().len()), (fixture.dimensions, fixture.dimensions));
        }
        // Out of range is none, not a panic.
        assert!(model.context_row(30).is_none() && model.neighbours(u32::MAX).next().is_none());
        assert_eq!(model.popularity(u32::MAX), 0.0);
        assert!(model.catalog().raw(u32::MAX).is_none());
    }
}

#[test]
fn every_truncation_and_every_flipped_byte_is_an_error() {
    let fixture = fixture();
    let index = fixture.index_bytes();
    let whole = fixture.model_bytes(index.as_ref());
    let whole: &[u8] = whole.as_ref();
    open(&fixture, &index, whole).unwrap().verify().unwrap();
    for length in 0..whole.len() {
        assert!(open(&fixture, &index, &whole[..length]).is_err(), "cut to {length} bytes");
    }
    let mut noise = Noise(1);
    for at in 0..whole.len() {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 1 << noise.below(8);
        let found = open(&fixture, &index, &damaged).and_then(|model| model.verify());
        assert!(found.is_err(), "byte {at}");
    }
}

#[test]
fn a_damaged_model_that_nobody_verified_does_not_panic() {
    let fixture = fixture();
    let index = fixture.index_bytes();
    let whole = fixture.model_bytes(index.as_ref());
    let whole: &[u8] = whole.as_ref();
    let history: Vec<_> = (0..6).map(|i| Interaction::new(Fixture::key(i), "view", i as i64)).collect();
    let mut scratch = RecommendScratch::default();
    let mut opened = 0;
    for seed in 0..400 {
        let mut noise = Noise(seed);
        let mut damaged = whole.to_vec();
        for _ in 0..50 {
            // Past header and section table, where only checksums that opening does not look at would notice.
            let at = 512 + noise.below(damaged.len() - 512);
            damaged[at] = noise.below(256) as u8;
        }
        let Ok(model) = open(&fixture, &index, &damaged) else { continue };
        opened += 1;
        for (exact, explain) in [(false, true), (true, false)] {
            let request = RecommendRequest { exact, explain, ..RecommendRequest::new(&history, 100) };
            let _ = recommend(&model, &Scenario::home(), &Weighting::default(), &request, &mut scratch, &mut |_| ());
        }
        let _ = recommend(
            &model,
            &Scenario::home(),
            &Weighting::default(),
            &RecommendRequest::<Interaction>::new(&[], 100),
            &mut scratch,
            &mut |_| (),
        );
        let _ = model.encoder().encode(&Features::of_item(&fixture.items[0]));
        (0..model.len()).for_each(|ordinal| {
            let _ = (model.catalog().raw(ordinal), model.catalog().item(ordinal));
        });
    }
    assert!(opened > 50, "only {opened} damaged models opened: the test shows little");
}

#[test]
fn files_of_two_builds_and_lying_manifests_are_refused() {
    let (one, other) = (fixture(), Fixture::random(9, 30, 10, Metric::InnerProduct));
    let (index, other_index) = (one.index_bytes(), other.index_bytes());
    let data = other.model_bytes(other_index.as_ref());
    assert!(matches!(open(&one, &index, data.as_ref()), Err(ModelError::Mismatch { .. })));
    let data = one.model_bytes(index.as_ref());
    for (field, manifest) in [
        ("n_items", Manifest { n_items: 29, ..one.manifest() }),
        ("dimensions", Manifest { dimensions: 11, ..one.manifest() }),
    ] {
        let found = Model::open(index.clone(), data.clone(), manifest).unwrap_err();
        assert!(matches!(found, ModelError::Manifest { field: at, .. } if at == field), "{found}");
    }
    assert!(matches!(open(&one, &index, index.as_ref()), Err(ModelError::Data(_))));
}

#[test]
fn the_writer_refuses_what_no_reader_could_use() {
    let fixture = fixture();
    let index = Index::open(fixture.index_bytes()).unwrap();
    let write = |change: &dyn Fn(&mut Fixture)| {
        let mut changed = fixture.clone();
        change(&mut changed);
        changed.data().write(&index, std::io::Cursor::new(Vec::new())).unwrap_err()
    };
    let short = write(&|fixture| fixture.popularity.truncate(29));
    assert!(matches!(short, ModelWriteError::Length { array: "popularity", expected: 30, found: 29 }), "{short}");
    let nan = write(&|fixture| fixture.context.as_mut().unwrap()[25] = f32::NAN);
    assert!(matches!(nan, ModelWriteError::Value { array: "context", ordinal: 2, .. }), "{nan}");
    let own = write(&|fixture| fixture.neighbours[6] = 1);
    assert!(matches!(own, ModelWriteError::Value { array: "neighbours", ordinal: 1, .. }), "{own}");
    let outside = write(&|fixture| fixture.neighbours[6] = 30);
    assert!(matches!(outside, ModelWriteError::Value { array: "neighbours", ordinal: 1, .. }), "{outside}");
    let gap = write(&|fixture| fixture.neighbours[6] = u32::MAX);
    assert!(matches!(gap, ModelWriteError::Value { array: "neighbours", ordinal: 1, .. }), "{gap}");
    let swapped = write(&|fixture| fixture.items.swap(0, 1));
    assert!(matches!(swapped, ModelWriteError::Order { ordinal: 0, .. }), "{swapped}");
    let priceless = write(&|fixture| fixture.items[5].price = Some(f64::INFINITY));
    assert!(matches!(priceless, ModelWriteError::Catalog { ordinal: 5, .. }), "{priceless}");
    let few = write(&|fixture| fixture.items.truncate(29));
    assert!(matches!(few, ModelWriteError::Length { array: "items", expected: 30, found: 29 }), "{few}");
    let surplus = write(&|fixture| fixture.items.push(fixture.items[0].clone()));
    assert!(matches!(surplus, ModelWriteError::Length { array: "items", expected: 30, found: 31 }), "{surplus}");
    let many = write(&|fixture| fixture.k_neighbours = 1_001);
    assert!(matches!(many, ModelWriteError::TooManyNeighbours { found: 1_001 }), "{many}");
}

#[test]
fn what_passes_a_filter_is_the_same_each_time_and_kept_from_the_second_on() {
    let model = fixture().model();
    let cheaper =
        |price: f64| FilterExpr::Range { field: "price".to_owned(), gt: None, gte: None, lt: Some(price), lte: None };
    // More filters than are kept, so that each is kept, forgotten and kept again.
    for most in [3, 2 * limits::FILTERS_KEPT_MAX, 3] {
        for price in (0..4 * most).map(|step| (step % most) as f64 * 5.0) {
            let expected = model.index().attributes().evaluate(&cheaper(price), model.len()).unwrap();
            assert_eq!(*model.passing(None, &cheaper(price)).unwrap(), expected, "{price}");
        }
    }
    let is_kept = |filter: &FilterExpr| {
        let [.., second, third] = std::array::from_fn::<_, 3, _>(|_| model.passing(None, filter).unwrap());
        Arc::ptr_eq(&second, &third)
    };
    assert!(is_kept(&cheaper(7.0)));
    let values = (0..limits::FILTER_KEPT_PARTS_MAX).map(|value| value.to_string()).collect();
    assert!(!is_kept(&FilterExpr::Any { field: "category".to_owned(), values }), "long ones are not");
    let unknown = FilterExpr::Exists { field: "colour".to_owned() };
    assert!((0..3).all(|_| model.passing(None, &unknown).is_err()));
}
