//! How a validator begins: it goes on, it fetches its replica again, or it goes on behind a gap.
//!
//! Done under the lock of the replica's place, before anything of the log is read.

use std::io;
use std::path::{Path, PathBuf};

use synddb_protocol::hash::StateHash;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_sqlite::connection::{Connection, SqliteError};
use tracing::warn;

use crate::error::{ReplicaError, ValidatorError};
use crate::replica::{GAPS_MAX, Gaps, Leaving, Place, Started, position, signers};
use crate::report::Report;
use crate::verify::Kept;

/// How a validator begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// It goes on from its replica, or makes one where there is none.
    #[default]
    GoOn,
    /// It rebuilds its replica from the log, and moves the old one away when the first snapshot of the new one is restored. Until then the old
    /// one lies where it lay.
    Resync {
        /// Whether the old replica is removed. Otherwise it is kept: as `<replica>.diverged-<sequence>` when there is a report of a
        /// divergence, as `<replica>.replaced-<sequence>` when there is none. Of each kind the last one is kept.
        discard: bool,
    },
    /// It accepts that messages are missing, and goes on from the next snapshot.
    Resume {
        /// The report of the divergence.
        report: PathBuf,
    },
}

/// Why a validator cannot begin as it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no report to be read.
    #[error("the report cannot be read; name the file that the halt wrote beside the replica. file=`{}`", file.display())]
    Report {
        /// What was named.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no replica that could go on.
    #[error("there is no replica that could go on behind a gap; run `synddb validator resync`. file=`{}`", file.display())]
    NoReplica {
        /// Where it should be.
        file: PathBuf,
    },
    /// The report is of another stream.
    #[error(
        "the report is of another stream; name the report of this replica. expected=`{expected}` found=`{found}`"
    )]
    ForeignStream {
        /// The stream that is followed.
        expected: StreamId,
        /// The one in the report.
        found: StreamId,
    },
    /// The replica stands elsewhere than the report says.
    #[error(
        "the report is of another halt; name the report of the last one. expected=`{} {}` found=`{} {}`",
        expected.0, expected.1, found.0.map_or(0, Sequence::get), found.1.map_or_else(String::new, |state| state.to_string())
    )]
    AnotherHalt {
        /// Where the replica stands, by its position.
        expected: (Sequence, StateHash),
        /// Where the report says that it stood.
        found: (Option<Sequence>, Option<StateHash>),
    },
    /// There is nothing to rebuild the replica from.
    #[error(
        "the store holds no snapshot yet from which the replica could be rebuilt, which is left as it was; is it the right store? \
         file=`{}`", file.display()
    )]
    NothingStored {
        /// The replica.
        file: PathBuf,
    },
    /// There are too many gaps.
    #[error("the replica has as many gaps as it can; run `synddb validator resync`. limit=`{GAPS_MAX}`")]
    TooManyGaps,
}

/// What is known when a validator begins.
pub(crate) struct Begun {
    pub(crate) place: Place,
    /// What the replica says of itself.
    pub(crate) kept: Option<Kept>,
    pub(crate) gaps: Gaps,
    /// The snapshot that the replica began with, while nobody has checked what came before.
    pub(crate) started: Option<Started>,
    /// What an earlier halt left.
    pub(crate) report: Option<Report>,
    /// How the replica that lies in the place goes when the rebuilt one is there. `None` where it is gone on from, or there is none.
    pub(crate) replaced: Option<Leaving>,
}

impl Begun {
    /// Takes the place and does what was asked for.
    pub(crate) fn by(start: &Start, replica: &Path, stream: StreamId) -> Result<Self, ValidatorError> {
        let place = Place::take(replica)?;
        let (report, is_reported) = match Report::read(&Report::path(place.file())) {
            Ok(report) => (Some(report), true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, false),
            Err(error) => {
                warn!(error = %error, "the report beside the replica cannot be read, and is left alone");
                (None, true)
            }
        };
        match start {
            Start::GoOn => {}
            Start::Resync { discard } if place.is_taken() => {
                let sequence = match position::of(&place, stream) {
                    Ok(checkpoint) => checkpoint.map_or(0, |checkpoint| checkpoint.claim().size.get()),
                    // What is there may be anything but a file that nobody made for this.
                    Err(error @ (ReplicaError::NotOurs { .. } | ReplicaError::ForeignStream { .. }))
                        if report.is_none() =>
                    {
                        return Err(error.into());
                    }
                    Err(_) => 0,
                };
                let leaving = match (discard, is_reported) {
                    (true, _) => Leaving::Removed,
                    (false, true) => Leaving::Diverged(sequence),
                    (false, false) => Leaving::Replaced(sequence),
                };
                // Nothing of it is looked at: it is as if there were none.
                let (kept, gaps, replaced) = (None, Gaps::default(), Some(leaving));
                return Ok(Self { place, kept, gaps, started: None, report, replaced });
            }
            Start::Resync { .. } => {}
            Start::Resume { report } => accept(&place, stream, report)?,
        }
        let kept = match position::of(&place, stream)? {
            Some(checkpoint) => Some(Kept { signers: signers::of(&place)?, checkpoint }),
            None => None,
        };
        let (gaps, started) = if kept.is_some() { read(&place)? } else { (Gaps::default(), None) };
        Ok(Self { place, kept, gaps, started, report, replaced: None })
    }
}

/// Writes down in the replica that a gap is accepted.
fn accept(place: &Place, stream: StreamId, file: &Path) -> Result<(), ValidatorError> {
    let report = Report::read(file).map_err(|source| StartError::Report { file: file.to_owned(), source })?;
    if report.stream != stream {
        return Err(StartError::ForeignStream { expected: stream, found: report.stream }.into());
    }
    let no_replica = || StartError::NoReplica { file: place.file().to_owned() };
    let checkpoint = position::of(place, stream)?.ok_or_else(no_replica)?;
    let claim = checkpoint.claim();
    let state = claim.client.as_ref().map(|client| client.state).ok_or_else(no_replica)?;
    if (report.sequence, report.state) != (Some(claim.size), Some(state)) {
        let (expected, found) = ((claim.size, state), (report.sequence, report.state));
        return Err(StartError::AnotherHalt { expected, found }.into());
    }
    if report.halted.stood_at().is_some() {
        warn!(
            report = report.id,
            file = %place.file().display(),
            "the log is right, and the replica's file is not: `synddb validator resync` loses nothing, this gap does"
        );
    }
    let (mut gaps, _) = read(place)?;
    if !gaps.begin(report.id.clone(), report.halted.from, report.at()) {
        return Err(StartError::TooManyGaps.into());
    }
    let written = || -> Result<(), SqliteError> {
        let connection = Connection::open(place.file())?;
        connection.execute("PRAGMA synchronous = FULL; BEGIN IMMEDIATE")?;
        gaps.write(connection.sqlite())?;
        connection.execute("COMMIT")
    };
    written().map_err(|source| ReplicaError::Sqlite {
        doing: "write",
        file: place.file().to_owned(),
        source,
    })?;
    warn!(
        report = report.id,
        from = report.halted.from.get(),
        "a gap is accepted; a later snapshot is waited for"
    );
    Ok(())
}

fn read(place: &Place) -> Result<(Gaps, Option<Started>), ReplicaError> {
    let read = || -> Result<_, SqliteError> {
        let connection = Connection::open(place.file())?;
        Ok((Gaps::read(connection.sqlite())?, Started::read(connection.sqlite())?))
    };
    read().map_err(|source| ReplicaError::Sqlite { doing: "read", file: place.file().to_owned(), source })
}
