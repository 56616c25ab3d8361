//! Spans on their way to a collector: OTLP over HTTP, in protobuf.
//!
//! ```text
//! event of a role -> layer -> queue, bounded -> one thread -> POST /v1/traces
//!                                 \-> full: dropped, and counted
//! ```
//!
//! What must stay true: nothing that a collector does or does not do makes anybody wait who tells of a span. What it does not take is dropped and counted: spans
//! are samples, and whoever needs everything has the log itself.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::{Counter, counter, describe_counter};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use synddb_protocol::chain;
use synddb_protocol::trace::{TARGET, field};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::TelemetryError;
use super::settings::Collector;
use super::span::instance;
use crate::trouble::Trouble;

/// Most spans that wait to be sent.
const QUEUE_MAX: usize = 4096;

/// Most spans of one request.
const REQUEST_SPANS_MAX: usize = 512;

/// How long a span may wait for others to be sent with.
const GATHER: Duration = Duration::from_secs(1);

/// How long one request may take with everything.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// Most bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Longest text of an attribute, in bytes: what Cloud Trace takes of one.
const TEXT_BYTES_MAX: usize = 256;

/// Most attributes of a span: what Cloud Trace takes of one.
const ATTRIBUTES_MAX: usize = 32;

/// Flags of a span whose trace is sampled (W3C Trace Context).
const SAMPLED: u32 = 1;

/// Sends spans for as long as the process runs.
pub(super) struct Exporter {
    queue: Arc<Queue>,
}

impl Exporter {
    /// Starts the thread that sends.
    pub(super) fn start(role: &'static str, collector: Collector) -> Result<Self, TelemetryError> {
        describe_counter!("synddb_otlp_spans_total", "Spans that the collector took.");
        describe_counter!("synddb_otlp_spans_dropped_total", "Spans that were not sent, or not taken.");
        let exported = counter!("synddb_otlp_spans_total");
        exported.increment(0);
        let queue = Arc::new(Queue::new());
        let sender = Sender {
            resource: resource(role),
            collector,
            agent: agent(),
            exported,
            dropped: dropped("collector"),
            trouble: Trouble::new(),
        };
        let taken = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("synddb-otlp".to_owned())
            .spawn(move || sender.run(&taken))
            .map_err(TelemetryError::Thread)?;
        Ok(Self { queue })
    }

    /// What hears of spans.
    pub(super) fn layer(&self) -> SpanLayer {
        SpanLayer { queue: Arc::clone(&self.queue) }
    }

    /// Sends what waits, and returns when it is sent or the time is up.
    pub(super) fn finish(self, within: Duration) {
        self.queue.finish(within);
    }
}

fn dropped(why: &'static str) -> Counter {
    let counter = counter!("synddb_otlp_spans_dropped_total", "reason" => why);
    counter.increment(0);
    counter
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(REQUEST_MAX))
        .user_agent("synddb")
        .build()
        .new_agent()
}

fn resource(role: &str) -> Resource {
    let service = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
    let instance = hex::encode(instance());
    let attributes = vec![
        text("service.name", service.unwrap_or_else(|| format!("synddb-{role}"))),
        text("service.namespace", "synddb".to_owned()),
        text("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        text("service.instance.id", instance),
    ];
    Resource { attributes, ..Resource::default() }
}

fn text(key: &str, value: String) -> KeyValue {
    attribute(key, Value::StringValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Spans that wait to be sent.
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    dropped: Counter,
}

#[derive(Default)]
struct Waiting {
    spans: VecDeque<Span>,
    /// Whether some are being sent.
    is_sending: bool,
    is_ending: bool,
}

impl Queue {
    fn new() -> Self {
        Self { waiting: Mutex::default(), changed: Condvar::new(), dropped: dropped("queue_full") }
    }

    /// Takes a span, or drops it. Never waits for who sends.
    fn offer(&self, span: Span) {
        let mut waiting = self.waiting();
        if waiting.spans.len() >= QUEUE_MAX {
            drop(waiting);
            return self.dropped.increment(1);
        }
        waiting.spans.push_back(span);
        // Whoever gathers is woken for the first one, and when there is enough.
        let count = waiting.spans.len();
        drop(waiting);
        if count == 1 || count == REQUEST_SPANS_MAX {
            self.changed.notify_all();
        }
    }

    /// The spans of the next request; `None` at the end.
    fn gather(&self) -> Option<Vec<Span>> {
        let mut waiting = self.waiting();
        waiting.is_sending = false;
        self.changed.notify_all();
        while waiting.spans.is_empty() && !waiting.is_ending {
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let until = Instant::now() + GATHER;
        while waiting.spans.len() < REQUEST_SPANS_MAX && !waiting.is_ending {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            waiting = self.changed.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let count = waiting.spans.len().min(REQUEST_SPANS_MAX);
        if count == 0 {
            return None;
        }
        waiting.is_sending = true;
        Some(waiting.spans.drain(..count).collect())
    }

    fn finish(&self, within: Duration) {
        let until = Instant::now() + within;
        let mut waiting = self.waiting();
        waiting.is_ending = true;
        self.changed.notify_all();
        while waiting.is_sending || !waiting.spans.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            waiting = self.changed.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A queue is whole after every push.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that sends.
struct Sender {
    resource: Resource,
    collector: Collector,
    agent: ureq::Agent,
    exported: Counter,
    dropped: Counter,
    trouble: Trouble,
}

/// Why a collector took nothing.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error("it does not answer")]
    Unanswered(#[source] Box<ureq::Error>),
    #[error("it refuses. status=`{status}`")]
    Refused { status: u16 },
}

impl Sender {
    fn run(mut self, queue: &Queue) {
        while let Some(spans) = queue.gather() {
            self.send(spans);
        }
    }

    fn send(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let scope = InstrumentationScope { name: "synddb".to_owned(), ..InstrumentationScope::default() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let of_this =
            ResourceSpans { resource: Some(self.resource.clone()), scope_spans, ..ResourceSpans::default() };
        let request = ExportTraceServiceRequest { resource_spans: vec![of_this] };
        match self.post(&request.encode_to_vec()) {
            Ok(rejected) => {
                let rejected = rejected.min(count);
                self.exported.increment(count - rejected);
                self.dropped.increment(rejected);
                if let Some(lasting) = self.trouble.over(Instant::now()) {
                    tracing::info!(lasts_s = lasting.lasts.as_secs(), "the collector takes traces again");
                }
            }
            Err(error) => {
                self.dropped.increment(count);
                let kind = match error {
                    NotTaken::Unanswered(_) => "away",
                    NotTaken::Refused { .. } => "refused",
                };
                if let Some(lasting) = self.trouble.met(Instant::now(), kind) {
                    // Not the whole URL: what follows the host may be a secret.
                    let collector = self.collector.url.host_str().unwrap_or_default();
                    tracing::warn!(
                        collector,
                        error = chain(&error),
                        requests = lasting.times,
                        lasts_s = lasting.lasts.as_secs(),
                        "the collector takes no traces; they are dropped and counted, and nothing waits for it"
                    );
                }
            }
        }
    }

    /// How many spans the collector rejected of those it was sent.
    fn post(&self, body: &[u8]) -> Result<u64, NotTaken> {
        let mut request = self.agent.post(self.collector.url.as_str()).content_type("application/x-protobuf");
        for (name, value) in &self.collector.headers {
            request = request.header(name, value);
        }
        let unanswered = |error| NotTaken::Unanswered(Box::new(error));
        let mut response = request.send(body).map_err(unanswered)?;
        let status = response.status();
        if !status.is_success() {
            return Err(NotTaken::Refused { status: status.as_u16() });
        }
        // What cannot be read rejects nothing: it was taken, as the status says.
        let answer =
            response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().unwrap_or_default();
        let rejected = ExportTraceServiceResponse::decode(answer.as_slice())
            .ok()
            .and_then(|answer| u64::try_from(answer.partial_success?.rejected_spans).ok());
        Ok(rejected.unwrap_or(0))
    }
}

/// Hears of spans, and of nothing else.
pub(super) struct SpanLayer {
    queue: Arc<Queue>,
}

impl<S: Subscriber> Layer<S> for SpanLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if is_span(event.metadata()) {
            let mut told = Told::default();
            event.record(&mut told);
            if let Some(span) = told.into_span() {
                self.queue.offer(span);
            }
        }
    }
}

pub(super) fn is_span(metadata: &Metadata<'_>) -> bool {
    metadata.target() == TARGET
}

/// What an event told.
#[derive(Default)]
struct Told {
    stage: String,
    trace: u128,
    span: u64,
    parent: u64,
    linked: (u128, u64),
    start_ns: u64,
    end_ns: u64,
    attributes: Vec<KeyValue>,
}

impl Told {
    fn into_span(self) -> Option<Span> {
        let Self { stage, trace, span, parent, linked, start_ns, end_ns, attributes } = self;
        if trace == 0 || span == 0 {
            return None;
        }
        let id = |span: u64| if span == 0 { Vec::new() } else { span.to_be_bytes().to_vec() };
        let link = (linked.1 != 0).then(|| Link {
            trace_id: linked.0.to_be_bytes().to_vec(),
            span_id: id(linked.1),
            flags: SAMPLED,
            ..Link::default()
        });
        Some(Span {
            trace_id: trace.to_be_bytes().to_vec(),
            span_id: id(span),
            parent_span_id: id(parent),
            flags: SAMPLED,
            name: stage,
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: start_ns,
            end_time_unix_nano: end_ns,
            attributes,
            links: link.into_iter().collect(),
            ..Span::default()
        })
    }

    fn attribute(&mut self, name: &str, value: Value) {
        if self.attributes.len() < ATTRIBUTES_MAX {
            self.attributes.push(attribute(&format!("synddb.{name}"), value));
        }
    }
}

impl Visit for Told {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            field::SPAN => self.span = value,
            field::PARENT => self.parent = value,
            field::START => self.start_ns = value,
            field::END => self.end_ns = value,
            field::LINKED_SPAN => self.linked.1 = value,
            name => self.attribute(name, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX))),
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        match field.name() {
            field::TRACE => self.trace = value,
            field::LINKED_TRACE => self.linked.0 = value,
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut value = value.to_owned();
        value.truncate(value.floor_char_boundary(TEXT_BYTES_MAX));
        if field.name() == field::STAGE {
            self.stage = value;
        } else {
            self.attribute(field.name(), Value::StringValue(value));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(number: u64) -> Span {
        let told = Told { stage: "ship".to_owned(), trace: 1, span: number, ..Told::default() };
        told.into_span().unwrap()
    }

    #[test]
    fn a_full_queue_drops_and_does_not_wait() {
        let queue = Queue::new();
        (1..=QUEUE_MAX as u64 + 7).for_each(|number| queue.offer(span(number)));
        assert_eq!(queue.waiting().spans.len(), QUEUE_MAX);
        let sent = queue.gather().unwrap();
        assert_eq!((sent.len(), sent[0].span_id[7]), (REQUEST_SPANS_MAX, 1));
        queue.finish(Duration::ZERO);
        let rest = std::iter::from_fn(|| queue.gather()).map(|spans| spans.len()).sum::<usize>();
        assert_eq!(rest, QUEUE_MAX - REQUEST_SPANS_MAX, "what waits at the end is given out at once");
    }

    #[test]
    fn attributes_are_within_what_collectors_take() {
        let layer = SpanLayer { queue: Arc::new(Queue::new()) };
        let queue = Arc::clone(&layer.queue);
        use tracing_subscriber::layer::SubscriberExt as _;
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let long = "é".repeat(300);
            tracing::trace!(target: TARGET, stage = "ship", trace = 3_u128, span = 4_u64, start_ns = 1_u64, end_ns = 2_u64, stream = %long, commit = 7_u64);
            tracing::trace!(target: TARGET, stage = "of no trace", span = 4_u64);
            tracing::error!(stage = "another target", trace = 3_u128, span = 4_u64);
        });
        let spans: Vec<Span> = queue.waiting().spans.drain(..).collect();
        let [span] = spans.as_slice() else { panic!("{spans:?}") };
        assert_eq!((span.name.as_str(), span.parent_span_id.len(), span.links.len()), ("ship", 0, 0));
        let text = |value: &KeyValue| match &value.value.as_ref().unwrap().value {
            Some(Value::StringValue(text)) => text.len(),
            Some(Value::IntValue(7)) => 1,
            other => panic!("{other:?}"),
        };
        let lengths: Vec<(&str, usize)> = span.attributes.iter().map(|a| (a.key.as_str(), text(a))).collect();
        assert_eq!(lengths, [("synddb.stream", 256), ("synddb.commit", 1)]);
    }
}
