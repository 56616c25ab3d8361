//! Removing, on every implementation of this crate; and the suite against sweepers that break one word each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_storage::conformance::sweeping::{SharedSweeper, SweepCheck, run};
use synddb_storage::faulty::{Faults, FaultyStore, Loss, Verb};
use synddb_storage::{
    BatchStore, Folder, GetError, Key, Kind, ListError, ObjectBatchStore, Page, PageLimit, Put, PutError,
    Removable, RemoveError, Start, StoreUrl, Stored, Sweeper,
};

const STREAM: StreamId = StreamId::from_bytes([7; 32]);

#[tokio::test]
async fn memory_keeps_the_contract_of_sweepers() {
    let report = run(|| async { Arc::new(ObjectBatchStore::memory()) as SharedSweeper }).await;
    report.into_result().unwrap_or_else(|report| panic!("{report}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_keep_the_contract_of_sweepers() {
    let base = tempfile::tempdir().unwrap();
    let next = AtomicU32::new(0);
    let report = run(|| async {
        let number = next.fetch_add(1, Ordering::SeqCst);
        Arc::new(crate::open(&base.path().join(format!("store {number}"))).await) as SharedSweeper
    })
    .await;
    report.into_result().unwrap_or_else(|report| panic!("{report}"));
}

#[tokio::test]
async fn a_faulty_store_without_faults_keeps_the_contract_of_sweepers() {
    let report = run(|| async {
        Arc::new(FaultyStore::new(ObjectBatchStore::memory(), Faults::new(|| 0))) as SharedSweeper
    })
    .await;
    report.into_result().unwrap_or_else(|report| panic!("{report}"));
}

fn chunk(byte: u8) -> Removable {
    Removable::chunk(STREAM, ChunkHash::from_bytes([byte; 32]))
}

#[tokio::test]
async fn a_lost_answer_leaves_any_part_of_a_removal_done() {
    let faults = Faults::new(|| 1);
    let store = FaultyStore::new(ObjectBatchStore::memory(), faults.clone());
    let chunks = [chunk(1), chunk(2), chunk(3)];
    for chunk in &chunks {
        store.put(chunk.key(), Bytes::from_static(b"pages")).await.unwrap();
    }
    faults.lose_responses(Verb::Remove, Loss::Next(1));
    let error = store.remove(&chunks).await.unwrap_err();
    assert!(error.retry_may_help(), "{error}");
    assert_eq!(store.get(chunks[0].key()).await.unwrap(), None);
    assert!(store.get(chunks[2].key()).await.unwrap().is_some());
    store.remove(&chunks).await.unwrap();
    assert_eq!(store.get(chunks[2].key()).await.unwrap(), None);
    assert_eq!(faults.requests().remove, 2);
}

#[tokio::test]
async fn a_file_is_told_with_its_own_time_and_what_is_staged_is_not_told() {
    let base = tempfile::tempdir().unwrap();
    let store = crate::open(base.path()).await;
    store.put(chunk(1).key(), Bytes::from_static(b"pages")).await.unwrap();
    let file = base.path().join(chunk(1).key().to_string());
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(long_ago).unwrap();
    std::fs::write(file.with_extension("#1"), b"on its way").unwrap();
    std::fs::write(file.parent().unwrap().join("notes.txt"), b"?").unwrap();
    std::fs::write(format!("{}#1", file.display()), b"on its way").unwrap();
    let mut told = Vec::new();
    store.tell(Folder { stream: STREAM, kind: Kind::Chunk }, &mut |it| told.push(it)).await.unwrap();
    let ours: Vec<&Stored> =
        told.iter().filter(|it| it.name.to_string() == chunk(1).key().to_string()).collect();
    assert_eq!((ours.len(), ours[0].written, ours[0].bytes), (1, long_ago, 5));
    assert!(told.iter().any(|it| it.name.to_string().ends_with("notes.txt")), "{told:?}");
    assert!(
        !told.iter().any(|it| it.name.to_string().ends_with(&format!("{}#1", chunk(1).key()))),
        "{told:?}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_in_the_way_is_not_removed() {
    let base = tempfile::tempdir().unwrap();
    let store = crate::open(base.path()).await;
    let path = base.path().join(chunk(1).key().to_string());
    std::fs::create_dir_all(&path).unwrap();
    let RemoveError::Failed { key, .. } = store.remove(&[chunk(1)]).await.unwrap_err();
    assert_eq!(key, *chunk(1).key());
    assert!(path.is_dir());
}

#[tokio::test]
async fn a_static_host_removes_nothing_and_says_why() {
    let base = tempfile::tempdir().unwrap();
    let host = synddb_servers::StaticHost::serve(base.path()).unwrap();
    let url: StoreUrl = host.url().parse().unwrap();
    let store = ObjectBatchStore::open_existing(&url).await.unwrap();
    let error = store.remove(&[chunk(1)]).await.unwrap_err();
    assert!(!error.retry_may_help());
    let text = synddb_protocol::chain(&error);
    assert!(text.contains("name the bucket or folder that it serves"), "{text}");
}

/// Which word a sweeper breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    RemovesNothing,
    RefusesAbsent,
    RemovesTheWholeStream,
    RemovesOnlyTheFirstThousand,
    TellsHalf,
    TellsTimesBackwards,
    IsAhead,
    KeepsTheKey,
}

struct Flawed {
    inner: ObjectBatchStore,
    flaw: Flaw,
    removed: std::sync::Mutex<Vec<Key>>,
}

#[async_trait]
impl BatchStore for Flawed {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<Put, PutError> {
        if self.flaw == Flaw::KeepsTheKey && self.removed.lock().unwrap().contains(key) {
            return Ok(Put::Unchanged);
        }
        self.inner.put(key, bytes).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, GetError> {
        self.inner.get(key).await
    }

    async fn list(&self, start: &Start, limit: PageLimit) -> Result<Page, ListError> {
        self.inner.list(start, limit).await
    }
}

#[async_trait]
impl Sweeper for Flawed {
    async fn tell(&self, folder: Folder, each: &mut (dyn FnMut(Stored) + Send)) -> Result<(), ListError> {
        let mut told = Vec::new();
        self.inner.tell(folder, &mut |stored| told.push(stored)).await?;
        if self.flaw == Flaw::TellsHalf {
            told.truncate(told.len() / 2);
        }
        if self.flaw == Flaw::TellsTimesBackwards && told.len() == 2 {
            told.sort_by_key(|stored| stored.written);
            told[0].written += Duration::from_secs(1000);
        }
        told.into_iter().for_each(each);
        Ok(())
    }

    fn now(&self) -> Option<SystemTime> {
        let ahead = if self.flaw == Flaw::IsAhead { Duration::from_secs(86_400) } else { Duration::ZERO };
        self.inner.now().map(|now| now + ahead)
    }

    async fn remove(&self, objects: &[Removable]) -> Result<(), RemoveError> {
        self.removed.lock().unwrap().extend(objects.iter().map(|object| *object.key()));
        match self.flaw {
            Flaw::RemovesNothing => Ok(()),
            Flaw::RemovesOnlyTheFirstThousand => self.inner.remove(&objects[..objects.len().min(1000)]).await,
            Flaw::RefusesAbsent => {
                for object in objects {
                    if self.inner.get(object.key()).await.unwrap().is_none() {
                        let failure = synddb_storage::Failure::Unavailable("absent".into());
                        return Err(RemoveError::Failed { key: *object.key(), failure });
                    }
                }
                self.inner.remove(objects).await
            }
            Flaw::RemovesTheWholeStream => {
                let mut all = objects.to_vec();
                for kind in [Kind::Snapshot, Kind::Chunk] {
                    for stream in [7, 8].map(|byte| StreamId::from_bytes([byte; 32])) {
                        let page = self.inner.list(&Start::of(Folder { stream, kind }), PageLimit::MAX).await;
                        all.extend(page.unwrap().keys.iter().filter_map(|key| match *key {
                            Key::Snapshot { stream, sequence, signer } => {
                                Some(Removable::manifest(stream, sequence, signer))
                            }
                            Key::Chunk { stream, hash } => Some(Removable::chunk(stream, hash)),
                            _ => None,
                        }));
                    }
                }
                self.inner.remove(&all).await
            }
            Flaw::None | Flaw::TellsHalf | Flaw::TellsTimesBackwards | Flaw::IsAhead | Flaw::KeepsTheKey => {
                self.inner.remove(objects).await
            }
        }
    }
}

#[tokio::test]
async fn the_suite_names_what_each_flaw_breaks() {
    let expected: [(Flaw, &[SweepCheck]); 9] = [
        (Flaw::None, &[]),
        (Flaw::RemovesNothing, &[SweepCheck::RemovedIsGone, SweepCheck::PutAgain]),
        (Flaw::RefusesAbsent, &[SweepCheck::AbsentIsRemoved]),
        (Flaw::RemovesTheWholeStream, &[SweepCheck::OthersStay]),
        (Flaw::RemovesOnlyTheFirstThousand, &[SweepCheck::Many]),
        (Flaw::TellsHalf, &[SweepCheck::AllTold, SweepCheck::Many]),
        (Flaw::TellsTimesBackwards, &[SweepCheck::TimesGrow]),
        (Flaw::IsAhead, &[SweepCheck::TimesGrow]),
        (Flaw::KeepsTheKey, &[SweepCheck::PutAgain]),
    ];
    let mut seen = Vec::new();
    for (flaw, expected) in expected {
        let report = run(|| async {
            let inner = ObjectBatchStore::memory();
            Arc::new(Flawed { inner, flaw, removed: std::sync::Mutex::default() }) as SharedSweeper
        })
        .await;
        let broken = report.broken();
        assert!(flaw != Flaw::None || broken.is_empty(), "{report}");
        for check in expected {
            assert!(broken.contains(check), "{flaw:?} must break {check:?}, and broke {broken:?}");
            seen.push(*check);
        }
    }
    for check in SweepCheck::ALL {
        assert!(seen.contains(&check), "nothing breaks {check:?}");
    }
}

#[test]
fn only_manifests_and_chunks_can_be_named() {
    let signer = synddb_protocol::id::Address::from_bytes([1; 20]);
    let sequence = Sequence::FIRST;
    let manifest = Removable::manifest(STREAM, sequence, signer);
    assert_eq!(*manifest.key(), Key::Snapshot { stream: STREAM, sequence, signer });
    assert_eq!(chunk(1).key().kind(), Kind::Chunk);
}
