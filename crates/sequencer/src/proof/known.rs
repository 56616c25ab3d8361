//! What was read for proofs before, within bounds. It never becomes false: a stored batch never changes.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;

use synddb_protocol::hash::TreeHash;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::Frontier;
use synddb_protocol::log::tree::Node;

use super::peaks;
use crate::stored::Run;

/// Most hashes of a generation; there are two.
const NODES_MAX: usize = 1 << 16;

/// Most batches whose leaves are kept, at most 128 KiB each.
const RUNS_MAX: usize = 64;

type Nodes = HashMap<(StreamId, Node), TreeHash>;

/// Hashes of perfect subtrees, and the leaves of batches.
#[derive(Default)]
pub(super) struct Known {
    /// Those that were asked for since the generation began, and those of the generation before. What nobody asks for in two is forgotten.
    young: Nodes,
    old: Nodes,
    /// The last one that was asked for first.
    runs: VecDeque<(StreamId, Arc<Run>)>,
}

impl Known {
    pub(super) fn node(&mut self, stream: StreamId, node: Node) -> Option<TreeHash> {
        if let Some(hash) = self.young.get(&(stream, node)) {
            return Some(*hash);
        }
        let hash = self.old.remove(&(stream, node))?;
        self.learn(stream, node, hash);
        Some(hash)
    }

    pub(super) fn learn(&mut self, stream: StreamId, node: Node, hash: TreeHash) {
        if self.young.len() >= NODES_MAX {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert((stream, node), hash);
    }

    /// Takes the subtrees at the right edge of the log.
    pub(super) fn learn_peaks(&mut self, stream: StreamId, frontier: &Frontier) {
        for (node, hash) in peaks(frontier.size()).zip(frontier.peaks()) {
            self.learn(stream, node, *hash);
        }
    }

    pub(super) fn run(&mut self, stream: StreamId, sequence: Sequence) -> Option<Arc<Run>> {
        let at = self.runs.iter().position(|(of, run)| *of == stream && run.holds(sequence))?;
        let found = self.runs.remove(at)?;
        let run = Arc::clone(&found.1);
        self.runs.push_front(found);
        Some(run)
    }

    pub(super) fn learn_run(&mut self, stream: StreamId, run: Arc<Run>) {
        self.learn_peaks(stream, &run.frontier);
        self.runs.push_front((stream, run));
        self.runs.truncate(RUNS_MAX);
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_is_forgotten() {
        let (stream, hash) = (StreamId::from_bytes([0x5d; 32]), TreeHash::from_bytes([7; 32]));
        let node = |index| Node { level: 0, index };
        let mut known = Known::default();
        for index in 0..3 * NODES_MAX as u64 {
            known.learn(stream, node(index), hash);
            assert!(known.node(stream, node(0)).is_some(), "{index}");
        }
        assert!(known.node(stream, node(1)).is_none());
        assert!(known.young.len() + known.old.len() <= 2 * NODES_MAX);
    }
}
