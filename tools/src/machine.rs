//! The machine that a measurement was made on: a number without it is worth little.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::calendar::Moment;

/// What a measurement was made on and when.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// When, RFC 3339 in UTC.
    pub date: String,
    /// Version of this program.
    pub version: &'static str,
    /// Whether it was compiled with optimisation; without it no number means anything.
    pub optimised: bool,
}

impl Machine {
    /// This machine, now.
    pub fn here() -> Self {
        Self {
            cpu: cpu_name(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            date: Moment::now().rfc3339(),
            version: env!("CARGO_PKG_VERSION"),
            optimised: !cfg!(debug_assertions),
        }
    }

    /// On one line, with a warning where there is cause.
    pub fn line(&self) -> String {
        let warning =
            if self.optimised { "" } else { " (a debug build: run with --release for numbers that mean something)" };
        format!("{}, {} cores, {}, kindred {}{warning}", self.cpu, self.cores, self.date, self.version)
    }
}

/// The most memory that this process has held at once; none where the system does not say.
pub fn peak_memory_bytes() -> Option<u64> {
    memory_bytes("self", "VmHWM:")
}

/// Memory that a process has now; none where the system does not say.
pub fn resident_bytes(process: u32) -> Option<u64> {
    memory_bytes(&process.to_string(), "VmRSS:")
}

/// The sort of file system that a path lies on, as `ext4` or `tmpfs`; none where the system does not say.
pub fn file_system(path: &Path) -> Option<String> {
    mounted(&fs::canonicalize(path).ok()?, &fs::read_to_string("/proc/self/mounts").ok()?)
}

/// The same by the text of /proc/self/mounts, where of two mounts at one place the later lies over the earlier.
fn mounted(path: &Path, mounts: &str) -> Option<String> {
    let mount = |line: &str| {
        let mut words = line.split(' ').skip(1);
        // A space in a name is written so.
        let at = words.next()?.replace("\\040", " ");
        path.starts_with(&at).then_some((at.len(), words.next()?.to_owned()))
    };
    mounts.lines().filter_map(mount).max_by_key(|(length, _)| *length).map(|(_, sort)| sort)
}

/// A line of what Linux says of the memory of a process, which is in units of 1,024 bytes.
fn memory_bytes(process: &str, line: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let found = status.lines().find_map(|one| one.strip_prefix(line))?;
    Some(found.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
}

/// The processor's name in the text of /proc/cpuinfo; "unknown CPU" where it is not said, as on many ARM machines.
fn cpu_name(cpuinfo: &str) -> String {
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or("unknown CPU", |(_, name)| name.trim()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory() {
        if cfg!(target_os = "linux") {
            for memory in [resident_bytes(std::process::id()), peak_memory_bytes()] {
                assert!(memory.is_some_and(|bytes| bytes > 100_000), "{memory:?}");
            }
        }
    }

    #[test]
    fn a_path_lies_on_the_innermost_mount() {
        let mounts = "overlay / overlay rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/sda1 /tmp/my\\040disk ext4 rw 0 0\n";
        let on = |path: &str| mounted(Path::new(path), mounts).unwrap();
        assert_eq!([on("/tmpfile"), on("/tmp/store"), on("/tmp/my disk/store")], ["overlay", "tmpfs", "ext4"]);
        let over = format!("{mounts}/dev/sdb1 /tmp xfs rw 0 0\n");
        assert_eq!(mounted(Path::new("/tmp/store"), &over).as_deref(), Some("xfs"));
    }

    #[test]
    fn the_processor_is_named_where_the_system_names_it() {
        assert_eq!(cpu_name("processor\t: 0\nmodel name\t: AMD EPYC 9R14\nflags: x"), "AMD EPYC 9R14");
        assert_eq!(cpu_name("processor\t: 0\n"), "unknown CPU");
    }
}
