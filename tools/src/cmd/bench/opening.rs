//! `kindred bench index --open`: how long from nothing to the first answer, the files being in the page cache.
//!
//! Each time the artifact is opened anew and asked one query; nothing is verified, as verifying reads everything and is measured by
//! `kindred verify`. What costs is mapping, the headers, the pages that the search touches first, and the scratch of a fresh thread.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use kindred::artifact;
use kindred_index::{Scratch, SearchParams};
use serde::Serialize;

use super::curve::median;
use crate::machine::Machine;
use crate::report::{Report, bytes, count};

/// Times an artifact is opened.
const TIMES: usize = 100;

/// What opening took.
#[derive(Clone, Debug, Serialize)]
pub struct OpeningReport {
    /// What it was measured on.
    pub machine: Machine,
    /// The artifact.
    pub directory: PathBuf,
    /// Items.
    pub n_items: u32,
    /// Bytes of the index file.
    pub bytes: u64,
    /// Times it was opened.
    pub times: usize,
    /// Median milliseconds until it was open.
    pub open_ms: f64,
    /// Median milliseconds until the first answer.
    pub first_answer_ms: f64,
    /// The most that it took.
    pub worst_ms: f64,
}

/// Opens an artifact again and again.
///
/// # Errors
/// An artifact that cannot be opened, or that has no items.
pub(super) fn measure(directory: &Path, k: usize, ef_search: usize) -> anyhow::Result<OpeningReport> {
    let (mut opened, mut answered) = (Vec::with_capacity(TIMES), Vec::with_capacity(TIMES));
    let (mut n_items, mut length) = (0, 0);
    // The first is not counted: it brings what is touched into the page cache.
    for round in 0..=TIMES {
        let begun = Instant::now();
        let model = artifact::open(directory).context("opening the artifact")?;
        let open = begun.elapsed();
        let index = model.index();
        (n_items, length) = (index.len(), index.container().file_len());
        ensure!(n_items > 0, "the artifact has no items, so it has no answers");
        let query = index.row((round as u32).wrapping_mul(2_654_435_761) % n_items).unwrap_or_default();
        let params = SearchParams { k, ef_search, exact: false };
        let mut scratch = Scratch::default();
        index.search(&query, &params, None, &mut scratch).context("searching")?;
        let answer = begun.elapsed();
        if round > 0 {
            opened.push(open.as_secs_f64() * 1e3);
            answered.push(answer.as_secs_f64() * 1e3);
        }
    }
    Ok(OpeningReport {
        machine: Machine::here(),
        directory: directory.to_owned(),
        n_items,
        bytes: length,
        times: TIMES,
        open_ms: median(&mut opened),
        first_answer_ms: median(&mut answered),
        worst_ms: answered.iter().copied().fold(0.0, f64::max),
    })
}

impl Report for OpeningReport {
    fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine.line());
        let _ = writeln!(
            text,
            "{}: {} items, index {}, opened {} times out of the page cache",
            self.directory.display(),
            count(self.n_items.into()),
            bytes(self.bytes),
            self.times
        );
        let _ = writeln!(
            text,
            "open after {:.3} ms, first answer after {:.3} ms (median), at most {:.3} ms",
            self.open_ms, self.first_answer_ms, self.worst_ms
        );
        text
    }
}
