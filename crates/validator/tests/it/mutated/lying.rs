//! What whoever leads can do: every signature is good. What a reader finds is what order, continuity, tree and state say.

use rand::RngExt as _;
use rand::rngs::SmallRng;
use synddb_protocol::hash::{EpochRecordHash, StateHash};
use synddb_protocol::id::{CommitNumber, Epoch, InboundNonce, PartIndex, StreamId, Timestamp};
use synddb_protocol::log::{
    Batch, Checkpoint, ClientState, Entry, Equivocation, Frontier, Inbound, Status, StatusLevel,
};
use synddb_protocol::submission::{
    Commit, Commits, Content, Snapshot, SnapshotPlace, StateClaim, Submission,
};
use synddb_validator::End;

use super::stored::{below, refused, two};
use super::world::{Cut, Said, World, publish};
use super::{Expected, Mutant};
use crate::flipped::named;

type Made = Option<Mutant>;

/// The place of a message that `wanted` likes: its batch, and its place in that.
fn find(world: &World, random: &mut SmallRng, wanted: impl Fn(&Entry) -> bool) -> Option<(usize, usize)> {
    let mut places = Vec::new();
    for (batch, cut) in world.cuts.iter().enumerate() {
        for (at, said) in cut.said.iter().enumerate() {
            if wanted(&said.entry) {
                places.push((batch, at));
            }
        }
    }
    (!places.is_empty()).then(|| places[below(random, places.len())])
}

fn content(entry: &Entry) -> Option<&Content> {
    match entry {
        Entry::Submission(submission) => Some(&submission.content),
        Entry::Snapshot(_) | Entry::Inbound(_) | Entry::Status(_) | Entry::Epoch(_) => None,
    }
}

const fn is_submission(entry: &Entry) -> bool {
    matches!(entry, Entry::Submission(_))
}

/// Signs batch `batch` as `edit` leaves it, and nothing behind it.
fn edited(world: &World, random: &mut SmallRng, batch: usize, edit: impl FnOnce(&mut Vec<Said>)) -> Made {
    let mut cut = world.cuts[batch].clone();
    edit(&mut cut.said);
    lied(world, random, batch, &[cut])
}

fn lied(world: &World, random: &mut SmallRng, from: usize, cuts: &[Cut]) -> Made {
    let batches = world.publish(from, cuts);
    if batches.is_empty()
        || batches.iter().any(|(first, bytes)| *first < world.firsts[from] || bytes.is_empty())
    {
        return None;
    }
    let mut objects = world.with_tail(from, batches.clone());
    // A gap is looked at where it is looked for: under the next key.
    if let Some((_, bytes)) = batches.first().filter(|(first, _)| *first != world.firsts[from]) {
        objects = objects.with(named(world.firsts[from]), bytes.clone());
    }
    refused(world, objects, from, random)
}

/// The only commit, or the last one, of a submission with another claim or other rows.
fn with_commit(entry: &mut Entry, edit: impl FnOnce(&mut Commit)) {
    let Entry::Submission(Submission { content: Content::Commits(commits), .. }) = entry else { return };
    let mut all = commits.as_slice().to_vec();
    edit(all.last_mut().unwrap());
    *commits = Commits::new(all).unwrap();
}

pub(super) fn other_state(world: &World, random: &mut SmallRng) -> Made {
    let claims = |entry: &Entry| match content(entry) {
        Some(Content::Commits(_)) => true,
        Some(Content::Part(part)) => part.last.is_some(),
        None => false,
    };
    let (batch, at) = find(world, random, claims)?;
    let state = StateHash::from_bytes(random.random());
    edited(world, random, batch, |said| {
        said.truncate(at + 1);
        let claim = StateClaim { state, scanned: None };
        if let Entry::Submission(Submission { content: Content::Part(part), .. }) = &mut said[at].entry {
            part.last = Some(claim);
        } else {
            with_commit(&mut said[at].entry, |commit| commit.state = Some(claim));
        }
    })
}

/// Texts that occur in rows once, among the new values or among the old ones.
const TEXTS: [&[u8]; 5] = [b"nobody saw it", b"two", b"newest", b"newer", b"another part"];

pub(super) fn other_row(world: &World, random: &mut SmallRng) -> Made {
    let text = TEXTS[below(random, TEXTS.len())];
    let found = |rows: &[u8]| rows.windows(text.len()).position(|window| window == text);
    let holds = |entry: &Entry| match content(entry) {
        Some(Content::Commits(commits)) => found(&commits.last().changes.rows).is_some(),
        Some(Content::Part(part)) => found(&part.changes.rows).is_some(),
        None => false,
    };
    let (batch, at) = find(world, random, holds)?;
    let letter = below(random, text.len());
    let value = random.random_range(b'A'..=b'Z');
    // What follows names what was there: it is said no more, but for the parts of the same commit.
    let mut cuts = world.cuts[batch..].to_vec();
    let edit = |rows: &mut Vec<u8>| {
        let from = found(rows).unwrap();
        rows[from + letter] = value;
    };
    if let Some(Content::Part(_)) = content(&cuts[0].said[at].entry) {
        if let Entry::Submission(Submission { content: Content::Part(part), .. }) =
            &mut cuts[0].said[at].entry
        {
            edit(&mut part.changes.rows);
        }
        relink(&mut cuts);
    } else {
        with_commit(&mut cuts[0].said[at].entry, |commit| edit(&mut commit.changes.rows));
        cuts.truncate(1);
        cuts[0].said.truncate(at + 1);
    }
    lied(world, random, batch, &cuts)
}

/// Has every part name the one before it, up to the last one of the commit, which ends the history.
fn relink(cuts: &mut Vec<Cut>) {
    let mut before = None;
    for batch in 0..cuts.len() {
        for at in 0..cuts[batch].said.len() {
            let Entry::Submission(Submission { content: Content::Part(part), .. }) =
                &mut cuts[batch].said[at].entry
            else {
                continue;
            };
            if let Some(before) = before {
                part.prev = before;
            }
            before = Some(part.digest());
            if part.last.is_some() {
                cuts[batch].said.truncate(at + 1);
                cuts.truncate(batch + 1);
                return;
            }
        }
    }
}

pub(super) fn time_back(world: &World, random: &mut SmallRng) -> Made {
    let batch = 1 + below(random, world.batches() - 1);
    let at = below(random, world.cuts[batch].said.len());
    let back = random.random_range(1..1_000_000);
    edited(world, random, batch, |said| {
        let before = said[at].timestamp.as_ms();
        said[at].timestamp = Timestamp::from_ms(before - 2 - back).unwrap();
    })
}

pub(super) fn drop_commit(world: &World, random: &mut SmallRng) -> Made {
    let (batch, at) = find(world, random, is_submission)?;
    let mut cuts = world.cuts[batch..].to_vec();
    cuts[0].said.remove(at);
    let goes_on = cuts
        .iter()
        .flat_map(|cut| &cut.said)
        .any(|said| is_submission(&said.entry) || matches!(said.entry, Entry::Snapshot(_)));
    // The last one that is dropped is a tail that is cut off.
    if !goes_on {
        return None;
    }
    cuts.retain(|cut| !cut.said.is_empty());
    lied(world, random, batch, &cuts)
}

pub(super) fn double_commit(world: &World, random: &mut SmallRng) -> Made {
    let (batch, at) = find(world, random, is_submission)?;
    edited(world, random, batch, |said| said.insert(at, said[at].clone()))
}

/// What a client sent, in another order; parts of a commit as well.
pub(super) fn swap_commits(world: &World, random: &mut SmallRng) -> Made {
    let mut places = Vec::new();
    for (batch, cut) in world.cuts.iter().enumerate() {
        places.extend(
            (0..cut.said.len()).filter(|at| is_submission(&cut.said[*at].entry)).map(|at| (batch, at)),
        );
    }
    let (one, other) = two(random, places.len());
    let (one, other) = (places[one], places[other]);
    let mut cuts = world.cuts.clone();
    let entry = cuts[one.0].said[one.1].entry.clone();
    let entry = std::mem::replace(&mut cuts[other.0].said[other.1].entry, entry);
    cuts[one.0].said[one.1].entry = entry;
    lied(world, random, one.0, &cuts[one.0..])
}

/// A whole commit, a snapshot, or a part of something else inside of a commit that comes in parts.
pub(super) fn between_parts(world: &World, random: &mut SmallRng) -> Made {
    let is_first =
        |entry: &Entry| matches!(content(entry), Some(Content::Part(part)) if part.index == PartIndex::FIRST);
    let (batch, at) = find(world, random, is_first)?;
    let (from, which) =
        find(world, random, |entry| is_submission(entry) || matches!(entry, Entry::Snapshot(_)))?;
    let mut entry = world.cuts[from].said[which].entry.clone();
    // The next part as it is would be no lie.
    if entry == world.cuts[batch].said[at + 1].entry {
        return None;
    }
    let client = world.tips[batch].client()?.clone();
    if random.random() {
        // It even claims to follow.
        with_commit(&mut entry, |commit| (commit.number, commit.prev) = (client.next, client.last));
    }
    edited(world, random, batch, |said| {
        let other = Said { entry, ..said[at].clone() };
        said.insert(at + 1, other);
    })
}

pub(super) fn other_epoch(world: &World, random: &mut SmallRng) -> Made {
    let batch = below(random, world.batches());
    let at = below(random, world.cuts[batch].said.len());
    let mine = world.cuts[batch].said[at].epoch;
    let others: Vec<(u64, u8)> =
        [(1, 1), (3, 2), (4, 2)].into_iter().filter(|(epoch, _)| *epoch != mine.get()).collect();
    let (epoch, key) = others[below(random, others.len())];
    edited(world, random, batch, |said| {
        said[at].epoch = Epoch::new(epoch).unwrap();
        said[at].key = key;
    })
}

/// A snapshot once more, or where another one belongs.
pub(super) fn stale_snapshot(world: &World, random: &mut SmallRng) -> Made {
    let (from, which) = find(world, random, |entry| matches!(entry, Entry::Snapshot(_)))?;
    let entry = world.cuts[from].said[which].entry.clone();
    let batch = from + 1 + below(random, world.batches() - from - 1);
    let last = world.tips[batch].client()?.last;
    // While nothing was committed behind it, it is none.
    if matches!(&entry, Entry::Snapshot(Snapshot { place: SnapshotPlace::After { digest, .. }, .. }) if *digest == last)
    {
        return None;
    }
    edited(world, random, batch, |said| {
        let at = 0;
        if let Some(there) = said.iter().position(|said| matches!(said.entry, Entry::Snapshot(_))) {
            said[there].entry = entry;
        } else {
            let other = Said { entry, ..said[at].clone() };
            said.insert(at, other);
        }
    })
}

/// The manifest of the new incarnation over the pages of the old one.
pub(super) fn stale_pages(world: &World, random: &mut SmallRng) -> Made {
    let begins = |entry: &Entry| match entry {
        Entry::Snapshot(Snapshot { place: SnapshotPlace::Begins { predecessor }, .. }) => {
            Some(predecessor.is_some())
        }
        _ => None,
    };
    let (first, first_at) = find(world, random, |entry| begins(entry) == Some(false))?;
    let (batch, at) = find(world, random, |entry| begins(entry) == Some(true))?;
    let Entry::Snapshot(old) = &world.cuts[first].said[first_at].entry else { return None };
    let chunks = old.chunks.clone();
    edited(world, random, batch, |said| {
        said.truncate(at + 1);
        if let Entry::Snapshot(snapshot) = &mut said[at].entry {
            snapshot.chunks = chunks;
        }
    })
}

pub(super) fn other_claim(world: &World, random: &mut SmallRng) -> Made {
    let batch = below(random, world.batches());
    let (field, bytes): (u8, [u8; 32]) = (random.random_range(0..9), random.random());
    let honest = world.tips[batch + 1].checkpoint(world.cuts[batch].epoch, 0)?;
    let mut other = honest.clone();
    touch(&mut other, field, bytes);
    if other == honest {
        return None;
    }
    let cuts = [world.cuts[batch].clone()];
    let batches = publish(&world.tips[batch], &cuts, &world.leaders, |_, claim| touch(claim, field, bytes));
    if batches.is_empty() {
        return None;
    }
    refused(world, world.with_tail(batch, batches), batch, random)
}

fn touch(claim: &mut Checkpoint, field: u8, bytes: [u8; 32]) {
    let client =
        |claim: &mut Checkpoint, edit: &dyn Fn(&mut ClientState)| claim.client.iter_mut().for_each(edit);
    match field {
        0 => {
            let mut peaks = claim.frontier.peaks().to_vec();
            peaks[0] = synddb_protocol::hash::TreeHash::from_bytes(bytes);
            claim.frontier = Frontier::new(claim.frontier.size(), peaks).unwrap();
        }
        1 => client(claim, &|client| client.state = StateHash::from_bytes(bytes)),
        2 => client(claim, &|client| client.next = CommitNumber::new(client.next.get() + 1).unwrap()),
        3 => client(claim, &|client| client.last = synddb_protocol::hash::CommitDigest::from_bytes(bytes)),
        4 => client(claim, &|client| client.group = None),
        5 => claim.client = None,
        6 => claim.inbound = None,
        7 => {
            claim.status =
                if claim.status == StatusLevel::Halted { StatusLevel::Warned } else { StatusLevel::Halted }
        }
        _ => client(claim, &|client| {
            client.incarnation.nonce = synddb_protocol::id::IncarnationNonce::from_bytes([9; 16])
        }),
    }
}

pub(super) fn inbound_gap(world: &World, random: &mut SmallRng) -> Made {
    let (batch, at) = find(world, random, |entry| matches!(entry, Entry::Inbound(_)))?;
    let nonce = InboundNonce::new(random.random_range(3..100)).unwrap();
    let chain = random.random_range(2..5);
    let gap: bool = random.random();
    // Of another chain it is only refused where one was named before.
    if !gap && world.tips[batch].inbound().is_none() {
        return None;
    }
    edited(world, random, batch, |said| {
        if let Entry::Inbound(Inbound { nonce: found, chain_id, .. }) = &mut said[at].entry {
            if gap { *found = nonce } else { *chain_id = chain }
        }
    })
}

pub(super) fn other_record_named(world: &World, random: &mut SmallRng) -> Made {
    let (batch, at) = find(world, random, |entry| matches!(entry, Entry::Epoch(_)))?;
    let record = EpochRecordHash::from_bytes(random.random());
    edited(world, random, batch, |said| {
        if let Entry::Epoch(start) = &mut said[at].entry {
            start.record = record;
        }
    })
}

pub(super) fn sequence_gap(world: &World, random: &mut SmallRng) -> Made {
    let batch = 1 + below(random, world.batches() - 1);
    let skips = random.random_range(1..10);
    edited(world, random, batch, |said| said[0].skips = skips)
}

pub(super) fn foreign_entry(world: &World, random: &mut SmallRng) -> Made {
    let (batch, at) =
        find(world, random, |entry| is_submission(entry) || matches!(entry, Entry::Snapshot(_)))?;
    let other = StreamId::from_bytes(random.random());
    edited(world, random, batch, |said| match &mut said[at].entry {
        Entry::Submission(submission) => submission.stream = other,
        Entry::Snapshot(snapshot) => snapshot.stream = other,
        Entry::Inbound(_) | Entry::Status(_) | Entry::Epoch(_) => {}
    })
}

/// Another history from some batch on, in every way as good as the first. Whoever reads nothing else has to take it, and the two together prove
/// what was done. Whoever knows the first one refuses it.
pub(super) fn fork(world: &World, random: &mut SmallRng) -> Made {
    let from = below(random, world.batches());
    let through = from + 1 + below(random, world.batches() - from);
    let mut cuts = world.cuts[from..through].to_vec();
    let said = Said {
        entry: Entry::Status(Status {
            level: StatusLevel::Healthy,
            reason: format!("fork {}", random.random::<u64>()),
        }),
        ..cuts[0].said.last().unwrap().clone()
    };
    match random.random_range(0..3) {
        // One more message at the end of the first batch: every later batch has another name.
        0 => cuts[0].said.push(said),
        // Another time: every batch has the name that it had.
        _ => {
            let last = cuts[0].said.last_mut().unwrap();
            last.timestamp = Timestamp::from_ms(last.timestamp.as_ms() + 1).unwrap();
            for cut in &mut cuts {
                let floor = cut.said.iter().map(|said| said.timestamp).max().unwrap();
                for said in &mut cut.said {
                    said.timestamp = said.timestamp.max(floor);
                }
            }
        }
    }
    let batches = world.publish(from, &cuts);
    if batches.len() != cuts.len() {
        return None;
    }
    let equivocation = equivocate(world, from, &batches[0].1)?;
    let mut tip = world.tips[from].clone();
    let mut end = world.end(from);
    for (first, bytes) in &batches {
        tip = crate::flipped::verify(bytes, *first, &world.leaders, &tip).ok()?.tip().clone();
        if let Some(client) = tip.client().filter(|client| client.group.is_none()) {
            end = End { sequence: tip.last(), state: Some(client.state) };
        }
    }
    let objects = world.with_tail(from, batches);
    // Mostly where the first history is known already.
    let floor = if random.random_range(0..4) == 0 { 0 } else { from + 1 };
    let places: Vec<usize> =
        (floor..=world.batches()).filter(|place| *place == 0 || world.is_place(*place)).collect();
    let stands = places[below(random, places.len())];
    let expected = if stands > from { Expected::Refused } else { Expected::Ends(end) };
    Some(Mutant { objects, stands, expected, equivocation: Some(equivocation) })
}

/// The proof that two batches give: of the first messages that differ.
fn equivocate(world: &World, at: usize, other: &[u8]) -> Option<Equivocation> {
    let honest = Batch::from_stored(world.objects.bytes(&named(world.firsts[at]))).unwrap();
    let other = Batch::from_stored(other).unwrap();
    let pairs = honest.messages().iter().zip(other.messages());
    let mut proofs =
        pairs.filter_map(|(one, two)| Equivocation::of_receipts(&one.receipt, &two.receipt).ok());
    // Where one of them only goes on, what their checkpoints claim is of two sizes: the next batch shows it.
    proofs.next().or_else(|| {
        let next = Batch::from_stored(&world.objects.0.get(&named(honest.last().next()?))?[..]).ok()?;
        let behind = other.messages().get(honest.messages().len())?;
        Equivocation::of_receipts(&next.messages()[0].receipt, &behind.receipt).ok()
    })
}
