//! Checking a whole stored log, from its first epoch record and its first batch to its end, once.
//!
//! ```text
//! fetch --> verify --> look (counts, chunks of every snapshot) --> the report
//!                        \--> owner (a scratch file), where the database is rebuilt --> scanned in full
//! ```
//!
//! The stages are those of a validator; only `look` stands behind `verify` in place of the owner, or before it.
//! What the store holds besides is listed at the end: nothing of it is believed, and only a batch behind a hole is the log's own fault.
//!
//! That a log ends is seen from the store alone, so one whose last batches were removed is whole, and shorter. Whoever knows its size
//! compares it with [`Report::size`].

mod asked;
mod began;
mod beside;
mod counted;
mod epochs;
mod known;
mod look;
mod report;

use std::path::PathBuf;
use std::sync::Arc;

use synddb_protocol::hash::StateHash;
use synddb_protocol::http::Halt;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::{BatchError, SignedCheckpoint, Signers};
use synddb_protocol::signing::{TrustedKeys, VerifyingKey};
use synddb_service::shutdown::Shutdown;
use synddb_sqlite::connection::{Connection, SqliteError};
use synddb_sqlite::state::RunningState;
use synddb_storage::{Failure, StoreUrl};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;

pub use self::report::{
    Beside, Claim, Counts, EpochRun, Listed, Progress, Read, Rebuilt, ReplicaBegan, Report, Stray,
};

pub use self::asked::{Leadership, leadership};

pub(crate) use self::asked::Asked;
use self::began::Began;
use self::counted::Counted;
use self::look::{Look, Looked};
use crate::door::Door;
use crate::error::{Divergence, HaltCause, Refused, ReplicaError, ValidatorError};
use crate::event::{End, Event};
use crate::fetch::PatientStore;
use crate::once::{self, Beginning};
use crate::replica::{Context, Gaps, Owner, Place};
use crate::rules::{Rulebook, RulesFileError};
use crate::run::own;
use crate::view::View;

/// Batches that were looked at and are not applied, at most.
const LOOKED_MAX: usize = 1;
/// Events of the owner that wait to be heard.
const EVENTS_MAX: usize = 64;
/// The name of the database in the scratch folder.
const SCRATCH: &str = "rebuilt.db";

/// Which log is checked, and whom it is believed of.
#[derive(Debug, Clone)]
pub struct Question {
    /// The store. It must exist.
    pub store: StoreUrl,
    /// The stream.
    pub stream: Option<StreamId>,
    /// The keys that may lead the log, pinned by whoever asks.
    pub keys: Vec<VerifyingKey>,
    /// An empty folder in which the database is rebuilt: about twice its size. `None` leaves that out.
    pub rebuild_in: Option<PathBuf>,
    /// A replica of this log that began from a snapshot. When the log before that is found to be whole, to lead there, and to make the database that
    /// the snapshot was, the replica is told. Nothing is told unless the database is rebuilt.
    pub replica: Option<PathBuf>,
    /// The rules that look at that replica: the file that its validator has. They look at the log before its beginning, too. `None` for the default rules alone.
    pub rules: Option<PathBuf>,
}

/// Why a log was not found to be whole.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The log is refused, or its database diverges.
    #[error("the log is not whole. from=`{}` to=`{}`", halt.from, halt.to)]
    NotWhole {
        /// Where.
        halt: Halt,
        /// Why.
        source: Box<HaltCause>,
    },
    /// The file that was named as a replica of the log is none.
    #[error("the file is no replica of this log; name another, or check --stream. file=`{}`", file.display())]
    NoReplica {
        /// The file.
        file: PathBuf,
        /// Why it cannot be read, where that is known.
        source: Option<SqliteError>,
    },
    /// The rules that look at the replica are not those that were named.
    #[error(
        "a rule looks at the replica that is not in the file of rules, or says something else there, or may take more or less; name with --rules the file that its \
         validator has. What a rule in Rust finds is not found here: such a replica begins with the first message. file=`{}` rule=`{rule}`",
        file.display()
    )]
    OtherRules {
        /// The replica.
        file: PathBuf,
        /// The rule.
        rule: String,
    },
    /// The file of rules cannot be used.
    #[error(transparent)]
    Rules(#[from] RulesFileError),
    /// The replica cannot be told.
    #[error("the log is whole, and the replica cannot be told so; run it again. file=`{}`", file.display())]
    NotTold {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: SqliteError,
    },
    /// The replica began at a checkpoint that is not in the log.
    #[error(
        "the log is whole, and does not hold the checkpoint that the replica began with; is it another store? Run `synddb validator \
         resync`. file=`{}` sequence=`{sequence}`", file.display()
    )]
    BeganElsewhere {
        /// The file.
        file: PathBuf,
        /// Where the replica began.
        sequence: Sequence,
    },
    /// The machine failed, or what it was told.
    #[error(transparent)]
    Validator(ValidatorError),
    /// An epoch has an object that is no record, and batches need that epoch.
    #[error("an epoch's record is damaged, and the log needs its leader. epoch=`{epochs}`")]
    BadRecord {
        /// The epochs without a record.
        epochs: Listed,
        /// Where the log needs one.
        source: Box<Problem>,
    },
    /// The store cannot be listed.
    #[error("cannot list what the store holds")]
    List(#[source] Failure),
    /// The store did not answer once.
    #[error("the store does not answer; check its address, and the network. waited_s=`{waited_s}`")]
    Silent {
        /// How long its first answer was waited for, in seconds.
        waited_s: u64,
    },
    /// Nobody said which log.
    #[error(
        "no stream is named; choose with --stream, and check the store where none is found. found=`{found}`"
    )]
    NoStream {
        /// The streams of which the store holds something.
        found: Listed,
    },
    /// The store holds nothing of that stream.
    #[error(
        "the store holds no log of this stream; check the store and --stream. stream=`{stream}` found=`{found}`"
    )]
    Nothing {
        /// The stream.
        stream: StreamId,
        /// The streams of which the store holds something.
        found: Listed,
    },
    /// Nobody said whom to believe.
    #[error(
        "no key is trusted; name with --sequencer-key the public keys that whoever runs the sequencer gave you. The store's word is worth \
         nothing here, and key ids are not what --sequencer-key takes; it says of the keys that claimed epochs: key_ids=`{signers}`"
    )]
    NoKeys {
        /// The names of the keys that signed the log's epoch records.
        signers: Listed,
    },
    /// Every record is signed, and by other keys.
    #[error(
        "none of the trusted keys leads this log; ask whoever runs its sequencer. Key ids are not what --sequencer-key takes. \
         trusted=`{pinned}` key_ids=`{signers}`"
    )]
    Strangers {
        /// The names of the keys that are pinned.
        pinned: Listed,
        /// The names of the keys that signed the log's epoch records.
        signers: Listed,
    },
    /// It was asked to end.
    #[error("ended as asked; nothing is wrong up to message {}, and the rest was not looked at", checked.map_or(0, Sequence::get))]
    Interrupted {
        /// The last message that was checked.
        checked: Option<Sequence>,
    },
}

impl Problem {
    /// Whether another start must fail again until somebody changes what was named.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::NoStream { .. } | Self::Nothing { .. } | Self::NoKeys { .. } | Self::Strangers { .. } => {
                true
            }
            Self::NoReplica { .. } | Self::OtherRules { .. } | Self::Rules(_) => true,
            Self::NotTold { .. } | Self::BeganElsewhere { .. } => false,
            Self::Validator(error) => error.is_refusal(),
            Self::NotWhole { .. }
            | Self::BadRecord { .. }
            | Self::List(_)
            | Self::Silent { .. }
            | Self::Interrupted { .. } => false,
        }
    }

    /// Whether the log is to blame.
    pub const fn is_of_log(&self) -> bool {
        matches!(self, Self::BadRecord { .. } | Self::NotWhole { .. } | Self::BeganElsewhere { .. })
    }
}

impl From<ValidatorError> for Problem {
    fn from(error: ValidatorError) -> Self {
        let ValidatorError::Halted { halt, source } = error else { return Self::Validator(error) };
        // Nobody wrote into a file that is rebuilt for this: it is not what the log says.
        if let HaltCause::Diverged { sequence, source: Divergence::State { expected, found, .. } } = *source {
            let source = Divergence::Rebuilt { expected, found };
            let cause = HaltCause::Diverged { sequence, source };
            return Self::NotWhole { halt: cause.to_halt(halt.from, halt.to), source: Box::new(cause) };
        }
        Self::NotWhole { halt, source }
    }
}

/// Checks a whole log.
///
/// # Errors
/// [`Problem`] for the first thing that is wrong.
pub async fn run(
    question: Question,
    shutdown: Shutdown,
    mut on_progress: impl FnMut(Progress) + Send,
) -> Result<Report, Problem> {
    let stop = CancellationToken::new();
    // Whoever stops waiting for this ends every part of it.
    let _ending = stop.clone().drop_guard();
    let Question { store, stream, keys, rebuild_in, replica, rules } = question;
    let rulebook = Rulebook::of_file(rules.as_deref())?;
    let asked = Asked::about(&store, stream, &keys, &shutdown, &stop).await?;
    let Asked { objects, store, counted, stream, keys, epochs } = asked;
    let began = match replica {
        Some(file) => Some(Began::read(file, stream, rulebook)?),
        None => None,
    };
    let walk = Walk {
        store: store.clone(),
        counted: counted.clone(),
        stream,
        keys,
        shutdown: shutdown.clone(),
        stop,
        began: began.as_ref().and_then(Began::checkpoint),
        scratch: rebuild_in.map(|folder| folder.join(SCRATCH)),
        rules: began.as_ref().and_then(Began::rulebook),
    };
    let scratch = walk.scratch.clone();
    let (looked, rebuilt) = match walk.run(&mut on_progress).await {
        Ok(walked) => walked,
        Err(Problem::NotWhole { halt, source }) => {
            return Err(epochs.explain(ValidatorError::Halted { halt, source }));
        }
        Err(problem) => return Err(problem),
    };
    let listing = async {
        if !objects.is_listed {
            return Ok::<_, Problem>((None, None));
        }
        let of_replicas = beside::chunks_of_replicas(&objects.store, &store, stream).await?;
        let listed = beside::list(&objects.store, stream, &looked, &of_replicas, epochs.last()).await;
        let (beside, behind) = listed.map_err(Problem::List)?;
        Ok((Some(beside), behind))
    };
    let (beside, behind) = tokio::select! {
        () = shutdown.asked() => return Err(Problem::Interrupted { checked: looked.size() }),
        listed = listing => listed?,
    };
    if let Some(found) = behind {
        beside::check_hole(&store, stream, looked.size(), found).await?;
    }
    let is_rebuilt = rebuilt.is_some();
    let meets = looked.meets_beginning;
    let Some(mut report) = looked.into_report(stream, epochs, counted.read(), rebuilt, beside) else {
        return Err(Problem::Nothing { stream, found: objects.streams().await? });
    };
    if let (Some(began), Some(scratch), true) = (began, scratch, is_rebuilt) {
        report.replica = Some(began.tell(meets, &scratch)?);
    }
    Ok(report)
}

/// Going through the log.
struct Walk {
    store: PatientStore,
    counted: Arc<Counted>,
    stream: StreamId,
    keys: TrustedKeys,
    shutdown: Shutdown,
    stop: CancellationToken,
    /// The checkpoint that a replica began with.
    began: Option<SignedCheckpoint>,
    /// The database that is rebuilt.
    scratch: Option<PathBuf>,
    /// What looks at every commit on the way.
    rules: Option<Rulebook>,
}

impl Walk {
    async fn run(
        self,
        on_progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<(Looked, Option<Rebuilt>), Problem> {
        let (looked, to_apply) = mpsc::channel(LOOKED_MAX);
        let mut stages = JoinSet::new();
        let beginning = Beginning::of_log(self.stream, &self.keys);
        let to_look = once::read(beginning, &self.store, &self.keys, &self.shutdown, &self.stop, &mut stages);
        let (applied, mut progress) = watch::channel(None);
        let mut owner = match &self.scratch {
            None => None,
            Some(file) => {
                let place = Place::take(file).map_err(ValidatorError::from)?;
                let (events, mut happened) = mpsc::channel(EVENTS_MAX);
                stages.spawn(async move {
                    while let Some(event) = happened.recv().await {
                        if let Event::Applied { sequence, .. } = event {
                            applied.send_replace(Some(sequence));
                        }
                    }
                });
                let context = Context {
                    runtime: Handle::current(),
                    store: self.store.clone(),
                    stream: self.stream,
                    view: View::new(self.stream),
                    door: Door::unused(),
                    wal_bytes_max: u64::MAX,
                    patient: true,
                    thorough: true,
                    events,
                    stop: self.stop.clone(),
                    gaps: Gaps::default(),
                    started: None,
                    report: None,
                    replaced: None,
                    live: None,
                    rules: self.rules.clone(),
                    due: None,
                };
                let owning = own(move || Owner::run(place, None, Signers::default(), context, to_apply));
                Some(tokio::spawn(owning))
            }
        };
        let to_owner = owner.is_some().then_some(looked);
        let mut look =
            Look::new(self.store.clone(), self.stream, Arc::clone(&self.counted), progress.clone());
        look.look_for(self.began.clone());
        let looking = tokio::select! {
            biased;
            () = self.shutdown.asked() => None,
            ended = look.run(to_look, to_owner, on_progress) => Some(ended),
        };
        let ended = match (&mut owner, looking) {
            (_, None) => None,
            (None, Some(ended)) => Some(ended.map(|()| None)),
            (Some(owner), Some(ended)) => loop {
                tokio::select! {
                    biased;
                    () = self.shutdown.asked() => break None,
                    Ok(()) = progress.changed() => on_progress(look.progress()),
                    owned = &mut *owner => break Some(joined(owned).and_then(|end| ended.map(|()| Some(end)))),
                }
            },
        };
        // Nothing of it runs on behind whoever asked it to end, or in a folder that is removed.
        self.stop.cancel();
        stages.shutdown().await;
        let Some(ended) = ended else {
            if let Some(owner) = owner {
                owner.await.ok();
            }
            return Err(Problem::Interrupted { checked: look.size() });
        };
        let rebuilt = match (ended?, self.scratch) {
            (Some(end), Some(file)) => rebuilt(file, end).await?,
            _ => None,
        };
        Ok((look.into_looked(), rebuilt))
    }
}

fn joined(owned: Result<Result<End, ValidatorError>, tokio::task::JoinError>) -> Result<End, ValidatorError> {
    owned.map_err(|_| ValidatorError::Fault { part: "replica" })?
}

/// Scans what was rebuilt once more, from its file, and compares it with where the log ends.
async fn rebuilt(file: PathBuf, end: End) -> Result<Option<Rebuilt>, ValidatorError> {
    let (Some(sequence), Some(expected)) = (end.sequence, end.state) else { return Ok(None) };
    let scanning: JoinHandle<Result<StateHash, ValidatorError>> = spawn_blocking(move || {
        let opened = Connection::open_to_read(&file);
        let connection =
            opened.map_err(|source| ReplicaError::Sqlite { doing: "open", file: file.clone(), source })?;
        let scanned = RunningState::scan(&connection);
        let scanned =
            scanned.map_err(|source| ReplicaError::Apply { file, source: Box::new(source.into()) })?;
        Ok(scanned.hash())
    });
    let found = scanning.await.map_err(|_| ValidatorError::Fault { part: "scan" })??;
    if found != expected {
        let source = Divergence::Rebuilt { expected, found };
        return Err(HaltCause::Diverged { sequence, source }.into_error(sequence, sequence));
    }
    Ok(Some(Rebuilt { sequence, state: found }))
}

/// Whether a refusal is that nobody leads an epoch.
fn lacks_leader(error: &ValidatorError) -> bool {
    use synddb_protocol::log::MessageError;
    let ValidatorError::Halted { source, .. } = error else { return false };
    matches!(
        **source,
        HaltCause::Refused {
            source: Refused::Batch(
                BatchError::CheckpointSignature(_)
                    | BatchError::Message { source: MessageError::Signature(_), .. }
            ),
            ..
        }
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn nobody_is_advised_to_mend_what_was_rebuilt_to_check_a_log() {
        let (expected, found) = (StateHash::from_bytes([1; 32]), StateHash::from_bytes([2; 32]));
        let sequence = Sequence::new(4).unwrap();
        let source = Divergence::State { expected, found, tables: Vec::new() };
        let problem = Problem::from(HaltCause::Diverged { sequence, source }.into_error(sequence, sequence));
        assert!(problem.is_of_log());
        let Problem::NotWhole { halt, .. } = &problem else { panic!("{problem:?}") };
        for told in [synddb_protocol::chain(&problem), halt.detail.clone()] {
            assert!(!told.contains("resync") && !told.contains("somebody"), "{told}");
            assert!(told.contains("the database that was rebuilt is not what the log says"), "{told}");
        }
        assert!(problem.to_string().starts_with("the log is not whole. from=`4` to=`4`"), "{problem}");
    }
}
