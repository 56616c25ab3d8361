//! One endorsement for each place, ever, and none below what the store shows.

use synddb_protocol::log::{Quorum, SignedCheckpoint};
use synddb_protocol::signing::Domain;
use synddb_validator::gathered::{Trusting, newest};

use super::*;
use crate::running::{PATIENCE, equal};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_endorsed_is_what_the_log_claims_and_is_served() {
    let mut log = Log::begin(SETUP).await;
    let mut config = endorsing(&log, RULES);
    config.endorse.chain_id = 31_337;
    config.endorse.registry = Address::from_bytes([0xc0; 20]);
    let mut running = Running::start(config.clone());
    log.run("UPDATE balances SET amount = 3 WHERE account = 1");
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    let (code, served) = running.get_json("/endorsements").await;
    assert_eq!((code, &served["sequence"]), (200, &last.get().into()), "{served}");
    let (code, same) = running.get_json(&format!("/endorsements/{last}")).await;
    assert_eq!((code, same), (200, served.clone()));
    assert_eq!(running.get("/endorsements/999").await.0, 404);
    assert_eq!(running.get("/endorsements/x").await.0, 400);
    let stored = &stored(&log).await[&last];
    assert_eq!(served["endorsement"], format!("0x{}", hex::encode(stored.to_bytes())));
    assert_eq!(served["state"], log.state().to_string());
    let checkpoint: &SignedCheckpoint = &stored.endorsement().checkpoint;
    assert_eq!(checkpoint.claim().client.as_ref().unwrap().state, log.state());
    let quorum = Quorum::new([stored.recover().unwrap()], 1).unwrap();
    let trusting = Trusting {
        stream: STREAM,
        domain: Domain { chain_id: 31_337, contract: Address::from_bytes([0xc0; 20]) },
        quorum: &quorum,
    };
    let found = newest(&*log.store, trusting).await.unwrap().unwrap();
    assert_eq!((found.digest, found.has_quorum), (*stored.digest(), true));
    let nowhere = Trusting { domain: Domain::NONE, ..trusting };
    assert_eq!(newest(&*log.store, nowhere).await.unwrap(), None, "it is for a contract");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_from_an_old_image_of_its_disk_endorses_nothing_below_what_the_store_shows() {
    let mut log = Log::begin(SETUP).await;
    let config = endorsing(&log, RULES);
    let mut running = Running::start(config.clone());
    until_endorsed(&mut running, log.last()).await;
    running.stop().await.unwrap();
    let image = log.folder.path().join("image");
    std::fs::create_dir(&image).unwrap();
    let files = ["replica.db", "replica.db.endorsed.json", "endorse.key"];
    for file in files {
        std::fs::copy(log.folder.path().join(file), image.join(file)).unwrap();
    }
    let mut running = Running::start(config.clone());
    for amount in 1..4 {
        log.run(&format!("UPDATE balances SET amount = {amount} WHERE account = 1"));
        let last = log.publish().await;
        until_endorsed(&mut running, last).await;
    }
    running.stop().await.unwrap();
    let before = stored(&log).await;
    // Some batches more, which the image has not seen either.
    let mut places = Vec::new();
    for amount in 4..6 {
        log.run(&format!("UPDATE balances SET amount = {amount} WHERE account = 1"));
        places.push(log.publish().await);
    }
    for file in files {
        std::fs::copy(image.join(file), log.folder.path().join(file)).unwrap();
    }
    let mut running = Running::start(config.clone());
    until_endorsed(&mut running, places[1]).await;
    running.stop().await.unwrap();
    let after = stored(&log).await;
    for (sequence, endorsement) in &before {
        assert_eq!(after.get(sequence), Some(endorsement));
    }
    let new: Vec<_> = after.keys().filter(|sequence| !before.contains_key(sequence)).copied().collect();
    assert_eq!(new, places, "nothing was endorsed below");
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_that_is_used_twice_signs_no_place_twice() {
    let mut log = Log::begin(SETUP).await;
    let config = endorsing(&log, RULES);
    let mut running = Running::start(config.clone());
    until_endorsed(&mut running, log.last()).await;
    // The same key on another machine, for another contract: it would sign something else of the same places.
    let mut other = Config { replica: log.folder.path().join("other.db"), ..config.clone() };
    (other.endorse.chain_id, other.endorse.registry) = (1, Address::from_bytes([1; 20]));
    let mut other = Running::start(other);
    for amount in 1..9 {
        log.run(&format!("UPDATE balances SET amount = {amount} WHERE account = 1"));
        let last = log.publish().await;
        running.until_applied(last).await;
        other.until_applied(last).await;
    }
    let until = tokio::time::Instant::now() + PATIENCE;
    while stored(&log).await.last_key_value().map(|(sequence, _)| *sequence) != Some(log.last()) {
        assert!(tokio::time::Instant::now() < until);
        tokio::task::yield_now().await;
    }
    let (_, status) = other.get_json("/status").await;
    let stored = stored(&log).await;
    running.stop().await.unwrap();
    other.stop().await.unwrap();
    // `stored` has asserted that each place has one. Whoever came late says so.
    assert!(stored.len() >= 2, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_configuration_signs_nothing_else_of_a_place_that_is_endorsed() {
    let log = Log::begin(SETUP).await;
    let config = endorsing(&log, RULES);
    let mut running = Running::start(config.clone());
    until_endorsed(&mut running, log.last()).await;
    running.stop().await.unwrap();
    let before = stored(&log).await;
    let mut other = config;
    (other.endorse.chain_id, other.endorse.registry) = (1, Address::from_bytes([1; 20]));
    let mut running = Running::start(other);
    let failing = loop {
        let (_, status) = running.get_json("/status").await;
        if let Some(failing) = status["endorsing"]["failing"].as_str() {
            break failing.to_owned();
        }
        tokio::task::yield_now().await;
    };
    assert!(failing.contains("something else at this place"), "{failing}");
    running.stop().await.unwrap();
    assert_eq!(stored(&log).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_lays_into_the_store_stops_nobody() {
    let mut log = Log::begin(SETUP).await;
    let config = endorsing(&log, RULES);
    let mut running = Running::start(config.clone());
    until_endorsed(&mut running, log.last()).await;
    let validator = stored(&log).await.values().next().unwrap().recover().unwrap();
    // In the name of the validator, far ahead: it would never endorse again.
    let far = Sequence::new(1_000_000).unwrap();
    log.put(&Key::Endorsement { stream: STREAM, sequence: far, validator }, b"nothing".to_vec()).await;
    log.run("UPDATE balances SET amount = 3 WHERE account = 1");
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    // In its very place: what is meant is said, and the next one covers it.
    let sequence = last.next().unwrap();
    let squatted = Key::Endorsement { stream: STREAM, sequence, validator };
    log.put(&squatted, b"nothing".to_vec()).await;
    log.run("UPDATE balances SET amount = 4 WHERE account = 1");
    assert_eq!(log.publish().await, sequence);
    let failing = loop {
        let (_, status) = running.get_json("/status").await;
        if let Some(failing) = status["endorsing"]["failing"].as_str() {
            break failing.to_owned();
        }
        tokio::task::yield_now().await;
    };
    assert!(failing.contains("no endorsement lies in the store"), "{failing}");
    log.run("UPDATE balances SET amount = 5 WHERE account = 1");
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    running.stop().await.unwrap();
    assert_eq!(log.store.get(&squatted).await.unwrap().unwrap().as_ref(), b"nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_endorsed_below_what_a_predecessor_has() {
    let mut log = Log::begin(SETUP).await;
    let config = endorsing(&log, RULES);
    let mut running = Running::start(config.clone());
    log.run("UPDATE balances SET amount = 3 WHERE account = 1");
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    running.stop().await.unwrap();
    let before = stored(&log).await;
    let predecessor = before[&last].recover();
    let mut next = Config { replica: log.folder.path().join("next.db"), ..config };
    next.endorse.key_file = log.folder.path().join("next.key");
    next.endorse.predecessor = predecessor;
    let mut running = Running::start(next);
    running.until_applied(last).await;
    log.run("UPDATE balances SET amount = 4 WHERE account = 1");
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    running.stop().await.unwrap();
    let after = stored(&log).await;
    assert_eq!(after.len(), before.len() + 1, "the places of the predecessor have one endorsement each");
    assert_ne!(after[&last].recover(), predecessor);
}
