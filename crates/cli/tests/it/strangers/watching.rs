//! What a crowd costs: memory, disk, and how late the replica is.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::asking::Asker;
use crate::roles::PATIENCE;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// The most that was seen of anything.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) samples: u64,
    pub(super) wal_bytes: u64,
    pub(super) temporary_files: usize,
    pub(super) temporary_bytes: u64,
}

/// A pause that nobody cuts short.
pub(super) fn pause(by: Duration) {
    let (_never, comes) = mpsc::channel::<()>();
    comes.recv_timeout(by).ok();
}

impl Watched {
    /// Looks again and again until it is over.
    pub(super) fn until(pid: u32, replica: &Path, temporary: &Path, over: &AtomicBool) -> Self {
        let mut watched = Self::default();
        let mut wal = replica.to_owned().into_os_string();
        wal.push("-wal");
        while !over.load(Ordering::Relaxed) {
            watched.samples += 1;
            watched.wal_bytes = watched.wal_bytes.max(std::fs::metadata(&wal).map_or(0, |wal| wal.len()));
            // Files that SQLite sorts in have no name, and are known by what they are open as.
            let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().filter(|file| {
                std::fs::read_link(file.path()).is_ok_and(|name| name.to_string_lossy().contains("etilqs_"))
            });
            watched.temporary_files = watched.temporary_files.max(open.count());
            let bytes =
                std::fs::read_dir(temporary).unwrap().flatten().filter_map(|file| file.metadata().ok());
            watched.temporary_bytes = watched.temporary_bytes.max(bytes.map(|file| file.len()).sum());
            pause(PAUSE);
        }
        watched
    }
}

/// The most memory that a process ever had, in bytes.
pub(super) fn peak_bytes(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// Where the replica stood at a time, as it said.
pub(super) struct Seen {
    pub(super) at: Instant,
    /// The commit that comes next.
    pub(super) next: u64,
    /// The last message that it holds, and the last one that it knows to be stored.
    pub(super) sequence: Option<u64>,
    pub(super) stored: Option<u64>,
}

/// Looks where the replica stands until it stands before this commit.
pub(super) fn shown(url: &str, until: u64) -> Vec<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    let mut changed = Instant::now();
    loop {
        let status: Value = Asker::at(url).get("/status").json();
        let next = status["next"]["commit"].as_u64().unwrap();
        let (at, sequence, stored) = (Instant::now(), status["sequence"].as_u64(), status["stored"].as_u64());
        if seen.last().is_none_or(|before| before.next != next) {
            changed = at;
        }
        seen.push(Seen { at, next, sequence, stored });
        if next >= until {
            return seen;
        }
        assert!(changed.elapsed() < PATIENCE, "the replica does not go on: {status}");
        pause(PAUSE);
    }
}
