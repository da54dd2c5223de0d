//! How good a list is: one metric a file, each with a test worked out by hand.
//!
//! A list is item numbers, best first, without repetitions. `relevant` is what the user really went on to, sorted by number,
//! without repetitions and not empty. "At k" looks at the first k places. `recall@k` is about what users did;
//! how much of the exact search an approximate one finds is `ann_recall@k` and is measured elsewhere.

pub mod average_precision;
pub mod bootstrap;
pub mod coverage;
pub mod gini;
pub mod hit_rate;
pub mod ndcg;
pub mod novelty;
pub mod popularity;
pub mod recall;
pub mod reciprocal_rank;

pub use average_precision::average_precision;
pub use coverage::coverage;
pub use gini::gini;
pub use hit_rate::hit_rate;
pub use ndcg::ndcg;
pub use novelty::self_information;
pub use popularity::percentiles;
pub use recall::recall;
pub use reciprocal_rank::reciprocal_rank;

/// For each of the first k places: whether what stands there is relevant.
pub(crate) fn hits<'a>(list: &'a [u32], relevant: &'a [u32], k: usize) -> impl Iterator<Item = bool> + 'a {
    list.iter().take(k).map(|item| relevant.binary_search(item).is_ok())
}
