//! Checkpoints that may be endorsed, from the owner of the replica to whoever signs.
//!
//! Whoever signs may wait for a store for long. What is too much until then is dropped, oldest first: a later endorsement covers it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use synddb_protocol::log::TrustedCheckpoint;
use tokio::sync::Notify;

use crate::rules::Acknowledged;

/// Checkpoints that wait, at most.
const DUE_MAX: usize = 64;

/// A checkpoint up to which everything is committed, is what it claims, and violates no rule.
#[derive(Debug, Clone)]
pub(crate) struct Clean {
    pub(crate) checkpoint: TrustedCheckpoint,
    /// What the application had acknowledged by then.
    pub(crate) acknowledged: Acknowledged,
}

/// Checkpoints that may be endorsed, in order. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Due {
    waiting: Arc<Mutex<Waiting>>,
    came: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Waiting {
    checkpoints: VecDeque<Clean>,
    /// How often all were withdrawn.
    withdrawn: u64,
}

/// A checkpoint that may be endorsed, as long as it is not withdrawn.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) clean: Clean,
    withdrawn: u64,
}

impl Due {
    /// Everything up to here is committed in the replica, is what the checkpoint claims, and violates no rule.
    pub(crate) fn offer(&self, clean: Clean) {
        let mut waiting = self.lock();
        let size = clean.checkpoint.claim().size;
        if waiting.checkpoints.back().is_some_and(|last| last.checkpoint.claim().size >= size) {
            return;
        }
        if waiting.checkpoints.len() == DUE_MAX {
            waiting.checkpoints.pop_front();
        }
        waiting.checkpoints.push_back(clean);
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
                waiting.checkpoints.pop_front().map(|clean| Offered { clean, withdrawn })
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
