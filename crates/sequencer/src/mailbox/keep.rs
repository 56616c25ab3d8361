//! All that a mailbox does while its stream is led: reads, says how late the application is, brings what comes. Where that panics it begins again.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::OptionFuture;
use synddb_chain::Endpoint;
use synddb_chain::follow::{Deadlines, Nodes};
use synddb_protocol::id::StreamId;
use synddb_protocol::signing::TrustedKeys;
use synddb_storage::BatchStore;
use tokio::sync::{mpsc, watch};

use super::Mailbox;
use super::bring::bring;
use super::follow::follow;
use super::late::keep_status;
use super::orders::Orders;
use crate::backoff::Backoff;
use crate::stream::{Command, Phase, View};

/// What a mailbox needs for it, beside the stream.
pub(crate) struct Means {
    /// Where the log is read.
    pub(crate) store: Arc<dyn BatchStore>,
    /// By whose keys.
    pub(crate) trusted: TrustedKeys,
    /// How nodes are asked.
    pub(crate) nodes: Nodes,
    /// Which ones; without any nothing is brought.
    pub(crate) endpoints: Vec<Endpoint>,
    /// When the application is late.
    pub(crate) deadlines: Deadlines,
}

/// Keeps a mailbox, until the owner of its stream ends or is deposed.
pub(crate) async fn keep(
    mailbox: Arc<Mailbox>,
    means: Means,
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<View>,
) {
    let orders = Orders::new(commands);
    let parts = || {
        let Means { store, trusted, nodes, endpoints, deadlines } = &means;
        let (mailbox, orders, seen) = (|| Arc::clone(&mailbox), || orders.clone(), || view.clone());
        let reading = follow(mailbox(), Arc::clone(store), trusted.clone(), seen());
        let status = keep_status(mailbox(), *deadlines, orders(), seen());
        let bringing = (!endpoints.is_empty())
            .then(|| bring(mailbox(), nodes.clone(), endpoints.clone(), orders(), seen()));
        async {
            tokio::join!(reading, status, OptionFuture::from(bringing));
        }
    };
    until_whole(mailbox.stream, view.clone(), parts).await;
    mailbox.metrics.ended();
}

/// Does it again after a while where it panics, until it ends as it should or the owner of the stream has ended.
async fn until_whole<F: Future<Output = ()>>(
    stream: StreamId,
    mut view: watch::Receiver<View>,
    mut parts: impl FnMut() -> F,
) {
    let mut backoff = Backoff::of_the_costly();
    while AssertUnwindSafe(parts()).catch_unwind().await.is_err() {
        tracing::error!(%stream, "the mailbox has panicked, as the log says before this, and begins again; report it");
        let ended = view.wait_for(|view| matches!(view.phase, Phase::Deposed | Phase::Ended));
        tokio::select! {
            _ = ended => return,
            () = backoff.wait() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const STREAM: StreamId = StreamId::from_bytes([7; 32]);

    #[tokio::test(start_paused = true)]
    async fn a_mailbox_that_panics_begins_again_until_it_ends_or_the_owner_does() {
        let (shown, view) = watch::channel(View::opening());
        let mut begun = 0;
        let parts = || {
            begun += 1;
            let is_whole = begun == 3;
            async move { assert!(is_whole, "a fault") }
        };
        until_whole(STREAM, view.clone(), parts).await;
        assert_eq!(begun, 3);
        shown.send_modify(|view| view.phase = Phase::Ended);
        until_whole(STREAM, view, || async { panic!("a fault") }).await;
    }
}
