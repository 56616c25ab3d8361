//! Messages that went from the ring, read again from the store and verified again.
//!
//! Reading begins at a mark, a checkpoint that this replica stood at, and ends where the replica stands. On the way each further mark, and the end, are held
//! against what was applied: another log that the same keys signed is found there. Whoever stops on the way goes on at a checkpoint that was verified there.

use std::path::PathBuf;
use std::sync::Arc;

use synddb_protocol::DecodeError;
use synddb_protocol::chain;
use synddb_protocol::http::Gap;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::{
    Batch, SignedCheckpoint, Signers, TrustedCheckpoint, VerifiedBatch, VerifiedMessage, Versions,
};
use synddb_service::shutdown::Shutdown;
use synddb_storage::BatchStore;
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, warn};

use super::marks::Marks;
use super::render::Anew;
use super::ring::Shown;
use crate::config::Mode;
use crate::error::ValidatorError;
use crate::fetch::{Fetch, PatientStore};
use crate::keys::{KeySource, PatientKeys};
use crate::news::News;
use crate::pipeline::{Item, cut_off};
use crate::replica::{begins_incarnation, signers, snapshot_of};
use crate::verify::{Joined, Kept, Stopped, Verify, join};
use crate::view::View;

/// Batches between two stages: what one reader waits for is held by it alone.
const BETWEEN_MAX: usize = 1;

/// Where the log is read.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) store: Arc<dyn BatchStore>,
    pub(crate) stream: StreamId,
    pub(crate) keys: Arc<dyn KeySource>,
    pub(crate) supported: Versions,
    /// The replica, for what is said of it.
    pub(crate) file: PathBuf,
}

/// Why nothing more is read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// A mark is no checkpoint.
    #[error(
        "a mark in the replica is no checkpoint; `synddb validator resync` makes the replica anew. size=`{size}`"
    )]
    Mark {
        /// The size that it is at.
        size: u64,
        /// What is wrong.
        source: DecodeError,
    },
    /// The store, or what is in it.
    #[error("the log cannot be read again")]
    Read(#[from] ValidatorError),
    /// The process ends.
    #[error("the process was asked to end")]
    Asked,
    /// The store holds another log than the one that was applied.
    #[error("the store holds another log than the one that was applied here. size=`{size}`")]
    Another {
        /// Where both were compared.
        size: Sequence,
    },
}

/// A size of the log, and the checkpoint there, as bytes.
pub(super) type Mark = (u64, Arc<[u8]>);

/// The log from some mark on.
pub(super) struct Reading {
    /// Where the last batch began, and where it ended.
    read: Vec<Mark>,
    batches: Receiver<Item<Box<VerifiedBatch>>>,
    marks: Arc<Marks>,
    tail: TrustedCheckpoint,
    gaps: Vec<Gap>,
    size: u64,
    /// Whether a commit in parts is not whole behind the last batch.
    is_inside: bool,
    _stages: JoinSet<()>,
    _ending: DropGuard,
}

impl Log {
    /// Reads so that message `next` is in the first batch that comes, or in a later one; through where the replica stands. `read` is what
    /// [`Reading::read`] said before: no more of the log is read again than a batch.
    pub(super) async fn read(
        &self,
        next: u64,
        marks: Arc<Marks>,
        read: Vec<Mark>,
        tail: TrustedCheckpoint,
        gaps: Vec<Gap>,
        shutdown: &Shutdown,
    ) -> Result<Reading, LogError> {
        let stop = CancellationToken::new();
        let ending = stop.clone().drop_guard();
        // Once the process is asked to end, nobody waits for what a reader would be shown.
        let (asked, late) = (shutdown.clone(), stop.clone());
        let mut stages = JoinSet::new();
        stages.spawn(async move {
            asked.asked().await;
            late.cancel();
        });
        let last = next.saturating_sub(1);
        let marked = marks.before(last).map(|(size, bytes)| (size, Arc::clone(bytes)));
        let begins =
            read.into_iter().filter(|(size, _)| *size <= last).chain(marked).max_by_key(|(size, _)| *size);
        let (size, kept) = match &begins {
            None | Some((0, _)) => (0, None),
            Some((size, bytes)) => {
                let size = *size;
                let checkpoint =
                    SignedCheckpoint::from_bytes(bytes).map_err(|source| LogError::Mark { size, source })?;
                // What is revoked may lie before the mark and harm nothing: it is known here who signed that.
                let signers =
                    self.signers().await?.map(|signers| signers.cut(checkpoint.claim(), checkpoint.key()));
                (size, Some(Kept { checkpoint, signers }))
            }
        };
        let store = PatientStore::following(Arc::clone(&self.store), shutdown.clone(), stop.clone());
        let keys = PatientKeys::new(Arc::clone(&self.keys), shutdown.clone(), stop);
        let joined = join(&store, self.stream, &keys, self.supported, &self.file, kept).await;
        let Joined { leaders, tip, signers, .. } = match joined {
            Ok(joined) => joined,
            Err(Stopped::GaveUp) => return Err(LogError::Asked),
            Err(Stopped::Failed(error)) => return Err((*error).into()),
        };
        let fetch = Fetch {
            store: store.clone(),
            stream: self.stream,
            next: tip.next().unwrap_or(Sequence::FIRST),
            last: None,
            news: News::none(View::aside(self.stream)),
            mode: Mode::Once,
            shutdown: shutdown.clone(),
            until: Some(tail.claim().size),
            looks_behind: false,
        };
        let (fetched, to_verify) = mpsc::channel::<Item<Batch>>(BETWEEN_MAX);
        let (verified, batches) = mpsc::channel(BETWEEN_MAX);
        stages.spawn(fetch.run(fetched));
        stages.spawn(Verify::new(store, keys, leaders, tip, signers).run(to_verify, verified));
        let read = begins.into_iter().collect();
        Ok(Reading {
            read,
            batches,
            marks,
            tail,
            gaps,
            size,
            is_inside: false,
            _stages: stages,
            _ending: ending,
        })
    }

    /// Who signed what the replica holds: through what the reader was told of, at least, since the owner commits before it tells.
    async fn signers(&self) -> Result<Option<Signers>, LogError> {
        let file = self.file.clone();
        let read = spawn_blocking(move || signers::of_file(&file)).await;
        let fault = ValidatorError::Fault { part: "changes" };
        Ok(read.map_err(|_| fault)?.map_err(ValidatorError::from)?)
    }
}

impl Reading {
    /// Where the last batch began and where it ended, to go on with later.
    pub(super) fn read(&self) -> &[Mark] {
        &self.read
    }

    /// Whether a commit in parts is not whole behind the last batch: whether it ever will be, what follows says.
    pub(super) const fn is_inside(&self) -> bool {
        self.is_inside
    }

    /// The next batch, as far as it is shown; `None` where the replica stands.
    pub(super) async fn next(&mut self) -> Result<Option<Shown>, LogError> {
        loop {
            if self.size >= self.tail.claim().size.get() {
                return Ok(None);
            }
            match self.batches.recv().await {
                Some(Item::Batch(ahead)) => {
                    let (batch, _room) = ahead.split();
                    return self.shown(*batch).map(Some);
                }
                Some(Item::Look | Item::Audit(_)) => {}
                Some(Item::Failed(failed)) => {
                    warn!(error = %chain(&*failed), "changes cannot be read again from the store");
                    return Err((*failed).into());
                }
                // What the replica stands on was stored.
                Some(Item::End) | None => return Err(cut_off().into()),
            }
        }
    }

    fn shown(&mut self, batch: VerifiedBatch) -> Result<Shown, LogError> {
        let claim = batch.checkpoint().claim();
        let (after, size) = (self.size, claim.size);
        let is_tail = size == self.tail.claim().size;
        let applied = match self.marks.at(size) {
            _ if is_tail => Some(self.tail.claim().root()),
            Some(mark) => SignedCheckpoint::from_bytes(mark).ok().map(|mark| mark.claim().root()),
            None => None,
        };
        // The replica stands at the end of a batch.
        let is_beyond = size > self.tail.claim().size;
        if is_beyond || applied.is_some_and(|root| root != claim.root()) {
            error!(size = size.get(), "the store holds another log than the one that was applied here");
            return Err(LogError::Another { size });
        }
        self.size = size.get();
        self.is_inside = claim.client.as_ref().is_some_and(|client| client.group.is_some());
        if self.read.len() > 1 {
            self.read.remove(0);
        }
        self.read.push((self.size, batch.checkpoint().to_bytes().into()));
        let messages = batch.into_messages();
        Ok(shown(after, size.get(), messages, &self.gaps))
    }
}

/// What of a batch is shown: what the owner of the replica applied of it.
fn shown(after: u64, size: u64, mut messages: Vec<VerifiedMessage>, gaps: &[Gap]) -> Shown {
    let sequence = |message: &VerifiedMessage| message.header().sequence;
    let closes = |message: &VerifiedMessage| gaps.iter().any(|gap| gap.to == Some(sequence(message)));
    let is_missing = |message: &VerifiedMessage| {
        let at = sequence(message);
        gaps.iter().any(|gap| at >= gap.from && gap.to.is_none_or(|to| at < to))
    };
    let closing = messages.iter().rposition(|message| snapshot_of(message).is_some() && closes(message));
    let begins = messages.iter().rposition(begins_incarnation);
    let (at, anew) = match (closing, begins) {
        (Some(at), begins) if begins.is_none_or(|begins| begins <= at) => (at, Some(Anew::Gap)),
        (_, Some(at)) => (at, Some(Anew::Incarnation)),
        (_, None) => (0, None),
    };
    messages.drain(..at);
    messages.retain(|message| !is_missing(message));
    // A snapshot inside a gap that closed later began nothing here.
    let anew = anew.filter(|_| messages.first().is_some_and(|first| snapshot_of(first).is_some()));
    Shown { after, size, anew, messages: messages.into_iter().map(Arc::new).collect() }
}
