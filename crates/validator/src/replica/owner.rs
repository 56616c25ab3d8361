//! The thread that owns the replica: verified batches in, commits and events out.
//!
//! While more is waiting, batches share a transaction; when nothing is, what was applied is committed at once. A transaction ends only at
//! a batch behind which no commit is coming in parts, so that a restart reads everything again that was in memory alone.

mod judged;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use synddb_protocol::id::{Epoch, Sequence, StreamId};
use synddb_protocol::log::{Entry, Signers, TrustedCheckpoint, VerifiedBatch, VerifiedMessage};
use synddb_protocol::submission::{Content, Snapshot, SnapshotPlace, StateClaim};
use synddb_sqlite::apply::Applied;
use synddb_sqlite::snapshot::Image;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::applying::Applying;
use super::audit::Waiting;
use super::chunks::Chunks;
use super::gaps::Gaps;
use super::names::Names;
use super::wal::WalBound;
use super::working::{Journal, Working};
use super::{Ended, Leaving, Place, Started, snapshot};
use crate::door::Door;
use crate::endorse::{Clean, Due};
use crate::error::{HaltCause, ValidatorError};
use crate::event::{End, Event};
use crate::feed::history::At;
use crate::feed::{Anew, Live, Ring, Shown};
use crate::fetch::PatientStore;
use crate::metrics;
use crate::pipeline::{Ahead, Item, cut_off};
use crate::report::Report;
use crate::rules::{CameInbound, Rulebook};
use crate::start::StartError;
use crate::view::{Standing, View};
use judged::through;

/// Batches share a transaction up to this much, in bytes of bodies.
const TRANSACTION_BYTES: usize = 16 << 20;

/// What the owner needs of the process around it.
pub(crate) struct Context {
    pub(crate) runtime: Handle,
    pub(crate) store: PatientStore,
    pub(crate) stream: StreamId,
    pub(crate) view: View,
    /// Where queries come in.
    pub(crate) door: Door,
    /// Most bytes of its WAL before readers are kept out for a moment.
    pub(crate) wal_bytes_max: u64,
    /// Whether whoever reads the file is waited for as long as it takes, where that is in the way.
    pub(crate) patient: bool,
    /// Whether also what a later snapshot of the same batch replaces is applied, and compared.
    pub(crate) thorough: bool,
    pub(crate) events: Sender<Event>,
    /// Cancelled when the time for what is under way is over.
    pub(crate) stop: CancellationToken,
    /// What the replica lacks.
    pub(crate) gaps: Gaps,
    /// The snapshot that the replica began with, while nobody has checked what came before.
    pub(crate) started: Option<Started>,
    /// What an earlier halt left, until it is settled.
    pub(crate) report: Option<Report>,
    /// How another replica leaves the place when the first snapshot of this one is restored.
    pub(crate) replaced: Option<Leaving>,
    /// Who is shown what was committed, if anybody.
    pub(crate) live: Option<Live>,
    /// The rules that every commit is shown to, if any.
    pub(crate) rules: Option<Rulebook>,
    /// Who endorses what is committed and violates none, if anybody.
    pub(crate) due: Option<Due>,
}

/// What came, or that nothing comes any more.
type Next = Option<Item<Box<VerifiedBatch>>>;

/// The owner of a replica.
pub(crate) struct Owner {
    place: Place,
    context: Context,
    /// The replica.
    live: Option<Working>,
    /// A snapshot, with what follows it, that is not the replica yet.
    staged: Option<Working>,
    /// Where the open transaction may be committed.
    pending: Option<TrustedCheckpoint>,
    /// Who signed what was applied, and the first epoch of which that is not committed.
    signers: Signers,
    signers_since: Option<Epoch>,
    /// Bytes of bodies in the open transaction.
    bytes: usize,
    applying: Applying,
    standing: Option<Standing>,
    waiting: Waiting,
    wal: WalBound,
    /// The end of the last batch that was looked at.
    looked_at: Option<Sequence>,
    /// What was applied and is not committed, for whoever is shown it; and the size of the log behind it.
    shown: Ring,
    shown_to: u64,
    /// What is known of names before there is a file.
    names: Names,
    /// The checkpoint that the replica stands at.
    checkpoint: Option<TrustedCheckpoint>,
    /// Ends of batches in the open transaction at which no violation is open.
    clean: Vec<Clean>,
    /// When it was looked last whether somebody resolved a violation.
    asked_at: Option<Instant>,
    /// The last inbound message that came by, and those that no file has. While no snapshot has come yet, or a gap is open, that is all of them: 64 bytes of each, as
    /// many as the log has. None may be dropped: what has no row passes for compared.
    delivered: u64,
    inbound: Vec<CameInbound>,
}

impl Owner {
    /// Opens the replica, scans it, and compares it with the checkpoint that it stands at. Takes a thread of its own: nothing of an open
    /// file may move to another one.
    ///
    /// # Errors
    /// [`ValidatorError`], also when the replica is not what it was.
    pub(crate) fn run(
        place: Place,
        checkpoint: Option<TrustedCheckpoint>,
        signers: Signers,
        context: Context,
        mut from: Receiver<Item<Box<VerifiedBatch>>>,
    ) -> Result<End, ValidatorError> {
        let wal = WalBound::new(context.wal_bytes_max, context.door.clone());
        let mut owner = Self {
            place,
            context,
            wal,
            live: None,
            staged: None,
            pending: None,
            signers,
            signers_since: None,
            bytes: 0,
            applying: Applying::default(),
            standing: None,
            waiting: Waiting::new(),
            looked_at: None,
            shown: Ring::default(),
            shown_to: checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.claim().size.get()),
            names: if checkpoint.is_none() { Names::of_log() } else { Names::none() },
            checkpoint: checkpoint.clone(),
            clean: Vec::new(),
            asked_at: None,
            delivered: 0,
            inbound: Vec::new(),
        };
        let opened = match checkpoint {
            Some(checkpoint) => owner.open(&checkpoint),
            None => Ok(()),
        };
        let ended = opened.and_then(|()| owner.follow(&mut from));
        match ended {
            Ok(()) => owner.whole().map(|()| owner.end()),
            Err(Ended::Interrupted) => Ok(owner.end()),
            Err(Ended::Halted(cause)) => Err(owner.halt(*cause)),
            Err(Ended::Failed(error)) => Err(owner.missing(*error)),
        }
    }

    fn open(&mut self, checkpoint: &TrustedCheckpoint) -> Result<(), Ended> {
        self.standing = Standing::at(checkpoint.claim());
        self.delivered = checkpoint.claim().inbound.map_or(0, |inbound| inbound.delivered());
        self.context.view.stood(self.standing);
        match self.open_at(checkpoint) {
            // It is known not to be what it was, and a snapshot is waited for.
            Err(Ended::Halted(cause)) if self.context.gaps.open().is_some() => {
                // What the cause advises was decided otherwise.
                let file = self.place.file().display();
                warn!(cause = %cause, %file, "a gap is accepted, and the replica is not what it was; a later snapshot replaces it");
                Ok(())
            }
            opened => opened,
        }
    }

    fn open_at(&mut self, checkpoint: &TrustedCheckpoint) -> Result<(), Ended> {
        let at = checkpoint.claim().size;
        let mut live = Working::open(&self.place, self.place.file(), Journal::Wal, at)?;
        live.stands_at(checkpoint)?;
        if let Some(rules) = &self.context.rules {
            live.judge(rules, checkpoint)?;
        } else {
            self.tell_unjudged(&live)?;
        }
        self.live = Some(live);
        self.show(checkpoint);
        self.tell_violations();
        if let Some(standing) = self.standing {
            info!(sequence = standing.sequence.get(), state = %standing.state, "the replica is what it was");
            self.stands(standing)?;
        }
        Ok(())
    }

    fn follow(&mut self, from: &mut Receiver<Item<Box<VerifiedBatch>>>) -> Result<(), Ended> {
        let mut is_at_end = false;
        loop {
            if self.context.stop.is_cancelled() {
                return Err(Ended::Interrupted);
            }
            let item = match from.try_recv() {
                Ok(item) => item,
                Err(TryRecvError::Disconnected) => {
                    self.commit()?;
                    return self.ended(is_at_end);
                }
                Err(TryRecvError::Empty) => {
                    self.commit()?;
                    let Some(item) = self.next(from)? else { return self.ended(is_at_end) };
                    item
                }
            };
            match &item {
                Item::Batch(_) => is_at_end = false,
                Item::End => is_at_end = true,
                Item::Look | Item::Audit(_) | Item::Failed(_) => {}
            }
            match item {
                Item::Batch(ahead) => self.take(ahead)?,
                Item::End => {
                    self.commit()?;
                    self.caught_up();
                }
                Item::Look => self.look()?,
                Item::Audit(asked) => self.waiting.ask(asked),
                Item::Failed(error) => {
                    self.commit()?;
                    return Err(Ended::Failed(error));
                }
            }
            if self.waiting.is_due() {
                self.commit()?;
                self.audit()?;
            }
        }
    }

    /// Waits for what comes next, and for a door that closes.
    fn next(&mut self, from: &mut Receiver<Item<Box<VerifiedBatch>>>) -> Result<Next, Ended> {
        while let Some(closing) = self.wal.closing() {
            let came = async {
                tokio::select! {
                    biased;
                    item = from.recv() => Ok(item),
                    closed = closing => Err(closed),
                }
            };
            match self.context.runtime.block_on(came) {
                Ok(item) => return Ok(item),
                Err(closed) => match &self.live {
                    Some(live) => self.wal.closed(closed, live)?,
                    None => self.wal.let_go(),
                },
            }
        }
        Ok(from.blocking_recv())
    }

    /// Nothing comes any more: in order, or because a stage before this one met a fault.
    fn ended(&self, is_at_end: bool) -> Result<(), Ended> {
        if is_at_end || self.context.store.may_end() {
            Ok(())
        } else {
            Err(Ended::Failed(Box::new(cut_off())))
        }
    }

    /// Looks whether somebody else wrote. Costs nothing where nobody did.
    fn look(&mut self) -> Result<(), Ended> {
        let Some(live) = self.live.as_ref().filter(|live| !live.is_open()) else { return Ok(()) };
        if live.was_touched()? {
            self.waiting.ask(None);
        }
        self.resolve()
    }

    /// Scans the replica in full and compares. Where a commit is coming in parts, or a snapshot is on its way, it is done later.
    fn audit(&mut self) -> Result<(), Ended> {
        let settled = self.staged.is_none() && self.live.as_ref().is_some_and(|live| !live.is_open());
        let Some(live) = self.live.as_mut().filter(|_| settled) else { return Ok(()) };
        let began = Instant::now();
        let (audit, compared) = live.audit();
        metrics::audited(self.context.stream);
        if compared.is_err() {
            self.context.view.distrust();
        }
        self.waiting.answer(began, audit.as_ref());
        if let Some(audit) = audit {
            info!(sequence = audit.sequence.get(), scan_ms = audit.scan_ms, equal = audit.equal, "audited");
        }
        compared?;
        self.look_at_start()
    }

    /// Applies a batch, or nothing of it.
    fn take(&mut self, ahead: Ahead<Box<VerifiedBatch>>) -> Result<(), Ended> {
        let (batch, _room) = ahead.split();
        let claim = batch.checkpoint().claim();
        let in_parts = claim.client.as_ref().is_some_and(|client| client.group.is_some());
        if self.staged.is_none() && self.context.gaps.open().is_some() {
            return self.pass(*batch);
        }
        let begins = batch.messages().iter().rposition(begins_incarnation);
        // Behind this batch nothing can be committed, or what is open belongs to another file.
        if in_parts || begins.is_some() {
            self.commit()?;
        }
        self.take_from(begins.map(|at| (at, Anew::Incarnation)), *batch)
    }

    /// Passes a batch of an open gap. It is verified, and nothing of it is applied, unless it carries a snapshot that closes the gap.
    fn pass(&mut self, batch: VerifiedBatch) -> Result<(), Ended> {
        let Some(after) = self.context.gaps.open().map(|open| open.after) else { return Ok(()) };
        let closes =
            |message: &VerifiedMessage| message.header().sequence > after && snapshot_of(message).is_some();
        let Some(at) = batch.messages().iter().rposition(closes) else {
            self.looked_at = Some(batch.checkpoint().claim().size);
            self.context.view.stored(batch.checkpoint().claim().size);
            // What stands behind the gap was led to by it: a key that is revoked later may have signed it.
            self.note_signers(&batch);
            self.note_delivered(batch.messages());
            return Ok(());
        };
        self.commit()?;
        self.take_from(Some((at, Anew::Gap)), batch)
    }

    /// Applies a batch, from behind the snapshot that is to replace everything before it.
    fn take_from(&mut self, snapshot: Option<(usize, Anew)>, batch: VerifiedBatch) -> Result<(), Ended> {
        let claim = batch.checkpoint().claim();
        let in_parts = claim.client.as_ref().is_some_and(|client| client.group.is_some());
        self.looked_at = Some(claim.size);
        self.context.view.stored(claim.size);
        let messages = match snapshot {
            Some((at, _)) => {
                // Rules see also what is replaced at once.
                let judged = self.context.rules.is_some() && self.context.gaps.open().is_none();
                if self.context.thorough || judged {
                    self.rehearse(&batch.messages()[..at])?;
                }
                self.note_delivered(&batch.messages()[..at]);
                self.stage(&batch.messages()[at])?;
                // What stands before it in this batch was replaced by it.
                &batch.messages()[at + 1..]
            }
            None => batch.messages(),
        };
        self.apply(messages, &batch)?;
        self.note_signers(&batch);
        self.note_delivered(batch.messages());
        self.bytes += batch.messages().iter().map(VerifiedMessage::body_bytes).sum::<usize>();
        if !in_parts && self.working().is_some() {
            self.pending = Some(batch.checkpoint().clone());
            self.note_clean(batch.checkpoint());
        }
        self.note_shown(snapshot, batch);
        if self.bytes >= TRANSACTION_BYTES { self.commit() } else { Ok(()) }
    }

    /// What of a batch was applied is shown once it is committed.
    fn note_shown(&mut self, snapshot: Option<(usize, Anew)>, batch: VerifiedBatch) {
        if self.context.live.is_none() || self.working().is_none() {
            return;
        }
        let size = batch.checkpoint().claim().size.get();
        let (at, anew) = snapshot.map_or((0, None), |(at, anew)| (at, Some(anew)));
        let messages = batch.into_messages().into_iter().skip(at).map(Arc::new).collect();
        let mut after = std::mem::replace(&mut self.shown_to, size);
        if snapshot.is_some() {
            // What is not committed by now is of a file that will never be: a commit whose last part never came, and what its batches began with.
            after = std::mem::take(&mut self.shown).after().unwrap_or(after);
        }
        self.shown.push(Shown { after, size, anew, messages });
    }

    /// Shows what is committed, now that the replica stands at this checkpoint.
    fn show(&mut self, checkpoint: &TrustedCheckpoint) {
        if let (Some(live), Some(working)) = (&self.context.live, &self.live) {
            let names = working.names();
            live.stands(std::mem::take(&mut self.shown), names.history(), names.marks(), checkpoint);
        }
    }

    /// Who signed a batch is kept with the next position.
    fn note_signers(&mut self, batch: &VerifiedBatch) {
        let epoch = batch.messages().first().map(|message| message.header().epoch);
        self.signers.add(batch);
        self.signers_since = self.signers_since.or(epoch);
    }

    /// Applies what a later snapshot of the same batch replaces, and compares what it claims. None of it is committed.
    fn rehearse(&mut self, messages: &[VerifiedMessage]) -> Result<(), Ended> {
        let stop = self.context.stop.clone();
        for message in messages {
            if begins_incarnation(message) {
                self.stage(message)?;
            }
            if let (Entry::Inbound(inbound), Some(working)) = (message.entry(), self.working_mut()) {
                working.delivered(inbound.nonce);
            }
            self.note_delivered(std::slice::from_ref(message));
            let (Entry::Submission(submission), Some(working)) = (message.entry(), self.working_mut()) else {
                continue;
            };
            working.begin(|| stop.is_cancelled())?;
            working.take(message, submission)?;
        }
        Ok(())
    }

    fn apply(&mut self, messages: &[VerifiedMessage], batch: &VerifiedBatch) -> Result<(), Ended> {
        let stop = self.context.stop.clone();
        let Some(working) = self.staged.as_mut().or(self.live.as_mut()) else { return Ok(()) };
        working.begin(|| stop.is_cancelled())?;
        working.save()?;
        self.applying.begin();
        let began = Instant::now();
        let applied = apply(working, messages, batch, &stop, &mut self.applying);
        match applied {
            Ok(applied) => {
                working.release()?;
                self.applying.applied();
                metrics::applied(self.context.stream, batch.messages().len(), applied, began.elapsed());
                Ok(())
            }
            // The batches before it are whole, and are kept.
            Err(Ended::Halted(cause)) => {
                working.take_back()?;
                self.commit()?;
                Err(Ended::Halted(cause))
            }
            Err(error) => Err(error),
        }
    }

    /// Restores the snapshot that a message carries beside the replica.
    fn stage(&mut self, message: &VerifiedMessage) -> Result<(), Ended> {
        let sequence = message.header().sequence;
        let Some(snapshot) = snapshot_of(message) else { return Ok(()) };
        info!(sequence = sequence.get(), chunks = snapshot.chunks.len(), "restoring a snapshot");
        let names = self.working().map_or(&self.names, Working::names).elsewhere();
        // The file of an earlier snapshot of this batch goes; what the batch did to the replica before is in its open transaction, and goes with it below.
        let seen = self.staged.take().map(|mut staged| staged.carry()).transpose()?.flatten();
        self.clean.clear();
        let context = &self.context;
        let chunks = Chunks::fetch(
            &context.runtime,
            context.store.clone(),
            context.stream,
            snapshot.chunks.clone(),
            context.stop.clone(),
        );
        snapshot::stage(&self.place, sequence, &Image::of_snapshot(snapshot), chunks)?;
        let mut staged = Working::open(&self.place, &self.place.staged(), Journal::Rollback, sequence)?;
        staged.keep_gaps(&self.context.gaps.closed(sequence))?;
        // Where the log was joined stays what it was, whatever the log replaces.
        if let Some(started) = &self.context.started {
            staged.keep_started(started)?;
        }
        staged.keep_names(
            names,
            match &snapshot.place {
                SnapshotPlace::Begins { .. } => At::beginning(snapshot.incarnation),
                SnapshotPlace::After { commit, .. } => At::commit(snapshot.incarnation, *commit),
            },
        );
        self.judge_staged(&mut staged, seen, message, snapshot)?;
        if let Some(live) = &mut self.live {
            live.rollback();
        }
        self.staged = Some(staged);
        Ok(())
    }

    /// Commits what can be committed, and makes a staged snapshot the replica.
    fn commit(&mut self) -> Result<(), Ended> {
        let Some(checkpoint) = self.pending.take() else { return Ok(()) };
        let stop = self.context.stop.clone();
        self.bytes = 0;
        let since = self.signers_since.take();
        let Some(working) = self.staged.as_mut().or(self.live.as_mut()) else { return Ok(()) };
        working.keep_inbound(through(&self.inbound, &checkpoint))?;
        working.commit(&checkpoint, (&self.signers, since), || stop.is_cancelled())?;
        self.inbound.drain(..through(&self.inbound, &checkpoint).len());
        let restored = self.staged.is_some();
        if restored {
            self.publish(&checkpoint)?;
        }
        self.show(&checkpoint);
        let Some(standing) = Standing::at(checkpoint.claim()) else { return Ok(()) };
        let Standing { sequence, state, .. } = standing;
        debug!(sequence = sequence.get(), state = %state, "committed");
        self.applying.committed();
        self.stands(standing)?;
        self.checkpoint = Some(checkpoint);
        self.tell_violations();
        let clean = std::mem::take(&mut self.clean);
        if let Some(due) = &self.context.due {
            clean.into_iter().for_each(|clean| due.offer(clean));
        }
        self.resolve()?;
        if let Some(live) = &self.live {
            self.wal.look(live, self.context.stream)?;
        }
        if restored {
            self.tell(Event::Restored { sequence, state });
        }
        self.tell(Event::Applied { sequence, state });
        Ok(())
    }

    /// Puts the staged file in the replica's place.
    fn publish(&mut self, checkpoint: &TrustedCheckpoint) -> Result<(), Ended> {
        let Some(mut staged) = self.staged.take() else { return Ok(()) };
        let found = staged.take_found();
        self.wal.let_go();
        // What SQLite does when it closes a file, it does by name: not beside the next one.
        self.live = None;
        if self.context.replaced.is_none() && self.place.is_taken() {
            drop(staged);
            snapshot::copy_over(&self.place, &self.context)?;
            self.place.remove_staged()?;
        } else {
            staged.ready()?;
            drop(staged);
            if let Some(kept) = self.context.replaced.take().map(|how| self.place.vacate(how)).transpose()? {
                let kept = kept.map_or_else(String::new, |kept| kept.display().to_string());
                info!(kept, "a rebuilt replica takes the place of the one before");
            }
            self.place.rename_staged()?;
        }
        let at = checkpoint.claim().size;
        let mut live = Working::open(&self.place, self.place.file(), Journal::Wal, at)?;
        // Between the two files others may have written, and a file that was copied or renamed is not what it was by that alone.
        live.stands_at(checkpoint)?;
        if let Some(rules) = &self.context.rules {
            live.judge(rules, checkpoint)?;
            live.has_found(found);
        }
        self.context.gaps = live.gaps().clone();
        self.context.view.lacks(&self.context.gaps);
        self.live = Some(live);
        Ok(())
    }

    fn working(&self) -> Option<&Working> {
        self.staged.as_ref().or(self.live.as_ref())
    }

    fn working_mut(&mut self) -> Option<&mut Working> {
        self.staged.as_mut().or(self.live.as_mut())
    }

    /// The replica stands here, and is what the log says. An earlier divergence that is behind this is settled.
    fn stands(&mut self, standing: Standing) -> Result<(), Ended> {
        self.standing = Some(standing);
        self.context.view.stands(standing);
        self.look_at_start()?;
        if self.context.report.as_ref().is_some_and(|report| report.is_settled_at(standing.sequence)) {
            Report::remove(self.place.file())?;
            info!(sequence = standing.sequence.get(), "an earlier divergence is settled");
            self.context.report = None;
        }
        Ok(())
    }

    /// Whether nothing is waited for that the end of the store did not bring.
    fn whole(&self) -> Result<(), ValidatorError> {
        if self.context.replaced.is_some() && !self.context.patient {
            return Err(StartError::NothingStored { file: self.place.file().to_owned() }.into());
        }
        match self.context.gaps.open() {
            Some(open) if !self.context.patient => Err(ValidatorError::NoSnapshot {
                from: open.gap.from,
                after: self.looked_at.unwrap_or(open.after),
            }),
            Some(_) | None => Ok(()),
        }
    }

    fn caught_up(&self) {
        let standing = self.standing.filter(|_| self.live.is_some());
        if let Some(Standing { sequence, state, .. }) = standing {
            self.tell(Event::CaughtUp { sequence, state });
        }
    }

    fn tell(&self, event: Event) {
        // Nobody listens any more when the process ends in a fault elsewhere.
        self.context.events.blocking_send(event).ok();
    }

    fn end(&self) -> End {
        End {
            sequence: self.standing.map(|standing| standing.sequence),
            state: self.standing.map(|standing| standing.state),
        }
    }

    /// The error of a halt: everything from behind the replica to the end of the batch that was worked on is missing.
    fn halt(&self, cause: HaltCause) -> ValidatorError {
        if cause.is_of_file() {
            self.context.view.distrust();
        }
        let from = self.first_missing();
        cause.into_error(from, self.looked_at.unwrap_or(from))
    }

    /// The error of another stage. A batch that was refused is not all that is missing when a commit was coming in parts.
    fn missing(&self, error: ValidatorError) -> ValidatorError {
        if let ValidatorError::Halted { halt, source } = error {
            if matches!(*source, HaltCause::Revoked { .. }) {
                self.context.view.hide();
                return ValidatorError::Halted { halt, source };
            }
            return source.into_error(self.first_missing(), halt.to);
        }
        error
    }

    fn first_missing(&self) -> Sequence {
        let stands = self.standing.and_then(|standing| standing.sequence.next()).unwrap_or(Sequence::FIRST);
        self.context.gaps.open().map_or(stands, |open| stands.min(open.gap.from))
    }
}

/// Applies messages inside an open transaction, and compares with what the batch's checkpoint claims.
fn apply(
    working: &mut Working,
    messages: &[VerifiedMessage],
    batch: &VerifiedBatch,
    stop: &CancellationToken,
    applying: &mut Applying,
) -> Result<Applied, Ended> {
    let mut applied = Applied::default();
    for message in messages {
        if stop.is_cancelled() {
            return Err(Ended::Interrupted);
        }
        match message.entry() {
            Entry::Submission(submission) => {
                tell_missed(message.header().stream, message.header().sequence, &submission.content);
                let began = SystemTime::now();
                let more = working.take(message, submission)?;
                applied.commits += more.commits;
                applied.row_bytes += more.row_bytes;
                applying.note(message, began);
            }
            // A snapshot after a commit has that commit's state hash, which the batch's verification compared. The others change
            // no row.
            Entry::Inbound(inbound) => working.delivered(inbound.nonce),
            Entry::Snapshot(_) | Entry::Status(_) | Entry::Epoch(_) => {}
        }
    }
    working.check(batch.checkpoint())?;
    Ok(applied)
}

/// Tells of a full scan of the application's database that found another state than was captured: the capture missed something. The
/// replica is what was captured; the client sends the difference as a commit of its own.
fn tell_missed(stream: StreamId, sequence: Sequence, content: &Content) {
    let claims: Vec<StateClaim> = match content {
        Content::Commits(commits) => commits.as_slice().iter().filter_map(|commit| commit.state).collect(),
        Content::Part(part) => part.last.into_iter().collect(),
    };
    for StateClaim { state, scanned } in claims {
        if let Some(scanned) = scanned.filter(|scanned| *scanned != state) {
            metrics::scan_missed(stream);
            warn!(sequence = sequence.get(), %state, %scanned, "the application's database is not what was captured");
        }
    }
}

/// Whether a message is a snapshot that begins an incarnation.
pub(crate) fn begins_incarnation(message: &VerifiedMessage) -> bool {
    snapshot_of(message).is_some_and(|snapshot| matches!(snapshot.place, SnapshotPlace::Begins { .. }))
}

/// The snapshot that a message carries.
pub(crate) const fn snapshot_of(message: &VerifiedMessage) -> Option<&Snapshot> {
    match message.entry() {
        Entry::Snapshot(snapshot) => Some(snapshot),
        Entry::Submission(_) | Entry::Inbound(_) | Entry::Status(_) | Entry::Epoch(_) => None,
    }
}
