//! Any bytes as a filter: parsing, evaluating over the tables of the index, and the plain reading of one item after the other must agree.
//!
//! Run on a stable compiler: `cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none filters`.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;
use std::{fs, io};

use kindred::filter::Filter;
use kindred::testing::Fixture;
use kindred_index::{AlignedBytes, Index, ItemAttributes};
use libfuzzer_sys::fuzz_target;

struct Shop {
    index: Index<AlignedBytes>,
    keys: Vec<String>,
    attributes: Vec<ItemAttributes>,
}

static SHOP: LazyLock<Shop> = LazyLock::new(|| {
    let shop = Fixture::shop();
    let index = Index::open(shop.index_bytes()).expect("the fixture opens");
    Shop { index, keys: shop.keys(), attributes: shop.attributes() }
});

/// One of each condition, and groups in groups.
const SEEDS: [&str; 8] = [
    r#"{"must":[{"key":"category","match":{"any":["toys","garden"]}},{"key":"price","range":{"gte":1.5,"lt":20}}]}"#,
    r#"{"key":"available","match":{"value":true}}"#,
    r#"{"key":"category","match":{"except":["toys",3]}}"#,
    r#"{"must_not":[{"should":[{"has_id":["1","2"]},{"key":"price","exists":false}]}]}"#,
    r#"{"key":"shop","geo_radius":{"center":{"lat":47.37,"lon":8.54},"radius":5000.0}}"#,
    r#"{"key":"since","range":{"gt":"2026-11-24T14:25:01Z","lte":"2026-12-24T14:25:01Z"}}"#,
    r#"{"must":[],"should":[],"must_not":[]}"#,
    r#"{"key":"price","match":{"value":9.5}}"#,
];

fuzz_target!(init: plant().unwrap_or_else(|error| eprintln!("no seeds: {error}")), |input: &[u8]| {
    let Ok(filter) = serde_json::from_slice::<Filter>(input) else { return };
    let Ok(Some(expression)) = filter.expression() else { return };
    let Shop { index, keys, attributes } = &*SHOP;
    let Ok(allowed) = index.attributes().evaluate(&expression, index.len()) else { return };
    for (ordinal, (key, item)) in (0..).zip(keys.iter().zip(attributes)) {
        assert_eq!(allowed.contains(ordinal), expression.matches(key, item), "{expression:?} on {key}");
    }
});

/// Writes the seeds.
fn plant() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/filters");
    fs::create_dir_all(&corpus)?;
    SEEDS.iter().enumerate().try_for_each(|(at, seed)| fs::write(corpus.join(format!("seed-{at}")), seed))
}
