//! What a restore takes of a log, and what it refuses: parts, several commits in one message, times, incarnations. That what it makes equals the
//! application's database is in `crates/cli/tests/it/restore`.

use std::fs;
use std::path::PathBuf;

use synddb_protocol::hash::StateHash;
use synddb_protocol::id::{CommitNumber, IncarnationCounter, Sequence, Timestamp};
use synddb_protocol::submission::{Commit, Commits, Content, StateClaim};
use synddb_service::shutdown::Shutdown;
use synddb_sqlite::rusqlite;
use synddb_validator::Mode;
use synddb_validator::restore::{self, At, Problem, Question, Restored};

use super::log::{Log, batch_key};

const SETUP: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t(v) VALUES(1), (2)";

fn file(log: &Log) -> PathBuf {
    log.folder.path().join("restored.db")
}

async fn restored(log: &Log, at: At) -> Result<Restored, Problem> {
    let config = log.config(Mode::Once);
    let (store, stream, keys) = (config.store, config.stream, config.sequencer_keys);
    let question = Question { store, stream, keys, at, file: file(log) };
    let restored = restore::run(question, Shutdown::new(), |_| {}).await;
    assert_eq!(file(log).exists(), restored.is_ok());
    let entries = fs::read_dir(log.folder.path()).unwrap();
    let left = |name: &String| name.starts_with("restored.db") && name != "restored.db";
    let left: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).filter(left).collect();
    assert_eq!(left, [""; 0]);
    restored
}

/// What is restored, and how many rows it has. The file is gone afterwards.
async fn rows(log: &Log, at: At) -> (Restored, u64) {
    let restored = restored(log, at).await.unwrap();
    let sqlite = rusqlite::Connection::open(file(log)).unwrap();
    let rows: i64 = sqlite.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    drop(sqlite);
    fs::remove_file(file(log)).unwrap();
    (restored, rows.cast_unsigned())
}

fn commit(number: u64) -> Option<CommitNumber> {
    Some(CommitNumber::new(number).unwrap())
}

fn of(incarnation: u64, commit: Option<CommitNumber>) -> At {
    At::Commit { incarnation: Some(IncarnationCounter::new(incarnation).unwrap()), commit }
}

fn sequence(number: u64) -> Sequence {
    Sequence::new(number).unwrap()
}

/// Log time of a message, as `Log` gives it.
fn time(message: u64) -> Timestamp {
    Timestamp::from_ms(1_767_225_600_000 + message).unwrap()
}

/// Commits in one submission, of which only the last says what it leads to.
fn together(contents: Vec<Content>, claim: Option<StateHash>) -> Content {
    let commits: Vec<Commit> = contents
        .into_iter()
        .flat_map(|content| match content {
            Content::Commits(commits) => commits.as_slice().to_vec(),
            Content::Part(part) => panic!("{part:?}"),
        })
        .collect();
    let (first, last) = (commits[0].clone(), commits.last().unwrap().clone());
    let claim = claim.map_or(last.state.unwrap(), |state| StateClaim { state, scanned: None });
    let changes = commits.into_iter().map(|commit| (commit.kind, commit.changes)).collect();
    Content::Commits(Commits::link(first.number, first.prev, changes, claim).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_inside_of_a_submission_is_proven_by_the_rest() {
    let mut log = Log::begin(SETUP).await;
    let four = "INSERT INTO t(v) VALUES(3); CREATE TABLE u(a); INSERT INTO t(v) VALUES(4); DELETE FROM t WHERE id < 3;";
    let contents = log.capture(four);
    let states: Vec<StateHash> = contents
        .iter()
        .map(|content| match content {
            Content::Commits(commits) => commits.state(),
            Content::Part(part) => panic!("{part:?}"),
        })
        .collect();
    let content = together(contents, None);
    log.submit_edited(content);
    log.publish().await;
    for (number, expected) in [(1, 3), (2, 3), (3, 4), (4, 2)] {
        let (restored, rows) = rows(&log, of(1, commit(number))).await;
        assert_eq!((restored.commit, rows), (commit(number), expected));
        assert_eq!(restored.state, states[usize::try_from(number).unwrap() - 1]);
        assert_eq!((restored.is_claimed, restored.sequence), (number == 4, sequence(3)));
    }

    // A claim that is not met refuses every state that it is the only one to vouch for.
    let contents = log.capture("INSERT INTO t(v) VALUES(5); INSERT INTO t(v) VALUES(6)");
    log.submit_edited(together(contents, Some(StateHash::from_bytes([9; 32]))));
    log.publish().await;
    for number in [5, 6] {
        let problem = restored(&log, of(1, commit(number))).await.unwrap_err();
        assert!(problem.is_of_log() && !problem.is_refusal(), "{problem:?}");
    }
    assert_eq!(rows(&log, of(1, commit(4))).await.1, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_counts_when_its_last_part_is_there() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES(3)");
    log.publish().await;
    log.cut_parts(100_000);
    let mut parts = log.capture("INSERT INTO t(v) VALUES(randomblob(250000))");
    let last = parts.pop().unwrap();
    for part in parts {
        log.submit(part);
        log.publish().await;
    }
    let end = log.last();
    let refused = restored(&log, At::Commit { incarnation: None, commit: commit(2) }).await.unwrap_err();
    assert!(
        matches!(refused, Problem::NoCommit { unfinished, .. } if unfinished == commit(2)),
        "{refused:?}"
    );
    for at in [At::Newest, At::Message(end), At::Time(time(end.get())), At::Message(sequence(4))] {
        let (restored, rows) = rows(&log, at).await;
        assert_eq!((restored.commit, restored.sequence, rows), (commit(1), sequence(3), 3), "{at}");
        assert_eq!(restored.unfinished, commit(2), "{at}");
    }
    log.submit(last);
    log.run("INSERT INTO t(v) VALUES(5)");
    let size = log.publish().await;
    let (restored, count) = rows(&log, of(1, commit(2))).await;
    assert_eq!((restored.unfinished, restored.is_claimed, count), (None, true, 4));
    assert_eq!(Some(restored.sequence), size.previous());
    // Until then it is as before: what came of it is not there.
    let (restored, count) = rows(&log, At::Message(end)).await;
    assert_eq!((restored.commit, restored.unfinished, restored.gap, count), (commit(1), commit(2), None, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_is_everything_that_was_in_the_log_by_then() {
    let mut log = Log::begin(SETUP).await;
    // Messages 3 to 6; the last one says that something before it was not captured.
    for value in 3..6 {
        log.run(&format!("INSERT INTO t(v) VALUES({value})"));
    }
    log.publish().await;
    log.reconcile("DELETE FROM t WHERE id = 1");
    log.publish().await;
    for message in 2..=6 {
        for at in [At::Time(time(message)), At::Message(sequence(message))] {
            let (restored, rows) = rows(&log, at).await;
            let expected = if message == 6 { 4 } else { message };
            assert_eq!((restored.sequence, rows), (sequence(message), expected), "{at}");
            assert_eq!(restored.timestamp, time(message));
            assert_eq!(restored.gap, (message == 5).then_some(sequence(6)), "{at}");
        }
    }
    // After the end it is the end; before the first snapshot there was nothing.
    assert_eq!(rows(&log, At::Time(time(1_000_000))).await.0.commit, commit(4));
    for at in [At::Time(time(1)), At::Time(Timestamp::ZERO), At::Message(sequence(1))] {
        let problem = restored(&log, at).await.unwrap_err();
        assert!(
            matches!(problem, Problem::TooEarly { sequence: first, timestamp, .. } if first == sequence(2) && timestamp == time(2)),
            "{problem:?}"
        );
    }
    let problem = restored(&log, At::Message(sequence(7))).await.unwrap_err();
    assert!(
        matches!(problem, Problem::NoMessage { size: Some(size), .. } if size == sequence(6)),
        "{problem:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_behind_a_state_does_not_concern_it() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES(3)");
    log.publish().await;
    log.run("INSERT INTO t(v) VALUES(4)");
    let last = log.publish().await;
    fs::write(log.object(&batch_key(last.get())), "no batch").unwrap();
    for at in [of(1, commit(1)), At::Message(sequence(3))] {
        assert_eq!(rows(&log, at).await.1, 3, "{at}");
    }
    // What is damaged may be of that time as well.
    for at in [At::Newest, of(1, commit(2)), At::Message(sequence(4)), At::Time(time(3))] {
        let problem = restored(&log, at).await.unwrap_err();
        assert!(problem.is_of_log(), "{problem:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_is_no_end() {
    let mut log = Log::begin(SETUP).await;
    // Messages 3 to 6, each in a batch of its own; message 5 is taken away.
    for value in 3..7 {
        log.run(&format!("INSERT INTO t(v) VALUES({value})"));
        log.publish().await;
    }
    fs::remove_file(log.object(&batch_key(5))).unwrap();
    let behind = |log: &Log| log.object(&batch_key(6));
    let newest = |number| At::Commit { incarnation: None, commit: commit(number) };
    let check = async |log: &Log| {
        let (end, later) = (At::Message(sequence(5)), At::Message(sequence(6)));
        for at in
            [At::Newest, At::Time(time(1000)), At::Time(time(4)), of(1, commit(3)), newest(3), end, later]
        {
            let problem = restored(log, at).await.unwrap_err();
            assert!(problem.is_of_log() && !problem.is_refusal(), "{at}: {problem:?}");
            let told = synddb_protocol::chain(&problem);
            assert!(told.contains("from=`5`") && told.contains("found=`6`"), "{at}: {told}");
        }
        // What stands before it is what it is.
        for at in [of(1, commit(2)), At::Message(sequence(4)), At::Time(time(3))] {
            let expected = if matches!(at, At::Time(_)) { 3 } else { 4 };
            assert_eq!(rows(log, at).await.1, expected, "{at}");
        }
    };
    check(&log).await;
    // It is the name that counts: a batch that nobody who is trusted signed, or that is none, ends no log either.
    fs::write(behind(&log), "no batch").unwrap();
    check(&log).await;
    // Without it the log ends there.
    fs::remove_file(behind(&log)).unwrap();
    assert_eq!(rows(&log, At::Newest).await.1, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_of_the_newest_incarnation_that_has_it() {
    let mut log = Log::begin(SETUP).await;
    for value in 3..7 {
        log.run(&format!("INSERT INTO t(v) VALUES({value})"));
    }
    log.cut_parts(100_000);
    let part = log.capture("INSERT INTO t(v) VALUES(randomblob(250000))").remove(0);
    log.submit(part);
    log.publish().await;
    // What came in parts is abandoned. Another page size shows that nothing of the file before is left.
    log.begin_anew("second.db", "PRAGMA page_size = 512; CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t(v) VALUES('put back')").await;
    log.run("INSERT INTO t(v) VALUES('second')");
    log.publish().await;
    log.run("INSERT INTO t(v) VALUES('third')");
    let end = log.publish().await;

    let newest = |number| At::Commit { incarnation: None, commit: number };
    let check = async |log: &Log| {
        for (at, incarnation, found, expected) in [
            (newest(commit(2)), 2, commit(2), 3),
            (newest(commit(1)), 2, commit(1), 2),
            (newest(commit(3)), 1, commit(3), 5),
            (newest(None), 2, None, 1),
            (of(1, None), 1, None, 2),
            (of(1, commit(1)), 1, commit(1), 3),
            (of(1, commit(4)), 1, commit(4), 6),
            (At::Newest, 2, commit(2), 3),
        ] {
            let (restored, rows) = rows(log, at).await;
            assert_eq!(
                (restored.incarnation.get(), restored.commit, rows),
                (incarnation, found, expected),
                "{at}"
            );
        }
        for (at, parts) in [
            (newest(commit(5)), None),
            (of(1, commit(5)), commit(5)),
            (of(2, commit(3)), None),
            (of(3, commit(1)), None),
            (of(3, None), None),
        ] {
            let problem = restored(log, at).await.unwrap_err();
            let Problem::NoCommit { found, unfinished, .. } = &problem else { panic!("{problem:?}") };
            assert!(problem.is_refusal());
            assert_eq!(*unfinished, parts, "{at}: {found}");
        }
    };
    check(&log).await;
    // At the time of the new snapshot it is the database, and just before it something was not captured.
    let begins = sequence(end.get() - 2);
    let (before, _) = rows(&log, At::Message(begins.previous().unwrap())).await;
    assert_eq!((before.commit, before.unfinished, before.gap), (commit(4), commit(5), Some(begins)));
    assert_eq!(rows(&log, At::Message(begins)).await.0.commit, None);
    // Where nothing can be listed, the log is read for it.
    let last = log.object(&batch_key(end.get()));
    fs::copy(&last, last.with_file_name("a name that is no key")).unwrap();
    check(&log).await;
}
