//! How much is captured before the follower looks around.

use std::time::Instant;

/// How much of what is committed is captured before it is persisted: what comes first, and one commit at least.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portion {
    /// Never fewer frames, if there are so many, unless it is too late for that.
    pub(super) least: u32,
    /// From when on it is.
    pub(super) latest: Option<Instant>,
    /// So many frames.
    pub(super) frames: u32,
    /// What is captured by then.
    pub(super) until: Instant,
    /// Unless the WAL has fewer frames: then that does not count.
    pub(super) unless: u32,
}

impl Portion {
    /// What is captured by then.
    pub(super) fn until(until: Instant) -> Self {
        Self { least: 0, latest: None, frames: u32::MAX, until, unless: 0 }
    }

    /// Whether so many commits of so many frames are one, in a WAL of which so many are committed.
    pub(super) fn is_enough(
        &self,
        commits: u64,
        frames: u32,
        now: Instant,
        committed: impl FnOnce() -> u32,
    ) -> bool {
        let is_least = frames >= self.least || self.latest.is_some_and(|at| now >= at);
        let is_over = || now >= self.until && (self.unless == 0 || committed() >= self.unless);
        commits > 0 && is_least && (frames >= self.frames || is_over())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_portion_is_what_comes_first_and_one_commit_and_the_least() {
        let now = Instant::now();
        let later = |ms: u64| now + Duration::from_millis(ms);
        let enough = |portion: &Portion, frames: u32, ms: u64| portion.is_enough(1, frames, later(ms), || 70);
        let some = Portion { frames: 8, ..Portion::until(later(5)) };
        assert!(!some.is_enough(0, 0, later(9), || 70), "one commit, however long it takes");
        assert!(!enough(&some, 7, 4));
        assert!(enough(&some, 8, 4));
        assert!(enough(&some, 1, 5));
        // Time does not count in a WAL that has fewer frames.
        assert!(!enough(&Portion { unless: 71, ..some }, 7, 9));
        assert!(enough(&Portion { unless: 70, ..some }, 7, 9));
        let least = Portion { least: 20, ..some };
        assert!(!enough(&least, 19, 1_000_000), "however long that takes");
        assert!(enough(&least, 20, 5));
        let least = Portion { latest: Some(later(50)), ..least };
        assert!(!enough(&least, 19, 49));
        assert!(enough(&least, 19, 50));
    }
}
