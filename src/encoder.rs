//! Text and attributes to factors: a row for an item that nobody has touched yet, and a query vector for words.
//!
//! An item is described by [`Features`]: its words and their beginnings, its categories, its other attributes and its price; a query by its
//! words. A model that has an encoder keeps a weight and a row of factors for each feature that it met in its catalogue, and
//! `encode(x) = Σ_f x_f · weight_f · row_f / ‖x·weight‖`: a linear map that ridge regression has fitted to the factors of the items that are
//! known (Gantner et al. 2010: Learning Attribute-to-Feature Mappings for Cold-Start Recommendations). Training and serving both call this
//! file, so that a word cannot mean two things. Costs a look-up and a row a feature.

use std::collections::BTreeMap;

use kindred_index::key_hash;
use serde_json::Value;

use crate::catalog::CatalogItem;

/// What a word of the title, a category and a text attribute weigh; other features weigh less.
const FULL: f32 = 1.0;
/// What a word of the description weighs, and the beginning of a long word.
const HALF: f32 = 0.5;
/// Characters of the beginning of a longer word, which stands in for its other endings.
const BEGINNING: usize = 5;
/// Longest text of an attribute that is a feature; longer ones name nothing that two items share.
const VALUE_BYTES_MAX: usize = 64;
/// Features of an item or a query, at most; what a longer text says further on is not heard.
const FEATURES_MAX: usize = 512;

/// What describes an item or a query: features by their hashes, each with its weight.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features(BTreeMap<u64, f32>);

/// The encoder of a model, borrowed for the length of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct EncoderView<'a> {
    /// Hashes of the known features, ascending.
    pub keys: &'a [u64],
    /// The weight of each.
    pub weights: &'a [f32],
    /// For each feature a row that adds to the target row.
    pub rows: &'a [f32],
    /// For each feature a row that adds to the context row; empty in a symmetric model.
    pub context_rows: &'a [f32],
    /// Length of a row.
    pub dimensions: usize,
}

/// What features say.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// The target row, not of any particular length.
    pub target: Vec<f32>,
    /// The context row; none in a symmetric model.
    pub context: Option<Vec<f32>>,
}

impl Features {
    /// Of an item of the catalogue.
    pub fn of_item(item: &CatalogItem) -> Self {
        let mut features = Self::default();
        features.add_words(&item.title, FULL);
        for category in &item.categories {
            features.add("category", category, FULL);
            features.add_words(category, FULL);
        }
        for (name, value) in &item.attributes {
            match value {
                Value::Array(values) => values.iter().for_each(|value| features.add_value(name, value)),
                value => features.add_value(name, value),
            }
        }
        if let Some(price) = item.price.filter(|price| *price > 0.0 && price.is_finite()) {
            // Two steps to a doubling.
            features.add("price", &format!("{}", (2.0 * price.log2()).floor()), HALF);
        }
        features.add_words(&item.description, HALF);
        features
    }

    /// Of words that somebody looks for.
    pub fn of_query(text: &str) -> Self {
        let mut features = Self::default();
        features.add_words(text, FULL);
        features
    }

    /// Hashes, ascending, each with its weight.
    pub fn iter(&self) -> impl Iterator<Item = (u64, f32)> + '_ {
        self.0.iter().map(|(key, weight)| (*key, *weight))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add_value(&mut self, name: &str, value: &Value) {
        if let Value::String(text) = value
            && text.len() <= VALUE_BYTES_MAX
        {
            self.add(name, text, FULL);
            self.add_words(text, HALF);
        }
    }

    fn add_words(&mut self, text: &str, weight: f32) {
        for word in words(text) {
            let beginning: String = word.chars().take(BEGINNING).collect();
            self.add("word", &word, weight);
            self.add("begins", &beginning, HALF * weight);
        }
    }

    fn add(&mut self, name: &str, value: &str, weight: f32) {
        if self.0.len() < FEATURES_MAX {
            let key = feature_key(name, &value.to_lowercase());
            let known = self.0.entry(key).or_default();
            *known = known.max(weight);
        }
    }
}

/// The hash of a feature, with which models on disk know it.
fn feature_key(name: &str, value: &str) -> u64 {
    const SEED: u64 = 0x6b69_6e64_7265_6421;
    key_hash(SEED, format!("{name}\u{1f}{value}").as_bytes())
}

/// The words of a text, in lower case. Scripts that are written without spaces give every two characters that stand side by side.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for run in text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty()) {
        let lower = run.to_lowercase();
        let characters: Vec<char> = lower.chars().collect();
        if characters.iter().copied().any(is_unspaced) && characters.len() > 1 {
            words.extend(characters.windows(2).map(String::from_iter));
        } else {
            words.push(lower);
        }
    }
    words
}

/// Kana, Han and Hangul; Thai, Lao, Khmer and Burmese.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}')
}

impl EncoderView<'_> {
    /// Whether the model has no encoder.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The features that are known, by their places, each with its share: weighed, and of length 1 in all.
    pub fn known(&self, features: &Features) -> Vec<(usize, f32)> {
        let mut known: Vec<(usize, f32)> = Vec::new();
        for (key, value) in features.iter() {
            if let Ok(at) = self.keys.binary_search(&key) {
                known.push((at, value * self.weights.get(at).copied().unwrap_or_default()));
            }
        }
        let length = known.iter().map(|(_, value)| value * value).sum::<f32>().sqrt();
        if length.is_nan() || length <= 0.0 {
            return Vec::new();
        }
        known.iter_mut().for_each(|(_, value)| *value /= length);
        known
    }

    /// What features say; none if not one of them is known.
    pub fn encode(&self, features: &Features) -> Option<Encoded> {
        let known = self.known(features);
        let target = self.sum(self.rows, &known);
        let context = (!self.context_rows.is_empty()).then(|| self.sum(self.context_rows, &known));
        target.iter().any(|value| *value != 0.0).then_some(Encoded { target, context })
    }

    /// The words of a text that the model has never met.
    pub fn unknown_words(&self, text: &str) -> Vec<String> {
        let is_known = |word: &String| {
            let mut features = Features::default();
            features.add_words(word, FULL);
            features.iter().any(|(key, _)| self.keys.binary_search(&key).is_ok())
        };
        words(text).into_iter().filter(|word| !is_known(word)).collect()
    }

    fn sum(&self, rows: &[f32], known: &[(usize, f32)]) -> Vec<f32> {
        let mut sum = vec![0.0; self.dimensions];
        for (at, value) in known {
            let row = rows.get(at * self.dimensions..(at + 1) * self.dimensions).unwrap_or_default();
            sum.iter_mut().zip(row).for_each(|(sum, row)| *sum += value * row);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(word: &str) -> Features {
        Features::of_query(word)
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        assert_eq!(words("Red GARDEN-lantern, 2×40W!"), ["red", "garden", "lantern", "2", "40w"]);
        assert_eq!(words("Größe  ÉTÉ"), ["größe", "été"]);
        assert_eq!(words("赤い提灯"), ["赤い", "い提", "提灯"]);
        assert!(words(" — ").is_empty());
    }

    #[test]
    fn an_item_has_the_words_of_its_texts_and_its_attributes_once() {
        let mut item = CatalogItem::new("a");
        item.title = "Lantern lantern".to_owned();
        item.description = "A lantern".to_owned();
        item.categories = vec!["Garden".to_owned()];
        item.attributes.insert("colour".to_owned(), serde_json::json!(["red", 7, null]));
        item.price = Some(8.0);
        let features = Features::of_item(&item);
        let of = |name: &str, value: &str| features.0.get(&feature_key(name, value)).copied();
        assert_eq!(
            (of("word", "lantern"), of("begins", "lante")),
            (Some(1.0), Some(0.5)),
            "the title outweighs the description"
        );
        assert_eq!((of("category", "garden"), of("word", "garden")), (Some(1.0), Some(1.0)));
        assert_eq!((of("colour", "red"), of("word", "red"), of("word", "a")), (Some(1.0), Some(0.5), Some(0.5)));
        assert_eq!((of("price", "6"), of("word", "lamp")), (Some(0.5), None));
        let other_ending = word("lanterns");
        assert!(other_ending.iter().any(|(key, _)| features.0.contains_key(&key)), "by its beginning");
        assert!(Features::of_query(&"word ".repeat(10)).0.len() == 2 && Features::of_query("").is_empty());
        let long: String = (0..2_000).map(|i| format!("w{i} ")).collect();
        assert_eq!(Features::of_query(&long).0.len(), FEATURES_MAX);
    }

    #[test]
    fn rows_are_added_by_weight_and_words_never_met_say_nothing() {
        let (red, lantern) = (word("red"), word("lamp"));
        let mut known: Vec<(u64, f32, [f32; 2])> = Vec::new();
        known.extend(red.iter().map(|(key, _)| (key, 1.0, [1.0, 0.0])));
        known.extend(lantern.iter().map(|(key, _)| (key, 3.0, [0.0, 1.0])));
        known.sort_by_key(|(key, ..)| *key);
        let keys: Vec<u64> = known.iter().map(|one| one.0).collect();
        let weights: Vec<f32> = known.iter().map(|one| one.1).collect();
        let rows: Vec<f32> = known.iter().flat_map(|one| one.2).collect();
        let view = EncoderView { keys: &keys, weights: &weights, rows: &rows, context_rows: &[], dimensions: 2 };
        let found = view.encode(&Features::of_query("a red lamp")).unwrap();
        // Two features a word, of 1 and 0.5: (1 + 0.5) to (3 + 1.5), over the length of all four.
        let length = (1.25_f32 * 10.0).sqrt();
        assert!((found.target[0] - 1.5 / length).abs() < 1e-6 && (found.target[1] - 4.5 / length).abs() < 1e-6);
        assert_eq!(found.context, None);
        assert_eq!(view.encode(&word("blue")), None);
        assert_eq!(view.unknown_words("Blue red thing"), ["blue", "thing"]);
        assert_eq!(EncoderView::default().encode(&red), None);
        let twice = EncoderView { context_rows: &rows, ..view };
        assert_eq!(twice.encode(&red).unwrap().context.unwrap(), twice.encode(&red).unwrap().target);
    }
}
