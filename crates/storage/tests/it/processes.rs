//! What only several processes show: races, crashes, limits of the operating system.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use synddb_storage::{
    BatchStore, Failure, GetError, Lease as _, LeaseError, ListError, ObjectBatchStore, OpenError, PageLimit,
    Put, PutError, Start, StoreUrl, last_batch,
};

use super::child::{Role, arguments, command, environment, finish, spawn};
use super::{BATCHES, STREAM, batch, body, open};

/// How many keys each racer wants.
const RACE_KEYS: u64 = 100;

/// An account without rights, which every Unix knows by this number.
const NOBODY: u32 = 65_534;

pub(crate) async fn race(store: ObjectBatchStore, name: &str) {
    let mut go = String::new();
    std::io::stdin().read_line(&mut go).unwrap();
    for number in 1..=RACE_KEYS {
        match store.put(&batch(number), body(name)).await {
            Ok(put) => println!("\nwon {number} {put:?}"),
            Err(PutError::Conflict { existing, .. }) => {
                assert_ne!(existing.as_bytes(), &body(name));
                println!("\nlost {number} to {}", String::from_utf8_lossy(existing.as_bytes()));
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn processes_that_race_for_a_key_agree_on_one_winner() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    race_in(store, |name| spawn(Role::Race, folder.path(), name)).await;
}

/// Races several processes in one store, each started by its name.
pub(crate) async fn race_in(store: ObjectBatchStore, start: impl Fn(&str) -> Child) {
    let names = ["first", "second", "third"];
    let mut children: Vec<_> = names.iter().map(|name| start(name)).collect();
    for child in &mut children {
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }
    let mut winners = BTreeMap::new();
    let mut lost = Vec::new();
    for (child, name) in children.into_iter().zip(names) {
        for line in finish(child).lines() {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["won", number, "Created"] => {
                    let before = winners.insert(number.parse::<u64>().unwrap(), name);
                    assert_eq!(before, None, "two processes created {number}");
                }
                ["lost", number, "to", winner] => {
                    lost.push((number.parse::<u64>().unwrap(), (*winner).to_owned()))
                }
                _ => {}
            }
        }
    }
    assert_eq!(winners.len() as u64, RACE_KEYS);
    assert_eq!(lost.len() as u64, RACE_KEYS * (names.len() as u64 - 1));
    assert!(lost.iter().all(|(number, winner)| winners[number] == winner));
    for (number, winner) in winners {
        assert_eq!(store.get(&batch(number)).await.unwrap(), Some(body(winner)));
    }
}

/// How often each process raises the number in the lease.
const COUNTS: u64 = 100;

pub(crate) async fn count(store: ObjectBatchStore) {
    let mut go = String::new();
    std::io::stdin().read_line(&mut go).unwrap();
    let mut left = COUNTS;
    while left > 0 {
        let found = store.read(STREAM).await.unwrap();
        let number = found.as_ref().map_or(0, |(_, bytes)| counted(bytes));
        let version = found.map(|(version, _)| version);
        match store.write(STREAM, version.as_ref(), body(&(number + 1).to_string())).await {
            Ok(_) => left -= 1,
            Err(LeaseError::Conflict { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn counted(bytes: &Bytes) -> u64 {
    std::str::from_utf8(bytes).unwrap().parse().unwrap()
}

#[tokio::test]
async fn processes_that_write_one_lease_never_write_over_what_they_did_not_see() {
    let folder = tempfile::tempdir().unwrap();
    count_in(open(folder.path()).await, |name| spawn(Role::Count, folder.path(), name)).await;
}

/// Has several processes raise one number in one store, each started by its name.
pub(crate) async fn count_in(store: ObjectBatchStore, start: impl Fn(&str) -> Child) {
    let mut children: Vec<_> = ["one", "two", "three"].map(start).into();
    for child in &mut children {
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }
    let processes = children.len() as u64;
    for child in children {
        finish(child);
    }
    let (_, bytes) = store.read(STREAM).await.unwrap().unwrap();
    assert_eq!(counted(&bytes), processes * COUNTS);
}

fn written(number: u64) -> Bytes {
    Bytes::from(number.to_be_bytes().repeat(20_000))
}

pub(crate) async fn write_until_killed(store: &Path) {
    let store = open(store).await;
    for number in 1..=1_000_000 {
        let put = store.put(&batch(number), written(number)).await.unwrap();
        println!("\nanswered {number} {put:?}");
    }
}

#[tokio::test]
async fn a_killed_writer_leaves_every_answered_object_whole() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=3u64 {
        let mut child = spawn(Role::Write, folder.path(), "writer");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let answered =
            lines.by_ref().map(Result::unwrap).filter(|line| line.starts_with("answered ")).nth(60);
        assert!(answered.is_some());
        child.kill().unwrap();
        // Lines that the child wrote before it died are answers too.
        let later = lines.map_while(Result::ok).filter(|line| line.starts_with("answered ")).count() as u64;
        child.wait().unwrap();
        let store = open(folder.path()).await;
        let last = last_batch(&store, STREAM).await.unwrap().unwrap().get();
        assert!(last >= 61 + later, "round {round}: {last} objects, {later} late answers");
        for number in 1..=last {
            assert_eq!(store.get(&batch(number)).await.unwrap(), Some(written(number)));
            assert_eq!(store.put(&batch(number), written(number)).await.unwrap(), Put::Unchanged);
        }
    }
}

pub(crate) async fn meet_full_disk(store: &Path) {
    let store = open(store).await;
    for _ in 0..2 {
        let error = store.put(&batch(1), Bytes::from(vec![1; 4 << 20])).await.unwrap_err();
        assert!(matches!(error, PutError::Failed { failure: Failure::Full(_), .. }), "{error:?}");
        assert!(error.retry_may_help());
        assert_eq!(store.get(&batch(1)).await.unwrap(), None);
    }
    assert_eq!(store.put(&batch(2), body("small")).await.unwrap(), Put::Created);
    let page = store.list(&Start::of(BATCHES), PageLimit::MAX).await.unwrap();
    assert_eq!(page.keys, [batch(2)]);
}

/// The largest file is limited, so that a write fails half-way as it does on a full disk.
#[test]
fn a_full_disk_is_told_as_full_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let limited = "trap '' XFSZ; ulimit -f 1024; exec \"$0\" \"$@\"";
    let child = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .args(arguments())
        .envs(environment(Role::Full, folder.path(), "full"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    finish(child);
    let batches = folder.path().join(BATCHES.to_string());
    assert_eq!(fs::read_dir(batches).unwrap().count(), 1, "a staging file stayed");
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn is_denied(error: &PutError) -> bool {
    matches!(error, PutError::Failed { failure: Failure::Denied(_), .. }) && !error.retry_may_help()
}

pub(crate) async fn meet_denied_access(folder: &Path) {
    let store = open(folder).await;
    assert_eq!(store.put(&batch(1), body("one")).await.unwrap(), Put::Created);
    let batches = folder.join(BATCHES.to_string());
    meet_folder_that_cannot_be_synced(&store, &batches).await;
    meet_chain_that_cannot_be_synced(folder).await;

    set_mode(&batches, 0o500);
    assert!(is_denied(&store.put(&batch(3), body("three")).await.unwrap_err()));
    assert_eq!(store.get(&batch(1)).await.unwrap(), Some(body("one")), "a reader needs no right to write");
    let page = store.list(&Start::of(BATCHES), PageLimit::MAX).await.unwrap();
    assert_eq!(page.keys, [batch(1), batch(2)]);

    set_mode(&batches, 0o700);
    set_mode(&folder.join(batch(1).to_string()), 0o000);
    let denied = store.get(&batch(1)).await.unwrap_err();
    assert!(matches!(denied, GetError::Failed { failure: Failure::Denied(_), .. }), "{denied:?}");

    set_mode(folder, 0o000);
    let inside = StoreUrl::folder(&folder.join("store")).unwrap();
    for opened in [ObjectBatchStore::open(&inside).await, ObjectBatchStore::open_existing(&inside).await] {
        let denied = opened.unwrap_err();
        assert!(matches!(denied, OpenError::Failed { failure: Failure::Denied(_), .. }), "{denied:?}");
    }
    set_mode(folder, 0o700);
}

/// A folder that may be written but not read cannot be opened to sync it. So an answer other than an
/// error would mean that nobody tried: this is how the test sees that every put syncs the folder.
async fn meet_folder_that_cannot_be_synced(store: &ObjectBatchStore, batches: &Path) {
    set_mode(batches, 0o300);
    let found = store.put(&batch(1), body("one")).await.unwrap_err();
    assert!(is_denied(&found), "an object that exists was answered without a sync: {found:?}");
    let conflict = store.put(&batch(1), body("other")).await.unwrap_err();
    assert!(is_denied(&conflict), "a conflict was answered without a sync: {conflict:?}");
    let created = store.put(&batch(2), body("two")).await.unwrap_err();
    assert!(is_denied(&created), "a new object was answered without a sync: {created:?}");
    let listed = store.list(&Start::of(BATCHES), PageLimit::MAX).await.unwrap_err();
    assert!(matches!(listed, ListError::Failed { failure: Failure::Denied(_), .. }), "{listed:?}");
    set_mode(batches, 0o700);
    // Whether a failed put took effect was unknown; sending the same bytes again settles it.
    assert_eq!(store.put(&batch(2), body("two")).await.unwrap(), Put::Unchanged);
}

/// The same for the folders above: the first put of a process into a folder syncs each of them.
async fn meet_chain_that_cannot_be_synced(folder: &Path) {
    for above in [folder.to_path_buf(), folder.join(STREAM.to_key())] {
        let fresh = open(folder).await;
        set_mode(&above, 0o300);
        let error = fresh.put(&batch(1), body("one")).await.unwrap_err();
        assert!(is_denied(&error), "{} was not synced: {error:?}", above.display());
        set_mode(&above, 0o700);
        assert_eq!(fresh.put(&batch(1), body("one")).await.unwrap(), Put::Unchanged);
        set_mode(&above, 0o300);
        // Once is enough: a process knows what it synced.
        assert_eq!(fresh.put(&batch(1), body("one")).await.unwrap(), Put::Unchanged);
        set_mode(&above, 0o700);
    }
}

/// The child runs without rights, because the superuser is never denied anything.
#[test]
fn denied_access_is_told_as_denied_and_every_put_syncs() {
    let base = tempfile::tempdir().unwrap();
    set_mode(base.path(), 0o755);
    let binary = base.path().join("it");
    // Not by this process: a child that another test starts meanwhile would have it open for writing, and then it cannot be run.
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&binary).status();
    assert!(copied.unwrap().success());
    set_mode(&binary, 0o755);
    let folder = base.path().join("store");
    fs::create_dir(&folder).unwrap();
    let mut child = command(&binary, Role::Denied, &folder, "denied");
    if fs::metadata(&folder).unwrap().uid() == 0 {
        chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        child.uid(NOBODY).gid(NOBODY).current_dir("/");
    }
    finish(child.stdout(Stdio::piped()).spawn().unwrap());
}
