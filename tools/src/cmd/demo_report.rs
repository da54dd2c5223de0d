//! What `kindred demo` did and what there is to try.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use kindred::settings::Settings;
use serde::Serialize;

use super::demo_show::Shown;
use crate::report::{Report, leftovers, seconds};

/// What the demo did.
#[derive(Clone, Debug, Serialize)]
pub struct DemoReport {
    /// Where everything lies.
    pub dir: PathBuf,
    /// The file of the visitors' interactions, once it is served.
    pub store: PathBuf,
    /// The steps, in their order.
    pub steps: Vec<Step>,
    /// The generation that was published.
    pub generation: String,
    /// Why there is none.
    pub problem: Option<String>,
    /// What of earlier builds could not be removed, by its path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_removed: Vec<String>,
    /// What the server answered.
    pub shown: Option<Shown>,
}

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The command that does it alone.
    pub step: &'static str,
    /// How long it took.
    pub seconds: f64,
    /// What it did.
    pub said: String,
}

impl DemoReport {
    /// Nothing done yet.
    pub fn new(dir: &Path) -> Self {
        let store = dir.join(Settings::default().history.path);
        Self {
            dir: dir.to_owned(),
            store,
            steps: Vec::new(),
            generation: String::new(),
            problem: None,
            not_removed: Vec::new(),
            shown: None,
        }
    }
}

impl Report for DemoReport {
    fn text(&self) -> String {
        let total: f64 = self.steps.iter().map(|step| step.seconds).sum();
        let dir = self.dir.display();
        let store = self.store.display();
        let mut text = leftovers(&self.not_removed);
        if let Some(problem) = &self.problem {
            let _ = writeln!(text, "Nothing to serve: {problem}");
            return text;
        }
        let _ = writeln!(text, "Built {} in {}; everything is in {dir}.", self.generation, seconds(total));
        if let Some(shown) = &self.shown {
            text.push_str(&shown.text());
        }
        let again = if self.shown.is_some() { "\nTo serve it again later" } else { "To serve it" };
        let _ = writeln!(text, "{again}: kindred serve --artifacts {dir}/artifacts --store {store}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_removed_is_told_also_where_nothing_is_served() {
        let mut report = DemoReport::new(Path::new("demo"));
        report.not_removed.push("demo/artifacts/g1.partial".to_owned());
        assert!(report.text().contains("remove it by hand: demo/artifacts/g1.partial"), "{}", report.text());
        report.problem = Some("damaged".to_owned());
        let text = report.text();
        assert!(text.contains("g1.partial") && text.contains("Nothing to serve: damaged"), "{text}");
    }
}
