//! A replica that began with a snapshot vouches for nothing alone.

use synddb_validator::{FromSnapshot, SnapshotsConfig};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn who_began_with_a_snapshot_endorses_only_what_a_quorum_has() {
    let mut log = Log::begin(SETUP).await;
    let mut config = endorsing(&log, RULES);
    let key_file = log.folder.path().join("snapshots.key");
    config.snapshots = SnapshotsConfig { every_messages: 1, every_ms: 0, key_file };
    let mut running = Running::start(config.clone());
    let (mut snapshot, mut endorsed) = (false, false);
    while !(snapshot && endorsed) {
        match running.next().await {
            Event::Snapshot { .. } => snapshot = true,
            Event::Endorsed { .. } => endorsed = true,
            _ => {}
        }
    }
    running.stop().await.unwrap();
    let witness = stored(&log).await.values().next().unwrap().recover().unwrap();

    let mut late = Config { replica: log.folder.path().join("late.db"), ..endorsing(&log, RULES) };
    late.endorse.key_file = log.folder.path().join("late.key");
    late.from_snapshot = FromSnapshot::Newest;
    let mut running = Running::start(late.clone());
    running.until(|event| matches!(event, Event::Began { .. })).await;
    let failing = loop {
        let (_, status) = running.get_json("/status").await;
        if let Some(failing) = status["endorsing"]["failing"].as_str() {
            break failing.to_owned();
        }
        tokio::task::yield_now().await;
    };
    assert!(failing.contains("verify --full"), "{failing}");
    log.run("UPDATE balances SET amount = 3 WHERE account = 1");
    let last = log.publish().await;
    running.until_applied(last).await;
    running.stop().await.unwrap();
    let own = SigningKey::from_bytes(key_of(&late.endorse.key_file)).unwrap().id();
    assert!(stored(&log).await.values().all(|endorsement| endorsement.recover() != Some(own)));

    // With others whom it believes, it does.
    (late.endorse.validators, late.endorse.threshold) = (vec![witness], 1);
    let mut running = Running::start(late);
    until_endorsed(&mut running, last).await;
    running.stop().await.unwrap();
}

fn key_of(file: &Path) -> [u8; 32] {
    let text = std::fs::read_to_string(file).unwrap();
    hex::decode(text.trim().trim_start_matches("0x")).unwrap().try_into().unwrap()
}
