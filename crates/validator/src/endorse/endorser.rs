//! Signs what may be endorsed, once for each place, and stores it create-only.
//!
//! ```text
//! due --> may it be signed at all? --> the highest of this key: store, disk --> noted on the disk --> signed --> stored --> shown
//! ```
//!
//! What must stay true:
//!
//! - Never two signatures of one key for one place. The content follows from the log and the configuration, and the signature is deterministic, so a
//!   validator that is killed in between signs the same bytes again; where it would sign others, it finds what it noted or stored before.
//! - Never below what the store or the disk shows of the key, or of the one that it followed.
//! - What is not stored is shown to nobody.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use synddb_protocol::DecodeError;
use synddb_protocol::chain;
use synddb_protocol::http::{Endorsing, StartedFrom};
use synddb_protocol::id::{KeyId, Sequence, StreamId};
use synddb_protocol::log::{Endorsement, Quorum, SignedEndorsement, TrustedCheckpoint};
use synddb_protocol::signing::RegisteredSigner;
use synddb_service::shutdown::Shutdown;
use synddb_storage::{BatchStore, Key, Put, PutError};
use tokio::sync::mpsc::Sender;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::due::Due;
use super::gathered::{GatherError, Trusting, gathered_at};
use super::highest::{self, Signed, Unknown};
use super::shown::Shown;
use crate::config::EndorseConfig;
use crate::event::Event;
use crate::fetch::{RETRY_MAX, RETRY_MIN, spread};
use crate::metrics;
use crate::view::View;

/// Who endorses for one validator.
pub(crate) struct Endorser {
    pub(crate) config: EndorseConfig,
    /// Who is believed of a state that nobody has checked here, if anybody.
    pub(crate) quorum: Option<Quorum>,
    pub(crate) signer: Arc<RegisteredSigner>,
    pub(crate) stream: StreamId,
    pub(crate) store: Arc<dyn BatchStore>,
    pub(crate) replica: PathBuf,
    pub(crate) due: Due,
    pub(crate) view: View,
    pub(crate) shown: Shown,
    pub(crate) events: Sender<Event>,
    pub(crate) shutdown: Shutdown,
    /// Cancelled when everything ends.
    pub(crate) stop: CancellationToken,
}

/// Why a checkpoint is not endorsed.
#[derive(Debug, thiserror::Error)]
enum NotEndorsed {
    /// Another try may succeed.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    #[error(transparent)]
    Gather(#[from] GatherError),
    #[error("the endorsement cannot be stored")]
    Put(#[source] PutError),
    #[error("what is about to be signed cannot be noted beside the replica")]
    Note(#[source] io::Error),
    #[error(
        "what was signed before cannot be read beside the replica; remove the file only if you know that this key signed nothing since"
    )]
    Noted(#[source] io::Error),
    /// Whoever began with a snapshot is not believed alone.
    #[error(
        "the replica began with the snapshot of message {from}, and nobody checked the log before it: run `synddb verify --full --of`, or name \
         validators in `endorse.validators` of whom a quorum endorsed that state"
    )]
    Started { from: Sequence },
    #[error("the replica lacks messages; set `endorse.behind_gaps` to endorse all the same")]
    Gaps,
    /// This place is passed.
    #[error(
        "the key has endorsed message {highest} by {by}, and never endorses below; is this an old image of the disk?"
    )]
    Below { highest: Sequence, by: &'static str },
    #[error(
        "this key has endorsed something else at this place before; was its configuration changed, or is it used twice?"
    )]
    Conflict,
    #[error("the checkpoint is none that can be endorsed")]
    Content(#[from] DecodeError),
}

impl NotEndorsed {
    /// Whether the same place may be endorsed later.
    const fn may_come(&self) -> bool {
        match self {
            Self::Unknown(_) | Self::Gather(_) | Self::Put(_) | Self::Note(_) | Self::Started { .. } => true,
            Self::Noted(_) | Self::Gaps | Self::Below { .. } | Self::Conflict | Self::Content(_) => false,
        }
    }
}

impl Endorser {
    /// Endorses until asked to end.
    pub(crate) async fn run(self) {
        info!(
            validator = %self.signer.id(),
            attested = self.signer.is_attested(),
            chain_id = self.config.chain_id,
            registry = %self.config.registry,
            "endorsing"
        );
        if !self.signer.is_attested() {
            warn!("the key that endorses is not registered: a development signer, which no bridge counts");
        }
        self.tell(None);
        while let Some(checkpoint) = self.wait(self.due.next()).await {
            let mut wait = RETRY_MIN;
            loop {
                match self.endorse(&checkpoint).await {
                    Ok(()) => break,
                    Err(error) => {
                        self.failed(&checkpoint, &error);
                        if !error.may_come() {
                            break;
                        }
                    }
                }
                if self.wait(tokio::time::sleep(spread(wait))).await.is_none() {
                    return;
                }
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
    }

    async fn endorse(&self, checkpoint: &TrustedCheckpoint) -> Result<(), NotEndorsed> {
        self.check_replica().await?;
        let claim = checkpoint.claim();
        let sequence = claim.size;
        let domain = self.config.domain();
        let proof = self.signer.proof().clone();
        let endorsement = Endorsement { checkpoint: checkpoint.signed().clone(), domain, proof };
        let digest = endorsement.digest()?;
        let key = self.signer.id();
        let keys: Vec<KeyId> = [Some(key), self.signer.predecessor()].into_iter().flatten().collect();
        if let Some(highest) = highest::in_store(&*self.store, self.stream, &keys, sequence).await? {
            let at = highest.endorsement().sequence();
            if at > sequence {
                return Err(NotEndorsed::Below { highest: at, by: "the store" });
            }
            // Of this place: by this key, or the one that it followed. Either way it is not signed again.
            if *highest.digest() != digest {
                return Err(NotEndorsed::Conflict);
            }
            self.stored(highest, false).await;
            return Ok(());
        }
        self.note(Signed { key, sequence, digest: digest.to_string() }).await?;
        let signed = Endorsement::sign(endorsement.checkpoint, domain, &self.signer)?;
        let put = Key::Endorsement { stream: self.stream, sequence, validator: key };
        match self.store.put(&put, Bytes::from(signed.to_bytes())).await {
            Ok(put) => {
                self.stored(signed, put == Put::Created).await;
                Ok(())
            }
            Err(PutError::Conflict { .. }) => Err(NotEndorsed::Conflict),
            Err(error) => Err(NotEndorsed::Put(error)),
        }
    }

    /// Whether this replica may be vouched for at all.
    async fn check_replica(&self) -> Result<(), NotEndorsed> {
        let status = self.view.status();
        if !status.gaps.is_empty() && !self.config.behind_gaps {
            return Err(NotEndorsed::Gaps);
        }
        let Some(started) = status.started_from else { return Ok(()) };
        if self.others_endorsed(&started).await? {
            return Ok(());
        }
        Err(NotEndorsed::Started { from: started.sequence })
    }

    /// Whether a quorum of those who are trusted has endorsed the very state that the replica began with.
    async fn others_endorsed(&self, started: &StartedFrom) -> Result<bool, NotEndorsed> {
        let Some(quorum) = &self.quorum else { return Ok(false) };
        let domain = self.config.domain();
        let trusting = Trusting { stream: self.stream, domain, quorum };
        let gathered = gathered_at(&*self.store, trusting, started.sequence).await?;
        Ok(gathered.endorsed.iter().any(|endorsed| {
            let claim = endorsed.checkpoint.claim();
            endorsed.has_quorum
                && claim.root() == started.root
                && claim.client.as_ref().is_some_and(|client| client.state == started.state)
        }))
    }

    /// Notes on the disk what is about to be signed, unless it says that this key went further, or signed something else there.
    async fn note(&self, signed: Signed) -> Result<(), NotEndorsed> {
        let replica = self.replica.clone();
        let noted = spawn_blocking(move || {
            match Signed::read(&replica).map_err(NotEndorsed::Noted)? {
                Some(before) if before.key == signed.key && before.sequence > signed.sequence => {
                    return Err(NotEndorsed::Below { highest: before.sequence, by: "this disk" });
                }
                Some(before) if before.key == signed.key && before.sequence == signed.sequence => {
                    return if before.digest == signed.digest { Ok(()) } else { Err(NotEndorsed::Conflict) };
                }
                Some(_) | None => {}
            }
            signed.write(&replica).map_err(NotEndorsed::Note)
        });
        noted.await.unwrap_or_else(|fault| Err(NotEndorsed::Note(io::Error::other(fault))))
    }

    /// It lies in the store.
    async fn stored(&self, endorsement: SignedEndorsement, is_new: bool) {
        let sequence = endorsement.endorsement().sequence();
        self.shown.add(endorsement);
        metrics::endorsed(self.stream, sequence);
        self.tell(None);
        debug!(sequence = sequence.get(), is_new, "endorsed");
        if is_new {
            self.events.send(Event::Endorsed { sequence }).await.ok();
        }
    }

    fn failed(&self, checkpoint: &TrustedCheckpoint, error: &NotEndorsed) {
        metrics::endorse_failed(self.stream);
        let (sequence, detail) = (checkpoint.claim().size.get(), chain(error));
        if matches!(error, NotEndorsed::Conflict | NotEndorsed::Noted(_)) {
            error!(sequence, error = detail, "not endorsed");
        } else {
            warn!(sequence, error = detail, "not endorsed");
        }
        self.tell(Some(detail));
    }

    fn tell(&self, failing: Option<String>) {
        self.view.endorses(Endorsing {
            validator: self.signer.id(),
            attested: self.signer.is_attested(),
            chain_id: self.config.chain_id,
            registry: self.config.registry,
            sequence: self.shown.newest(),
            failing,
        });
    }

    /// Waits, unless the process ends.
    async fn wait<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.shutdown.asked() => None,
            () = self.stop.cancelled() => None,
            done = what => Some(done),
        }
    }
}
