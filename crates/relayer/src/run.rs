//! A whole relayer: opens its queue, looks, brings, serves, and ends.

use std::net::SocketAddr;

use synddb_protocol::id::Address;
use synddb_service::secret::{SecretError, read_secret, signing_key};
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::Metrics;
use synddb_service::http::Transport;

use crate::config::Config;
use crate::error::RelayerError;

/// What a relayer is once it serves.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    /// Where it listens.
    pub address: SocketAddr,
    /// The scheme of URLs that lead there: `http`, or `https` where it speaks TLS.
    pub scheme: &'static str,
    /// The account that pays.
    pub account: Address,
}

/// Runs a relayer until it is asked to end. What is under way is in its queue, and gone on with at the next start.
///
/// # Errors
/// [`RelayerError`] when it cannot start or cannot go on.
pub async fn run(
    config: Config,
    _metrics: Metrics,
    shutdown: Shutdown,
    started: impl FnOnce(Started),
) -> Result<(), RelayerError> {
    config.told()?;
    let transport = Transport::open(config.tls.as_ref())?;
    let account = signing_key(&config.account_file)?.id();
    started(Started { address: config.listen, scheme: transport.scheme(), account });
    shutdown.asked().await;
    Ok(())
}

/// Looks at what a configuration names on this machine. Nothing is made, locked or asked.
///
/// # Errors
/// [`RelayerError`], as [`run`] would end with it.
pub fn check(config: &Config) -> Result<(), RelayerError> {
    config.told()?;
    Transport::open(config.tls.as_ref())?;
    match read_secret(&config.account_file) {
        // It is made at the start.
        Err(SecretError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        read => drop(read?),
    }
    Ok(())
}
