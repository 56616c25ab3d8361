//! Checkpoints that may be endorsed, from the owner of the replica to whoever signs.
//!
//! Whoever signs may wait for a store for long. What is too much until then is dropped, oldest first: a later endorsement covers it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use synddb_protocol::log::TrustedCheckpoint;
use tokio::sync::Notify;

/// Checkpoints that wait, at most.
const DUE_MAX: usize = 64;

/// Checkpoints that may be endorsed, in order. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Due {
    waiting: Arc<Mutex<Waiting>>,
    came: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Waiting {
    checkpoints: VecDeque<TrustedCheckpoint>,
    /// How often all were withdrawn.
    withdrawn: u64,
}

/// A checkpoint that may be endorsed, as long as it is not withdrawn.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) checkpoint: TrustedCheckpoint,
    withdrawn: u64,
}

impl Due {
    /// Everything up to here is committed in the replica, is what the checkpoint claims, and violates no rule.
    pub(crate) fn offer(&self, checkpoint: TrustedCheckpoint) {
        let mut waiting = self.lock();
        let size = checkpoint.claim().size;
        if waiting.checkpoints.back().is_some_and(|last| last.claim().size >= size) {
            return;
        }
        if waiting.checkpoints.len() == DUE_MAX {
            waiting.checkpoints.pop_front();
        }
        waiting.checkpoints.push_back(checkpoint);
        drop(waiting);
        self.came.notify_one();
    }

    /// Nothing that was offered may be endorsed any more: it was found to be at or behind a violation.
    pub(crate) fn withdraw(&self) {
        let mut waiting = self.lock();
        waiting.checkpoints.clear();
        waiting.withdrawn += 1;
    }

    /// The next one.
    pub(super) async fn next(&self) -> Offered {
        loop {
            let next = {
                let mut waiting = self.lock();
                let withdrawn = waiting.withdrawn;
                waiting.checkpoints.pop_front().map(|checkpoint| Offered { checkpoint, withdrawn })
            };
            if let Some(next) = next {
                return next;
            }
            self.came.notified().await;
        }
    }

    /// Whether it may not be endorsed any more.
    pub(super) fn is_withdrawn(&self, offered: &Offered) -> bool {
        self.lock().withdrawn != offered.withdrawn
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
