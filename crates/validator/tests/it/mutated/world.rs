//! The honest log, its history taken apart, and leaders that sign whatever they like.

use std::path::{Path, PathBuf};

use synddb_protocol::encoding::cbor::{MapKey, Writer};
use synddb_protocol::hash::BodyHash;
use synddb_protocol::id::{Epoch, Sequence, StreamId, Timestamp};
use synddb_protocol::log::{
    Batch, Body, Checkpoint, Entry, Leader, Leaders, Message, MessageHeader, SignedCheckpoint, Tip,
};
use synddb_storage::Key;
use synddb_validator::End;
use tempfile::TempDir;

use crate::flipped::{Objects, complete, named, verified};
use crate::log::key;

/// One message before it is signed.
#[derive(Clone)]
pub(crate) struct Said {
    pub(crate) epoch: Epoch,
    pub(crate) key: u8,
    pub(crate) timestamp: Timestamp,
    pub(crate) entry: Entry,
    /// How many places are left out before it.
    pub(crate) skips: u64,
}

/// One batch before it is signed.
#[derive(Clone)]
pub(crate) struct Cut {
    pub(crate) said: Vec<Said>,
    pub(crate) epoch: Epoch,
    pub(crate) key: u8,
}

/// The honest log, and a replica at each end of a batch where one may stand.
pub(crate) struct World {
    folder: TempDir,
    pub(crate) objects: Objects,
    pub(crate) leaders: Leaders,
    /// The tip before each batch, and the one after the last.
    pub(crate) tips: Vec<Tip>,
    pub(crate) cuts: Vec<Cut>,
    pub(crate) firsts: Vec<Sequence>,
    /// The same history of another stream.
    pub(crate) foreign: Objects,
}

impl World {
    pub(crate) async fn new() -> Self {
        let log = complete().await;
        let objects = Objects::of(&log).await;
        let (leaders, stood) = verified(&objects);
        let (mut tips, mut cuts, mut firsts) = (Vec::new(), Vec::new(), Vec::new());
        let number = |id| (1..=2).find(|number| key(*number).id() == id).unwrap();
        for stood in &stood {
            tips.push(stood.before.clone());
            firsts.push(stood.first);
            let said = stood.batch.messages().iter().map(|message| Said {
                epoch: message.header().epoch,
                key: number(message.receipt().key()),
                timestamp: message.header().timestamp,
                entry: message.entry().clone(),
                skips: 0,
            });
            let checkpoint = stood.batch.checkpoint();
            cuts.push(Cut {
                said: said.collect(),
                epoch: checkpoint.claim().epoch,
                key: number(checkpoint.key()),
            });
        }
        tips.push(stood.last().unwrap().batch.tip().clone());
        let folder = tempfile::tempdir().unwrap();
        let foreign = foreign(&objects, &cuts);
        let world = Self { folder, objects, leaders, tips, cuts, firsts, foreign };
        for at in 1..world.tips.len() {
            let file = world.kept(at);
            if at > 1 {
                std::fs::copy(world.kept(at - 1), &file).unwrap();
            }
            let end = world.objects.through(world.tips[at].last().unwrap()).read(&file).await.unwrap();
            assert_eq!(end, world.end(at));
        }
        world
    }

    /// How many batches there are.
    pub(crate) fn batches(&self) -> usize {
        self.cuts.len()
    }

    /// Where a reader of the first `at` batches ends: not inside of a commit that comes in parts.
    pub(crate) fn end(&self, at: usize) -> End {
        let stands = self.tips[..=at]
            .iter()
            .rev()
            .find(|tip| tip.client().is_some_and(|client| client.group.is_none()));
        End { sequence: stands.and_then(Tip::last), state: stands.and_then(|tip| Some(tip.client()?.state)) }
    }

    /// Whether a replica may stand behind the first `at` batches.
    pub(crate) fn is_place(&self, at: usize) -> bool {
        self.tips[at].client().is_some_and(|client| client.group.is_none())
    }

    fn kept(&self, at: usize) -> PathBuf {
        self.folder.path().join(format!("kept{at}"))
    }

    /// A replica for one reader, behind the first `at` batches; for none of them it is yet to come.
    pub(crate) fn replica(&self, at: usize, to: &Path) {
        if at > 0 {
            std::fs::copy(self.kept(at), to).unwrap();
        }
    }

    /// The honest objects with everything from batch `from` on in place of what was there.
    pub(crate) fn with_tail(&self, from: usize, batches: Vec<(Sequence, Vec<u8>)>) -> Objects {
        let mut objects = self.objects.clone();
        objects.0.retain(|key, _| !matches!(key, Key::Batch { first, .. } if *first >= self.firsts[from]));
        for (first, bytes) in batches {
            objects.0.insert(named(first), bytes.into());
        }
        objects
    }

    /// What whoever signs for the leaders makes of these batches behind the first `from`.
    pub(crate) fn publish(&self, from: usize, cuts: &[Cut]) -> Vec<(Sequence, Vec<u8>)> {
        publish(&self.tips[from], cuts, &self.leaders, |_, _| {})
    }
}

/// Signs batches, each behind the one before. What may not stand where it stands is signed all the same, and ends it. `touch` changes what the
/// checkpoint of a batch claims.
pub(crate) fn publish(
    from: &Tip,
    cuts: &[Cut],
    leaders: &Leaders,
    touch: impl Fn(usize, &mut Checkpoint),
) -> Vec<(Sequence, Vec<u8>)> {
    let (mut tip, mut stored) = (from.clone(), Vec::new());
    for (at, cut) in cuts.iter().enumerate() {
        let (mut messages, mut lied) = (Vec::new(), None);
        for said in &cut.said {
            let body = Body::of(&said.entry).unwrap();
            let key = key(said.key);
            let signed = if said.skips == 0 {
                tip.sign(said.epoch, said.timestamp, body.clone(), &key).ok()
            } else {
                None
            };
            if let Some((message, after)) = signed {
                messages.push(message);
                tip = after;
                continue;
            }
            let Some((message, claim)) = lie(&tip, said, body, cut) else { return stored };
            // Sequences of one batch are dense in any form of it, so that a gap begins a batch.
            if said.skips > 0 && !messages.is_empty() {
                break;
            }
            messages.push(message);
            lied = Some(claim);
            break;
        }
        let Some(first) = messages.first().map(|message| message.receipt.header().sequence) else {
            return stored;
        };
        let ends = lied.is_some();
        let Some(mut claim) = lied.or_else(|| tip.checkpoint(cut.epoch, 0)) else { return stored };
        touch(at, &mut claim);
        let Ok(checkpoint) = claim.sign(&key(cut.key)) else { return stored };
        if let Some(after) =
            checkpoint.clone().verify(leaders).ok().and_then(|trusted| tip.after_checkpoint(&trusted).ok())
        {
            tip = after;
        }
        stored.push((first, pack(&messages, &checkpoint)));
        if ends {
            return stored;
        }
    }
    stored
}

/// Signs what may not stand there, and what a checkpoint would have to claim.
fn lie(tip: &Tip, said: &Said, body: Body, cut: &Cut) -> Option<(Message, Checkpoint)> {
    let sequence = Sequence::new(tip.next().unwrap().get() + said.skips).unwrap();
    let message_type = said.entry.message_type();
    let header = MessageHeader {
        stream: tip.stream(),
        epoch: said.epoch,
        sequence,
        timestamp: said.timestamp,
        message_type,
    };
    let message = Message::sign(header, body, &key(said.key));
    let mut claim = tip.checkpoint(cut.epoch.max(said.epoch), 0)?;
    for _ in 0..=said.skips {
        claim.frontier.push(message.receipt.leaf());
    }
    (claim.size, claim.timestamp) = (sequence, said.timestamp);
    // A claim that contradicts itself cannot be signed: in one epoch it has one key.
    let signer = if claim.epoch == said.epoch { cut.key } else { said.key };
    claim.last_leader = Leader { epoch: said.epoch, key: key(signer).id() };
    Some((message, claim))
}

/// A receipt and a body, as they stand in a batch.
pub(crate) type Parts = (Vec<u8>, Vec<u8>);

/// A batch as it is stored, with everything that it repeats put right.
pub(crate) fn pack(messages: &[Message], checkpoint: &SignedCheckpoint) -> Vec<u8> {
    let parts: Vec<_> =
        messages.iter().map(|message| (message.receipt.to_bytes(), message.body.clone())).collect();
    let first = messages[0].receipt.header().sequence;
    raw(checkpoint, first, &parts)
}

/// The same of messages in any order, of which the first one's sequence is said to be `first`.
pub(crate) fn raw(checkpoint: &SignedCheckpoint, first: Sequence, messages: &[Parts]) -> Vec<u8> {
    let mut inner = Writer::default();
    for (receipt, body) in messages {
        inner.array(2);
        inner.raw(receipt);
        inner.bytes(body);
    }
    let inner = inner.into_bytes();
    let mut writer = Writer::default();
    writer.map(7);
    writer.key(MapKey::Text("c"));
    writer.raw(&checkpoint.to_bytes());
    writer.key(MapKey::Text("e"));
    writer.uint(checkpoint.claim().size);
    writer.key(MapKey::Text("h"));
    // A hash of a body is SHA-256 of any bytes.
    writer.bytes(BodyHash::of(&inner).as_bytes());
    writer.key(MapKey::Text("m"));
    writer.array(messages.len());
    writer.raw(&inner);
    writer.key(MapKey::Text("s"));
    writer.uint(first);
    writer.key(MapKey::Text("t"));
    writer.uint(checkpoint.claim().timestamp);
    writer.key(MapKey::Text("v"));
    writer.uint(2_u64);
    zstd::bulk::compress(&writer.into_bytes(), 3).unwrap()
}

/// The stored batch, taken apart.
pub(crate) fn unpack(stored: &[u8]) -> (Vec<Parts>, SignedCheckpoint) {
    let batch = Batch::from_stored(stored).unwrap();
    let parts =
        batch.messages().iter().map(|message| (message.receipt.to_bytes(), message.body.clone())).collect();
    (parts, batch.checkpoint().clone())
}

/// The same history and the same keys, of another stream. The objects have the keys of this one.
fn foreign(objects: &Objects, cuts: &[Cut]) -> Objects {
    let stream = StreamId::from_bytes([0x77; 32]);
    let mut leaders =
        Leaders::new(stream, synddb_protocol::signing::TrustedKeys::pinned(crate::flipped::pinned()));
    let mut other = objects.clone();
    other.0.retain(|key, _| !matches!(key, Key::Batch { .. }));
    let mut records = std::collections::BTreeMap::new();
    for cut in cuts {
        for said in cut.said.iter().filter(|said| matches!(said.entry, Entry::Epoch(_))) {
            records.insert(said.epoch, said.key);
        }
    }
    let mut hashes = std::collections::BTreeMap::new();
    for number in 1..=4 {
        let epoch = Epoch::new(number).unwrap();
        let Some(leads) = records.get(&epoch) else {
            leaders.pass(epoch).unwrap();
            continue;
        };
        let proof = synddb_protocol::log::KeyProof::Unattested;
        let record = synddb_protocol::log::EpochRecord { stream, epoch, proof }.sign(&key(*leads));
        leaders.admit(&record).unwrap();
        hashes.insert(epoch, record.hash());
        other.0.insert(Key::Epoch { stream: crate::log::STREAM, epoch }, record.to_bytes().into());
    }
    let mut tip = Tip::start(stream);
    for cut in cuts {
        // What a client sent names what it sent before, by digests that its stream is part of: of another stream only the rest is said.
        let mut cut = cut.clone();
        cut.said.retain(|said| matches!(said.entry, Entry::Epoch(_) | Entry::Inbound(_) | Entry::Status(_)));
        for said in &mut cut.said {
            if let Entry::Epoch(start) = &mut said.entry {
                start.record = hashes[&said.epoch];
            }
        }
        for (first, bytes) in publish(&tip, &[cut], &leaders, |_, _| {}) {
            tip = crate::flipped::verify(&bytes, first, &leaders, &tip).unwrap().tip().clone();
            other.0.insert(named(first), bytes.into());
        }
    }
    other
}
