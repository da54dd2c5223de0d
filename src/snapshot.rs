//! A snapshot: one opened artifact, and the proof that it may serve.
//!
//! A request takes one snapshot and keeps it to its end, so that index, factors and catalogue can never be of different
//! builds. Verifying is the warm-up: every byte is read once to be trusted, which also brings it into the page cache.

use std::path::{Path, PathBuf};

use kindred_index::{MappedFile, Memory, SearchParams};

use crate::artifact::{self, ArtifactError, INDEX_FILE, MODEL_FILE};
use crate::manifest::{FileEntry, Manifest};
use crate::model::Model;

/// One opened artifact.
#[derive(Debug)]
pub struct Snapshot {
    model: Model<MappedFile>,
    directory: PathBuf,
}

impl Snapshot {
    /// Opens the artifact in a directory. Milliseconds; reads headers only.
    ///
    /// # Errors
    /// As [`artifact::open`].
    pub fn open(directory: &Path) -> Result<Self, ArtifactError> {
        Self::open_in(directory, Memory::default())
    }

    /// As [`Snapshot::open`], in the memory named.
    ///
    /// # Errors
    /// As [`artifact::open_in`].
    pub fn open_in(directory: &Path, memory: Memory) -> Result<Self, ArtifactError> {
        Ok(Self { model: artifact::open_in(directory, memory)?, directory: directory.to_owned() })
    }

    /// Whether all of it is sure to stay in memory.
    pub fn is_locked(&self) -> bool {
        self.model.files().into_iter().all(MappedFile::is_locked)
    }

    /// Opens the generation that CURRENT names below a root.
    ///
    /// # Errors
    /// As [`artifact::current`] and [`artifact::open`].
    pub fn open_current(root: &Path) -> Result<Self, ArtifactError> {
        Self::open(&artifact::current(root)?.directory)
    }

    /// Checks every byte: everything that [`Model::verify`] checks, and that the files are those of the manifest. Reads all of them once; call it
    /// off the request path, before the snapshot serves.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self) -> Result<(), ArtifactError> {
        let found = self.model.verify().map_err(|source| {
            // What is not the published file is told as that, and not by where it first makes no sense.
            let changed = artifact::check_files(&self.directory, self.manifest()).err();
            let damaged = || ArtifactError::Model { directory: self.directory.clone(), source: Box::new(source) };
            changed.unwrap_or_else(damaged)
        })?;
        let files = &self.manifest().files;
        for (name, crc32) in [INDEX_FILE, MODEL_FILE].into_iter().zip(found) {
            let path = self.directory.join(name);
            let Some(expected) = files.get(name).copied() else { return Err(ArtifactError::NotListed { path }) };
            // Lengths were compared on opening.
            let found = FileEntry { crc32, ..expected };
            if found != expected {
                return Err(ArtifactError::FileChanged { path, expected, found });
            }
        }
        Ok(())
    }

    /// Brings what requests touch first into memory: the availability set, and the pages that searches from items spread over
    /// the index walk through. Returns the number of searches that found something, for the log.
    pub fn warm(&self) -> u32 {
        const QUERIES: u32 = 64;
        let index = self.model.index();
        self.model.available();
        self.model.files().into_iter().for_each(MappedFile::begin_searches);
        let mut scratch = kindred_index::Scratch::default();
        let ef_search = (self.manifest().ef_search as usize).clamp(10, kindred_index::EF_SEARCH_MAX);
        let params = SearchParams { k: 10, ef_search, exact: false };
        let step = (index.len() / QUERIES).max(1) as usize;
        let queries = (0..index.len()).step_by(step).filter_map(|ordinal| index.row(ordinal));
        let found = queries.map(|row| {
            let searched = index.search(&row, &params, None, &mut scratch);
            u32::from(searched.is_ok() && !scratch.hits().is_empty())
        });
        found.sum()
    }

    /// The model.
    pub fn model(&self) -> &Model<MappedFile> {
        &self.model
    }

    /// What the artifact says about itself.
    pub fn manifest(&self) -> &Manifest {
        self.model.manifest()
    }

    /// The name of the generation.
    pub fn generation(&self) -> &str {
        &self.manifest().generation
    }

    /// The directory it was opened from.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
