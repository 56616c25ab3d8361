//! What is traced of messages between applying them and the commit that keeps them.

use std::time::SystemTime;

use synddb_protocol::id::StreamId;
use synddb_protocol::log::VerifiedMessage;
use synddb_protocol::trace::{Place, Stage, TraceId};
use synddb_service::telemetry::span::{self, Ended};

/// Most messages of one transaction that are traced.
const TRACED_MAX: usize = 1024;

#[derive(Default)]
pub(super) struct Applying {
    traced: Vec<Traced>,
    /// How many of them are of batches that were applied whole.
    whole: usize,
}

struct Traced {
    stream: StreamId,
    trace: TraceId,
    place: Place,
    began: SystemTime,
}

impl Applying {
    /// A batch begins. What was noted of one that was not applied is forgotten.
    pub(super) fn begin(&mut self) {
        self.traced.truncate(self.whole);
    }

    /// A message of the batch was applied.
    pub(super) fn note(&mut self, message: &VerifiedMessage, began: SystemTime) {
        let header = message.header();
        if self.traced.len() < TRACED_MAX
            && let Some(trace) = span::sampled(header.stream, message.receipt().body_hash())
        {
            let place = Place { epoch: header.epoch, sequence: header.sequence };
            self.traced.push(Traced { stream: header.stream, trace, place, began });
        }
    }

    /// The batch was applied whole.
    pub(super) fn applied(&mut self) {
        self.whole = self.traced.len();
    }

    /// Everything that was applied is committed.
    pub(super) fn committed(&mut self) {
        self.begin();
        for Traced { stream, trace, place, began } in self.traced.drain(..) {
            let stage = Stage::Apply(place, span::instance());
            span::tell(&Ended { stage, trace, stream, place, began, batch: None, linked: None });
        }
        self.whole = 0;
    }
}
