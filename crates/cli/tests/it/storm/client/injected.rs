//! What retries, races and bad luck do. Each knows the answers that are right for it.

use std::sync::atomic::Ordering;

use synddb_protocol::http::Reason;
use synddb_protocol::log::Receipt;
use synddb_protocol::submission::{Changes, Commit, SnapshotPlace};

use super::super::wire::Answer;
use super::{Client, SENT_MAX, at};

/// How often each thing was done.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct Injected {
    /// The same again after its answer.
    pub(in super::super) resent: u64,
    /// The same twice at once.
    pub(in super::super) at_once: u64,
    /// A later submission before an earlier one.
    pub(in super::super) early: u64,
    /// Commits with places and commits without, in one submission.
    pub(in super::super) recut: u64,
    /// Sent, in part or whole, without waiting for the answer.
    pub(in super::super) left: u64,
    /// Commits of long ago, cut anyhow.
    pub(in super::super) old: u64,
    /// What an earlier incarnation never sent.
    pub(in super::super) superseded: u64,
    /// Other content for a place.
    pub(in super::super) forged: u64,
    /// Snapshots in the middle.
    pub(in super::super) snapshots: u64,
    /// Further incarnations.
    pub(in super::super) incarnations: u64,
}

impl Injected {
    pub(in super::super) fn add(&mut self, other: &Self) {
        self.resent += other.resent;
        self.at_once += other.at_once;
        self.early += other.early;
        self.recut += other.recut;
        self.left += other.left;
        self.old += other.old;
        self.superseded += other.superseded;
        self.forged += other.forged;
        self.snapshots += other.snapshots;
        self.incarnations += other.incarnations;
    }
}

impl Client {
    /// Does something that nobody should have to put up with, most of the time.
    pub(super) fn inject(&mut self) {
        let chances = if self.shared.wants_snapshots.load(Ordering::SeqCst) { 120 } else { 104 };
        match self.chance.below(chances) {
            0..=9 => self.resend(),
            10..=19 => self.send_twice_at_once(),
            20..=29 => self.send_early(),
            30..=39 => self.send_across(),
            40..=54 => self.send_and_leave(),
            55..=64 => self.send_old(),
            65..=69 => self.send_superseded(),
            70..=74 => self.send_forged(),
            75..=101 => {}
            102 => self.begin_anew(),
            _ => self.send_snapshot_now(),
        }
    }

    /// Commits with places, all of them or the end of them.
    fn resend(&mut self) {
        if self.acked == 0 {
            return;
        }
        let first = self.acked - self.chance.below(SENT_MAX.min(self.acked));
        self.sent.injected.resent += 1;
        self.send_known(self.sent.lives.len() - 1, first, self.acked);
    }

    /// Commits of any time, cut anyhow.
    fn send_old(&mut self) {
        let life = usize::try_from(self.chance.below(self.sent.lives.len() as u64)).unwrap();
        let is_running = life + 1 == self.sent.lives.len();
        let end = if is_running { self.acked } else { self.sent.lives[life].commits.len() as u64 };
        if end == 0 {
            return;
        }
        let first = 1 + self.chance.below(end);
        let last = (first + self.chance.below(SENT_MAX)).min(end);
        self.sent.injected.old += 1;
        self.send_known(life, first, last);
    }

    /// What has places gets the receipts of the first time.
    fn send_known(&mut self, life: usize, first: u64, last: u64) {
        let body = self.body_of(life, first, last);
        let path = self.path("submit");
        match self.connection.ask("POST", &path, &body) {
            Answer::Known(receipts) => {
                let known = &self.sent.lives[life].receipts[at(first)..=at(last)];
                if known.iter().all(Option::is_some) {
                    let mut expected: Vec<Receipt> = known.iter().flatten().cloned().collect();
                    expected.dedup();
                    assert_eq!(receipts, expected, "commits {first} to {last} have other receipts now");
                }
                self.promise(&receipts, None);
            }
            other => self.excuse(&other),
        }
    }

    /// One gets the place, the other hears of it.
    fn send_twice_at_once(&mut self) {
        if self.waiting() == 0 {
            return;
        }
        let first = self.acked + 1;
        let last = self.acked + 1 + self.chance.below(SENT_MAX.min(self.waiting() as u64));
        let body = self.body(first, last);
        let path = self.path("submit");
        let sent = [self.connection.send("POST", &path, &body), self.second.send("POST", &path, &body)];
        let one = if sent[0] { self.connection.answer() } else { Answer::NotSent };
        let other = if sent[1] { self.second.answer() } else { Answer::NotSent };
        self.sent.injected.at_once += u64::from(sent == [true, true]);
        let is_new = [&one, &other].map(|answer| matches!(answer, Answer::Taken(_)));
        assert_ne!(is_new, [true, true], "one submission was taken twice: {one:?} {other:?}");
        // Whichever was first, the other one knows of it.
        self.maybe = self.maybe.max(last);
        self.took(first, last, &body, one);
        self.took(first, last, &body, other);
    }

    /// Something is missing before it, so it gets no place.
    fn send_early(&mut self) {
        let (first, end) = (self.maybe + 2, self.life().commits.len() as u64);
        if first > end {
            return;
        }
        let last = (first + self.chance.below(SENT_MAX)).min(end);
        let body = self.body(first, last);
        let path = self.path("submit");
        match self.connection.ask("POST", &path, &body) {
            Answer::Refused(Reason::Gap { expected }) => {
                self.sent.injected.early += 1;
                self.check_expected(expected.commit, self.acked);
            }
            other => self.excuse(&other),
        }
    }

    /// Commits with places and commits without in one message: nothing of it is taken.
    fn send_across(&mut self) {
        let end = self.life().commits.len() as u64;
        if self.acked == 0 || self.maybe >= end {
            return;
        }
        let first = self.acked - self.chance.below(SENT_MAX.min(self.acked));
        let last = self.maybe + 1 + self.chance.below(SENT_MAX.min(end - self.maybe));
        let body = self.body(first, last);
        let path = self.path("submit");
        match self.connection.ask("POST", &path, &body) {
            Answer::Refused(Reason::Gap { expected }) => {
                self.sent.injected.recut += 1;
                self.check_expected(expected.commit, self.acked);
            }
            other => self.excuse(&other),
        }
    }

    /// Nobody hears whether it was taken.
    fn send_and_leave(&mut self) {
        if self.waiting() == 0 {
            return;
        }
        let last = self.acked + 1 + self.chance.below(SENT_MAX.min(self.waiting() as u64));
        let body = self.body(self.acked + 1, last);
        let length = body.len() as u64;
        let bytes = if self.chance.below(4) == 0 { self.chance.below(length) } else { length };
        let path = self.path("submit");
        // Half a body is no submission, and what was written of a whole one may have arrived in any case.
        if bytes == length {
            self.maybe = self.maybe.max(last);
        }
        let bytes = usize::try_from(bytes).unwrap();
        self.sent.injected.left += u64::from(self.connection.send_and_leave("POST", &path, &body, bytes));
    }

    /// What an earlier incarnation never sent gets no place any more.
    fn send_superseded(&mut self) {
        let [.., life, _] = &self.sent.lives[..] else { return };
        let Some(last) = life.commits.last() else { return };
        let next = Commit {
            number: last.number.next().unwrap(),
            prev: last.digest(),
            changes: Changes { rows: b"late".to_vec(), ..Changes::default() },
            ..last.clone()
        };
        let body = self.body_with(life.incarnation, vec![next]);
        let (path, running) = (self.path("submit"), self.life().incarnation);
        match self.connection.ask("POST", &path, &body) {
            Answer::Refused(Reason::IncarnationSuperseded { running: told }) => {
                assert_eq!(told, running);
                self.sent.injected.superseded += 1;
            }
            other => self.excuse(&other),
        }
    }

    /// A place that is given is given.
    fn send_forged(&mut self) {
        if self.acked == 0 {
            return;
        }
        let number = self.acked - self.chance.below(SENT_MAX.min(self.acked));
        let truth = &self.life().commits[at(number)];
        let changes = Changes { rows: b"forged".to_vec(), ..Changes::default() };
        let forged = Commit { changes, ..truth.clone() };
        let (expected, found) = (truth.digest(), forged.digest());
        let body = self.body_with(self.life().incarnation, vec![forged]);
        let path = self.path("submit");
        match self.connection.ask("POST", &path, &body) {
            Answer::Refused(reason @ Reason::ContentMismatch { .. }) => {
                assert_eq!(reason, Reason::ContentMismatch { expected, found });
                self.sent.injected.forged += 1;
            }
            other => self.excuse(&other),
        }
    }

    /// Everything that is missing gets its place first, and then a snapshot of it.
    fn send_snapshot_now(&mut self) {
        self.drain();
        if self.acked == 0 {
            return;
        }
        let last = self.life().commits.last().unwrap();
        let place = SnapshotPlace::After { commit: last.number, digest: last.digest() };
        let digest = self.send_snapshot(self.life().incarnation, place);
        // Chained to nothing, so it stands beside the one that began the incarnation.
        self.sent.shown.insert(digest);
        self.sent.injected.snapshots += 1;
    }

    /// The same, and a new incarnation begins with it.
    fn begin_anew(&mut self) {
        self.drain();
        self.begin();
        self.sent.injected.incarnations += 1;
    }

    fn drain(&mut self) {
        while self.waiting() > 0 {
            self.send_next();
        }
    }
}
