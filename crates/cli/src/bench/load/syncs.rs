//! How often a sequencer waits for the disk, as `strace` sees it, where it is there and may look. What is traced is slow, so nothing else is
//! measured meanwhile.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bench::BenchError;
use crate::bench::pairs::number;

/// What helps where it is not there.
const MISSING: &str = "`strace` is not there; `apt-get install strace` brings it";

/// Calls that wait for the disk, by those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Syncs {
    /// Submissions that were acknowledged while they were counted.
    pub submissions: u64,
    /// `fdatasync` and `fsync` of journals, for each of them.
    pub journal_per_submission: f64,
    /// Of the store, for each of them.
    pub store_per_submission: f64,
}

/// The command that runs another one and notes such calls, or why there is none.
pub(super) fn tracer(log: &Path) -> Result<Vec<OsString>, String> {
    let words = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-y",
        "-ttt",
        "-e",
        "signal=none",
        "-e",
        "trace=fdatasync,fsync",
        "-o",
    ];
    let tracer: Vec<OsString> = words.iter().map(OsString::from).chain([log.into()]).collect();
    let mut trial = Command::new(&tracer[0]);
    trial.args(&tracer[1..]).arg("true").stdin(Stdio::null()).stdout(Stdio::null());
    match trial.output() {
        Ok(tried) if tried.status.success() => Ok(tracer),
        Ok(tried) => Err(format!("`strace` may not look: {}", String::from_utf8_lossy(&tried.stderr).trim())),
        Err(_) => Err(MISSING.to_owned()),
    }
}

/// What was called in some time since 1970, while this many submissions were acknowledged.
pub(super) fn count(log: &Path, from: Duration, to: Duration, submissions: u64) -> Result<Syncs, BenchError> {
    let log = fs::read_to_string(log).map_err(BenchError::system("read what `strace` saw"))?;
    let (journal, store) = calls(&log, from, to);
    let per = |calls| number(calls) / number(submissions.max(1));
    Ok(Syncs { submissions, journal_per_submission: per(journal), store_per_submission: per(store) })
}

/// Of lines like `PID SECONDS.FRACTION call(3</path>) = 0`, how many are of a journal, and how many of anything else. The end of a call that took a
/// while has a line of its own.
fn calls(log: &str, from: Duration, to: Duration) -> (u64, u64) {
    let (mut journal, mut store) = (0, 0);
    for line in log.lines() {
        let mut words = line.split_whitespace().skip(1);
        let at =
            words.next().and_then(|at| at.parse().ok()).and_then(|at| Duration::try_from_secs_f64(at).ok());
        let name = words.next().and_then(|call| call.split_once('('));
        let (Some(at), Some(("fdatasync" | "fsync", file))) = (at, name) else { continue };
        if (from..to).contains(&at) {
            *if file.contains("/sequencer/streams") { &mut journal } else { &mut store } += 1;
        }
    }
    (journal, store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_apart_by_their_file() {
        let log = "\
7 100.500000 fdatasync(9</x/sequencer/streams/5d/journal.db-wal>) = 0
7 101.000000 fdatasync(9</x/sequencer/streams/5d/journal.db-wal> <unfinished ...>
8 101.250000 fsync(5</x/store/batches/1#1>) = 0
7 101.500000 <... fdatasync resumed>) = 0
8 102.000000 fdatasync(9</x/sequencer/streams/5d/journal.db>) = 0
7 102.000000 +++ exited with 0 +++
";
        let at = Duration::from_secs;
        assert_eq!(calls(log, at(101), at(102)), (1, 1));
        assert_eq!(calls(log, at(100), at(103)), (3, 1));
        assert_eq!(calls("", at(0), at(103)), (0, 0));
    }
}
