//! An index goes through a file on its way from what built it to where it is measured: else it would be in memory twice, in parts and whole.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::Context;
use kindred_index::Pages;
use kindred_index::build::BuiltIndex;

use crate::whole_dir::first_there;

/// Writes an index to a file without a name, which is gone when it is closed, on the disk of a directory. Makes no directory.
pub(crate) fn written(built: &BuiltIndex<'_>, directory: &Path) -> anyhow::Result<File> {
    let place = first_there(directory);
    let write = || -> anyhow::Result<File> {
        let mut file = tempfile::tempfile_in(place)?;
        built.write(&mut file)?;
        Ok(file)
    };
    write().with_context(|| format!("writing the index to a passing file in {}", place.display()))
}

/// All of a file, in large pages, as a server has it whose memory is pinned.
pub(crate) fn read_back(mut file: File) -> io::Result<Pages> {
    let mut pages = Pages::zeroed(file.metadata()?.len() as usize)?;
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(pages.as_mut())?;
    Ok(pages)
}
