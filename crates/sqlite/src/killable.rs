//! Places on the way of a process at which a test kills it.
//!
//! `SYNDDB_KILL_AT=<label>@<n>` has the process killed, as by `kill -9`, when it comes by the label for the n-th time, counted over all its threads.
//! Without the feature `killable` no place is one, and a call costs nothing.
//!
//! It stands here because the roles that keep promises across a crash, agent and sequencer, keep them in SQLite: this is the lowest crate
//! that both may import and that may look at its process. Knows nothing of what is done at a place.

/// The process comes by a place. It may be the last thing that it does.
#[cfg(not(feature = "killable"))]
#[inline]
pub const fn reached(_label: &str) {}

/// The process comes by a place. It may be the last thing that it does.
#[cfg(feature = "killable")]
pub fn reached(label: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    static AT: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    let read = || {
        let at = std::env::var("SYNDDB_KILL_AT").ok()?;
        let (label, count) = at.rsplit_once('@')?;
        Some((label.to_owned(), count.parse().ok()?))
    };
    if let Some((at, count)) = AT.get_or_init(read)
        && at == label
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        // A signal that nobody can catch; where the kernel refused it, the test that waits for the end fails.
        kill_process(getpid(), Signal::KILL).ok();
    }
}
