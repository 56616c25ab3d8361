//! Sweeping a store of files: what goes, what stays, and what stops it. Every manifest that stays is restored, and the log replayed.

mod meanwhile;
mod remote;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroU64;

use synddb_protocol::hash::ChunkHash;
use synddb_protocol::id::Sequence;
use synddb_storage::Key;
use synddb_validator::gc::{Fate, Judged, Left, LogFault, Problem, Retention};

use self::store::{ONE, OTHER, Stored, files, id, keep, named, restores, sequence_of};
use crate::log::STREAM;

fn key_of(judged: &Judged) -> Key {
    Key::Snapshot { stream: STREAM, sequence: judged.sequence, signer: judged.signer }
}

fn stray(byte: u8) -> Key {
    Key::Chunk { stream: STREAM, hash: ChunkHash::from_bytes([byte; 32]) }
}

#[tokio::test]
async fn old_snapshots_go_with_their_chunks_and_what_stays_restores() {
    let mut stored = Stored::begin().await;
    let mut all = Vec::new();
    for days in [60, 50, 40, 30, 20, 10, 1] {
        stored.commit().await;
        all.push(stored.snapshot(ONE, days).await);
    }
    let lonely = stored.snapshot(OTHER, 90).await;
    let (old, young) = (stray(1), stray(2));
    for chunk in [old, young] {
        stored.log.put(&chunk, b"nobody names it".to_vec()).await;
    }
    stored.make_older(&old, 8);
    stored.make_older(&young, 6);
    let before = files(&stored.root());

    let would = stored.sweep(keep(2), true).await.unwrap();
    assert_eq!(files(&stored.root()), before, "it was only asked what would be");
    let report = stored.sweep(keep(2), false).await.unwrap();
    assert!(would.dry_run && !report.dry_run);
    assert_eq!((would.manifests, would.chunks, would.young), (report.manifests, report.chunks, report.young));
    assert_eq!((report.manifests.kept.count, report.manifests.removed.count), (4, 4));
    // What it says of each manifest is what became of it, and by that it is known beforehand.
    let went: BTreeSet<Key> = would.judged.iter().filter(|one| !one.fate.stays()).map(key_of).collect();
    let left = named(&stored.root(), "snapshots");
    assert_eq!((would.judged.len(), would.untold), (8, 0));
    assert_eq!(went, all.iter().copied().take(4).collect());
    assert!(went.is_disjoint(&left));
    let fates: BTreeMap<Key, Fate> = would.judged.iter().map(|one| (key_of(one), one.fate)).collect();
    let at = |index: usize| fates[&all[index]];
    assert_eq!(
        [at(0), at(3), at(4), at(5), at(6)],
        [Fate::Superseded, Fate::Superseded, Fate::Newest, Fate::Newest, Fate::Young]
    );
    assert_eq!(fates[&lonely], Fate::Newest);
    assert_eq!((would.young_manifests.count, report.young_manifests), (1, would.young_manifests));
    assert!(report.judged.is_empty(), "what was done is counted");
    assert_eq!((report.size, report.left.clone()), (stored.log.last(), None));

    let after = files(&stored.root());
    let stays: BTreeSet<Key> = all[4..].iter().copied().chain([lonely]).collect();
    assert_eq!(named(&stored.root(), "snapshots"), stays);
    assert!(!after.contains_key(&old.to_string()) && after.contains_key(&young.to_string()));
    let gone: Vec<u64> =
        before.iter().filter(|(name, _)| !after.contains_key(*name)).map(|(_, size)| *size).collect();
    assert_eq!(gone.iter().sum::<u64>(), report.manifests.removed.bytes + report.chunks.removed.bytes);
    assert_eq!(gone.len() as u64, 4 + report.chunks.removed.count);
    // The chunk that each of the four had for itself, and the stray; what they share with others stays.
    assert!(report.chunks.removed.count >= 5, "{report:?}");
    assert_eq!(report.young.count, 1);
    assert!(stays.iter().all(|name| restores(&stored.root(), name)));
    stored.assert_whole(&stays).await;

    let again = stored.sweep(keep(2), false).await.unwrap();
    assert_eq!((again.manifests.removed.count, again.chunks.removed.count), (0, 0));
    assert_eq!(files(&stored.root()), after);
}

#[tokio::test]
async fn chunks_of_the_log_stay_for_ever_and_those_of_nobody_go() {
    let mut stored = Stored::begin().await;
    // What the log's first snapshot names is in no manifest any more.
    stored.commit().await;
    let name = stored.snapshot(ONE, 1).await;
    stored.log.begin_anew("other.db", "CREATE TABLE other (a); INSERT INTO other VALUES (1)").await;
    stored.log.publish().await;
    fs::remove_file(stored.log.object(&name)).unwrap();
    stored.make_all_older(400);
    let report = stored.sweep(keep(1), false).await.unwrap();
    assert!(report.chunks.removed.count > 0, "{report:?}");
    assert_eq!((report.manifests.kept.count, report.manifests.removed.count), (0, 0));
    stored.assert_whole(&BTreeSet::new()).await;
}

#[tokio::test]
async fn places_far_apart_stay_where_that_is_wished() {
    let mut stored = Stored::begin().await;
    let mut all = Vec::new();
    for _ in 0..8 {
        stored.commit().await;
        all.push(stored.snapshot(ONE, 50).await);
    }
    let sparse = Retention { keep_every: NonZeroU64::new(5), ..keep(1) };
    stored.sweep(sparse, false).await.unwrap();
    let left = named(&stored.root(), "snapshots");
    let places: Vec<u64> = left.iter().filter_map(sequence_of).map(Sequence::get).collect();
    // The log begins with an epoch and a snapshot, so the first commit is message 3.
    assert_eq!(places, [3, 6, 10]);
    assert!(left.iter().all(|name| restores(&stored.root(), name)));
}

#[tokio::test]
async fn nobody_speaks_for_another_signer() {
    let mut stored = Stored::begin().await;
    stored.commit().await;
    let good = stored.snapshot(ONE, 40).await;
    let mut forged = Vec::new();
    for _ in 0..3 {
        stored.commit().await;
        // Signed by the other, under the name of the first.
        forged.push(stored.snapshot_as(OTHER, ONE, 30).await);
    }
    // One says also inside that it is the first's, and only the signature tells.
    let file = stored.log.object(&forged[2]);
    let mut bytes = fs::read(&file).unwrap();
    let (says, other) = (*id(ONE).as_bytes(), *id(OTHER).as_bytes());
    let at = bytes.windows(20).position(|part| part == other).unwrap();
    bytes[at..at + 20].copy_from_slice(&says);
    fs::write(&file, bytes).unwrap();
    stored.make_older(&forged[2], 30);
    let report = stored.sweep(keep(1), true).await.unwrap();
    assert_eq!((report.manifests.removed.count, report.left), (3, None), "it can be read, and is nobody's");
    let report = stored.sweep(keep(1), false).await.unwrap();
    assert_eq!(named(&stored.root(), "snapshots"), [good].into());
    assert_eq!(report.manifests.removed.count, 3);
    assert!(restores(&stored.root(), &good));
}

#[tokio::test]
async fn a_snapshot_that_lacks_a_chunk_pushes_out_none_that_is_whole() {
    let mut stored = Stored::begin().await;
    stored.commit().await;
    let good = stored.snapshot(ONE, 40).await;
    let known = named(&stored.root(), "chunks");
    stored.commit().await;
    stored.snapshot(ONE, 30).await;
    let own = named(&stored.root(), "chunks").difference(&known).next().copied().unwrap();
    fs::remove_file(stored.log.object(&own)).unwrap();
    stored.sweep(keep(1), false).await.unwrap();
    assert_eq!(named(&stored.root(), "snapshots"), [good].into());
    assert!(restores(&stored.root(), &good));
}

#[tokio::test]
async fn with_signers_named_those_of_others_go_and_a_wrong_name_removes_nothing() {
    let mut stored = Stored::begin().await;
    stored.commit().await;
    let wanted = stored.snapshot(ONE, 40).await;
    stored.snapshot(OTHER, 40).await;
    let before = files(&stored.root());
    let nobody = Retention { signers: vec![id(13)], ..keep(1) };
    let refused = stored.sweep(nobody, false).await.unwrap_err();
    assert!(matches!(refused, Problem::NoSigner) && refused.is_refusal(), "{refused}");
    assert_eq!(files(&stored.root()), before);
    stored.sweep(Retention { signers: vec![id(ONE)], ..keep(1) }, false).await.unwrap();
    assert_eq!(named(&stored.root(), "snapshots"), [wanted].into());
}

#[tokio::test]
async fn while_a_manifest_that_stays_cannot_be_read_every_chunk_stays() {
    let mut stored = Stored::begin().await;
    stored.commit().await;
    stored.snapshot(ONE, 60).await;
    stored.commit().await;
    stored.snapshot(ONE, 50).await;
    let strange = Key::Snapshot { stream: STREAM, sequence: Sequence::new(900).unwrap(), signer: id(OTHER) };
    stored.log.put(&strange, b"what a later release writes".to_vec()).await;
    stored.make_older(&strange, 6);
    let chunks = named(&stored.root(), "chunks");
    let report = stored.sweep(keep(1), false).await.unwrap();
    assert_eq!(report.left, Some(Left::Unreadable { manifest: strange.to_string() }));
    assert_eq!(report.manifests.removed.count, 1);
    assert_eq!(named(&stored.root(), "chunks"), chunks);
    // It goes when it is old, and the chunks with it.
    stored.make_older(&strange, 8);
    let report = stored.sweep(keep(1), false).await.unwrap();
    assert_eq!((report.left, report.manifests.removed.count), (None, 1));
    assert!(report.chunks.removed.count > 0);
    stored.assert_whole(&named(&stored.root(), "snapshots")).await;
}

/// Sweeps a store of three batches and an old snapshot too many in which `damage` was done, and says why it did not. Nothing is removed.
async fn refused(damage: impl FnOnce(&mut Stored)) -> Problem {
    let mut stored = Stored::begin().await;
    for days in [60, 50, 40] {
        stored.commit().await;
        stored.snapshot(ONE, days).await;
    }
    damage(&mut stored);
    let before = files(&stored.root());
    let problem = stored.sweep(keep(1), false).await.unwrap_err();
    assert_eq!(files(&stored.root()), before, "{problem}");
    problem
}

fn fault(problem: &Problem) -> (u64, &LogFault) {
    assert!(problem.is_of_log(), "{problem}");
    let Problem::Log { sequence, source } = problem else { panic!("{problem:?}") };
    (sequence.get(), source)
}

#[tokio::test]
async fn what_cannot_be_read_may_name_anything_so_nothing_goes() {
    let damaged = refused(|stored| {
        let file = stored.log.object(&crate::log::batch_key(4));
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).unwrap();
    })
    .await;
    assert!(matches!(fault(&damaged), (4, LogFault::Damaged(_))), "{damaged:?}");

    let hole = refused(|stored| fs::remove_file(stored.log.object(&crate::log::batch_key(4))).unwrap()).await;
    assert!(matches!(fault(&hole), (4, LogFault::Hole { found }) if found.get() == 5), "{hole:?}");

    let large = refused(|stored| {
        fs::File::options()
            .write(true)
            .open(stored.log.object(&crate::log::batch_key(5)))
            .unwrap()
            .set_len(40 << 20)
            .unwrap();
    })
    .await;
    assert!(matches!(fault(&large), (5, LogFault::TooLarge(_))), "{large:?}");

    let misplaced = refused(|stored| {
        let of = |first| stored.log.object(&crate::log::batch_key(first));
        fs::copy(of(5), of(4)).unwrap();
    })
    .await;
    assert!(matches!(fault(&misplaced), (4, LogFault::Misplaced { .. })), "{misplaced:?}");

    let foreign = refused(|stored| {
        let folder = stored.log.object(&crate::log::batch_key(1)).parent().unwrap().to_owned();
        fs::write(folder.join("notes.txt"), b"?").unwrap();
    })
    .await;
    assert!(matches!(foreign, Problem::List(_)), "{foreign:?}");

    let foreign = refused(|stored| {
        let folder = stored.root().join(STREAM.to_key()).join("snapshots");
        fs::write(folder.join("000000000007.cbor"), b"?").unwrap();
    })
    .await;
    assert!(
        matches!(&foreign, Problem::Foreign { object } if object.ends_with("000000000007.cbor")),
        "{foreign:?}"
    );

    let empty = refused(|stored| {
        fs::remove_dir_all(stored.root().join(STREAM.to_key()).join("batches")).unwrap();
    })
    .await;
    assert!(
        matches!(&empty, Problem::Nothing { found, .. } if found.to_string() == STREAM.to_string()),
        "{empty:?}"
    );
}
