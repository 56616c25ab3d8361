//! One trace for the whole way of a submission, though nothing of it is sent from one role to the next.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use synddb_protocol::id::StreamId;

use super::collector::{Collector, Does};
use super::metrics_of;
use crate::programs::sql;
use crate::roles::System;

/// A span, and which process told of it.
#[derive(Debug)]
struct Told {
    service: String,
    instance: String,
    span: Span,
}

impl Told {
    fn number(&self, key: &str) -> Option<i64> {
        let value = value(&self.span.attributes, key)?;
        let Value::IntValue(number) = value else { panic!("{key} is no number: {value:?}") };
        Some(number)
    }

    fn text(&self, key: &str) -> Option<String> {
        text(&self.span.attributes, key)
    }
}

fn value(attributes: &[KeyValue], key: &str) -> Option<Value> {
    attributes.iter().find(|found| found.key == key)?.value.clone()?.value
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = value(attributes, key)?;
    let Value::StringValue(text) = value else { panic!("{key} is no text: {value:?}") };
    Some(text)
}

fn told(collector: &Collector) -> Vec<Told> {
    let mut told = Vec::new();
    for of_process in collector.requests().into_iter().flat_map(|request| request.resource_spans) {
        let resource = of_process.resource.unwrap().attributes;
        let service = text(&resource, "service.name").unwrap();
        let instance = text(&resource, "service.instance.id").unwrap();
        assert_eq!(text(&resource, "service.version").unwrap(), env!("CARGO_PKG_VERSION"));
        for span in of_process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            told.push(Told { service: service.clone(), instance: instance.clone(), span });
        }
    }
    told
}

/// The spans of a trace as a tree. Times are from its beginning.
fn tree(spans: &[&Told]) -> String {
    fn below(spans: &[&Told], parent: &[u8], depth: usize, from: u64, lines: &mut Vec<String>) {
        let mut children: Vec<&&Told> =
            spans.iter().filter(|told| told.span.parent_span_id == parent).collect();
        children.sort_by_key(|told| told.span.start_time_unix_nano);
        for told in children {
            let Span { name, span_id, start_time_unix_nano: start, end_time_unix_nano: end, .. } = &told.span;
            let at = |time: u64| Duration::from_nanos(time.saturating_sub(from));
            lines.push(format!(
                "{:indent$}{name} [{}] {:.1?} -> {:.1?}",
                "",
                told.service,
                at(*start),
                at(*end),
                indent = depth * 2
            ));
            below(spans, span_id, depth + 1, from, lines);
        }
    }
    let from = spans.iter().map(|told| told.span.start_time_unix_nano).min().unwrap();
    let mut lines = Vec::new();
    below(spans, &[], 0, from, &mut lines);
    lines.join("\n")
}

fn environment(endpoint: &str) -> [(&'static str, PathBuf); 2] {
    [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.into()), ("OTEL_TRACES_SAMPLER_ARG", "1".into())]
}

fn make(app: &std::path::Path) {
    sql(app, "PRAGMA journal_mode = WAL; CREATE TABLE t(a INTEGER PRIMARY KEY, b);");
}

#[test]
fn a_commit_is_one_trace_from_the_agent_over_the_store_to_each_replica() {
    let collector = Collector::start(&[Does::Takes]);
    let folder = tempfile::tempdir().unwrap();
    let mut system = System::start_in(folder.path(), &environment(&format!("http://{}", collector.address)));
    make(&system.app);
    let mut agent = system.follow();
    sql(&system.app, "INSERT INTO t(b) VALUES('one')");
    system.assert_equal();
    sql(&system.app, "INSERT INTO t(b) VALUES('two')");
    system.assert_equal();
    let stream = synddb_agent::stream_of(&system.home).unwrap();
    // Whatever was not sent yet is sent at the end.
    agent.end();
    system.sequencer.end();
    system.validator.end();

    let told = told(&collector);
    let mut traces = BTreeMap::<&[u8], Vec<&Told>>::new();
    for span in &told {
        traces.entry(&span.span.trace_id).or_default().push(span);
    }
    assert!(traces.len() >= 2, "a trace for each submission: {told:#?}");
    for (trace, spans) in &traces {
        let shown = tree(spans);
        println!("trace {}\n{shown}", hex::encode(trace));
        assert_whole(spans, stream, &shown);
    }
    let commits: Vec<i64> = told.iter().filter_map(|told| told.number("synddb.last_commit")).collect();
    assert!(commits.contains(&2), "{commits:?}");
    let mut instances: Vec<&str> = told.iter().map(|told| told.instance.as_str()).collect();
    instances.sort_unstable();
    instances.dedup();
    assert_eq!(instances.len(), 3, "each process has an instance of its own");
}

/// Five spans, each below the one before, in the order of their times.
fn assert_whole(spans: &[&Told], stream: StreamId, shown: &str) {
    const WAY: [(&str, &str); 5] = [
        ("capture", "synddb-agent"),
        ("ship", "synddb-agent"),
        ("sequence", "synddb-sequencer"),
        ("store", "synddb-sequencer"),
        ("apply", "synddb-validator"),
    ];
    assert_eq!(spans.len(), WAY.len(), "{shown}");
    let mut above: Option<&Told> = None;
    let mut places = Vec::new();
    for (name, service) in WAY {
        let found =
            spans.iter().find(|told| told.span.name == name).unwrap_or_else(|| panic!("{name}: {shown}"));
        let Span { start_time_unix_nano: start, end_time_unix_nano: end, parent_span_id, attributes, .. } =
            &found.span;
        assert_eq!(found.service, service, "{shown}");
        assert!(start <= end, "{shown}");
        let (parent, began) =
            above.map_or((&[][..], 0), |above| (&above.span.span_id[..], above.span.start_time_unix_nano));
        assert_eq!((&parent_span_id[..], *start >= began), (parent, true), "{name}: {shown}");
        assert_eq!(found.text("synddb.stream").unwrap(), stream.to_string());
        assert!(attributes.len() <= 32 && attributes.iter().all(|attribute| attribute.key.len() < 128));
        places
            .extend(found.number("synddb.sequence").map(|sequence| (sequence, found.number("synddb.epoch"))));
        above = Some(found);
    }
    assert!(places.len() == 3 && places.windows(2).all(|pair| pair[0] == pair[1]), "{places:?}");
    let store = spans.iter().find(|told| told.span.name == "store").unwrap();
    let batch = store.text("synddb.batch").unwrap();
    let (first, last) = batch.split_once('_').unwrap();
    assert!((first.parse().unwrap()..=last.parse().unwrap()).contains(&places[0].0), "{batch} {places:?}");
}

/// Longer than one end of a process may take because of its traces, for three of them that end one after another.
const ENDS_MAX: Duration = Duration::from_secs(20);

#[test]
fn a_collector_that_is_broken_in_any_way_makes_nobody_wait() {
    // Every process meets one that fails first, since each sends at most once a second.
    const SCRIPT: &[Does] = &[
        Does::Redirects,
        Does::Fails,
        Does::Fails,
        Does::Fails,
        Does::BreaksOff,
        Does::HasNoEnd,
        Does::IsSilent,
        Does::Fails,
    ];
    let collector = Collector::start(SCRIPT);
    let folder = tempfile::tempdir().unwrap();
    let mut system = System::start_in(folder.path(), &environment(&format!("http://{}", collector.address)));
    make(&system.app);
    let mut agent = system.follow();
    for requests in [3, 5, SCRIPT.len()] {
        sql(&system.app, "INSERT INTO t(b) VALUES('one')");
        system.assert_equal();
        collector.wait_for_requests(requests);
    }
    let answer = super::until(&system, |text| {
        metrics_of(text, "synddb_otlp_spans_dropped_total")
            .iter()
            .any(|(labels, value)| labels.contains("collector") && *value > 0.0)
    });
    let full = metrics_of(&answer, "synddb_otlp_spans_dropped_total");
    assert!(full.iter().any(|(labels, value)| labels.contains("queue_full") && *value == 0.0), "{full:?}");
    let began = Instant::now();
    agent.end();
    system.sequencer.end();
    system.validator.end();
    assert!(began.elapsed() < ENDS_MAX, "{:?}", began.elapsed());
}

#[test]
fn a_collector_that_is_not_there_costs_no_commit() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens on the discard port.
    let mut system = System::start_in(folder.path(), &environment("http://127.0.0.1:9"));
    make(&system.app);
    let mut agent = system.follow();
    sql(&system.app, "INSERT INTO t(b) VALUES('one')");
    system.assert_equal();
    agent.end();
    system.sequencer.end();
    system.validator.end();
}
