//! The folder beside a database: what lies where, and what runs there.
//!
//! ```text
//! <db>-synddb/  stream, agent.lock, agent.sock, incarnations/   the agent's
//!               dev.lock, running.json                          of `dev`: that it runs, and at which addresses
//!               store.url                                       of `dev`: where the log rests, if not in store/
//!               token, sequencer.key, endorse.key, relayer.key  secrets, of mode 0600
//!               credentials.toml                                of `dev`: the hash of the token
//!               sequencer/  store/  replica.db                  what `dev` keeps
//!               chain.json  deployments/  relayer/              what `dev --chain` keeps
//! ```

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use synddb_sqlite::name::beside;
use synddb_storage::StoreUrl;

use crate::exit::CommandError;
use crate::output::Bridged;
use crate::refusal::Refusal;

/// The folder of one database.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

/// Where the processes of a running `dev` answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Running {
    /// The sequencer's URL.
    pub(crate) sequencer: String,
    /// The validator's URL.
    pub(crate) validator: String,
    /// The bridge, where `dev` has a chain.
    #[serde(default)]
    pub(crate) bridge: Option<Bridged>,
}

impl Folder {
    /// The folder that was named, or the one beside the database.
    pub(crate) fn of(database: &Path, named: Option<&Path>) -> Self {
        Self(named.map_or_else(|| beside(database, "-synddb"), Path::to_owned))
    }

    /// Makes it if it is not there, for its owner alone.
    pub(crate) fn make(&self) -> Result<(), CommandError> {
        use std::os::unix::fs::DirBuilderExt as _;
        match fs::DirBuilder::new().mode(0o700).create(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let above = self.0.parent().unwrap_or(&self.0).to_owned();
                Err(Refusal::NoFolder { folder: above }.into())
            }
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(Refusal::NoRoom { folder: self.0.clone(), source: error }.into())
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn token(&self) -> PathBuf {
        self.0.join("token")
    }

    /// The key that endorses under `dev`.
    pub(crate) fn endorse_key(&self) -> PathBuf {
        self.0.join("endorse.key")
    }

    /// What the sequencer of `dev` knows the token by.
    pub(crate) fn credentials(&self) -> PathBuf {
        self.0.join("credentials.toml")
    }

    pub(crate) fn sequencer_key(&self) -> PathBuf {
        self.0.join("sequencer.key")
    }

    /// The key of the account that pays for transactions under `dev`.
    pub(crate) fn relayer_key(&self) -> PathBuf {
        self.0.join("relayer.key")
    }

    /// The queue of the relayer of `dev`.
    pub(crate) fn relayer(&self) -> PathBuf {
        self.0.join("relayer")
    }

    /// What the chain of `dev` goes on with.
    pub(crate) fn chain(&self) -> PathBuf {
        self.0.join("chain.json")
    }

    /// The records of what `dev` has deployed.
    pub(crate) fn deployments(&self) -> PathBuf {
        self.0.join("deployments")
    }

    pub(crate) fn sequencer(&self) -> PathBuf {
        self.0.join("sequencer")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// The store that `dev` was told to use, if it was told one.
    pub(crate) fn named_store(&self) -> Result<Option<StoreUrl>, CommandError> {
        match fs::read_to_string(self.store_url()) {
            Ok(text) => Ok(Some(text.trim().parse()?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CommandError::system("read where the log rests")(error)),
        }
    }

    /// Remembers the store that `dev` was told to use; `None` for the folder's own.
    pub(crate) fn set_named_store(&self, store: Option<&StoreUrl>) -> Result<(), CommandError> {
        let set = || match store {
            Some(store) => self.write(&self.store_url(), store.to_string().as_bytes()),
            None => remove(&self.store_url()),
        };
        set().map_err(CommandError::system("write down where the log rests"))
    }

    pub(crate) fn replica(&self) -> PathBuf {
        self.0.join("replica.db")
    }

    /// Whether a database was ever followed from here.
    pub(crate) fn is_attached(&self) -> bool {
        self.0.join("stream").exists()
    }

    /// Removes the replica that `dev` keeps.
    pub(crate) fn remove_replica(&self) -> Result<(), CommandError> {
        let suffixes = ["", "-wal", "-shm", ".lock"];
        let removed = suffixes.iter().try_for_each(|suffix| remove(&beside(&self.replica(), suffix)));
        removed.map_err(CommandError::system("remove the replica"))
    }

    /// Takes the lock of `dev`, until the file is dropped.
    pub(crate) fn lock(&self) -> Result<File, CommandError> {
        let opened = File::options().create(true).truncate(false).write(true).open(self.0.join("dev.lock"));
        let file = opened.map_err(CommandError::system("open the lock of `dev`"))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(Refusal::AlreadyRuns { folder: self.0.clone() }.into()),
            Err(fs::TryLockError::Error(error)) => Err(CommandError::system("take the lock of `dev`")(error)),
        }
    }

    /// Writes down where the processes answer; `None` when they no longer do.
    pub(crate) fn set_running(&self, running: Option<&Running>) -> Result<(), CommandError> {
        let set = || match running {
            Some(running) => self.write(&self.running(), &serde_json::to_vec(running)?),
            None => remove(&self.running()),
        };
        set().map_err(CommandError::system("write down where the processes answer"))
    }

    /// Where the processes answer, if they were started by `dev`.
    pub(crate) fn read_running(&self) -> Option<Running> {
        serde_json::from_slice(&fs::read(self.running()).ok()?).ok()
    }

    fn running(&self) -> PathBuf {
        self.0.join("running.json")
    }

    fn store_url(&self) -> PathBuf {
        self.0.join("store.url")
    }

    /// Writes a file, which is under its name only when it is whole: others read it at any time.
    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut staged = tempfile::NamedTempFile::new_in(&self.0)?;
        staged.write_all(bytes)?;
        staged.persist(file)?;
        Ok(())
    }
}

/// Removes a file that may not be there.
fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
