//! Stores that break one word of the contract each, and the suite that must name it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use synddb_protocol::id::StreamId;
use synddb_storage::conformance::{Check, SharedStore, run};
use synddb_storage::{BatchStore, Existing, GetError, Key, ListError, Page, PageLimit, Put, PutError, Start};

/// What a store does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    InventsObjects,
    Overwrites,
    KeepsSilently,
    AlwaysCreated,
    ChecksThenWrites,
    ConflictCarriesTheNewBytes,
    GetIsOneOperationBehind,
    DropsEmptyObjects,
    CutsLargeObjects,
    TakesOversizedObjects,
    LosesStreamZero,
    ListsUnsorted,
    ListsOneOperationBehind,
    ListCappedAt1000,
    ListSortedByUnpaddedNumber,
    ListIgnoresItsLimit,
    ListAfterIsAt,
    ListIgnoresItsStart,
    ListNeverEnds,
    ListMixesStreams,
}

/// Objects in a map, and one flaw.
struct Flawed {
    flaw: Flaw,
    objects: Mutex<BTreeMap<Key, Bytes>>,
    newest: Mutex<Option<Key>>,
}

impl Flawed {
    fn new(flaw: Flaw) -> Self {
        Self { flaw, objects: Mutex::default(), newest: Mutex::default() }
    }

    fn held(&self, key: &Key) -> Option<Bytes> {
        self.objects.lock().unwrap().get(key).cloned()
    }

    fn write(&self, key: &Key, bytes: Bytes) {
        *self.newest.lock().unwrap() = Some(*key);
        self.objects.lock().unwrap().insert(*key, bytes);
    }

    /// Writes unless the key is taken, in one step.
    fn create(&self, key: &Key, bytes: Bytes) -> Option<Bytes> {
        let mut objects = self.objects.lock().unwrap();
        let held = objects.get(key).cloned();
        if held.is_none() {
            objects.insert(*key, bytes);
            *self.newest.lock().unwrap() = Some(*key);
        }
        held
    }

    fn answer(&self, key: &Key, bytes: &Bytes, held: Bytes) -> Result<Put, PutError> {
        if self.flaw == Flaw::AlwaysCreated && held == bytes {
            return Ok(Put::Created);
        }
        if held == bytes || self.flaw == Flaw::KeepsSilently {
            return Ok(Put::Unchanged);
        }
        let carried = if self.flaw == Flaw::ConflictCarriesTheNewBytes { bytes.clone() } else { held };
        Err(PutError::Conflict { key: *key, existing: Existing::new(carried) })
    }

    fn admitted(&self, start: &Start) -> Vec<Key> {
        let folder = start.key().folder();
        let objects = self.objects.lock().unwrap();
        let keys = objects.keys().copied().filter(|key| match self.flaw {
            Flaw::ListMixesStreams => key.kind() == folder.kind,
            Flaw::ListIgnoresItsStart => key.folder() == folder,
            Flaw::ListAfterIsAt => key.folder() == folder && key >= start.key(),
            _ => start.admits(key),
        });
        keys.collect()
    }
}

#[async_trait]
impl BatchStore for Flawed {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<Put, PutError> {
        if bytes.len() > key.size_max() && self.flaw != Flaw::TakesOversizedObjects {
            let (size, size_max) = (bytes.len() as u64, key.size_max() as u64);
            return Err(PutError::TooLarge { key: *key, size, size_max });
        }
        let stored = match self.flaw {
            Flaw::CutsLargeObjects => bytes.slice(..bytes.len().min(5000)),
            _ => bytes.clone(),
        };
        let lost = (self.flaw == Flaw::DropsEmptyObjects && bytes.is_empty())
            || (self.flaw == Flaw::LosesStreamZero && key.stream() == StreamId::from_bytes([0; 32]));
        let held = match self.flaw {
            _ if lost => None,
            Flaw::Overwrites => {
                self.write(key, stored);
                None
            }
            Flaw::ChecksThenWrites => {
                let held = self.held(key);
                tokio::task::yield_now().await;
                if held.is_none() {
                    self.write(key, stored);
                }
                held
            }
            _ => self.create(key, stored),
        };
        match held {
            None => Ok(Put::Created),
            Some(held) => self.answer(key, &bytes, held),
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, GetError> {
        let behind = self.flaw == Flaw::GetIsOneOperationBehind;
        if behind && self.newest.lock().unwrap().take() == Some(*key) {
            return Ok(None);
        }
        Ok(self.held(key).or((self.flaw == Flaw::InventsObjects).then(Bytes::new)))
    }

    async fn list(&self, start: &Start, limit: PageLimit) -> Result<Page, ListError> {
        let mut keys = self.admitted(start);
        let size = if self.flaw == Flaw::ListIgnoresItsLimit { usize::MAX } else { limit.get() };
        let more = keys.len() > size;
        match self.flaw {
            Flaw::ListsOneOperationBehind => {
                let newest = self.newest.lock().unwrap().take();
                keys.retain(|key| Some(*key) != newest);
            }
            Flaw::ListSortedByUnpaddedNumber => keys.sort_by_key(|key| match key {
                Key::Batch { first, .. } => first.to_string(),
                other => other.to_string(),
            }),
            _ => {}
        }
        keys.truncate(size);
        let last = keys.last().copied();
        if self.flaw == Flaw::ListsUnsorted {
            keys.reverse();
        }
        let next = match self.flaw {
            Flaw::ListCappedAt1000 => None,
            Flaw::ListNeverEnds => Some(*start),
            _ if more => last.map(Start::After),
            _ => None,
        };
        Ok(Page { keys, next })
    }
}

async fn broken_by(flaw: Flaw) -> Vec<Check> {
    let report = run(|| async { Arc::new(Flawed::new(flaw)) as SharedStore }).await;
    report.broken()
}

/// Which promise each flaw breaks. Every check appears, so every check can fail.
const EXPECTED: [(Flaw, &[Check]); 20] = [
    (Flaw::InventsObjects, &[Check::AbsentObject]),
    (Flaw::Overwrites, &[Check::OtherBytesConflict, Check::SameBytesAgain, Check::ConcurrentPuts]),
    (Flaw::KeepsSilently, &[Check::OtherBytesConflict, Check::ConcurrentPuts]),
    (Flaw::AlwaysCreated, &[Check::SameBytesAgain]),
    (Flaw::ChecksThenWrites, &[Check::ConcurrentPuts, Check::ConcurrentSamePuts]),
    (Flaw::ConflictCarriesTheNewBytes, &[Check::OtherBytesConflict, Check::ConcurrentPuts]),
    (Flaw::GetIsOneOperationBehind, &[Check::PutThenGet]),
    (Flaw::DropsEmptyObjects, &[Check::EmptyObject]),
    (Flaw::CutsLargeObjects, &[Check::LargestObject]),
    (Flaw::TakesOversizedObjects, &[Check::OversizedObject]),
    (Flaw::LosesStreamZero, &[Check::ExtremeIdentifiers]),
    (Flaw::ListsUnsorted, &[Check::ListAscending]),
    (Flaw::ListsOneOperationBehind, &[Check::ListAfterPut, Check::ListDuringPuts]),
    (Flaw::ListCappedAt1000, &[Check::ListManyObjects]),
    (Flaw::ListSortedByUnpaddedNumber, &[Check::ListBoundaries]),
    (Flaw::ListIgnoresItsLimit, &[Check::ListPages]),
    (Flaw::ListAfterIsAt, &[Check::ListFromPlace]),
    (Flaw::ListIgnoresItsStart, &[Check::ListFromPlace]),
    (Flaw::ListNeverEnds, &[Check::ListPages]),
    (Flaw::ListMixesStreams, &[Check::ListIsolation]),
];

#[tokio::test]
async fn a_flawless_store_passes() {
    assert_eq!(broken_by(Flaw::None).await, []);
}

#[tokio::test]
async fn the_suite_names_what_each_flaw_breaks() {
    for (flaw, expected) in EXPECTED {
        let broken = broken_by(flaw).await;
        for check in expected {
            assert!(broken.contains(check), "{flaw:?} must break {check:?}, and broke {broken:?}");
        }
    }
}

#[tokio::test]
async fn a_narrow_flaw_breaks_nothing_else() {
    assert_eq!(broken_by(Flaw::CutsLargeObjects).await, [Check::LargestObject]);
    assert_eq!(broken_by(Flaw::TakesOversizedObjects).await, [Check::OversizedObject]);
    assert_eq!(broken_by(Flaw::ChecksThenWrites).await, [Check::ConcurrentPuts, Check::ConcurrentSamePuts]);
}

#[test]
fn every_check_can_fail() {
    for check in Check::ALL {
        assert!(EXPECTED.iter().any(|(_, broken)| broken.contains(&check)), "nothing breaks {check:?}");
    }
}

#[tokio::test]
async fn a_report_tells_which_promise_broke_and_how() {
    let report = run(|| async { Arc::new(Flawed::new(Flaw::AlwaysCreated)) as SharedStore }).await;
    let error = report.into_result().unwrap_err();
    let text = error.to_string();
    assert_eq!(text.lines().count(), Check::ALL.len());
    assert!(text.contains("BROKEN  SameBytesAgain: the same bytes were created twice"), "{text}");
    assert!(text.contains("holds   PutThenGet"), "{text}");
}
