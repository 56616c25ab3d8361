//! Has the owner of the stream put something into the log, as clients have it: through its commands, so that one order is kept by one thread.

use synddb_protocol::DecodeError;
use synddb_protocol::http::Reason;
use synddb_protocol::id::Sequence;
use synddb_protocol::log::{Body, Entry};
use tokio::sync::{mpsc, oneshot};

use crate::admission::Admission;
use crate::stream::{Answer, Command};

/// Entries that are with the owner at once.
const AT_ONCE: usize = 64;

/// Memory that they may take, in bytes: more than so many of the largest inbound messages.
const BYTES_MAX: usize = 8 << 20;

/// Whoever has the owner put something into the log.
#[derive(Clone)]
pub(super) struct Orders {
    commands: mpsc::Sender<Command>,
    admission: Admission,
}

/// Why something is not in the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotOrdered {
    /// It cannot be written.
    #[error("it is none that the log holds")]
    Unwritable(#[from] DecodeError),
    /// There is too much.
    #[error("too much waits for the owner of the stream")]
    Busy,
    /// The owner is gone.
    #[error("the owner of the stream has ended")]
    Ended,
    /// The owner does not take it.
    #[error("the stream does not take it: {0}")]
    Refused(String),
}

impl Orders {
    pub(super) fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands, admission: Admission::new(BYTES_MAX) }
    }

    /// Has entries put into the log, in their order, each durably before this returns; what is behind one that is refused is not in it either. Says, beside
    /// them, how many inbound messages are known to be acknowledged. Gives the place of the last one.
    ///
    /// # Errors
    /// [`NotOrdered`]. Those before it may be in the log.
    pub(super) async fn order(
        &self,
        entries: &[Entry],
        acknowledged: u64,
    ) -> Result<Option<Sequence>, NotOrdered> {
        let mut last = None;
        for entries in entries.chunks(AT_ONCE) {
            let mut answers = Vec::with_capacity(entries.len());
            for entry in entries {
                let body = Body::of(entry)?;
                let room = self.admission.take(body.content_bytes()).ok_or(NotOrdered::Busy)?;
                let (answer, answered) = oneshot::channel();
                let command = Command { body, is_looked_up: false, acknowledged, answer, room };
                self.commands.send(command).await.map_err(|_| NotOrdered::Ended)?;
                answers.push(answered);
            }
            for answered in answers {
                match answered.await.map_err(|_| NotOrdered::Ended)? {
                    Answer::Taken(receipt) => last = Some(receipt.header().sequence),
                    Answer::Refused(reason, detail) => return Err(refused(&reason, &detail)),
                    // Only what clients send is looked up.
                    Answer::Known(_) | Answer::LookUp(..) => return Err(refused(&Reason::Internal, "")),
                }
            }
        }
        Ok(last)
    }
}

fn refused(reason: &Reason, detail: &str) -> NotOrdered {
    NotOrdered::Refused(format!("{}: {detail}", reason.code()))
}
