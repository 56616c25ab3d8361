//! A file of keys, read again whenever something is asked: an operator admits and revokes keys without a restart.
//!
//! What cannot be read or understood later changes nothing: the last good file counts, and a warning and a gauge say so. So an editor that
//! writes a file in two steps takes no key away.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use synddb_protocol::chain;
use synddb_protocol::id::KeyId;
use synddb_protocol::log::SignedEpochRecord;
use synddb_protocol::signing::Revocations;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::format::{KEYS_FILE_BYTES_MAX, KeysFileError, Listed};
use super::{Judgement, KeySource, Unreachable};

/// How long a revocation in the file may stay unseen while nothing else is asked.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A file of keys.
#[derive(Debug, Clone)]
pub struct KeysFile(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    file: PathBuf,
    seen: Mutex<Seen>,
}

/// What was found at the last look.
#[derive(Debug)]
struct Seen {
    /// The bytes, or why there were none.
    content: Result<Vec<u8>, io::ErrorKind>,
    /// The last good file.
    listed: Arc<Listed>,
}

impl KeysFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// [`KeysFileError`]: without a first good file nobody is trusted.
    pub async fn open(file: &Path) -> Result<Self, KeysFileError> {
        let file = file.to_owned();
        let failed = {
            let file = file.clone();
            |source| KeysFileError::Read { file, source }
        };
        let opened = spawn_blocking(move || {
            let content = read(&file)?;
            let listed = Arc::new(Listed::parse(&file, &content)?);
            info!(file = %file.display(), keys = listed.len(), revoked = listed.revoked.iter().count(), "read the keys file");
            refused(false);
            Ok(Self(Arc::new(Kept { file, seen: Mutex::new(Seen { content: Ok(content), listed }) })))
        });
        opened.await.map_err(|_| failed(io::Error::other("the process ends")))?
    }

    /// What the file says now, or said last.
    async fn look(&self) -> Result<Arc<Listed>, Unreachable> {
        let kept = Arc::clone(&self.0);
        spawn_blocking(move || kept.look()).await.map_err(Unreachable::because)
    }
}

impl Kept {
    fn look(&self) -> Arc<Listed> {
        let read = read(&self.file);
        // A look changes what was seen at once or not at all, so whoever panicked left it whole.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (content, parsed) = match read {
            Ok(content) if seen.content.as_ref() == Ok(&content) => return Arc::clone(&seen.listed),
            Ok(content) => {
                let parsed = Listed::parse(&self.file, &content);
                (Ok(content), parsed)
            }
            Err(error) => {
                let kind = match &error {
                    KeysFileError::Read { source, .. } => source.kind(),
                    KeysFileError::TooLarge { .. } | KeysFileError::Malformed { .. } => {
                        io::ErrorKind::FileTooLarge
                    }
                };
                if seen.content.as_ref() == Err(&kind) {
                    return Arc::clone(&seen.listed);
                }
                (Err(kind), Err(error))
            }
        };
        seen.content = content;
        refused(parsed.is_err());
        match parsed {
            Ok(listed) => {
                info!(file = %self.file.display(), keys = listed.len(), revoked = listed.revoked.iter().count(), "the keys file changed");
                seen.listed = Arc::new(listed);
            }
            Err(error) => warn!(error = %chain(&error), "the keys file is refused; the last good one counts"),
        }
        Arc::clone(&seen.listed)
    }
}

/// Whether what the file says now is not what counts.
fn refused(is_refused: bool) {
    crate::metrics::keys_file_refused(is_refused);
}

fn read(path: &Path) -> Result<Vec<u8>, KeysFileError> {
    let failed = |source| KeysFileError::Read { file: path.to_owned(), source };
    // Opening a pipe would wait for its writer.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")));
    }
    let mut content = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(KEYS_FILE_BYTES_MAX as u64 + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() > KEYS_FILE_BYTES_MAX {
        return Err(KeysFileError::TooLarge { file: path.to_owned() });
    }
    Ok(content)
}

#[async_trait]
impl KeySource for KeysFile {
    async fn knows(&self, key: KeyId) -> Result<bool, Unreachable> {
        Ok(self.look().await?.knows(key))
    }

    async fn judge(&self, record: &SignedEpochRecord) -> Result<Judgement, Unreachable> {
        let leader = self.look().await?.leader(record.key(), record.epoch());
        Ok(leader.map_or(Judgement::MayNot, Judgement::MayLead))
    }

    async fn revoked(&self) -> Result<Revocations, Unreachable> {
        Ok(self.look().await?.revoked.clone())
    }

    fn look_again(&self) -> Option<Duration> {
        Some(LOOK_AGAIN)
    }
}
