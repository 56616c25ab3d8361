//! Checkpoints that may be endorsed, from the owner of the replica to whoever signs.
//!
//! Whoever signs may wait for a store for long. What is too much until then is dropped, oldest first: a later endorsement covers it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use synddb_protocol::log::TrustedCheckpoint;
use tokio::sync::Notify;

/// Checkpoints that wait, at most.
const DUE_MAX: usize = 64;

/// Checkpoints that may be endorsed, in order. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Due {
    waiting: Arc<Mutex<VecDeque<TrustedCheckpoint>>>,
    came: Arc<Notify>,
}

impl Due {
    /// Everything up to here is committed in the replica, is what the checkpoint claims, and violates no rule.
    pub(crate) fn offer(&self, checkpoint: TrustedCheckpoint) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let size = checkpoint.claim().size;
        if waiting.back().is_some_and(|last| last.claim().size >= size) {
            return;
        }
        if waiting.len() == DUE_MAX {
            waiting.pop_front();
        }
        waiting.push_back(checkpoint);
        drop(waiting);
        self.came.notify_one();
    }

    /// The next one.
    pub(super) async fn next(&self) -> TrustedCheckpoint {
        loop {
            let next = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            if let Some(next) = next {
                return next;
            }
            self.came.notified().await;
        }
    }
}
