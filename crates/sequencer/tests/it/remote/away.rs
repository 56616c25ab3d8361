//! A store that is away for a time, and comes back: no answer waits for it, publishing goes on by itself soon after, and a sequencer that is restarted
//! meanwhile waits for it.
//!
//! ```sh
//! SYNDDB_AWAY_SECONDS=600 cargo test --release -p synddb-sequencer --test it remote::away -- --nocapture
//! ```
//!
//! The time is real. By default it is as long as it takes until the waits between two attempts do not grow any more; from there on each hour is like the next.

use std::time::{Duration, Instant};

use synddb_protocol::http::Reason;
use synddb_servers::{Blackout, Platform};

use super::{Place, Sender, Sent, Settings, says, spread};
use crate::takeover::{PATIENCE, number, pass_time};

/// How long the store is away, in seconds, unless the environment says.
const AWAY_SECONDS: u64 = 14;

/// Rows of one commit, in bytes.
const ROWS: usize = 2000;

/// What may wait for the store, in bytes.
const BUDGET: u64 = 400_000;

/// The longest time between the return of a store and the next batch in it: the longest wait between two attempts, and a request that was on its way.
const RESUMES_WITHIN: Duration = Duration::from_secs(60);

fn away() -> Duration {
    Duration::from_secs(number("SYNDDB_AWAY_SECONDS", AWAY_SECONDS))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_waits_for_a_store_that_says_nothing() {
    stays_away(Blackout::Silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_waits_for_a_store_that_refuses_every_connection() {
    stays_away(Blackout::Refuses).await;
}

async fn stays_away(how: Blackout) {
    let Some(place) = Place::start(Platform::S3, 1) else { return };
    let mut sequencer = place.sequencer(&Settings { journal_bytes_max: BUDGET, ..Settings::default() });
    let mut sender = Sender::new(1, &sequencer.base);
    sender.begin().await;
    for _ in 0..50 {
        sender.send_until_taken(ROWS).await;
    }
    sender.stored(PATIENCE).await;
    let before = std::mem::take(&mut sender.took);

    place.proxy.black_out(Some(how));
    let (gone, asked) = (Instant::now(), place.proxy.counts().total());
    // Until the disk budget is used.
    let refusal = loop {
        match sender.send(ROWS).await {
            Sent::Taken => assert!(sender.took.len() < 10_000, "it takes more than it may"),
            Sent::Refused(reason) => break reason,
            Sent::Nobody => panic!("nobody answers"),
        }
    };
    assert_eq!(refusal, Reason::DiskFull);
    let (taken, used_up) = (sender.took.len(), gone.elapsed());
    assert!(taken > 50, "{taken} were taken while the store was away");
    says(&sequencer.base, Some("the store does not take a batch")).await;
    while gone.elapsed() < away() {
        assert_eq!(sender.send(ROWS).await, Sent::Refused(Reason::DiskFull));
        pass_time(Duration::from_millis(200)).await;
    }
    let requests = place.proxy.counts().total() - asked;
    assert!(sequencer.is_alive());

    place.proxy.black_out(None);
    let back = Instant::now();
    let during = std::mem::take(&mut sender.took);
    sender.send_until_taken(ROWS).await;
    let resumed = back.elapsed();
    assert!(resumed < RESUMES_WITHIN, "it took nothing for {resumed:?}");
    sender.stored(PATIENCE).await;
    says(&sequencer.base, None).await;
    sender.assert_held_by(&place.read(sender.stream()).await);
    let said = place.said();
    let lines = said.iter().filter(|line| line.contains("WARN")).count();
    assert!(lines <= 2 + usize::try_from(gone.elapsed().as_secs() / 30).unwrap(), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("the store takes batches again")), "{said:#?}");
    println!("{how:?} for {:.0?}: answered before: {}", away(), spread(&before));
    println!(
        "{how:?}: {taken} more taken until the budget was used, after {used_up:.1?}: {}",
        spread(&during)
    );
    println!(
        "{how:?}: {requests} requests meanwhile, {lines} warnings; back after {resumed:.1?}, and everything stored once"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_restarted_while_the_store_is_away_waits_and_leads_when_it_is_back() {
    for (platform, how) in [
        (Platform::Gcs, Blackout::Refuses),
        (Platform::S3, Blackout::Refuses),
        (Platform::Azure, Blackout::Refuses),
    ] {
        let Some(place) = Place::start(platform, 1) else { continue };
        let sequencer = place.sequencer(&Settings::default());
        let mut sender = Sender::new(1, &sequencer.base);
        sender.begin().await;
        sender.send_until_taken(ROWS).await;
        sender.stored(PATIENCE).await;
        place.proxy.black_out(Some(how));
        for _ in 0..10 {
            assert_eq!(sender.send(ROWS).await, Sent::Taken);
        }
        sequencer.kill();
        let mut sequencer = place.sequencer(&Settings::default());
        sender.base.clone_from(&sequencer.base);
        says(&sequencer.base, Some("the store does not answer")).await;
        assert_eq!(sender.send(ROWS).await, Sent::Refused(Reason::NotLeading));
        assert!(sequencer.is_alive());
        place.proxy.black_out(None);
        // Nobody asks for it.
        says(&sequencer.base, None).await;
        sender.send_until_taken(ROWS).await;
        sender.stored(PATIENCE).await;
        sender.assert_held_by(&place.read(sender.stream()).await);
        sequencer.kill();
    }
}
