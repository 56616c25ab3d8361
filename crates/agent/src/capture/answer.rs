//! Answers to those who ask the thread that captures: callers, and the shipper.

use std::sync::mpsc::TryRecvError;

use synddb_sqlite::capture::{Reach, WalPosition};

use super::{Call, Capture};
use crate::attach::Running;
use crate::error::AgentError;
use crate::outbox::{Found, Outbox, OutboxError};
use crate::ship::{Message, Request};
use crate::source::Source;
use crate::status::{Captured, Pending};
use synddb_protocol::chain;

impl Capture {
    /// Answers callers. Says whether somebody waits for what is committed now, so that it is captured at once.
    pub(super) fn answer_calls(&mut self, running: &mut Running) -> Result<bool, AgentError> {
        while let Ok(call) = self.calls.try_recv() {
            match call {
                Call::Captured { position, answer } => {
                    let captured = self.captured(running, position)?;
                    // Who does not wait any more is not told.
                    answer.send(captured).ok();
                }
                // An application that hands its commits over is not scanned; who asks sees that nobody answers.
                Call::Audit { answer } => {
                    if matches!(running.source, Source::Wal(_)) {
                        self.audits.ask(answer);
                    }
                }
                Call::CatchUp { answer } => {
                    let now = running.source.committed()?;
                    self.catching_up.push((now, answer));
                    self.answer_caught_up(running);
                }
            }
        }
        Ok(!self.catching_up.is_empty())
    }

    /// Whether everything up to a position is captured, after trying to.
    fn captured(
        &mut self,
        running: &mut Running,
        position: Option<WalPosition>,
    ) -> Result<Captured, AgentError> {
        let now = running.source.committed()?;
        let reach = |source: &Source| match position {
            Some(position) => source.reach(&position),
            None if source.has_captured(&now) => Reach::Captured,
            None => Reach::NotYet,
        };
        if reach(&running.source) != Reach::Captured {
            self.poll(running)?;
        }
        Ok(match reach(&running.source) {
            Reach::Captured => Captured::Yes { next: running.outbox.end(), state: running.outbox.state() },
            Reach::NotYet => Captured::NotYet,
            Reach::Unknown => Captured::Unknown,
        })
    }

    /// Answers those for whom enough is captured now.
    pub(super) fn answer_caught_up(&mut self, running: &Running) {
        let next = running.outbox.end();
        self.catching_up.retain(|(committed, answer)| {
            let is_captured = running.source.has_captured(committed);
            if is_captured {
                answer.send(next).ok();
            }
            !is_captured
        });
    }

    /// Refuses callers while nothing is captured any more: what they ask for may have been committed since.
    pub(super) fn refuse_calls(&mut self) {
        self.catching_up.clear();
        while self.calls.try_recv().is_ok() {}
    }

    /// Answers what the shipper asks.
    pub(super) fn answer_requests(&mut self, outbox: &mut Outbox) -> Result<(), AgentError> {
        loop {
            match self.link.requests.try_recv() {
                Ok(request) => self.answer_request(outbox, request)?,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(AgentError::Fault { thread: "shipper" }),
            }
        }
    }

    pub(super) fn answer_request(&mut self, outbox: &mut Outbox, request: Request) -> Result<(), AgentError> {
        match request {
            Request::Find { generation, wanted } => {
                self.wanted = Some((generation, wanted));
                self.answer_shipper(outbox)
            }
            // Of an incarnation that was handed over, the shipper forgets by itself.
            Request::Stored { next, .. } if next.incarnation != outbox.incarnation() => Ok(()),
            Request::Stored { next, last } => match outbox.forget_before(&next, last) {
                Ok(_) => {
                    self.note_pending(outbox);
                    self.send(Message::Forgotten(next))
                }
                Err(error @ (OutboxError::OtherDigest { .. } | OutboxError::OtherPlace { .. })) => {
                    self.send(Message::Differs(chain(&error)))
                }
                Err(error) => Err(error.into()),
            },
            // It ends only when it is asked to.
            Request::Ended { .. } => Err(AgentError::Fault { thread: "shipper" }),
        }
    }

    /// Gives the shipper what it waits for, if it is here.
    pub(super) fn answer_shipper(&mut self, outbox: &Outbox) -> Result<(), AgentError> {
        let Some((generation, wanted)) = self.wanted else { return Ok(()) };
        match outbox.find(&wanted)? {
            Found::NotYet => Ok(()),
            found @ (Found::Held(_) | Found::Unknown) => {
                self.wanted = None;
                self.send(Message::Found { generation, found })
            }
        }
    }

    pub(super) fn send(&self, message: Message) -> Result<(), AgentError> {
        self.link.shipper.messages.send(message).map_err(|_| AgentError::Fault { thread: "shipper" })
    }

    /// Notes where capturing stands.
    pub(super) fn note(&self, running: &Running) {
        let Running { source, outbox, .. } = running;
        self.shared.board.note(|status| {
            status.next = Some(outbox.end());
            status.state = Some(outbox.state());
            status.wal_bytes = source.wal_bytes();
            let unsummed_frames = source.statistics().unsummed_frames;
            if status.statistics.unsummed_frames == 0 && unsummed_frames > 0 {
                tracing::warn!(
                    unsummed_frames,
                    "the application's SQLite commits frames that a power cut would lose; update it to 3.50.2 or later"
                );
            }
            status.statistics = source.statistics().into();
        });
        self.note_pending(outbox);
    }

    fn note_pending(&self, outbox: &Outbox) {
        let held = outbox.pending();
        let pending = Pending { submissions: held.submissions, bytes: held.bytes };
        self.shared.board.note(|status| status.pending = pending);
    }
}
