//! Runs a command beside an object store that is gone when the command ends, with what a client of it needs in the environment:
//!
//! ```sh
//! cargo run -p synddb-servers --example over -- gcs cargo xtask demo --store gs://demo
//! cargo run -p synddb-servers --example over -- s3 cargo run -p synddb-cli -- dev app.db --store s3://demo/logs
//! ```
//!
//! The first argument is `gcs`, `s3` or `azure`. There is one bucket, `demo`.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use synddb_servers::{ObjectServer, Platform};

fn main() -> Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let platform = match words.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("gcs") => Platform::Gcs,
        Some("s3") => Platform::S3,
        Some("azure") => Platform::Azure,
        _ => bail!("name a platform first: gcs, s3 or azure; then a command"),
    };
    let program = words.next().context("name a command after the platform")?;
    let server = ObjectServer::start(platform)?;
    server.bucket("demo")?;
    let status = Command::new(&program).args(words).envs(server.variables()).status();
    let status = status.with_context(|| format!("cannot start `{}`", program.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
