//! Going through a log: surveyed where that is needed, replayed to what is asked for, and what came of it examined.

use std::path::{Path, PathBuf};

use synddb_protocol::id::{CommitNumber, Sequence};
use synddb_service::shutdown::Shutdown;
use synddb_sqlite::snapshot::examine;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::rebuild::{Context, Over, Rebuild, Stamp, Stand};
use super::survey::{Held, Survey};
use super::target::{At, Target};
use super::{Doing, Problem, Progress, Restored};
use crate::error::{Divergence, HaltCause, ValidatorError};
use crate::fsck::{self, Asked};
use crate::once::{self, Beginning};
use crate::replica::Place;
use crate::run::own;

/// What goes through the log.
pub(super) struct Walk<'p, P> {
    pub(super) asked: Asked,
    pub(super) shutdown: Shutdown,
    pub(super) stop: CancellationToken,
    /// The last message of the log, as far as the store tells.
    pub(super) of: Option<Sequence>,
    pub(super) on_progress: &'p mut P,
}

impl<P: FnMut(Progress) + Send> Walk<'_, P> {
    /// Finds the newest incarnation that has a commit, by reading the whole log.
    pub(super) async fn survey(&mut self, commit: Option<CommitNumber>) -> Result<Target, Problem> {
        let (stream, store, of) = (self.asked.stream, self.asked.store.clone(), self.of);
        let mut stages = JoinSet::new();
        let stop = self.stop.child_token();
        let beginning = Beginning::of_log(stream, &self.asked.keys);
        let from = once::read(beginning, &store, &self.asked.keys, &self.shutdown, &stop, &mut stages);
        let mut survey = Survey::of(commit);
        let (asked, on_progress) = (&self.asked, &mut *self.on_progress);
        let read = survey.run(asked, from, |sequence| {
            let read = asked.counted.read();
            on_progress(Progress { doing: Doing::Surveying, sequence, of, read });
        });
        let read = tokio::select! {
            biased;
            () = self.shutdown.asked() => Ok(None),
            read = read => read,
        };
        stages.shutdown().await;
        match read {
            Ok(Some(())) => survey.into_target(),
            Ok(None) => Err(Problem::Interrupted),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Rebuilds the database in a place of its own.
    pub(super) async fn replay(&mut self, target: Target, place: Place) -> Result<Over, Problem> {
        let Asked { store, stream, keys, .. } = &self.asked;
        let (stream, mut stages) = (*stream, JoinSet::new());
        let beginning = Beginning::of_log(stream, keys);
        let from = once::read(beginning, store, keys, &self.shutdown, &self.stop, &mut stages);
        let (reached, mut progress) = watch::channel(None);
        let context = Context {
            runtime: Handle::current(),
            store: store.clone(),
            stream,
            stop: self.stop.clone(),
            reached,
        };
        let mut rebuilding = Box::pin(own(move || Rebuild::run(place, target, context, from)));
        let over = loop {
            tokio::select! {
                biased;
                () = self.shutdown.asked() => break None,
                Ok(()) = progress.changed() => {
                    let sequence = *progress.borrow_and_update();
                    self.progress(Doing::Replaying, sequence);
                }
                over = &mut rebuilding => break Some(over),
            }
        };
        // Nothing of it runs on in a folder that is removed.
        self.stop.cancel();
        stages.shutdown().await;
        let Some(over) = over else {
            rebuilding.await.ok();
            return Err(Problem::Interrupted);
        };
        match over {
            Ok(Some(over)) => Ok(over),
            Ok(None) => Err(Problem::Interrupted),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// What came of the replay: the rebuilt file, or why there is none.
    pub(super) fn judge(&self, at: At, target: Target, over: Over) -> Result<(PathBuf, Restored), Problem> {
        match over {
            Over::Rebuilt { file, stand, unfinished, gap } => {
                let Stand { incarnation, commit, sequence, timestamp, state, is_claimed } = stand;
                let (stream, read) = (self.asked.stream, self.asked.counted.read());
                let (damage, bytes) = (None, 0);
                let restored = Restored {
                    stream,
                    incarnation,
                    commit,
                    sequence,
                    timestamp,
                    state,
                    is_claimed,
                    unfinished,
                    gap,
                    damage,
                    bytes,
                    read,
                };
                Ok((file, restored))
            }
            Over::TooEarly { snapshot: Some(Stamp { sequence, timestamp }), .. } => {
                Err(Problem::TooEarly { at, sequence, timestamp })
            }
            Over::TooEarly { snapshot: None, last } => {
                Err(Problem::NoSnapshot { size: last.map(|last| last.sequence) })
            }
            Over::Missing { stand, unfinished, last } => {
                let size = last.map(|last| last.sequence);
                match (target, stand) {
                    (Target::Message(asked), _) => Err(Problem::NoMessage { asked, size }),
                    (_, Some(Stand { incarnation, commit, .. })) => {
                        let found = Held { incarnation, through: commit }.to_string();
                        Err(Problem::NoCommit { at, found, unfinished })
                    }
                    (_, None) if size.is_none() => Err(Problem::NoSnapshot { size }),
                    (_, None) => {
                        let found = format!("message {} as the last one", size.map_or(0, Sequence::get));
                        Err(Problem::NoCommit { at, found, unfinished })
                    }
                }
            }
        }
    }

    /// Scans the rebuilt file in full through a connection that remembers nothing of it, and has SQLite check it.
    pub(super) async fn examine(
        &mut self,
        file: &Path,
        rebuilt: PathBuf,
        restored: Restored,
    ) -> Result<Restored, Problem> {
        self.progress(Doing::Examining, Some(restored.sequence));
        let looked = rebuilt.clone();
        let examining = own(move || Ok(examine(&looked)));
        let examined = tokio::select! {
            biased;
            () = self.shutdown.asked() => return Err(Problem::Interrupted),
            examined = examining => examined.map_err(fsck::Problem::from)?,
        };
        let examined = examined
            .map_err(|source| Problem::Examine { file: file.to_owned(), source: Box::new(source) })?;
        let (expected, found, sequence) = (restored.state, examined.state.hash(), restored.sequence);
        if found != expected {
            let source = Divergence::Rebuilt { expected, found };
            let cause = HaltCause::Diverged { sequence, source };
            return Err(self.explain(cause.into_error(sequence, sequence)));
        }
        let size = std::fs::metadata(&rebuilt);
        let bytes = size.map_err(|source| Problem::Write { file: file.to_owned(), source })?.len();
        Ok(Restored { damage: examined.damage, bytes, ..restored })
    }

    fn progress(&mut self, doing: Doing, sequence: Option<Sequence>) {
        let read = self.asked.counted.read();
        (self.on_progress)(Progress { doing, sequence, of: self.of, read });
    }

    /// A problem of the log, with the epoch records that may be why.
    fn explain(&self, error: ValidatorError) -> Problem {
        let problem = fsck::Problem::from(error);
        let fsck::Problem::NotWhole { halt, source } = problem else { return problem.into() };
        self.asked.epochs.explain(ValidatorError::Halted { halt, source }).into()
    }
}
