//! The whole decision against a model that knows what can be reached: what is reachable is never removed, and what is not and is old always is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroU64};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::id::{Address, Sequence};

use super::chunks::Chunks;
use super::retention::{Found, Retention, Standing};

const DAY: Duration = Duration::from_secs(86_400);
const AGE_DAYS: u64 = 7;
const CHUNKS: u8 = 16;

#[derive(Debug, Clone)]
struct Manifest {
    days: u64,
    standing: Standing,
    names: BTreeSet<u8>,
}

/// A store: manifests by signer and sequence, the age of each chunk that is there, and what the log names.
#[derive(Debug, Clone)]
struct Case {
    manifests: BTreeMap<(u8, u64), Manifest>,
    chunks: BTreeMap<u8, u64>,
    log: BTreeSet<u8>,
    retention: Retention,
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + DAY * 1000
}

fn address(byte: u8) -> Address {
    Address::from_bytes([byte; 20])
}

fn hash(byte: u8) -> ChunkHash {
    ChunkHash::from_bytes([byte; 32])
}

fn manifest() -> impl Strategy<Value = Manifest> {
    let standing = prop_oneof![12 => Just(Standing::Whole), 2 => Just(Standing::Broken), 1 => Just(Standing::Unreadable)];
    (0..20u64, standing, prop::collection::btree_set(0..CHUNKS, 0..5))
        .prop_map(|(days, standing, names)| Manifest { days, standing, names })
}

fn case() -> impl Strategy<Value = Case> {
    let manifests = prop::collection::btree_map((0..3u8, 1..40u64), manifest(), 0..20);
    let chunks = prop::collection::btree_map(0..CHUNKS, 0..20u64, 0..usize::from(CHUNKS));
    let log = prop::collection::btree_set(0..CHUNKS, 0..4);
    let retention = (1..4u32, prop::option::of(1..20u64), prop::collection::vec(0..3u8, 0..2));
    (manifests, chunks, log, retention).prop_map(|(mut manifests, chunks, log, (keep, every, signers))| {
        for manifest in manifests.values_mut() {
            if manifest.standing == Standing::Whole
                && !manifest.names.iter().all(|name| chunks.contains_key(name))
            {
                manifest.standing = Standing::Broken;
            }
        }
        let retention = Retention {
            keep: NonZeroU32::new(keep).unwrap(),
            keep_every: every.and_then(NonZeroU64::new),
            older_than: DAY * u32::try_from(AGE_DAYS).unwrap(),
            signers: signers.into_iter().map(address).collect(),
        };
        Case { manifests, chunks, log, retention }
    })
}

/// What the code under test removes.
struct Removed {
    manifests: BTreeSet<(u8, u64)>,
    chunks: BTreeSet<u8>,
}

/// The steps of a run, without the store.
fn decide(case: &Case) -> Removed {
    let names: Vec<(u8, u64)> = case.manifests.keys().copied().collect();
    let found: Vec<Found> = case
        .manifests
        .iter()
        .map(|((signer, sequence), manifest)| Found {
            sequence: Sequence::new(*sequence).unwrap(),
            signer: address(*signer),
            written: now() - DAY * u32::try_from(manifest.days).unwrap(),
            bytes: 1,
            standing: manifest.standing,
        })
        .collect();
    let mut chunks = Chunks::default();
    for (chunk, days) in &case.chunks {
        chunks.add(hash(*chunk), 1, *days >= AGE_DAYS).unwrap();
    }
    case.log.iter().for_each(|chunk| chunks.name(&hash(*chunk)).unwrap());
    let fates = case.retention.decide(&found, now());
    let (mut manifests, mut knows_all) = (BTreeSet::new(), true);
    for (name, fate) in names.into_iter().zip(fates) {
        let manifest = &case.manifests[&name];
        if !fate.stays() {
            manifests.insert(name);
        } else if manifest.standing == Standing::Unreadable {
            knows_all = false;
        } else {
            manifest.names.iter().for_each(|chunk| chunks.name(&hash(*chunk)).unwrap());
        }
    }
    let unneeded = if knows_all { chunks.unneeded() } else { Vec::new() };
    let chunks = (0..CHUNKS).filter(|chunk| unneeded.contains(&hash(*chunk))).collect();
    Removed { manifests, chunks }
}

impl Case {
    fn counts(&self, name: (u8, u64)) -> bool {
        let signers = &self.retention.signers;
        self.manifests[&name].standing == Standing::Whole
            && (signers.is_empty() || signers.contains(&address(name.0)))
    }

    /// The rule, said once more and otherwise: for one manifest, by counting.
    fn must_stay(&self, name: (u8, u64)) -> bool {
        if self.manifests[&name].days < AGE_DAYS {
            return true;
        }
        if !self.counts(name) {
            return false;
        }
        let siblings = || self.manifests.keys().filter(|other| other.0 == name.0 && self.counts(**other));
        let newer =
            siblings().filter(|other| other.1 > name.1 && self.manifests[other].days >= AGE_DAYS).count();
        let is_first_of_run = self.retention.keep_every.is_some_and(|every| {
            let run = |sequence: u64| (sequence - 1) / every;
            !siblings().any(|other| other.1 < name.1 && run(other.1) == run(name.1))
        });
        newer < usize::try_from(self.retention.keep.get()).unwrap() || is_first_of_run
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_can_be_reached_is_removed_and_everything_else_is(case in case()) {
        let removed = decide(&case);
        for name in case.manifests.keys() {
            prop_assert_eq!(!removed.manifests.contains(name), case.must_stay(*name), "{:?}", name);
        }
        let stay = || case.manifests.iter().filter(|(name, _)| !removed.manifests.contains(*name));
        // Also what an unreadable manifest names, although nobody can tell.
        let reachable: BTreeSet<u8> =
            stay().flat_map(|(_, manifest)| manifest.names.iter()).chain(&case.log).copied().collect();
        let is_readable = stay().all(|(_, manifest)| manifest.standing != Standing::Unreadable);
        for (chunk, days) in &case.chunks {
            let goes = is_readable && *days >= AGE_DAYS && !reachable.contains(chunk);
            prop_assert_eq!(removed.chunks.contains(chunk), goes, "chunk {}", chunk);
        }
        // Whatever was whole is whole or gone.
        for (name, manifest) in &case.manifests {
            if manifest.standing == Standing::Whole && !removed.manifests.contains(name) {
                prop_assert!(manifest.names.is_disjoint(&removed.chunks));
            }
        }
    }

    #[test]
    fn what_a_stranger_adds_removes_nothing_of_others(case in case(), more in prop::collection::btree_map(1..40u64, manifest(), 0..20)) {
        let before = decide(&case);
        let mut after = case.clone();
        after.retention.signers.retain(|signer| *signer != address(9));
        after.manifests.extend(more.into_iter().map(|(sequence, manifest)| ((9, sequence), manifest)));
        let removed = decide(&after);
        let of_others = |removed: &Removed| -> BTreeSet<(u8, u64)> {
            removed.manifests.iter().filter(|name| name.0 != 9).copied().collect()
        };
        prop_assert_eq!(of_others(&removed), of_others(&before));
        prop_assert!(removed.chunks.is_subset(&before.chunks));
    }

    #[test]
    fn a_second_run_removes_nothing(case in case()) {
        let removed = decide(&case);
        let mut after = case;
        after.manifests.retain(|name, _| !removed.manifests.contains(name));
        after.chunks.retain(|chunk, _| !removed.chunks.contains(chunk));
        let again = decide(&after);
        prop_assert!(again.manifests.is_empty() && again.chunks.is_empty());
    }
}
