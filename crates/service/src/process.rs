//! What every process begins and ends with: telemetry, a runtime, and what asks it to end.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::shutdown::Shutdown;
use crate::telemetry::{self, Metrics, Settings, TelemetryError};

/// The variable that filters what is logged, as in `info,synddb_sequencer=debug`.
pub const LOG: &str = "SYNDDB_LOG";

/// Threads of the runtime. Work that takes long is on threads of its own.
const WORKERS: usize = 2;

/// How a process is run.
#[derive(Debug, Clone)]
pub struct Setting {
    /// What it plays, as in `sequencer`: its name in metrics and traces.
    pub role: &'static str,
    /// What its configuration says of logs and traces.
    pub telemetry: Settings,
    /// What it logs where neither the environment nor the configuration says so.
    pub default: telemetry::settings::Default,
    /// Whether the end of standard input asks it to end.
    pub stop_on_eof: bool,
}

/// Why a process did not begin.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Traces or metrics cannot start.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The operating system gives no threads.
    #[error("cannot start a runtime")]
    Runtime(#[source] io::Error),
    /// Signals cannot be caught.
    #[error("cannot catch signals")]
    Signals(#[source] io::Error),
}

impl ProcessError {
    /// Whether what the process was told is refused, which is the same at the next start.
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Telemetry(error) => error.is_refusal(),
            Self::Runtime(_) | Self::Signals(_) => false,
        }
    }
}

/// Runs `body` until it ends. It is given what asks it to end: SIGINT, SIGTERM, and standard input where the setting says so.
///
/// # Errors
/// [`ProcessError`] when the process does not begin, otherwise those of `body`.
pub fn run<T, E, F>(setting: &Setting, body: impl FnOnce(Metrics, Shutdown) -> F) -> Result<T, E>
where
    E: From<ProcessError>,
    F: Future<Output = Result<T, E>>,
{
    allow_many_files();
    let telemetry =
        telemetry::start(setting.role, &setting.telemetry, setting.default).map_err(ProcessError::from)?;
    let metrics = telemetry.metrics.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(ProcessError::Runtime)?;
    let ran = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let shutdown = Shutdown::on_signals().map_err(ProcessError::Signals)?;
            if setting.stop_on_eof {
                shutdown.or_on_eof();
            }
            // What is measured is put together now and then, also where nobody asks for it.
            let upkeep = tokio::spawn(metrics.clone().kept_up());
            let ran = body(metrics, shutdown).await;
            upkeep.abort();
            ran
        })
    }));
    // A thread that still reads standard input is not waited for, nor after a panic: whoever holds the other end waits for this process.
    runtime.shutdown_background();
    telemetry.end();
    ran.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Connections are files, and the usual limit is less than a service may have of them. Where it cannot be raised, it stays.
fn allow_many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).ok();
}
