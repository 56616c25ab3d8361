//! Beginning from a snapshot: the replica goes on as after a restart, and says where it began.

use synddb_protocol::http::ReplicaStatus;
use synddb_validator::{Config, Event, Mode, Start as Beginning};

use super::*;

async fn status(running: &mut Running) -> ReplicaStatus {
    serde_json::from_value(running.get_json("/status").await.1).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_begins_from_the_newest_and_follows_on() {
    let mut log = Log::begin(SETUP).await;
    log.run(GROW);
    log.publish().await;
    let at = take(&log).await;
    log.run("DELETE FROM t WHERE id % 3 = 0; UPDATE t SET v = v || '.' WHERE id % 7 = 0");
    log.publish().await;
    let listen = Some("127.0.0.1:0".parse().unwrap());
    let follow = || Config { mode: Mode::Follow, listen, ..beginning(&log, "begun.db") };
    let mut running = Running::start(follow());
    let events = running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let began = events.iter().find_map(|event| match event {
        Event::Began { sequence, signer, .. } => Some((*sequence, *signer)),
        _ => None,
    });
    assert_eq!(began.map(|(sequence, _)| sequence), Some(at));
    let told = status(&mut running).await;
    let started = told.started_from.clone().unwrap();
    assert_eq!((Some((started.sequence, started.signer)), told.sequence), (began, Some(log.last())));
    // Of what came before its snapshot it tells no changes, and says from where on it does.
    for from in [1, at.get()] {
        let (refused, problem) = running.get_json(&format!("/changes?from={from}")).await;
        assert_eq!(
            (refused, problem["code"].as_str(), problem["first"].as_u64()),
            (410, Some("not_kept"), Some(at.get() + 1)),
            "{problem}"
        );
    }
    running.stop().await.unwrap();
    // It is said until it is checked, also after a restart and behind another incarnation.
    let config = follow();
    let replica = config.replica.clone();
    log.begin_anew("anew.db", SETUP).await;
    log.publish().await;
    let mut running = Running::start(config);
    running.until_applied(log.last()).await;
    assert_eq!(status(&mut running).await.started_from, Some(started.clone()));
    log.run("INSERT INTO t(v) VALUES('tail')");
    let last = log.publish().await;
    running.until_applied(last).await;
    running.stop().await.unwrap();
    let app = Path::new(log.app.path().unwrap());
    assert_eq!(synddb_sqlite::compare::first_difference(app, &replica).unwrap(), None);
    let config = Config { replica: replica.clone(), listen, ..log.config(Mode::Follow) };
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    assert_eq!(status(&mut running).await.started_from, Some(started));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_begins_from_a_snapshot_when_it_may() {
    let mut log = Log::begin(SETUP).await;
    super::super::running::rebuild(&log).await;
    let at = take(&log).await;
    log.run("INSERT INTO t(v) VALUES(3)");
    log.publish().await;
    super::super::audited::shell(&log.replica(), "UPDATE t SET v = 'forged' WHERE id = 1");
    let resync = Beginning::Resync { discard: false };
    let config = Config { from_snapshot: FromSnapshot::Newest, ..log.config(Mode::Once) };
    Running::start_as(resync, config.clone()).end().await.unwrap();
    equal(&log);
    assert_eq!(started(&log.replica()).map(|(sequence, _)| sequence), Some(at));
    let kept = std::fs::read_dir(log.folder.path()).unwrap().flatten().filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("replica.db.replaced-") && !name.ends_with("-wal") && !name.ends_with("-shm")
    });
    assert_eq!(kept.count(), 1, "the one before is kept");
    // Where a replica is, none is begun from.
    Running::start(config).end().await.unwrap();
    let again = Beginning::Resync { discard: true };
    Running::start_as(again, log.config(Mode::Once)).end().await.unwrap();
    equal(&log);
    assert_eq!(started(&log.replica()), None, "it was replayed from the first message");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_behind_every_kind_of_message_and_leader_is_begun_from() {
    let mut log = Log::begin(SETUP).await;
    let mut places = Vec::new();
    places.push(take(&log).await);
    log.cut_parts(10_000);
    log.run(GROW);
    log.publish().await;
    places.push(take(&log).await);
    log.waste(2).await;
    log.lead(3, 1).await;
    log.run("CREATE TABLE more(a, b); INSERT INTO more VALUES(1, x'00')");
    log.publish().await;
    places.push(take(&log).await);
    log.snapshot_after().await;
    log.publish().await;
    places.push(take(&log).await);
    log.reconcile("DELETE FROM more; INSERT INTO t(v) VALUES(9)");
    log.publish().await;
    places.push(take(&log).await);
    log.run("INSERT INTO t(v) VALUES(10)");
    log.publish().await;
    let keys = stored(&log).await;
    assert_eq!(keys.len(), places.len());
    for (key, at) in keys.iter().zip(&places).rev() {
        let name = format!("begun{at}.db");
        assert_eq!(begin(&log, &name).await.map(|(sequence, _)| sequence), Some(*at));
        std::fs::remove_file(log.object(key)).unwrap();
    }
}
