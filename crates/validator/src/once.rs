//! A log that is read once: the stages from the store to whoever takes what is verified, from a beginning to the end of the store.

use std::sync::Arc;
use std::time::Duration;

use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::{Leaders, SignedCheckpoint, Signers, Tip, VerifiedBatch};
use synddb_protocol::signing::TrustedKeys;
use synddb_service::shutdown::Shutdown;
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Mode;
use crate::fetch::{Fetch, PatientStore};
use crate::keys::{PatientKeys, Pinned};
use crate::news::News;
use crate::pipeline::{FETCHED_MAX, Item, VERIFIED_MAX};
use crate::verify::Verify;
use crate::view::View;

/// Where reading begins, and what is believed of what came before.
pub(crate) struct Beginning {
    /// The first message that is read.
    pub(crate) next: Sequence,
    /// The checkpoint of the batch before it.
    pub(crate) last: Option<SignedCheckpoint>,
    /// What the log before it adds up to.
    pub(crate) tip: Tip,
    /// Who leads it, as far as epoch records were read.
    pub(crate) leaders: Leaders,
    /// Who signed what comes before.
    pub(crate) signers: Signers,
}

impl Beginning {
    /// The first batch of a log that one of these keys leads.
    pub(crate) fn of_log(stream: StreamId, keys: &TrustedKeys) -> Self {
        Self {
            next: Sequence::FIRST,
            last: None,
            tip: Tip::start(stream),
            leaders: Leaders::new(stream, keys.clone()),
            signers: Signers::default(),
        }
    }
}

/// Starts the stages. They end when `stop` is cancelled, or nobody takes what they verified.
pub(crate) fn read(
    beginning: Beginning,
    store: &PatientStore,
    keys: &TrustedKeys,
    shutdown: &Shutdown,
    stop: &CancellationToken,
    stages: &mut JoinSet<()>,
) -> Receiver<Item<Box<VerifiedBatch>>> {
    let Beginning { next, last, tip, leaders, signers } = beginning;
    let (fetched, to_verify) = mpsc::channel(FETCHED_MAX);
    let (verified, from) = mpsc::channel(VERIFIED_MAX);
    let stream = leaders.stream();
    // Who reads once waits for no news.
    let news = News::new(None, Duration::from_secs(1), View::aside(stream));
    let (mode, shutdown) = (Mode::Once, shutdown.clone());
    let keys = PatientKeys::new(Arc::new(Pinned::new(keys.clone())), shutdown.clone(), stop.clone());
    let fetch = Fetch {
        store: store.clone(),
        stream,
        next,
        last,
        news,
        mode,
        shutdown,
        until: None,
        looks_behind: true,
    };
    stages.spawn(fetch.run(fetched));
    stages.spawn(Verify::new(store.clone(), keys, leaders, tip, signers).run(to_verify, verified));
    from
}
