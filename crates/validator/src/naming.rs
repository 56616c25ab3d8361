//! Names the first thing in which a replica differs: the log is replayed beside it, by the same parts and from its beginning, to the very
//! message that the replica stands at, and both are compared.
//!
//! Nothing is believed of the replica for that. It is looked at only when what is beside it has the state that the log claims.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use synddb_protocol::id::Sequence;
use synddb_service::shutdown::Shutdown;
use synddb_sqlite::compare::{CompareError, Told, first_difference};
use synddb_sqlite::connection::Connection;
use synddb_sqlite::state::{RunningState, StateError};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::config::{Config, FromSnapshot, Mode};
use crate::door::Door;
use crate::error::ValidatorError;
use crate::replica::{Gaps, Place, differing};
use crate::run::{Checked, Following, Source};
use crate::start::Begun;
use crate::view::{Standing, View};

/// What a comparison found.
pub(crate) struct Named {
    /// The first difference; `None` when both hold the same.
    pub(crate) told: Option<Told>,
    /// The tables that differ.
    pub(crate) tables: Vec<String>,
}

/// Why nothing was named.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamingError {
    /// The process was asked to end.
    #[error("the process was asked to end")]
    Asked,
    /// The replay did not come to the end.
    #[error("the log cannot be replayed beside the replica")]
    Replay(#[from] ValidatorError),
    /// The replay ended elsewhere.
    #[error("the log does not lead to where the replica stands. expected=`{expected}` found=`{}`", found.map_or(0, Sequence::get))]
    Elsewhere {
        /// Where the replica stands.
        expected: Sequence,
        /// Where the replay ended.
        found: Option<Sequence>,
    },
    /// The files cannot be compared.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// The replayed file cannot be scanned.
    #[error("the files cannot be scanned")]
    Scan(#[from] StateError),
    /// The folder beside the replica cannot be made.
    #[error("cannot keep a folder beside the replica. folder=`{}`", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Replays the log to where the replica stands, and compares. The caller keeps the lock of the replica's place.
pub(crate) async fn name(
    config: &Config,
    checked: Checked,
    source: Source,
    replica: &Path,
    standing: Standing,
    shutdown: &Shutdown,
) -> Result<Named, NamingError> {
    let folder = Place::reference_of(replica);
    let failed = |source| NamingError::Folder { folder: folder.clone(), source };
    remove(&folder).map_err(failed)?;
    DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
    let reference = folder.join("replica.db");
    let named = tokio::select! {
        named = replay(config, checked, source, &reference, replica, standing, shutdown) => named,
        () = shutdown.asked() => Err(NamingError::Asked),
    };
    // Whoever is cut off may still write into it; the next start removes it then.
    remove(&folder).map_err(failed)?;
    named
}

async fn replay(
    config: &Config,
    checked: Checked,
    source: Source,
    reference: &Path,
    replica: &Path,
    standing: Standing,
    shutdown: &Shutdown,
) -> Result<Named, NamingError> {
    // From the first message: a snapshot would hide where they part.
    let config = Config {
        mode: Mode::Once,
        listen: None,
        sequencer: None,
        from_snapshot: FromSnapshot::Never,
        ..config.clone()
    };
    let at = standing.sequence;
    let place = Place::take(reference).map_err(ValidatorError::from)?;
    // Nobody listens.
    let (events, _) = mpsc::channel(1);
    let following = Following {
        config: &config,
        view: View::aside(checked.stream),
        checked,
        shutdown: shutdown.clone(),
        door: Door::unused(),
        events,
        until: Some(at),
        audits: None,
        snapshots: None,
        live: None,
        rules: None,
        endorses: None,
    };
    let gaps = Gaps::default();
    let begun = Begun { place, kept: None, gaps, started: None, report: None, replaced: None };
    let end = Box::pin(following.run(source, begun)).await?;
    if (end.sequence, end.state) != (Some(at), Some(standing.state)) {
        return Err(NamingError::Elsewhere { expected: at, found: end.sequence });
    }
    let (reference, replica) = (reference.to_owned(), replica.to_owned());
    let compared = spawn_blocking(move || compare(&reference, &replica)).await;
    compared.unwrap_or_else(|_| Err(ValidatorError::Fault { part: "comparison" }.into()))
}

fn compare(reference: &Path, replica: &Path) -> Result<Named, NamingError> {
    let told = first_difference(reference, replica)?.map(|difference| difference.told());
    let scan = |file: &Path| -> Result<RunningState, StateError> {
        RunningState::scan(&Connection::open_to_read(file)?)
    };
    // A replica that cannot be scanned still has a first difference.
    let tables = match scan(replica) {
        Ok(found) => differing(&scan(reference)?, &found),
        Err(_) => Vec::new(),
    };
    Ok(Named { told, tables })
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
