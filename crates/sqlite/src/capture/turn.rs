//! The application's turns, between the times that it is made to wait for the follower.
//!
//! Who waits for the write lock in SQLite's own way (`sqlite3_busy_timeout`) sleeps between two attempts, in the end for a tenth of a second at
//! a time. A lock that is let go for a few milliseconds is missed again and again by such a writer, until its patience ends with "database is
//! locked". So a turn lasts until somebody has written and for some milliseconds more, or for so long that everybody who waited has asked again.
//!
//! Where several writers wait, the one that asks first ends a turn for the others. So from time to time one lasts as long as everybody needs,
//! whoever writes meanwhile.
//!
//! It costs nothing where nobody writes: the follower goes on with capturing meanwhile.

use std::time::{Duration, Instant};

use crate::file::wal_index::WalIndex;

/// How long a turn lasts at most: longer than SQLite's busy handler sleeps, also on a machine that wakes it up late.
pub(super) const TURN_MAX: Duration = Duration::from_millis(140);
/// How long it lasts after somebody wrote.
pub(super) const WRITES: Duration = Duration::from_millis(5);

/// How long turns are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    /// How long one lasts after somebody wrote.
    pub(super) writes: Duration,
    /// One that lasts on when none was as long as everybody needs for so long is. `None` where none has to be.
    pub(super) everybody_every: Option<Duration>,
}

/// The one that runs, and what came before.
#[derive(Debug, Default)]
pub(super) struct Turns {
    running: Option<Turn>,
    /// When the write lock was last given back.
    unlocked: Option<Instant>,
    /// What was committed then.
    committed: Option<WalIndex>,
    /// When a time ended that was long enough for everybody who waited.
    everybody: Option<Instant>,
}

#[derive(Debug)]
struct Turn {
    began: Instant,
    /// What was committed then.
    committed: WalIndex,
    wrote: Option<Instant>,
    /// How long it lasts after somebody wrote.
    writes: Duration,
    /// From when on that does not end it any more.
    everybody_from: Option<Instant>,
}

impl Turns {
    /// The follower has taken the write lock.
    pub(super) fn locked(&mut self, now: Instant) {
        self.running = None;
        if self.unlocked.is_none_or(|at| now.duration_since(at) >= TURN_MAX) {
            self.everybody = Some(now);
        }
    }

    /// It has given it back, to an application that has to wait again if a manner is given.
    pub(super) fn unlocked(&mut self, committed: WalIndex, manner: Option<Manner>, now: Instant) {
        self.unlocked = Some(now);
        self.committed = Some(committed);
        self.running = manner.map(|Manner { writes, everybody_every }| {
            let everybody_from = everybody_every.map(|every| self.everybody.unwrap_or(now) + every);
            Turn { began: now, committed, wrote: None, writes, everybody_from }
        });
    }

    /// How many frames were written since it was last given back; 0 where the WAL began anew since.
    pub(super) fn written(&self, committed: &WalIndex) -> u32 {
        let before = self.committed.filter(|before| before.salts == committed.salts);
        before.map_or(0, |before| committed.last_frame.saturating_sub(before.last_frame))
    }

    /// Whether one may last on.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether a turn lasts on, as seen by what is committed now.
    pub(super) fn lasts(&mut self, committed: &WalIndex, now: Instant) -> bool {
        self.running.take_if(|turn| turn.is_over(committed, now));
        self.running.is_some()
    }
}

impl Turn {
    fn is_over(&mut self, committed: &WalIndex, now: Instant) -> bool {
        if self.wrote.is_none() && *committed != self.committed {
            self.wrote = Some(now);
        }
        let wrote = self.wrote.is_some_and(|at| now.duration_since(at) >= self.writes);
        let is_for_everybody = self.everybody_from.is_some_and(|from| now >= from);
        wrote && !is_for_everybody || now.duration_since(self.began) >= TURN_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(400);
    const MANNER: Option<Manner> = Some(Manner { writes: WRITES, everybody_every: Some(EVERY) });

    fn committed(last_frame: u32) -> WalIndex {
        WalIndex { last_frame, pages: 1, checksum: [0, 0], salts: [1, 2], changes: last_frame }
    }

    /// What the follower does at so many milliseconds.
    struct Clock(Instant);

    impl Clock {
        fn at(&self, ms: u64) -> Instant {
            self.0 + Duration::from_millis(ms)
        }
    }

    #[test]
    fn a_turn_ends_after_somebody_wrote_or_had_to_have_asked_again() {
        let clock = Clock(Instant::now());
        let begin = || {
            let mut turns = Turns::default();
            turns.locked(clock.at(0));
            turns.unlocked(committed(7), MANNER, clock.at(60));
            turns
        };
        let mut nobody = begin();
        assert!(nobody.lasts(&committed(7), clock.at(160)), "who sleeps for 100 ms has not asked again");
        assert!(!nobody.lasts(&committed(7), clock.at(200)));
        let mut somebody = begin();
        assert!(somebody.lasts(&committed(7), clock.at(120)));
        assert!(somebody.lasts(&committed(8), clock.at(121)));
        assert!(somebody.lasts(&committed(9), clock.at(125)));
        assert!(!somebody.lasts(&committed(9), clock.at(126)), "5 ms after it was first seen to write");
        // A generation that begins anew is something written, too.
        let anew = WalIndex { salts: [2, 9], ..committed(7) };
        let mut begun = begin();
        assert!(begun.lasts(&anew, clock.at(61)));
        assert!(!begun.lasts(&anew, clock.at(66)));
        let mut alone = Turns::default();
        alone.locked(clock.at(0));
        alone.unlocked(committed(7), None, clock.at(60));
        assert!(!alone.lasts(&committed(7), clock.at(60)), "nobody has to wait again");
    }

    /// A writer that asks first each time does not keep the others from theirs.
    #[test]
    fn from_time_to_time_a_turn_is_long_enough_for_everybody() {
        let clock = Clock(Instant::now());
        let (mut turns, mut now, mut written) = (Turns::default(), 0, 0);
        let mut ended_for_everybody = 0;
        for _ in 0..100 {
            turns.locked(clock.at(now));
            now += 60;
            turns.unlocked(committed(written), MANNER, clock.at(now));
            let began = now;
            written += 1;
            while turns.lasts(&committed(written), clock.at(now)) {
                now += 1;
            }
            if now - began >= 140 {
                ended_for_everybody = now;
            } else {
                assert_eq!(now - began, 5);
            }
            assert!(now - ended_for_everybody < 400 + 65, "at {now} ms");
        }
        let never = Some(Manner { writes: Duration::ZERO, everybody_every: None });
        turns.locked(clock.at(now));
        turns.unlocked(committed(written), never, clock.at(now + 10_000));
        assert!(turns.lasts(&committed(written), clock.at(now + 10_010)));
        assert!(!turns.lasts(&committed(written + 1), clock.at(now + 10_010)));
        assert_eq!(turns.written(&committed(written + 3)), 3);
        assert_eq!(
            turns.written(&WalIndex { salts: [2, 9], ..committed(2) }),
            0,
            "a WAL that began anew is small"
        );
    }
}
