//! What the system says of this process: memory, page faults, and how much of the mapped artifacts is in memory. Linux; elsewhere nothing.
//!
//! Read when `/metrics` is asked for, about a millisecond. A share of the map below 1 means that searches wait for the disk.

use std::fs;

use prometheus::{IntGauge, Registry};

use super::metrics::gauge;

/// How the names of mapped artifact files end.
const MAPPED: &str = ".kin";

/// Gauges of the process.
pub(super) struct ProcessGauges {
    resident: IntGauge,
    minor_faults: IntGauge,
    major_faults: IntGauge,
    mapped: IntGauge,
    mapped_resident: IntGauge,
}

impl ProcessGauges {
    pub(super) fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            resident: gauge(
                r,
                "kindred_resident_bytes",
                "memory of the process that is resident, mapped files included",
            )?,
            minor_faults: gauge(r, "kindred_minor_page_faults", "page faults since start that needed no disk")?,
            major_faults: gauge(r, "kindred_major_page_faults", "page faults since start that waited for the disk")?,
            mapped: gauge(r, "kindred_mapped_bytes", "bytes of artifact files that are mapped")?,
            mapped_resident: gauge(r, "kindred_mapped_resident_bytes", "bytes of those that are in memory")?,
        })
    }

    /// Brings them up to now. What cannot be read stays as it was.
    pub(super) fn update(&self) {
        let set = |gauge: &IntGauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        if let Some((minor, major)) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(faults) {
            set(&self.minor_faults, minor);
            set(&self.major_faults, major);
        }
        if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(|text| kb(text, "VmRSS:"))
        {
            set(&self.resident, bytes);
        }
        if let Ok(text) = fs::read_to_string("/proc/self/smaps") {
            let (mapped, resident) = maps(&text);
            set(&self.mapped, mapped);
            set(&self.mapped_resident, resident);
        }
    }
}

/// Minor and major faults of `/proc/self/stat`: the 8th and 10th after the name, which may hold anything.
fn faults(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    let minor = words.nth(7)?.parse().ok()?;
    Some((minor, words.nth(1)?.parse().ok()?))
}

/// The bytes of a line such as `Rss:    12 kB`.
fn kb(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}

/// Mapped and resident bytes of the artifact files in `/proc/self/smaps`.
fn maps(smaps: &str) -> (u64, u64) {
    let (mut sums, mut is_ours) = ((0, 0), false);
    for line in smaps.lines() {
        if line.starts_with(|c: char| c.is_ascii_hexdigit()) && line.contains('-') && !line.contains(" kB") {
            is_ours = line.trim_end_matches(" (deleted)").ends_with(MAPPED);
        } else if is_ours {
            sums.0 += kb(line, "Size:").unwrap_or(0);
            sums.1 += kb(line, "Rss:").unwrap_or(0);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_writes_is_read() {
        assert_eq!(faults("7 (a) b) S 1 7 7 0 -1 4194304 1234 0 56 0 3 4"), Some((1234, 56)));
        assert_eq!(faults(""), None);
        let smaps = "7f00-7f10 r--s 00000000 08:01 9  /a/index.kin\nSize:  64 kB\nRss:   32 kB\nVmFlags: rd\n\
            7f20-7f30 r--p 00000000 08:01 9  /lib/libc.so\nSize:  99 kB\nRss:  99 kB\n\
            7f40-7f50 r--s 00000000 08:01 9  /a/model.kin (deleted)\nSize:  10 kB\nRss:  1 kB\n";
        assert_eq!(maps(smaps), (74 * 1024, 33 * 1024));
    }
}
