//! Fast against slow: the key table against a `HashMap`, bitmaps against a `BTreeSet`, filters against asking every item.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kindred_index::format::section;
use kindred_index::{
    AlignedBytes, AllowSet, AttributeTables, FILTER_DEPTH_MAX, FILTER_PARTS_MAX, FilterError, FilterExpr, Index,
    ItemAttributes, KeyTable, WriteError,
};
use proptest::prelude::*;
use support::Parts;

/// An index of so many items with other keys and attributes than the small one.
fn index_with(keys: &[String], attributes: &[ItemAttributes]) -> Index<AlignedBytes> {
    let n = keys.len() as u32;
    let table = KeyTable::build(keys).unwrap();
    let attributes = AttributeTables::build(n, attributes).unwrap();
    let graph = Parts::of(&support::sized(n, 3));
    let mut bytes = AlignedBytes::new();
    let mut writer = kindred_index::ContainerWriter::create(&mut bytes, 1, section::COUNT).unwrap();
    table.write(&mut writer).unwrap();
    attributes.write(&mut writer).unwrap();
    for kind in (1..=6).chain([section::CODE_SCALES, section::CODES]) {
        let mut section = graph.sections[&kind].clone();
        if kind == 1 {
            section[36..40].copy_from_slice(&table.log2().to_le_bytes());
            section[40..48].copy_from_slice(&table.seed().to_le_bytes());
        }
        writer.section(kind, |w| w.write_all(&section)).unwrap();
    }
    writer.finish().unwrap();
    Index::open(bytes).unwrap()
}

fn any_attributes() -> impl Strategy<Value = ItemAttributes> {
    let name = prop::sample::select(vec!["a", "b", "colour", "größe"]);
    let value = prop::sample::select(vec!["", "red", "green", "x", "日本"]);
    let terms = prop::collection::vec((name.clone(), value), 0..4);
    let numbers = prop::collection::vec((name, prop::sample::select(vec![-2.5, -0.0, 0.0, 1.0, 1e300])), 0..3);
    let points = prop::collection::vec(point(), 0..3);
    (terms, numbers, points).prop_map(|(terms, numbers, points)| ItemAttributes {
        terms: terms.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        numbers: numbers
            .into_iter()
            .chain(points.into_iter().flat_map(|(lat, lon)| [("p.lat", lat), ("p.lon", lon)]))
            .map(|(name, number)| (name.to_owned(), number))
            .collect(),
    })
}

/// Points near one another, at a pole and on both sides of the date line.
fn point() -> impl Strategy<Value = (f64, f64)> {
    prop::sample::select(vec![
        (47.37, 8.54),
        (47.4, 8.5),
        (46.9, 7.4),
        (90.0, 0.0),
        (89.0, 170.0),
        (0.0, 179.9),
        (0.1, -179.9),
    ])
}

fn any_filter() -> impl Strategy<Value = FilterExpr> {
    let name = || prop::sample::select(vec!["a", "b", "colour", "größe"]).prop_map(str::to_owned);
    let value = || prop::sample::select(vec!["", "red", "green", "x", "日本", "absent"]).prop_map(str::to_owned);
    let bound = || prop::option::of(prop::sample::select(vec![f64::NEG_INFINITY, -2.5, 0.0, 0.5, 1.0, f64::INFINITY]));
    let leaf = prop_oneof![
        (name(), value()).prop_map(|(field, value)| FilterExpr::Match { field, value }),
        (name(), prop::collection::vec(value(), 0..3)).prop_map(|(field, values)| FilterExpr::Any { field, values }),
        (name(), bound(), bound(), bound(), bound()).prop_map(|(field, gt, gte, lt, lte)| FilterExpr::Range {
            field,
            gt,
            gte,
            lt,
            lte
        }),
        name().prop_map(|field| FilterExpr::Exists { field }),
        Just(FilterExpr::Exists { field: "p".to_owned() }),
        (
            name(),
            prop::collection::vec(value(), 0..3),
            prop::collection::vec(prop::sample::select(vec![0.0, 1.0]), 0..2)
        )
            .prop_map(|(field, values, numbers)| FilterExpr::Except { field, values, numbers }),
        (point(), prop::sample::select(vec![0.0, 5_000.0, 150_000.0, 2e7]))
            .prop_map(|((lat, lon), radius_m)| { FilterExpr::GeoRadius { field: "p".to_owned(), lat, lon, radius_m } }),
        prop::collection::vec(0..30_u32, 0..5)
            .prop_map(|ids| FilterExpr::HasId { ids: ids.into_iter().map(|id| id.to_string()).collect() }),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(FilterExpr::And),
            prop::collection::vec(inner.clone(), 0..4).prop_map(FilterExpr::Or),
            inner.prop_map(|part| FilterExpr::Not(Box::new(part))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_key_is_found_and_no_other(keys in prop::collection::hash_set("\\PC{1,30}", 24..300), other in "\\PC{0,30}") {
        let keys: Vec<String> = keys.into_iter().collect();
        let index = index_with(&keys, &[]);
        index.verify().unwrap();
        let expected: HashMap<&str, u32> = keys.iter().map(String::as_str).zip(0..).collect();
        for (ordinal, key) in (0..).zip(&keys) {
            prop_assert_eq!(index.ordinal(key), Some(ordinal));
            prop_assert_eq!(index.key(ordinal), Some(key.as_str()));
        }
        prop_assert_eq!(index.ordinal(&other), expected.get(other.as_str()).copied());
        prop_assert_eq!(index.key(keys.len() as u32), None);
    }

    #[test]
    fn filters_let_the_same_items_pass_as_asking_each(
        items in prop::collection::vec(any_attributes(), 24..200),
        filters in prop::collection::vec(any_filter(), 20),
    ) {
        let n = items.len() as u32;
        let keys: Vec<String> = (0..n).map(|i| i.to_string()).collect();
        let index = index_with(&keys, &items);
        index.verify().unwrap();
        for filter in &filters {
            match index.attributes().evaluate(filter, n) {
                Ok(set) => {
                    let expected: Vec<u32> = (0..n).filter(|i| filter.matches(&i.to_string(), &items[*i as usize])).collect();
                    prop_assert_eq!(set.cardinality() as usize, expected.len());
                    prop_assert_eq!(set.iter().collect::<Vec<_>>(), expected);
                }
                Err(FilterError::UnknownField { field, known }) => prop_assert!(!known.contains(&field)),
                Err(FilterError::WrongType { field, .. }) => prop_assert!(index.attributes().field(&field).is_some()),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }

    #[test]
    fn bitmaps_are_sets(n in 0_u32..300, left in prop::collection::btree_set(0_u32..300, 0..80), right in prop::collection::btree_set(0_u32..300, 0..80)) {
        let below = |items: &BTreeSet<u32>| items.iter().copied().filter(|item| *item < n).collect::<BTreeSet<u32>>();
        let set_of = |items: &BTreeSet<u32>| {
            let mut set = AllowSet::new_empty(n);
            items.iter().for_each(|item| { set.insert(*item); });
            set
        };
        let (a, b) = (below(&left), below(&right));
        type Combine = (fn(&mut AllowSet, &AllowSet), fn(&BTreeSet<u32>, &BTreeSet<u32>) -> BTreeSet<u32>);
        let pairs: [Combine; 3] = [
            (AllowSet::and, |a, b| a & b),
            (AllowSet::or, |a, b| a | b),
            (AllowSet::and_not, |a, b| a - b),
        ];
        for (fast, slow) in pairs {
            let mut set = set_of(&left);
            fast(&mut set, &set_of(&right));
            let expected = slow(&a, &b);
            prop_assert_eq!(set.cardinality() as usize, expected.len());
            prop_assert!(set.iter().eq(expected.iter().copied()));
            prop_assert!((0..310).all(|item| set.contains(item) == expected.contains(&item)));
        }
    }
}

#[test]
fn a_hundred_thousand_keys_of_the_same_shape() {
    let keys: Vec<String> = (0..100_000).map(|i| format!("product/{i:08}/v1")).collect();
    let index = index_with(&keys, &[]);
    index.verify().unwrap();
    for (ordinal, key) in (0..).zip(&keys) {
        assert_eq!(index.ordinal(key), Some(ordinal));
    }
    assert!((0..1_000).all(|i| index.ordinal(&format!("product/{i:08}/v2")).is_none()));
}

#[test]
fn many_keys_are_found_as_each_is() {
    let keys: Vec<String> = (0..500).map(|i| format!("item-{i}")).collect();
    let index = index_with(&keys, &[]);
    let mut found = vec![Some(7)];
    for count in [0, 1, 63, 64, 65, 200] {
        // Every third is unknown, some come twice, one is empty.
        let asked: Vec<String> =
            (0..count).map(|i| format!("item-{}", if i % 3 == 0 { 500 + i } else { i / 2 })).collect();
        let asked = || asked.iter().map(String::as_str).chain([""]);
        index.keys().ordinals(asked(), &mut found);
        assert_eq!(found, asked().map(|key| index.ordinal(key)).collect::<Vec<_>>());
    }
}

#[test]
fn keys_that_cannot_be_stored() {
    let build = |keys: &[&str]| KeyTable::build(keys).unwrap_err();
    assert!(matches!(build(&["a", ""]), WriteError::KeyLength { ordinal: 1, found: 0 }));
    let long = "x".repeat(257);
    assert!(matches!(build(&[&long]), WriteError::KeyLength { ordinal: 0, found: 257 }));
    assert!(KeyTable::build(&["x".repeat(256)]).is_ok());
    let twice = build(&["a", "b", "a"]);
    assert!(matches!(&twice, WriteError::KeyTwice { first: 0, second: 2, key } if key == "a"), "{twice}");
}

#[test]
fn attributes_that_cannot_be_stored() {
    let term = |field: &str, value: &str| ItemAttributes {
        terms: vec![(field.to_owned(), value.to_owned())],
        ..ItemAttributes::default()
    };
    let number = |number| ItemAttributes { numbers: vec![("price".to_owned(), number)], ..ItemAttributes::default() };
    let build = |items: &[ItemAttributes]| AttributeTables::build(1, items).unwrap_err();
    assert!(matches!(build(&[term("", "x")]), WriteError::FieldName { ordinal: 0, found: 0 }));
    assert!(matches!(build(&[term(&"f".repeat(257), "x")]), WriteError::FieldName { found: 257, .. }));
    assert!(matches!(build(&[term("f", &"x".repeat(1025))]), WriteError::TermLength { found: 1025, .. }));
    assert!(matches!(build(&[number(f64::NAN)]), WriteError::Number { .. }));
    let two = [ItemAttributes::default(), ItemAttributes::default()];
    assert!(matches!(build(&two), WriteError::AttributeCount { expected: 1, found: 2 }));
    let many =
        ItemAttributes { terms: (0..257).map(|i| (i.to_string(), "x".to_owned())).collect(), numbers: Vec::new() };
    assert!(matches!(build(&[many]), WriteError::TooManyFields { found: 257 }));
}

#[test]
fn a_field_that_does_not_exist_is_an_error_that_names_those_that_do() {
    let index = Index::open(support::small()).unwrap();
    let exists = |field: &str| FilterExpr::Exists { field: field.to_owned() };
    let error = index.attributes().evaluate(&FilterExpr::And(vec![exists("color")]), index.len()).unwrap_err();
    assert_eq!(error.to_string(), "there is no field \"color\"; the fields are colour, price, rare");
    let index = Index::open(support::empty()).unwrap();
    let error = index.attributes().evaluate(&exists("color"), 0).unwrap_err();
    assert!(error.to_string().contains("no attributes"), "{error}");
}

#[test]
fn conditions_of_the_wrong_type_and_bounds_that_are_no_numbers() {
    let index = Index::open(support::small()).unwrap();
    let evaluate = |filter| index.attributes().evaluate(&filter, index.len()).unwrap_err();
    let range = |field: &str, bound| FilterExpr::Range {
        field: field.to_owned(),
        gt: None,
        gte: Some(bound),
        lt: None,
        lte: None,
    };
    let text = FilterExpr::Match { field: "price".to_owned(), value: "3".to_owned() };
    assert!(matches!(evaluate(text), FilterError::WrongType { holds: "numbers", .. }));
    assert!(matches!(evaluate(range("colour", 1.0)), FilterError::WrongType { holds: "text", .. }));
    assert!(matches!(evaluate(range("price", f64::NAN)), FilterError::BoundNotANumber { .. }));
    // Of no values none is of the wrong type: nothing passes, as with a field of text.
    for field in ["colour", "price"] {
        let none = FilterExpr::Any { field: field.to_owned(), values: Vec::new() };
        assert!(index.attributes().evaluate(&none, index.len()).unwrap().is_empty());
    }
}

#[test]
fn depth_and_size_of_a_filter_are_bounded() {
    let index = Index::open(support::small()).unwrap();
    let evaluate = |filter: &FilterExpr| index.attributes().evaluate(filter, index.len());
    let nested = |depth| (0..depth).fold(FilterExpr::And(Vec::new()), |inner, _| FilterExpr::Not(Box::new(inner)));
    assert_eq!(evaluate(&nested(FILTER_DEPTH_MAX)).unwrap().cardinality(), support::N);
    assert_eq!(evaluate(&nested(FILTER_DEPTH_MAX + 1)), Err(FilterError::TooDeep));
    let any = |count| FilterExpr::Any { field: "colour".to_owned(), values: vec!["x".to_owned(); count] };
    assert!(evaluate(&any(FILTER_PARTS_MAX - 1)).is_ok());
    assert_eq!(evaluate(&any(FILTER_PARTS_MAX)), Err(FilterError::TooLarge));
}

#[test]
fn fields_and_values_can_be_listed() {
    let index = Index::open(support::small()).unwrap();
    let attributes = index.attributes();
    let fields: BTreeMap<&str, u32> = attributes.fields().map(|field| (field.name(), field.n_items())).collect();
    assert_eq!(fields, BTreeMap::from([("colour", 24), ("price", 19), ("rare", 1)]));
    let colours: Vec<(&str, u32)> = attributes.field("colour").unwrap().terms().collect();
    assert_eq!(colours, [("blue", 7), ("grün", 7), ("red", 7), ("white", 7)]);
    assert_eq!(attributes.field("price").unwrap().number_range(), Some((-2.0, 5.0)));
    assert_eq!(attributes.field("rare").unwrap().n_terms(), 1);
}

#[test]
fn a_filter_that_would_go_over_everything_again_and_again_is_refused() {
    let keys: Vec<String> = (0..24).map(|i| i.to_string()).collect();
    let items = vec![
        ItemAttributes {
            numbers: vec![("p.lat".to_owned(), 1.0), ("p.lon".to_owned(), 1.0)],
            ..ItemAttributes::default()
        };
        24
    ];
    let index = index_with(&keys, &items);
    let world = |field: &str| FilterExpr::GeoRadius { field: field.to_owned(), lat: 0.0, lon: 0.0, radius_m: 2e7 };
    let evaluate = |circles: usize| index.attributes().evaluate(&FilterExpr::Or(vec![world("p"); circles]), 24);
    assert_eq!(evaluate(100).unwrap().cardinality(), 24);
    assert!(matches!(evaluate(4_000), Err(FilterError::TooCostly { .. })));
}

/// So are conditions that name few values or none and pass every item all the same.
#[test]
fn conditions_that_pass_every_item_are_counted_too() {
    const N: u32 = 400;
    let keys: Vec<String> = (0..N).map(|i| i.to_string()).collect();
    let item = |i: u32| ItemAttributes {
        terms: vec![("colour".to_owned(), ["red", "blue"][i as usize % 2].to_owned())],
        numbers: vec![("p.lat".to_owned(), 1.0), ("p.lon".to_owned(), 1.0)],
    };
    let items: Vec<ItemAttributes> = (0..N).map(item).collect();
    let index = index_with(&keys, &items);
    let evaluate = |part: &FilterExpr, times: usize| {
        let all = FilterExpr::Or(vec![part.clone(); times]);
        index.attributes().evaluate(&all, N)
    };
    let is_a_point = FilterExpr::Exists { field: "p".to_owned() };
    let of_any_colour = FilterExpr::Except { field: "colour".to_owned(), values: Vec::new(), numbers: Vec::new() };
    for part in [is_a_point, of_any_colour] {
        assert_eq!(evaluate(&part, 100).unwrap().cardinality(), N);
        assert!(matches!(evaluate(&part, 4_000), Err(FilterError::TooCostly { .. })), "{part:?}");
    }
}

/// Nor is a circle cheap over items that have very many points each: every latitude goes with every longitude.
#[test]
fn very_many_points_of_one_item_are_counted() {
    let keys: Vec<String> = (0..24).map(|i| i.to_string()).collect();
    let points = |count: u32| {
        // In the circle's band of latitudes and in its longitudes, and beyond its corner.
        let degrees = |i: u32| 8.5 + f64::from(i) * 1e-5;
        let axis = |name: &'static str| (0..count).map(move |i| (name.to_owned(), degrees(i)));
        ItemAttributes { numbers: axis("p.lat").chain(axis("p.lon")).collect(), ..ItemAttributes::default() }
    };
    let circle = FilterExpr::GeoRadius { field: "p".to_owned(), lat: 0.0, lon: 0.0, radius_m: 1e6 };
    let evaluate = |count: u32| {
        let index = index_with(&keys, &vec![points(count); 24]);
        index.attributes().evaluate(&circle, 24).map(|set| set.cardinality())
    };
    assert_eq!(evaluate(10), Ok(0));
    assert!(matches!(evaluate(2_000), Err(FilterError::TooCostly { .. })));
}

/// Where a longitude is written as 190, the tables and the plain reading agree that it is none.
#[test]
fn what_is_no_latitude_or_longitude_is_in_no_circle() {
    let keys: Vec<String> = (0..24).map(|i| i.to_string()).collect();
    let places = [(0.0, -170.0), (0.0, 190.0), (0.1, -169.9), (91.0, -170.0)];
    let item = |i: usize| {
        let (lat, lon) = places.get(i).copied().unwrap_or((50.0, 50.0));
        let numbers = vec![("p.lat".to_owned(), lat), ("p.lon".to_owned(), lon)];
        ItemAttributes { numbers, ..ItemAttributes::default() }
    };
    let items: Vec<ItemAttributes> = (0..24).map(item).collect();
    let index = index_with(&keys, &items);
    for (lat, radius_m, expected) in [(0.0, 50_000.0, vec![0, 2]), (89.9, 200_000.0, Vec::new())] {
        let circle = FilterExpr::GeoRadius { field: "p".to_owned(), lat, lon: -170.0, radius_m };
        let set = index.attributes().evaluate(&circle, 24).unwrap();
        assert_eq!(set.iter().collect::<Vec<_>>(), expected);
        assert!((0..24_u32).all(|i| circle.matches("", &items[i as usize]) == set.contains(i)));
    }
}
