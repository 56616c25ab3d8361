//! How a role tells of a span: after it has ended, with the names that everybody computes (`synddb_protocol::trace`).

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use synddb_protocol::hash::BodyHash;
use synddb_protocol::id::StreamId;
use synddb_protocol::trace::{Place, Sampling, SpanId, Stage, TARGET, TraceId};

static SAMPLING: OnceLock<Sampling> = OnceLock::new();
static INSTANCE: OnceLock<[u8; 16]> = OnceLock::new();

/// What is sampled in this process: nothing, until [`super::start`] has said otherwise.
pub fn sampling() -> Sampling {
    SAMPLING.get().copied().unwrap_or(Sampling::NONE)
}

pub(super) fn sample(sampling: Sampling) {
    SAMPLING.set(sampling).ok();
}

/// The trace of a body, if it is sampled. Costs nothing where nothing is.
pub fn sampled(stream: StreamId, body: BodyHash) -> Option<TraceId> {
    let sampling = sampling();
    if sampling == Sampling::NONE {
        return None;
    }
    Some(TraceId::of(stream, body)).filter(|trace| sampling.takes(*trace))
}

/// What tells this process from all others. It is drawn once; without chance it is zero.
pub fn instance() -> [u8; 16] {
    *INSTANCE.get_or_init(|| {
        let mut drawn = [0; 16];
        getrandom::fill(&mut drawn).ok();
        drawn
    })
}

/// A span that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// What was done.
    pub stage: Stage,
    /// In which trace.
    pub trace: TraceId,
    /// The stream.
    pub stream: StreamId,
    /// Where the message stands.
    pub place: Place,
    /// When it began. It ends now.
    pub began: SystemTime,
    /// The first and the last sequence of the batch that it was done with.
    pub batch: Option<&'a str>,
    /// A span that it was done together with.
    pub linked: Option<(TraceId, SpanId)>,
}

/// Tells of a span.
pub fn tell(span: &Ended<'_>) {
    let Ended { stage, trace, stream, place, began, batch, linked } = *span;
    let (began, ended) = (nanoseconds(began), nanoseconds(SystemTime::now()));
    tracing::trace!(
        target: TARGET,
        stage = stage.name(),
        trace = trace.get(),
        span = stage.span(trace).get(),
        parent = stage.parent(trace).map_or(0, SpanId::get),
        start_ns = began,
        end_ns = ended.max(began),
        linked_trace = linked.map(|(trace, _)| trace.get()),
        linked_span = linked.map(|(_, span)| span.get()),
        stream = %stream,
        epoch = place.epoch.get(),
        sequence = place.sequence.get(),
        batch,
    );
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
