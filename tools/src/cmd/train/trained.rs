//! What `kindred train` prints.

use kindred::scenario::LearnedWeights;

use super::Trained;
use crate::model_dir::{EncoderInfo, Learned};
use crate::report::{self, Report, Table};
use crate::train::neighbours::{NeighbourOptions, Order};

impl Report for Trained<'_> {
    fn text(&self) -> String {
        let info = self.info;
        let mut text = format!(
            "{}: {} items × {} factors by {}, {}, in {}{}\n",
            self.output.display(),
            report::count(info.n_items),
            info.factors,
            info.trainer,
            if info.symmetric { "symmetric" } else { "with context factors of their own" },
            report::seconds(self.seconds),
            self.peak_memory_bytes.map(|bytes| format!(" and {} of memory", report::bytes(bytes))).unwrap_or_default(),
        );
        if info.n_interactions > 0 {
            let (users, interactions) = (report::count(info.n_users), report::count(info.n_interactions));
            text.push_str(&format!("from {interactions} interactions of {users} users\n"));
        }
        if let Some(EncoderInfo { n_features, n_items, cosine, cosine_of_categories, .. }) = &info.encoder {
            let (features, items) = (report::count(*n_features as u64), report::count(*n_items as u64));
            text.push_str(&format!(
                "{features} words and attributes of {items} items: rows made of them have a cosine of {cosine:.3} with the learned ones, \
                 means of categories {cosine_of_categories:.3}\n"
            ));
        }
        if info.n_cold_items > 0 {
            let cold = report::count(info.n_cold_items);
            text.push_str(&format!(
                "{cold} items of which training learned nothing got rows like those of items that resemble them\n"
            ));
        }
        if let Some(NeighbourOptions { by, backwards, .. }) = &info.neighbours {
            text.push_str(&match (by, backwards) {
                (Order::Together, _) => "items are alike that the same users took\n".to_owned(),
                (Order::Pearson, _) => "items are alike that users give alike\n".to_owned(),
                (Order::Linear, _) => "items are alike that follow each other, by a linear model\n".to_owned(),
                (_, Some(backwards)) => {
                    format!("items are alike that follow each other, backwards counting {backwards}\n")
                }
                (_, None) => String::new(),
            });
        }
        if let [first, .., last] = info.loss[..] {
            text.push_str(&format!("loss {first:.6} after the first iteration, {last:.6} after {}\n", info.loss.len()));
        }
        text.push_str(&format!("interactions weigh by position: {}", info.weighting.recency()));
        match &info.validation {
            Some(validation) => {
                let users = report::count(validation.n_users);
                text.push_str(&format!(", chosen by the last training interactions of {users} users:\n"));
                let mut table = Table::new(["position decay", "HR@10", "NDCG@10"]);
                for tried in &validation.tried {
                    let (hits, gain) = (format!("{:.4}", tried.hit_rate_at_10), format!("{:.4}", tried.ndcg_at_10));
                    table.row([tried.position_decay.to_string(), hits, gain]);
                }
                text.push_str(&table.text());
            }
            None => text.push('\n'),
        }
        if let Some(learned) = &info.learned {
            text.push_str(&learned.text());
        }
        text
    }
}

impl Report for Learned {
    fn text(&self) -> String {
        let n_lists = report::count(self.n_lists as u64);
        let mut text = format!("weights of sources on {n_lists} lists held back from training");
        match &self.weights {
            Some(LearnedWeights { vector, neighbours, sessions, popularity, trending, boosts }) => {
                let boosts = boosts.map(|boosts| format!(", learned boosts times {boosts:.3}")).unwrap_or_default();
                text.push_str(&format!(
                    ": vector {vector:.3}, neighbours {neighbours:.3}, sessions {sessions:.3}, popularity {popularity:.3}, \
                     trending {trending:.3}{boosts}; a scenario uses them with learned_weights = true\n"
                ));
            }
            None => text.push_str(": none better than those that are set\n"),
        }
        let mut table = Table::new(["weights", "HR@10", "NDCG@10"]);
        for (name, worth) in [("as set", self.as_set), ("as learned", self.as_learned)] {
            let (hits, gain) = (format!("{:.4}", worth.hit_rate_at_10), format!("{:.4}", worth.ndcg_at_10));
            table.row([name.to_owned(), hits, gain]);
        }
        text.push_str(&table.text());
        text.push_str("as learned: each half of the lists with the weights that were learned on the other half\n");
        text.push_str(&format!("what was taken next was among the candidates of {:.1} %\n", self.proposed * 100.0));
        text
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::factors::FactorsOptions;
    use crate::generated;
    use crate::model_dir::{ModelInfo, ModelMetric};

    #[test]
    fn an_item_that_training_learned_nothing_of_may_have_interactions() {
        let options = FactorsOptions { n_items: 20, dims: 4, n_queries: 1, seed: 1 };
        let info = ModelInfo { n_cold_items: 3, ..generated::model(&options, ModelMetric::Cosine).info };
        let text = Trained { output: Path::new("model"), seconds: 1.0, peak_memory_bytes: None, info: &info }.text();
        assert!(text.contains("3 items of which training learned nothing got rows"), "{text}");
    }
}
