//! Removing what nobody needs from a store: old snapshots of replicas, and chunks that nothing names.
//!
//! ```text
//! list manifests, list chunks --> read every manifest --> read the whole log --> decide        nothing is removed up to here
//!     --> remove manifests, durably --> again and again: look what is new, remove some chunks --> look once more
//! ```
//!
//! What must stay true:
//!
//! - **What the log names stays**, for ever: a full replay needs it. What cannot be read might name anything, so then nothing goes.
//! - **What a kept manifest names stays.** Which are kept is [`Retention`]'s.
//! - **A manifest goes before its chunks**, and durably. Killed at any moment, or cut off the power, what is left is a store in which every
//!   manifest that was whole is whole or gone; chunks that nobody names wait for the next run.
//! - **Whoever writes meanwhile is not harmed.** A chunk goes only when it is older than [`Retention::older_than`], so what was uploaded for a manifest
//!   that is not there yet stays. Who finds a chunk and does not upload it found it, as a rule, in a snapshot, and that stays as long: see
//!   `retention`. What is left is a chunk that nobody named for all that time and that somebody finds by its content alone, less than one
//!   removal before he names it: the new manifests and the end of the log are read again before each removal and after the last one, so
//!   that is said (`Needed`) and not hidden.
//!
//! It knows nobody's key and trusts nobody: what a stranger writes can make it keep more, and never less.

mod chunks;
#[cfg(test)]
mod decided;
mod log;
mod manifests;
mod report;
mod retention;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use synddb_protocol::hash::ChunkHash;
use synddb_protocol::id::{KeyId, Sequence, StreamId};
use synddb_service::shutdown::Shutdown;
use synddb_storage::{
    BatchStore, Folder, Key, Kind, ListError, Name, ObjectBatchStore, Removable, StoreUrl, Sweeper,
};
use tokio_util::sync::CancellationToken;

pub use self::chunks::Tally;
pub use self::log::LogFault;
pub use self::report::{Judged, Left, Problem, Progress, Report, Swept};
pub use self::retention::{Fate, Retention};

use self::chunks::{CHUNKS_MAX, Chunks, TooMany};
use self::log::Log;
use self::manifests::{Named, Object};
use self::retention::{Found, Standing, is_old};
use crate::fetch::PatientStore;
use crate::fsck::Listed;

/// Objects that are removed between two looks at what is new, at most.
const SLICE_MAX: usize = 1000;

/// What is to be swept.
#[derive(Debug, Clone)]
pub struct Question {
    /// The store. It must exist.
    pub store: StoreUrl,
    /// The stream; the only one of the store when it is not named.
    pub stream: Option<StreamId>,
    /// What is to be kept.
    pub retention: Retention,
    /// Whether only the answer is wanted.
    pub dry_run: bool,
    /// Now, by the clock of whoever asks. Where the store's clock is behind it, that one counts.
    pub now: SystemTime,
}

/// Opens the store and sweeps it.
///
/// # Errors
/// [`Problem`], in which case nothing was removed, or only what it says.
pub async fn run(
    question: Question,
    shutdown: Shutdown,
    on_progress: impl FnMut(Progress) + Send,
) -> Result<Report, Problem> {
    if !question.store.is_writable() {
        return Err(Problem::Static { url: question.store });
    }
    let store = ObjectBatchStore::open_existing(&question.store).await?;
    let streams = tokio::select! {
        () = shutdown.asked() => return Err(Problem::Interrupted),
        streams = store.streams() => streams,
    };
    let stream = question.stream.or_else(|| streams.as_ref().ok().and_then(|all| only(all)));
    let found = match streams {
        Ok(streams) => Listed::of(streams.iter().map(StreamId::to_string)),
        Err(failure) => {
            let stream = stream.unwrap_or(StreamId::from_bytes([0; 32]));
            return Err(Problem::List(ListError::Failed {
                folder: Folder { stream, kind: Kind::Batch },
                failure,
            }));
        }
    };
    let Some(stream) = stream else { return Err(Problem::NoStream { found }) };
    let Question { retention, dry_run, now, .. } = question;
    match run_over(Arc::new(store), stream, retention, dry_run, now, shutdown, on_progress).await {
        Err(Problem::Nothing { stream, .. }) => Err(Problem::Nothing { stream, found }),
        ended => ended,
    }
}

fn only(streams: &[StreamId]) -> Option<StreamId> {
    if let [stream] = streams { Some(*stream) } else { None }
}

/// The same over a store that is open.
///
/// # Errors
/// [`Problem`], in which case nothing was removed, or only what it says.
pub async fn run_over(
    sweeper: Arc<dyn Sweeper>,
    stream: StreamId,
    retention: Retention,
    dry_run: bool,
    now: SystemTime,
    shutdown: Shutdown,
    on_progress: impl FnMut(Progress) + Send,
) -> Result<Report, Problem> {
    let stop = CancellationToken::new();
    // Whoever stops waiting for this ends every part of it.
    let _ending = stop.clone().drop_guard();
    let store: Arc<dyn BatchStore> = Arc::clone(&sweeper) as Arc<dyn BatchStore>;
    let store = PatientStore::new(store, shutdown.clone(), stop);
    let mut sweep = Sweep {
        log: Log::new(store.clone(), stream),
        sweeper,
        store,
        stream,
        retention,
        now,
        shutdown: shutdown.clone(),
        chunks: Chunks::default(),
        seen: BTreeSet::new(),
        has_begun: false,
        progress: Progress::default(),
        on_progress,
    };
    let plan = tokio::select! {
        biased;
        () = shutdown.asked() => return Err(Problem::Interrupted),
        plan = sweep.plan() => plan?,
    };
    sweep.carry_out(plan, dry_run).await
}

/// What goes, once everything was read.
struct Plan {
    size: Sequence,
    /// Manifests that go, the oldest place first.
    going: Vec<Found>,
    /// What becomes of each.
    judged: Vec<Judged>,
    kept: Tally,
    young: Tally,
    broken: Tally,
    unknown: Tally,
    left: Option<Left>,
}

struct Sweep<F> {
    sweeper: Arc<dyn Sweeper>,
    store: PatientStore,
    stream: StreamId,
    retention: Retention,
    now: SystemTime,
    shutdown: Shutdown,
    log: Log,
    chunks: Chunks,
    /// Manifests that were decided about, or whose chunks are named.
    seen: BTreeSet<(Sequence, KeyId)>,
    /// Whether the store was asked to remove something.
    has_begun: bool,
    progress: Progress,
    on_progress: F,
}

impl<F: FnMut(Progress) + Send> Sweep<F> {
    /// Reads everything and decides. Removes nothing.
    async fn plan(&mut self) -> Result<Plan, Problem> {
        // The manifests first: what each of them names was there before it, so a later listing of chunks shows it.
        let named = manifests::list(&*self.sweeper, self.stream).await?;
        // The clock of this machine may be ahead of the one that dates the objects, and what is young would be old.
        self.now = self.now.min(self.sweeper.now().ok_or(Problem::NoClock)?);
        let unknown = self.list_chunks().await?;
        let mut found = Vec::with_capacity(named.len());
        for one in &named {
            found.extend(manifests::judge(&self.store, self.stream, one, &self.chunks).await?);
            self.progress.manifests += 1;
            (self.on_progress)(self.progress);
        }
        self.read_log().await?;
        let Some(size) = self.log.size() else {
            return Err(Problem::Nothing { stream: self.stream, found: Listed::of([]) });
        };
        let is_wanted =
            |one: &Found| one.standing == Standing::Whole && self.retention.signers.contains(&one.signer);
        if !self.retention.signers.is_empty() && !found.iter().any(is_wanted) {
            return Err(Problem::NoSigner);
        }
        let fates = self.retention.decide(&found, self.now);
        let mut plan = Plan {
            size,
            going: Vec::new(),
            judged: Vec::with_capacity(found.len()),
            kept: Tally::default(),
            young: Tally::default(),
            broken: Tally::default(),
            unknown,
            left: None,
        };
        for (one, fate) in found.into_iter().zip(fates) {
            let Found { sequence, signer, bytes, .. } = one;
            self.seen.insert((sequence, signer));
            plan.judged.push(Judged { sequence, signer, bytes, fate });
            if !fate.stays() {
                plan.going.push(one);
                continue;
            }
            plan.kept.add(bytes);
            if fate == Fate::Young {
                plan.young.add(bytes);
            }
            if one.standing != Standing::Whole {
                plan.broken.add(bytes);
            }
            plan.left = plan.left.or(self.name_chunks_of(sequence, signer).await?);
        }
        Ok(plan)
    }

    async fn list_chunks(&mut self) -> Result<Tally, Problem> {
        let (chunks, age, now) = (&mut self.chunks, self.retention.older_than, self.now);
        let (mut unknown, mut full) = (Tally::default(), None);
        let folder = Folder { stream: self.stream, kind: Kind::Chunk };
        let mut each = |stored: synddb_storage::Stored| match stored.name {
            Name::Key(Key::Chunk { hash, .. }) => {
                full = full.take().or(chunks.add(hash, stored.bytes, is_old(stored.written, now, age)).err());
            }
            Name::Key(_) | Name::Lease(_) | Name::Foreign(_) => unknown.add(stored.bytes),
        };
        self.sweeper.tell(folder, &mut each).await.map_err(Problem::List)?;
        match full {
            Some(TooMany) => Err(Problem::TooMany { what: "chunks", limit: CHUNKS_MAX }),
            None => Ok(unknown),
        }
    }

    /// Reads the log up to the end that it has now.
    async fn read_log(&mut self) -> Result<(), Problem> {
        let Self { log, chunks, progress, on_progress, .. } = self;
        let on_batch = |last, bytes| {
            progress.sequence = Some(last);
            progress.batch_bytes += bytes as u64;
            on_progress(*progress);
        };
        log.read_on(chunks, on_batch).await
    }

    /// Names the chunks of a manifest that stays; says so where nobody can tell which they are.
    async fn name_chunks_of(&mut self, sequence: Sequence, signer: KeyId) -> Result<Option<Left>, Problem> {
        let key = Key::Snapshot { stream: self.stream, sequence, signer };
        match manifests::read(&self.store, &key).await? {
            Object::Absent => Ok(None),
            Object::Unreadable => Ok(Some(Left::Unreadable { manifest: key.to_string() })),
            Object::Manifest(signed) => {
                for chunk in signed.manifest().chunks() {
                    let hash = chunk.hash;
                    let named = self.chunks.name(&hash);
                    named.map_err(|_| Problem::Needed { hash, by: key.to_string() })?;
                }
                Ok(None)
            }
        }
    }

    /// Names what became needed since everything was read.
    async fn look_again(&mut self) -> Result<Option<Left>, Problem> {
        let mut left = None;
        for Named { sequence, signer, .. } in manifests::list(&*self.sweeper, self.stream).await? {
            if self.seen.contains(&(sequence, signer)) {
                continue;
            }
            left = left.or(self.name_chunks_of(sequence, signer).await?);
            self.seen.insert((sequence, signer));
        }
        self.read_log().await?;
        Ok(left)
    }

    async fn carry_out(&mut self, plan: Plan, dry_run: bool) -> Result<Report, Problem> {
        let Plan { size, going, judged, kept, young, broken, unknown, left } = plan;
        let (judged, untold) = if dry_run { report::told(judged) } else { (Vec::new(), 0) };
        let mut report = Report {
            stream: self.stream,
            size,
            dry_run,
            manifests: Swept { kept, removed: Tally::default() },
            judged,
            untold,
            young_manifests: young,
            broken,
            chunks: Swept::default(),
            young: Tally::default(),
            unknown,
            left,
        };
        let ended = if dry_run {
            going.iter().for_each(|one| report.manifests.removed.add(one.bytes));
            if report.left.is_none() {
                let unneeded = self.chunks.unneeded();
                unneeded.iter().for_each(|hash| report.chunks.removed.add(self.chunks.bytes(hash)));
                unneeded.iter().for_each(|hash| self.chunks.give_up(hash));
            }
            Ok(())
        } else {
            self.remove(&going, &mut report).await
        };
        if let Err(source) = ended {
            let (manifests, chunks) = (report.manifests.removed.count, report.chunks.removed.count);
            return Err(if self.has_begun {
                Problem::Partly { manifests, chunks, source: Box::new(source) }
            } else {
                source
            });
        }
        let stays = self.chunks.tallies();
        for tally in [stays.named, stays.young, stays.unneeded] {
            report.chunks.kept.count += tally.count;
            report.chunks.kept.bytes += tally.bytes;
        }
        report.young = stays.young;
        Ok(report)
    }

    async fn remove(&mut self, going: &[Found], report: &mut Report) -> Result<(), Problem> {
        for some in going.chunks(SLICE_MAX) {
            if self.is_asked(report) {
                return Ok(());
            }
            let name = |one: &Found| Removable::manifest(self.stream, one.sequence, one.signer);
            self.has_begun = true;
            self.sweeper.remove(&some.iter().map(name).collect::<Vec<_>>()).await?;
            some.iter().for_each(|one| report.manifests.removed.add(one.bytes));
            self.progress.manifests_removed = report.manifests.removed.count;
            (self.on_progress)(self.progress);
        }
        if report.left.is_some() {
            return Ok(());
        }
        let unneeded = self.chunks.unneeded();
        for some in unneeded.chunks(SLICE_MAX) {
            if self.is_asked(report) {
                return Ok(());
            }
            report.left = self.look_again().await?;
            if report.left.is_some() {
                return Ok(());
            }
            self.remove_chunks(some, report).await?;
        }
        if !unneeded.is_empty() {
            // Who named one in the meantime is told, and not left to find out.
            report.left = self.look_again().await?;
        }
        report.size = self.log.size().unwrap_or(report.size);
        Ok(())
    }

    async fn remove_chunks(&mut self, some: &[ChunkHash], report: &mut Report) -> Result<(), Problem> {
        let some: Vec<ChunkHash> =
            some.iter().filter(|hash| self.chunks.is_unneeded(hash)).copied().collect();
        let names: Vec<Removable> = some.iter().map(|hash| Removable::chunk(self.stream, *hash)).collect();
        // An answer that is lost may have removed them.
        some.iter().for_each(|hash| self.chunks.give_up(hash));
        self.has_begun = true;
        self.sweeper.remove(&names).await?;
        some.iter().for_each(|hash| report.chunks.removed.add(self.chunks.bytes(hash)));
        self.progress.chunks_removed = report.chunks.removed.count;
        (self.on_progress)(self.progress);
        Ok(())
    }

    fn is_asked(&self, report: &mut Report) -> bool {
        let is_asked = self.shutdown.is_asked();
        if is_asked {
            report.left = Some(Left::Asked);
        }
        is_asked
    }
}
