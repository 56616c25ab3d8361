//! Lines of JSON, with the names that log services read: `time`, `severity`, `message`, and each field by its own name.
//!
//! `trace_id` is the trace of a submission, where a line is about one.

use std::fmt;
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// Names that a field may not take from the line.
const OWN: [&str; 4] = ["time", "severity", "target", "message"];

pub(super) struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Fields(Map::new());
        let now = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        fields.0.insert("time".to_owned(), Value::from(now));
        fields.0.insert("severity".to_owned(), Value::from(severity(*metadata.level())));
        fields.0.insert("target".to_owned(), Value::from(metadata.target()));
        event.record(&mut fields);
        let line = serde_json::to_string(&Value::Object(fields.0)).map_err(|_| fmt::Error)?;
        writeln!(writer, "{line}")
    }
}

/// The names of syslog, which Cloud Logging and others know.
const fn severity(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG | Level::TRACE => "DEBUG",
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let name = field.name();
        let name =
            if OWN.contains(&name) && name != "message" { format!("{name}_") } else { name.to_owned() };
        self.0.insert(name, value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Kept {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn a_line_is_one_object_that_log_services_read() {
        let kept = Kept::default();
        let lines = tracing_subscriber::fmt::layer().with_writer(kept.clone()).event_format(Lines);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tracing::warn!(sequence = 7_u64, trace_id = "ab", severity = "mine", "two\nlines");
        });
        let bytes = kept.0.lock().unwrap().clone();
        let line: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1, "{line}");
        assert_eq!(
            (&line["severity"], &line["message"]),
            (&Value::from("WARNING"), &Value::from("two\nlines"))
        );
        assert_eq!((&line["sequence"], &line["trace_id"]), (&Value::from(7), &Value::from("ab")));
        assert_eq!(line["severity_"], "mine");
        assert!(humantime::parse_rfc3339(line["time"].as_str().unwrap()).is_ok(), "{line}");
    }
}
