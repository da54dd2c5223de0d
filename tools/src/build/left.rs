//! What of earlier builds could not be removed: it is told with its place, and no reason to fail.

use std::fs;
use std::path::{Path, PathBuf};

use kindred::artifact::{ArtifactError, PARTIAL_SUFFIX};
use kindred::telemetry::chain;

/// The unfinished things in `root` but for the directory that is `ours`: a publication that has begun has tried to remove them.
pub(super) fn leftovers(root: &Path, ours: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    let left = paths.filter(|path| path != ours && path.to_string_lossy().ends_with(PARTIAL_SUFFIX));
    let mut left: Vec<String> = left.map(|path| path.display().to_string()).collect();
    left.sort_unstable();
    left
}

/// Where it was published, also if an older generation could not be removed after it: that is added to what was not.
///
/// # Errors
/// It was not published.
pub(super) fn published(
    committed: Result<PathBuf, ArtifactError>,
    directory: PathBuf,
    not_removed: &mut Vec<String>,
) -> Result<PathBuf, ArtifactError> {
    match committed {
        Err(ArtifactError::NotRemoved { source, .. }) => {
            not_removed.push(chain(&*source));
            Ok(directory)
        }
        committed => committed,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io;

    use super::*;

    #[test]
    fn what_could_not_be_removed_is_named_and_fails_nothing() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join(name);
        ["g1.partial", "g2.partial", "g0"].iter().for_each(|name| fs::create_dir(place(name)).unwrap());
        let left = place("g1.partial").display().to_string();
        let mut not_removed = leftovers(root.path(), &place("g2.partial"));
        assert_eq!(not_removed, [left.as_str()]);
        let denied = || ArtifactError::Write { path: place("g0"), source: io::ErrorKind::PermissionDenied.into() };
        let source = Box::new(denied());
        let committed = Err(ArtifactError::NotRemoved { root: place(""), generation: "g2".to_owned(), source });
        assert_eq!(published(committed, place("g2"), &mut not_removed).unwrap(), place("g2"));
        assert!(not_removed[1].contains(&place("g0").display().to_string()), "{not_removed:?}");
        assert!(published(Err(denied()), place("g2"), &mut not_removed).is_err());
    }
}
