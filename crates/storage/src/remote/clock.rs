//! The time by the clock of a platform, as its answers state it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// What time it was for a platform when it answered last. Clones are the same.
///
/// What must stay true: it is never ahead of the platform's own clock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock {
    /// Seconds since 1970; 0 where no answer stated a time yet.
    heard: Arc<AtomicU64>,
}

impl Clock {
    /// An answer states a time.
    pub(super) fn hear(&self, date: SystemTime) {
        let since = date.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.heard.store(since.as_secs(), Ordering::Relaxed);
    }

    /// The time that was stated last.
    pub(crate) fn last(&self) -> Option<SystemTime> {
        match self.heard.load(Ordering::Relaxed) {
            0 => None,
            seconds => SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)),
        }
    }
}
