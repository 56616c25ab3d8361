//! Logs on standard error, metrics for Prometheus, traces for a collector. A library only emits; the process calls this once.
//!
//! | module | holds |
//! |---|---|
//! | [`settings`] | what a process is told about all three |
//! | [`span`] | how a role tells of a span |
//! | `log` | lines of JSON, as log services read them |
//! | `otlp` | spans on their way to a collector |
//! | `usage` | what the process takes of its machine |

pub mod settings;
pub mod span;

mod log;
mod otlp;
mod usage;

use std::io::IsTerminal as _;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

pub use settings::{Format, Settings};

use otlp::Exporter;
use settings::Effective;

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is no filter.
    #[error("the log filter is refused; write it like `info,synddb_sequencer=debug`. filter=`{filter}`")]
    Filter {
        /// What was given.
        filter: String,
        /// Why not.
        source: tracing_subscriber::filter::ParseError,
    },
    /// A variable of the environment is not what it takes.
    #[error("a variable of the environment is refused; {fix}. name=`{name}` value=`{value}`")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What was given.
        value: String,
        /// What it takes.
        fix: &'static str,
    },
    /// The address of the collector is none.
    #[error("the collector's address is none; write it like `http://127.0.0.1:4318`. otlp=`{url}`")]
    Collector {
        /// What was given.
        url: String,
    },
    /// There is no thread for what is sent to the collector.
    #[error("cannot start a thread for traces")]
    Thread(#[source] std::io::Error),
    /// Somebody else in this process did this already.
    #[error("telemetry was started twice in one process")]
    Twice,
}

impl TelemetryError {
    /// Whether what the process was told is refused.
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Filter { .. } | Self::Variable { .. } | Self::Collector { .. } => true,
            Self::Thread(_) | Self::Twice => false,
        }
    }
}

/// The metrics of this process, as `GET /metrics` answers them.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

/// How often measurements are put together.
const UPKEEP: Duration = Duration::from_secs(5);

/// What times are counted by, in seconds: from a request that a cache answers to one that waits for a store.
const SECONDS: [f64; 14] =
    [0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

impl Metrics {
    /// The text exposition format of Prometheus.
    pub fn render(&self) -> String {
        usage::note();
        self.0.run_upkeep();
        self.0.render()
    }

    /// Puts what was measured together every few seconds, for ever: until then each measurement takes memory of its own.
    pub(crate) async fn kept_up(self) {
        let mut turns = tokio::time::interval(UPKEEP);
        loop {
            turns.tick().await;
            self.0.run_upkeep();
        }
    }

    /// Metrics that nothing in the process writes to: for tests that run several services in one process.
    pub fn detached() -> Self {
        Self(PrometheusBuilder::new().build_recorder().handle())
    }
}

/// What runs as long as the process does.
pub struct Telemetry {
    /// The metrics.
    pub metrics: Metrics,
    exporter: Option<Exporter>,
}

impl Telemetry {
    /// Sends what spans are left, for as long as [`FLUSH_MAX`] at most.
    pub fn end(self) {
        if let Some(exporter) = self.exporter {
            exporter.finish(FLUSH_MAX);
        }
    }
}

/// The HTTP client of the agent, and of what sends traces, writes what it sends byte by byte, credentials too. Whatever is asked for, that is not written.
const NO_WIRE: &str = "ureq_proto::util=debug";

/// How long the end of a process may take because of its traces.
pub const FLUSH_MAX: Duration = Duration::from_secs(3);

/// Whether logs and traces could be started as a configuration and the environment say.
///
/// # Errors
/// As [`start`].
pub fn check(settings: &Settings, default: settings::Default) -> Result<(), TelemetryError> {
    let effective = Effective::of(settings, default, |name| std::env::var(name).ok())?;
    lines_of(&effective.filter).map(drop)
}

/// Which lines are logged.
fn lines_of(filter: &str) -> Result<EnvFilter, TelemetryError> {
    let parsed = EnvFilter::try_new(filter)
        .map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    Ok(parsed.add_directive(NO_WIRE.parse().expect("the constant is a directive")))
}

/// Starts logs, metrics and traces of a process that plays `role`, as in `sequencer`. Reads the variables of the environment that
/// [`settings`] names.
///
/// # Errors
/// [`TelemetryError`].
pub fn start(
    role: &'static str,
    settings: &Settings,
    default: settings::Default,
) -> Result<Telemetry, TelemetryError> {
    let effective = Effective::of(settings, default, |name| std::env::var(name).ok())?;
    let Effective { format, filter, collector, sampling } = effective;
    let parsed = lines_of(&filter)?;
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|_| TelemetryError::Twice)?;
    let exporter = collector.map(|collector| Exporter::start(role, collector)).transpose()?;
    span::sample(if exporter.is_some() { sampling } else { synddb_protocol::trace::Sampling::NONE });
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_filter(parsed).boxed(),
        Format::Json => lines.with_ansi(false).event_format(log::Lines).with_filter(parsed).boxed(),
    };
    let only_spans = tracing_subscriber::filter::filter_fn(otlp::is_span);
    let spans = exporter.as_ref().map(|exporter| exporter.layer().with_filter(only_spans));
    tracing_subscriber::registry().with(lines).with(spans).try_init().map_err(|_| TelemetryError::Twice)?;
    usage::begin(role);
    Ok(Telemetry { metrics: Metrics(handle), exporter })
}
