//! How a validator ends when it does not end well: halted by the log, or failed by the machine.
//!
//! A halt is a statement about the log or the replica, which a retry does not change; it is served until somebody looks. A failure
//! is a statement about this machine or its configuration.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use synddb_chain::follow::NodesError;
use synddb_protocol::DecodeError;
use synddb_protocol::chain;
use synddb_protocol::hash::{ChunkHash, StateHash};
use synddb_protocol::http::{Halt, HaltKind};
use synddb_protocol::id::{Epoch, Sequence, StreamId};
use synddb_protocol::log::{BatchError, LogError, RevokedError};
use synddb_protocol::signing::SignatureError;
use synddb_service::credentials::CredentialsFileError;
use synddb_service::http::TlsError;
use synddb_service::secret::SecretError;
use synddb_sqlite::apply::{ApplyError, SubmissionError};
use synddb_sqlite::connection::SqliteError;
use synddb_sqlite::snapshot::RestoreError;
use synddb_storage::{GetError, OpenError};

use crate::config::ConfigProblem;
use crate::difference;
use crate::keys::KeysFileError;
use crate::rules::RulesFileError;
use crate::start::StartError;

/// Why a validator ended other than as it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ValidatorError {
    /// The configuration says what cannot be run.
    #[error(transparent)]
    Config(#[from] ConfigProblem),
    /// The file of keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysFileError),
    /// The log or the replica stopped it, for good.
    #[error("{}", halted(halt))]
    Halted {
        /// What `GET /status` says of it.
        halt: Halt,
        /// The cause.
        source: Box<HaltCause>,
    },
    /// What was asked for at the start cannot be done.
    #[error(transparent)]
    Start(Box<StartError>),
    /// The store holds no later snapshot from which the replica could go on.
    #[error(
        "the store holds no snapshot behind the gap; start again when there is one, or follow. from=`{from}` after=`{after}`"
    )]
    NoSnapshot {
        /// The first message of the gap.
        from: Sequence,
        /// The last message in the store.
        after: Sequence,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Open(Box<OpenError>),
    /// The store answers in a way that no retry changes.
    #[error(transparent)]
    Store(#[from] GetError),
    /// The replica's file cannot be used.
    #[error(transparent)]
    Replica(Box<ReplicaError>),
    /// Nothing can be served at this address.
    #[error("cannot listen; is another process there? address=`{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The credentials that are asked for cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsFileError),
    /// Nobody could be served over TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The key that signs snapshots cannot be used.
    #[error("the key that signs snapshots cannot be used")]
    SnapshotKey(#[from] SecretError),
    /// The key that endorses cannot be used.
    #[error("the key that endorses cannot be used")]
    EndorseKey(#[source] SecretError),
    /// The nodes of the chain cannot be asked.
    #[error("the nodes that `endorse.nodes` names cannot be asked")]
    Nodes(#[from] NodesError),
    /// The file of rules cannot be used.
    #[error(transparent)]
    Rules(#[from] RulesFileError),
    /// The authority of the sequencer cannot be used.
    #[error("the authority of the sequencer's certificate cannot be used. sequencer_ca_file=`{}`", file.display())]
    Authority {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Serving ended.
    #[error("the listener failed")]
    Serve(#[source] io::Error),
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
    /// A part of the process ended in a fault of its own.
    #[error("a part of the validator ended in a fault; the lines before say which. part=`{part}`")]
    Fault {
        /// Which.
        part: &'static str,
    },
}

impl ValidatorError {
    /// Whether another start must fail again until somebody changes what was named.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Config(_) | Self::Keys(_) | Self::Start(_) | Self::Open(_) | Self::Listen { .. } => true,
            Self::Credentials(_) | Self::Tls(_) | Self::Authority { .. } | Self::SnapshotKey(_) => true,
            Self::EndorseKey(_) | Self::Nodes(_) | Self::Rules(_) => true,
            Self::Replica(error) => match **error {
                ReplicaError::InUse { .. }
                | ReplicaError::NotOurs { .. }
                | ReplicaError::ForeignStream { .. }
                | ReplicaError::Position { .. }
                | ReplicaError::Untrusted { .. }
                | ReplicaError::Newer { .. }
                | ReplicaError::PageSize { .. } => true,
                ReplicaError::Restore { .. }
                | ReplicaError::Spool { .. }
                | ReplicaError::Apply { .. }
                | ReplicaError::Sqlite { .. }
                | ReplicaError::Io { .. } => false,
            },
            Self::Halted { .. }
            | Self::NoSnapshot { .. }
            | Self::Store(_)
            | Self::Serve(_)
            | Self::Client(_)
            | Self::Fault { .. } => false,
        }
    }
}

impl From<OpenError> for ValidatorError {
    fn from(error: OpenError) -> Self {
        Self::Open(Box::new(error))
    }
}

impl From<StartError> for ValidatorError {
    fn from(error: StartError) -> Self {
        Self::Start(Box::new(error))
    }
}

impl From<ReplicaError> for ValidatorError {
    fn from(error: ReplicaError) -> Self {
        Self::Replica(Box::new(error))
    }
}

/// What stopped a validator for good.
#[derive(Debug, thiserror::Error)]
pub enum HaltCause {
    /// The replica cannot become what the log says, or is not what it says.
    #[error("the replica diverged. sequence=`{sequence}`")]
    Diverged {
        /// The message.
        sequence: Sequence,
        /// Why.
        source: Divergence,
    },
    /// An object of the log is not what a trusted leader would store.
    #[error("the log is refused{}. sequence=`{sequence}`", advice(source))]
    Refused {
        /// The first message of the object.
        sequence: Sequence,
        /// Why.
        source: Refused,
    },
    /// A key was revoked that signed a part of what the replica holds.
    #[error(
        "the replica holds what a revoked key signed beyond what it is believed for; run `synddb validator resync` once the store goes on \
         without that. sequence=`{sequence}`"
    )]
    Revoked {
        /// The first message that is not believed any more.
        sequence: Sequence,
        /// What says so.
        source: RevokedError,
    },
    /// The log is written by newer rules.
    #[error("the log is written by newer rules; install a newer release. sequence=`{sequence}`")]
    UpgradeRequired {
        /// The first message that needs it, or the first of its batch.
        sequence: Sequence,
        /// What says so.
        source: Refused,
    },
}

/// How the replica differs.
#[derive(Debug, thiserror::Error)]
pub enum Divergence {
    /// A submission cannot be applied, or leads to another state than it claims.
    #[error(transparent)]
    Submission(SubmissionError),
    /// A snapshot is not the database that it claims to be.
    #[error("a snapshot is not what it claims to be")]
    Snapshot(#[source] RestoreError),
    /// The replica has another state than the checkpoint that it stands at.
    #[error(
        "the replica is not what it was; did somebody write into it? run `synddb validator resync` to fetch it again. \
         expected=`{expected}` found=`{found}`"
    )]
    State {
        /// What the checkpoint claims.
        expected: StateHash,
        /// What a full scan of the replica finds.
        found: StateHash,
        /// The tables that differ, as far as they are known.
        tables: Vec<String>,
    },
    /// A database that was rebuilt to check the log has another state than the log claims.
    #[error("the database that was rebuilt is not what the log says. expected=`{expected}` found=`{found}`")]
    Rebuilt {
        /// What the log claims.
        expected: StateHash,
        /// What a full scan of the database finds.
        found: StateHash,
    },
    /// The replica holds a schema or rows that no log put there.
    #[error(
        "the replica is not what it was; did somebody write into it? run `synddb validator resync` to fetch it again"
    )]
    Unreadable(#[source] ApplyError),
    /// Another file has the replica's name.
    #[error(
        "another file lies in the replica's place, or none; did somebody put it there? run `synddb validator resync` to fetch it again"
    )]
    Replaced,
    /// What a validator keeps in the replica is not what it wrote.
    #[error(
        "the replica's position is not what was written; did somebody write into it? run `synddb validator resync` to fetch it again. \
         table=`{table}` expected=`{expected}` found=`{found}`"
    )]
    Position {
        /// The table.
        table: &'static str,
        /// What was written.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// What is wrong with an object of the log.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A batch does not follow, or is not signed by an admitted leader.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The object of a batch begins with another message than its name says.
    #[error("the object holds another batch. expected=`{expected}` found=`{found}`")]
    Misplaced {
        /// The sequence in its name.
        expected: Sequence,
        /// The sequence that it begins with.
        found: Sequence,
    },
    /// The object is larger than a batch may be.
    #[error(transparent)]
    TooLarge(GetError),
    /// The store holds less than was applied.
    #[error(
        "the store ends before what was applied; is it another store, or an older copy? end=`{}` next=`{next}`",
        end.map_or(0, Sequence::get)
    )]
    StoreEnds {
        /// The last message in the store; `None` when it holds none.
        end: Option<Sequence>,
        /// The message after what was applied.
        next: Sequence,
    },
    /// A batch lies across the place that the replica stands at, so that it is none that was applied.
    #[error(
        "the store holds another batch than was applied; is it another store? first=`{first}` last=`{last}` next=`{next}`"
    )]
    Straddles {
        /// The batch's first message.
        first: Sequence,
        /// Its last one.
        last: Sequence,
        /// The message after what was applied.
        next: Sequence,
    },
    /// The batch that ends where the replica stands is not the one that was applied: its leader signed two logs, or it is another store.
    #[error(
        "the store holds another batch than was applied, which ends at the same place; did its leader sign two logs? first=`{first}` last=`{last}`"
    )]
    Forked {
        /// The batch's first message.
        first: Sequence,
        /// Its last one, where the replica stands.
        last: Sequence,
    },
    /// The store goes on, and not from where the replica stands.
    #[error(
        "the store goes on without the batch that follows what was applied; is it another store? next=`{next}` found=`{found}`"
    )]
    Skipped {
        /// The message after what was applied.
        next: Sequence,
        /// The first message of a later batch.
        found: Sequence,
    },
    /// The record of an epoch that the replica stands in is not in the store.
    #[error(
        "the record of an epoch is not in the store; is it another store, or an empty one? epoch=`{epoch}`"
    )]
    EpochAbsent {
        /// The epoch.
        epoch: Epoch,
    },
    /// A chunk of a snapshot is not in the store.
    #[error("a chunk of the snapshot is not in the store. hash=`{hash}`")]
    ChunkMissing {
        /// The chunk.
        hash: ChunkHash,
    },
    /// A chunk of a snapshot has other bytes than its name says.
    #[error("a chunk of the snapshot is damaged. hash=`{hash}`")]
    ChunkDamaged {
        /// The chunk.
        hash: ChunkHash,
        /// How.
        source: DecodeError,
    },
}

/// Why the replica's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// Another process keeps it.
    #[error("another process keeps the replica; stop that one first. file=`{}`", file.display())]
    InUse {
        /// The replica.
        file: PathBuf,
    },
    /// The file was not made by a validator.
    #[error("the file is no replica; move it away, with its -wal and -shm, or name another. file=`{}`", file.display())]
    NotOurs {
        /// The file.
        file: PathBuf,
    },
    /// The replica is of another stream.
    #[error("the replica is of another stream; name another file. file=`{}` expected=`{expected}` found=`{found}`", file.display())]
    ForeignStream {
        /// The file.
        file: PathBuf,
        /// The stream that is followed.
        expected: StreamId,
        /// The stream in the file.
        found: StreamId,
    },
    /// The position in the file cannot be read.
    #[error(
        "the replica's position is damaged; run `synddb validator resync` to fetch it again. file=`{}`",
        file.display()
    )]
    Position {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The checkpoint that the replica stands at is not signed by a key that is trusted now.
    #[error(
        "the checkpoint that the replica stands at is not signed by a key that is trusted; trust that key, or run `synddb validator \
         resync` to fetch it again. \
         file=`{}` epoch=`{epoch}`",
        file.display()
    )]
    Untrusted {
        /// The file.
        file: PathBuf,
        /// The epoch of the checkpoint.
        epoch: Epoch,
        /// Why not.
        source: SignatureError,
    },
    /// The replica stands at a checkpoint of newer rules.
    #[error("the replica was kept by a newer release; install it. file=`{}`", file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// What says so.
        source: LogError,
    },
    /// A new incarnation has another page size, and readers keep the old file open.
    #[error(
        "the new snapshot has another page size, which needs the replica for itself for a moment; close whoever reads it and start \
         again. file=`{}` from=`{from}` to=`{to}`",
        file.display()
    )]
    PageSize {
        /// The file.
        file: PathBuf,
        /// The replica's, in bytes.
        from: u32,
        /// The snapshot's, in bytes.
        to: u32,
    },
    /// A snapshot cannot be restored for a reason of this machine.
    #[error("cannot restore a snapshot. file=`{}`", file.display())]
    Restore {
        /// Where.
        file: PathBuf,
        /// Why not.
        source: Box<RestoreError>,
    },
    /// A message cannot be applied for a reason of this machine.
    #[error("cannot write the replica. file=`{}`", file.display())]
    Apply {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: Box<ApplyError>,
    },
    /// The rows of a huge commit cannot be kept on disk.
    #[error("cannot keep a huge commit beside the replica. file=`{}`", file.display())]
    Spool {
        /// The replica.
        file: PathBuf,
        /// Why not.
        source: Box<SubmissionError>,
    },
    /// SQLite failed.
    #[error("cannot {doing} the replica. file=`{}`", file.display())]
    Sqlite {
        /// What was tried.
        doing: &'static str,
        /// The file.
        file: PathBuf,
        /// Why not.
        source: SqliteError,
    },
    /// The file system failed.
    #[error("cannot {doing} the replica. file=`{}`", file.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl HaltCause {
    /// Which kind of halt it is.
    pub const fn kind(&self) -> HaltKind {
        match self {
            Self::Diverged { .. } => HaltKind::Divergence,
            Self::Refused { .. } => HaltKind::Refused,
            Self::Revoked { .. } => HaltKind::Revoked,
            Self::UpgradeRequired { .. } => HaltKind::UpgradeRequired,
        }
    }

    /// Whether it is the replica's file that is to blame, and not the log.
    pub(crate) const fn is_of_file(&self) -> bool {
        match self {
            Self::Diverged { source, .. } => match source {
                Divergence::State { .. }
                | Divergence::Unreadable(_)
                | Divergence::Replaced
                | Divergence::Position { .. } => true,
                Divergence::Submission(_) | Divergence::Snapshot(_) | Divergence::Rebuilt { .. } => false,
            },
            Self::Refused { .. } | Self::Revoked { .. } | Self::UpgradeRequired { .. } => false,
        }
    }

    /// A refused object, or an object of newer rules.
    pub(crate) fn refused(sequence: Sequence, source: Refused) -> Self {
        if needs_upgrade(&source) {
            Self::UpgradeRequired { sequence, source }
        } else {
            Self::Refused { sequence, source }
        }
    }

    /// The halt of a replica that holds what is not believed any more.
    pub(crate) fn revoked(source: RevokedError) -> ValidatorError {
        let (from, to) = source.span();
        Self::Revoked { sequence: from, source }.into_error(from, to)
    }

    /// The halt with everything between `from` and `to` missing from the replica.
    pub(crate) fn into_error(self, from: Sequence, to: Sequence) -> ValidatorError {
        ValidatorError::Halted { halt: self.to_halt(from, to), source: Box::new(self) }
    }

    /// What `GET /status` says of it.
    pub(crate) fn to_halt(&self, from: Sequence, to: Sequence) -> Halt {
        let difference = difference::of(self).map(Box::new);
        Halt { kind: self.kind(), from, to: to.max(from), detail: chain(self), difference }
    }
}

/// A halt in one line: what is missing, or where the replica stood that is not what the log says.
fn halted(halt: &Halt) -> String {
    match halt.stood_at() {
        Some(sequence) => {
            format!("the validator halted: the replica is not what the log says. sequence=`{sequence}`")
        }
        None => format!("the validator halted. from=`{}` to=`{}`", halt.from, halt.to),
    }
}

/// What to do about a refusal, where whoever reads the log may be the one to change something: after a failover it is led with another key.
fn advice(refused: &Refused) -> &'static str {
    let causes = std::iter::successors(refused.source(), |&error| error.source());
    let is_untrusted = causes
        .filter_map(|error| error.downcast_ref::<SignatureError>())
        .any(|error| matches!(error, SignatureError::UntrustedKey { .. }));
    if is_untrusted { "; if the key is your sequencer's, add it with --sequencer-key" } else { "" }
}

/// Whether it is only newer than this program.
const fn needs_upgrade(refused: &Refused) -> bool {
    match refused {
        Refused::Batch(
            BatchError::Decode(DecodeError::UpgradeRequired { .. })
            | BatchError::Log { source: LogError::UpgradeRequired { .. }, .. }
            | BatchError::Checkpoint(LogError::UpgradeRequired { .. }),
        ) => true,
        Refused::Batch(_)
        | Refused::Misplaced { .. }
        | Refused::TooLarge(_)
        | Refused::StoreEnds { .. }
        | Refused::Straddles { .. }
        | Refused::Forked { .. }
        | Refused::Skipped { .. }
        | Refused::EpochAbsent { .. }
        | Refused::ChunkMissing { .. }
        | Refused::ChunkDamaged { .. } => false,
    }
}
