//! Places on the way of a process at which a test kills it, or has it stand still.
//!
//! `SYNDDB_KILL_AT=<label>@<n>` has the process killed, as by `kill -9`, when it comes by the label for the n-th time, counted over all its threads;
//! `SYNDDB_STOP_AT` has it stopped, as by `kill -STOP`. Without the feature `killable` no place is one, and a call costs nothing.
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
    use rustix::process::Signal;

    static KILLED: place::Place = place::Place::new("SYNDDB_KILL_AT");
    static STOPPED: place::Place = place::Place::new("SYNDDB_STOP_AT");
    KILLED.pass(label, Signal::KILL);
    STOPPED.pass(label, Signal::STOP);
}

#[cfg(feature = "killable")]
mod place {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    /// The place that a variable of the environment names.
    pub(super) struct Place {
        variable: &'static str,
        at: OnceLock<Option<(String, u64)>>,
        passed: AtomicU64,
    }

    impl Place {
        pub(super) const fn new(variable: &'static str) -> Self {
            Self { variable, at: OnceLock::new(), passed: AtomicU64::new(0) }
        }

        /// Sends the signal to this process if this is the place, and the time.
        pub(super) fn pass(&self, label: &str, signal: Signal) {
            if let Some((at, count)) = self.at.get_or_init(|| self.read())
                && at == label
                && self.passed.fetch_add(1, Ordering::SeqCst) + 1 == *count
            {
                // A signal that nobody can catch; where the kernel refused it, the test that waits for it fails.
                kill_process(getpid(), signal).ok();
            }
        }

        fn read(&self) -> Option<(String, u64)> {
            let at = std::env::var(self.variable).ok()?;
            let (label, count) = at.rsplit_once('@')?;
            Some((label.to_owned(), count.parse().ok()?))
        }
    }
}
