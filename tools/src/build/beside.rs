//! An index goes through a file on its way from what built it to where it is measured: else it would be in memory twice, in parts and whole.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::Context;
use kindred_index::Pages;
use kindred_index::build::BuiltIndex;

/// Writes an index to a file in a directory, a file without a name, which is gone when it is closed.
pub(crate) fn written(built: &BuiltIndex<'_>, directory: &Path) -> anyhow::Result<File> {
    let write = || -> anyhow::Result<File> {
        fs::create_dir_all(directory)?;
        let mut file = tempfile::tempfile_in(directory)?;
        built.write(&mut file)?;
        Ok(file)
    };
    write().with_context(|| format!("writing the index to a passing file in {}", directory.display()))
}

/// All of a file, in large pages, as a server has it whose memory is pinned.
pub(crate) fn read_back(mut file: File) -> io::Result<Pages> {
    let mut pages = Pages::zeroed(file.metadata()?.len() as usize)?;
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(pages.as_mut())?;
    Ok(pages)
}
