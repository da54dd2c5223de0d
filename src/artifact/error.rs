//! What can go wrong with artifacts.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::manifest::FileEntry;
use crate::model::ModelError;
use crate::user_vector::WeightingError;

/// An error of a caller's own, passed through.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why an artifact could not be found, opened or published.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// There is no CURRENT file.
    #[error("nothing is published in {root}: run `kindred build` to publish an artifact there", root = root.display())]
    NothingPublished {
        /// The root.
        root: PathBuf,
    },
    /// CURRENT does not hold the name of a generation.
    #[error(
        "{path} holds {found:?}, expected the name of one generation: choose one with `kindred activate`, \
         or run `kindred build`", path = path.display()
    )]
    CurrentMalformed {
        /// The CURRENT file.
        path: PathBuf,
        /// The beginning of what it holds.
        found: String,
    },
    /// CURRENT names a generation that is not there.
    #[error(
        "{path} names generation {generation:?}, which is not there or has no manifest: \
         choose one with `kindred activate`, or run `kindred build`", path = path.display()
    )]
    CurrentDangling {
        /// The CURRENT file.
        path: PathBuf,
        /// The generation it names.
        generation: String,
    },
    /// A name that no generation may have.
    #[error("{name:?} cannot name a generation: use letters, digits, '.', '_' and '-', at most 128 of them")]
    GenerationName {
        /// The name.
        name: String,
    },
    /// The generation is there already.
    #[error("generation {name:?} is already published in {root}: artifacts are never overwritten, choose another name", root = root.display())]
    AlreadyPublished {
        /// The root.
        root: PathBuf,
        /// The generation.
        name: String,
    },
    /// Another publisher is at work.
    #[error("{path} is locked: another build is publishing there; wait for it to end", path = path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The manifest is not one.
    #[error("{path} is not a manifest", path = path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The weighting is out of its bounds.
    #[error("{path}: weighting is out of its bounds; build again", path = path.display())]
    Weighting {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        source: WeightingError,
    },
    /// The learned weights are none.
    #[error("{path}: learned_weights are finite, not negative, and at least one is above 0; build again", path = path.display())]
    LearnedWeights {
        /// The manifest.
        path: PathBuf,
    },
    /// The shrinkage of session likenesses is out of its range.
    #[error("{path}: session_likeness.shrinkage is a finite number of at least 0; build again", path = path.display())]
    SessionLikeness {
        /// The manifest.
        path: PathBuf,
    },
    /// The manifest is larger than allowed.
    #[error("{path} is larger than 4 MiB, which no manifest is", path = path.display())]
    ManifestTooLarge {
        /// The manifest.
        path: PathBuf,
    },
    /// The artifact is of a format that this program does not know.
    #[error(
        "{path} has format version {found}, this program reads version {expected}: {remedy}",
        path = path.display(),
        remedy = if found > expected { "use the newer program that built it" } else { "run `kindred build` again" }
    )]
    FormatVersion {
        /// The manifest.
        path: PathBuf,
        /// The version this program reads.
        expected: u32,
        /// The version found.
        found: u32,
    },
    /// A file of the artifact is not in its manifest, or the manifest lists what is no file of it.
    #[error("{path} is not a file of its manifest: build the artifact again", path = path.display())]
    NotListed {
        /// The file.
        path: PathBuf,
    },
    /// A file has another length than the manifest says.
    #[error("{path} has {found} bytes, its manifest says {expected}: copy or build the artifact again", path = path.display())]
    FileLength {
        /// The file.
        path: PathBuf,
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// A file is not the one that was published.
    #[error(
        "{path} has {} bytes and CRC {:08x}, its manifest says {} and {:08x}: copy or build the artifact again",
        found.length, found.crc32, expected.length, expected.crc32, path = path.display()
    )]
    FileChanged {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: FileEntry,
        /// What was found.
        found: FileEntry,
    },
    /// A file could not be mapped.
    #[error("{path} cannot be mapped", path = path.display())]
    Map {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BoxError,
    },
    /// The files are not a model.
    #[error("the artifact in {directory} cannot be used", directory = directory.display())]
    Model {
        /// The artifact.
        directory: PathBuf,
        /// Why.
        source: Box<ModelError>,
    },
    /// A file or directory could not be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or directory could not be written.
    #[error("cannot write {path}", path = path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A generation was published, and an older one could not be removed after it.
    #[error(
        "generation {generation:?} is published and current, but an older one in {root} could not be removed: remove it by hand",
        root = root.display()
    )]
    NotRemoved {
        /// The root.
        root: PathBuf,
        /// The generation that was published.
        generation: String,
        /// Why.
        source: Box<ArtifactError>,
    },
    /// The content of a file could not be made.
    #[error("cannot make the content of {path}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BoxError,
    },
}
