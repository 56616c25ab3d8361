//! What is measured and traced of messages between their places and the store. Decides nothing, and is forgotten with the process: what a restart finds in the
//! journal is stored unmeasured.

use std::collections::VecDeque;
use std::time::{Instant, SystemTime};

use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::{Message, MessageType};
use synddb_protocol::trace::{Place, SpanId, Stage, TraceId};
use synddb_service::telemetry::span::{self, Ended};

use crate::metrics::StreamMetrics;

/// Most groups whose times are remembered while the store takes nothing. Later ones are not measured.
const GROUPS_MAX: usize = 4096;

/// Most messages that are traced while the store takes nothing. Later ones have no span of their storing.
const TRACED_MAX: usize = 1024;

pub(super) struct Underway {
    stream: StreamId,
    metrics: StreamMetrics,
    step: SystemTime,
    groups: VecDeque<(Sequence, Instant)>,
    traced: VecDeque<(TraceId, Place)>,
    /// The batch that is being put.
    put: Option<(Sequence, SystemTime)>,
}

impl Underway {
    pub(super) fn new(stream: StreamId, metrics: StreamMetrics) -> Self {
        let (groups, traced) = (VecDeque::new(), VecDeque::new());
        Self { stream, metrics, step: SystemTime::now(), groups, traced, put: None }
    }

    /// What is decided next begins now.
    pub(super) fn begin_step(&mut self) {
        self.step = SystemTime::now();
    }

    /// Messages have their places, durably.
    pub(super) fn signed(&mut self, messages: &[Message]) {
        let Some(last) = messages.last() else { return };
        if self.groups.len() < GROUPS_MAX {
            self.groups.push_back((last.receipt.header().sequence, Instant::now()));
        }
        for message in messages {
            let header = message.receipt.header();
            if header.message_type != MessageType::Submission {
                continue;
            }
            let Some(trace) = span::sampled(self.stream, message.receipt.body_hash()) else { continue };
            let place = Place { epoch: header.epoch, sequence: header.sequence };
            self.tell(Stage::Sequence(place), trace, place, self.step, None, None);
            tracing::debug!(sequence = %place.sequence, trace_id = %trace, "traced");
            if self.traced.len() < TRACED_MAX {
                self.traced.push_back((trace, place));
            }
        }
    }

    /// A batch is put.
    pub(super) fn put(&mut self, first: Sequence) {
        self.put = Some((first, SystemTime::now()));
    }

    /// The store has everything up to here.
    pub(super) fn stored(&mut self, last: Sequence) {
        let Some((first, began)) = self.put.take() else { return };
        self.metrics.stored((last.get() + 1).saturating_sub(first.get()));
        while let Some((_, signed)) = self.groups.pop_front_if(|(sequence, _)| *sequence <= last) {
            self.metrics.took_to_store(signed.elapsed());
        }
        let batch = format!("{first}_{last}");
        // The spans of one batch hang together by the first of them.
        let mut leading = None;
        while let Some((trace, place)) = self.traced.pop_front_if(|(_, place)| place.sequence <= last) {
            let stage = Stage::Store(place);
            self.tell(stage, trace, place, began, Some(&batch), leading);
            leading = leading.or(Some((trace, stage.span(trace))));
        }
    }

    fn tell(
        &self,
        stage: Stage,
        trace: TraceId,
        place: Place,
        began: SystemTime,
        batch: Option<&str>,
        linked: Option<(TraceId, SpanId)>,
    ) {
        span::tell(&Ended { stage, trace, stream: self.stream, place, began, batch, linked });
    }
}
