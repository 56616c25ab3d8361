//! A replica that begins from a snapshot knows who signed what is before it, so that a revocation means for it what it means for everybody.

use synddb_sqlite::rusqlite;
use synddb_validator::ValidatorError;

use super::*;
use crate::signers::{believing, is_revoked};

type Revoked = Option<(u8, u64, u64)>;

async fn run_as(log: &Log, name: &str, revoked: Revoked) -> Result<End, ValidatorError> {
    let Config { replica, from_snapshot, .. } = beginning(log, name);
    Running::start(Config { replica, from_snapshot, ..believing(log, revoked) }).end().await
}

/// Begins, comes to the end of the log, and says where it began.
async fn begun(log: &Log, name: &str, revoked: Revoked) -> Option<Sequence> {
    let end = run_as(log, name, revoked).await.unwrap();
    assert_eq!(end, End { sequence: Some(log.last()), state: Some(log.state()) });
    let replica = beginning(log, name).replica;
    let app = Path::new(log.app.path().unwrap());
    assert_eq!(synddb_sqlite::compare::first_difference(app, &replica).unwrap(), None);
    started(&replica).map(|(sequence, _)| sequence)
}

/// Who signed what, as a replica keeps it.
fn kept(log: &Log, name: &str) -> Vec<(i64, Vec<u8>, i64)> {
    let sqlite = rusqlite::Connection::open(beginning(log, name).replica).unwrap();
    let sql = "SELECT epoch, key, through FROM _synddb_signers ORDER BY epoch";
    let mut statement = sqlite.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

async fn take_as(log: &Log) -> Sequence {
    let mut running = Running::start(Config {
        mode: Mode::Follow,
        snapshots: taking(log, 1).snapshots,
        ..believing(log, None)
    });
    let taken = until_taken(&mut running, log.last()).await;
    running.stop().await.unwrap();
    taken
}

/// Stores so many batches of one commit.
async fn commits(log: &mut Log, count: u64) -> Sequence {
    for _ in 0..count {
        log.run("INSERT INTO t(v) VALUES(hex(randomblob(9)))");
        log.publish().await;
    }
    log.last()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_revoked_where_it_ended_takes_no_snapshot_with_it() {
    let mut log = Log::begin(SETUP).await;
    let first = commits(&mut log, 2).await;
    log.lead(2, 2).await;
    commits(&mut log, 3).await;
    let at = take_as(&log).await;
    log.run("DELETE FROM t WHERE id = 1");
    log.publish().await;
    assert_eq!(begun(&log, "exact.db", Some((1, 1, first.get()))).await, Some(at));
    // One that began before it is revoked goes on as well.
    assert_eq!(begun(&log, "before.db", None).await, Some(at));
    log.run("INSERT INTO t(v) VALUES('tail')");
    log.publish().await;
    assert_eq!(begun(&log, "before.db", Some((1, 1, first.get()))).await, Some(at));
    // Where it signed too much, nobody is fooled.
    let ended = run_as(&log, "before.db", Some((1, 1, first.get() - 1))).await;
    assert!(is_revoked(&ended), "{ended:?}");
    let ended = run_as(&log, "beyond.db", Some((1, 1, first.get() - 1))).await;
    assert!(matches!(ended, Err(ValidatorError::Halted { .. })), "{ended:?}");
    assert_eq!(started(&beginning(&log, "exact.db").replica).map(|(sequence, _)| sequence), Some(at));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_knows_what_a_replica_knows_that_read_everything() {
    let mut log = Log::begin(SETUP).await;
    let mut ends = vec![(1, 1, commits(&mut log, 7).await)];
    for (epoch, number, count) in [(2, 2, 1), (3, 1, 20), (5, 2, 0), (6, 2, 3), (7, 1, 9)] {
        if epoch == 5 {
            log.waste(4).await;
        }
        log.lead(epoch, number).await;
        // An epoch may begin in the middle of a batch that the next leader stores.
        if count > 0 {
            log.publish().await;
        }
        ends.push((epoch, number, commits(&mut log, count).await));
    }
    let at = take_as(&log).await;
    assert_eq!(begun(&log, "begun.db", None).await, Some(at));
    let Config { replica, .. } = beginning(&log, "read.db");
    Running::start(Config { replica, ..believing(&log, None) }).end().await.unwrap();
    assert_eq!(kept(&log, "begun.db"), kept(&log, "read.db"));
    assert_eq!(kept(&log, "begun.db").len(), ends.len());
    // Each key at its last place, and one message before it.
    for (number, (epoch, _, end)) in [(1, ends[5]), (2, ends[4])] {
        assert_eq!(begun(&log, "begun.db", Some((number, epoch, end.get()))).await, Some(at));
        let ended = run_as(&log, "begun.db", Some((number, epoch, end.get() - 1))).await;
        assert!(is_revoked(&ended), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_stored_any_more_is_not_known_and_an_older_snapshot_is_begun_from() {
    let mut log = Log::begin(SETUP).await;
    let first = commits(&mut log, 2).await;
    let older = take_as(&log).await;
    assert_eq!(older, first);
    log.lead(2, 2).await;
    commits(&mut log, 3).await;
    let newer = take_as(&log).await;
    commits(&mut log, 1).await;
    // Nobody can tell where the second epoch began.
    let fence = log.object(&crate::log::batch_key(first.get() + 1));
    let moved = log.folder.path().join("moved");
    std::fs::rename(&fence, &moved).unwrap();
    assert_eq!(begun(&log, "newest.db", None).await, Some(newer));
    let ended = run_as(&log, "newest.db", Some((1, 1, first.get()))).await;
    assert!(is_revoked(&ended), "{ended:?}");
    // The older one is not beyond: it is begun from, and what follows is waited for.
    let ended = run_as(&log, "older.db", Some((1, 1, first.get()))).await;
    assert_eq!(
        started(&beginning(&log, "older.db").replica).map(|(sequence, _)| sequence),
        Some(older),
        "{ended:?}"
    );
    std::fs::rename(&moved, &fence).unwrap();
    assert_eq!(begun(&log, "older.db", Some((1, 1, first.get()))).await, Some(older));
}
