//! The names of what is counted. Lag is a subtraction: `sequence - published_sequence`.

use metrics::{Counter, Gauge, counter, gauge};
use synddb_protocol::http::Reason;
use synddb_protocol::id::{Sequence, StreamId};

/// What is counted of one stream. Found once: it is counted many times a second.
#[derive(Clone)]
pub(crate) struct StreamMetrics {
    messages: Counter,
    batches: Counter,
    put_retries: Counter,
    sequence: Gauge,
    published: Gauge,
}

impl StreamMetrics {
    pub(crate) fn new(stream: StreamId) -> Self {
        let stream = stream.to_key();
        Self {
            messages: counter!("synddb_sequencer_messages_total", "stream" => stream.clone()),
            batches: counter!("synddb_sequencer_batches_total", "stream" => stream.clone()),
            put_retries: counter!("synddb_sequencer_put_retries_total", "stream" => stream.clone()),
            sequence: gauge!("synddb_sequencer_sequence", "stream" => stream.clone()),
            published: gauge!("synddb_sequencer_published_sequence", "stream" => stream),
        }
    }

    /// Messages got a place, the last one this.
    pub(crate) fn sequenced(&self, messages: u64, last: Option<Sequence>) {
        self.messages.increment(messages);
        self.sequence.set(place(last));
    }

    /// A batch was cut.
    pub(crate) fn cut(&self) {
        self.batches.increment(1);
    }

    /// Everything up to here is stored.
    pub(crate) fn published(&self, last: Sequence) {
        self.published.set(place(Some(last)));
    }

    /// A put was not answered, and is tried again.
    pub(crate) fn put_retried(&self) {
        self.put_retries.increment(1);
    }
}

/// Whether the lease of a stream is held here.
pub(crate) fn lease_held(stream: StreamId, is_held: bool) {
    gauge!("synddb_sequencer_lease_held", "stream" => stream.to_key()).set(f64::from(u8::from(is_held)));
}

/// A request that writes was refused.
pub(crate) fn refused(reason: &Reason) {
    counter!("synddb_sequencer_refused_total", "code" => reason.code()).increment(1);
}

/// Readers of logs as they grow came or went.
pub(crate) fn readers(change: f64) {
    gauge!("synddb_sequencer_live_readers").increment(change);
}

/// A reader fell behind what is kept in memory, and was sent to the store.
pub(crate) fn reader_dropped() {
    counter!("synddb_sequencer_live_dropped_total").increment(1);
}

/// Places stay below 2^53, so that every one is exact.
#[expect(clippy::cast_precision_loss, reason = "a sequence has at most twelve digits")]
fn place(sequence: Option<Sequence>) -> f64 {
    sequence.map_or(0, Sequence::get) as f64
}
