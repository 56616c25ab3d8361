//! What a stream shows of its log before it is stored: to readers that come and go, and that nobody waits for.
//!
//! ```text
//! owner -> signed, stored, deposed, opened -> ring of recent messages <- step <- reader -> one piece at a time -> connection
//! ```
//!
//! What must stay true:
//!
//! - A message is shown after the transaction that holds it is durable, never before (I5).
//! - The owner waits for no reader: it moves messages into a bounded ring and goes on. With nobody there it costs a move of each body
//!   and a copy of each receipt.
//! - A reader has a place in the log and nothing else. Who falls behind the ring is told where the store goes on.
//! - Every place is shown once to a connection, unless what stood there is withdrawn.
//!
//! Knows nothing of HTTP, and never reads the store.

mod form;
mod reader;
mod ring;

pub(crate) use form::Form;
pub(crate) use reader::Reader;
pub(crate) use ring::NotShown;

use bytes::Bytes;
use synddb_protocol::hash::TreeHash;
use synddb_protocol::id::{Epoch, Sequence};
use synddb_protocol::log::Message;
use tokio::sync::watch;

use crate::journal::Stored;
use ring::{Ring, Shown};

/// The owner's side.
pub(crate) struct Live(watch::Sender<Ring>);

/// The readers' side. Clones are the same.
#[derive(Clone)]
pub(crate) struct Feed(watch::Receiver<Ring>);

impl Live {
    /// A stream that shows nothing yet.
    pub(crate) fn new() -> (Self, Feed) {
        let (live, feed) = watch::channel(Ring::default());
        (Self(live), Feed(feed))
    }

    /// An epoch begins: its first message stands at `fence`, and this is stored. What was shown and is not known to be stored is
    /// withdrawn: whatever of it counts comes again from the store.
    pub(crate) fn opened(&self, fence: Sequence, epoch: Epoch, stored: Option<&Stored>) {
        self.0.send_modify(|ring| ring.open(fence, epoch, stored.map(mark)));
    }

    /// These messages are durable.
    pub(crate) fn signed(&self, messages: Vec<Message>) {
        self.0.send_modify(|ring| {
            for Message { receipt, body } in messages {
                // A body may stand in a buffer that is much larger; what is kept is what is counted.
                ring.push(Shown { receipt, body: Bytes::from(body.into_boxed_slice()) });
            }
        });
    }

    /// Everything up to here is stored.
    pub(crate) fn stored(&self, stored: &Stored) {
        self.0.send_modify(|ring| ring.store(mark(stored)));
    }

    /// Another sequencer leads: what is not stored never will be.
    pub(crate) fn deposed(&self) {
        self.0.send_modify(Ring::depose);
    }
}

fn mark(stored: &Stored) -> (Sequence, Bytes) {
    (stored.last, Bytes::from(stored.checkpoint.clone()))
}

impl Feed {
    /// A reader of what stands from `from` on, or of what is yet to come. `epoch` is that of the message before `from`, as the reader
    /// saw it.
    ///
    /// # Errors
    /// [`NotShown`].
    pub(crate) fn read(&self, from: Option<Sequence>, epoch: Option<Epoch>) -> Result<Reader, NotShown> {
        let cursor = self.0.borrow().begin(from, epoch)?;
        Ok(Reader::new(self.0.clone(), cursor))
    }

    /// The leaves of these messages, if all of them are recent.
    pub(crate) fn leaves(&self, start: Sequence, end: Sequence) -> Option<Vec<TreeHash>> {
        let receipts = self.0.borrow().receipts(start, end)?;
        Some(receipts.iter().map(|receipt| receipt.leaf()).collect())
    }
}
