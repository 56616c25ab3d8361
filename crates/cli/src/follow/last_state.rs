//! The last captured state, restored from the store: a replica of the agent's own, kept in its folder, so that the next time only what came
//! since is fetched.
//!
//! It is rebuilt by the validator's library, which checks everything against the key that the agent believes. The agent itself believes
//! nothing of it.

use std::error::Error;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use synddb_agent::reconcile::LastState;
use synddb_protocol::id::StreamId;
use synddb_protocol::signing::VerifyingKey;
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::Metrics;
use synddb_storage::StoreUrl;
use synddb_validator::{Config, End, Mode, ReplicaError, ValidatorError};

/// How long restoring may take, so that a store that does not answer keeps nobody from following. What was applied until then is kept.
const RESTORE_MAX: Duration = Duration::from_secs(600);

/// Between two looks whether the agent was asked to end.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The last captured state as a store has it.
#[derive(Debug)]
pub struct StoredState {
    store: StoreUrl,
}

/// Why it is not there.
#[derive(Debug, thiserror::Error)]
enum RestoreError {
    #[error("no key is believed yet, so nothing in the store can be checked; set --sequencer-key")]
    NoKey,
    #[error("the folder for the last captured state cannot be used. folder=`{}`", folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error("a runtime cannot be started")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Validator(Box<ValidatorError>),
    #[error("the store holds nothing of the stream yet")]
    Nothing,
    #[error("restoring took longer than {} seconds; it goes on the next time", RESTORE_MAX.as_secs())]
    TimedOut,
    #[error("the agent was asked to end")]
    Stopped,
}

impl RestoreError {
    /// Whether the replica that was kept may be to blame.
    fn is_of_replica(&self) -> bool {
        let Self::Validator(error) = self else { return false };
        match &**error {
            ValidatorError::Halted { .. } | ValidatorError::NoSnapshot { .. } => true,
            ValidatorError::Replica(error) => !matches!(
                **error,
                ReplicaError::InUse { .. } | ReplicaError::Io { .. } | ReplicaError::Spool { .. }
            ),
            ValidatorError::Config(_)
            | ValidatorError::Keys(_)
            | ValidatorError::Start(_)
            | ValidatorError::Open(_)
            | ValidatorError::Store(_)
            | ValidatorError::Listen { .. }
            | ValidatorError::Credentials(_)
            | ValidatorError::Tls(_)
            | ValidatorError::SnapshotKey(_)
            | ValidatorError::EndorseKey(_)
            | ValidatorError::Nodes(_)
            | ValidatorError::Rules(_)
            | ValidatorError::Authority { .. }
            | ValidatorError::Serve(_)
            | ValidatorError::Client(_)
            | ValidatorError::Fault { .. } => false,
        }
    }
}

impl StoredState {
    /// From this store.
    pub const fn of(store: StoreUrl) -> Self {
        Self { store }
    }

    fn rebuild(&self, config: Config, stopping: &AtomicBool) -> Result<End, RestoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(RestoreError::Runtime)?;
        let stopped = async {
            while !stopping.load(Ordering::SeqCst) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let ended = runtime.block_on(async {
            let run = synddb_validator::run(config, Metrics::detached(), Shutdown::new(), |_| {});
            tokio::select! {
                biased;
                () = stopped => Err(RestoreError::Stopped),
                ended = run => ended.map_err(|error| RestoreError::Validator(Box::new(error))),
                () = tokio::time::sleep(RESTORE_MAX) => Err(RestoreError::TimedOut),
            }
        });
        // What was given up waits for nobody; the replica's file is right however it ends.
        runtime.shutdown_background();
        ended
    }
}

impl LastState for StoredState {
    fn restore(
        &self,
        stream: StreamId,
        sequencer_keys: &[VerifyingKey],
        folder: &Path,
        stopping: &AtomicBool,
    ) -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
        if sequencer_keys.is_empty() {
            return Err(RestoreError::NoKey.into());
        }
        let failed = |source| RestoreError::Folder { folder: folder.to_owned(), source };
        let replica = folder.join("replica.db");
        let config = || Config {
            store: self.store.clone(),
            stream: Some(stream),
            replica: replica.clone(),
            sequencer_keys: sequencer_keys.to_vec(),
            mode: Mode::Once,
            // It is thrown away and fetched again, whatever is wrong with it.
            name_differences: false,
            ..Config::default()
        };
        let is_kept = replica.exists();
        let mut ended = self.rebuild(config(), stopping);
        if is_kept && ended.as_ref().is_err_and(RestoreError::is_of_replica) {
            // It is only a copy, which somebody may have damaged; the store has everything.
            fs::remove_dir_all(folder).map_err(failed)?;
            DirBuilder::new().mode(0o700).create(folder).map_err(failed)?;
            ended = self.rebuild(config(), stopping);
        }
        ended?.sequence.ok_or(RestoreError::Nothing)?;
        Ok(replica)
    }
}
