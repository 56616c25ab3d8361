//! The contract of leases on every implementation, leases that break one word of it, and what a lease is to everybody else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use synddb_protocol::id::StreamId;
use synddb_storage::conformance::leases::{LeaseCheck, SharedLease, run};
use synddb_storage::{
    BatchStore as _, Failure, Folder, Kind, LEASE_BYTES_MAX, Lease, LeaseError, LeaseName, LeaseVersion,
    Name, ObjectBatchStore, PageLimit, Start, last_batch, last_epoch, last_snapshot,
};

use super::{STREAM, batch, body, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_the_contract_of_leases() {
    let report = run(|| async { Arc::new(ObjectBatchStore::memory()) as SharedLease }).await;
    report.into_result().unwrap_or_else(|report| panic!("{report}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_keep_the_contract_of_leases() {
    let base = tempfile::tempdir().unwrap();
    let next = std::sync::atomic::AtomicU32::new(0);
    let report = run(|| async {
        let number = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Arc::new(open(&base.path().join(format!("store {number}"))).await) as SharedLease
    })
    .await;
    report.into_result().unwrap_or_else(|report| panic!("{report}"));
}

/// Whatever is done to a log beside its lease goes on as without one.
#[tokio::test]
async fn a_lease_is_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    for store in [open(folder.path()).await, ObjectBatchStore::memory()] {
        let version = store.write(STREAM, None, body("a heartbeat")).await.unwrap();
        for kind in Kind::ALL {
            let page = store.list(&Start::of(Folder { stream: STREAM, kind }), PageLimit::MAX).await.unwrap();
            assert!(page.keys.is_empty() && page.next.is_none());
        }
        store.put(&batch(1), body("one")).await.unwrap();
        store.write(STREAM, Some(&version), body("the next")).await.unwrap();
        assert_eq!(last_batch(&store, STREAM).await.unwrap().unwrap().get(), 1);
        assert_eq!(last_epoch(&store, STREAM).await.unwrap(), None);
        assert_eq!(last_snapshot(&store, STREAM).await.unwrap(), None);
        assert_eq!(ObjectBatchStore::streams(&store).await.unwrap(), [STREAM]);
        let mut names = Vec::new();
        store.names(STREAM, |name, bytes| names.push((name, bytes))).await.unwrap();
        names.sort_unstable();
        assert_eq!(names, [(Name::Key(batch(1)), 3), (Name::Lease(LeaseName(STREAM)), 8)]);
    }
}

#[tokio::test]
async fn an_object_that_is_too_large_for_a_lease_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let version = store.write(STREAM, None, body("a heartbeat")).await.unwrap();
    std::fs::write(folder.path().join(LeaseName(STREAM).to_string()), vec![0; LEASE_BYTES_MAX + 1]).unwrap();
    let read = store.read(STREAM).await.unwrap_err();
    assert!(matches!(read, LeaseError::TooLarge { size, .. } if size == LEASE_BYTES_MAX as u64 + 1));
    let write = store.write(STREAM, Some(&version), body("the next")).await.unwrap_err();
    assert!(matches!(write, LeaseError::Conflict { stream: STREAM }), "{write:?}");
}

#[test]
fn the_name_of_a_lease_is_no_key() {
    let name = LeaseName(STREAM).to_string();
    assert!(name.parse::<synddb_storage::Key>().is_err());
    for text in
        [format!("{name}s"), format!("{name}/"), format!("{name}#0"), name.to_uppercase(), "lease".into()]
    {
        assert!(text.parse::<LeaseName>().is_err(), "{text}");
    }
}

/// What leases do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    InventsLeases,
    ReadsOneWriteBehind,
    AlwaysConflicts,
    OneVersionForAll,
    OverwritesWhatIsThere,
    OverwritesAnyVersion,
    MakesWhatWasExpected,
    ChecksThenWrites,
    DropsTheEmpty,
    TakesOversized,
    MixesStreams,
    TellsNoStreams,
}

struct Flawed {
    flaw: Flaw,
    held: Mutex<BTreeMap<StreamId, Vec<Bytes>>>,
}

impl Flawed {
    fn place(&self, stream: StreamId) -> StreamId {
        if self.flaw == Flaw::MixesStreams { STREAM } else { stream }
    }

    fn version(&self, bytes: &Bytes) -> LeaseVersion {
        LeaseVersion::of_content(if self.flaw == Flaw::OneVersionForAll {
            Bytes::new()
        } else {
            bytes.clone()
        })
    }

    fn is_as_expected(&self, stream: StreamId, expected: Option<&LeaseVersion>) -> bool {
        let found = self.held.lock().unwrap().get(&stream).and_then(|all| all.last().cloned());
        let found = found.map(|bytes| self.version(&bytes));
        match (self.flaw, found.as_ref(), expected) {
            (Flaw::OverwritesWhatIsThere, Some(_), None)
            | (Flaw::OverwritesAnyVersion, Some(_), Some(_))
            | (Flaw::MakesWhatWasExpected, None, Some(_)) => true,
            (_, found, expected) => found == expected,
        }
    }
}

#[async_trait]
impl Lease for Flawed {
    async fn read(&self, stream: StreamId) -> Result<Option<(LeaseVersion, Bytes)>, LeaseError> {
        let held = self.held.lock().unwrap();
        let all = held.get(&self.place(stream));
        let found = match self.flaw {
            Flaw::ReadsOneWriteBehind => all.and_then(|all| all.iter().rev().nth(1).cloned()),
            Flaw::InventsLeases => Some(all.and_then(|all| all.last().cloned()).unwrap_or_default()),
            _ => all.and_then(|all| all.last().cloned()),
        };
        let found = found.filter(|bytes| self.flaw != Flaw::DropsTheEmpty || !bytes.is_empty());
        Ok(found.map(|bytes| (self.version(&bytes), bytes)))
    }

    async fn write(
        &self,
        stream: StreamId,
        expected: Option<&LeaseVersion>,
        bytes: Bytes,
    ) -> Result<LeaseVersion, LeaseError> {
        if bytes.len() > LEASE_BYTES_MAX && self.flaw != Flaw::TakesOversized {
            return Err(LeaseError::TooLarge { stream, size: bytes.len() as u64 });
        }
        let place = self.place(stream);
        let never = self.flaw == Flaw::AlwaysConflicts && expected.is_some();
        if never || !self.is_as_expected(place, expected) {
            return Err(LeaseError::Conflict { stream });
        }
        if self.flaw == Flaw::ChecksThenWrites {
            tokio::task::yield_now().await;
        }
        let version = self.version(&bytes);
        self.held.lock().unwrap().entry(place).or_default().push(bytes);
        Ok(version)
    }

    async fn streams(&self) -> Result<Vec<StreamId>, Failure> {
        if self.flaw == Flaw::TellsNoStreams {
            return Ok(Vec::new());
        }
        Ok(self.held.lock().unwrap().keys().copied().collect())
    }
}

async fn broken_by(flaw: Flaw) -> Vec<LeaseCheck> {
    let report = run(|| async { Arc::new(Flawed { flaw, held: Mutex::default() }) as SharedLease }).await;
    report.broken()
}

/// Which promise each flaw breaks. Every check appears, so every check can fail.
const EXPECTED: [(Flaw, &[LeaseCheck]); 12] = [
    (Flaw::InventsLeases, &[LeaseCheck::Absent]),
    (Flaw::ReadsOneWriteBehind, &[LeaseCheck::WriteThenRead]),
    (Flaw::AlwaysConflicts, &[LeaseCheck::WrittenOver]),
    (Flaw::OneVersionForAll, &[LeaseCheck::VersionsDiffer]),
    (Flaw::OverwritesWhatIsThere, &[LeaseCheck::NotAbsentIsConflict]),
    (Flaw::OverwritesAnyVersion, &[LeaseCheck::OldVersionIsConflict]),
    (Flaw::MakesWhatWasExpected, &[LeaseCheck::AbsentIsConflict]),
    (Flaw::ChecksThenWrites, &[LeaseCheck::OneOfMany]),
    (Flaw::DropsTheEmpty, &[LeaseCheck::Sizes]),
    (Flaw::TakesOversized, &[LeaseCheck::Oversized]),
    (Flaw::MixesStreams, &[LeaseCheck::Isolation]),
    (Flaw::TellsNoStreams, &[LeaseCheck::Told]),
];

#[tokio::test]
async fn leases_without_a_flaw_pass() {
    assert_eq!(broken_by(Flaw::None).await, []);
}

#[tokio::test]
async fn the_suite_of_leases_names_what_each_flaw_breaks() {
    for (flaw, expected) in EXPECTED {
        let broken = broken_by(flaw).await;
        for check in expected {
            assert!(broken.contains(check), "{flaw:?} must break {check:?}, and broke {broken:?}");
        }
    }
    for check in LeaseCheck::ALL {
        assert!(EXPECTED.iter().any(|(_, broken)| broken.contains(&check)), "nothing breaks {check:?}");
    }
}
