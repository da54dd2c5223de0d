//! What `kindred evaluate` prints: text, JSON, or a page with pictures. All three are made of the same numbers.

use serde::Serialize;

use crate::evaluate::{AtK, Evaluation, Segment};
use crate::report::{self, Report, Table};
use crate::svg::{Axis, Chart, Mark, Series, escaped};

/// What was measured, and on what.
#[derive(Debug, Serialize)]
pub(super) struct Evaluated {
    pub(super) generation: String,
    pub(super) scenario: String,
    pub(super) split: serde_json::Value,
    pub(super) trained_on_this_dataset: bool,
    pub(super) recency: String,
    /// Most recent interactions of a user that are looked at, at most.
    pub(super) history_max: usize,
    /// What says how many.
    pub(super) history_by: String,
    /// The artifact has learned weights, and the scenario goes by its own.
    pub(super) learned_weights_unused: bool,
    /// The scenario weighs what is taken just now, which is counted only where each event is predicted.
    pub(super) trends_not_counted: bool,
    #[serde(flatten)]
    pub(super) evaluation: Evaluation,
}

/// How a metric is read from what was measured.
type Metric = fn(&AtK) -> f64;

const METRICS: [(&str, Metric); 9] = [
    ("HR", |at| at.hit_rate),
    ("Recall", |at| at.recall),
    ("NDCG", |at| at.ndcg),
    ("MRR", |at| at.mrr),
    ("MAP", |at| at.map),
    ("coverage", |at| at.coverage),
    ("popularity percentile", |at| at.popularity_percentile),
    ("novelty, bits", |at| at.novelty),
    ("Gini", |at| at.gini),
];

impl Evaluated {
    /// Who was asked, and what was left out: lines of text.
    fn heading(&self) -> Vec<String> {
        let Evaluation { n_users, n_lists, n_relevant, skipped, latency, .. } = &self.evaluation;
        let mut lines = vec![
            format!("generation {}, scenario {}, {}", self.generation, self.scenario, self.recency),
            format!(
                "{} users, {} lists, {} held-out items looked for",
                report::count(*n_users),
                report::count(*n_lists),
                report::count(*n_relevant)
            ),
            format!(
                "looked at: the last {} interactions of each user, at most ({})",
                report::count(self.history_max as u64),
                self.history_by
            ),
        ];
        if !self.trained_on_this_dataset {
            lines.push(
                "Warning: the artifact was not trained on this dataset; its training part may hold what is tested here"
                    .to_owned(),
            );
        }
        let reasons = [
            (skipped.without_history, "of users of whom nothing is known before"),
            (skipped.unknown_items, "with items that the artifact does not have"),
            (skipped.seen_before, "with items seen before, which lists leave out"),
            (skipped.not_liked, "not liked"),
            (skipped.repeated, "repeated"),
            (skipped.not_new, "with items that are not new"),
            (skipped.unavailable, "with items not available or filtered out"),
        ];
        for (n, reason) in reasons.into_iter().filter(|(n, _)| *n > 0) {
            lines.push(format!("left out: {} test interactions {reason}", report::count(n)));
        }
        for (n, reason) in [(skipped.users_without_any, "without any left"), (skipped.users_not_sampled, "not drawn")] {
            if n > 0 {
                lines.push(format!("left out: {} users {reason}", report::count(n)));
            }
        }
        if self.learned_weights_unused {
            let variable = format!("KINDRED__SCENARIOS__{}__LEARNED_WEIGHTS=true, or ", self.scenario.to_uppercase());
            lines.push(format!(
                "the artifact has learned weights, which this scenario does not use: to measure and serve with them set \
                 {}learned_weights = true in the settings file",
                if has_variables(&self.scenario) { variable.as_str() } else { "" }
            ));
        }
        if self.trends_not_counted {
            lines.push(
                "the scenario weighs what is taken just now, which is not counted here and is missing in the lists: to measure it \
                 give --protocol next-event"
                    .to_owned(),
            );
        }
        if let Some(latency) = latency {
            let [p50, p99] = [latency.p50_us, latency.p99_us].map(|micros| report::seconds(micros * 1e-6));
            let threads = latency.threads;
            lines.push(format!(
                "a list through the index took {p50} (p50) and {p99} (p99), on {threads} threads at once"
            ));
        }
        lines
    }

    /// The metrics at the `place`-th length of list.
    fn metrics(&self, place: usize) -> Table {
        let systems = &self.evaluation.systems;
        let at = || systems.iter().filter_map(|system| system.at.get(place));
        let k = at().next().map_or(0, |at| at.k);
        let mut table =
            Table::new(std::iter::once(format!("at {k}")).chain(systems.iter().map(|system| system.name.to_owned())));
        let interval = |[low, high]: [f64; 2]| format!("{low:.4}–{high:.4}");
        for (name, metric) in METRICS {
            table.row(std::iter::once(name.to_owned()).chain(at().map(|at| format!("{:.4}", metric(at)))));
            let sure = match name {
                "HR" => Some(at().map(|at| interval(at.hit_rate_interval)).collect::<Vec<_>>()),
                "NDCG" => Some(at().map(|at| interval(at.ndcg_interval)).collect()),
                _ => None,
            };
            if let Some(sure) = sure {
                table.row(std::iter::once("  in 95 of 100 samples".to_owned()).chain(sure));
            }
        }
        table
    }

    /// Hit rate and gain by segment at the `place`-th length of list.
    fn segments(&self, place: usize) -> Table {
        let systems = &self.evaluation.systems;
        let k = systems.first().and_then(|system| system.at.get(place)).map_or(0, |at| at.k);
        let of = |system: usize| {
            let segments = systems.get(system).map_or(&[][..], |system| &system.segments);
            segments.iter().filter(|segment| segment.k == k).collect::<Vec<&Segment>>()
        };
        let columns =
            systems.iter().flat_map(|system| [format!("HR {}", system.name), format!("NDCG {}", system.name)]);
        let mut table = Table::new([format!("at {k}"), "lists".to_owned()].into_iter().chain(columns));
        for (row, first) in of(0).iter().enumerate() {
            let cells = (0..systems.len()).flat_map(|system| {
                let numbers = of(system).get(row).map_or([0.0; 2], |segment| [segment.hit_rate, segment.ndcg]);
                numbers.map(|number| format!("{number:.4}"))
            });
            table.row([first.name.to_owned(), report::count(first.n_lists)].into_iter().chain(cells));
        }
        table
    }

    fn n_lengths(&self) -> usize {
        self.evaluation.systems.first().map_or(0, |system| system.at.len())
    }

    /// One metric against the length of the list, a line a system.
    fn picture(&self, name: &str, metric: Metric) -> String {
        let series = self.evaluation.systems.iter().map(|system| Series {
            name: system.name.to_owned(),
            points: system.at.iter().map(|at| (at.k as f64, metric(at))).collect(),
            mark: Mark::Line,
        });
        let title = format!("{name} by length of list");
        Chart { title, x: Axis::linear("items in the list"), y: Axis::linear(name), series: series.collect() }.svg()
    }

    /// The report as a page that needs nothing beside it.
    pub(super) fn page(&self) -> String {
        let mut page = String::from(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>kindred evaluate</title>\n<style>\
             body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}\
             table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:right}\
             .left{text-align:left}svg{max-width:100%}</style></head><body>\n<h1>How good the served list is</h1>\n",
        );
        for line in self.heading() {
            page.push_str(&format!("<p>{}</p>\n", escaped(&line)));
        }
        for place in 0..self.n_lengths() {
            page.push_str(&self.metrics(place).html());
            page.push_str(&self.segments(place).html());
        }
        for (name, metric) in METRICS.into_iter().filter(|(name, _)| ["HR", "NDCG", "coverage"].contains(name)) {
            page.push_str(&self.picture(name, metric));
        }
        page.push_str("</body></html>\n");
        page
    }
}

/// Whether a scenario can be set by environment variables: a shell exports them, and they are read in lower case and in parts between `__`.
fn has_variables(scenario: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    scenario.split('_').all(|part| !part.is_empty() && part.chars().all(is_plain))
}

impl Report for Evaluated {
    fn text(&self) -> String {
        let mut text = self.heading().join("\n") + "\n";
        for place in 0..self.n_lengths() {
            text.push('\n');
            text.push_str(&self.metrics(place).text());
            if let Some(overlap) = self.evaluation.list_overlap.get(place) {
                text.push_str(&format!(
                    "  the list through the index has {} of the exact one\n",
                    report::percent(overlap.share)
                ));
            }
            text.push_str(&self.segments(place).text());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::evaluate::{Latency, Overlap, Protocol, Skipped, System};

    fn evaluated() -> Evaluated {
        let at = |hit_rate: f64| AtK {
            k: 10,
            hit_rate,
            hit_rate_interval: [hit_rate - 0.01, hit_rate + 0.01],
            recall: 0.1,
            ndcg: 0.1,
            ndcg_interval: [0.09, 0.11],
            mrr: 0.1,
            map: 0.1,
            coverage: 0.5,
            popularity_percentile: 0.8,
            novelty: 9.5,
            gini: 0.7,
        };
        let segments = |hit_rate: f64| {
            vec![Segment { name: "history of up to 5", k: 10, n_lists: 1_200, hit_rate: hit_rate / 2.0, ndcg: 0.05 }]
        };
        let system = |name, hit_rate| System { name, at: vec![at(hit_rate)], segments: segments(hit_rate) };
        Evaluated {
            generation: "g1".to_owned(),
            scenario: "<home>".to_owned(),
            split: serde_json::Value::Null,
            trained_on_this_dataset: true,
            recency: "falling to 1/e in 3 interactions".to_owned(),
            history_max: 1_000,
            history_by: "--history".to_owned(),
            learned_weights_unused: false,
            trends_not_counted: false,
            evaluation: Evaluation {
                protocol: Protocol::HeldOut,
                n_users: 6_040,
                n_lists: 6_040,
                n_relevant: 6_040,
                skipped: Skipped { unknown_items: 3, ..Skipped::default() },
                systems: vec![system("index", 0.2345), system("exact", 0.2367), system("popular", 0.0363)],
                list_overlap: vec![Overlap { k: 10, share: 0.991 }],
                latency: Some(Latency { p50_us: 51.0, p99_us: 230.0, threads: 2 }),
            },
        }
    }

    #[test]
    fn systems_stand_side_by_side_and_what_was_left_out_is_said() {
        let evaluated = evaluated();
        let text = evaluated.text();
        for part in [
            "6,040 users",
            "looked at: the last 1,000 interactions of each user, at most (--history)",
            "left out: 3 test interactions with items that the artifact does not have",
            "0.2345",
            "0.2367",
            "0.0363",
            "0.2245–0.2445",
            "99.1 %",
            "1,200",
            "0.1172",
            "51 µs (p50) and 230 µs (p99), on 2 threads",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let json: serde_json::Value = serde_json::to_value(&evaluated).unwrap();
        assert_eq!(json["systems"][0]["at"][0]["hit_rate"], 0.2345);
    }

    #[test]
    fn what_may_have_been_trained_on_is_told_in_the_result() {
        let warning = "Warning: the artifact was not trained on this dataset";
        assert!(!evaluated().text().contains(warning));
        let doubtful = Evaluated { trained_on_this_dataset: false, ..evaluated() };
        assert!(doubtful.text().contains(warning) && doubtful.page().contains(warning), "{}", doubtful.text());
    }

    #[test]
    fn trends_that_are_not_counted_are_told_with_the_way_to_count_them() {
        assert!(!evaluated().text().contains("just now"));
        let told = Evaluated { trends_not_counted: true, ..evaluated() }.text();
        assert!(told.contains("what is taken just now") && told.contains("--protocol next-event"), "{told}");
    }

    #[test]
    fn learned_weights_that_are_not_used_are_told_with_the_way_to_use_them() {
        let (used, scenario) = (evaluated(), "home".to_owned());
        assert!(!used.text().contains("learned"), "{}", used.text());
        let unused = Evaluated { learned_weights_unused: true, scenario, ..used };
        assert!(unused.text().contains("KINDRED__SCENARIOS__HOME__LEARNED_WEIGHTS=true"), "{}", unused.text());
        // No shell exports the first, and the others are read back as other names.
        for scenario in ["front-page", "Home", "front__page", "page_"] {
            let unused = Evaluated { learned_weights_unused: true, scenario: scenario.to_owned(), ..evaluated() };
            let text = unused.text();
            assert!(text.contains("set learned_weights = true in the settings file"), "{text}");
            assert!(!text.contains("KINDRED__"), "{text}");
        }
        assert!(has_variables("also_bought"));
    }

    #[test]
    fn the_page_has_the_tables_and_the_pictures_and_escapes_names() {
        let page = evaluated().page();
        assert!(page.contains("<td>0.2345</td>") && page.contains("0.2245–0.2445"), "{page}");
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(page.contains("&lt;home&gt;") && !page.contains("<home>"), "{page}");
    }
}
