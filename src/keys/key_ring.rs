//! The keys in force: read from their file, read again when it changes, asked at every request.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use super::{Keys, KeysError, Rate, Role, Seen, sha256};
use crate::limits;

/// The keys in force.
pub struct KeyRing {
    path: PathBuf,
    usual: Rate,
    keys: RwLock<Arc<Keys>>,
    /// The file that was read last, good or bad.
    seen: Mutex<Seen>,
    /// What the buckets count their time from.
    began: Instant,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name of the key.
    pub name: Arc<str>,
    /// What it may do.
    pub role: Role,
}

/// Why a caller is sent away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No key was presented.
    Missing,
    /// The key is not known.
    Unknown,
    /// The key is known and may not do this.
    Role(Caller),
    /// The key has called too often.
    TooFast {
        /// Whose it is.
        caller: Caller,
        /// Seconds after which it may call again, at least one.
        seconds: u32,
    },
}

impl KeyRing {
    /// Reads a keys file.
    ///
    /// # Errors
    /// It cannot be read, or a line is not a key.
    pub fn open(path: &Path, usual: Rate) -> Result<Self, KeysError> {
        let bytes = read(path)?;
        let keys = parse(&bytes, usual)?;
        let seen = Mutex::new(Seen::in_force(sha256(&bytes)));
        Ok(Self { path: path.to_owned(), usual, keys: RwLock::new(Arc::new(keys)), seen, began: Instant::now() })
    }

    /// How many keys are in force.
    #[must_use]
    pub fn len(&self) -> usize {
        self.current().len()
    }

    /// Never: a file without a key is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.current().is_empty()
    }

    /// Reads the file again if it has changed; the number of keys if they were replaced. Rates used so far stay used.
    ///
    /// # Errors
    /// The file cannot be used; the keys in force stay in force. A bad file is an error once, and not at every look unless one insists.
    pub fn refresh(&self, insist: bool) -> Result<Option<usize>, KeysError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = read(&self.path);
        let hash = bytes.as_ref().ok().map(|bytes| sha256(bytes));
        if !seen.is_news(hash, insist) {
            return Ok(None);
        }
        let mut keys = parse(&bytes?, self.usual)?;
        keys.take_over(&self.current());
        let count = keys.len();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        seen.took_effect();
        Ok(Some(count))
    }

    /// Whether a caller may do what needs `role`. The rate is counted last, so that only who may call uses it up.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn authorize(&self, presented: Option<&[u8]>, role: Role, now: Instant) -> Result<Caller, Refusal> {
        let keys = self.current();
        let presented = presented.ok_or(Refusal::Missing)?;
        let key = keys.find(presented).ok_or(Refusal::Unknown)?;
        let caller = Caller { name: Arc::clone(&key.name), role: key.role };
        if key.role < role {
            return Err(Refusal::Role(caller));
        }
        if let Some(bucket) = &key.bucket {
            let now = u64::try_from(now.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX);
            if let Err(wait) = bucket.take(now) {
                let seconds = u32::try_from(wait.div_ceil(1_000_000_000)).unwrap_or(u32::MAX);
                return Err(Refusal::TooFast { caller, seconds: seconds.max(1) });
            }
        }
        Ok(caller)
    }

    fn current(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyRing({} keys)", self.len())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, KeysError> {
    let fail = |source| KeysError::Unreadable { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(fail)?.len();
    if length > limits::KEYS_FILE_BYTES_MAX {
        return Err(fail(std::io::Error::other(format!(
            "it has {length} bytes, at most {} are read",
            limits::KEYS_FILE_BYTES_MAX
        ))));
    }
    std::fs::read(path).map_err(fail)
}

fn parse(bytes: &[u8], usual: Rate) -> Result<Keys, KeysError> {
    let text = std::str::from_utf8(bytes).map_err(|_| KeysError::Line { line: 1, reason: "the file is not UTF-8" })?;
    Keys::parse(text, usual)
}

#[cfg(test)]
mod tests {
    use super::super::NewKey;
    use super::*;
    use std::time::Duration;

    const USUAL: Rate = Rate { per_second: 0, burst: 1 };

    #[test]
    fn keys_are_rotated_and_a_bad_file_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let (old, new) = (NewKey::new("old", Role::Read).unwrap(), NewKey::new("new", Role::Admin).unwrap());
        std::fs::write(&path, &old.line).unwrap();
        let ring = KeyRing::open(&path, USUAL).unwrap();
        let may = |key: &NewKey, role| ring.authorize(Some(key.secret.as_bytes()), role, Instant::now());
        assert!(may(&old, Role::Read).is_ok());
        assert_eq!(may(&old, Role::Write).map_err(|refusal| matches!(refusal, Refusal::Role(_))), Err(true));
        assert_eq!(may(&new, Role::Read), Err(Refusal::Unknown));
        assert_eq!(ring.authorize(None, Role::Read, Instant::now()), Err(Refusal::Missing));
        assert_eq!(ring.refresh(false).unwrap(), None);

        std::fs::write(&path, format!("{}\n{}\n", old.line, new.line)).unwrap();
        assert_eq!(ring.refresh(false).unwrap(), Some(2));
        assert!(may(&old, Role::Read).is_ok() && may(&new, Role::Admin).is_ok(), "both at once");
        assert_eq!(ring.refresh(true).unwrap(), None, "there is nothing to say");
        std::fs::write(&path, "rubbish").unwrap();
        assert!(ring.refresh(false).is_err());
        assert_eq!(ring.refresh(false).unwrap(), None, "said once");
        assert!(ring.refresh(true).is_err(), "and to whoever asks");
        assert_eq!(ring.refresh(false).unwrap(), None, "said once");
        std::fs::write(&path, format!("{}\n{}\n", new.line, new.line.replace("new ", "again "))).unwrap();
        assert!(matches!(ring.refresh(false), Err(KeysError::Twice { first: 1, second: 2 })));
        assert!(may(&old, Role::Read).is_ok(), "what was in force stays in force");
        std::fs::remove_file(&path).unwrap();
        assert!(ring.refresh(false).is_err());
        assert_eq!(ring.refresh(false).unwrap(), None, "said once");
        assert!(ring.refresh(true).is_err(), "and to whoever asks");
        assert!(may(&old, Role::Read).is_ok(), "what was in force stays in force");
        std::fs::write(&path, &new.line).unwrap();
        assert_eq!(ring.refresh(false).unwrap(), Some(1));
        assert_eq!(may(&old, Role::Read), Err(Refusal::Unknown));
    }

    #[test]
    fn a_rate_outlives_a_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let key = NewKey::new("shop", Role::Read).unwrap();
        std::fs::write(&path, format!("{} rate=1 burst=2", key.line)).unwrap();
        let ring = KeyRing::open(&path, USUAL).unwrap();
        let now = Instant::now();
        let call = |now| ring.authorize(Some(key.secret.as_bytes()), Role::Read, now);
        assert!(call(now).is_ok() && call(now).is_ok());
        std::fs::write(&path, format!("{} rate=1 burst=2\n# changed", key.line)).unwrap();
        assert_eq!(ring.refresh(false).unwrap(), Some(1));
        assert!(matches!(call(now), Err(Refusal::TooFast { caller, seconds: 1 }) if &*caller.name == "shop"));
        assert!(call(now + Duration::from_secs(1)).is_ok());
    }
}
