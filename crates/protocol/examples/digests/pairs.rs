//! Two receipts or checkpoints of one place, and the same with one thing other, so that they prove nothing.

use proptest::prelude::any;
use serde_json::{Value as Json, json};
use synddb_protocol::hash::TreeHash;
use synddb_protocol::id::{Epoch, Sequence, StreamId, Timestamp};
use synddb_protocol::limits::{COUNTER_MAX, KEYED_COUNTER_MAX};
use synddb_protocol::log::{
    Checkpoint, Equivocation, Frontier, Leader, MessageHeader, Receipt, SignedCheckpoint,
};

use crate::draw::{Draw, Drawn};
use crate::{arbitrary, sample};

/// The numbers whose head in CBOR takes each width: 1, 2, 3, 5 and 9 bytes.
const WIDTHS: [(u64, u64); 5] =
    [(1, 0x17), (0x18, 0xff), (0x100, 0xffff), (0x1_0000, 0xffff_ffff), (0x1_0000_0000, u64::MAX)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Receipt,
    Checkpoint,
}

/// Where something is signed.
#[derive(Clone, Copy)]
struct Place {
    stream: StreamId,
    epoch: u64,
    sequence: u64,
}

/// Pairs for so many places of messages and as many of checkpoints. In 25 places every width of an epoch meets every width of a sequence.
pub(crate) fn of_places(draw: &mut Draw, count: u64) -> Vec<Json> {
    let mut pairs = Vec::new();
    for number in 0..count {
        let place = Place {
            stream: StreamId::from_bytes(draw.bytes()),
            epoch: of_width(draw, number / 5, KEYED_COUNTER_MAX),
            sequence: of_width(draw, number, KEYED_COUNTER_MAX),
        };
        pairs.extend(of_place(draw, Kind::Receipt, place, number));
        pairs.extend(of_place(draw, Kind::Checkpoint, place, number));
    }
    pairs
}

/// What proves something comes last, because a key is frozen by it.
fn of_place(draw: &mut Draw, kind: Kind, place: Place, number: u64) -> Vec<Json> {
    let (key, other_key) = (draw.key(), draw.key());
    let first = sign(draw, kind, place, &key, number);
    let second = sign(draw, kind, place, &key, number + 1);
    let other_kind = if kind == Kind::Receipt { Kind::Checkpoint } else { Kind::Receipt };
    let elsewhere = [
        ("another sequence", Place { sequence: other_number(draw, place.sequence), ..place }),
        ("another epoch", Place { epoch: other_number(draw, place.epoch), ..place }),
        ("another stream", Place { stream: other_stream(draw, place.stream), ..place }),
    ];
    let mut pairs = vec![
        ("the same twice", first.clone(), &key),
        ("another key", sign(draw, kind, place, &other_key, number), &other_key),
        ("another kind", sign(draw, other_kind, place, &key, number), &key),
        ("the same signature with a high s", with_high_s(&first), &key),
        ("another bit", with_another_bit(draw, &second), &key),
        ("a byte less", second[..second.len() - 1].to_vec(), &key),
        ("a byte more", [&second[..], &[0]].concat(), &key),
    ];
    for (what, place) in elsewhere {
        pairs.push((what, sign(draw, kind, place, &key, number), &key));
    }
    pairs.push(("two contents of one place", second, &key));
    let pair = |(what, second, of): (&str, Vec<u8>, &Drawn)| {
        let mut two = [(&first, &key.secret), (&second, &of.secret)];
        if draw.of(any::<bool>()) {
            two.reverse();
        }
        let [(one, one_secret), (two, two_secret)] = two;
        json!({
            "what": what,
            "first": format!("0x{}", hex::encode(one)),
            "first_secret": format!("0x{}", hex::encode(one_secret)),
            "second": format!("0x{}", hex::encode(two)),
            "second_secret": format!("0x{}", hex::encode(two_secret)),
            "equivocates": if are_equivocation(one, two) { "yes" } else { "no" },
        })
    };
    pairs.into_iter().map(pair).collect()
}

/// What this crate says of two.
fn are_equivocation(first: &[u8], second: &[u8]) -> bool {
    if let (Ok(first), Ok(second)) = (Receipt::from_bytes(first), Receipt::from_bytes(second)) {
        return Equivocation::of_receipts(&first, &second).is_ok();
    }
    if let (Ok(first), Ok(second)) =
        (SignedCheckpoint::from_bytes(first), SignedCheckpoint::from_bytes(second))
    {
        return Equivocation::of_checkpoints(&first, &second).is_ok();
    }
    false
}

/// Something random of this place. With an odd number a checkpoint has neither a client nor a bridge, so that its claim may be short.
fn sign(draw: &mut Draw, kind: Kind, place: Place, by: &Drawn, number: u64) -> Vec<u8> {
    let Place { stream, .. } = place;
    let epoch = Epoch::new(place.epoch).expect("it is in range");
    let sequence = Sequence::new(place.sequence).expect("it is in range");
    let timestamp = Timestamp::from_ms(of_width(draw, number, COUNTER_MAX)).expect("it is in range");
    match kind {
        Kind::Receipt => {
            let message_type = draw.of(arbitrary::message_header()).message_type;
            let header = MessageHeader { stream, epoch, sequence, timestamp, message_type };
            Receipt::sign(header, &draw.of(any::<[u8; 24]>()), &by.key).to_bytes()
        }
        Kind::Checkpoint => {
            let some = draw.of(arbitrary::checkpoint()).claim().clone();
            let bare = Checkpoint { client: None, inbound: None, inbox_consumed: 0, ..some.clone() };
            let claim = if number.is_multiple_of(2) { some } else { bare };
            let peaks = (0..sequence.get().count_ones())
                .map(|_| TreeHash::from_bytes(draw.of(any::<[u8; 32]>())))
                .collect();
            let frontier = Frontier::new(sequence.get(), peaks).expect("it has the peaks of its size");
            let last_leader = Leader { epoch, key: by.key.id() };
            let claim =
                Checkpoint { stream, epoch, size: sequence, timestamp, last_leader, frontier, ..claim };
            claim.sign(&by.key).expect("it does not contradict itself").to_bytes()
        }
    }
}

/// A number whose head has one of the widths, by turns.
fn of_width(draw: &mut Draw, turn: u64, max: u64) -> u64 {
    let count = WIDTHS.len() as u64;
    let mut widths = WIDTHS.into_iter().cycle();
    let (first, last) = widths.nth((turn % count).try_into().expect("there are few")).expect("it has no end");
    draw.within(first, last.min(max))
}

/// One that differs in one bit, so that every bit counts, and is still a number of a place.
fn other_number(draw: &mut Draw, number: u64) -> u64 {
    loop {
        let other = number ^ 1 << draw.within(0, KEYED_COUNTER_MAX.ilog2().into());
        if (1..=KEYED_COUNTER_MAX).contains(&other) {
            return other;
        }
    }
}

fn other_stream(draw: &mut Draw, stream: StreamId) -> StreamId {
    let other = with_another_bit(draw, stream.as_bytes());
    StreamId::from_bytes(other.try_into().expect("it is as long"))
}

fn with_another_bit(draw: &mut Draw, bytes: &[u8]) -> Vec<u8> {
    let mut other = bytes.to_vec();
    let last = other.len() - 1;
    let index = draw.of(0..=last);
    other[index] ^= 1 << draw.within(0, 7);
    other
}

/// The signature is its end. The order less s is as good to anybody who does not look.
fn with_high_s(signed: &[u8]) -> Vec<u8> {
    let (before, s) = signed.split_at(signed.len() - 32);
    [before, &sample::negated(s)].concat()
}
