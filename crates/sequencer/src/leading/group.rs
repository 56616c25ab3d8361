//! One group of commands: ordered, signed, and made durable by one transaction, then answered.
//!
//! Nothing is answered before the transaction is durable, and nothing counts that is not (I5). A command sees what the commands
//! before it in the group did, so of two equal ones the second gets the receipt of the first.

use synddb_protocol::http::Reason;
use synddb_protocol::id::Timestamp;
use synddb_protocol::log::{Body, Message};
use synddb_sqlite::killable::reached;
use tokio::sync::oneshot;

use super::Now;
use crate::admission::Room;
use crate::journal::{Found, Journal, JournalError, Unstored};
use crate::ordering::{Draft, Judgement, Ordering, Placed};
use crate::stream::{Answer, Command};

/// Most commands that one transaction takes.
pub(crate) const GROUP_MAX: usize = 256;

/// An answer, and whom it is for.
pub(crate) struct Answered {
    to: oneshot::Sender<Answer>,
    answer: Answer,
    /// The memory that the command takes, until it is answered.
    _room: Room,
}

impl Answered {
    /// The refusal of a process that does not lead.
    pub(crate) fn not_leading(Command { answer: to, room, .. }: Command) -> Self {
        let why = "this sequencer does not lead the stream";
        Self { to, answer: Answer::Refused(Reason::NotLeading, why.to_owned()), _room: room }
    }

    /// What is said.
    #[cfg(test)]
    pub(super) const fn answer(&self) -> &Answer {
        &self.answer
    }

    /// Says it to whoever asked, who may be gone and asks again then.
    pub(crate) fn send(self) {
        self.to.send(self.answer).ok();
    }
}

/// What became of a group.
pub(super) struct Taken {
    /// One for each command, in their order.
    pub(super) answers: Vec<Answered>,
    /// The messages that were made of it. They are durable.
    pub(super) signed: Vec<Message>,
    /// An error when nobody knows what is durable. A full disk is none: it is answered.
    pub(super) done: Result<(), JournalError>,
}

/// Orders a group.
pub(super) fn take(
    ordering: &mut Ordering,
    journal: &mut Journal,
    journal_max: Unstored,
    commands: Vec<Command>,
    now: Now,
) -> Taken {
    let mut done = journal.begin();
    let mut answers = Vec::with_capacity(commands.len());
    let (placed, signed) = (Vec::new(), Vec::new());
    let mut group =
        Group { draft: ordering.draft(), placed, signed, journal, journal_max, now: now.log_time };
    // What is acknowledged is stored, whatever becomes of what says so.
    let acknowledged = commands.iter().map(|command| command.acknowledged).max().unwrap_or_default();
    ordering.acknowledge(acknowledged);
    for Command { body, is_looked_up, answer: to, room, .. } in commands {
        let decided = done.is_ok().then(|| group.consider(body, is_looked_up));
        let answer = match decided {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => {
                done = Err(error);
                not_durable()
            }
            None => not_durable(),
        };
        answers.push(Answered { to, answer, _room: room });
    }
    let Group { placed, signed, .. } = group;
    reached("group written");
    let is_durable = match done.and_then(|()| journal.commit()) {
        Err(JournalError::Full) => journal.give_up().map(|()| false),
        done => done.map(|()| true),
    };
    reached("group committed");
    if matches!(is_durable, Ok(true)) {
        ordering.accept(placed, now.instant);
        return Taken { answers, signed, done: Ok(()) };
    }
    for Answered { answer, .. } in &mut answers {
        if matches!(answer, Answer::Taken(_) | Answer::Known(_)) {
            *answer = not_durable();
        }
    }
    Taken { answers, signed: Vec::new(), done: is_durable.map(drop) }
}

/// The answer to everything that the disk did not take. It is true as well where it is broken for good: nothing was taken.
fn not_durable() -> Answer {
    Answer::Refused(Reason::DiskFull, "the disk of the journal takes nothing more".to_owned())
}

/// A group while it is ordered.
struct Group<'j> {
    draft: Draft,
    placed: Vec<Placed>,
    signed: Vec<Message>,
    journal: &'j mut Journal,
    journal_max: Unstored,
    now: Timestamp,
}

impl Group<'_> {
    fn consider(&mut self, body: Body, is_looked_up: bool) -> Result<Answer, JournalError> {
        match self.draft.judge(body.entry()) {
            Judgement::New => self.sign(body),
            Judgement::PerhapsKnown(held) => match self.journal.find(&held)? {
                Found::Receipts(receipts) => Ok(Answer::Known(receipts)),
                Found::Elsewhere if !is_looked_up => Ok(Answer::LookUp(held, None)),
                Found::Elsewhere | Found::Differs(_) | Found::Absent => self.sign(body),
            },
            Judgement::Known(held, otherwise) => Ok(match self.journal.find(&held)? {
                Found::Receipts(receipts) => Answer::Known(receipts),
                Found::Differs(expected) => {
                    let reason = Reason::ContentMismatch { expected, found: held.digest };
                    let detail = "its place was given to other content; two agents, or a changed outbox";
                    Answer::Refused(reason, detail.to_owned())
                }
                Found::Absent => Answer::Refused(otherwise, "it never got a place".to_owned()),
                Found::Elsewhere => Answer::LookUp(held, Some(otherwise)),
            }),
            Judgement::Refused(reason) => {
                Ok(Answer::Refused(reason, "a part of it has places already; send the rest of it".to_owned()))
            }
        }
    }

    fn sign(&mut self, body: Body) -> Result<Answer, JournalError> {
        let unstored = self.journal.unstored();
        if !unstored.has_room(body.as_stored().len(), self.journal_max) {
            let detail = format!("{} messages wait to be stored; try again later", unstored.messages);
            return Ok(Answer::Refused(Reason::DiskFull, detail));
        }
        match self.draft.sign(self.now, body) {
            Ok(signed) => {
                self.journal.insert(&signed)?;
                self.placed.push(signed.placed);
                let receipt = signed.message.receipt.clone();
                tracing::debug!(sequence = %receipt.header().sequence, "signed");
                self.signed.push(signed.message);
                Ok(Answer::Taken(receipt))
            }
            Err((reason, detail)) => Ok(Answer::Refused(reason, detail)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use synddb_protocol::id::{Epoch, InboundNonce, StreamId};
    use synddb_protocol::log::{EpochRecord, Inbound, KeyProof, Tip};
    use synddb_protocol::signing::SigningKey;
    use tokio::sync::oneshot;

    use super::*;
    use crate::admission::Admission;
    use crate::config::Batching;

    /// A body of this size that follows any log which has begun.
    fn body(nonce: u64, bytes: usize) -> Body {
        let mut noise = 7u64;
        let event = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            noise.to_be_bytes()[0]
        });
        let inbound = Inbound {
            chain_id: 1,
            bridge: synddb_protocol::id::Address::from_bytes([1; 20]),
            nonce: InboundNonce::new(nonce).unwrap(),
            block_number: 1,
            block_hash: synddb_protocol::hash::ChainHash::from_bytes([2; 32]),
            transaction_hash: synddb_protocol::hash::ChainHash::from_bytes([3; 32]),
            log_index: 0,
            event: event.take(bytes).collect(),
        };
        Body::of(&synddb_protocol::log::Entry::Inbound(inbound)).unwrap()
    }

    #[test]
    fn where_the_disk_is_full_the_whole_group_is_refused_and_nothing_was_signed() {
        let folder = tempfile::tempdir().unwrap();
        let stream = StreamId::from_bytes([0x5d; 32]);
        let mut journal = Journal::open(folder.path(), stream).unwrap();
        let key = Arc::new(SigningKey::from_bytes([7; 32]).unwrap());
        let record = EpochRecord { stream, epoch: Epoch::FIRST, proof: KeyProof::Unattested }.sign(&key);
        let mut ordering = Ordering::new(Tip::start(stream), Epoch::FIRST, key, Batching::default(), 0);
        let begun = ordering.draft().sign_epoch(Timestamp::ZERO, &record).unwrap();
        ordering.accept([begun.placed], Instant::now());
        let admission = Admission::new(1 << 20);
        let mut take = |journal: &mut Journal, bodies: Vec<Body>| {
            let (commands, answers): (Vec<_>, Vec<_>) = bodies
                .into_iter()
                .map(|body| {
                    let (answer, answered) = oneshot::channel();
                    let room = admission.take(1).unwrap();
                    (Command { body, is_looked_up: false, acknowledged: 0, answer, room }, answered)
                })
                .unzip();
            let now = Now { instant: Instant::now(), log_time: Timestamp::ZERO };
            let most = Unstored { messages: 1 << 20, bytes: 1 << 30 };
            let taken = take(&mut ordering, journal, most, commands, now);
            taken.done.unwrap();
            let count = taken.signed.len();
            taken.answers.into_iter().for_each(Answered::send);
            let answers: Vec<Answer> =
                answers.into_iter().map(|mut answer| answer.try_recv().unwrap()).collect();
            (count, answers, ordering.tip().clone())
        };
        let (_, _, before) = take(&mut journal, Vec::new());
        journal.limit_pages(14);
        let (taken, answers, after) = take(&mut journal, vec![body(1, 10), body(2, 60_000), body(3, 10)]);
        assert_eq!((taken, after), (0, before));
        assert!(answers.iter().all(|answer| matches!(answer, Answer::Refused(Reason::DiskFull, _))));
        let (taken, answers, _) = take(&mut journal, vec![body(1, 10)]);
        assert!(taken == 1 && matches!(answers[0], Answer::Taken(_)), "the small one fits");
        journal.limit_pages(1_000_000);
        let (taken, answers, _) = take(&mut journal, vec![body(2, 60_000), body(3, 10)]);
        assert!(taken == 2 && answers.iter().all(|answer| matches!(answer, Answer::Taken(_))));
    }
}
