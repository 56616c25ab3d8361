//! Whose signatures are believed: the configured keys', or else the key's that signed the first receipt.
//!
//! What must stay true: once a key was seen first, no other is believed, also by the agents after this one. A key that is
//! proven to have signed twice for one place is not believed while the evidence lies in the folder. Forgetting goes by what is believed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use synddb_protocol::id::{KeyId, StreamId};
use synddb_protocol::signing::VerifyingKey;

use crate::config::{Config, SEQUENCER_KEYS_MAX};
use crate::error::AgentError;
use crate::{evidence, home};

/// How a key stands with an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is believed.
    Believed,
    /// Nobody named it.
    Unknown,
    /// It is proven to have signed twice for one place; this file says so.
    Convicted(PathBuf),
}

/// The keys of the sequencers, as soon as there are any.
pub(super) struct Trust {
    /// Not the owned folder itself: a watcher's last question may last longer than the agent, and must not keep the next one out.
    folder: PathBuf,
    /// Looked at while one is written down, so that two answers do not bring two keys.
    known: Mutex<Known>,
}

struct Known {
    keys: Vec<VerifyingKey>,
    convicted: Vec<(KeyId, PathBuf)>,
}

impl Known {
    fn standing(&self, key: VerifyingKey) -> Standing {
        let convicted = self.convicted.iter().find(|(convicted, _)| *convicted == key.id());
        match convicted {
            Some((_, file)) => Standing::Convicted(file.clone()),
            None if self.keys.contains(&key) => Standing::Believed,
            None => Standing::Unknown,
        }
    }
}

/// The keys that an agent of `folder` believes before anybody has answered.
pub(crate) fn believed(
    config: &Config,
    folder: &Path,
    stream: StreamId,
) -> Result<Vec<VerifyingKey>, AgentError> {
    let mut keys = named(config, folder)?;
    let convicted = evidence::convicted(folder, stream)?;
    keys.retain(|key| convicted.iter().all(|(convicted, _)| *convicted != key.id()));
    Ok(keys)
}

/// The keys that were configured, or else the one that was seen first.
fn named(config: &Config, folder: &Path) -> Result<Vec<VerifyingKey>, AgentError> {
    let keys = &config.sequencer_keys;
    if keys.len() > SEQUENCER_KEYS_MAX {
        return Err(AgentError::SequencerKeys { found: keys.len() });
    }
    if keys.is_empty() { Ok(home::sequencer_key(folder)?.into_iter().collect()) } else { Ok(keys.clone()) }
}

impl Trust {
    pub(super) fn new(config: &Config, folder: &Path, stream: StreamId) -> Result<Self, AgentError> {
        let known = Known { keys: named(config, folder)?, convicted: evidence::convicted(folder, stream)? };
        Ok(Self { folder: folder.to_owned(), known: Mutex::new(known) })
    }

    /// Whether anybody is named yet.
    pub(super) fn knows_any(&self) -> bool {
        !self.known().keys.is_empty()
    }

    /// How a key stands.
    pub(super) fn standing(&self, key: VerifyingKey) -> Standing {
        self.known().standing(key)
    }

    /// How the key stands that signed a receipt. The first key is believed, once it is written down. Only who owns the folder asks.
    pub(super) fn admits(&self, key: VerifyingKey) -> Result<Standing, AgentError> {
        let mut known = self.known();
        if known.keys.is_empty() {
            home::write_sequencer_key(&self.folder, &key)?;
            known.keys.extend(home::sequencer_key(&self.folder)?);
        }
        Ok(known.standing(key))
    }

    /// A key is proven to have signed twice for one place: nothing that it signs is believed from now on.
    pub(super) fn convict(&self, key: KeyId, file: PathBuf) {
        let mut known = self.known();
        if known.convicted.iter().all(|(convicted, _)| *convicted != key) {
            known.convicted.push((key, file));
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
