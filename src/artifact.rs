//! Artifacts on disk: their names, the one called CURRENT, opening them.
//!
//! ```text
//! artifacts/
//!   20261124T142501Z-0a1b2c3d/   one generation, complete, read-only, never written again
//!     index.kin                  the index
//!     model.kin                  context factors, neighbours, popularity, catalogue
//!     manifest.json              what it says about itself
//!   CURRENT                      one line: the name of the live generation; replaced last, by renaming
//!   publish.lock                 held by whoever publishes
//!   *.partial                    the leftovers of a publisher that died; the next one removes them
//! ```
//!
//! Publishing is in [`publish`](Publication). Old generations stay until a publisher is asked to remove them, and the one
//! that CURRENT names is never removed. Removing files that a server has mapped is harmless: the pages live on until it lets go.

mod error;
mod publish;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use kindred_index::{Crc32, MappedFile, Memory};
use serde::Deserialize;

pub use self::error::{ArtifactError, BoxError};
pub use self::publish::{Publication, activate};
use crate::limits;
use crate::manifest::FORMAT_VERSION;
pub use crate::manifest::{AnnRecall, FileEntry, Manifest, TrainingWindow};
use crate::model::Model;

/// The index file of an artifact.
pub const INDEX_FILE: &str = "index.kin";
/// The model file of an artifact.
pub const MODEL_FILE: &str = "model.kin";
/// The manifest of an artifact.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The file that names the live generation.
pub const CURRENT_FILE: &str = "CURRENT";
/// The file that a publisher holds locked.
pub const LOCK_FILE: &str = "publish.lock";
/// What the names of unfinished things end in.
pub const PARTIAL_SUFFIX: &str = ".partial";

/// The live generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// Its name.
    pub generation: String,
    /// Its directory.
    pub directory: PathBuf,
}

/// The generation that CURRENT names. Reads one small file and looks whether the directory is there.
///
/// # Errors
/// There is no CURRENT, it does not hold a generation's name, or there is no such generation.
pub fn current(root: &Path) -> Result<Current, ArtifactError> {
    let path = root.join(CURRENT_FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(ArtifactError::NothingPublished { root: root.to_owned() });
        }
        Err(source) => return Err(ArtifactError::Read { path, source }),
    };
    let mut bytes = Vec::new();
    let read = file.take(limits::CURRENT_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|source| ArtifactError::Read { path: path.clone(), source })?;
    let text = String::from_utf8_lossy(&bytes);
    let generation = text.strip_suffix('\n').unwrap_or(&text);
    if bytes.len() as u64 > limits::CURRENT_BYTES_MAX || !is_generation_name(generation) {
        return Err(ArtifactError::CurrentMalformed { path, found: text.chars().take(80).collect() });
    }
    let directory = root.join(generation);
    if !directory.join(MANIFEST_FILE).is_file() {
        return Err(ArtifactError::CurrentDangling { path, generation: generation.to_owned() });
    }
    Ok(Current { generation: generation.to_owned(), directory })
}

/// Whether a text may name a generation: letters, digits, `.`, `_` and `-`, beginning with a letter or digit, not ending
/// in `.partial`, and not the name of another file of the root. It becomes a directory's name, so nothing that could leave
/// the root is one.
pub fn is_generation_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.len() <= limits::GENERATION_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(plain)
        && !name.ends_with(PARTIAL_SUFFIX)
        && name != CURRENT_FILE
        && name != LOCK_FILE
}

/// The complete generations below a root, the oldest first by creation time, then by name.
///
/// # Errors
/// The root cannot be listed. Directories without a readable manifest are passed over.
pub fn generations(root: &Path) -> Result<Vec<String>, ArtifactError> {
    Ok(manifests(root)?.into_iter().map(|(name, _)| name).collect())
}

/// As [`generations`], each with its manifest.
///
/// # Errors
/// As [`generations`].
pub fn manifests(root: &Path) -> Result<Vec<(String, Manifest)>, ArtifactError> {
    let fail = |source| ArtifactError::Read { path: root.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(root).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if is_generation_name(&name)
            && let Ok(manifest) = read_manifest(&entry.path())
        {
            found.push((name, manifest));
        }
    }
    found.sort_unstable_by(|(a, of_a), (b, of_b)| (&of_a.created_at, a).cmp(&(&of_b.created_at, b)));
    Ok(found)
}

/// The manifest of the artifact in a directory.
///
/// # Errors
/// It cannot be read, is not a manifest, or is of a format that this program does not know.
pub fn read_manifest(directory: &Path) -> Result<Manifest, ArtifactError> {
    /// Read first and alone, since a manifest of another version may have another shape.
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let path = directory.join(MANIFEST_FILE);
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(limits::MANIFEST_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|source| ArtifactError::Read { path: path.clone(), source })?;
    if bytes.len() as u64 > limits::MANIFEST_BYTES_MAX {
        return Err(ArtifactError::ManifestTooLarge { path });
    }
    let malformed = |source| ArtifactError::Manifest { path: path.clone(), source };
    let Version { format_version } = serde_json::from_slice(&bytes).map_err(malformed)?;
    if format_version != FORMAT_VERSION {
        return Err(ArtifactError::FormatVersion { path, expected: FORMAT_VERSION, found: format_version });
    }
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(malformed)?;
    check_values(&manifest, path)?;
    Ok(manifest)
}

/// Checks the numbers of a manifest that requests reckon with.
fn check_values(manifest: &Manifest, path: PathBuf) -> Result<(), ArtifactError> {
    if let Err(source) = manifest.weighting.validate() {
        return Err(ArtifactError::Weighting { path, source });
    }
    if !manifest.session_likeness.is_valid() {
        return Err(ArtifactError::SessionLikeness { path });
    }
    match manifest.learned_weights {
        Some(learned) if !learned.are_valid() => Err(ArtifactError::LearnedWeights { path }),
        _ => Ok(()),
    }
}

/// Opens the artifact in a directory by mapping its files, with the default [`Memory`]: milliseconds, whatever its size.
///
/// Checks lengths, headers and that the files belong together; [`Model::verify`] and [`check_files`] check the rest.
///
/// # Errors
/// A file that is missing, of another length than the manifest says, or not what it should be.
pub fn open(directory: &Path) -> Result<Model<MappedFile>, ArtifactError> {
    open_in(directory, Memory::default())
}

/// As [`open`], in the memory named; pinning reads all of it.
///
/// # Errors
/// As [`open`].
pub fn open_in(directory: &Path, memory: Memory) -> Result<Model<MappedFile>, ArtifactError> {
    open_with(directory, read_manifest(directory)?, memory)
}

/// As [`open_in`], with the manifest given.
fn open_with(directory: &Path, manifest: Manifest, memory: Memory) -> Result<Model<MappedFile>, ArtifactError> {
    let index = map(directory, INDEX_FILE, &manifest, memory)?;
    let data = map(directory, MODEL_FILE, &manifest, memory)?;
    let directory = directory.to_owned();
    Model::open(index, data, manifest).map_err(|source| ArtifactError::Model { directory, source: Box::new(source) })
}

/// Compares every file the manifest lists with its checksum. Reads them once from start to end.
///
/// # Errors
/// The first file that cannot be read or is not the one that was published.
pub fn check_files(directory: &Path, manifest: &Manifest) -> Result<(), ArtifactError> {
    for (name, expected) in &manifest.files {
        let path = directory.join(name);
        if !is_generation_name(name) {
            return Err(ArtifactError::NotListed { path });
        }
        let found = checksum(&path)?;
        if found != *expected {
            return Err(ArtifactError::FileChanged { path, expected: *expected, found });
        }
    }
    Ok(())
}

/// Length and CRC-32 of a file.
fn checksum(path: &Path) -> Result<FileEntry, ArtifactError> {
    const CHUNK_BYTES: usize = 1 << 20;
    let fail = |source| ArtifactError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(fail)?;
    let mut crc = Crc32::new();
    let mut length = 0;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk).map_err(fail)?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        crc.update(bytes);
        length += read as u64;
    }
    Ok(FileEntry { length, crc32: crc.finish() })
}

/// Maps one file of an artifact.
fn map(directory: &Path, name: &str, manifest: &Manifest, memory: Memory) -> Result<MappedFile, ArtifactError> {
    let path = directory.join(name);
    let Some(expected) = manifest.files.get(name) else { return Err(ArtifactError::NotListed { path }) };
    let length = fs::metadata(&path).map_err(|source| ArtifactError::Read { path: path.clone(), source })?.len();
    if length != expected.length {
        return Err(ArtifactError::FileLength { path, expected: expected.length, found: length });
    }
    // SAFETY: a map is sound while nobody changes or shortens the file. The files of a generation are written under another
    // directory name, synced, made read-only and only then renamed into place, and nothing in this program opens them for
    // writing afterwards (see `publish.rs`); removing a generation unlinks its files, which leaves mapped pages valid.
    // What remains is an operator who overwrites or truncates a served file in place: that is documented as forbidden, and
    // its outcome is the end of the process by SIGBUS, not a wrong answer from freed memory.
    #[allow(unsafe_code)]
    let mapped = unsafe { MappedFile::map(&path, memory) };
    mapped.map_err(|source| ArtifactError::Map { path, source: Box::new(source) })
}

#[cfg(test)]
mod tests;
