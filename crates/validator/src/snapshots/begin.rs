//! A replica that is not there yet begins from the newest snapshot that the log vouches for, and goes on as after a restart.
//!
//! What is believed of a snapshot: nothing. The batch of the log that ends where it was taken is verified, from the checkpoint of the batch before it,
//! as any batch is; its checkpoint must be the snapshot's, byte for byte; and the restored rows must hash to the state that it claims. So a leader who
//! signs a checkpoint beside its log, and whoever has its old key, has nothing to offer here. What stays unchecked is what came before:
//! that what the log claimed of states up to there follows from its rows. The replica says so, by [`Started`].
//!
//! The batch before is believed as far as a replica believes the position in its own file: a key that leads its epoch signed its checkpoint.
//! Who signed what is before that is learned from the batches with which epochs began.

use std::collections::BTreeSet;

use synddb_protocol::chain;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::{
    Batch, BatchError, Leaders, Manifest, SignedCheckpoint, SignedManifest, Signers, Tip, TrustedCheckpoint,
    VerifiedBatch, Versions,
};
use synddb_protocol::signing::{Revocations, TrustedKeys};
use synddb_sqlite::connection::{Connection, SqliteError};
use synddb_sqlite::snapshot::Image;
use synddb_storage::{GetError, Key, ListError};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::learned::learn;
use super::listed::{Named, batch_through, newest};
use super::unfit::Unfit;
use crate::error::{HaltCause, Refused, ReplicaError, ValidatorError};
use crate::event::Event;
use crate::fetch::{NoAnswer, PatientStore};
use crate::keys::PatientKeys;
use crate::replica::chunks::Chunks;
use crate::replica::{Ended, Gaps, Place, Started, position, signers, snapshot};
use crate::run::own;
use crate::start::Begun;
use crate::verify::{Kept, Stopped, Verify, enter};

/// Snapshots that are looked at, at most: each costs a few small objects until it is found to be none.
const LOOKED_AT_MAX: usize = 256;
/// Snapshots that are restored, at most: each may cost as much as the database.
const RESTORED_MAX: usize = 4;

/// What beginning needs of the process around it.
pub(crate) struct Beginning<'b> {
    pub(crate) store: &'b PatientStore,
    pub(crate) stream: StreamId,
    pub(crate) keys: &'b PatientKeys,
    pub(crate) supported: Versions,
    pub(crate) events: &'b Sender<Event>,
    /// Cancelled when the time for what is under way is over.
    pub(crate) stop: &'b CancellationToken,
}

/// A snapshot that the log vouches for.
struct Vouched {
    named: Named,
    manifest: Manifest,
    checkpoint: TrustedCheckpoint,
    /// Who signed what is before it, as far as that can be told.
    signers: Signers,
}

/// Why a snapshot is not begun from.
pub(super) enum Passed {
    /// For its own sake.
    Unfit(Unfit),
    /// Nothing comes after this.
    Stopped(Stopped),
}

impl<E: Into<Unfit>> From<E> for Passed {
    fn from(unfit: E) -> Self {
        Self::Unfit(unfit.into())
    }
}

impl Passed {
    /// What is wrong with the batches that should vouch for it. A store that does not answer is no word of theirs.
    fn of_batches(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Failed(error)
                if matches!(*error, ValidatorError::Halted { .. } | ValidatorError::Replica(_)) =>
            {
                Self::Unfit(Unfit::Batch(error))
            }
            Stopped::Failed(_) | Stopped::GaveUp => Self::Stopped(stopped),
        }
    }
}

/// Begins from the newest snapshot that can be begun from. Where there is none, what begun is as it was, and the log is read from its first message.
pub(crate) async fn begin(of: Beginning<'_>, mut begun: Begun) -> Result<Begun, Stopped> {
    let stream = of.stream;
    let asked = of.store.list(|store| async move { newest(&*store, stream, LOOKED_AT_MAX).await });
    let named = match asked.await {
        Ok(named) => named,
        Err(NoAnswer::GaveUp) => return Err(Stopped::GaveUp),
        Err(NoAnswer::Failed(error)) => {
            warn!(error = %chain(&error), "snapshots cannot be listed; beginning from the first message");
            return Ok(begun);
        }
    };
    let (mut restored, mut hopeless) = (0, BTreeSet::new());
    for named in named {
        // Whoever makes up a place can do so under many names.
        if hopeless.contains(&named.sequence) {
            continue;
        }
        let passed = match vouch(&of, &begun.place, named).await {
            Ok(vouched) => {
                restored += 1;
                let (returned, ended) = restore(&of, begun, vouched).await?;
                begun = returned;
                match ended {
                    Ok(()) => return Ok(begun),
                    Err(unfit) => unfit,
                }
            }
            Err(Passed::Unfit(unfit)) => unfit,
            Err(Passed::Stopped(stopped)) => return Err(stopped),
        };
        if matches!(passed, Unfit::NoBatch | Unfit::Batch(_) | Unfit::Revoked(_)) {
            hopeless.insert(named.sequence);
        }
        let (sequence, signer) = (named.sequence.get(), named.signer);
        warn!(sequence, %signer, error = %chain(&passed), "a snapshot is passed");
        if restored == RESTORED_MAX {
            break;
        }
    }
    warn!("the store has no snapshot that can be begun from; beginning from the first message");
    Ok(begun)
}

/// Reads a manifest, and has the log vouch for its checkpoint.
async fn vouch(of: &Beginning<'_>, place: &Place, named: Named) -> Result<Vouched, Passed> {
    let bytes = match of.store.get(&named.key(of.stream)).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(Unfit::Gone.into()),
        Err(NoAnswer::Failed(GetError::TooLarge { .. })) => return Err(Unfit::TooLarge.into()),
        Err(error) => return Err(Passed::Stopped(error.into())),
    };
    let signed = SignedManifest::from_bytes(&bytes)?;
    if signed.key() != named.signer {
        return Err(Unfit::OtherSigner { found: signed.key() }.into());
    }
    signed.recover()?;
    let manifest = signed.manifest();
    if (manifest.stream(), manifest.sequence()) != (of.stream, named.sequence) {
        return Err(Unfit::Elsewhere { found: manifest.sequence() }.into());
    }
    let batch = through(of, named.sequence).await?;
    // Before anything of it is verified, which takes longer.
    if *batch.checkpoint() != manifest.checkpoint {
        return Err(Unfit::OtherCheckpoint.into());
    }
    let before = match batch.first().previous() {
        None => None,
        Some(before) => Some(through(of, before).await?.checkpoint().clone()),
    };
    let (verified, _) = verify(of, place, before, batch).await?;
    let checkpoint = verified.checkpoint().clone();
    let signers = learn(of, place, &checkpoint).await?;
    Ok(Vouched { named, manifest: manifest.clone(), checkpoint, signers })
}

/// What is revoked now.
pub(super) async fn revoked(of: &Beginning<'_>) -> Result<Revocations, Passed> {
    of.keys.revoked().await.map_err(|error| Passed::Stopped(error.into()))
}

/// Verifies a batch from the checkpoint of the one before it, which is returned as well. Who signed what is before that is not asked.
pub(super) async fn verify(
    of: &Beginning<'_>,
    place: &Place,
    before: Option<SignedCheckpoint>,
    batch: Batch,
) -> Result<(VerifiedBatch, Option<TrustedCheckpoint>), Passed> {
    let mut trusted = TrustedKeys::default();
    trusted.set_revoked(revoked(of).await?);
    let (leaders, tip, before) = match before {
        None => (Leaders::new(of.stream, trusted), Tip::start(of.stream).supporting(of.supported), None),
        Some(before) => {
            let entered = enter(of.store, of.stream, of.keys, of.supported, place.file(), before, trusted);
            let (leaders, tip, before) = entered.await.map_err(Passed::of_batches)?;
            (leaders, tip, Some(before))
        }
    };
    let mut verify = Verify::new(of.store.clone(), of.keys.clone(), leaders, tip, Signers::default());
    Ok((verify.verify_next(batch).await.map_err(Passed::of_batches)?, before))
}

/// The batch that ends at a message, as it is stored.
pub(super) async fn through(of: &Beginning<'_>, last: Sequence) -> Result<Batch, Passed> {
    let batch = holding(of, last).await?;
    if batch.last() == last { Ok(batch) } else { Err(Unfit::NoBatch.into()) }
}

/// The batch that holds a message, as it is stored.
pub(super) async fn holding(of: &Beginning<'_>, last: Sequence) -> Result<Batch, Passed> {
    let stream = of.stream;
    let asked = of.store.list(|store| async move { batch_through(&*store, stream, last).await });
    let first = match asked.await {
        Ok(Some(first)) => first,
        Ok(None) | Err(NoAnswer::Failed(ListError::Foreign { .. })) => return Err(Unfit::NoBatch.into()),
        Err(NoAnswer::GaveUp) => return Err(Passed::Stopped(Stopped::GaveUp)),
        Err(NoAnswer::Failed(ListError::Failed { folder: _, failure })) => {
            let key = Key::Batch { stream: of.stream, first: last };
            let error = ValidatorError::from(GetError::Failed { key, failure });
            return Err(Passed::Stopped(error.into()));
        }
    };
    let refused =
        |why: Refused| Unfit::Batch(Box::new(HaltCause::refused(first, why).into_error(first, last)));
    let stored = match of.store.get(&Key::Batch { stream: of.stream, first }).await {
        Ok(Some(stored)) => stored,
        Ok(None) => return Err(Unfit::NoBatch.into()),
        Err(NoAnswer::Failed(error @ GetError::TooLarge { .. })) => {
            return Err(refused(Refused::TooLarge(error)).into());
        }
        Err(error) => return Err(Passed::Stopped(error.into())),
    };
    let batch = match spawn_blocking(move || Batch::from_stored(&stored)).await {
        Ok(decoded) => decoded.map_err(|error| refused(BatchError::from(error).into()))?,
        Err(_) => return Err(Passed::Stopped(ValidatorError::Fault { part: "decoder" }.into())),
    };
    if batch.first() != first {
        return Err(refused(Refused::Misplaced { expected: first, found: batch.first() }).into());
    }
    if batch.last() >= last { Ok(batch) } else { Err(Unfit::NoBatch.into()) }
}

/// Restores a snapshot, and makes it the replica. What is left of one that is none is removed.
async fn restore(
    of: &Beginning<'_>,
    begun: Begun,
    vouched: Vouched,
) -> Result<(Begun, Result<(), Unfit>), Stopped> {
    let Vouched { named, manifest, checkpoint, signers } = vouched;
    let chunks: Vec<_> = manifest.chunks().copied().collect();
    let (sequence, signer) = (named.sequence.get(), named.signer);
    info!(sequence, %signer, chunks = chunks.len(), "beginning from a snapshot");
    let chunks = Chunks::fetch(&Handle::current(), of.store.clone(), of.stream, chunks, of.stop.clone());
    let claim = checkpoint.claim().clone();
    let started = Started { signer: named.signer, checkpoint: manifest.checkpoint.clone() };
    let kept = Kept { checkpoint: manifest.checkpoint.clone(), signers: Some(signers.clone()) };
    let told = started.told();
    let (begun, ended) = own(move || {
        let mut begun = begun;
        let ended = put_in_place(&mut begun, &manifest, chunks, &started, (&checkpoint, &signers));
        if ended.is_ok() {
            (begun.kept, begun.started, begun.gaps) = (Some(kept), Some(started), Gaps::default());
        }
        Ok((begun, ended))
    })
    .await?;
    match ended {
        Ok(()) => {
            if let Some(told) = told {
                let sequence = claim.size;
                info!(sequence = sequence.get(), state = %told.state, "the replica begins with a snapshot");
                of.events.send(Event::Began { sequence, state: told.state, signer: told.signer }).await.ok();
            }
            Ok((begun, Ok(())))
        }
        Err(ended) => {
            begun.place.remove_staged()?;
            let unfit = match ended {
                Ended::Interrupted => return Err(Stopped::GaveUp),
                Ended::Halted(cause) => Unfit::Pages(cause),
                Ended::Failed(error) if is_of_restore(&error) => Unfit::Restore(error),
                Ended::Failed(error) => return Err(Stopped::Failed(error)),
            };
            Ok((begun, Err(unfit)))
        }
    }
}

/// Whether this machine could not hold the pages.
fn is_of_restore(error: &ValidatorError) -> bool {
    matches!(error, ValidatorError::Replica(error) if matches!(**error, ReplicaError::Restore { .. }))
}

/// The same on a thread that may be busy. Whoever is killed before the last step leaves no replica, and the one that was there.
fn put_in_place(
    begun: &mut Begun,
    manifest: &Manifest,
    chunks: Chunks,
    started: &Started,
    (checkpoint, signed): (&TrustedCheckpoint, &Signers),
) -> Result<(), Ended> {
    let place = &begun.place;
    let sequence = manifest.sequence();
    // No manifest without a state is read.
    let stateless = || Ended::Failed(Box::new(ValidatorError::Fault { part: "snapshot" }));
    let image = Image::of_manifest(manifest).ok_or_else(stateless)?;
    snapshot::stage(place, sequence, &image, chunks)?;
    let staged = place.staged();
    let sqlite = |source| ReplicaError::Sqlite { doing: "write", file: staged.clone(), source };
    let written = || -> Result<(), SqliteError> {
        let connection = Connection::open(&staged)?;
        position::create(&connection)?;
        signers::create(&connection)?;
        connection.execute("BEGIN IMMEDIATE")?;
        position::write(&connection, checkpoint)?;
        signers::write(&connection, signed, None)?;
        started.write(connection.sqlite())?;
        connection.execute("COMMIT")?;
        connection.sqlite().pragma_update(None, "journal_mode", "WAL")?;
        Ok(())
    };
    written().map_err(sqlite)?;
    if let Some(leaving) = begun.replaced.take() {
        let kept = place.vacate(leaving)?.map_or_else(String::new, |kept| kept.display().to_string());
        info!(kept, "a replica that begins from a snapshot takes the place of the one before");
    }
    place.rename_staged()?;
    Ok(())
}
