//! What a validator tells while it runs, and where it ended.

use std::net::SocketAddr;

use synddb_protocol::hash::StateHash;
use synddb_protocol::http::Halt;
use synddb_protocol::id::{KeyId, Sequence};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// HTTP is served.
    Listening {
        /// Where.
        address: SocketAddr,
        /// The scheme of URLs that lead there: `http`, or `https` where TLS is spoken.
        scheme: &'static str,
    },
    /// A snapshot that begins an incarnation became the replica. [`Self::Applied`] follows.
    Restored {
        /// The last message in the replica.
        sequence: Sequence,
        /// Its state.
        state: StateHash,
    },
    /// The replica begins with a snapshot that another one's keeper took. [`Self::CaughtUp`] follows.
    Began {
        /// The last message in it.
        sequence: Sequence,
        /// Its state.
        state: StateHash,
        /// Who took it.
        signer: KeyId,
    },
    /// A snapshot of the replica was stored.
    Snapshot {
        /// The last message in it.
        sequence: Sequence,
        /// Chunks of it that were not stored before.
        chunks: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A commit or a snapshot violates a rule. Nothing from its message on is endorsed until somebody resolves it.
    Violated {
        /// The rule.
        rule: String,
        /// The message.
        sequence: Sequence,
        /// Why it does not hold.
        detail: String,
    },
    /// A violation was resolved.
    Resolved {
        /// Its number.
        id: u64,
        /// The rule.
        rule: String,
        /// The message.
        sequence: Sequence,
    },
    /// It endorses what it has verified from here on.
    Endorses {
        /// The id of its key.
        validator: KeyId,
        /// Whether a contract has registered it.
        attested: bool,
    },
    /// A checkpoint was endorsed, and the endorsement is stored.
    Endorsed {
        /// The last message.
        sequence: Sequence,
    },
    /// Messages were committed to the replica.
    Applied {
        /// The last one.
        sequence: Sequence,
        /// The replica's state.
        state: StateHash,
    },
    /// Everything that the store held a moment ago is in the replica.
    CaughtUp {
        /// The last message in the replica.
        sequence: Sequence,
        /// Its state.
        state: StateHash,
    },
    /// It stopped for good.
    Halted(Halt),
}

/// Where a validator ended that was asked to, or came to the end of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The last message in the replica; `None` before the first snapshot.
    pub sequence: Option<Sequence>,
    /// The replica's state.
    pub state: Option<StateHash>,
}
