//! What is told of the way of a submission: that it was captured, and that it was sent. Both are spans of the trace that everybody computes
//! (`synddb_protocol::trace`); whoever listens sends them to a collector.
//!
//! Costs nothing where nothing is sampled.

use std::time::{SystemTime, UNIX_EPOCH};

use synddb_protocol::hash::BodyHash;
use synddb_protocol::id::StreamId;
use synddb_protocol::trace::{Sampling, SpanId, Stage, TARGET, TraceId};

use crate::outbox::{Held, Holds, SubmissionId};

/// Most submissions of one poll that are traced.
const TRACED_MAX: usize = 256;

/// What is traced of what a poll captures, until that is durable.
#[derive(Debug)]
pub(crate) struct Captured {
    sampling: Sampling,
    began: SystemTime,
    submissions: Vec<(StreamId, TraceId, Holds)>,
}

impl Captured {
    pub(crate) fn begin(sampling: Sampling) -> Self {
        Self { sampling, began: SystemTime::now(), submissions: Vec::new() }
    }

    /// A submission is written and not durable yet.
    pub(crate) fn note(&mut self, stream: StreamId, holds: Holds, body: &[u8]) {
        if self.submissions.len() < TRACED_MAX
            && let Some(trace) = sampled(self.sampling, stream, body)
        {
            self.submissions.push((stream, trace, holds));
        }
    }

    /// All are durable.
    pub(crate) fn kept(self) {
        for (stream, trace, holds) in self.submissions {
            tell(Stage::Capture, trace, self.began, stream, holds, None);
        }
    }
}

/// A submission while it is sent, however often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shipping {
    id: SubmissionId,
    trace: Option<TraceId>,
    began: SystemTime,
    attempts: u64,
}

impl Shipping {
    /// The next attempt. What was sent before is gone on with when it is the same.
    pub(crate) fn again(before: Option<Self>, sampling: Sampling, stream: StreamId, held: &Held) -> Self {
        match before {
            Some(before) if before.id == held.id => Self { attempts: before.attempts + 1, ..before },
            _ => {
                let trace = sampled(sampling, stream, &held.body);
                Self { id: held.id, trace, began: SystemTime::now(), attempts: 1 }
            }
        }
    }

    /// What the request says of itself to whatever is on its way.
    pub(crate) fn traceparent(&self) -> Option<String> {
        self.trace.map(|trace| Stage::Ship.traceparent(trace, true))
    }

    /// It was answered with a receipt.
    pub(crate) fn taken(self, stream: StreamId, holds: Holds) {
        if let Some(trace) = self.trace {
            tell(Stage::Ship, trace, self.began, stream, holds, Some(self.attempts));
        }
    }
}

fn sampled(sampling: Sampling, stream: StreamId, body: &[u8]) -> Option<TraceId> {
    if sampling == Sampling::NONE {
        return None;
    }
    Some(TraceId::of(stream, BodyHash::of(body))).filter(|trace| sampling.takes(*trace))
}

fn tell(
    stage: Stage,
    trace: TraceId,
    began: SystemTime,
    stream: StreamId,
    holds: Holds,
    attempts: Option<u64>,
) {
    let (began, ended) = (nanoseconds(began), nanoseconds(SystemTime::now()));
    let (first, last, part) = match holds {
        Holds::Commits { first, last } => (first, last, None),
        Holds::Part { commit, index, .. } => (commit, commit, Some(index.get())),
    };
    tracing::trace!(
        target: TARGET,
        stage = stage.name(),
        trace = trace.get(),
        span = stage.span(trace).get(),
        parent = stage.parent(trace).map_or(0, SpanId::get),
        start_ns = began,
        end_ns = ended.max(began),
        stream = %stream,
        commit = first.get(),
        last_commit = last.get(),
        part,
        attempts,
    );
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
