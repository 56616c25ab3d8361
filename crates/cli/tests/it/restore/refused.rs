//! What a restore refuses, and what may stop it. Nothing is left of either.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use super::Restoring;
use crate::processes::{run, synddb};
use crate::programs::sql;
use crate::roles::signal;
use crate::verified::{OTHER_KEY, Stored, Then, flip, remove, store_a_lie};

fn from(stored: &Stored) -> Restoring {
    Restoring::from(&stored.url(), &stored.stream, &stored.key)
}

#[test]
fn what_the_log_has_not_is_refused_and_named() {
    let stored = Stored::usual();
    let restoring = from(&stored);
    let has = "incarnation 1 to commit 5";
    restoring.refused(&["--at", "6"], 2, &["the log does not hold commit 6", has]);
    restoring.refused(&["--at", "1:99"], 2, &["not hold commit 99 of incarnation 1", has]);
    restoring.refused(&["--at", "2:1"], 2, &["not hold commit 1 of incarnation 2", has]);
    restoring.refused(&["--at", "7:0"], 2, &["not hold the first snapshot of incarnation 7", has]);
    restoring.refused(&["--at-message", "1000"], 2, &["the log ends before message 1000"]);
    restoring.refused(&["--at-message", "1"], 2, &["no database yet at message 1", "snapshot=`message 2`"]);
    let early = "2020-01-01T01:00:00+01:00";
    restoring.refused(&["--at", early], 2, &["no database yet at 2020-01-01T00:00:00.000Z", "message 2"]);
    restoring.refused(&["--at", "yesterday"], 2, &["this is no state of a log", "2026-01-31T12:00:00Z"]);
    restoring.refused(&["--at", "-1"], 2, &["this is no state of a log"]);
    restoring.refused(&["--at", "1", "--at-message", "3"], 2, &["cannot be used with"]);
    // Also where nothing is listed, so that the whole log has to be read to know it: what is not of this system makes a folder unlistable.
    let batch = stored.first("batches");
    fs::copy(&batch, batch.with_file_name("zzz")).unwrap();
    restoring.refused(&["--at", "6"], 2, &["the log does not hold commit 6", has]);
    restoring.refused(&["--at", "1:6"], 2, &["the log does not hold commit 6", has]);
    restoring.refused(&["--at", "2:1"], 2, &["the log does not hold commit 1 of incarnation 2"]);
    restoring.refused(&["--at-message", "1000"], 2, &["the log ends before message 1000"]);
    let restored = restoring.restore(&["--at", "4"]);
    assert_eq!((&restored["incarnation"], &restored["commit"]), (&1.into(), &4.into()), "{restored}");
}

#[test]
fn nothing_is_overwritten() {
    let stored = Stored::usual();
    let restoring = from(&stored);
    let file = restoring.file();
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let there = synddb_sqlite::name::beside(&file, suffix);
        fs::write(&there, "somebody's").unwrap();
        restoring.refused(&[], 2, &["the file exists, and a restore replaces none", there.to_str().unwrap()]);
        assert_eq!(fs::read(&there).unwrap(), b"somebody's");
        fs::remove_file(&there).unwrap();
    }
    std::os::unix::fs::symlink("nowhere", &file).unwrap();
    restoring.refused(&[], 2, &["the file exists"]);
    fs::remove_file(&file).unwrap();
    restoring.restore(&[]);
    restoring.refused(&[], 2, &["the file exists"]);
    assert_eq!(sql(&file, "SELECT count(*) FROM t;"), "2\n");
}

#[test]
fn who_is_not_believed_restores_nothing() {
    let stored = Stored::usual();
    let stranger = Restoring::from(&stored.url(), &stored.stream, OTHER_KEY);
    stranger.refused(&[], 2, &["none of the trusted keys leads this log"]);
    let unknown = Restoring::from(&stored.url(), &format!("0x{}", "07".repeat(32)), &stored.key);
    unknown.refused(&[], 2, &["no log of this stream", &stored.stream]);
    let absent = Restoring::from(&format!("{}-absent", stored.url()), &stored.stream, &stored.key);
    absent.refused(&[], 2, &[]);
}

#[test]
fn what_names_the_wrong_thing_is_told_what_it_is() {
    let stored = Stored::usual();
    let folder = Restoring::from(stored.store.to_str().unwrap(), &stored.stream, &stored.key);
    folder.refused(&[], 2, &["this is a folder", &format!("write {}", stored.url())]);
    let id = format!("0x{}", "07".repeat(20));
    from(&stored).refused(&["--sequencer-key", &id], 2, &["this is a key id", "name the public key"]);
    for (arguments, told) in [
        (["--keep", "0"], "at least 1"),
        (["--keep-every", "0"], "at least 1"),
        (["--signer", &stored.key], "this is a public key, and its id is wanted: write 0x"),
    ] {
        let mut command = synddb(["gc", &stored.url(), "--dry-run"]);
        command.args(arguments);
        let (exit, _, errors) = run(command);
        assert!(exit == 2 && errors.contains(told), "{arguments:?}: {errors}");
    }
}

#[test]
fn a_damaged_log_restores_what_comes_before() {
    let stored = Stored::usual();
    let restoring = from(&stored);
    let lie = store_a_lie(&stored, Then::Status).to_string();
    // It is signed and linked; only whoever applies it sees.
    for arguments in [&[][..], &["--at", &lie]] {
        restoring.refused(arguments, 1, &["the log is not whole", &format!("commit=`{lie}`")]);
    }
    let restored = restoring.restore(&["--at", "5"]);
    assert_eq!(restored["state"], stored.state(), "{restored}");
    fs::remove_file(restoring.file()).unwrap();

    let batches = stored.files("batches");
    let (_, last) = batches.last_key_value().unwrap();
    flip(last);
    restoring.refused(&[], 1, &["the log is not whole"]);
    restoring.restore(&["--at", "1:5"]);
    fs::remove_file(restoring.file()).unwrap();
    let chunk = stored.first("chunks");
    let kept = fs::read(&chunk).unwrap();
    flip(&chunk);
    restoring.refused(&["--at", "1:5"], 1, &["a chunk of the snapshot is damaged"]);
    remove(&chunk);
    restoring.refused(&["--at", "1:5"], 1, &["a chunk of the snapshot is not in the store"]);
    fs::write(&chunk, kept).unwrap();
    flip(&stored.first("epochs"));
    restoring.refused(&["--at", "1:5"], 1, &["an epoch's record is damaged"]);
}

#[test]
fn a_hole_in_the_store_is_no_end_of_the_log() {
    let stored = Stored::usual();
    let restoring = from(&stored);
    let batches: Vec<_> = stored.files("batches").into_values().collect();
    let hole = &batches[batches.len() - 2];
    let kept = fs::read(hole).unwrap();
    remove(hole);
    let last = ["--at", "1:5"];
    for arguments in [&[][..], &last, &["--at", "5"], &["--at", "2100-01-01T00:00:00Z"]] {
        restoring.refused(arguments, 1, &["the log is not whole", "found=`"]);
    }
    fs::write(hole, kept).unwrap();
    let restored = restoring.restore(&last);
    assert_eq!(restored["state"], stored.state(), "{restored}");
}

#[test]
fn a_signal_ends_it_and_leaves_nothing() {
    let stored = Stored::usual();
    let restoring = from(&stored);
    // A store that does not answer is asked again for as long as it takes: before the replay, and within.
    let batches: Vec<_> = stored.files("batches").into_values().collect();
    for batch in [&batches[0], batches.last().unwrap()] {
        let kept = fs::read(batch).unwrap();
        remove(batch);
        std::os::unix::fs::symlink(batch, batch).unwrap();
        let mut child = restoring.command(&[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(errors.any(|line| line.unwrap().contains("the store does not answer")));
        signal(child.id(), "INT");
        assert!(errors.any(|line| line.unwrap().contains("ended as asked")));
        assert_eq!(child.wait().unwrap().code(), Some(5));
        assert_eq!(restoring.names(), [""; 0]);
        remove(batch);
        fs::write(batch, kept).unwrap();
    }
}
