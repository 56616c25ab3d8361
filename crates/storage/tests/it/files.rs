//! What is particular to a store of files.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use synddb_protocol::limits::BATCH_STORED_MAX;
use synddb_storage::{
    BatchStore, Failure, Folder, GetError, Kind, ListError, ObjectBatchStore, OpenError, PageLimit, Put,
    PutError, Start, StoreUrl,
};

use super::{BATCHES, STREAM, batch, body, open};

fn url(folder: &Path) -> StoreUrl {
    StoreUrl::folder(folder).unwrap()
}

fn place(root: &Path, first: u64) -> std::path::PathBuf {
    root.join(batch(first).to_string())
}

#[tokio::test]
async fn every_object_lies_under_its_key_for_any_static_file_server() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    for kind in Kind::ALL {
        let key = Folder { stream: STREAM, kind }.first_key();
        store.put(&key, body("bytes as put")).await.unwrap();
        assert_eq!(fs::read(root.path().join(key.to_string())).unwrap(), b"bytes as put");
        let folder = root.path().join(key.folder().to_string());
        let mut files = walk(&folder);
        assert_eq!(files.pop(), Some(root.path().join(key.to_string())));
        assert!(files.is_empty(), "nothing else stays: {files:?}");
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

#[tokio::test]
async fn a_store_opened_again_holds_everything() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("store");
    {
        let store = open(&folder).await;
        for number in 1..=20 {
            store.put(&batch(number), body(&number.to_string())).await.unwrap();
        }
    }
    let store = ObjectBatchStore::open_existing(&url(&folder)).await.unwrap();
    let page = store.list(&Start::of(BATCHES), PageLimit::MAX).await.unwrap();
    assert_eq!(page.keys, (1..=20).map(batch).collect::<Vec<_>>());
    for number in 1..=20 {
        assert_eq!(store.get(&batch(number)).await.unwrap(), Some(body(&number.to_string())));
        assert_eq!(store.put(&batch(number), body(&number.to_string())).await.unwrap(), Put::Unchanged);
    }
}

#[tokio::test]
async fn a_writer_opened_before_a_reader_shows_what_it_writes_later() {
    let root = tempfile::tempdir().unwrap();
    let (writer, reader) = (open(root.path()).await, open(root.path()).await);
    assert_eq!(reader.get(&batch(1)).await.unwrap(), None);
    writer.put(&batch(1), body("a")).await.unwrap();
    assert_eq!(reader.get(&batch(1)).await.unwrap(), Some(body("a")));
    let conflict = reader.put(&batch(1), body("b")).await.unwrap_err();
    assert!(matches!(conflict, PutError::Conflict { existing, .. } if *existing.as_bytes() == body("a")));
}

#[tokio::test]
async fn staging_files_of_a_crash_are_no_objects_and_in_nobodys_way() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    store.put(&batch(1), body("one")).await.unwrap();
    for (first, staging) in [(1, "#1"), (1, "#2"), (2, "#1"), (3, "#1"), (3, "#2"), (3, "#17")] {
        let mut path = place(root.path(), first).into_os_string();
        path.push(staging);
        fs::write(path, b"half of an obj").unwrap();
    }
    let listed = async || store.list(&Start::of(BATCHES), PageLimit::MAX).await.unwrap().keys;
    assert_eq!(listed().await, [batch(1)]);
    assert_eq!(store.get(&batch(2)).await.unwrap(), None);
    assert_eq!(store.put(&batch(1), body("one")).await.unwrap(), Put::Unchanged);
    assert_eq!(store.put(&batch(2), body("two")).await.unwrap(), Put::Created);
    assert_eq!(store.put(&batch(3), body("three")).await.unwrap(), Put::Created);
    assert_eq!(listed().await, [batch(1), batch(2), batch(3)]);
    assert_eq!(store.get(&batch(3)).await.unwrap(), Some(body("three")));
}

#[tokio::test]
async fn an_object_linked_by_a_process_that_died_is_unchanged() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(BATCHES.to_string());
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("staged"), b"one").unwrap();
    fs::hard_link(folder.join("staged"), place(root.path(), 1)).unwrap();
    fs::remove_file(folder.join("staged")).unwrap();
    let store = open(root.path()).await;
    assert_eq!(store.put(&batch(1), body("one")).await.unwrap(), Put::Unchanged);
}

#[tokio::test]
async fn a_foreign_object_is_named_when_a_listing_reaches_it() {
    for name in ["notes.txt", "000000000002.cbor.zst.tmp", "2.cbor.zst", "000000000002.cbor", "a/b", "Z%41"] {
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path()).await;
        store.put(&batch(1), body("one")).await.unwrap();
        let path = root.path().join(BATCHES.to_string()).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"?").unwrap();
        let error = store.list(&Start::of(BATCHES), PageLimit::MAX).await.unwrap_err();
        assert!(!error.retry_may_help());
        match error {
            ListError::Foreign { folder, object } => {
                assert_eq!(folder, BATCHES);
                assert!(
                    object.starts_with(&format!("{BATCHES}/{}", &name[..1])),
                    "{object} does not name {name}"
                );
            }
            ListError::Failed { .. } => panic!("{name}: {error:?}"),
        }
        assert_eq!(store.get(&batch(1)).await.unwrap(), Some(body("one")), "a reader is not disturbed");
        let page = store.list(&Start::of(BATCHES), PageLimit::ONE).await.unwrap();
        assert_eq!(page.keys, [batch(1)], "{name} lies behind the page");
    }
}

#[tokio::test]
async fn a_hidden_file_sorts_before_every_key_and_so_lies_in_no_range() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    store.put(&batch(1), body("one")).await.unwrap();
    fs::write(root.path().join(format!("{BATCHES}/.DS_Store")), b"?").unwrap();
    let page = store.list(&Start::of(BATCHES), PageLimit::MAX).await.unwrap();
    assert_eq!(page.keys, [batch(1)]);
}

#[tokio::test]
async fn what_lies_beside_the_folders_is_nobodys_business() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    store.put(&batch(1), body("one")).await.unwrap();
    fs::write(root.path().join("README"), b"?").unwrap();
    fs::create_dir(root.path().join("lost+found")).unwrap();
    fs::write(root.path().join(format!("{}/lease", STREAM.to_key())), b"?").unwrap();
    fs::create_dir(root.path().join(format!("{BATCHES}/empty"))).unwrap();
    let page = store.list(&Start::of(BATCHES), PageLimit::MAX).await.unwrap();
    assert_eq!(page.keys, [batch(1)]);
}

#[tokio::test]
async fn an_object_above_its_bound_is_not_read() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    fs::create_dir_all(root.path().join(BATCHES.to_string())).unwrap();
    // A hole of a terabyte takes no room, and no reader could hold it.
    fs::File::create(place(root.path(), 1)).unwrap().set_len(1 << 40).unwrap();
    match store.get(&batch(1)).await.unwrap_err() {
        GetError::TooLarge { key, size, size_max } => {
            assert_eq!((key, size, size_max), (batch(1), 1 << 40, BATCH_STORED_MAX as u64));
        }
        error @ GetError::Failed { .. } => panic!("{error:?}"),
    }
    let error = store.put(&batch(1), body("one")).await.unwrap_err();
    assert!(matches!(error, PutError::ConflictTooLarge { size, .. } if size == 1 << 40), "{error:?}");
    assert!(!error.retry_may_help());
}

#[tokio::test]
async fn a_folder_is_made_only_below_one_that_exists() {
    let root = tempfile::tempdir().unwrap();
    let missing = root.path().join("store");
    let refused = ObjectBatchStore::open_existing(&url(&missing)).await.unwrap_err();
    assert!(matches!(refused, OpenError::Missing { folder } if folder == missing));
    assert!(!missing.exists(), "a reader makes nothing");
    ObjectBatchStore::open(&url(&missing)).await.unwrap();
    assert!(missing.is_dir());
    ObjectBatchStore::open(&url(&missing)).await.unwrap();
    ObjectBatchStore::open_existing(&url(&missing)).await.unwrap();
    let orphan = root.path().join("unmounted/store");
    let refused = ObjectBatchStore::open(&url(&orphan)).await.unwrap_err();
    assert!(matches!(refused, OpenError::ParentMissing { folder } if folder == orphan));
    assert!(!root.path().join("unmounted").exists());
}

#[tokio::test]
async fn a_path_through_a_file_is_not_a_folder() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, b"?").unwrap();
    for path in [file.clone(), file.join("store")] {
        for opened in
            [ObjectBatchStore::open(&url(&path)).await, ObjectBatchStore::open_existing(&url(&path)).await]
        {
            let refused = opened.unwrap_err();
            assert!(matches!(&refused, OpenError::NotAFolder { folder } if *folder == path), "{refused:?}");
        }
    }
    assert_eq!(fs::read(file).unwrap(), b"?");
}

#[tokio::test]
async fn a_file_where_a_folder_belongs_is_a_misconfiguration() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    fs::write(root.path().join(STREAM.to_key()), b"?").unwrap();
    let put = store.put(&batch(1), body("one")).await.unwrap_err();
    assert!(matches!(put, PutError::Failed { failure: Failure::Misconfigured(_), .. }), "{put:?}");
    let get = store.get(&batch(1)).await.unwrap_err();
    assert!(matches!(get, GetError::Failed { failure: Failure::Misconfigured(_), .. }), "{get:?}");
    assert!(!put.retry_may_help() && !get.retry_may_help());
}

#[tokio::test]
async fn errors_name_the_key_keep_the_cause_and_print_no_bytes() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    store.put(&batch(1), Bytes::from(vec![b'x'; 1 << 20])).await.unwrap();
    let conflict = store.put(&batch(1), body("other")).await.unwrap_err();
    assert!(conflict.to_string().contains(&format!("key=`{}`", batch(1))), "{conflict}");
    assert!(format!("{conflict:?}").len() < 1000, "a batch was printed");
    fs::remove_dir_all(root.path().join(STREAM.to_key())).unwrap();
    fs::write(root.path().join(STREAM.to_key()), b"?").unwrap();
    let failed = store.get(&batch(1)).await.unwrap_err();
    let mut causes = 0;
    let mut cause = std::error::Error::source(&failed);
    while let Some(next) = cause {
        causes += 1;
        cause = next.source();
    }
    assert!(causes >= 2, "{failed:?}");
}

/// The runtime has one thread. If a call blocked it, the ticker beside it would not move.
#[tokio::test]
async fn file_work_does_not_block_the_runtime() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path()).await;
    let ticks = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counting = ticks.clone();
    let ticker = tokio::spawn(async move {
        loop {
            counting.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    for number in 1..=20 {
        let before = ticks.load(std::sync::atomic::Ordering::Relaxed);
        store.put(&batch(number), Bytes::from(vec![1; 1 << 20])).await.unwrap();
        assert!(ticks.load(std::sync::atomic::Ordering::Relaxed) > before);
    }
    ticker.abort();
}
