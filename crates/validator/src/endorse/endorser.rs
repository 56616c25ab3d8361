//! Signs what may be endorsed, once for each place, and stores it create-only.
//!
//! ```text
//! due --> may it be signed at all? are inbound messages what the chain has? --> the highest of this key: store, disk --> noted on the disk --> signed --> stored --> shown
//! ```
//!
//! What must stay true:
//!
//! - Never two signatures of one key for one place. The content follows from the log and the configuration, and the signature is deterministic, so a
//!   validator that is killed in between signs the same bytes again; where it would sign others, it finds what it noted or stored before.
//! - Never below what the store or the disk shows of the key, or of the one that it followed.
//! - What is not stored is shown to nobody.
//! - Outbound messages that wait block no checkpoint, and none of them is passed: they are signed with the first one at which they may be.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synddb_chain::Endpoint;
use synddb_protocol::DecodeError;
use synddb_protocol::chain;
use synddb_protocol::http::{Endorsing, StartedFrom};
use synddb_protocol::id::{KeyId, Sequence, StreamId};
use synddb_protocol::log::{Endorsement, Quorum, SignedEndorsement};
use synddb_protocol::signing::RegisteredSigner;
use synddb_service::shutdown::Shutdown;
use synddb_storage::{BatchStore, Key, Put, PutError};
use tokio::sync::mpsc::Sender;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::due::{Clean, Due, Offered};
use super::gathered::{GatherError, Trusting, gathered_at};
use super::highest::{self, Unknown};
use super::inbox::{Following, Held, Inbox, NotCompared, Unlike};
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
    /// Who tells what the bridge sent, if anybody.
    pub(crate) nodes: Vec<Endpoint>,
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
    #[error(transparent)]
    Compared(#[from] NotCompared),
    #[error(transparent)]
    Unlike(#[from] Unlike),
    #[error(transparent)]
    Held(#[from] Held),
    /// It says of acknowledgements what is not so.
    #[error(
        "the checkpoint claims that more inbound messages are acknowledged than are. claimed=`{claimed}` acknowledged=`{acknowledged}`"
    )]
    Claimed { claimed: u64, acknowledged: u64 },
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
            Self::Compared(_) | Self::Held(_) => true,
            Self::Unlike(unlike) => unlike.may_come(),
            Self::Claimed { .. } => false,
            Self::Note(_) | Self::Fault | Self::Squatted | Self::Withdrawn => false,
            Self::Gaps | Self::Below { .. } | Self::Conflict | Self::Content(_) => false,
        }
    }

    /// Whether it goes by itself, in a moment.
    const fn is_of_course(&self) -> bool {
        matches!(self, Self::Unlike(Unlike::NotYet { .. }))
    }

    /// Whether somebody has to look.
    const fn is_grave(&self) -> bool {
        let is_for_ever = matches!(self, Self::Unlike(unlike) if !unlike.may_come());
        is_for_ever || matches!(self, Self::Conflict | Self::Squatted | Self::Note(_) | Self::Claimed { .. })
    }
}

/// What is under way.
struct Turn {
    /// Is to be endorsed.
    next: Option<Offered>,
    /// Is endorsed, and what it covers of outbound messages is not all signed.
    endorsed: Option<Offered>,
    /// The first outbound message that nobody looked at.
    outbound_from: u64,
    /// How long until what failed is tried again.
    wait: Duration,
    /// Why the last checkpoint that was tried is not endorsed.
    refused: Option<String>,
    /// Why outbound messages are not signed.
    held: Option<String>,
}

impl Default for Turn {
    fn default() -> Self {
        Self { next: None, endorsed: None, outbound_from: 1, wait: RETRY_MIN, refused: None, held: None }
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
        let inbox = self.inbox();
        self.tell(None);
        let (validator, attested) = (self.signer.id(), self.signer.is_attested());
        self.events.send(Event::Endorses { validator, attested }).await.ok();
        let following = inbox
            .as_ref()
            .map(|inbox| Following::new(inbox.clone(), self.nodes.clone(), self.config.nodes.clone()).run());
        let follow = async {
            match following {
                Some(following) => self.wait(following).await,
                None => None,
            }
        };
        tokio::join!(follow, async {
            let mut turn = Turn::default();
            while self.turn(&mut turn, inbox.as_ref()).await.is_some() {}
        });
    }

    /// Where inbound messages are compared with the chain, if they are.
    fn inbox(&self) -> Option<Inbox> {
        let bridge = self.config.bridge()?;
        if self.nodes.is_empty() {
            warn!(
                "`endorse.nodes` names no node: what the log says of inbound messages is believed, and endorsed as it is"
            );
            return None;
        }
        let (replica, view) = (self.replica.clone(), self.view.clone());
        Some(Inbox::new(self.stream, bridge, replica, view, self.config.inclusion_ms))
    }

    /// Endorses the next checkpoint, and signs outbound messages that an endorsed one covers. What is in the way of one of the two is not in the way of the other.
    async fn turn(&self, turn: &mut Turn, inbox: Option<&Inbox>) -> Option<()> {
        turn.next = self.next(turn.next.take(), turn, inbox).await?;
        let mut is_endorsed = false;
        if let Some(offered) = turn.next.take() {
            let sequence = offered.clean.checkpoint.claim().size;
            match self.endorse(&offered, inbox).await {
                Ok(()) => (turn.endorsed, turn.refused, is_endorsed) = (Some(offered), None, true),
                Err(NotEndorsed::Withdrawn) => {}
                Err(error) => {
                    // A node that is a moment behind is no failure.
                    if !error.is_of_course() || turn.wait == RETRY_MAX {
                        metrics::endorse_failed(self.stream);
                    }
                    turn.refused = Some(said(sequence, &error, turn.refused.as_ref()));
                    turn.next = error.may_come().then_some(offered);
                }
            }
        }
        let endorsed = turn.endorsed.take().filter(|endorsed| !self.due.is_withdrawn(endorsed));
        let mut held = None;
        if let Some(endorsed) = endorsed {
            let signed = self.sign_outbound(&endorsed.clean, inbox, &mut turn.outbound_from).await;
            metrics::outbound_held(self.stream, matches!(signed, Err(NotEndorsed::Held(_))));
            if let Err(error) = signed {
                let sequence = endorsed.clean.checkpoint.claim().size;
                held = Some(said(sequence, &error, turn.held.as_ref()));
                turn.endorsed = Some(endorsed);
            }
        }
        turn.held = held;
        let failing = turn.refused.as_ref().or(turn.held.as_ref());
        turn.wait = if failing.is_none() || is_endorsed { RETRY_MIN } else { (turn.wait * 2).min(RETRY_MAX) };
        self.tell(failing.cloned());
        Some(())
    }

    /// What is to be endorsed next: the same again after a while, or what comes; nothing where outbound messages are tried again first.
    async fn next(
        &self,
        again: Option<Offered>,
        turn: &Turn,
        inbox: Option<&Inbox>,
    ) -> Option<Option<Offered>> {
        let pause = async {
            let moved = async {
                match inbox {
                    Some(inbox) => inbox.moved().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep(spread(turn.wait)) => {}
                () = moved => {}
            }
        };
        let next = async {
            match (again, &turn.endorsed) {
                (Some(again), _) => {
                    pause.await;
                    Some(again)
                }
                (None, None) => Some(self.due.next().await),
                (None, Some(_)) => tokio::select! {
                    offered = self.due.next() => Some(offered),
                    () = pause => None,
                },
            }
        };
        self.wait(next).await
    }

    async fn endorse(&self, offered: &Offered, inbox: Option<&Inbox>) -> Result<(), NotEndorsed> {
        let Clean { checkpoint, acknowledged } = &offered.clean;
        self.check_replica().await?;
        // Behind that: whoever says that the log before was checked withdraws first.
        if self.due.is_withdrawn(offered) {
            return Err(NotEndorsed::Withdrawn);
        }
        let claim = checkpoint.claim();
        let acknowledged = acknowledged.at_most();
        if claim.inbox_consumed > acknowledged {
            return Err(NotEndorsed::Claimed { claimed: claim.inbox_consumed, acknowledged });
        }
        if let Some(inbox) = inbox.cloned() {
            let inbound = claim.inbound;
            spawn_blocking(move || inbox.alike(inbound)).await.map_err(|_| NotEndorsed::Fault)???;
        }
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

    /// Signs what an endorsed checkpoint covers of outbound messages, where there is a bridge. None is passed where they wait.
    async fn sign_outbound(
        &self,
        clean: &Clean,
        inbox: Option<&Inbox>,
        from: &mut u64,
    ) -> Result<(), NotEndorsed> {
        let Some(domain) = self.config.bridge() else { return Ok(()) };
        let (signer, stream, deadlines) = (Arc::clone(&self.signer), self.stream, self.config.deadlines);
        let (replica, first, clean, inbox) = (self.replica.clone(), *from, clean.clone(), inbox.cloned());
        let signed = spawn_blocking(move || {
            let through = clean.checkpoint.claim().size;
            if !Signing::has_any(&replica, first, through)? {
                return Ok(first);
            }
            inbox.map_or(Ok(Ok(())), |inbox| inbox.included())??;
            Signing::in_time(&clean, deadlines, &replica)??;
            let signing = Signing { stream, signer: &signer, domain };
            Ok::<u64, NotEndorsed>(signing.sign_through(&replica, first, through)?)
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
                && claim.inbox_consumed == started.inbox_consumed
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

/// Says why something is not signed. What is the case for long is said once: `before` was said last.
fn said(sequence: Sequence, error: &NotEndorsed, before: Option<&String>) -> String {
    let detail = chain(error);
    let lasts = matches!(error, NotEndorsed::Compared(_) | NotEndorsed::Unlike(_) | NotEndorsed::Held(_));
    if lasts && before == Some(&detail) {
        return detail;
    }
    let sequence = sequence.get();
    match (error.is_grave(), error) {
        (true, _) => error!(sequence, error = detail, "not endorsed"),
        (false, error) if error.is_of_course() => info!(sequence, why = detail, "not endorsed yet"),
        (false, NotEndorsed::Held(_)) => warn!(sequence, why = detail, "outbound messages wait"),
        (false, _) => warn!(sequence, error = detail, "not endorsed"),
    }
    detail
}
