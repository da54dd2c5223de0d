//! The lists themselves, a line of JSON each, so that another program can judge them: `tools/compare/metrics.py` does.

use std::io::{self, Write};

use kindred::model::Model;
use serde::Serialize;

use super::Answer;
use super::cases::Case;

/// One line: who was asked, what was looked for, and the lists, best first.
#[derive(Serialize)]
struct Line<'a> {
    user: u32,
    relevant: Vec<&'a str>,
    index: Vec<&'a str>,
    exact: Vec<&'a str>,
    popular: Vec<&'a str>,
}

/// Writes the list of each case.
pub(super) fn write<D: AsRef<[u8]>>(
    model: &Model<D>,
    cases: &[Case],
    answers: &[Answer],
    into: &mut dyn Write,
) -> io::Result<()> {
    let keys = |ordinals: &[u32]| ordinals.iter().filter_map(|ordinal| model.index().key(*ordinal)).collect();
    for (case, answer) in cases.iter().zip(answers) {
        let (relevant, index) = (keys(&case.relevant), keys(&answer.index));
        let line =
            Line { user: case.user, relevant, index, exact: keys(&answer.exact), popular: keys(&answer.popular) };
        serde_json::to_writer(&mut *into, &line)?;
        into.write_all(b"\n")?;
    }
    into.flush()
}
