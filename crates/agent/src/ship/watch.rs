//! Watches for batches to be stored, beside whatever is being sent.
//!
//! It asks only while something waits to be stored, one long request after the other; idle, it asks nothing.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use synddb_protocol::http::Reason;
use synddb_protocol::id::Sequence;
use synddb_protocol::log::Checkpoint;

use super::backoff::Backoff;
use super::client::{Answer, Client, ClientError, WAIT_STORED};
use super::{Message, problems};
use crate::handle::Shared;
use crate::status::{Problem, Teller};

/// An answer that comes sooner, and shows less than was asked for, was not waited for.
const SHORT: Duration = Duration::from_secs(1);

/// Asks for one stored checkpoint after the other, until whoever wants them is gone.
pub(super) struct Watcher {
    pub(super) client: Client,
    pub(super) shared: Arc<Shared>,
    /// The sequences that have to be stored, the next one after the last was answered.
    pub(super) wanted: Receiver<Sequence>,
    pub(super) seen: SyncSender<Message>,
}

impl Watcher {
    pub(super) fn run(self) {
        let mut backoff = Backoff::default();
        while let Ok(mut at_least) = self.wanted.recv() {
            let mut wait = WAIT_STORED;
            let checkpoint = loop {
                let asked = Instant::now();
                let (checkpoint, pause) = match self.ask(at_least, wait, &mut backoff) {
                    Ok(checkpoint) if checkpoint.size >= at_least => break checkpoint,
                    // Whoever answers without having waited is not asked again at once.
                    Ok(checkpoint) if asked.elapsed() < SHORT => {
                        (Some(checkpoint), backoff.after_failure(None))
                    }
                    Ok(checkpoint) => break checkpoint,
                    Err(pause) => (None, pause),
                };
                match self.wanted.recv_timeout(pause) {
                    Ok(newer) => at_least = newer,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                if let Some(checkpoint) = checkpoint {
                    break checkpoint;
                }
                // There may be another leader: what it has is looked at first, and then waited for.
                wait = Duration::ZERO;
            };
            if checkpoint.size >= at_least {
                backoff.reset();
            }
            self.shared.board.tell(Teller::Watcher, None);
            if self.seen.send(Message::Seen(Box::new(checkpoint))).is_err() {
                return;
            }
        }
    }

    fn ask(&self, at_least: Sequence, wait: Duration, backoff: &mut Backoff) -> Result<Checkpoint, Duration> {
        let (problem, pause) = match self.client.checkpoint(at_least, wait) {
            Ok(Answer::Done(checkpoint)) => return Ok(checkpoint),
            // Nothing is stored yet.
            Ok(Answer::Refused(refused, asked)) if *refused.reason() == Reason::NotFound => {
                (None, backoff.after_failure(asked))
            }
            Ok(Answer::Refused(refused, asked)) => {
                (Some(problems::refused(&refused)), backoff.after_failure(asked))
            }
            Err(error @ (ClientError::Untrusted { .. } | ClientError::NotKept(_))) => {
                (Some(problems::failed(&error)), backoff.slow())
            }
            Err(error) => (Some(problems::failed(&error)), backoff.after_failure(None)),
        };
        self.tell(problem);
        Err(pause)
    }

    fn tell(&self, problem: Option<Problem>) {
        self.shared.board.tell(Teller::Watcher, problem);
    }
}
