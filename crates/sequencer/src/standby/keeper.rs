//! Taking, keeping and releasing the lease of one stream.
//!
//! The keeper is a task of its own beside the owner, because a journal that syncs for a second must not look like a death. It sees the
//! owner's phase: it beats while the stream is being opened and led, releases the lease when the owner ended, and says nothing more once
//! the owner was deposed. Then it asks the owner of a standby to end, so that the stream is watched again. It never touches the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use synddb_protocol::chain;
use synddb_protocol::id::{KeyId, StreamId};
use synddb_protocol::signing::TrustedKeys;
use synddb_service::shutdown::Shutdown;
use synddb_storage::{Failure, Lease, LeaseError, LeaseVersion};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::content::{Holder, LeaseContent, State};
use super::watch::{Look, Verdict, Watch};
use crate::config::{Leasing, PublicUrl, Role};
use crate::metrics;
use crate::stream::{Phase, View};

/// Why a log that another sequencer leads cannot be taken over, and what to do.
pub(crate) const UNTRUSTED: &str =
    "the log is led by a key that is not trusted here; add its public key to `trusted_keys`";

/// How often a release is tried that meets a heartbeat whose answer was lost.
const RELEASES_MAX: usize = 2;

/// Where a process keeps its leases, and what it says in them.
#[derive(Clone)]
pub(crate) struct Leases {
    pub(crate) lease: Arc<dyn Lease>,
    pub(crate) leasing: Leasing,
    pub(crate) role: Role,
    pub(crate) holder: Holder,
    pub(crate) key_id: KeyId,
    /// The keys whose part of a log is accepted here, the own one among them.
    pub(crate) trusted: TrustedKeys,
    pub(crate) url: Option<PublicUrl>,
}

impl Leases {
    /// The keeper of a stream's lease, which does nothing yet.
    pub(crate) fn keeper(&self, stream: StreamId) -> Keeper {
        let content = LeaseContent {
            stream,
            holder: self.holder,
            key_id: self.key_id,
            epoch: None,
            counter: 0,
            state: State::Held,
            url: self.url.clone(),
        };
        Keeper {
            leases: self.clone(),
            content,
            is_lost: Arc::default(),
            is_untrusted: Arc::default(),
            is_failing: false,
        }
    }
}

/// How a keeper begins.
pub(crate) enum Start {
    /// Its own write took the lease.
    Taken(LeaseVersion),
    /// It takes the lease whoever holds it: its sequencer was told to lead.
    Seize,
}

/// The keeper of one stream's lease.
pub(crate) struct Keeper {
    leases: Leases,
    content: LeaseContent,
    is_lost: Arc<AtomicBool>,
    is_untrusted: Arc<AtomicBool>,
    /// The store did not answer last time, and that was said.
    is_failing: bool,
}

/// Why a lease is not held any more.
enum End {
    /// The owner ended or was deposed.
    Over,
    /// Somebody else took it.
    Lost,
}

/// Whose a lease is.
enum Whose {
    /// This process wrote it.
    Own(LeaseVersion),
    Other,
    /// The store does not tell.
    Unknown,
}

impl Keeper {
    /// Whether somebody else has the lease of what is led here; it changes as that does.
    pub(crate) fn is_lost(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_lost)
    }

    /// Whether the lease was last seen with a key that is not trusted here: then the log cannot be taken over. It changes as that does.
    pub(crate) fn is_untrusted(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_untrusted)
    }

    /// Watches the lease until it may be taken, and takes it.
    pub(crate) async fn take(&mut self) -> LeaseVersion {
        self.take_after(Watch::new(self.leases.leasing.patience())).await
    }

    /// Keeps the lease of a stream while its owner opens and leads it. `finish` asks the owner to end.
    pub(crate) async fn keep(mut self, start: Start, mut view: watch::Receiver<View>, finish: Shutdown) {
        self.keep_held(start, &mut view).await;
        // The owner of a leader stays, and says that it was deposed, until somebody decides what becomes of it.
        if self.leases.role == Role::Standby && over(&mut view).await == Phase::Deposed {
            finish.ask();
        }
    }

    async fn keep_held(&mut self, start: Start, view: &mut watch::Receiver<View>) {
        let mut version = match start {
            Start::Taken(version) => Some(version),
            Start::Seize => self.take_while(Watch::new(Duration::ZERO), view).await,
        };
        while let Some(held) = version {
            metrics::lease_held(self.content.stream, true);
            let end = self.hold(held, view).await;
            metrics::lease_held(self.content.stream, false);
            version = match end {
                End::Over => return,
                End::Lost => {
                    self.is_lost.store(true, Ordering::Relaxed);
                    let patience = self.leases.leasing.patience();
                    self.take_while(Watch::new(patience), view).await
                }
            };
            self.is_lost.store(false, Ordering::Relaxed);
        }
    }

    /// Gives a lease back that was taken for nothing.
    pub(crate) async fn release(&mut self, mut version: LeaseVersion) {
        let stream = self.content.stream;
        self.content.state = State::Released;
        for _ in 0..RELEASES_MAX {
            match self.write(Some(&version)).await {
                Ok(_) => {
                    tracing::info!(%stream, "released the lease");
                    return;
                }
                // The answer to the last heartbeat was lost, and it stands there.
                Err(LeaseError::Conflict { .. }) => match self.whose().await {
                    Whose::Own(found) => version = found,
                    Whose::Other | Whose::Unknown => return,
                },
                Err(error) => {
                    tracing::warn!(%stream, error = chain(&error), "cannot release the lease; it grows old instead");
                    return;
                }
            }
        }
    }

    /// As [`Self::take_after`], for as long as the owner may lead. `None` when it may not any more.
    async fn take_while(&mut self, watch: Watch, view: &mut watch::Receiver<View>) -> Option<LeaseVersion> {
        tokio::select! {
            taken = self.take_after(watch) => Some(taken),
            _ = over(view) => None,
        }
    }

    async fn take_after(&mut self, mut watch: Watch) -> LeaseVersion {
        let stream = self.content.stream;
        loop {
            if let Some((verdict, version)) = self.look(&mut watch).await
                && verdict == Verdict::Take
            {
                match self.write(version.as_ref()).await {
                    Ok(taken) => {
                        tracing::info!(%stream, "took the lease");
                        return taken;
                    }
                    Err(LeaseError::Conflict { .. }) => {
                        tracing::info!(%stream, "somebody else was quicker with the lease");
                    }
                    Err(error) => self.failed(&error),
                }
            }
            sleep(watch.wait(Instant::now(), self.leases.leasing.heartbeat())).await;
        }
    }

    async fn look(&mut self, watch: &mut Watch) -> Option<(Verdict, Option<LeaseVersion>)> {
        let asked = Instant::now();
        let found = match self.read().await {
            Ok(found) => found,
            Err(error) => {
                self.failed(&error);
                return None;
            }
        };
        self.is_failing = false;
        let answered = Instant::now();
        let content = found.as_ref().and_then(|(_, bytes)| LeaseContent::read(self.content.stream, bytes));
        self.see_key(content.as_ref().map(|content| content.key_id));
        let is_released = content.is_some_and(|content| content.state == State::Released);
        let version = found.map(|(version, _)| version);
        let verdict = watch.look(Look { asked, answered, version: version.clone(), is_released });
        Some((verdict, version))
    }

    /// Says once of a key that it is not trusted here, while there is time to do something about it.
    fn see_key(&self, key_id: Option<KeyId>) {
        let untrusted = key_id.filter(|key_id| self.leases.trusted.get(*key_id).is_none());
        let was_untrusted = self.is_untrusted.swap(untrusted.is_some(), Ordering::Relaxed);
        if let Some(key_id) = untrusted.filter(|_| !was_untrusted) {
            tracing::warn!(stream = %self.content.stream, %key_id, "{UNTRUSTED}");
        }
    }

    /// Beats until the owner ends, or somebody else's lease is met.
    async fn hold(&mut self, mut version: LeaseVersion, view: &mut watch::Receiver<View>) -> End {
        loop {
            tokio::select! {
                biased;
                phase = over(view) => {
                    // The lease of who was deposed is the other one's, or about to be.
                    if phase == Phase::Ended {
                        self.release(version).await;
                    }
                    return End::Over;
                }
                () = sleep(self.leases.leasing.heartbeat()) => {}
            }
            self.content.epoch = view.borrow().status.as_ref().map(|status| status.epoch);
            match self.write(Some(&version)).await {
                Ok(written) => {
                    self.is_failing = false;
                    version = written;
                }
                Err(LeaseError::Conflict { .. }) => match self.whose().await {
                    Whose::Own(found) => version = found,
                    Whose::Other => return End::Lost,
                    Whose::Unknown => {}
                },
                Err(error) => self.failed(&error),
            }
        }
    }

    /// Whose the lease is that a write of this keeper met.
    async fn whose(&mut self) -> Whose {
        let stream = self.content.stream;
        match self.read().await {
            Ok(Some((version, bytes))) => {
                let content = LeaseContent::read(stream, &bytes);
                if content.as_ref().is_some_and(|content| content.holder == self.content.holder) {
                    return Whose::Own(version);
                }
                let (epoch, key) = content.map(|content| (content.epoch, content.key_id)).unzip();
                tracing::warn!(%stream, epoch = ?epoch.flatten(), key = ?key,
                    "somebody else took the lease; leading on until a put says more");
                Whose::Other
            }
            // It was taken away, or nothing of this system stands there.
            Ok(None) | Err(LeaseError::TooLarge { .. }) => Whose::Other,
            Err(error) => {
                self.failed(&error);
                Whose::Unknown
            }
        }
    }

    async fn read(&self) -> Result<Option<(LeaseVersion, Bytes)>, LeaseError> {
        let stream = self.content.stream;
        let read = timeout(self.leases.leasing.patience(), self.leases.lease.read(stream)).await;
        read.unwrap_or_else(|late| Err(unanswered(stream, late)))
    }

    async fn write(&mut self, expected: Option<&LeaseVersion>) -> Result<LeaseVersion, LeaseError> {
        let stream = self.content.stream;
        let bytes = self.content.to_bytes();
        self.content.counter += 1;
        let written = self.leases.lease.write(stream, expected, bytes);
        let written = timeout(self.leases.leasing.patience(), written).await;
        written.unwrap_or_else(|late| Err(unanswered(stream, late)))
    }

    /// Says once that the store does not answer.
    fn failed(&mut self, error: &LeaseError) {
        if !std::mem::replace(&mut self.is_failing, true) {
            let stream = self.content.stream;
            tracing::warn!(%stream, error = chain(error), "the lease cannot be used; trying again");
        }
    }
}

fn unanswered(stream: StreamId, late: tokio::time::error::Elapsed) -> LeaseError {
    LeaseError::Failed { stream, failure: Failure::Unavailable(Box::new(late)) }
}

/// Waits until the owner does not lead any more, nor is about to. An owner that is gone has ended.
async fn over(view: &mut watch::Receiver<View>) -> Phase {
    let is_over = |view: &View| matches!(view.phase, Phase::Deposed | Phase::Ended);
    view.wait_for(is_over).await.map_or(Phase::Ended, |view| view.phase)
}
