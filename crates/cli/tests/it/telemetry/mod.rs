//! What the processes tell of themselves, to those programs that read it: a collector of traces, and Prometheus.

mod collector;
mod prometheus;
mod traces;

pub(crate) use prometheus::the_reference_names_what_is_shown;

use std::time::{Duration, Instant};

use crate::roles::System;

/// How long a test waits for a metric.
const PATIENCE: Duration = Duration::from_secs(30);

/// The metrics of the system's validator, once they are as wanted.
fn until(system: &System, is_wanted: impl Fn(&str) -> bool) -> String {
    let began = Instant::now();
    loop {
        let text = get(&format!("{}/metrics", system.validator_url()));
        if is_wanted(&text) {
            return text;
        }
        assert!(began.elapsed() < PATIENCE, "{text}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// The body of an answer over HTTP.
fn get(url: &str) -> String {
    use std::io::{Read as _, Write as _};
    let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// The labels and values of a metric.
fn metrics_of(text: &str, name: &str) -> Vec<(String, f64)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
    let lines = lines.filter(|rest| rest.starts_with(['{', ' ']));
    lines
        .map(|rest| {
            let (labels, value) = rest.rsplit_once(' ').unwrap();
            (labels.to_owned(), value.parse().unwrap())
        })
        .collect()
}
