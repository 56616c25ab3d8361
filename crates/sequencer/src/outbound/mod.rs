//! The sequencer's side of outbound messages: rows of the application's database that ask the bridge to act.
//!
//! ```text
//! stored batch -> verified (follow.rs) -> each whole commit walked (walk.rs) -> one row for each nonce, for ever (ledger.rs) -> signed when somebody asks
//! ```
//!
//! What must stay true:
//!
//! - Nothing is signed before the message that brings the row is stored: what is read here comes from the store, verified as any reader verifies it.
//! - A nonce has one digest, whatever the application, an incarnation or a copy of its database says later.
//! - A nonce is refused by what the log holds, never by a trouble of this machine or a damage of its files: those are errors, and are tried again.
//! - Nobody waits for it: the order, the journal and the owner know nothing of it. A ledger that cannot read or write tries again.
//!
//! The application's file is never opened.

mod follow;
mod ledger;
mod parts;
mod walk;

pub(crate) use follow::follow;
pub(crate) use ledger::LedgerError;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use synddb_protocol::http::{
    OUTBOUND_LISTED_MAX, OutboundContent, OutboundList, OutboundRefused, OutboundSignature, OutboundStatus,
};
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::VerifiedBatch;
use synddb_protocol::signing::{Domain, SigningKey};
use tokio::sync::watch;

use crate::metrics::OutboundMetrics;
use ledger::{Ledger, Recorded};

/// What became of the outbound messages of one stream.
pub(crate) struct Outbound {
    stream: StreamId,
    bridge: Domain,
    key: Arc<SigningKey>,
    folder: PathBuf,
    /// `None` until somebody needs it, and after it failed.
    ledger: Mutex<Option<Ledger>>,
    /// The highest nonce that is known.
    last: watch::Sender<u64>,
    metrics: OutboundMetrics,
}

impl Outbound {
    /// Those of a stream whose files are in `folder`. Opens nothing yet.
    pub(crate) fn new(stream: StreamId, bridge: Domain, key: Arc<SigningKey>, folder: PathBuf) -> Self {
        let (ledger, last, metrics) = (Mutex::default(), watch::Sender::new(0), OutboundMetrics::new(stream));
        Self { stream, bridge, key, folder, ledger, last, metrics }
    }

    /// Told when more is known.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// What is known of nonces from one on. Blocks.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) fn list(&self, from: u64) -> Result<OutboundList, LedgerError> {
        let (recorded, last) =
            self.with(|ledger| Ok((ledger.recorded_from(from, OUTBOUND_LISTED_MAX)?, ledger.last()?)))?;
        let messages = recorded.into_iter().map(|recorded| self.status_of(recorded)).collect();
        Ok(OutboundList { messages, last })
    }

    /// What is known of one nonce. Blocks.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) fn status(&self, nonce: u64) -> Result<Option<OutboundStatus>, LedgerError> {
        let recorded = self.with(|ledger| ledger.recorded(nonce))?;
        Ok(recorded.map(|recorded| self.status_of(recorded)))
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
        let (read, last) = self.with(|ledger| Ok((ledger.read()?, ledger.last()?)))?;
        self.show(last);
        Ok(read)
    }

    /// Takes in what a verified batch brings.
    fn take(&self, batch: &VerifiedBatch, checkpoint: &[u8]) -> Result<(), LedgerError> {
        let (brought, last) = self.with(|ledger| Ok((ledger.take(batch, checkpoint)?, ledger.last()?)))?;
        let (stream, refused) = (self.stream, brought.refused);
        if let Some((nonce, detail)) = brought.first_refused {
            tracing::warn!(%stream, nonce, detail, refused, "outbound messages are never signed");
        }
        if let Some(nonce) = brought.first_again {
            tracing::warn!(%stream, nonce, "outbound messages came again, or were changed; what is known of their nonces stays");
        }
        self.metrics.brought(brought.signed, refused);
        self.show(last);
        Ok(())
    }

    fn show(&self, last: u64) {
        self.metrics.stands(last);
        self.last.send_if_modified(|shown| std::mem::replace(shown, last) != last);
    }

    /// Signed here and now: a key makes one signature for one content, and the ledger has one content for each nonce.
    fn status_of(&self, Recorded { nonce, sequence, of }: Recorded) -> OutboundStatus {
        let message = match of {
            Ok(message) => message,
            Err(detail) => return OutboundStatus::Refused(OutboundRefused { nonce, sequence, detail }),
        };
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
