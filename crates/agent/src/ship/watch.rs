//! Watches for batches to be stored, beside whatever is being sent.
//!
//! It asks only while something waits to be stored, one long request after the other; idle, it asks nothing.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use synddb_protocol::http::{Problem as Refused, Reason};
use synddb_protocol::id::Sequence;

use super::backoff::Backoff;
use super::client::{Answer, Client, ClientError, WAIT_STORED};
use super::promises::{Promises, Verdict};
use super::turn::ROUND_MAX;
use super::{Message, problems};
use crate::handle::Shared;
use crate::status::{Problem, Teller};

/// An answer that comes sooner, and shows less than was asked for, was not waited for.
const SHORT: Duration = Duration::from_secs(1);

/// Asks for one stored checkpoint after the other, until whoever wants them is gone.
pub(super) struct Watcher {
    pub(super) client: Client,
    /// What was promised, which what is stored is held against.
    pub(super) promises: Arc<Promises>,
    /// Whether another sequencer may answer instead.
    pub(super) are_several: bool,
    pub(super) shared: Arc<Shared>,
    /// The sequences that have to be stored, the next one after the last was answered.
    pub(super) wanted: Receiver<Sequence>,
    pub(super) seen: SyncSender<Message>,
}

impl Watcher {
    pub(super) fn run(self) {
        let mut backoff = Backoff::default();
        let (mut is_unseen, mut is_unanswered) = (false, false);
        while let Ok(mut at_least) = self.wanted.recv() {
            let mut wait = if is_unseen || is_unanswered { Duration::ZERO } else { WAIT_STORED };
            let message = loop {
                let asked = Instant::now();
                let (message, pause) = match self.client.checkpoint(at_least, wait) {
                    Ok(Answer::Done(signed)) => {
                        let is_short = signed.claim().size < at_least && asked.elapsed() < SHORT;
                        match self.promises.check(&self.client, &signed) {
                            Verdict::Stale if self.are_several => {
                                (self.unanswered(), backoff.after_failure(None))
                            }
                            Verdict::Believed | Verdict::Stale => {
                                let seen = Message::Seen(Box::new(signed.claim().clone()));
                                if !is_short {
                                    backoff.reset();
                                    break seen;
                                }
                                // Whoever answers without having waited is not asked again at once.
                                (Some(seen), backoff.after_failure(None))
                            }
                            Verdict::Inconsistent(problem) => {
                                self.tell(Some(problem));
                                (None, backoff.slow())
                            }
                            Verdict::Equivocation(problem) => break Message::Convicted(problem),
                        }
                    }
                    // Nothing is stored yet, or what was promised is lost. Once is as it may be when a stream begins.
                    Ok(Answer::Refused(refused, asked)) if is_absent(&refused) => {
                        if std::mem::replace(&mut is_unseen, true) {
                            self.tell(Some(problems::unseen(&refused)));
                        }
                        (Some(Message::Unseen(self.client.asked())), backoff.after_failure(asked))
                    }
                    Ok(Answer::Refused(refused, asked)) => {
                        self.tell(Some(problems::refused(self.client.url(), &refused)));
                        (None, backoff.after_failure(asked))
                    }
                    Err(
                        error @ (ClientError::Untrusted { .. }
                        | ClientError::Convicted { .. }
                        | ClientError::NotKept(_)),
                    ) => {
                        self.tell(Some(problems::failed(&error)));
                        (self.unanswered(), backoff.slow())
                    }
                    Err(error) => {
                        self.tell(Some(problems::failed(&error)));
                        (self.unanswered(), backoff.after_failure(None))
                    }
                };
                let pause = if self.are_several { pause.min(ROUND_MAX) } else { pause };
                match self.wanted.recv_timeout(pause) {
                    Ok(newer) => at_least = newer,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                if let Some(message) = message {
                    break message;
                }
                // There may be another leader: what it has is looked at first, and then waited for.
                wait = Duration::ZERO;
            };
            is_unanswered = matches!(message, Message::Unanswered(_));
            if matches!(message, Message::Seen(_)) {
                is_unseen = false;
                self.tell(None);
            }
            if self.seen.send(message).is_err() {
                return;
            }
        }
    }

    /// What the one that sends is told when another sequencer may answer instead.
    fn unanswered(&self) -> Option<Message> {
        self.are_several.then(|| Message::Unanswered(self.client.asked()))
    }

    fn tell(&self, problem: Option<Problem>) {
        self.shared.board.tell(Teller::Watcher, problem);
    }
}

/// Whether whoever is asked knows of nothing stored in this stream.
const fn is_absent(refused: &Refused) -> bool {
    matches!(refused.reason(), Reason::NotFound | Reason::NotLeading)
}
