//! Whose signatures are believed: the configured key's, or else the key's that signed the first receipt.
//!
//! What must stay true: once a key is believed, no other is, also by the agents after this one. Forgetting goes by what is believed.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use synddb_protocol::signing::VerifyingKey;

use crate::config::Config;
use crate::error::AgentError;
use crate::home::{self, Home};

/// The key of the sequencer, as soon as there is one.
pub(super) struct Trust {
    /// Not the owned folder itself: a watcher's last question may last longer than the agent, and must not keep the next one out.
    folder: PathBuf,
    /// Looked at while it is written down, so that two answers do not bring two keys.
    key: Mutex<Option<VerifyingKey>>,
}

impl Trust {
    pub(super) fn new(config: &Config, home: &Home) -> Result<Self, AgentError> {
        let key = match config.sequencer_key {
            Some(key) => Some(key),
            None => home::sequencer_key(home.folder())?,
        };
        Ok(Self { folder: home.folder().to_owned(), key: Mutex::new(key) })
    }

    /// The key that is believed.
    pub(super) fn key(&self) -> Option<VerifyingKey> {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a receipt with this key's signature is believed. The first key is, once it is written down. Only who owns the folder asks.
    pub(super) fn admits(&self, key: VerifyingKey) -> Result<bool, AgentError> {
        let mut known = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            home::write_sequencer_key(&self.folder, &key)?;
            *known = home::sequencer_key(&self.folder)?;
        }
        Ok(*known == Some(key))
    }
}
