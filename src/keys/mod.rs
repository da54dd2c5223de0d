//! API keys: who calls, and what that caller may do.
//!
//! A key is `kin_` and 256 random bits in hexadecimal. Only its SHA-256 is kept: a plain hash is enough, because nobody can search 2²⁵⁶
//! keys, as they could search passwords. A presented key is hashed and compared with every line in constant time, so how long a refusal
//! takes tells nothing. The only module that names ring's digest and randomness, and subtle.

use std::fmt::Write as _;
use std::sync::Arc;

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

mod bucket;
mod key_ring;
mod seen;

pub use self::bucket::Bucket;
pub use self::key_ring::{Caller, KeyRing, Refusal};
pub(crate) use self::seen::Seen;
use crate::limits;

/// What every key begins with, so that a scanner for leaked secrets can find one.
const PREFIX: &str = "kin_";
/// Random bytes of a key.
const SECRET_BYTES: usize = 32;

/// A SHA-256.
pub(crate) type Hash = [u8; SHA256_OUTPUT_LEN];

/// What a caller may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Ask for lists, scores, items, metrics.
    Read,
    /// Send interactions, items and what is to be known of people.
    Write,
    /// Operate the server.
    Admin,
}

/// How fast one key may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests per second, 0 = as many as come.
    pub per_second: u32,
    /// Requests that may come at once.
    pub burst: u32,
}

/// One line of a keys file. It holds a hash and shows it to nobody.
pub struct Key {
    name: Arc<str>,
    role: Role,
    hash: Hash,
    rate: Rate,
    bucket: Option<Arc<Bucket>>,
}

/// The keys of one file.
pub struct Keys(Vec<Key>);

/// Why keys cannot be used. Messages never hold a hash.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The file cannot be read.
    #[error(
        "cannot read keys file {path}: {source}; make one with `kindred key new --role admin`, and name it in security.keys"
    )]
    Unreadable {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is not a key.
    #[error(
        "keys file, line {line}: {reason}; expected `name role sha256:<64 hexadecimal digits> [rate=N] [burst=N]`, as `kindred key new` prints it"
    )]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// Two lines are of one key.
    #[error(
        "keys file, lines {first} and {second}: both have the same hash, so they are one key under two names, and to remove one of them would not revoke it; \
         remove one, or make a key for each caller with `kindred key new`"
    )]
    Twice {
        /// The earlier line, from 1.
        first: usize,
        /// The later line.
        second: usize,
    },
    /// There is no key, or there are too many.
    #[error("the keys file holds {found} keys, expected 1 to {most}; make one with `kindred key new --role admin`", most = limits::KEYS_MAX)]
    Count {
        /// The number found.
        found: usize,
    },
    /// A name cannot be used.
    #[error("a key's name is 1 to {most} letters, digits, '.', '-' or '_'", most = limits::KEY_NAME_BYTES_MAX)]
    Name,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes; without them no key can be made")]
    NoRandomness,
}

/// A key that was made just now.
pub struct NewKey {
    /// The key itself, for whoever is to call. It is kept nowhere.
    pub secret: String,
    /// The line for the keys file.
    pub line: String,
}

impl Role {
    /// Its name in a keys file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    /// The role of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Read, Self::Write, Self::Admin].into_iter().find(|role| role.name() == name)
    }
}

impl NewKey {
    /// Makes a key.
    ///
    /// # Errors
    /// [`KeysError::Name`], or no random bytes.
    pub fn new(name: &str, role: Role) -> Result<Self, KeysError> {
        if !is_name(name) {
            return Err(KeysError::Name);
        }
        let mut bytes = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| KeysError::NoRandomness)?;
        let secret = format!("{PREFIX}{}", hexadecimal(&bytes));
        let line = format!("{name} {} sha256:{}", role.name(), hexadecimal(&sha256(secret.as_bytes())));
        Ok(Self { secret, line })
    }
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewKey(secret)")
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({} {})", self.name, self.role.name())
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

impl Keys {
    /// Reads a keys file: a key a line; empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// [`KeysError`] naming the line, never what stands in it.
    pub fn parse(text: &str, usual: Rate) -> Result<Self, KeysError> {
        let (mut keys, mut lines): (Vec<Key>, Vec<usize>) = (Vec::new(), Vec::new());
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = Key::parse(line, usual).map_err(|reason| KeysError::Line { line: at + 1, reason })?;
            if keys.iter().any(|other| other.name == key.name) {
                return Err(KeysError::Line {
                    line: at + 1,
                    reason: "an earlier line has the same name: make the key with another --name",
                });
            }
            if let Some((_, first)) = keys.iter().zip(&lines).find(|(other, _)| other.hash == key.hash) {
                return Err(KeysError::Twice { first: *first, second: at + 1 });
            }
            keys.push(key);
            lines.push(at + 1);
        }
        if keys.is_empty() || keys.len() > limits::KEYS_MAX {
            return Err(KeysError::Count { found: keys.len() });
        }
        Ok(Self(keys))
    }

    /// The key that was presented, if it is one of these. All are compared, whichever it is: 0.3 µs and some nanoseconds a key.
    #[must_use]
    pub fn find(&self, presented: &[u8]) -> Option<&Key> {
        let hash = sha256(presented);
        let mut found = u32::MAX;
        for (at, key) in (0_u32..).zip(&self.0) {
            let same: Choice = key.hash.ct_eq(&hash);
            found.conditional_assign(&at, same);
        }
        self.0.get(found as usize)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lets keys that stay keep what they have used of their rate.
    fn take_over(&mut self, old: &Self) {
        for key in &mut self.0 {
            let same = old.0.iter().find(|other| other.hash == key.hash && other.rate == key.rate);
            if let Some(same) = same {
                key.bucket.clone_from(&same.bucket);
            }
        }
    }
}

impl Key {
    fn parse(line: &str, usual: Rate) -> Result<Self, &'static str> {
        let mut words = line.split_whitespace();
        let name = words.next().filter(|name| is_name(name)).ok_or("the name has a character that it may not have")?;
        let role = words.next().and_then(Role::named).ok_or("the role is none of read, write, admin")?;
        let hash = words.next().and_then(|word| word.strip_prefix("sha256:")).and_then(parse_hash);
        let hash = hash.ok_or("the hash is not sha256: and 64 hexadecimal digits")?;
        let mut rate = usual;
        for word in words {
            let (what, number) = word.split_once('=').ok_or("what follows the hash is not rate=N or burst=N")?;
            let number: u32 = number.parse().map_err(|_| "rate or burst is not a number")?;
            match what {
                "rate" => rate.per_second = number,
                "burst" if number > 0 => rate.burst = number,
                _ => return Err("what follows the hash is not rate=N or burst=N above 0"),
            }
        }
        let bucket = (rate.per_second > 0).then(|| Arc::new(Bucket::new(rate)));
        Ok(Self { name: name.into(), role, hash, rate, bucket })
    }
}

fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=limits::KEY_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(good)
}

/// The SHA-256 of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn parse_hash(text: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    if text.len() != 2 * hash.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Rate = Rate { per_second: 0, burst: 1 };

    #[test]
    fn a_new_key_is_found_by_its_line_and_by_nothing_else() {
        let (shop, boss) = (NewKey::new("shop", Role::Write).unwrap(), NewKey::new("boss", Role::Admin).unwrap());
        let text = format!("# keys\n\n{}\n{} rate=5 burst=7\n", shop.line, boss.line);
        let keys = Keys::parse(&text, USUAL).unwrap();
        let found = keys.find(boss.secret.as_bytes()).unwrap();
        assert_eq!((&*found.name, found.role, found.rate), ("boss", Role::Admin, Rate { per_second: 5, burst: 7 }));
        assert_eq!(keys.find(shop.secret.as_bytes()).unwrap().role, Role::Write);
        for wrong in ["", "kin_", &shop.secret[1..], &shop.secret.to_uppercase(), &shop.line] {
            assert!(keys.find(wrong.as_bytes()).is_none(), "{wrong}");
        }
        assert_eq!(shop.secret.len(), PREFIX.len() + 2 * SECRET_BYTES);
        assert!(!text.contains(&shop.secret), "the file does not hold the key");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let key = NewKey::new("shop", Role::Read).unwrap();
        let keys = Keys::parse(&key.line, USUAL).unwrap();
        let hash = key.line.split("sha256:").nth(1).unwrap();
        let shown = format!("{key:?} {keys:?}");
        assert!(!shown.contains(hash) && !shown.contains(&key.secret) && shown.contains("shop read"), "{shown}");
        let error = Keys::parse(&format!("shop reads sha256:{hash}"), USUAL).unwrap_err().to_string();
        assert!(!error.contains(hash) && error.contains("line 1") && error.contains("kindred key new"), "{error}");
    }

    #[test]
    fn bad_lines_are_named() {
        let hash = format!("sha256:{}", "0".repeat(64));
        for (line, says) in [
            (format!("a read {hash}x"), "64 hexadecimal"),
            ("a read sha256:zz".to_owned(), "64 hexadecimal"),
            (format!("a/b read {hash}"), "name"),
            (format!("a root {hash}"), "role"),
            (format!("a read {hash} rate=x"), "not a number"),
            (format!("a read {hash} burst=0"), "above 0"),
            (format!("a read {hash} fast"), "rate=N"),
            (format!("a read {hash}\na write {hash}"), "line 2"),
            (String::new(), "0 keys"),
        ] {
            let error = Keys::parse(&line, USUAL).unwrap_err().to_string();
            assert!(error.contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn one_key_under_two_names_is_refused_with_both_lines() {
        let key = NewKey::new("shop", Role::Read).unwrap();
        let hash = key.line.split("sha256:").nth(1).unwrap();
        let text = format!("# keys\n{}\n\nold-shop admin sha256:{}\n", key.line, hash.to_uppercase());
        let error = Keys::parse(&text, USUAL).unwrap_err().to_string();
        assert!(error.contains("lines 2 and 4") && error.contains("kindred key new"), "{error}");
        assert!(!error.contains(hash), "{error}");
    }

    #[test]
    fn sha256_is_sha256() {
        // FIPS 180-4, the example "abc".
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hexadecimal(&sha256(b"abc")), expected);
        assert_eq!(parse_hash(expected), Some(sha256(b"abc")));
    }

    #[test]
    fn each_role_may_what_the_lesser_may() {
        assert!(Role::Read < Role::Write && Role::Write < Role::Admin);
        assert_eq!(Role::named("write"), Some(Role::Write));
        assert_eq!(Role::named("root"), None);
    }
}
