//! Whether a configuration could be run, as far as that can be seen without making, locking or asking anything.

use std::io;
use std::path::Path;

use synddb_chain::Endpoint;
use synddb_service::credentials::CredentialsFile;
use synddb_service::http::{Gate, Transport};
use synddb_service::secret::{SecretError, read_secret};

use crate::SequencerError;
use crate::config::{Config, Role};

/// Looks at what a configuration names on this machine: the files of its secrets, and the places of what it makes. The store is not asked, and a
/// sequencer that runs with the same configuration is not disturbed.
///
/// # Errors
/// [`SequencerError`], as [`run`](crate::run) would end with it.
pub fn check(config: &Config) -> Result<(), SequencerError> {
    check_shared(config)?;
    Gate::open(CredentialsFile::at(&config.credentials_file), None)?;
    Transport::open(config.tls.as_ref())?;
    match read_secret(&config.key_file) {
        // It is made at the start.
        Err(SecretError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            check_place(&config.key_file)?;
        }
        read => drop(read?),
    }
    check_place(&config.dir)
}

/// Whether others can see what a sequencer in this role must share with them.
pub(crate) fn check_shared(config: &Config) -> Result<(), SequencerError> {
    nodes(config)?;
    if config.role == Role::Alone {
        return Ok(());
    }
    let shared = [Some(&config.store), config.lease_store.as_ref()];
    match shared.into_iter().flatten().find(|store| store.is_memory()) {
        Some(unshared) => Err(SequencerError::Unshared { store: unshared.clone() }),
        None => Ok(()),
    }
}

/// The nodes of the bridge's chain, where there are any.
pub(crate) fn nodes(config: &Config) -> Result<Vec<Endpoint>, SequencerError> {
    match config.bridge {
        Some(bridge) => Ok(config.nodes.endpoints(bridge.domain().chain_id)?),
        None if config.nodes.are_named() => Err(SequencerError::NoBridge),
        None => Ok(Vec::new()),
    }
}

/// Whether something is there, or could be made there.
fn check_place(path: &Path) -> Result<(), SequencerError> {
    let above = path.ancestors().skip(1).find(|folder| folder.as_os_str().is_empty() || folder.exists());
    let is_folder = above.is_none_or(|folder| folder.as_os_str().is_empty() || folder.is_dir());
    if path.exists() || is_folder {
        return Ok(());
    }
    let source = io::Error::from(io::ErrorKind::NotADirectory);
    Err(SequencerError::Folder { folder: path.to_owned(), source })
}
