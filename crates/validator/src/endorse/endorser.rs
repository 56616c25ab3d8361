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

use super::due::{Due, Offered};
use super::gathered::{GatherError, Trusting, gathered_at};
use super::highest::{self, Unknown};
use super::noted::{NotNoted, Signed};
use super::outbound::{NotSigned, Signing};
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
    #[error(transparent)]
    Note(#[from] NotNoted),
    #[error(transparent)]
    Outbound(#[from] NotSigned),
    #[error("the part that notes what is signed has ended; the log says why, start the process again")]
    Fault,
    /// Somebody else laid something there.
    #[error(
        "something that is no endorsement lies in the store at the place of this one; remove it, and see who can write to the store"
    )]
    Squatted,
    /// Whoever began with a snapshot is not believed alone.
    #[error(
        "the replica began with the snapshot of message {from}, and nobody checked the log before it: run `synddb verify --full --of REPLICA --rules RULES`, or name \
         validators in `endorse.validators` of whom a quorum endorsed that state"
    )]
    Started { from: Sequence },
    #[error("a violation of a rule was found before it")]
    Withdrawn,
    #[error("the replica lacks messages; set `endorse.behind_gaps` to endorse all the same")]
    Gaps,
    /// This place is passed.
    #[error(
        "the store says that the key has endorsed message {highest}, and it never endorses below; is this an old image of the disk?"
    )]
    Below { highest: Sequence },
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
            Self::Unknown(Unknown::Crowded { .. }) => false,
            Self::Unknown(_) | Self::Gather(_) | Self::Put(_) | Self::Started { .. } => true,
            Self::Note(NotNoted::Unwritable { .. }) | Self::Outbound(_) => true,
            Self::Note(_) | Self::Fault | Self::Squatted | Self::Withdrawn => false,
            Self::Gaps | Self::Below { .. } | Self::Conflict | Self::Content(_) => false,
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
            warn!(
                "the key that endorses is not attested: only a bridge that admits keys without attestation counts it"
            );
        }
        self.tell(None);
        let (validator, attested) = (self.signer.id(), self.signer.is_attested());
        self.events.send(Event::Endorses { validator, attested }).await.ok();
        let mut outbound_from = 1;
        while let Some(offered) = self.wait(self.due.next()).await {
            let mut wait = RETRY_MIN;
            loop {
                let endorsed = match self.endorse(&offered).await {
                    Ok(()) => self.sign_outbound(&offered.checkpoint, &mut outbound_from).await,
                    failed => failed,
                };
                match endorsed {
                    Ok(()) | Err(NotEndorsed::Withdrawn) => break,
                    Err(error) => {
                        self.failed(&offered.checkpoint, &error);
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

    async fn endorse(&self, offered: &Offered) -> Result<(), NotEndorsed> {
        let checkpoint = &offered.checkpoint;
        self.check_replica().await?;
        // Behind that: whoever says that the log before was checked withdraws first.
        if self.due.is_withdrawn(offered) {
            return Err(NotEndorsed::Withdrawn);
        }
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
                return Err(NotEndorsed::Below { highest: at });
            }
            // Of this place: by this key, or the one that it followed. Either way it is not signed again.
            if *highest.digest() != digest {
                return Err(NotEndorsed::Conflict);
            }
            self.stored(highest, false).await;
            return Ok(());
        }
        let (replica, stream) = (self.replica.clone(), self.stream);
        let signed = Signed { stream, key, sequence, digest: digest.to_string() };
        let followed = self.signer.predecessor();
        spawn_blocking(move || signed.note(followed, &replica)).await.map_err(|_| NotEndorsed::Fault)??;
        let signed = Endorsement::sign(endorsement.checkpoint, domain, &self.signer)?;
        let put = Key::Endorsement { stream: self.stream, sequence, validator: key };
        match self.store.put(&put, Bytes::from(signed.to_bytes())).await {
            Ok(put) => {
                self.stored(signed, put == Put::Created).await;
                Ok(())
            }
            Err(PutError::Conflict { .. }) => {
                let there = highest::of(&*self.store, self.stream, sequence, key).await;
                let is_ours = there.map_err(Unknown::from)?.is_some();
                Err(if is_ours { NotEndorsed::Conflict } else { NotEndorsed::Squatted })
            }
            Err(error) => Err(NotEndorsed::Put(error)),
        }
    }

    /// Signs what an endorsed checkpoint covers of outbound messages, where there is a bridge.
    async fn sign_outbound(&self, checkpoint: &TrustedCheckpoint, from: &mut u64) -> Result<(), NotEndorsed> {
        let Some(domain) = self.config.bridge() else { return Ok(()) };
        let (signer, stream) = (Arc::clone(&self.signer), self.stream);
        let (replica, first, through) = (self.replica.clone(), *from, checkpoint.claim().size);
        let signed = spawn_blocking(move || {
            Signing { stream, signer: &signer, domain }.sign_through(&replica, first, through)
        });
        *from = signed.await.map_err(|_| NotEndorsed::Fault)??;
        Ok(())
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
        if matches!(error, NotEndorsed::Conflict | NotEndorsed::Squatted | NotEndorsed::Note(_)) {
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
