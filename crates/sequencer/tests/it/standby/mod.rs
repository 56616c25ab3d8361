//! Sequencers with leases, as processes over one store of files: one leads, the other takes over, and the log never notices.

mod buckets;
mod kept;
mod sender;
mod untold;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use synddb_protocol::id::Epoch;
use synddb_protocol::log::Entry;
use synddb_protocol::signing::VerifyingKey;
use synddb_service::secret::write_new_secret;
use synddb_storage::{BatchStore, LeaseName};

use self::sender::{Sender, get, kill_under_load, ms, pause, readiness, stands_by};
use crate::killed::Process;
use crate::sample::{Reader, STREAM, key};
use crate::server::{credentials, file_store};

/// How long anything is waited for, on a machine that does much else.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A bound that no loaded machine breaks. The aim is 5 seconds, and each test prints what it took.
const TAKEOVER_MAX: Duration = Duration::from_secs(30);

/// The two sequencers, and the seeds of their keys.
const NAMES: [(&str, u8); 2] = [("one", 11), ("two", 12)];

/// How many leaders are killed in turn.
const ROUNDS: usize = 3;

fn keys() -> Vec<VerifyingKey> {
    NAMES.map(|(_, seed)| *key(seed).verifying_key()).into()
}

/// Writes the configuration of one of the two, who trust each other, over a store of files.
fn configure(folder: &Path, name: &str, role: &str, more: &str) -> PathBuf {
    let store = format!("file://{}/store", folder.display());
    configure_over(&store, folder, name, role, more)
}

/// The same over any store.
fn configure_over(store: &str, folder: &Path, name: &str, role: &str, more: &str) -> PathBuf {
    credentials(folder);
    for (name, seed) in NAMES {
        let file = folder.join(format!("{name}.key"));
        if !file.exists() {
            write_new_secret(&file, &hex::encode([seed; 32])).unwrap();
        }
    }
    let trusted = keys().iter().map(|key| format!("\"{key}\"")).collect::<Vec<_>>().join(", ");
    let at = folder.display();
    let text = format!(
        "listen = \"127.0.0.1:0\"\nstore = \"{store}\"\ndir = \"{at}/{name}\"\ncredentials_file = \"{at}/credentials.toml\"\n\
         key_file = \"{at}/{name}.key\"\ntrusted_keys = [{trusted}]\nrole = \"{role}\"\n{more}\n"
    );
    let file = folder.join(format!("{name}-{role}.toml"));
    std::fs::write(&file, text).unwrap();
    file
}

/// Batches that leave something unstored whenever a leader is stopped, and the times of leases as they are by default.
const USUAL: &str = "[batch]\nage_ms = 100";

/// A patience that a busy machine does not try.
const CALM: &str = "[batch]\nage_ms = 100\n[lease]\nheartbeat_ms = 100\npatience_ms = 5000";

/// A patience that never ends within a test.
const PATIENT: &str = "[batch]\nage_ms = 100\n[lease]\nheartbeat_ms = 100\npatience_ms = 600000";

/// What the lease says now.
fn lease(folder: &Path) -> serde_json::Value {
    let bytes = std::fs::read(folder.join("store").join(LeaseName(STREAM).to_string())).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// Reads the whole log, which must hold every commit once, and returns the epochs that led it.
async fn read_log(folder: &Path, commits: u64) -> BTreeSet<Epoch> {
    read_log_of(file_store(folder).await, commits).await
}

async fn read_log_of(store: Arc<dyn BatchStore>, commits: u64) -> BTreeSet<Epoch> {
    let log = Reader::read(&store, STREAM, &keys()).await;
    let numbers: Vec<u64> = log.commits().iter().map(|(number, ..)| *number).collect();
    assert_eq!(numbers, Vec::from_iter(1..=commits), "each commit is stored exactly once, in order");
    let led = log.messages.iter().filter(|message| matches!(message.entry(), Entry::Epoch(_)));
    led.map(|message| message.header().epoch).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_from_a_killed_leader_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let one = Process::start(&configure(folder.path(), "one", "leader", USUAL));
    let two = Process::start(&configure(folder.path(), "two", "standby", USUAL));
    let mut sender = Sender::new();
    sender.begin(&[&one]).await;
    stands_by(&sender.http, &two, &one).await;
    let took = kill_under_load(&mut sender, &one, &two, 200).await;
    println!("from the kill to the next accepted submission: {}; sent again: {}", ms(took), sender.resent);
    assert!(took < TAKEOVER_MAX);
    assert_eq!(readiness(&sender.http, &two).await.0, 200);
    drop(one);

    // Started again to stand by, the old one leaves the new one alone.
    let one = Process::start(&configure(folder.path(), "one", "standby", PATIENT));
    stands_by(&sender.http, &one, &two).await;
    sender.send(&[&one, &two], 100).await;
    sender.finish(&[&one, &two]).await;
    stands_by(&sender.http, &one, &two).await;
    let epochs = read_log(folder.path(), sender.commits()).await;
    assert_eq!(epochs.len(), 2, "{epochs:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_standbys_exactly_one_leads_whoever_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let files = NAMES.map(|(name, _)| configure(folder.path(), name, "standby", CALM));
    let mut processes = files.each_ref().map(|file| Process::start(file));
    let mut sender = Sender::new();
    let [one, two] = &processes;
    sender.begin(&[one, two]).await;
    for round in 1..=ROUNDS {
        let [one, two] = &processes;
        sender.send(&[one, two], 20).await;
        let ready = [readiness(&sender.http, one).await.0, readiness(&sender.http, two).await.0];
        let leader = ready.iter().position(|status| *status == 200).unwrap();
        let (killed, left) = (&processes[leader], &processes[1 - leader]);
        assert_eq!(ready[1 - leader], 503, "one leads, the other does not");
        stands_by(&sender.http, left, killed).await;
        let took = kill_under_load(&mut sender, killed, left, 60).await;
        println!("round {round}, patience 5 s: from the kill to the next accepted submission: {}", ms(took));
        assert!(took < TAKEOVER_MAX);
        processes[leader] = Process::start(&files[leader]);
    }
    let [one, two] = &processes;
    sender.finish(&[one, two]).await;
    let epochs = read_log(folder.path(), sender.commits()).await;
    assert_eq!(epochs.len(), ROUNDS + 1, "nobody else ever led: {epochs:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderly_end_hands_over_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let one = Process::start(&configure(folder.path(), "one", "leader", PATIENT));
    let two = Process::start(&configure(folder.path(), "two", "standby", PATIENT));
    let mut sender = Sender::new();
    sender.begin(&[&one]).await;
    stands_by(&sender.http, &two, &one).await;
    sender.send(&[&one], 50).await;
    assert_eq!(lease(folder.path())["state"], "held");

    let asked = Instant::now();
    one.signal(Signal::TERM);
    one.end();
    let ended = Instant::now();
    // Patience is ten minutes: only a released lease is taken in less.
    let accepted = sender.send(&[&two], 50).await[0].1;
    println!("drained in {}, taken over {} later", ms(ended - asked), ms(accepted - ended));
    assert!(accepted - asked < WAIT_MAX);
    assert_eq!(sender.resent, 0, "what the old one accepted, it stored before it ended");
    sender.finish(&[&two]).await;
    assert_eq!(read_log(folder.path(), sender.commits()).await.len(), 2);
    two.signal(Signal::TERM);
    two.end();
    assert_eq!(lease(folder.path())["state"], "released");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_does_nothing_while_the_lease_changes() {
    let folder = tempfile::tempdir().unwrap();
    let leasing = "[batch]\nage_ms = 2\n[lease]\nheartbeat_ms = 100\npatience_ms = 4000";
    let one = Process::start(&configure(folder.path(), "one", "leader", leasing));
    let two = Process::start(&configure(folder.path(), "two", "standby", leasing));
    let mut sender = Sender::new();
    sender.begin(&[&one]).await;
    stands_by(&sender.http, &two, &one).await;
    // Long behind patience nothing was stored, and the leader lives.
    let beats = |lease: &serde_json::Value| lease["counter"].as_u64().unwrap();
    let (begun, until) = (beats(&lease(folder.path())), Instant::now() + WAIT_MAX);
    while beats(&lease(folder.path())) < begun + 100 {
        assert!(Instant::now() < until, "the leader does not beat");
        pause(&sender.http, &one).await;
    }
    let (status, why) = readiness(&sender.http, &two).await;
    assert!(status == 503 && why.contains("standing by"), "{status}: {why}");
    assert_eq!(readiness(&sender.http, &one).await.0, 200);
    let refused = two.post(&sender.http, "submit", Vec::new()).await.unwrap();
    assert_eq!(refused.0, 400, "what it cannot read it refuses as everybody does");
    sender.send(&[&one], 1).await;

    // No clock of one machine reaches the other: a lease says no time.
    let held = lease(folder.path());
    let members: Vec<&str> = held.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["counter", "epoch", "holder", "key_id", "state", "stream", "url"]);
    assert_eq!((&held["epoch"], &held["state"]), (&1.into(), &"held".into()));
    assert_eq!(held["key_id"], key(NAMES[0].1).id().to_string());
    sender.finish(&[&one]).await;
    assert_eq!(read_log(folder.path(), sender.commits()).await.len(), 1);
}

/// Stops a leader while it has something that is not stored, has it replaced, and lets it go on.
async fn sleep_through_a_takeover(sender: &mut Sender, sleeper: &Process, other: &Process) {
    sender.send(&[sleeper], 20).await;
    sleeper.signal(Signal::STOP);
    sender.send(&[other], 20).await;
    assert!(sender.resent > 0, "everything was stored before it was stopped: nothing is tested");
    sender.finish(&[other]).await;
    sleeper.signal(Signal::CONT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_slept_while_it_was_replaced_stores_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let slow = "[batch]\nage_ms = 1000";
    let one = Process::start(&configure(folder.path(), "one", "leader", slow));
    let two = Process::start(&configure(folder.path(), "two", "standby", USUAL));
    let mut sender = Sender::new();
    sender.begin(&[&one]).await;
    stands_by(&sender.http, &two, &one).await;
    sleep_through_a_takeover(&mut sender, &one, &two).await;
    let until = Instant::now() + WAIT_MAX;
    loop {
        let (status, why) = readiness(&sender.http, &one).await;
        if status == 503 && why.contains("is led by another sequencer") {
            break;
        }
        assert!(Instant::now() < until, "it did not learn of the other one: {status} {why}");
        pause(&sender.http, &one).await;
    }
    // It takes nothing, and the other one goes on undisturbed.
    sender.send(&[&one, &two], 20).await;
    sender.finish(&[&two]).await;
    assert_eq!(get(&sender.http, &one, "status").await.unwrap().0, 200, "it still shows what it knows");
    assert_eq!(read_log(folder.path(), sender.commits()).await.len(), 2);
    assert_eq!(lease(folder.path())["key_id"], key(NAMES[1].1).id().to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_standby_stands_by_again_and_takes_over_when_its_turn_comes() {
    let folder = tempfile::tempdir().unwrap();
    let slow = "[batch]\nage_ms = 1000\n[lease]\nheartbeat_ms = 100\npatience_ms = 5000";
    let one = Process::start(&configure(folder.path(), "one", "standby", slow));
    let mut sender = Sender::new();
    sender.begin(&[&one]).await;
    let two = Process::start(&configure(folder.path(), "two", "standby", CALM));
    stands_by(&sender.http, &two, &one).await;
    sleep_through_a_takeover(&mut sender, &one, &two).await;
    stands_by(&sender.http, &one, &two).await;
    kill_under_load(&mut sender, &two, &one, 60).await;
    sender.finish(&[&one]).await;
    assert_eq!(read_log(folder.path(), sender.commits()).await.len(), 3);
}

/// Agents believe one key, so both may have it. Then no signature tells one from the other: journals, epochs and leases do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sequencers_may_have_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let (_, seed) = NAMES[0];
    write_new_secret(&folder.path().join("two.key"), &hex::encode([seed; 32])).unwrap();
    let slow = "[batch]\nage_ms = 1000\n[lease]\nheartbeat_ms = 100\npatience_ms = 5000";
    let one = Process::start(&configure(folder.path(), "one", "standby", slow));
    let mut sender = Sender::new();
    sender.begin(&[&one]).await;
    let two = Process::start(&configure(folder.path(), "two", "standby", CALM));
    stands_by(&sender.http, &two, &one).await;
    sleep_through_a_takeover(&mut sender, &one, &two).await;
    stands_by(&sender.http, &one, &two).await;
    kill_under_load(&mut sender, &two, &one, 60).await;
    drop(two);
    let two = Process::start(&configure(folder.path(), "two", "standby", CALM));
    stands_by(&sender.http, &two, &one).await;
    sender.finish(&[&one, &two]).await;
    assert_eq!(read_log(folder.path(), sender.commits()).await.len(), 3);
    assert_eq!(lease(folder.path())["key_id"], key(seed).id().to_string());
}
