//! A leader: the core with its journal, and what its shell would do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use rand::RngExt as _;
use rand::rngs::SmallRng;
use synddb_protocol::chain;
use synddb_protocol::log::Body;
use synddb_protocol::signing::{SigningKey, TrustedKeys, VerifyingKey};
use synddb_storage::{Failure, Folder, Key, Kind, ListError, PutError};
use tokio::sync::oneshot;

use super::oracle::{Oracle, Violation};
use super::sea::{Flight, Sea};
use super::{Fault, STREAM};
use crate::admission::Admission;
use crate::config::Batching;
use crate::journal::{Journal, Unstored};
use crate::leading::{Core, Effect, Event, Leader, Now};
use crate::stream::{Answer, Command, Phase};
use crate::tail;

/// Pages that no schedule fills.
const ROOM: u32 = 100_000;

/// What the core waits for.
enum Work {
    Look,
    Claim { flight: Flight, key: Key },
    Put { flight: Flight, key: Key, object: Bytes },
}

pub(super) struct Process {
    at: usize,
    key: Arc<SigningKey>,
    trusted: Vec<VerifyingKey>,
    sea: Arc<Sea>,
    fault: Option<Fault>,
    /// `None` while the process is down.
    core: Option<Core>,
    /// The journal, while the process is down.
    journal: Option<Journal>,
    work: Option<Work>,
    asked: Vec<oneshot::Receiver<Answer>>,
    admission: Admission,
    /// The checkpoint that was shown last.
    stored: Option<Bytes>,
    /// What was said to come next of the client.
    sequenced: Option<u64>,
    /// It was shown to lead.
    leads: bool,
    ended: Option<String>,
}

impl Process {
    pub(super) fn new(at: usize, key: Arc<SigningKey>, trusted: &[VerifyingKey], sea: Arc<Sea>) -> Self {
        Self {
            at,
            key,
            trusted: trusted.to_vec(),
            sea,
            fault: None,
            core: None,
            journal: Some(Journal::in_memory(STREAM).unwrap()),
            work: None,
            asked: Vec::new(),
            admission: Admission::new(1 << 20),
            stored: None,
            sequenced: None,
            leads: false,
            ended: None,
        }
    }

    pub(super) fn plant(&mut self, fault: Option<Fault>) {
        self.fault = fault;
        if let (Some(Fault::JournalForgets), Some(journal)) = (fault, &mut self.journal) {
            journal.forget();
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.core.is_some()
    }

    pub(super) fn leads(&self) -> bool {
        self.leads
    }

    pub(super) fn has_work(&self) -> bool {
        self.work.is_some()
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.core.as_ref().and_then(Core::wake_at)
    }

    pub(super) fn journal(&self) -> Option<&Journal> {
        self.core.as_ref().map(Core::journal).or(self.journal.as_ref())
    }

    /// The checkpoint that was shown since the last look.
    pub(super) fn stored(&mut self) -> Option<Bytes> {
        self.stored.take()
    }

    /// What was said to come next of the client, since the last look.
    pub(super) fn sequenced(&mut self) -> Option<u64> {
        self.sequenced.take()
    }

    pub(super) fn ended_for(&self) -> String {
        self.ended.clone().unwrap_or_else(|| "it goes on and on".to_owned())
    }

    pub(super) fn start(&mut self) {
        let Some(journal) = self.journal.take() else { return };
        let leader = Leader {
            stream: STREAM,
            key: Arc::clone(&self.key),
            trusted: TrustedKeys::pinned(self.trusted.iter().copied()),
            batching: Batching { age_ms: 5, messages_max: 3, ..Batching::default() },
            journal_max: Unstored { messages: 1 << 20, bytes: 1 << 30 },
            drain: Duration::from_millis(20),
        };
        let mut core = Core::new(leader, journal);
        if let Some(Fault::Core(planted)) = self.fault {
            core.planted = Some(planted);
        }
        (self.core, self.work, self.ended, self.leads) = (Some(core), Some(Work::Look), None, false);
    }

    /// The process dies. What it sent is on its way all the same.
    pub(super) fn crash(&mut self, oracle: &mut Oracle) -> Result<(), Violation> {
        let Some(core) = self.core.take() else { return Ok(()) };
        let journal = core.journal.crashed().unwrap();
        oracle.take_crash(self.at, &journal)?;
        (self.journal, self.work) = (Some(journal), None);
        self.asked.clear();
        Ok(())
    }

    /// Does what the core asked for, or tells it what came of it.
    pub(super) fn go_on(
        &mut self,
        now: Now,
        chance: &mut SmallRng,
        oracle: &mut Oracle,
    ) -> Result<(), Violation> {
        let (Some(core), Some(work)) = (&self.core, self.work.take()) else { return Ok(()) };
        let is_lost = !self.sea.is_calm() && chance.random_bool(0.2);
        let lost = |key| PutError::Failed { key, failure: Failure::Unavailable("lost".into()) };
        let event = match work {
            Work::Look if is_lost => {
                let folder = Folder { stream: STREAM, kind: Kind::Batch };
                let failure = Failure::Unavailable("lost".into());
                Event::Looked(Err(ListError::Failed { folder, failure }.into()))
            }
            Work::Look => {
                let leader = core.leader();
                let looked = tail::look(&*self.sea, core.journal(), STREAM, &leader.trusted).now_or_never();
                Event::Looked(looked.expect("the sea answers at once"))
            }
            Work::Claim { key, .. } if is_lost => Event::Claimed(Err(lost(key))),
            Work::Claim { flight, key } => Event::Claimed(self.sea.land(flight).answer(key)),
            // The shell sends the same again, whatever becomes of the first.
            Work::Put { key, object, .. } if is_lost => {
                let flight = self.sea.send(key, object.clone());
                self.work = Some(Work::Put { flight, key, object });
                return Ok(());
            }
            Work::Put { flight, key, .. } => Event::Put(self.sea.land(flight).answer(key)),
        };
        self.step(now, event, chance, oracle)
    }

    pub(super) fn wake(
        &mut self,
        now: Now,
        chance: &mut SmallRng,
        oracle: &mut Oracle,
    ) -> Result<(), Violation> {
        self.step(now, Event::Woke, chance, oracle)
    }

    pub(super) fn finish(
        &mut self,
        now: Now,
        chance: &mut SmallRng,
        oracle: &mut Oracle,
    ) -> Result<(), Violation> {
        self.step(now, Event::Finish, chance, oracle)
    }

    pub(super) fn send(
        &mut self,
        now: Now,
        bodies: Vec<Body>,
        chance: &mut SmallRng,
        oracle: &mut Oracle,
    ) -> Result<(), Violation> {
        let Some(core) = &self.core else { return Ok(()) };
        if bodies.is_empty() || !core.takes_commands() {
            return Ok(());
        }
        let mut commands = Vec::new();
        for body in bodies {
            let (answer, answered) = oneshot::channel();
            let room = self.admission.take(1).expect("there is room");
            commands.push(Command { body, is_looked_up: false, acknowledged: 0, answer, room });
            self.asked.push(answered);
        }
        self.step(now, Event::Commands(commands), chance, oracle)
    }

    /// The disk has as much room as the journal takes and a little, or as much as anybody wants.
    pub(super) fn fill(&self, chance: &mut SmallRng) {
        let Some(journal) = self.journal() else { return };
        let room = if chance.random_bool(0.5) { chance.random_range(0..4) } else { ROOM };
        journal.limit_pages(journal.pages() + room);
    }

    pub(super) fn make_room(&self) {
        if let Some(journal) = self.journal() {
            journal.limit_pages(journal.pages() + ROOM);
        }
    }

    /// What was answered since the last look.
    pub(super) fn heard(&mut self) -> Vec<Answer> {
        let mut heard = Vec::new();
        self.asked.retain_mut(|asked| match asked.try_recv() {
            Ok(answer) => {
                heard.push(answer);
                false
            }
            Err(oneshot::error::TryRecvError::Empty) => true,
            Err(oneshot::error::TryRecvError::Closed) => false,
        });
        heard
    }

    fn step(
        &mut self,
        now: Now,
        event: Event,
        chance: &mut SmallRng,
        oracle: &mut Oracle,
    ) -> Result<(), Violation> {
        let Some(core) = &mut self.core else { return Ok(()) };
        let effects = core.step(now, event);
        oracle.note_begun_anew(self.at, core.journal())?;
        for effect in effects {
            // It may die between any two of them.
            if !self.sea.is_calm() && chance.random_bool(0.01) {
                return self.crash(oracle);
            }
            self.carry_out(effect, oracle)?;
            if self.core.is_none() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect, oracle: &mut Oracle) -> Result<(), Violation> {
        match effect {
            Effect::Look { .. } => self.work = Some(Work::Look),
            Effect::Claim { epoch, object } => {
                oracle.take_claim(self.at, epoch);
                let key = Key::Epoch { stream: STREAM, epoch };
                self.work = Some(Work::Claim { flight: self.sea.send(key, object), key });
            }
            Effect::Put { first, object } => {
                let cut = self.core.as_ref().and_then(|core| core.journal().cut().expect("it is read"));
                oracle.take_put(&object, cut.map(|cut| cut.bytes).as_deref())?;
                let key = Key::Batch { stream: STREAM, first };
                let flight = self.sea.send(key, object.clone());
                self.work = Some(Work::Put { flight, key, object });
            }
            Effect::Answer(answered) => {
                oracle.take_answer(self.at, answered.answer())?;
                answered.send();
            }
            Effect::Show(shown) => {
                oracle.take_shown(shown.phase);
                self.leads = shown.phase == Phase::Leading;
                if let Some(next) = shown.status.and_then(|status| status.sequenced_next) {
                    self.sequenced = Some(next.commit.get());
                }
                if let Some((_, checkpoint)) = shown.stored {
                    self.stored = Some(checkpoint);
                }
            }
            Effect::Opened { .. } | Effect::Signed(_) | Effect::Stored(_) | Effect::Deposed => {}
            Effect::End(how) => {
                self.ended = how.as_ref().err().map(|error| chain(error));
                oracle.take_end(how)?;
                self.crash(oracle)?;
            }
        }
        Ok(())
    }
}
