//! What every long-running command begins with: a runtime, telemetry, and what asks it to end.

use std::future::Future;

use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::{self, Metrics};

use crate::exit::CommandError;
use crate::output::Output;

/// The variable that filters traces, as in `info,synddb_sequencer=debug`.
const FILTER: &str = "SYNDDB_LOG";

/// Threads of the runtime. The work itself is on threads of its own.
const WORKERS: usize = 2;

/// Runs `body` until it ends. It is given what asks it to end: SIGINT, SIGTERM and, where that was asked for, the end of standard
/// input.
pub(crate) fn serve<T, F>(
    output: Output,
    stop_on_eof: bool,
    body: impl FnOnce(Metrics, Shutdown) -> F,
) -> Result<T, CommandError>
where
    F: Future<Output = Result<T, CommandError>>,
{
    let format = if output.is_json() { telemetry::Format::Json } else { telemetry::Format::Text };
    let filter = std::env::var(FILTER).unwrap_or_else(|_| "warn".to_owned());
    let metrics = telemetry::start(format, &filter)?;
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let shutdown = Shutdown::on_signals().map_err(CommandError::system("catch signals"))?;
        if stop_on_eof {
            shutdown.or_on_eof();
        }
        body(metrics, shutdown).await
    });
    // A thread that still reads standard input is not waited for.
    runtime.shutdown_background();
    result
}

/// Runs something that asks peers and ends.
pub(crate) fn ask<T, F>(body: F) -> Result<T, CommandError>
where
    F: Future<Output = Result<T, CommandError>>,
{
    runtime()?.block_on(body)
}

fn runtime() -> Result<tokio::runtime::Runtime, CommandError> {
    // The one TLS provider of the process. Only the first call installs it, which is all that is needed.
    rustls::crypto::ring::default_provider().install_default().ok();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(CommandError::system("start a runtime"))
}
