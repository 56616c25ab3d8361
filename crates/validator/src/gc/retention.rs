//! Which manifests are kept. A pure decision: what lies in the store, the wishes and the time are given.
//!
//! ```text
//! one signer, newest first     9   8 │ 7   6   5   4   3   2   1        │ younger than the age: kept
//!   keep 3, every 4                    k   k   k       k*              k*: the first of each 4 messages
//! ```
//!
//! - **What is young is kept**, whole or not: somebody may still be at it, and whoever takes the next snapshot names the chunks of one
//!   that it found.
//! - **Of the older ones, the newest of each signer are kept.** Each signer has its own: whoever may write to a store signs as many manifests
//!   as he likes, with any sequence, and must not push out those of others.
//! - Only a **whole** manifest counts for that: signed by the key in its name, at the place in its name, with all its chunks there. One that is
//!   not restores nothing, so it saves nothing from removal, and goes when it is old.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use synddb_protocol::id::{KeyId, Sequence};

/// What is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// So many of the snapshots of each signer, the newest of those that are older than [`older_than`](Self::older_than).
    pub keep: NonZeroU32,
    /// Of each run of so many messages also the first snapshot of each signer, whatever its age: where somebody restores an old place.
    pub keep_every: Option<NonZeroU64>,
    /// What is younger is never removed.
    pub older_than: Duration,
    /// Whose snapshots are wanted; everybody's when empty. Those of others go when they are old.
    pub signers: Vec<KeyId>,
}

/// A manifest that lies in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The sequence in its name.
    pub(super) sequence: Sequence,
    /// The signer in its name.
    pub(super) signer: KeyId,
    /// When it was written.
    pub(super) written: SystemTime,
    /// Its size.
    pub(super) bytes: u64,
    /// Whether a database can be restored from it.
    pub(super) standing: Standing,
}

/// What a manifest is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is signed, at its place, and all its chunks are there.
    Whole,
    /// It is signed by another key or for another place than its name says, or a chunk is absent.
    Broken,
    /// It cannot be read, so nobody knows which chunks it names.
    Unreadable,
}

/// Whether a manifest stays or goes, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It stays, because it is younger than [`Retention::older_than`], whatever it is.
    Young,
    /// It stays: it is one of the newest of its signer that are old.
    Newest,
    /// It stays: it is the first of its signer in a run of [`Retention::keep_every`] messages.
    FirstOfRun,
    /// It goes: so many newer ones of its signer stay.
    Superseded,
    /// It goes: no database can be restored from it.
    NotWhole,
    /// It goes: others were named as those whose snapshots are wanted.
    Unwanted,
}

impl Fate {
    /// Whether it stays.
    pub const fn stays(self) -> bool {
        match self {
            Self::Young | Self::Newest | Self::FirstOfRun => true,
            Self::Superseded | Self::NotWhole | Self::Unwanted => false,
        }
    }
}

/// Whether something of this time is older than `age`.
pub(super) fn is_old(written: SystemTime, now: SystemTime, age: Duration) -> bool {
    // What is of a later time than now has no age.
    now.duration_since(written).is_ok_and(|passed| passed >= age)
}

impl Retention {
    /// What becomes of each, in the order in which they are given.
    pub(super) fn decide(&self, found: &[Found], now: SystemTime) -> Vec<Fate> {
        let is_old = |manifest: &Found| is_old(manifest.written, now, self.older_than);
        let mut fates: Vec<Fate> = found
            .iter()
            .map(|manifest| match manifest.standing {
                _ if !is_old(manifest) => Fate::Young,
                Standing::Broken | Standing::Unreadable => Fate::NotWhole,
                Standing::Whole if !self.wants(manifest.signer) => Fate::Unwanted,
                Standing::Whole => Fate::Superseded,
            })
            .collect();
        let mut signed: BTreeMap<KeyId, BTreeMap<Sequence, usize>> = BTreeMap::new();
        for (index, manifest) in found.iter().enumerate().filter(|(_, manifest)| self.counts(manifest)) {
            signed.entry(manifest.signer).or_default().insert(manifest.sequence, index);
        }
        for of_signer in signed.values() {
            let old = of_signer.values().rev().filter(|index| is_old(&found[**index]));
            for index in old.take(usize::try_from(self.keep.get()).unwrap_or(usize::MAX)) {
                fates[*index] = Fate::Newest;
            }
            let Some(every) = self.keep_every else { continue };
            let mut last = None;
            for (sequence, index) in of_signer {
                // The first of a run stays the first, whatever comes later; the last would not stay the last.
                let run = Some((sequence.get() - 1) / every);
                if run != last && !fates[*index].stays() {
                    fates[*index] = Fate::FirstOfRun;
                }
                last = run;
            }
        }
        fates
    }

    fn wants(&self, signer: KeyId) -> bool {
        self.signers.is_empty() || self.signers.contains(&signer)
    }

    /// Whether a manifest is one of those among which the newest are kept.
    fn counts(&self, manifest: &Found) -> bool {
        self.wants(manifest.signer) && manifest.standing == Standing::Whole
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use synddb_protocol::id::Address;

    use super::*;

    const AGE: Duration = Duration::from_secs(7 * 86_400);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + AGE * 100
    }

    fn found(sequence: u64, signer: u8, days: u64, standing: Standing) -> Found {
        Found {
            sequence: Sequence::new(sequence).unwrap(),
            signer: Address::from_bytes([signer; 20]),
            written: now() - Duration::from_secs(days * 86_400),
            bytes: 1,
            standing,
        }
    }

    fn whole(sequence: u64, signer: u8, days: u64) -> Found {
        found(sequence, signer, days, Standing::Whole)
    }

    fn keep(keep: u32) -> Retention {
        let keep = NonZeroU32::new(keep).unwrap();
        Retention { keep, keep_every: None, older_than: AGE, signers: Vec::new() }
    }

    /// The sequences that are kept.
    fn kept(retention: &Retention, all: &[Found]) -> Vec<u64> {
        let fates = retention.decide(all, now());
        all.iter()
            .zip(fates)
            .filter(|(_, fate)| fate.stays())
            .map(|(found, _)| found.sequence.get())
            .collect()
    }

    #[test]
    fn the_newest_of_each_signer_that_are_old_and_all_that_are_young_are_kept() {
        let all = [
            whole(1, 1, 50),
            whole(2, 1, 40),
            whole(3, 2, 40),
            whole(4, 1, 30),
            whole(5, 1, 6),
            whole(6, 1, 0),
        ];
        assert_eq!(kept(&keep(1), &all), [3, 4, 5, 6]);
        assert_eq!(kept(&keep(2), &all), [2, 3, 4, 5, 6]);
        assert_eq!(kept(&keep(9), &all), [1, 2, 3, 4, 5, 6]);
        // The order in which they come decides nothing.
        let mut turned = all.to_vec();
        turned.reverse();
        assert_eq!(kept(&keep(1), &turned), [6, 5, 4, 3]);
    }

    #[test]
    fn a_stranger_pushes_out_nobody_and_nothing_counts_that_restores_nothing() {
        let mut all = vec![whole(10, 1, 50), whole(20, 1, 40)];
        all.extend((100..200).map(|sequence| whole(sequence, 2, 30)));
        all.extend((300..310).map(|sequence| found(sequence, 1, 30, Standing::Broken)));
        all.extend((400..410).map(|sequence| found(sequence, 1, 30, Standing::Unreadable)));
        assert_eq!(kept(&keep(1), &all), [20, 199]);
        assert_eq!(kept(&keep(2), &all), [10, 20, 198, 199]);
        // Young ones stay whatever they are.
        assert_eq!(
            kept(&keep(1), &[found(1, 1, 6, Standing::Unreadable), found(2, 1, 7, Standing::Broken)]),
            [1]
        );
    }

    #[test]
    fn with_signers_named_those_of_others_go_when_they_are_old() {
        let all = [whole(1, 1, 50), whole(2, 2, 50), whole(3, 2, 1)];
        let wanted = Retention { signers: vec![Address::from_bytes([1; 20])], ..keep(1) };
        assert_eq!(kept(&wanted, &all), [1, 3]);
    }

    #[test]
    fn the_first_of_each_run_stays_however_old_it_is() {
        let every = NonZeroU64::new(100);
        let all: Vec<Found> = [1, 60, 100, 101, 150, 320, 330, 400].map(|at| whole(at, 1, 50)).into();
        let sparse = Retention { keep_every: every, ..keep(1) };
        assert_eq!(kept(&sparse, &all), [1, 101, 320, 400]);
        // What was kept once is kept again, also when the others are gone.
        let left: Vec<Found> = [1, 101, 320, 400, 500].map(|at| whole(at, 1, 50)).into();
        assert_eq!(
            kept(&sparse, &left),
            [1, 101, 320, 500],
            "400 was kept as the newest, and is none any more"
        );
    }

    #[test]
    fn each_has_the_reason_for_which_it_stays_or_goes() {
        let all = [
            (whole(1, 1, 50), Fate::FirstOfRun),
            (whole(2, 1, 40), Fate::Superseded),
            (whole(101, 1, 30), Fate::Newest),
            (found(150, 1, 20, Standing::Broken), Fate::NotWhole),
            (found(160, 1, 20, Standing::Unreadable), Fate::NotWhole),
            (whole(170, 2, 20), Fate::Unwanted),
            (found(180, 2, 20, Standing::Broken), Fate::NotWhole),
            (whole(201, 1, 6), Fate::Young),
            (found(202, 1, 6, Standing::Broken), Fate::Young),
            (whole(203, 2, 6), Fate::Young),
        ];
        let (found, fates): (Vec<Found>, Vec<Fate>) = all.into_iter().unzip();
        let signers = vec![Address::from_bytes([1; 20])];
        let retention = Retention { keep_every: NonZeroU64::new(100), signers, ..keep(1) };
        assert_eq!(retention.decide(&found, now()), fates);
    }

    #[test]
    fn what_is_of_tomorrow_is_young() {
        let mut tomorrow = whole(1, 1, 0);
        tomorrow.written = now() + AGE;
        assert_eq!(kept(&keep(1), &[found(2, 1, 7, Standing::Broken), tomorrow]), [1]);
        assert!(is_old(now(), now(), Duration::ZERO));
    }
}
