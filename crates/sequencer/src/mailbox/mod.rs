//! What a stream and its bridge tell each other: rows of the application's database that ask the bridge to act, and what the bridge tells the application.
//!
//! ```text
//! stored batch -> verified (follow.rs) -> each whole commit walked (walk.rs) -> one row for each message, for ever (ledger.rs, inbound.rs)
//!                                                                                    |-> outbound: signed when somebody asks
//!                                                                                    |-> inbound: shown to the application
//!                                                                                    `-> how late the application is (late.rs) --\
//! chain -> what the bridge tells, once it is final (bring.rs) ------------------------------------------------- put into the log (orders.rs)
//! ```
//!
//! What must stay true:
//!
//! - The log alone says which inbound messages came: the next one is the one behind its last, whoever led before.
//! - Nothing is shown to the application before it is stored.
//! - Nothing is signed before the message that brings the row is stored: what is read here comes from the store, verified as any reader verifies it.
//! - A nonce has one digest, whatever the application, an incarnation or a copy of its database says later.
//! - A nonce is refused by what the log holds, never by a trouble of this machine or a damage of its files: those are errors, and are tried again.
//! - Nobody waits for it: to the order, the journal and the owner it is one more who sends them something. A ledger that cannot read or write tries again, and
//!   what panics begins again (keep.rs).
//!
//! The application's file is never opened.

mod bring;
mod follow;
mod inbound;
mod keep;
mod late;
mod ledger;
mod orders;
mod parts;
mod walk;

pub(crate) use keep::{Means, keep};
pub(crate) use ledger::LedgerError;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use synddb_protocol::http::{
    INBOUND_LISTED_MAX, InboundList, InboundMessage, OUTBOUND_LISTED_MAX, OutboundContent, OutboundList,
    OutboundRefused, OutboundSignature, OutboundStatus,
};
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::{StatusLevel, VerifiedBatch};
use synddb_protocol::signing::{Domain, SigningKey};
use tokio::sync::watch;

use crate::metrics::MailboxMetrics;
use inbound::Oldest;
use ledger::{Ledger, Recorded};

/// How far both directions have come, as the stored log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Known {
    /// The last message that was read.
    pub(crate) read: Option<Sequence>,
    /// The highest nonce of an outbound message; 0 for none.
    pub(crate) outbound: u64,
    /// The highest nonce of an inbound message; 0 for none.
    pub(crate) delivered: u64,
    /// All inbound messages up to this one are acknowledged.
    pub(crate) consumed: u64,
    /// How far the application is behind.
    pub(crate) level: StatusLevel,
}

/// What a stream and its bridge have told each other.
pub(crate) struct Mailbox {
    stream: StreamId,
    bridge: Domain,
    key: Arc<SigningKey>,
    folder: PathBuf,
    /// `None` until somebody needs it, and after it failed.
    ledger: Mutex<Option<Ledger>>,
    known: watch::Sender<Known>,
    metrics: MailboxMetrics,
}

impl Mailbox {
    /// That of a stream whose files are in `folder`. Opens nothing yet.
    pub(crate) fn new(stream: StreamId, bridge: Domain, key: Arc<SigningKey>, folder: PathBuf) -> Self {
        let (ledger, known) = (Mutex::default(), watch::Sender::default());
        let metrics = MailboxMetrics::new(stream);
        Self { stream, bridge, key, folder, ledger, known, metrics }
    }

    /// The bridge.
    pub(crate) const fn bridge(&self) -> Domain {
        self.bridge
    }

    /// Told when more is known.
    pub(crate) fn watch(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    /// What is known of outbound messages from one on. Blocks.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) fn outbound(&self, from: u64) -> Result<OutboundList, LedgerError> {
        let (recorded, last, held_from) = self.with(|ledger| {
            let (_, standing) = ledger.standing();
            Ok((ledger.recorded_from(from, OUTBOUND_LISTED_MAX)?, ledger.last()?, standing.held_from))
        })?;
        let messages = recorded.into_iter().map(|recorded| self.status_of(recorded, held_from)).collect();
        Ok(OutboundList { messages, last })
    }

    /// What is known of one outbound message. Blocks.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) fn status(&self, nonce: u64) -> Result<Option<OutboundStatus>, LedgerError> {
        let (recorded, held_from) =
            self.with(|ledger| Ok((ledger.recorded(nonce)?, ledger.standing().1.held_from)))?;
        Ok(recorded.map(|recorded| self.status_of(recorded, held_from)))
    }

    /// What is known of inbound messages from one on. Blocks.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) fn inbound(&self, from: u64) -> Result<InboundList, LedgerError> {
        self.with(|ledger| {
            let messages = ledger.inbound_from(from, INBOUND_LISTED_MAX)?;
            let (_, standing) = ledger.standing();
            let acknowledged = standing.consumed.min(standing.delivered);
            Ok(InboundList { messages, last: standing.delivered, acknowledged, status: standing.level })
        })
    }

    /// One inbound message. Blocks.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) fn inbound_of(&self, nonce: u64) -> Result<Option<InboundMessage>, LedgerError> {
        self.with(|ledger| ledger.inbound(nonce))
    }

    /// The block of the last inbound message before one, as far as the log was read. Blocks.
    ///
    /// # Errors
    /// [`LedgerError`].
    fn block_before(&self, nonce: u64) -> Result<Option<u64>, LedgerError> {
        self.with(|ledger| ledger.block_before(nonce))
    }

    /// The first inbound message that the application has not acknowledged, with how far everything has come. Blocks.
    ///
    /// # Errors
    /// [`LedgerError`].
    fn oldest(&self) -> Result<(Known, Option<Oldest>), LedgerError> {
        self.with(|ledger| Ok((known(ledger)?, ledger.oldest()?)))
    }

    /// A signed message with its call data. Blocks.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) fn content(&self, signed: OutboundSignature) -> Result<OutboundContent, LedgerError> {
        let payload = self.with(|ledger| ledger.payload(signed.nonce, signed.fields.payload_hash))?;
        Ok(OutboundContent { signed, payload: format!("0x{}", hex::encode(payload)) })
    }

    /// Where the ledger has read to, with the checkpoint there.
    fn read(&self) -> Result<Option<(Sequence, Vec<u8>)>, LedgerError> {
        let (read, known) = self.with(|ledger| Ok((ledger.read()?, known(ledger)?)))?;
        self.show(known);
        Ok(read)
    }

    /// Takes in what a verified batch brings.
    fn take(&self, batch: &VerifiedBatch, checkpoint: &[u8]) -> Result<(), LedgerError> {
        let (brought, known) = self.with(|ledger| Ok((ledger.take(batch, checkpoint)?, known(ledger)?)))?;
        let (stream, refused) = (self.stream, brought.refused);
        if let Some((nonce, detail)) = brought.first_refused {
            tracing::warn!(%stream, nonce, detail, refused, "outbound messages are never signed");
        }
        if let Some(nonce) = brought.first_again {
            tracing::warn!(%stream, nonce, "outbound messages came again, or were changed; what is known of their nonces stays");
        }
        self.metrics.brought(brought.signed, refused);
        self.show(known);
        Ok(())
    }

    fn show(&self, known: Known) {
        self.metrics.stands(&known);
        self.known.send_if_modified(|shown| std::mem::replace(shown, known) != known);
    }

    /// Signed here and now: a key makes one signature for one content, and the ledger has one content for each nonce. What came since the application is too
    /// far behind waits.
    fn status_of(&self, recorded: Recorded, held_from: Option<Sequence>) -> OutboundStatus {
        let Recorded { nonce, sequence, of } = recorded;
        let message = match of {
            Ok(message) => message,
            Err(detail) => return OutboundStatus::Refused(OutboundRefused { nonce, sequence, detail }),
        };
        if held_from.is_some_and(|held| sequence > held) {
            let detail = "the application is too far behind with its inbound messages; it is signed when they are acknowledged";
            return OutboundStatus::Waiting { nonce, sequence, detail: detail.to_owned() };
        }
        let signature = message.sign(&self.key, &self.bridge);
        let signed = OutboundSignature::of(&message, sequence, &self.bridge, self.key.id(), &signature);
        OutboundStatus::Signed(signed)
    }

    /// Works with the ledger, which is opened where it is not. One that failed is opened anew the next time.
    fn with<T>(&self, work: impl FnOnce(&mut Ledger) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        let mut opened = self.ledger();
        let ledger = match opened.take() {
            Some(ledger) => ledger,
            None => Ledger::open(&self.folder, self.stream, &self.bridge)?,
        };
        let ledger = opened.insert(ledger);
        let done = work(ledger);
        if done.is_err() {
            *opened = None;
        }
        done
    }

    fn ledger(&self) -> MutexGuard<'_, Option<Ledger>> {
        // What a panic left behind is a file with a transaction that was given up.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far everything has come.
fn known(ledger: &Ledger) -> Result<Known, LedgerError> {
    let (read, standing) = ledger.standing();
    let (delivered, consumed, level) = (standing.delivered, standing.consumed, standing.level);
    Ok(Known { read, outbound: ledger.last()?, delivered, consumed, level })
}
