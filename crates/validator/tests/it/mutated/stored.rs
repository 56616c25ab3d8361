//! What whoever keeps the store can do, and whoever has no key that leads.

use rand::RngExt as _;
use rand::rngs::SmallRng;
use synddb_protocol::id::Epoch;
use synddb_protocol::log::{Entry, EpochRecord, EpochStart, KeyProof, Versions};
use synddb_storage::{Key, Kind};

use super::world::{Cut, Said, World, publish, raw, unpack};
use super::{Expected, Mutant};
use crate::flipped::{Objects, named};
use crate::log::{STREAM, key};

type Made = Option<Mutant>;

/// A number below `end`.
pub(super) fn below(random: &mut SmallRng, end: usize) -> usize {
    random.random_range(0..end)
}

/// Two different numbers below `end`, the smaller one first.
pub(super) fn two(random: &mut SmallRng, end: usize) -> (usize, usize) {
    let one = below(random, end);
    let other = (one + 1 + below(random, end - 1)) % end;
    (one.min(other), one.max(other))
}

/// Refused by a reader that stands anywhere before batch `at`.
pub(super) fn refused(world: &World, objects: Objects, at: usize, random: &mut SmallRng) -> Made {
    let places: Vec<usize> = (0..=at).filter(|place| *place == 0 || world.is_place(*place)).collect();
    let stands = places[below(random, places.len())];
    Some(Mutant { objects, stands, expected: Expected::Refused, equivocation: None })
}

/// Refused by whoever reads from the beginning.
fn refused_anew(objects: Objects) -> Made {
    Some(Mutant { objects, stands: 0, expected: Expected::Refused, equivocation: None })
}

fn batch(world: &World, at: usize) -> (Key, Vec<u8>) {
    let key = named(world.firsts[at]);
    (key, world.objects.bytes(&key).to_vec())
}

pub(super) fn swap_batches(world: &World, random: &mut SmallRng) -> Made {
    let (one, two) = two(random, world.batches());
    let ((first, bytes), (second, others)) = (batch(world, one), batch(world, two));
    refused(world, world.objects.with(first, others).with(second, bytes), one, random)
}

pub(super) fn drop_batch(world: &World, random: &mut SmallRng) -> Made {
    let at = below(random, world.batches());
    let objects = world.objects.without(&batch(world, at).0);
    // Whoever comes to the gap sees an earlier time, and cannot tell. Whoever stands there when it starts looks behind it.
    let places: Vec<usize> = (0..=at).filter(|place| *place == 0 || world.is_place(*place)).collect();
    let stands = places[below(random, places.len())];
    let behind = at + 1 < world.batches();
    let expected =
        if stands > 0 && stands == at && behind { Expected::Refused } else { Expected::Ends(world.end(at)) };
    Some(Mutant { objects, stands, expected, equivocation: None })
}

pub(super) fn cut_tail(world: &World, random: &mut SmallRng) -> Made {
    let at = 1 + below(random, world.batches() - 1);
    let objects = world.objects.through(world.tips[at].last().unwrap());
    let places: Vec<usize> = (0..=at).filter(|place| *place == 0 || world.is_place(*place)).collect();
    let stands = places[below(random, places.len())];
    Some(Mutant { objects, stands, expected: Expected::Ends(world.end(at)), equivocation: None })
}

pub(super) fn roll_back(world: &World, random: &mut SmallRng) -> Made {
    let places: Vec<usize> = (2..=world.batches()).filter(|place| world.is_place(*place)).collect();
    let stands = places[below(random, places.len())];
    let at = below(random, stands);
    let mut objects = world.objects.clone();
    objects.0.retain(|key, _| !matches!(key, Key::Batch { first, .. } if *first >= world.firsts[at]));
    Some(Mutant { objects, stands, expected: Expected::Refused, equivocation: None })
}

pub(super) fn truncate(world: &World, random: &mut SmallRng) -> Made {
    let key = any_read(world, random);
    let bytes = world.objects.bytes(&key);
    let length = below(random, bytes.len());
    refused_anew(world.objects.with(key, bytes[..length].to_vec()))
}

pub(super) fn extend(world: &World, random: &mut SmallRng) -> Made {
    let key = any_read(world, random);
    let mut bytes = world.objects.bytes(&key).to_vec();
    bytes.extend((0..=below(random, 40)).map(|_| random.random::<u8>()));
    refused_anew(world.objects.with(key, bytes))
}

pub(super) fn garbage(world: &World, random: &mut SmallRng) -> Made {
    let key = any_read(world, random);
    let length = below(random, 400);
    let bytes = (0..length).map(|_| random.random()).collect();
    refused_anew(world.objects.with(key, bytes))
}

/// An object that whoever reads from the beginning reads, and that says something.
fn any_read(world: &World, random: &mut SmallRng) -> Key {
    let keys: Vec<Key> =
        world.objects.0.keys().filter(|key| crate::flipped::says(&world.objects, key)).copied().collect();
    keys[below(random, keys.len())]
}

pub(super) fn duplicate(world: &World, random: &mut SmallRng) -> Made {
    let (one, other) = two(random, world.batches());
    let (from, to) = if random.random() { (one, other) } else { (other, one) };
    if random.random_range(0..4) == 0 {
        let next = named(world.tips[world.batches()].next().unwrap());
        return refused(world, world.objects.with(next, batch(world, from).1), world.batches(), random);
    }
    refused(world, world.objects.with(batch(world, to).0, batch(world, from).1), to, random)
}

pub(super) fn other_record(world: &World, random: &mut SmallRng) -> Made {
    let leading = [1, 3, 4].map(|epoch| Key::Epoch { stream: STREAM, epoch: Epoch::new(epoch).unwrap() });
    let (one, other) = two(random, leading.len());
    let (from, to) = if random.random() { (one, other) } else { (other, one) };
    let bytes = world.objects.bytes(&leading[from]).to_vec();
    refused_anew(world.objects.with(leading[to], bytes))
}

pub(super) fn drop_record_or_chunk(world: &World, random: &mut SmallRng) -> Made {
    let mut keys: Vec<Key> = world.objects.keys(Kind::Epoch);
    keys.extend(
        world.objects.keys(Kind::Chunk).into_iter().filter(|key| crate::flipped::says(&world.objects, key)),
    );
    let key = keys[below(random, keys.len())];
    refused_anew(world.objects.without(&key))
}

pub(super) fn stale_chunk(world: &World, random: &mut SmallRng) -> Made {
    let keys: Vec<Key> = world
        .objects
        .keys(Kind::Chunk)
        .into_iter()
        .filter(|key| crate::flipped::says(&world.objects, key))
        .collect();
    let (one, other) = two(random, keys.len());
    let (from, to) = if random.random() { (one, other) } else { (other, one) };
    refused_anew(world.objects.with(keys[to], world.objects.bytes(&keys[from]).to_vec()))
}

pub(super) fn foreign(world: &World, random: &mut SmallRng) -> Made {
    let other = |key: &&Key| world.objects.0.get(*key).is_some_and(|bytes| *bytes != world.foreign.0[*key]);
    let keys: Vec<Key> = world.foreign.0.keys().filter(other).copied().collect();
    if random.random_range(0..3) == 0 {
        return refused_anew(world.foreign.clone());
    }
    let key = keys[below(random, keys.len())];
    refused_anew(world.objects.with(key, world.foreign.bytes(&key).to_vec()))
}

/// A batch of two or more messages.
fn several(world: &World, random: &mut SmallRng) -> usize {
    let batches: Vec<usize> = (0..world.batches()).filter(|at| world.cuts[*at].said.len() > 1).collect();
    batches[below(random, batches.len())]
}

pub(super) fn swap_messages(world: &World, random: &mut SmallRng) -> Made {
    let at = several(world, random);
    let (stored_key, stored) = batch(world, at);
    let (mut messages, checkpoint) = unpack(&stored);
    let (one, other) = two(random, messages.len());
    match random.random_range(0..3) {
        0 => messages.swap(one, other),
        1 => {
            let body = messages[one].1.clone();
            messages[one].1 = std::mem::replace(&mut messages[other].1, body);
        }
        _ => {
            let receipt = messages[one].0.clone();
            messages[one].0 = std::mem::replace(&mut messages[other].0, receipt);
        }
    }
    let bytes = raw(&checkpoint, world.firsts[at], &messages);
    refused(world, world.objects.with(stored_key, bytes), at, random)
}

pub(super) fn drop_or_double_message(world: &World, random: &mut SmallRng) -> Made {
    let at = several(world, random);
    let (stored_key, stored) = batch(world, at);
    let (mut messages, checkpoint) = unpack(&stored);
    let which = below(random, messages.len());
    if random.random() {
        messages.remove(which);
    } else {
        messages.insert(which, messages[which].clone());
    }
    let bytes = raw(&checkpoint, world.firsts[at], &messages);
    refused(world, world.objects.with(stored_key, bytes), at, random)
}

/// The body of any other message of the log.
pub(super) fn other_body(world: &World, random: &mut SmallRng) -> Made {
    let (one, other) = two(random, world.batches());
    let (stored_key, stored) = batch(world, one);
    let (mut messages, checkpoint) = unpack(&stored);
    let (others, _) = unpack(&batch(world, other).1);
    let which = below(random, messages.len());
    let body = others[below(random, others.len())].1.clone();
    if body == messages[which].1 {
        return None;
    }
    messages[which].1 = body;
    refused(
        world,
        world.objects.with(stored_key, raw(&checkpoint, world.firsts[one], &messages)),
        one,
        random,
    )
}

pub(super) fn other_checkpoint(world: &World, random: &mut SmallRng) -> Made {
    let (one, other) = two(random, world.batches());
    let (at, from) = if random.random() { (one, other) } else { (other, one) };
    let (stored_key, stored) = batch(world, at);
    let (messages, _) = unpack(&stored);
    let (_, checkpoint) = unpack(&batch(world, from).1);
    refused(world, world.objects.with(stored_key, raw(&checkpoint, world.firsts[at], &messages)), at, random)
}

/// A history from some batch on, signed by whoever does not lead there: a key that nobody trusts, or one that is pinned and did not claim that
/// epoch.
pub(super) fn resigned(world: &World, random: &mut SmallRng) -> Made {
    let from = below(random, world.batches());
    let mut cuts = world.cuts[from..].to_vec();
    let stranger = random.random();
    for cut in &mut cuts {
        let other = |key: u8| if stranger { 9 } else { 3 - key };
        cut.key = other(cut.key);
        for said in &mut cut.said {
            said.key = other(said.key);
        }
    }
    let batches = publish_one(world, from, &cuts)?;
    refused(world, world.with_tail(from, batches), from, random)
}

/// The batches; all of them, as far as they can be signed.
fn publish_one(
    world: &World,
    from: usize,
    cuts: &[Cut],
) -> Option<Vec<(synddb_protocol::id::Sequence, Vec<u8>)>> {
    let batches = publish(&world.tips[from], cuts, &world.leaders, |_, _| {});
    (!batches.is_empty()).then_some(batches)
}

/// One message by whoever does not lead, under a checkpoint of whoever does.
pub(super) fn one_by_a_stranger(world: &World, random: &mut SmallRng) -> Made {
    let from = below(random, world.batches());
    let mut cuts = vec![world.cuts[from].clone()];
    let which = below(random, cuts[0].said.len());
    let said = &mut cuts[0].said[which];
    said.key = if random.random() { 9 } else { 3 - said.key };
    let batches = publish_one(world, from, &cuts)?;
    refused(world, world.with_tail(from, batches), from, random)
}

/// A leader of an epoch that nobody claimed, or that the stranger claimed himself.
pub(super) fn unclaimed(world: &World, random: &mut SmallRng) -> Made {
    let from = below(random, world.batches() + 1);
    let number = if random.random() { 9 } else { 1 + u8::try_from(below(random, 2)).unwrap() };
    let epoch = Epoch::new(if random.random() { 5 } else { 6 }).unwrap();
    let record = EpochRecord { stream: STREAM, epoch, proof: KeyProof::Unattested }.sign(&key(number));
    let start = EpochStart { record: record.hash(), versions: Versions::SUPPORTED };
    let timestamp = world.tips[from].timestamp();
    let said = Said { epoch, key: number, timestamp, entry: Entry::Epoch(start), skips: 0 };
    let cut = Cut { said: vec![said], epoch, key: number };
    let batches = world.publish(from, &[cut]);
    let first = batches.first()?.0;
    let mut objects = if from == world.batches() {
        world.objects.with(named(first), batches[0].1.clone())
    } else {
        world.with_tail(from, batches)
    };
    if number == 9 {
        objects = objects.with(Key::Epoch { stream: STREAM, epoch }, record.to_bytes());
    }
    refused(world, objects, from, random)
}

/// The same batch under a checkpoint that a stranger signed.
pub(super) fn fresh_checkpoint(world: &World, random: &mut SmallRng) -> Made {
    let at = below(random, world.batches());
    let (stored_key, stored) = batch(world, at);
    let (mut messages, checkpoint) = unpack(&stored);
    let last = messages.len();
    if last > 1 {
        let (one, other) = two(random, last);
        messages.swap(one, other);
    }
    let number = if random.random() { 9 } else { 3 - world.cuts[at].key };
    let mut claim = checkpoint.claim().clone();
    if claim.epoch == claim.last_leader.epoch {
        claim.last_leader.key = key(number).id();
    }
    let forged = claim.sign(&key(number)).ok()?;
    refused(world, world.objects.with(stored_key, raw(&forged, world.firsts[at], &messages)), at, random)
}
