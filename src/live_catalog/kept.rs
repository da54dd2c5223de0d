//! The changes that are kept, in the order in which they came, and the memory that they take.

use std::collections::BTreeMap;
use std::sync::Arc;

use kindred_index::ItemAttributes;
use serde_json::Value;

use crate::live_items::LiveEntry;

/// All changes that are kept.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) by_id: BTreeMap<String, (u64, Arc<LiveEntry>)>,
    /// The place of the last change in the order in which they came.
    pub(super) sequence: u64,
    /// Memory of all, estimated.
    pub(super) bytes: usize,
}

impl Kept {
    /// The last change of its item is this one from now on.
    pub(super) fn put(&mut self, entry: Arc<LiveEntry>) {
        self.remove(entry.id());
        self.sequence += 1;
        self.bytes += bytes(&entry);
        self.by_id.insert(entry.id().to_owned(), (self.sequence, entry));
    }

    pub(super) fn remove(&mut self, id: &str) {
        if let Some((_, entry)) = self.by_id.remove(id) {
            self.bytes -= bytes(&entry);
        }
    }

    /// The memory of all if these come too.
    pub(super) fn bytes_with(&self, entries: &[LiveEntry]) -> usize {
        let replaced = entries.iter().filter_map(|entry| self.by_id.get(entry.id()));
        let replaced: usize = replaced.map(|(_, old)| bytes(old)).sum();
        // An item that changes twice in one request is replaced once.
        (self.bytes + entries.iter().map(bytes).sum::<usize>()).saturating_sub(replaced)
    }
}

/// Memory that a change takes: as an item, as JSON, and as what filters ask of it.
pub(super) fn bytes(entry: &LiveEntry) -> usize {
    /// What is of one size, with the places in the map and in what lies over the artifact.
    const ENTRY: usize = 768;
    /// A text beside its bytes, with what the allocator rounds it up by.
    const TEXT: usize = size_of::<String>() + 16;
    let ItemAttributes { terms, numbers } = entry.attributes();
    let terms: usize = terms.iter().map(|(name, value)| 2 * TEXT + name.len() + value.len()).sum();
    let numbers: usize = numbers.iter().map(|(name, _)| 2 * TEXT + name.len()).sum();
    let values: usize = entry.item().map_or(0, |item| item.attributes.values().map(value_bytes).sum());
    let json = entry.json().map_or(0, str::len);
    ENTRY + 2 * (entry.id().len() + json) + terms + numbers + values + size_of_val(entry.vector().unwrap_or_default())
}

/// Memory of a value of JSON beside the bytes of its texts, which are no more than those of the JSON.
fn value_bytes(value: &Value) -> usize {
    /// Entries that a node of a map has room for. One entry takes a whole node.
    const NODE: usize = 11;
    const NODE_BYTES: usize = NODE * (size_of::<String>() + size_of::<Value>());
    let parts: usize = match value {
        Value::Array(values) => values.iter().map(value_bytes).sum(),
        Value::Object(map) => map.len().div_ceil(NODE) * NODE_BYTES + map.values().map(value_bytes).sum::<usize>(),
        _ => 0,
    };
    size_of::<Value>() + 16 + parts
}
