//! How commands run what is asynchronous.

use std::future::Future;

use synddb_service::process::{self, Setting};
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::settings::Default as Defaults;
use synddb_service::telemetry::{Format, Metrics, Settings};
use tokio::runtime::{Builder, Runtime};

use crate::exit::CommandError;
use crate::output::Output;

/// How commands log where nobody says otherwise.
pub(crate) const DEFAULTS: Defaults = Defaults { format: Format::Text, filter: "warn" };

/// Runs a long-running command that has no configuration until it ends, or is asked to.
pub(crate) fn serve<T, F>(
    output: Output,
    role: &'static str,
    stop_on_eof: bool,
    body: impl FnOnce(Metrics, Shutdown) -> F,
) -> Result<T, CommandError>
where
    F: Future<Output = Result<T, CommandError>>,
{
    serve_as(output, role, &Settings::default(), stop_on_eof, body)
}

/// The same with what its configuration says of logs and traces.
pub(crate) fn serve_as<T, F>(
    output: Output,
    role: &'static str,
    telemetry: &Settings,
    stop_on_eof: bool,
    body: impl FnOnce(Metrics, Shutdown) -> F,
) -> Result<T, CommandError>
where
    F: Future<Output = Result<T, CommandError>>,
{
    use_ring();
    let format = if output.is_json() { Format::Json } else { Format::Text };
    let default = Defaults { format, ..DEFAULTS };
    process::run(&Setting { role, telemetry: telemetry.clone(), default, stop_on_eof }, body)
}

/// Runs something that asks peers and ends.
pub(crate) fn ask<T, F>(body: F) -> Result<T, CommandError>
where
    F: Future<Output = Result<T, CommandError>>,
{
    runtime()?.block_on(body)
}

/// What runs something that asks peers, for a command that asks again and again.
pub(crate) fn runtime() -> Result<Runtime, CommandError> {
    use_ring();
    Builder::new_current_thread().enable_all().build().map_err(CommandError::system("start a runtime"))
}

/// The one TLS provider of the process. Only the first call installs it, which is all that is needed.
fn use_ring() {
    rustls::crypto::ring::default_provider().install_default().ok();
}
