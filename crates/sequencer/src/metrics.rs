//! The names of what is counted. Lag is a subtraction: `sequence - stored_sequence` here, `sequence` here less `applied_sequence` there.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use synddb_protocol::http::{Position, Reason, StreamStatus};
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::StatusLevel;

use crate::mailbox::Known;

/// Says what is counted, and begins to count what may never happen.
pub(crate) fn describe() {
    describe_counter!(
        "synddb_sequencer_messages_total",
        "Messages that were given a place: signed, and durable in the journal."
    );
    describe_gauge!("synddb_sequencer_sequence", "The last place given.");
    describe_gauge!(
        "synddb_sequencer_sequenced_commit",
        "The last commit of the running incarnation that has a place."
    );
    describe_counter!("synddb_sequencer_stored_messages_total", "Messages whose batch the store took.");
    describe_gauge!("synddb_sequencer_stored_sequence", "Everything up to this place is in the store.");
    describe_gauge!(
        "synddb_sequencer_stored_commit",
        "The last commit of the running incarnation that is in the store."
    );
    describe_counter!("synddb_sequencer_batches_total", "Batches that were cut.");
    describe_counter!(
        "synddb_sequencer_put_retries_total",
        "Puts of a batch that were not answered, and tried again."
    );
    describe_counter!(
        "synddb_sequencer_missing_chunks_total",
        "Chunks of snapshots that the store lacked when the message that names them was stored: without them nobody replays the log."
    );
    describe_histogram!(
        "synddb_sequencer_put_seconds",
        "Time until the store took a batch, with every further attempt."
    );
    describe_histogram!(
        "synddb_sequencer_submit_to_stored_seconds",
        "Time from the place of a group of messages until they are in the store."
    );
    describe_counter!(
        "synddb_sequencer_admitted_total",
        "Requests that may write, by the credential: one that is not used any more can be revoked."
    );
    describe_gauge!("synddb_sequencer_leading", "1 while this process leads the stream.");
    describe_gauge!("synddb_sequencer_lease_held", "1 while the lease of the stream is held here.");
    describe_counter!(
        "synddb_sequencer_refused_total",
        "Requests that write and were refused, by the code of the problem."
    );
    describe_counter!(
        "synddb_sequencer_outbound_signed_total",
        "Outbound messages that are signed for the bridge: their rows are stored."
    );
    describe_counter!(
        "synddb_sequencer_outbound_refused_total",
        "Outbound messages that are never signed: rows that are malformed, out of order, changed or deleted."
    );
    describe_gauge!(
        "synddb_sequencer_outbound_nonce",
        "The highest nonce of an outbound message that is known; 0 for none."
    );
    describe_gauge!(
        "synddb_sequencer_inbound_nonce",
        "The highest nonce of an inbound message that is stored; 0 for none."
    );
    describe_gauge!(
        "synddb_sequencer_inbound_acknowledged_nonce",
        "All inbound messages up to this nonce are acknowledged by the application."
    );
    describe_gauge!(
        "synddb_sequencer_inbound_failing",
        "1 while the nodes of the chain, or the log, keep inbound messages from being brought."
    );
    describe_gauge!(
        "synddb_sequencer_status_level",
        "How late the application is with its inbound messages: 0 healthy, 1 warned, 2 degraded, 3 halted."
    );
    describe_gauge!("synddb_sequencer_live_readers", "Readers of logs as they grow.");
    describe_counter!(
        "synddb_sequencer_live_dropped_total",
        "Readers that fell behind, and were sent to the store."
    );
    gauge!("synddb_sequencer_live_readers").set(0.0);
    counter!("synddb_sequencer_live_dropped_total").increment(0);
}

/// What is counted of one stream. Found once: it is counted many times a second.
#[derive(Clone)]
pub(crate) struct StreamMetrics {
    messages: Counter,
    stored_messages: Counter,
    batches: Counter,
    put_retries: Counter,
    missing_chunks: Counter,
    sequence: Gauge,
    stored: Gauge,
    sequenced_commit: Gauge,
    stored_commit: Gauge,
    leading: Gauge,
    put_seconds: Histogram,
    submit_to_stored: Histogram,
}

impl StreamMetrics {
    pub(crate) fn new(stream: StreamId) -> Self {
        let stream = stream.to_key();
        let label = || [("stream", stream.clone())];
        let counted = |counter: Counter| {
            counter.increment(0);
            counter
        };
        Self {
            messages: counted(counter!("synddb_sequencer_messages_total", &label())),
            stored_messages: counted(counter!("synddb_sequencer_stored_messages_total", &label())),
            batches: counted(counter!("synddb_sequencer_batches_total", &label())),
            put_retries: counted(counter!("synddb_sequencer_put_retries_total", &label())),
            missing_chunks: counted(counter!("synddb_sequencer_missing_chunks_total", &label())),
            sequence: gauge!("synddb_sequencer_sequence", &label()),
            stored: gauge!("synddb_sequencer_stored_sequence", &label()),
            sequenced_commit: gauge!("synddb_sequencer_sequenced_commit", &label()),
            stored_commit: gauge!("synddb_sequencer_stored_commit", &label()),
            leading: gauge!("synddb_sequencer_leading", &label()),
            put_seconds: histogram!("synddb_sequencer_put_seconds", &label()),
            submit_to_stored: histogram!("synddb_sequencer_submit_to_stored_seconds", &label()),
        }
    }

    /// Messages got a place.
    pub(crate) fn sequenced(&self, messages: u64) {
        self.messages.increment(messages);
    }

    /// A batch was cut.
    pub(crate) fn cut(&self) {
        self.batches.increment(1);
    }

    /// So many messages are stored.
    pub(crate) fn stored(&self, messages: u64) {
        self.stored_messages.increment(messages);
    }

    /// How the stream stands here, and whether it is led.
    pub(crate) fn stands(&self, is_leading: bool, status: &StreamStatus) {
        let StreamStatus { sequence, stored, sequenced_next, stored_next, .. } = status;
        self.leading.set(f64::from(u8::from(is_leading)));
        self.sequence.set(place(*sequence));
        self.stored.set(place(*stored));
        let incarnation = sequenced_next.map(|next| next.incarnation);
        let stored_next = stored_next.filter(|stored| Some(stored.incarnation) == incarnation);
        self.sequenced_commit.set(commit(*sequenced_next));
        self.stored_commit.set(commit(stored_next));
    }

    /// Nobody leads the stream here any more.
    pub(crate) fn ended(&self) {
        self.leading.set(0.0);
    }

    /// A group of messages is stored, so long after it got its places.
    pub(crate) fn took_to_store(&self, time: Duration) {
        self.submit_to_stored.record(time.as_secs_f64());
    }

    /// The store took a batch, so long after it was asked first.
    pub(crate) fn put(&self, time: Duration) {
        self.put_seconds.record(time.as_secs_f64());
    }

    /// A message is stored, and so many chunks that it names are not.
    pub(crate) fn lacks_chunks(&self, chunks: u64) {
        self.missing_chunks.increment(chunks);
    }

    /// A put was not answered, and is tried again.
    pub(crate) fn put_retried(&self) {
        self.put_retries.increment(1);
    }
}

/// What is counted of the messages of one stream and its bridge.
pub(crate) struct MailboxMetrics {
    signed: Counter,
    refused: Counter,
    outbound: Gauge,
    delivered: Gauge,
    acknowledged: Gauge,
    level: Gauge,
    failing: Gauge,
}

impl MailboxMetrics {
    pub(crate) fn new(stream: StreamId) -> Self {
        let stream = stream.to_key();
        let label = || [("stream", stream.clone())];
        let signed = counter!("synddb_sequencer_outbound_signed_total", &label());
        let refused = counter!("synddb_sequencer_outbound_refused_total", &label());
        signed.increment(0);
        refused.increment(0);
        Self {
            signed,
            refused,
            outbound: gauge!("synddb_sequencer_outbound_nonce", &label()),
            delivered: gauge!("synddb_sequencer_inbound_nonce", &label()),
            acknowledged: gauge!("synddb_sequencer_inbound_acknowledged_nonce", &label()),
            level: gauge!("synddb_sequencer_status_level", &label()),
            failing: gauge!("synddb_sequencer_inbound_failing", &label()),
        }
    }

    /// A stored batch brought so many.
    pub(crate) fn brought(&self, signed: u64, refused: u64) {
        self.signed.increment(signed);
        self.refused.increment(refused);
    }

    /// So much is known.
    #[expect(clippy::cast_precision_loss, reason = "nonces are dense: nobody counts to 2^53")]
    pub(crate) fn stands(&self, known: &Known) {
        self.outbound.set(known.outbound as f64);
        self.delivered.set(known.delivered as f64);
        self.acknowledged.set(known.consumed.min(known.delivered) as f64);
        self.level.set(match known.level {
            StatusLevel::Healthy => 0.0,
            StatusLevel::Warned => 1.0,
            StatusLevel::Degraded => 2.0,
            StatusLevel::Halted => 3.0,
        });
    }

    /// Whoever leads now says how things stand.
    pub(crate) fn ended(&self) {
        self.level.set(0.0);
        self.failing.set(0.0);
    }

    /// The chain was looked at, or could not be.
    pub(crate) fn follows(&self, does: bool) {
        self.failing.set(f64::from(u8::from(!does)));
    }
}

/// Whether the lease of a stream is held here.
pub(crate) fn lease_held(stream: StreamId, is_held: bool) {
    gauge!("synddb_sequencer_lease_held", "stream" => stream.to_key()).set(f64::from(u8::from(is_held)));
}

/// Somebody with this credential may write: whoever exchanges one sees by it when the old one is used no more. There are as many names as a
/// file of credentials lists.
pub(crate) fn admitted(credential: &str) {
    counter!("synddb_sequencer_admitted_total", "credential" => credential.to_owned()).increment(1);
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

/// The last whole commit before a position; 0 before the first.
#[expect(clippy::cast_precision_loss, reason = "a commit number stays below 2^53")]
fn commit(next: Option<Position>) -> f64 {
    next.map_or(0, |next| next.commit.get() - 1) as f64
}
