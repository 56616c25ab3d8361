//! Whose signatures are believed: the configured keys', or else the key's that signed the first receipt.
//!
//! What must stay true: once a key was seen first, no other is believed, also by the agents after this one. Forgetting goes by what is believed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use synddb_protocol::signing::VerifyingKey;

use crate::config::{Config, SEQUENCER_KEYS_MAX};
use crate::error::AgentError;
use crate::home;

/// The keys of the sequencers, as soon as there are any.
pub(super) struct Trust {
    /// Not the owned folder itself: a watcher's last question may last longer than the agent, and must not keep the next one out.
    folder: PathBuf,
    /// Looked at while one is written down, so that two answers do not bring two keys.
    keys: Mutex<Vec<VerifyingKey>>,
}

/// The keys that an agent of `folder` believes before anybody has answered.
pub(crate) fn believed(config: &Config, folder: &Path) -> Result<Vec<VerifyingKey>, AgentError> {
    let keys = &config.sequencer_keys;
    if keys.len() > SEQUENCER_KEYS_MAX {
        return Err(AgentError::SequencerKeys { found: keys.len() });
    }
    if keys.is_empty() { Ok(home::sequencer_key(folder)?.into_iter().collect()) } else { Ok(keys.clone()) }
}

impl Trust {
    pub(super) fn new(config: &Config, folder: &Path) -> Result<Self, AgentError> {
        Ok(Self { folder: folder.to_owned(), keys: Mutex::new(believed(config, folder)?) })
    }

    /// Whether anybody is believed yet.
    pub(super) fn knows_any(&self) -> bool {
        !self.keys().is_empty()
    }

    /// Whether this key is believed.
    pub(super) fn knows(&self, key: VerifyingKey) -> bool {
        self.keys().contains(&key)
    }

    /// Whether a receipt with this key's signature is believed. The first key is, once it is written down. Only who owns the folder asks.
    pub(super) fn admits(&self, key: VerifyingKey) -> Result<bool, AgentError> {
        let mut keys = self.keys();
        if keys.is_empty() {
            home::write_sequencer_key(&self.folder, &key)?;
            keys.extend(home::sequencer_key(&self.folder)?);
        }
        Ok(keys.contains(&key))
    }

    fn keys(&self) -> MutexGuard<'_, Vec<VerifyingKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
