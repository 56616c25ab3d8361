//! The pure core of leading a stream: `step(now, event) -> effects`.
//!
//! ```text
//! opening.rs   looking -> claiming -> settling the journal -> putting what was cut -> a term begins
//! adopt.rs     what an earlier epoch signed and nobody stored, checked again
//! term.rs      one epoch that this process claimed: fencing -> leading -> (deposed)
//! group.rs     one group of commands: judged, signed, durable, answered
//! simulated/   two of these, a store, clients and crashes, in every order (tests only)
//! ```
//!
//! ```text
//!    +---------------------- rest <------------------ another leader's batch is where ours should be
//!    v                                                            |                      |
//! looking --> claiming --> putting what was cut --> fencing ------+--> leading ----------+--> deposed
//!                ^  | the epoch is somebody's                                    (of our own history: looking)
//!                +--+
//! ```
//!
//! Everything that decides who leads, what is promised and what is stored is here, and is a function of what came before. It touches
//! nothing but its journal, which is a file on the same disk; the store, the clock, chance and who asks are its caller's ([`crate::stream`]).
//! What must stay true:
//!
//! - Effects are carried out in their order. An answer that promises something comes after the transaction that holds it (I5), and never before
//!   the message that began the epoch is stored (I6).
//! - One batch is outstanding at a time. Its exact bytes are in the journal before it is put, and are what is put again.
//! - A foreign batch in our place while leading ends all taking for ever in this process; one of our own history, or one that was met while
//!   fencing, costs the epoch in which something was signed for that place (ADR 7).
//! - A store that the journal was not written for gets no object: looking refuses it before anything is claimed.

mod adopt;
mod group;
mod opening;
#[cfg(test)]
mod planted;
#[cfg(test)]
mod simulated;
mod term;

pub(crate) use group::{Answered, GROUP_MAX};

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use synddb_protocol::http::{Position, StreamStatus};
use synddb_protocol::id::{Epoch, Sequence, StreamId, Timestamp};
use synddb_protocol::log::{Message, SignedCheckpoint, SignedEpochRecord};
use synddb_protocol::signing::{SigningKey, TrustedKeys};
use synddb_service::trouble::Trouble;
use synddb_sqlite::killable::reached;
use synddb_storage::{Put, PutError};

use crate::config::{Batching, Config};
use crate::error::LeadError;
use crate::journal::{Journal, Stored, Unstored};
use crate::ordering::Ordering;
use crate::stream::{Command, Phase};
use crate::tail::{Looked, Tail};
#[cfg(test)]
use planted::Planted;
use term::Term;

/// After so many batches of another leader in our place a claimant rests.
const CONFLICTS_IN_A_ROW: u32 = 4;

/// Who leads, and by which rules.
pub(crate) struct Leader {
    pub(crate) stream: StreamId,
    pub(crate) key: Arc<SigningKey>,
    pub(crate) trusted: TrustedKeys,
    pub(crate) batching: Batching,
    /// Most that may be accepted and not stored.
    pub(crate) journal_max: Unstored,
    /// How long storing what was accepted may take at the end.
    pub(crate) drain: Duration,
}

impl Leader {
    /// The leader of a stream that a configuration makes.
    pub(crate) fn of(config: &Config, stream: StreamId, key: Arc<SigningKey>) -> Self {
        Self {
            stream,
            trusted: config.trusted(&key),
            key,
            batching: config.batch,
            journal_max: config.journal_max(),
            drain: config.drain(),
        }
    }
}

/// What time it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// For how long something takes.
    pub(crate) instant: Instant,
    /// What the wall clock says. The order sees to it that log time never goes back.
    pub(crate) log_time: Timestamp,
}

impl Now {
    /// What the clocks of this machine say.
    pub(crate) fn by_the_clock() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ms = u64::try_from(since_1970.as_millis()).unwrap_or_default();
        Self { instant: Instant::now(), log_time: Timestamp::from_ms(ms).unwrap_or(Timestamp::ZERO) }
    }
}

/// What happened.
pub(crate) enum Event {
    /// The store was looked at, as [`Effect::Look`] asks.
    Looked(Result<Box<Looked>, LeadError>),
    /// The store answered a claim.
    Claimed(Result<Put, PutError>),
    /// The store answered a batch. An error says what stands there, or that no store takes these bytes.
    Put(Result<Put, PutError>),
    /// Clients sent something, in this order.
    Commands(Vec<Command>),
    /// It is [`Core::wake_at`].
    Woke,
    /// The process is to end.
    Finish,
}

/// What is to be done, in this order.
pub(crate) enum Effect {
    /// Look where the log ends in the store, and whether that is the journal's history. After a rest, which is longer each time.
    Look {
        /// Whether to rest first, and for what.
        rest: Option<&'static str>,
    },
    /// Put the claim of an epoch, once: whether it was this put that created it decides.
    Claim {
        /// The epoch.
        epoch: Epoch,
        /// The claim.
        object: Bytes,
    },
    /// Put a batch, again and again until the store has answered.
    Put {
        /// Its first message.
        first: Sequence,
        /// Its bytes.
        object: Bytes,
    },
    /// Answer a command.
    Answer(Answered),
    /// An epoch begins: its message stands at `fence`, and this is stored.
    Opened {
        /// Where the message that began it stands.
        fence: Sequence,
        /// The epoch.
        epoch: Epoch,
        /// What is stored.
        stored: Option<Stored>,
    },
    /// These messages are durable, and not stored.
    Signed(Vec<Message>),
    /// Everything up to here is stored.
    Stored(Stored),
    /// Another sequencer leads: what is not stored never will be.
    Deposed,
    /// Let everybody see this.
    Show(Box<Shown>),
    /// The stream is left. What was accepted and is not stored is in the journal.
    End(Result<(), LeadError>),
}

/// How things stand.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) phase: Phase,
    pub(crate) status: Option<StreamStatus>,
    /// How many inbound messages the log has.
    pub(crate) delivered: u64,
    /// The last message that is stored, and the signed checkpoint after it.
    pub(crate) stored: Option<(Sequence, Bytes)>,
}

enum State {
    Looking,
    Claiming {
        looked: Box<Looked>,
        epoch: Epoch,
        record: SignedEpochRecord,
    },
    /// A batch that was cut before the process ended is being put.
    Resuming {
        tail: Box<Tail>,
        epoch: Epoch,
        record: SignedEpochRecord,
        checkpoint: Box<SignedCheckpoint>,
    },
    Leading(Box<Term>),
    Ended,
}

/// The core of one stream.
pub(crate) struct Core {
    leader: Leader,
    journal: Journal,
    state: State,
    drain_until: Option<Instant>,
    wake_at: Option<Instant>,
    /// How often another batch was met since something was led.
    conflicts: u32,
    /// What stands in the way of leading.
    trouble: Trouble,
    #[cfg(test)]
    planted: Option<Planted>,
}

impl Core {
    /// A core that has done nothing. [`Self::begin`] says what comes first.
    pub(crate) fn new(leader: Leader, journal: Journal) -> Self {
        Self {
            leader,
            journal,
            state: State::Looking,
            drain_until: None,
            wake_at: None,
            conflicts: 0,
            trouble: Trouble::default(),
            #[cfg(test)]
            planted: None,
        }
    }

    /// What comes first.
    pub(crate) const fn begin(&self) -> Effect {
        Effect::Look { rest: None }
    }

    pub(crate) const fn leader(&self) -> &Leader {
        &self.leader
    }

    /// The journal, to look at while the store is.
    pub(crate) const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// When [`Event::Woke`] is due, unless something happens before.
    pub(crate) const fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    /// Whether commands are of any use: while the process ends nothing is taken.
    pub(crate) const fn takes_commands(&self) -> bool {
        self.drain_until.is_none()
    }

    /// Decides what an event means.
    pub(crate) fn step(&mut self, now: Now, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        let done = self.take(now, event, &mut effects).and_then(|()| self.go_on(now, &mut effects));
        match done {
            // Nothing was promised in this epoch, and nothing of it is half done.
            Err(error) if self.is_opening() && error.may_pass() => self.try_again(now, &error, &mut effects),
            Err(error) => self.end(Err(error), &mut effects),
            Ok(()) => {}
        }
        effects
    }

    fn take(&mut self, now: Now, event: Event, effects: &mut Vec<Effect>) -> Result<(), LeadError> {
        match event {
            Event::Looked(looked) => self.take_looked(looked, effects),
            Event::Claimed(answer) => self.take_claimed(now, answer, effects),
            Event::Put(answer) => self.take_put(now, answer, effects),
            Event::Commands(commands) => self.take_commands(now, commands, effects),
            Event::Woke => Ok(()),
            Event::Finish => {
                reached("drain begun");
                self.drain_until.get_or_insert(now.instant + self.leader.drain);
                Ok(())
            }
        }
    }

    const fn is_opening(&self) -> bool {
        match &self.state {
            State::Looking | State::Claiming { .. } | State::Resuming { .. } => true,
            State::Leading(_) | State::Ended => false,
        }
    }

    fn take_put(
        &mut self,
        now: Now,
        answer: Result<Put, PutError>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), LeadError> {
        if matches!(self.state, State::Resuming { .. }) {
            return self.take_resumed(now, answer, effects);
        }
        let State::Leading(term) = &mut self.state else { return Ok(()) };
        let next = term.take_put(&mut self.journal, &self.leader, answer, effects)?;
        if term.leads() {
            self.conflicts = 0;
        }
        match next {
            term::Next::GoOn => Ok(()),
            term::Next::Reopen => {
                self.look_again("another batch stands where ours should be", effects);
                Ok(())
            }
        }
    }

    fn take_commands(
        &mut self,
        now: Now,
        commands: Vec<Command>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), LeadError> {
        if let State::Leading(term) = &mut self.state
            && term.leads()
        {
            return term.take_group(&mut self.journal, &self.leader, now, commands, effects);
        }
        effects.extend(commands.into_iter().map(|command| Effect::Answer(Answered::not_leading(command))));
        Ok(())
    }

    /// Cuts what is due, ends what is done, and says when to look again.
    fn go_on(&mut self, now: Now, effects: &mut Vec<Effect>) -> Result<(), LeadError> {
        self.wake_at = None;
        match &mut self.state {
            State::Leading(term) => {
                let is_ending = self.drain_until.is_some();
                self.wake_at = term.cut_when_due(&mut self.journal, &self.leader, now, is_ending, effects)?;
                let Some(until) = self.drain_until else { return Ok(()) };
                if until <= now.instant {
                    let unstored = self.journal.unstored().messages;
                    tracing::warn!(
                        unstored,
                        "no more time to store; the journal keeps it for the next start"
                    );
                } else if !term.is_drained() {
                    self.wake_at = Some(self.wake_at.map_or(until, |wake_at| wake_at.min(until)));
                    return Ok(());
                }
            }
            // Nothing was promised in this epoch.
            State::Looking | State::Claiming { .. } | State::Resuming { .. }
                if self.drain_until.is_some() => {}
            State::Looking | State::Claiming { .. } | State::Resuming { .. } | State::Ended => return Ok(()),
        }
        self.end(Ok(()), effects);
        Ok(())
    }

    /// Gives the epoch up and looks where the log ends now. At once, most often: who has just stored a batch waits until the next one is full or old, and
    /// whoever rests meets that one. Each time costs an epoch, which is an object for ever, so not every time.
    fn look_again(&mut self, why: &'static str, effects: &mut Vec<Effect>) {
        self.conflicts += 1;
        let rest = self.conflicts.is_multiple_of(CONFLICTS_IN_A_ROW).then_some(why);
        self.state = State::Looking;
        let shown = Shown { phase: Phase::Opening, status: None, delivered: 0, stored: None };
        effects.push(Effect::Show(Box::new(shown)));
        effects.push(Effect::Look { rest });
    }

    fn end(&mut self, how: Result<(), LeadError>, effects: &mut Vec<Effect>) {
        (self.state, self.wake_at) = (State::Ended, None);
        effects.push(Effect::End(how));
    }

    fn begin_term(
        &mut self,
        ordering: Ordering,
        fence: Sequence,
        stored: Option<Stored>,
        effects: &mut Vec<Effect>,
    ) {
        let epoch = ordering.epoch();
        #[cfg_attr(not(test), expect(unused_mut, reason = "tests plant faults"))]
        let mut term = Term::begin(ordering, fence, stored.as_ref());
        #[cfg(test)]
        if let Some(planted) = self.planted {
            term.plant(planted);
        }
        effects.push(Effect::Opened { fence, epoch, stored });
        effects.push(Effect::Show(Box::new(term.shown(&self.leader))));
        self.state = State::Leading(Box::new(term));
    }
}

/// What must come next of the client, by a signed checkpoint of ours.
fn expected_after(checkpoint: &[u8]) -> Option<Position> {
    let checkpoint = SignedCheckpoint::from_bytes(checkpoint).ok()?;
    checkpoint.claim().client.as_ref().map(Position::expected)
}
