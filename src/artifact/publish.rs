//! Publishing: a generation appears whole or not at all, and CURRENT always names a whole one.
//!
//! 1. Lock, remove the leftovers of publishers that died, make `<generation>.partial/`.
//! 2. Write each file, sync it, make it read-only.
//! 3. Open and verify the result as a server would, write the manifest likewise, sync the directory.
//! 4. Rename it to `<generation>/`, sync the root.
//! 5. Write `CURRENT.partial`, sync it, rename it to `CURRENT`, sync the root.
//!
//! Killed before step 4, there is a `.partial` more; between 4 and 5, a complete generation that nobody names. At every
//! moment CURRENT is either the old or the new file, and what it names has been synced before.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use kindred_index::Memory;

use super::{
    ArtifactError, BoxError, CURRENT_FILE, INDEX_FILE, LOCK_FILE, MANIFEST_FILE, MODEL_FILE, PARTIAL_SUFFIX,
    check_values, checksum, current, generations, is_generation_name, open_with, read_manifest,
};
use crate::manifest::{FORMAT_VERSION, FileEntry, Manifest};

/// An artifact in the making. Dropped before [`Publication::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct Publication {
    root: PathBuf,
    generation: String,
    partial: PathBuf,
    files: BTreeMap<String, FileEntry>,
    renamed: bool,
    /// Held until the publication is dropped; the system releases it if the process dies.
    lock: File,
}

impl Publication {
    /// Locks the root (made if missing), removes the leftovers of publishers that died as far as it may, and begins a generation.
    ///
    /// # Errors
    /// A name that no generation may have, one that is taken, another publisher at work, or a directory that cannot be written.
    pub fn begin(root: &Path, generation: &str) -> Result<Self, ArtifactError> {
        if !is_generation_name(generation) {
            return Err(ArtifactError::GenerationName { name: generation.to_owned() });
        }
        fs::create_dir_all(root).map_err(|source| write_error(root, source))?;
        let lock = lock(root)?;
        remove_leftovers(root, &[CURRENT_FILE, generation], remove)?;
        if root.join(generation).exists() {
            return Err(ArtifactError::AlreadyPublished { root: root.to_owned(), name: generation.to_owned() });
        }
        let partial = root.join(format!("{generation}{PARTIAL_SUFFIX}"));
        fs::create_dir(&partial).map_err(|source| write_error(&partial, source))?;
        Ok(Self {
            root: root.to_owned(),
            generation: generation.to_owned(),
            partial,
            files: BTreeMap::new(),
            renamed: false,
            lock,
        })
    }

    /// Where the files are until the commit.
    pub fn directory(&self) -> &Path {
        &self.partial
    }

    /// Writes one file of the artifact, [`INDEX_FILE`] or [`MODEL_FILE`], syncs it and makes it read-only.
    ///
    /// # Errors
    /// What `fill` returns, or a write that failed.
    pub fn write(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), BoxError>,
    ) -> Result<FileEntry, ArtifactError> {
        let path = self.partial.join(name);
        if name != INDEX_FILE && name != MODEL_FILE {
            return Err(ArtifactError::NotListed { path });
        }
        write_synced(&path, fill)?;
        let entry = checksum(&path)?;
        self.files.insert(name.to_owned(), entry);
        Ok(entry)
    }

    /// Publishes the generation: from here on it is complete, and CURRENT names it. Reads all of it once more, to verify it first: what a
    /// server would refuse must not become current.
    ///
    /// `generation`, `format_version` and `files` of the manifest are filled in here. With `keep_last`, older generations
    /// beyond that number are removed afterwards, never the one just published. Returns its directory.
    ///
    /// # Errors
    /// A file that was not written, files that do not open as a model with this manifest or do not verify, or a write that failed.
    /// CURRENT then names what it named before; but after [`ArtifactError::NotRemoved`] it names this generation.
    pub fn commit(mut self, mut manifest: Manifest, keep_last: Option<usize>) -> Result<PathBuf, ArtifactError> {
        manifest.format_version = FORMAT_VERSION;
        manifest.generation.clone_from(&self.generation);
        manifest.files.clone_from(&self.files);
        let path = self.partial.join(MANIFEST_FILE);
        check_values(&manifest, path.clone())?;
        let refused = |source| ArtifactError::Model { directory: self.partial.clone(), source: Box::new(source) };
        // Without the checksums of the manifest: they were taken of these very files.
        open_with(&self.partial, manifest.clone(), Memory::default())?.verify().map_err(refused)?;
        write_synced(&path, |into| {
            serde_json::to_writer_pretty(&mut *into, &manifest)?;
            Ok(into.write_all(b"\n")?)
        })?;
        sync_directory(&self.partial)?;
        let directory = self.root.join(&self.generation);
        fs::rename(&self.partial, &directory).map_err(|source| write_error(&directory, source))?;
        self.renamed = true;
        sync_directory(&self.root)?;
        make_current(&self.root, &self.generation)?;
        if let Some(keep_last) = keep_last {
            let (root, generation) = (self.root.clone(), self.generation.clone());
            let not_removed = |source| ArtifactError::NotRemoved { root, generation, source: Box::new(source) };
            remove_old(&self.root, keep_last).map_err(not_removed)?;
        }
        Ok(directory)
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        if !self.renamed {
            // Best effort: what cannot be removed now, the next publisher removes.
            let _ = fs::remove_dir_all(&self.partial);
        }
        // Closing the file would do, but for a child process that another thread is just starting: until it has replaced
        // its image it holds a copy of the file, and with it the lock.
        let _ = self.lock.unlock();
    }
}

/// Makes CURRENT name a generation that is published already: the way back to an older one. Changes nothing else.
///
/// # Errors
/// There is no such complete generation, another publisher is at work, or CURRENT cannot be written.
pub fn activate(root: &Path, generation: &str) -> Result<(), ArtifactError> {
    if !is_generation_name(generation) {
        return Err(ArtifactError::GenerationName { name: generation.to_owned() });
    }
    let lock = lock(root)?;
    let made = read_manifest(&root.join(generation))
        .and_then(|_| remove_leftovers(root, &[CURRENT_FILE], remove))
        .and_then(|()| make_current(root, generation));
    let _ = lock.unlock();
    made
}

/// Makes CURRENT name a generation: a new file takes the place of the old one in a single step.
fn make_current(root: &Path, generation: &str) -> Result<(), ArtifactError> {
    let temporary = root.join(format!("{CURRENT_FILE}{PARTIAL_SUFFIX}"));
    write_synced(&temporary, |into| Ok(writeln!(into, "{generation}")?))?;
    let path = root.join(CURRENT_FILE);
    fs::rename(&temporary, &path).map_err(|source| write_error(&path, source))?;
    sync_directory(root)
}

/// Takes the lock of a root without waiting.
fn lock(root: &Path) -> Result<File, ArtifactError> {
    let path = root.join(LOCK_FILE);
    let opened = File::options().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(|source| write_error(&path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ArtifactError::Locked { path }),
        Err(TryLockError::Error(source)) => Err(write_error(&path, source)),
    }
}

/// Removes whatever ends in `.partial`: under the lock, nobody is writing it any more. What cannot be removed is an error where it is in the way of
/// what is about to be made, and stays elsewhere.
fn remove_leftovers(
    root: &Path,
    about_to_be_made: &[&str],
    remove: impl Fn(&DirEntry) -> io::Result<()>,
) -> Result<(), ArtifactError> {
    let fail = |source| ArtifactError::Read { path: root.to_owned(), source };
    for entry in fs::read_dir(root).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some(of) = name.strip_suffix(PARTIAL_SUFFIX) else { continue };
        if let Err(source) = remove(&entry)
            && about_to_be_made.contains(&of)
        {
            return Err(write_error(&entry.path(), source));
        }
    }
    Ok(())
}

fn remove(entry: &DirEntry) -> io::Result<()> {
    if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) }
}

/// Removes the oldest generations until `keep_last` are left, but never the one that CURRENT names.
///
/// Each is renamed to a leftover first, so that a kill in the middle leaves no generation with half its files.
fn remove_old(root: &Path, keep_last: usize) -> Result<(), ArtifactError> {
    let live = current(root)?.generation;
    let all = generations(root)?;
    let surplus = all.len().saturating_sub(keep_last.max(1));
    for name in all.into_iter().filter(|name| *name != live).take(surplus) {
        let path = root.join(&name);
        let doomed = root.join(format!("{name}{PARTIAL_SUFFIX}"));
        fs::rename(&path, &doomed).map_err(|source| write_error(&path, source))?;
        fs::remove_dir_all(&doomed).map_err(|source| write_error(&doomed, source))?;
    }
    Ok(())
}

/// Writes a new file, syncs it and makes it read-only.
fn write_synced(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), BoxError>,
) -> Result<(), ArtifactError> {
    const BUFFER_BYTES: usize = 1 << 18;
    let file = File::options().write(true).create_new(true).open(path).map_err(|source| write_error(path, source))?;
    let mut into = BufWriter::with_capacity(BUFFER_BYTES, file);
    fill(&mut into).map_err(|source| ArtifactError::Content { path: path.to_owned(), source })?;
    let finish = || {
        let file = into.into_inner().map_err(|error| error.into_error())?;
        let mut permissions = file.metadata()?.permissions();
        permissions.set_readonly(true);
        file.set_permissions(permissions)?;
        file.sync_all()
    };
    finish().map_err(|source| write_error(path, source))
}

/// Syncs a directory, so that the names in it survive a power cut.
fn sync_directory(path: &Path) -> Result<(), ArtifactError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|source| write_error(path, source))
}

fn write_error(path: &Path, source: io::Error) -> ArtifactError {
    ArtifactError::Write { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leftover_that_cannot_be_removed_stops_only_what_has_its_name() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("g1.partial")).unwrap();
        let refuse = |_: &DirEntry| -> io::Result<()> { Err(io::ErrorKind::PermissionDenied.into()) };
        remove_leftovers(root.path(), &[CURRENT_FILE, "g2"], refuse).unwrap();
        let error = remove_leftovers(root.path(), &[CURRENT_FILE, "g1"], refuse).unwrap_err();
        assert!(matches!(error, ArtifactError::Write { .. }), "{error}");
        fs::write(root.path().join("CURRENT.partial"), "").unwrap();
        remove_leftovers(root.path(), &[CURRENT_FILE, "g2"], refuse).unwrap_err();
        remove_leftovers(root.path(), &[CURRENT_FILE, "g2"], remove).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
