//! A file that is written whole or not at all: as `<file>.partial` beside it, renamed when all of it is on disk.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::whole_dir::{PARTIAL, alone, beside, parent};

/// A file in the making. Dropped before [`WholeFile::publish`], it leaves nothing behind, and what had its name still has it. What a kill leaves is
/// replaced when the file is begun again.
#[derive(Debug)]
pub struct WholeFile {
    path: PathBuf,
    out: BufWriter<NamedTempFile>,
    /// Tells other processes that it is being written, until it is dropped.
    _alone: Option<File>,
}

impl WholeFile {
    /// Begins a file that has the permissions of the one it replaces, or else those that a new file has; and its owner, where the process may
    /// give files away, as root may.
    ///
    /// # Errors
    /// Something that is no file has the name, another process is writing it, or nothing can be written beside it.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let file = Self::with_mode(path, 0o666)?;
        if let Ok(replaced) = fs::metadata(path) {
            let partial = file.out.get_ref().as_file();
            let owner = |of: &fs::Metadata| (of.uid(), of.gid());
            // First, since it takes permissions away.
            if owner(&partial.metadata()?) != owner(&replaced) {
                let _stays_ours = fchown(partial, Some(replaced.uid()), Some(replaced.gid()));
            }
            // Not asked of a disk that knows no permissions.
            if partial.metadata()?.permissions() != replaced.permissions() {
                partial.set_permissions(replaced.permissions())?;
            }
        }
        Ok(file)
    }

    /// Begins a file that nobody else may read.
    ///
    /// # Errors
    /// As [`WholeFile::begin`].
    pub fn begin_private(path: &Path) -> io::Result<Self> {
        Self::with_mode(path, 0o600)
    }

    /// Begins a file with these permissions, less what the process takes from all its files (umask).
    fn with_mode(path: &Path, mode: u32) -> io::Result<Self> {
        // A device or a pipe would be replaced instead of written to.
        if path.exists() && !path.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is there and is not a file: name a file"));
        }
        // What a link leads to is replaced, and not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let unnamed = || io::Error::new(io::ErrorKind::InvalidInput, "it ends in no name: name a file");
        let name = path.file_name().ok_or_else(unnamed)?;
        let partial = beside(&path, PARTIAL);
        let held = || alone(&partial, &path).map_err(|busy| io::Error::new(io::ErrorKind::ResourceBusy, busy));
        // What a kill has left is nobody's; what somebody writes just now is theirs.
        drop(held()?);
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(name).suffix(PARTIAL).rand_bytes(0).permissions(Permissions::from_mode(mode));
        let out = BufWriter::new(builder.tempfile_in(parent(&path))?);
        Ok(Self { _alone: held()?, path, out })
    }

    /// Gives it its name, when it is on disk.
    ///
    /// # Errors
    /// It cannot be written or renamed.
    pub fn publish(self) -> io::Result<()> {
        let partial = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        partial.as_file().sync_all()?;
        partial.persist(&self.path)?;
        // Its name too has to be there after a power cut.
        File::open(parent(&self.path))?.sync_all()
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn what_was_there_stays_until_all_is_written() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lists.jsonl");
        std::fs::write(&path, "old").unwrap();
        let mut file = WholeFile::begin(&path).unwrap();
        file.write_all(b"new").unwrap();
        drop(file);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        let mut file = WholeFile::begin(&path).unwrap();
        file.write_all(b"new").unwrap();
        file.publish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1, "something was left behind");
        assert!(WholeFile::begin(place.path()).is_err(), "a directory is no file");
    }

    #[test]
    fn what_a_kill_has_left_is_replaced_and_what_another_process_is_writing_is_not() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log.jsonl");
        fs::write(beside(&path, PARTIAL), "half of what people did").unwrap();
        let mut file = WholeFile::begin_private(&path).unwrap();
        let refused = WholeFile::begin_private(&path).unwrap_err();
        assert!(refused.to_string().contains("being written by another process"), "{refused}");
        file.write_all(b"all").unwrap();
        file.publish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "all");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "something was left behind");
    }

    #[test]
    fn what_a_link_leads_to_is_replaced_and_not_the_link() {
        let place = tempfile::tempdir().unwrap();
        let (page, link) = (place.path().join("served/page.html"), place.path().join("page.html"));
        fs::create_dir(place.path().join("served")).unwrap();
        fs::write(&page, "old").unwrap();
        std::os::unix::fs::symlink(&page, &link).unwrap();
        let mut file = WholeFile::begin(&link).unwrap();
        file.write_all(b"new").unwrap();
        file.publish().unwrap();
        assert_eq!((fs::read_to_string(&page).unwrap().as_str(), link.is_symlink()), ("new", true));
    }

    #[test]
    fn a_file_may_be_read_by_whom_a_plain_one_may_unless_it_is_private() {
        let place = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (plain, path) = (place.path().join("plain"), place.path().join("page.html"));
        File::create(&plain).unwrap();
        WholeFile::begin(&path).unwrap().publish().unwrap();
        assert_eq!(mode(&path), mode(&plain));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        WholeFile::begin(&path).unwrap().publish().unwrap();
        assert_eq!(mode(&path), 0o640, "the one that is replaced");
        WholeFile::begin_private(&path).unwrap().publish().unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_file_stays_its_owners_where_it_may_be_given_to_them() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("page.html");
        fs::write(&path, "old").unwrap();
        // Only root may; for others there is nothing to be kept.
        let _given = std::os::unix::fs::chown(&path, Some(12_345), Some(12_346));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let of = |path: &Path| fs::metadata(path).map(|of| (of.uid(), of.gid(), of.mode() & 0o777)).unwrap();
        let before = of(&path);
        WholeFile::begin(&path).unwrap().publish().unwrap();
        assert_eq!(of(&path), before);
    }
}
