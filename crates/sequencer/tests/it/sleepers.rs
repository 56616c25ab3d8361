//! A leader that stands still while another one takes over, and wakes with requests waiting in it: nothing of it is stored behind the other
//! one's fence, whatever it had signed, cut or sent when it fell asleep, and whatever it signs when it wakes.
//!
//! It falls asleep at a random time, or in turn at one of the places where something is half done. Who took over is the next to sleep.
//!
//! ```sh
//! SYNDDB_SLEEPERS=100 SYNDDB_SLEEPERS_SEED=1 cargo test --release -p synddb-sequencer --test it sleepers -- --nocapture
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use synddb_protocol::http::Reason;
use synddb_protocol::id::Sequence;
use synddb_protocol::log::Entry;

use crate::killed::Process;
use crate::sample::{Reader, STREAM};
use crate::server::{file_store, http};
use crate::takeover::{
    Outbox, Promises, Said, begin, chance, configure, is_stopped, make_key, number, pass_time, send,
    send_all, signal, stored, submit, until,
};

/// How many sleep, unless the environment says.
const SLEEPERS: u64 = 5;

/// Where a sleeper falls asleep. It does the rest when it wakes.
const PLACES: [&str; 8] = [
    "group written",
    "group committed",
    "answered",
    "cut",
    "cut journalled",
    "put sent",
    "put answered",
    "marked",
];

/// The time that a process comes by such a place: it must have taken over before.
const TIMES: std::ops::Range<u64> = 40..80;

/// Requests that wait in a sleeper.
const WAITING: u64 = 4;

/// How many refusals are heard until a leader counts as deposed for good.
const REFUSALS: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_sleeper_is_stored_behind_the_fence_of_who_took_over() {
    let sleepers = number("SYNDDB_SLEEPERS", SLEEPERS);
    let seed = number("SYNDDB_SLEEPERS_SEED", 1);
    let begun = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let (http, mut random) = (http(), chance(seed));
    let outbox = Outbox::new(seed);
    let mut keys = vec![make_key(folder.path(), "0", &mut random)];
    let mut promises = Promises::default();
    let mut leader = Arc::new(Process::start(&configure(folder.path(), "0", "0", 2, &[])));
    begin(&leader, &http).await;
    let (mut next, mut place, mut at_places, mut waited) = (1, None, 0, 0);
    for round in 1..=sleepers {
        // It is under load until it refuses for good.
        let loading = {
            let (leader, http, outbox) = (Arc::clone(&leader), http.clone(), Arc::clone(&outbox));
            tokio::spawn(async move {
                send(&leader, &http, &outbox, next, None, |sent| sent.refused >= REFUSALS).await
            })
        };
        match place {
            Some(_) => until("the place where it falls asleep", || is_stopped(&leader)).await,
            None => {
                pass_time(Duration::from_micros(random.random_range(0..200_000))).await;
                signal(&leader, "STOP");
                until("sleep", || is_stopped(&leader)).await;
            }
        }
        let waiting: Vec<_> = (0..WAITING)
            .map(|further| {
                let (leader, http) = (Arc::clone(&leader), http.clone());
                let body = {
                    let mut outbox = outbox.lock().unwrap();
                    let last = outbox.len().max(1);
                    outbox.body(last + further, 1)
                };
                tokio::spawn(async move { submit(&leader, &http, body).await })
            })
            .collect();

        let name = round.to_string();
        let key = make_key(folder.path(), &name, &mut random);
        let file = configure(folder.path(), &name, &name, 2, &keys);
        keys.push(key);
        // The last one does not sleep.
        let next_place = (round % 2 == 1 && round < sleepers)
            .then(|| PLACES[usize::try_from(round / 2).unwrap() % PLACES.len()]);
        let other = match next_place {
            Some(place) => {
                let at = format!("{place}@{}", random.random_range(TIMES));
                Process::start_with(&file, "SYNDDB_STOP_AT", &at)
            }
            None => Process::start(&file),
        };
        let wanted = random.random_range(1..9);
        // It says itself where it goes on.
        let newest = outbox.lock().unwrap().len();
        let sent = send(&other, &http, &outbox, newest, None, |sent| sent.taken >= wanted).await;
        if random.random_bool(0.5) {
            stored(&other, &http, sent.last_place().unwrap()).await;
        }
        promises.add(&sent.promised);

        signal(&leader, "CONT");
        let dreamt = loading.await.unwrap();
        assert!(dreamt.refused >= REFUSALS && !dreamt.is_resumed, "it leads again: {dreamt:?}");
        promises.add(&dreamt.promised);
        for answer in waiting {
            waited += 1;
            match answer.await.unwrap() {
                Said::Taken(receipts) | Said::Known(receipts) => promises.add(&receipts),
                Said::Refused(Reason::NotLeading | Reason::Gap { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        // Asked again it has not changed its mind, and the other one leads.
        let body = outbox.lock().unwrap().body(sent.next, 1);
        assert!(matches!(submit(&leader, &http, body).await, Said::Refused(Reason::NotLeading)));
        println!(
            "sleeper {round}: {}, {} promises by it, {} by all",
            place.unwrap_or("at a random time"),
            dreamt.promised.len(),
            promises.len()
        );
        at_places += u64::from(place.is_some());
        (leader, next, place) = (Arc::new(other), sent.next, next_place);
    }

    // What nobody stored is in the outbox still.
    promises.add(&send_all(&leader, &http, &outbox, next).await.promised);
    drop(leader);
    let store = file_store(folder.path()).await;
    let log = Reader::read(&store, STREAM, &keys).await;
    let commits: Vec<_> = log.commits().into_iter().map(|(number, digest, _)| (number, digest)).collect();
    assert_eq!(commits, outbox.lock().unwrap().expected(), "each commit is stored once, as it was sent");

    // Behind a fence everything is of who made it.
    let mut fences: Vec<(Sequence, _)> = Vec::new();
    for message in &log.messages {
        let header = message.header();
        if matches!(message.entry(), Entry::Epoch(_)) {
            fences.push((header.sequence, header.epoch));
        }
        let (_, epoch) = *fences.last().unwrap();
        let key = keys.iter().find(|key| key.id() == message.receipt().key());
        assert!(header.epoch == epoch && key.is_some(), "{header:?}");
    }
    let promised = promises.len();
    let broken = promises.broken(&log.messages);
    for receipt in &broken {
        let header = receipt.header();
        let fence = fences.iter().find(|(_, epoch)| *epoch > header.epoch);
        assert!(
            fence.is_some_and(|(fence, _)| *fence <= header.sequence),
            "nobody came in between: {header:?}"
        );
    }
    println!(
        "seed {seed}: {sleepers} sleepers, {at_places} of them at a place, {waited} requests waited in them; {promised} promises, {} of them \
         by sleepers and never stored; {} messages stored, {} commits each once; {:.1} s",
        broken.len(),
        log.messages.len(),
        commits.len(),
        begun.elapsed().as_secs_f64()
    );
    assert!(!broken.is_empty(), "no sleeper promised anything");
}
