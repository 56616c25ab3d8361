//! Which trace a submission belongs to, and the names of its spans: computed from the log, never sent.
//!
//! ```text
//! agent                sequencer                         reader
//! capture -> ship  ->  sequence -> store (of its batch)  -> apply
//! ```
//!
//! A replica may have nothing but the store, and what is stored has no room for what is not signed. But everybody on the way knows the stream and
//! the hash of the body, so everybody computes the same trace, the same spans and the same choice of what is sampled.
//!
//! What must stay true: a body has one trace wherever it is met, and it is sampled everywhere or nowhere. Knows no time, and no collector.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hash::{BodyHash, sha256};
use crate::id::{Epoch, OutOfRange, Sequence, StreamId};

/// The target of the events in which a role tells of a span. Their fields are in [`field`].
pub const TARGET: &str = "synddb::span";

/// Fields of an event that tells of a span. All others are attributes of it.
pub mod field {
    /// The name of the stage.
    pub const STAGE: &str = "stage";
    /// The trace, as a number of 128 bits.
    pub const TRACE: &str = "trace";
    /// The span, as a number of 64 bits.
    pub const SPAN: &str = "span";
    /// The span above it, or 0.
    pub const PARENT: &str = "parent";
    /// When it began, in nanoseconds since 1970.
    pub const START: &str = "start_ns";
    /// When it ended, in nanoseconds since 1970.
    pub const END: &str = "end_ns";
    /// The trace of the span that it is linked to, or 0.
    pub const LINKED_TRACE: &str = "linked_trace";
    /// The span that it is linked to, or 0.
    pub const LINKED_SPAN: &str = "linked_span";
}

/// What parts these hashes from all others.
const TRACE_DOMAIN: &[u8] = b"synddb trace 1\0";
const SPAN_DOMAIN: &[u8] = b"synddb span 1\0";

/// Names a trace (W3C Trace Context, `trace-id`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// Names a span of a trace (W3C Trace Context, `parent-id`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// The trace of a body: of whatever a message of this stream carries.
    pub fn of(stream: StreamId, body: BodyHash) -> Self {
        let hash = sha256(&[TRACE_DOMAIN, stream.as_bytes(), body.as_bytes()]);
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Self(id)
    }

    /// The trace of this number, which somebody computed before.
    pub const fn from_number(number: u128) -> Self {
        Self(number.to_be_bytes())
    }

    /// The number that it is, read in network order.
    pub const fn get(self) -> u128 {
        u128::from_be_bytes(self.0)
    }
}

impl SpanId {
    /// The number that it is, read in network order.
    pub const fn get(self) -> u64 {
        u64::from_be_bytes(self.0)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.get())
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.get())
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A place in the log. A body that a deposed leader placed in vain gets another one, and has spans of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The epoch of the leader that signed it there.
    pub epoch: Epoch,
    /// The sequence.
    pub sequence: Sequence,
}

/// What is done with a body, in the order in which it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It is captured, and made durable in the outbox.
    Capture,
    /// It is sent, until it is answered.
    Ship,
    /// It gets a place, signed and made durable.
    Sequence(Place),
    /// The batch that holds it is put into the store.
    Store(Place),
    /// A reader applies it. There may be many, so each span has a name of its own.
    Apply(Place, [u8; 16]),
}

impl Stage {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Ship => "ship",
            Self::Sequence(_) => "sequence",
            Self::Store(_) => "store",
            Self::Apply(..) => "apply",
        }
    }

    /// Its span in a trace.
    pub fn span(self, trace: TraceId) -> SpanId {
        let (place, reader): (Option<Place>, &[u8]) = match &self {
            Self::Capture | Self::Ship => (None, &[]),
            Self::Sequence(place) | Self::Store(place) => (Some(*place), &[]),
            Self::Apply(place, reader) => (Some(*place), reader),
        };
        let epoch = place.map_or(0, |place| place.epoch.get()).to_be_bytes();
        let sequence = place.map_or(0, |place| place.sequence.get()).to_be_bytes();
        let name = self.name().as_bytes();
        let hash = sha256(&[SPAN_DOMAIN, &trace.0, &epoch, &sequence, name, b"\0", reader]);
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        SpanId(id)
    }

    /// The span above it. Capturing is the first.
    pub fn parent(self, trace: TraceId) -> Option<SpanId> {
        let above = match self {
            Self::Capture => return None,
            Self::Ship => Self::Capture,
            Self::Sequence(_) => Self::Ship,
            Self::Store(place) => Self::Sequence(place),
            Self::Apply(place, _) => Self::Store(place),
        };
        Some(above.span(trace))
    }

    /// What a request of this stage says of itself to whatever is on its way (W3C Trace Context, `traceparent`). Nobody of ours believes it.
    pub fn traceparent(self, trace: TraceId, is_sampled: bool) -> String {
        format!("00-{trace}-{}-{:02x}", self.span(trace), u8::from(is_sampled))
    }
}

/// How many traces are sampled: so many of a million, and the same ones everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Sampling {
    per_million: u32,
}

/// All of them.
const MILLION: u32 = 1_000_000;

/// The bits of a trace that are compared, which collectors compare as well (OpenTelemetry, consistent probability sampling).
const RANDOM_BITS: u32 = 56;

impl Sampling {
    /// None.
    pub const NONE: Self = Self { per_million: 0 };

    /// Every one.
    pub const ALL: Self = Self { per_million: MILLION };

    /// Whether a trace is sampled. Whoever samples fewer samples some of the same.
    pub const fn takes(self, trace: TraceId) -> bool {
        let random = trace.get() & ((1 << RANDOM_BITS) - 1);
        let rejected = ((MILLION - self.per_million) as u128) << RANDOM_BITS;
        random * (MILLION as u128) >= rejected
    }
}

impl TryFrom<u32> for Sampling {
    type Error = OutOfRange;

    /// So many of a million.
    fn try_from(per_million: u32) -> Result<Self, OutOfRange> {
        if per_million <= MILLION {
            return Ok(Self { per_million });
        }
        let (max, found) = (u64::from(MILLION), u64::from(per_million));
        Err(OutOfRange { what: "the samples of a million", min: 0, max, found })
    }
}

impl From<Sampling> for u32 {
    fn from(sampling: Sampling) -> Self {
        sampling.per_million
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(byte: u8) -> TraceId {
        TraceId::of(StreamId::from_bytes([1; 32]), BodyHash::of(&[byte]))
    }

    fn place(epoch: u64, sequence: u64) -> Place {
        Place { epoch: Epoch::new(epoch).unwrap(), sequence: Sequence::new(sequence).unwrap() }
    }

    #[test]
    fn each_stage_hangs_below_the_one_before() {
        let (trace, at) = (trace(1), place(2, 3));
        let stages =
            [Stage::Capture, Stage::Ship, Stage::Sequence(at), Stage::Store(at), Stage::Apply(at, [9; 16])];
        assert_eq!(stages[0].parent(trace), None);
        for pair in stages.windows(2) {
            assert_eq!(pair[1].parent(trace), Some(pair[0].span(trace)));
        }
    }

    #[test]
    fn spans_of_other_places_and_readers_are_others() {
        let trace = trace(1);
        let spans = [
            Stage::Sequence(place(2, 3)),
            Stage::Sequence(place(3, 3)),
            Stage::Sequence(place(2, 4)),
            Stage::Store(place(2, 3)),
            Stage::Apply(place(2, 3), [1; 16]),
            Stage::Apply(place(2, 3), [2; 16]),
        ]
        .map(|stage| stage.span(trace).get());
        assert_eq!(std::collections::BTreeSet::from(spans).len(), spans.len());
    }

    #[test]
    fn who_samples_fewer_samples_some_of_the_same() {
        let [few, more] = [10_000_u32, 200_000].map(|share| Sampling::try_from(share).unwrap());
        let traces: Vec<TraceId> = (0..=255)
            .flat_map(|a| (0..=63).map(move |b| (a, b)))
            .map(|(a, b)| TraceId::of(StreamId::from_bytes([a; 32]), BodyHash::of(&[b])))
            .collect();
        let count = |sampling: Sampling| traces.iter().filter(|trace| sampling.takes(**trace)).count();
        assert!(traces.iter().all(|trace| !few.takes(*trace) || more.takes(*trace)));
        assert_eq!((count(Sampling::NONE), count(Sampling::ALL)), (0, traces.len()));
        let (few, more) = (count(few), count(more));
        assert!((80..=260).contains(&few) && (2900..=3700).contains(&more), "{few} {more} of 16384");
        assert!(Sampling::try_from(MILLION + 1).is_err());
    }

    #[test]
    fn a_request_names_its_span_as_the_standard_does() {
        let (trace, span) = (trace(1), Stage::Ship.span(trace(1)));
        assert_eq!(Stage::Ship.traceparent(trace, true), format!("00-{trace}-{span}-01"));
        assert_eq!(Stage::Ship.traceparent(trace, false).len(), 55);
    }
}
