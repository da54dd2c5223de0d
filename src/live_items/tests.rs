//! Changes laid over an artifact against an artifact that was built with them.

use std::collections::BTreeMap;

use kindred_index::{AlignedBytes, Metric, Scratch, SearchParams};
use proptest::prelude::*;

use super::*;
use crate::catalog::CatalogItem;
use crate::interaction::Interaction;
use crate::nearest::nearest;
use crate::recommend::{RecommendRequest, RecommendScratch, recommend};
use crate::scenario::{Cap, Scenario};
use crate::testing::{Fixture, Noise};
use crate::timestamp::Timestamp;
use crate::user_vector::Weighting;

const N: usize = 40;
const DIMENSIONS: usize = 8;
const NOW_MS: i64 = 1_795_530_301_500;

/// One step: an item, one of 60 of which 40 are in the artifact, becomes something else.
#[derive(Clone, Debug)]
struct Step {
    item: usize,
    delete: bool,
    hidden: bool,
    available: bool,
    price: f64,
    expires_in_ms: Option<i64>,
    category: usize,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let expiry = prop::option::weighted(0.3, prop::sample::select(vec![-5_000_i64, 5_000, 20_000]));
    let one = (
        0..60_usize,
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.7),
        0..9_u8,
        expiry,
        0..4_usize,
    );
    let step = |(item, delete, hidden, available, price, expires_in_ms, category)| Step {
        item,
        delete,
        hidden,
        available,
        price: f64::from(price),
        expires_in_ms,
        category,
    };
    prop::collection::vec(one.prop_map(step), 0..40)
}

fn vector_of(item: usize) -> Vec<f32> {
    let mut noise = Noise(item as u64 + 77);
    (0..DIMENSIONS).map(|_| noise.unit()).collect()
}

fn entry_of(step: &Step) -> LiveEntry {
    let id = Fixture::key(step.item);
    if step.delete {
        return LiveEntry::deleted(id, NOW_MS);
    }
    let item = CatalogItem {
        price: Some(step.price),
        available: step.available,
        hidden: step.hidden,
        expires_at: step.expires_in_ms.map(|ms| Timestamp(NOW_MS + ms)),
        categories: vec![Fixture::category(step.category)],
        ..CatalogItem::new(id)
    };
    LiveEntry::put(item, Some(vector_of(step.item)), NOW_MS).unwrap()
}

/// What would have been built: the same items with the last change of each, those that may not be shown hidden, new ones at the end.
fn rebuilt(fixture: &Fixture, last: &BTreeMap<usize, &Step>, now_ms: i64) -> Model<AlignedBytes> {
    let mut fixture = fixture.clone();
    for (item, step) in last {
        let entry = entry_of(step);
        let gone = || CatalogItem { hidden: true, ..CatalogItem::new(Fixture::key(*item)) };
        let mut built = entry.item().cloned().unwrap_or_else(gone);
        built.hidden |= !entry.is_shown(now_ms);
        if *item < N {
            fixture.items[*item] = built;
        } else if !step.delete {
            fixture.items.push(built);
            let mut row = vector_of(*item);
            kindred_index::normalise(&mut row);
            fixture.rows.extend(row);
            fixture.neighbours.extend(vec![u32::MAX; fixture.k_neighbours]);
            fixture.similarities.extend(vec![0.0; fixture.k_neighbours]);
            fixture.popularity.push(0.0);
        }
    }
    fixture.model()
}

fn filters() -> Vec<Option<FilterExpr>> {
    let toys = FilterExpr::Match { field: "category".to_owned(), value: Fixture::category(0) };
    let cheap = FilterExpr::Range { field: "price".to_owned(), gt: None, gte: Some(2.0), lt: Some(6.0), lte: None };
    let ids = FilterExpr::HasId { ids: [0, 3, 41, 45, 59].map(Fixture::key).into() };
    vec![
        None,
        Some(toys.clone()),
        Some(FilterExpr::And(vec![FilterExpr::Not(Box::new(toys)), cheap.clone()])),
        Some(FilterExpr::Or(vec![cheap, ids])),
    ]
}

fn answer(model: &Model<AlignedBytes>, live: Option<&LiveItems>, filter: Option<&FilterExpr>) -> Vec<(String, f64)> {
    let history = [0, 5, 42].map(|item| Interaction::new(Fixture::key(item), "view", NOW_MS - item as i64));
    let scenario = Scenario { exclude_seen: false, ..Scenario::home() };
    let request = RecommendRequest { live, filter, exact: true, ..RecommendRequest::new(&history, NOW_MS) };
    let mut scratch = RecommendScratch::default();
    let list = recommend(model, &scenario, &Weighting::default(), &request, &mut scratch, &mut |_| ()).unwrap();
    let view = model.view_with(live);
    list.items.iter().map(|item| (view.key(item.ordinal).unwrap().to_owned(), item.score)).collect()
}

fn found(model: &Model<AlignedBytes>, live: Option<&LiveItems>, filter: Option<&FilterExpr>) -> Vec<String> {
    let view = model.view_with(live);
    let (params, mut scratch) = (SearchParams { k: 15, ef_search: 64, exact: true }, Scratch::default());
    let hits = nearest(model, &view, &vector_of(3), &params, filter, &[], &mut scratch).unwrap().0;
    hits.iter().map(|hit| view.key(hit.ordinal).unwrap().to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_laid_over_are_changes_built_in(steps in steps(), later_ms in prop::sample::select(vec![0_i64, 10_000, 30_000])) {
        let fixture = Fixture::random(11, N, DIMENSIONS, Metric::Cosine);
        let model = fixture.model();
        let mut live = LiveItems::new(&model, NOW_MS);
        prop_assert!(live.is_idle());
        let mut last = BTreeMap::new();
        for step in &steps {
            let entry = entry_of(step);
            let rows = LiveRows::of(&model, &entry);
            live.apply(&model, Arc::new(entry), Some(rows));
            last.insert(step.item, step);
        }
        let now_ms = NOW_MS + later_ms;
        // A clock that was ahead and is set right leaves no trace.
        live.expire(NOW_MS + 40_000);
        live.expire(now_ms);
        let built = rebuilt(&fixture, &last, now_ms);
        let overlay = LiveItems::new(&built, now_ms);
        for filter in filters() {
            let expected = answer(&built, Some(&overlay), filter.as_ref());
            let found_keys = answer(&model, Some(&live), filter.as_ref());
            prop_assert_eq!(found_keys.len(), expected.len());
            for (one, other) in found_keys.iter().zip(&expected) {
                prop_assert_eq!(&one.0, &other.0);
                prop_assert!((one.1 - other.1).abs() < 1e-5, "{:?} {:?}", one, other);
            }
            prop_assert_eq!(found(&model, Some(&live), filter.as_ref()), found(&built, Some(&overlay), filter.as_ref()));
        }
        for (item, step) in &last {
            let key = Fixture::key(*item);
            let view = model.view_with(Some(&live));
            let entry = view.ordinal(&key).and_then(|ordinal| view.entry(ordinal));
            prop_assert_eq!(entry.map(str::to_owned), entry_of(step).json().map(str::to_owned), "{}", key);
        }
    }
}

#[test]
fn what_an_artifact_contains_is_not_laid_over_it() {
    let mut fixture = Fixture::random(11, N, DIMENSIONS, Metric::Cosine);
    let changed =
        |price, at| LiveEntry::put(CatalogItem { price: Some(price), ..fixture.items[3].clone() }, None, at).unwrap();
    let (same, other) = (changed(4.0, 5), changed(9.0, 5));
    let model = fixture.model();
    assert!(LiveItems::is_contained(&model, &same), "an entry without a time is compared by what it says");
    assert!(!LiveItems::is_contained(&model, &other));
    assert!(LiveItems::is_contained(&model, &LiveEntry::deleted("no such item", 5)));
    assert!(!LiveItems::is_contained(&model, &LiveEntry::deleted(Fixture::key(3), 5)));
    fixture.items[3].updated_at = Some(Timestamp(7));
    let model = fixture.model();
    assert!(LiveItems::is_contained(&model, &other), "the artifact's is the later account");
    let later = LiveEntry::put(CatalogItem::new(Fixture::key(3)), None, 8).unwrap();
    assert!(!LiveItems::is_contained(&model, &later));
}

#[test]
fn a_field_of_an_added_item_is_known_and_named() {
    let model = Fixture::random(11, N, DIMENSIONS, Metric::Cosine).model();
    let mut live = LiveItems::new(&model, NOW_MS);
    let exists = |field: &str| FilterExpr::Exists { field: field.to_owned() };
    let attributes = model.index().attributes();
    assert!(live.evaluate(&attributes, &exists("colour")).is_err());
    let attributes_of = [("colour".to_owned(), serde_json::json!("red"))].into();
    let item = CatalogItem { attributes: attributes_of, ..CatalogItem::new("new") };
    live.apply(&model, Arc::new(LiveEntry::put(item, None, NOW_MS).unwrap()), None);
    assert!(live.evaluate(&attributes, &exists("colour")).unwrap().is_empty());
    assert_eq!(live.added(true, Some(&exists("colour"))), [N as u32]);
    let error = live.evaluate(&attributes, &exists("color")).unwrap_err().to_string();
    assert!(error.contains("category") && error.contains("colour"), "{error}");
    live.apply(&model, Arc::new(LiveEntry::deleted("new", NOW_MS)), None);
    assert!(live.is_idle() && live.evaluate(&attributes, &exists("colour")).is_err());
}

#[test]
fn what_only_changed_items_have_as_text_is_found_where_the_artifact_has_numbers() {
    let mut fixture = Fixture::random(11, N, DIMENSIONS, Metric::Cosine);
    let sized = |item: &CatalogItem, size: serde_json::Value| CatalogItem {
        attributes: [("size".to_owned(), size)].into(),
        ..item.clone()
    };
    fixture.items[3] = sized(&fixture.items[3], serde_json::json!(42));
    let model = fixture.model();
    let mut live = LiveItems::new(&model, NOW_MS);
    let put = |live: &mut LiveItems, item: CatalogItem| {
        live.apply(&model, Arc::new(LiveEntry::put(item, None, NOW_MS).unwrap()), None);
    };
    let medium = FilterExpr::Match { field: "size".to_owned(), value: "M".to_owned() };
    let passing = |live: &LiveItems, filter: &FilterExpr| {
        model.passing(Some(live), filter).map(|set| set.iter().collect::<Vec<_>>())
    };
    put(&mut live, sized(&fixture.items[7], serde_json::json!(44)));
    let is_refused = |live: &LiveItems| matches!(passing(live, &medium), Err(FilterError::WrongType { .. }));
    assert!(is_refused(&live), "a slip of the pen is told while no item has text there");
    put(&mut live, sized(&fixture.items[5], serde_json::json!("M")));
    put(&mut live, sized(&CatalogItem::new("new"), serde_json::json!(["M", 46])));
    assert_eq!(passing(&live, &medium), Ok(vec![5]));
    assert_eq!(live.added(true, Some(&medium)), [N as u32]);
    let exists = FilterExpr::Exists { field: "size".to_owned() };
    let others = FilterExpr::And(vec![exists, FilterExpr::Not(Box::new(medium.clone()))]);
    assert_eq!(passing(&live, &others), Ok(vec![3, 7]));
    put(&mut live, fixture.items[5].clone());
    live.apply(&model, Arc::new(LiveEntry::deleted("new", NOW_MS)), None);
    assert!(is_refused(&live));
}

#[test]
fn changes_are_laid_over_a_filter_that_is_kept() {
    let mut fixture = Fixture::random(11, N, DIMENSIONS, Metric::Cosine);
    (0..).zip(&mut fixture.items).for_each(|(place, item)| item.price = Some(f64::from(place)));
    let model = fixture.model();
    let bounds = |lt| FilterExpr::Range { field: "price".to_owned(), gt: None, gte: None, lt: Some(lt), lte: None };
    let passing = |live: Option<&LiveItems>| model.passing(live, &bounds(4.0)).unwrap().iter().collect::<Vec<_>>();
    let mut live = LiveItems::new(&model, NOW_MS);
    for _ in 0..3 {
        assert_eq!((passing(None), passing(Some(&live))), (vec![0, 1, 2, 3], vec![0, 1, 2, 3]));
    }
    let dearer = CatalogItem { price: Some(9.0), ..fixture.items[2].clone() };
    let cheaper = CatalogItem { price: Some(1.0), ..fixture.items[7].clone() };
    for entry in [
        LiveEntry::put(dearer, None, NOW_MS).unwrap(),
        LiveEntry::put(cheaper, None, NOW_MS).unwrap(),
        LiveEntry::deleted(Fixture::key(0), NOW_MS),
    ] {
        live.apply(&model, Arc::new(entry), None);
    }
    for _ in 0..3 {
        assert_eq!((passing(Some(&live)), passing(None)), (vec![1, 3, 7], vec![0, 1, 2, 3]));
    }
}

#[test]
fn a_value_that_an_item_was_put_with_twice_counts_once_for_a_cap() {
    let fixture = Fixture::random(11, N, DIMENSIONS, Metric::Cosine);
    let model = fixture.model();
    let mut live = LiveItems::new(&model, NOW_MS);
    for item in [0, 4] {
        let categories = vec![Fixture::category(0); 2];
        let item = CatalogItem { categories, ..fixture.items[item].clone() };
        live.apply(&model, Arc::new(LiveEntry::put(item, None, NOW_MS).unwrap()), None);
    }
    let scenario = Scenario { caps: vec![Cap { key: "category".to_owned(), at_most: 2 }], ..Scenario::home() };
    let (nobody, two): ([Interaction; 0], _) = ([], FilterExpr::HasId { ids: [0, 4].map(Fixture::key).into() });
    let filter = Some(&two);
    let request = RecommendRequest { live: Some(&live), filter, ..RecommendRequest::new(&nobody, NOW_MS) };
    let mut scratch = RecommendScratch::default();
    let list = recommend(&model, &scenario, &Weighting::default(), &request, &mut scratch, &mut |_| ()).unwrap();
    assert_eq!(list.items.len(), 2);
}

#[test]
fn what_changes_again_and_again_is_noted_once() {
    let fixture = Fixture::random(11, N, DIMENSIONS, Metric::Cosine);
    let model = fixture.model();
    let mut live = LiveItems::new(&model, NOW_MS);
    for step in 0..20 {
        for id in [Fixture::key(3), "new".to_owned()] {
            let item = CatalogItem { expires_at: Some(Timestamp(NOW_MS + step % 9)), ..CatalogItem::new(id) };
            live.apply(&model, Arc::new(LiveEntry::put(item, None, NOW_MS).unwrap()), None);
        }
        // Every other time both expire before they change again.
        live.expire(NOW_MS + 10 * (step % 2));
        assert_eq!(live.expiring.len() + live.expired.len(), 2, "step {step}");
    }
    live.expire(NOW_MS - 1);
    assert!(live.is_shown(3) && live.is_shown(N as u32));
    live.apply(&model, Arc::new(LiveEntry::put(CatalogItem::new(Fixture::key(3)), None, NOW_MS).unwrap()), None);
    live.apply(&model, Arc::new(LiveEntry::deleted("new", NOW_MS)), None);
    assert_eq!((live.expiring.len(), live.expired.len()), (0, 0));
}

#[test]
fn the_ordinal_of_an_item_that_went_just_now_is_nobody_elses() {
    let fixture = Fixture::random(11, N, DIMENSIONS, Metric::Cosine);
    let model = fixture.model();
    let mut live = LiveItems::new(&model, NOW_MS);
    let mut put = |entry: LiveEntry| {
        let id = entry.id().to_owned();
        live.apply(&model, Arc::new(entry), None);
        live.ordinal(&id)
    };
    let item = |id: &str, at_ms: i64| LiveEntry::put(CatalogItem::new(id), None, at_ms).unwrap();
    let first = put(item("first", NOW_MS));
    assert_eq!(put(item("first", NOW_MS + 1)), first, "one that changes keeps its own");
    assert_eq!(put(LiveEntry::deleted("first", NOW_MS + 2)), None);
    // What is trending is still that of the first under its ordinal.
    let second = put(item("second", NOW_MS + 3));
    assert_ne!(second, first);
    assert_eq!(put(item("third", NOW_MS + 2 + ORDINAL_RESTS_MS)), first);
    assert_eq!(put(item("second", NOW_MS + 4)), second);
    // A clock that was a day ahead for a moment keeps no place for a day.
    assert_eq!(put(LiveEntry::deleted("third", NOW_MS + 86_400_000)), None);
    assert_eq!(put(item("fourth", NOW_MS + 2 * ORDINAL_RESTS_MS)), first);
}
