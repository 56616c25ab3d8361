//! Listens to what the agent says of each commit on its way, in this process: that it is here (`captured`), and that it is durable
//! (`kept`).
//!
//! It is this process's only subscriber of traces, and every other trace stays switched off. Taking the time costs the agent less than a
//! microsecond a commit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::time::{ClockId, clock_gettime};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::BenchError;

/// Where the agent says it.
const TARGET: &str = "synddb_agent::outbox";

/// A whole commit has come to the outbox.
const CAPTURED: &str = "captured";

/// A commit, and all before it, are durable in the outbox.
const KEPT: &str = "kept";

/// The field with the number of the commit.
const COMMIT: &str = "commit";

/// Moments of either kind that are kept. What is said beyond is not noted, and is missed then.
const MOMENTS_MAX: usize = 1 << 20;

/// When something became of commits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Moments {
    /// The number of a commit, and when it was here.
    pub(super) captured: Vec<(u64, u64)>,
    /// The number of the last commit that was durable, and since when.
    pub(super) kept: Vec<(u64, u64)>,
}

/// Notes when the agent says something. Clones note in the same place.
#[derive(Debug, Clone, Default)]
pub(super) struct Listener(Arc<Mutex<Moments>>);

impl Listener {
    /// Listens to this process from now on. One process has one.
    pub(super) fn install() -> Result<Self, BenchError> {
        let listener = Self::default();
        tracing::subscriber::set_global_default(listener.clone())
            .map_err(|error| BenchError::system("listen to the agent")(std::io::Error::other(error)))?;
        Ok(listener)
    }

    /// What was noted since it was last asked.
    pub(super) fn take(&self) -> Moments {
        std::mem::take(&mut *self.moments())
    }

    fn moments(&self) -> MutexGuard<'_, Moments> {
        // A list is whole after every push.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target() == TARGET && [CAPTURED, KEPT].contains(&metadata.name())
    }

    fn event(&self, event: &Event<'_>) {
        let now = monotonic_ns();
        let mut commit = Commit(None);
        event.record(&mut commit);
        let Commit(Some(commit)) = commit else { return };
        let mut moments = self.moments();
        let Moments { captured, kept } = &mut *moments;
        let noted = if event.metadata().name() == CAPTURED { captured } else { kept };
        if noted.len() < MOMENTS_MAX {
            noted.push((commit, now));
        }
    }

    // No span is enabled, so nobody gives these anything to do.

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Nanoseconds of CLOCK_MONOTONIC, which is one clock for all processes.
pub(super) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanoseconds) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    // It counts from the machine's start.
    seconds.unwrap_or_default() * 1_000_000_000 + nanoseconds.unwrap_or_default()
}

/// Reads the number of a commit out of what was said.
struct Commit(Option<u64>);

impl Visit for Commit {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == COMMIT {
            self.0 = Some(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_outbox_says_of_commits_is_noted() {
        let listener = Listener::default();
        let before = monotonic_ns();
        tracing::subscriber::with_default(listener.clone(), || {
            tracing::trace!(name: "captured", target: TARGET, commit = 7_u64, "captured");
            tracing::trace!(name: "captured", target: TARGET, "of no commit");
            tracing::trace!(name: "another", target: TARGET, commit = 8_u64, "another");
            tracing::error!(name: "captured", target: "synddb_agent::ship", commit = 9_u64, "captured");
            let _span = tracing::error_span!(target: TARGET, "captured", commit = 10_u64).entered();
            tracing::debug!(name: "kept", target: TARGET, commit = 7_u64, "kept");
        });
        let Moments { captured, kept } = listener.take();
        let [(7, here)] = captured[..] else { panic!("{captured:?}") };
        let [(7, durable)] = kept[..] else { panic!("{kept:?}") };
        assert!((before..=durable).contains(&here) && durable <= monotonic_ns());
        assert_eq!(listener.take(), Moments::default());
    }
}
