//! Whether a lease may be taken. Pure: the times of every look are arguments, and come from one monotonic clock, the reader's own.

use std::time::{Duration, Instant};

use synddb_storage::LeaseVersion;

/// One answered read of a lease.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) asked: Instant,
    pub(super) answered: Instant,
    /// `None` where there is no lease.
    pub(super) version: Option<LeaseVersion>,
    /// Whether the lease says that nobody holds it.
    pub(super) is_released: bool,
}

/// What a look comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Somebody may hold it.
    Wait,
    /// It may be taken.
    Take,
}

/// What was seen of a lease.
#[derive(Debug)]
pub(super) struct Watch {
    patience: Duration,
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    version: Option<LeaseVersion>,
    /// When a read that saw it first was answered.
    since: Instant,
}

impl Watch {
    /// A watch that has seen nothing. Without patience, the first look decides.
    pub(super) const fn new(patience: Duration) -> Self {
        Self { patience, seen: None }
    }

    /// Looks. The lease was the same for certain between the end of the read that saw it first and the beginning of this one.
    pub(super) fn look(&mut self, look: Look) -> Verdict {
        let Look { asked, answered, version, is_released } = look;
        let since = match &self.seen {
            Some(seen) if seen.version == version => seen.since,
            _ => answered,
        };
        self.seen = Some(Seen { version, since });
        let age = asked.saturating_duration_since(since);
        if is_released || age >= self.patience { Verdict::Take } else { Verdict::Wait }
    }

    /// How long to wait before the next look: `pace`, and less where patience ends sooner.
    pub(super) fn wait(&self, now: Instant, pace: Duration) -> Duration {
        let Some(seen) = &self.seen else { return pace };
        let left = (seen.since + self.patience).saturating_duration_since(now);
        // One that should have been taken, and could not be, is not asked for in a tight loop.
        if left.is_zero() { pace } else { left.min(pace) }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    /// A watch, and the clock of whoever looks.
    struct Post {
        watch: Watch,
        start: Instant,
    }

    impl Post {
        fn new() -> Self {
            Self { watch: Watch::new(PATIENCE), start: Instant::now() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        /// A look that takes no time; `None` sees no lease.
        fn look(&mut self, ms: u64, lease: Option<u64>) -> Verdict {
            self.slow(ms, ms, lease)
        }

        fn slow(&mut self, asked: u64, answered: u64, lease: Option<u64>) -> Verdict {
            let (asked, answered) = (self.at(asked), self.at(answered));
            self.watch.look(Look { asked, answered, version: lease.map(version), is_released: false })
        }
    }

    fn version(counter: u64) -> LeaseVersion {
        LeaseVersion::of_content(Bytes::from(counter.to_string()))
    }

    #[test]
    fn a_lease_that_changes_is_never_taken() {
        let mut post = Post::new();
        for beat in 0..10_000 {
            // A heartbeat every 1.9 s is within patience, and so is what is seen between two.
            assert_eq!(post.look(beat * 1900, Some(beat)), Verdict::Wait);
            assert_eq!(post.look(beat * 1900 + 1000, Some(beat)), Verdict::Wait);
        }
    }

    #[test]
    fn one_that_does_not_change_is_taken_when_patience_ends_and_not_before() {
        for lease in [Some(7), None] {
            let mut post = Post::new();
            assert_eq!(post.look(0, lease), Verdict::Wait);
            assert_eq!(post.look(1999, lease), Verdict::Wait);
            assert_eq!(post.look(2000, lease), Verdict::Take);
        }
    }

    #[test]
    fn every_change_begins_patience_anew_also_one_that_comes_late() {
        let mut post = Post::new();
        assert_eq!(post.look(0, None), Verdict::Wait);
        assert_eq!(post.look(1999, Some(1)), Verdict::Wait);
        // The holder paused, and beat once more before anybody took it.
        assert_eq!(post.look(90_000, Some(2)), Verdict::Wait);
        assert_eq!(post.look(91_999, Some(2)), Verdict::Wait);
        assert_eq!(post.look(92_000, Some(2)), Verdict::Take);
    }

    #[test]
    fn the_time_that_reads_take_does_not_count() {
        let mut post = Post::new();
        // Answered after five seconds: what it saw may have been written just before the answer.
        assert_eq!(post.slow(0, 5000, Some(1)), Verdict::Wait);
        // Asked at once, answered late again: it may have seen the lease as it was when it was asked.
        assert_eq!(post.slow(5001, 20_000, Some(1)), Verdict::Wait);
        assert_eq!(post.slow(7000, 7001, Some(1)), Verdict::Take);
    }

    #[test]
    fn a_reader_that_slept_takes_only_what_it_still_sees() {
        let mut post = Post::new();
        assert_eq!(post.look(0, Some(1)), Verdict::Wait);
        // It was stopped for an hour; the first look after that tells whether anybody wrote meanwhile.
        assert_eq!(post.look(3_600_000, Some(900)), Verdict::Wait);
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let mut post = Post::new();
        let now = post.at(0);
        let look = Look { asked: now, answered: now, version: Some(version(1)), is_released: true };
        assert_eq!(post.watch.look(look), Verdict::Take);
    }

    #[test]
    fn without_patience_the_first_look_decides() {
        let now = Instant::now();
        for version in [None, Some(version(1))] {
            let look = Look { asked: now, answered: now, version, is_released: false };
            assert_eq!(Watch::new(Duration::ZERO).look(look), Verdict::Take);
        }
    }

    #[test]
    fn the_next_look_is_due_when_patience_ends_or_sooner() {
        let pace = Duration::from_millis(500);
        let mut post = Post::new();
        assert_eq!(post.watch.wait(post.at(0), pace), pace);
        post.look(0, Some(1));
        assert_eq!(post.watch.wait(post.at(0), pace), pace);
        assert_eq!(post.watch.wait(post.at(1900), pace), Duration::from_millis(100));
        assert_eq!(post.watch.wait(post.at(2000), pace), pace);
    }
}
