//! `kindred evaluate --from-log`: what visitors did with the lists that a server has logged.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use kindred::people::shown::each_logged;
use kindred::store::embedded::{DEFAULT_PATH, EmbeddedStore};
use serde::Serialize;

use super::{Exit, Global, NAME_A_COPY, where_in_use};
use crate::from_log::{Estimate, Group, Lists};
use crate::report::{Report, Table, count, emit};

/// What was read, and what it says.
#[derive(Debug, Serialize)]
struct FromLog {
    store: PathBuf,
    lists: u64,
    /// Outcomes with an item that was not in the list, which count nowhere.
    outcomes_elsewhere: u64,
    /// Lists that do not decode.
    damaged: u64,
    groups: Vec<Group>,
}

/// Reads the log and reports.
///
/// # Errors
/// No store there, one that is in use, or one without logged lists.
pub(super) fn run(store: &Path, click: &[String], seed: u64, global: &Global) -> anyhow::Result<Exit> {
    // The store, or the directory that has it beside its backups.
    let within = store.join(Path::new(DEFAULT_PATH).file_name().unwrap_or_default());
    let store = if within.is_dir() { within } else { store.to_owned() };
    let opened = EmbeddedStore::open_existing(&store).map_err(where_in_use(NAME_A_COPY))?;
    let (mut lists, mut n) = (Lists::default(), 0);
    let damaged = each_logged(&opened, |logged| {
        lists.add(&logged, click);
        n += 1;
    })?;
    ensure!(
        n > 0,
        "{} holds no logged lists: set recommendation_log.sample above 0 and serve for a while",
        store.display()
    );
    let groups = lists.groups(seed);
    emit(&FromLog { store, lists: n, outcomes_elsewhere: lists.elsewhere, damaged, groups }, global.json)?;
    Ok(Exit::Done)
}

fn name(group: &Group) -> String {
    let variant = group.experiment.as_ref().zip(group.variant.as_ref());
    variant.map_or_else(|| group.scenario.clone(), |(experiment, variant)| format!("  {experiment}: {variant}"))
}

fn cells(estimate: Estimate) -> [String; 2] {
    let Estimate { value, interval: [low, high] } = estimate;
    [format!("{value:.4}"), format!("{low:.4}–{high:.4}")]
}

impl Report for FromLog {
    fn text(&self) -> String {
        let sure = "in 95 of 100";
        let mut text = format!("{}: {} lists\n", self.store.display(), count(self.lists));
        let mut rates = Table::new(["scenario", "lists", "items", "lists clicked", sure, "items clicked", sure]);
        let mut kinds = Table::new(["led to", "kind", "lists", sure]).left(1);
        let head = ["without exploration", "explored", "IPS", sure, "SNIPS", sure, "as good as"];
        let mut estimates = Table::new(head);
        for group in &self.groups {
            let start = [name(group), count(group.lists), count(group.items)];
            rates.row(start.into_iter().chain(cells(group.click_through)).chain(cells(group.item_click_through)));
            for (kind, share) in &group.conversion {
                kinds.row([name(group), kind.clone()].into_iter().chain(cells(*share)));
            }
            let off = &group.without_exploration;
            let numbers = cells(off.ips).into_iter().chain(cells(off.snips));
            let worth = format!("{} items", count(off.effective_items as u64));
            estimates.row([name(group), count(off.explored)].into_iter().chain(numbers).chain([worth]));
        }
        for table in [rates, kinds, estimates] {
            text.push_str(&table.text());
        }
        if self.outcomes_elsewhere > 0 {
            text.push_str(&format!(
                "  {} outcomes name an item that was not in their list\n",
                count(self.outcomes_elsewhere)
            ));
        }
        if self.damaged > 0 {
            text.push_str(&format!("  {} lists do not decode and were left out\n", count(self.damaged)));
        }
        text
    }
}
