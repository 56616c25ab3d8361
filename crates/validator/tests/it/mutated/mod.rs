//! A stored log is changed at random, by whoever keeps the store, by strangers, and by whoever leads: a reader takes nothing of it that it must not.
//!
//! What a reader must do with a mutation is known from how it was made, and never from what the reader did. `SYNDDB_MUTATIONS` says how many are
//! made, `SYNDDB_MUTATIONS_SEED` where the numbers begin.

mod lying;
mod stored;
mod world;

use std::collections::BTreeMap;

use futures::StreamExt as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use synddb_protocol::log::Equivocation;
use synddb_validator::{End, ValidatorError};

use crate::flipped::{Objects, kind};
use world::World;
pub(crate) use world::{Cut, Said, pack, publish};

/// How many are made unless somebody says more.
const MUTATIONS: u64 = 400;
/// How many readers read at a time.
const READERS: usize = 2;
/// How often a mutation is tried to be made that some draws make impossible.
const DRAWS_MAX: usize = 100;

/// A changed log, and what a reader of it must do.
struct Mutant {
    objects: Objects,
    /// Behind how many batches of the honest log the reader's replica stands; none when it is 0.
    stands: usize,
    expected: Expected,
    /// Where two histories are signed: the proof of it.
    equivocation: Option<Equivocation>,
}

/// What a reader must do.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// Halt, and blame the log.
    Refused,
    /// Come to this end: what it reads is a log that somebody who leads has signed, or an earlier time of it.
    Ends(End),
}

type Make = fn(&World, &mut SmallRng) -> Option<Mutant>;

/// Every kind, by its name.
const KINDS: [(&str, Make); 36] = [
    ("swap two batches", stored::swap_batches),
    ("drop a batch", stored::drop_batch),
    ("cut the tail off", stored::cut_tail),
    ("roll the store back", stored::roll_back),
    ("truncate an object", stored::truncate),
    ("extend an object", stored::extend),
    ("replace an object by noise", stored::garbage),
    ("a batch under another name", stored::duplicate),
    ("the record of another epoch", stored::other_record),
    ("drop a record or chunk", stored::drop_record_or_chunk),
    ("an older chunk", stored::stale_chunk),
    ("objects of another stream", stored::foreign),
    ("swap messages, bodies, receipts", stored::swap_messages),
    ("drop or double a message", stored::drop_or_double_message),
    ("the body of another message", stored::other_body),
    ("the checkpoint of another batch", stored::other_checkpoint),
    ("signed by who does not lead", stored::resigned),
    ("one message by who does not lead", stored::one_by_a_stranger),
    ("an epoch that nobody claimed", stored::unclaimed),
    ("a fresh checkpoint by a stranger", stored::fresh_checkpoint),
    ("leader: another state", lying::other_state),
    ("leader: another value in a row", lying::other_row),
    ("leader: time goes back", lying::time_back),
    ("leader: drop a commit", lying::drop_commit),
    ("leader: double a commit", lying::double_commit),
    ("leader: swap commits", lying::swap_commits),
    ("leader: between the parts", lying::between_parts),
    ("leader: another epoch", lying::other_epoch),
    ("leader: a stale snapshot", lying::stale_snapshot),
    ("leader: stale pages", lying::stale_pages),
    ("leader: another claim", lying::other_claim),
    ("leader: a gap of events", lying::inbound_gap),
    ("leader: another record named", lying::other_record_named),
    ("leader: a gap of sequences", lying::sequence_gap),
    ("leader: an entry of another stream", lying::foreign_entry),
    ("leader: a fork", lying::fork),
];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Makes a mutation of one kind.
fn make(world: &World, seed: u64) -> (&'static str, Mutant) {
    let (name, make) = KINDS[usize::try_from(seed).unwrap() % KINDS.len()];
    let mut random = SmallRng::seed_from_u64(seed);
    let mutant = (0..DRAWS_MAX).find_map(|_| make(world, &mut random));
    (name, mutant.unwrap_or_else(|| panic!("{name}: no draw of seed {seed} makes one")))
}

/// What a reader did, in a word; an error when it must not.
fn judge(expected: Expected, ended: Result<End, ValidatorError>) -> Result<String, String> {
    match (expected, ended) {
        (Expected::Ends(end), Ok(found)) if end == found => {
            Ok("comes to the end that it must come to".to_owned())
        }
        (Expected::Refused, Err(error)) => {
            kind(&error).ok_or_else(|| format!("it blames something else: {error:?}"))
        }
        (expected, ended) => Err(format!("expected {expected:?}, found {ended:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mutation_is_taken_for_the_log() {
    let world = World::new().await;
    let (count, first) = (number("SYNDDB_MUTATIONS", MUTATIONS), number("SYNDDB_MUTATIONS_SEED", 1));
    let folder = tempfile::tempdir().unwrap();
    let (world, folder) = (&world, folder.path());
    let reading = futures::stream::iter(first..first + count).map(|seed| async move {
        let (name, mutant) = make(world, seed);
        let replica = folder.join(seed.to_string());
        world.replica(mutant.stands, &replica);
        let ended = mutant.objects.read(&replica).await;
        for suffix in ["", "-wal", "-shm", ".lock"] {
            std::fs::remove_file(folder.join(format!("{seed}{suffix}"))).ok();
        }
        let judged = judge(mutant.expected, ended);
        (seed, name, mutant.equivocation.is_some(), judged)
    });
    let mut reading = std::pin::pin!(reading.buffer_unordered(READERS));
    let mut histogram: BTreeMap<(&str, String), u64> = BTreeMap::new();
    let (mut wrong, mut proofs) = (Vec::new(), 0u64);
    while let Some((seed, name, proof, judged)) = reading.next().await {
        proofs += u64::from(proof);
        match judged {
            Ok(what) => *histogram.entry((name, what)).or_default() += 1,
            Err(what) => wrong.push(format!("seed {seed}, {name}: {what}")),
        }
    }
    println!("{count} mutations, {proofs} proofs of equivocation, {} wrong", wrong.len());
    for ((name, what), count) in &histogram {
        println!("{count:>6}  {name:<36} {what}");
    }
    assert!(
        wrong.is_empty(),
        "{} are not what they must be:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
}

/// Two last batches of one leader for one place: a reader that knows the first one says so also where nothing comes behind them.
#[tokio::test(flavor = "multi_thread")]
async fn a_fork_that_ends_where_the_replica_stands_is_found() {
    let world = World::new().await;
    let last = world.batches() - 1;
    let mut cut = world.cuts[last].clone();
    let said = cut.said.last_mut().unwrap();
    said.timestamp = synddb_protocol::id::Timestamp::from_ms(said.timestamp.as_ms() + 1).unwrap();
    let objects = world.with_tail(last, world.publish(last, &[cut]));
    let folder = tempfile::tempdir().unwrap();
    let (knows, new) = (folder.path().join("knows"), folder.path().join("new"));
    world.replica(world.batches(), &knows);
    let error = objects.read(&knows).await.unwrap_err();
    assert_eq!(kind(&error).unwrap(), "refused: Forked");
    // The replica is as it was, and who never saw the first one cannot know.
    assert_eq!(world.objects.read(&knows).await.unwrap(), world.end(world.batches()));
    assert_eq!(objects.read(&new).await.unwrap(), world.end(world.batches()));
}
