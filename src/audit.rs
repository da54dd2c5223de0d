//! What the operators did: who, what, whence, and what came of it.
//!
//! Every request for `/admin` and every deletion is written to the log under the target `kindred::audit`, and to a file of JSON lines if
//! there is one, also where the key may not do it, and whether or not the caller waits for the answer. The file is only ever appended to, and
//! each line is on the disk before the answer goes out. It may be moved away at any time: the next line begins it anew. A caller without a good key is
//! counted and not written here, or anyone could fill the disk; and what a good key, or without keys anybody, may not do is written once a second for
//! each key and refusal.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// One thing that was done.
#[derive(Debug, Clone, Serialize)]
pub struct Deed<'a> {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// The name of the key; `local` where there are no keys, `signal` for SIGHUP.
    pub who: &'a str,
    /// The address that it came from.
    pub peer: &'a str,
    /// What was asked for, such as `POST /admin/reload`.
    pub action: &'a str,
    /// What came of it: a status, or a word.
    pub outcome: &'a str,
    /// The request's name, to find it in other logs.
    pub request_id: &'a str,
}

/// Where deeds are written.
#[derive(Debug, Default)]
pub struct Audit {
    /// The path of the file; held while a line is written.
    file: Option<Arc<Mutex<PathBuf>>>,
    /// When each key, or whoever there is without keys, was refused last with each status and it was written. As many as there are keys.
    refused: Mutex<HashMap<(Arc<str>, u16), Instant>>,
}

/// How often the same key's refusals are written.
const REFUSALS_EVERY: Duration = Duration::from_secs(1);

impl Audit {
    /// Makes the file if it is not there, and sees whether it can be appended to. An empty path means the log alone.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        if path.as_os_str().is_empty() {
            return Ok(Self::default());
        }
        append_to(path)?;
        Ok(Self { file: Some(Arc::new(Mutex::new(path.to_owned()))), ..Self::default() })
    }

    /// Whether the refusal of a key is to be written: not where one like it just was.
    pub fn tells_refusal(&self, who: &Arc<str>, status: u16, now: Instant) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let last = refused.get(&(Arc::clone(who), status));
        let tells = last.is_none_or(|last| now.saturating_duration_since(*last) >= REFUSALS_EVERY);
        if tells {
            refused.insert((Arc::clone(who), status), now);
        }
        tells
    }

    /// Writes a deed down. What cannot be written is an error in the log; it has been done already. Waits for the disk.
    pub fn record(&self, deed: &Deed<'_>) {
        if let Some(write) = self.log(deed) {
            write();
        }
    }

    /// Writes a deed to the log; what is left to do writes it to the file, if there is one, and waits for the disk.
    pub fn log(&self, deed: &Deed<'_>) -> Option<impl FnOnce() + Send + 'static> {
        let Deed { who, peer, action, outcome, request_id, .. } = *deed;
        tracing::info!(target: "kindred::audit", who, peer, action, outcome, request_id, "operator");
        let file = Arc::clone(self.file.as_ref()?);
        let line = serde_json::to_vec(deed).map_err(std::io::Error::from);
        Some(move || {
            let path = file.lock().unwrap_or_else(PoisonError::into_inner);
            let written = line.and_then(|mut line| {
                line.push(b'\n');
                // Opened each time: who rotates logs moves the file away, and what was opened before would go with it.
                let mut file = append_to(&path)?;
                if is_cut_off(&path).unwrap_or(false) {
                    line.insert(0, b'\n');
                }
                file.write_all(&line)?;
                file.sync_data()
            });
            if let Err(error) = written {
                tracing::error!(path = %path.display(), %error, "the audit log cannot be written");
            }
        })
    }
}

/// Whether the last line was written in part only, as on a disk that was full: what is appended to it could not be read either. False of what may not
/// be read.
fn is_cut_off(path: &Path) -> std::io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn append_to(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let [path, moved] = ["audit.jsonl", "audit.jsonl.1"].map(|name| directory.path().join(name));
        let audit = Audit::open(&path).unwrap();
        let deed = Deed { at_ms: 7, who: "signal", peer: "", action: "SIGHUP", outcome: "taken", request_id: "" };
        audit.record(&deed);
        std::fs::rename(&path, &moved).unwrap();
        audit.record(&deed);
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&moved), lines(&path)), (1, 1));
    }

    #[test]
    fn a_line_that_was_cut_off_takes_no_other_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        std::fs::write(&path, "{\"at_ms\":6,\"wh").unwrap();
        let audit = Audit::open(&path).unwrap();
        let deed = Deed { at_ms: 7, who: "signal", peer: "", action: "SIGHUP", outcome: "taken", request_id: "" };
        audit.record(&deed);
        audit.record(&deed);
        let text = std::fs::read_to_string(&path).unwrap();
        let whole = text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
        assert_eq!((text.lines().count(), whole.count()), (3, 2), "{text}");
    }

    #[test]
    fn refusals_of_a_key_are_told_once_a_second() {
        let (audit, shop, front) = (Audit::default(), Arc::from("shop"), Arc::from("front"));
        let now = Instant::now();
        let tells =
            |who: &Arc<str>, status, after| audit.tells_refusal(who, status, now + Duration::from_millis(after));
        assert!(tells(&shop, 403, 0) && tells(&shop, 429, 0) && tells(&front, 403, 0));
        assert!(!tells(&shop, 403, 999) && tells(&shop, 403, 1_000) && !tells(&shop, 403, 1_500));
    }

    #[test]
    fn deeds_are_appended_as_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let deed =
            Deed { at_ms: 7, who: "boss", peer: "::1", action: "POST /admin/\"x\n", outcome: "200", request_id: "r" };
        for _ in 0..2 {
            // Opened twice, as over a restart.
            Audit::open(&path).unwrap().record(&deed);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[1]["who"].as_str(), lines[1]["at_ms"].as_i64()), (Some("boss"), Some(7)));
        Audit::open(Path::new("")).unwrap().record(&deed);
    }
}
