//! What an agent is told when it starts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use synddb_protocol::signing::VerifyingKey;

use crate::credential::{FetchEvidence, Tls, Token};
use crate::outbox;
use crate::pin::PinProgram;
use crate::reconcile::LastState;

/// Most sequencers that one agent can be told of.
pub const SEQUENCERS_MAX: usize = 8;

/// Most keys of sequencers that one agent can be told of.
pub const SEQUENCER_KEYS_MAX: usize = 64;

/// What to follow, where to keep what was captured, and where to send it.
#[derive(Debug, Clone)]
pub struct Config {
    /// The application's database.
    pub database: PathBuf,
    /// The agent's own folder, `<database>-synddb` by custom. It is made where it is missing.
    pub folder: PathBuf,
    /// The sequencers, each as `http://host:port` or `https://host:port`: from 1 to [`SEQUENCERS_MAX`], that take over from one another. One is
    /// spoken to at a time, the first one first.
    pub sequencers: Vec<String>,
    /// What each sequencer knows the agent by. Without one, it is the certificate of [`tls`](Self::tls), or evidence.
    pub token: Option<Token>,
    /// How `https` is spoken with each of them.
    pub tls: Tls,
    /// Where evidence of the trusted execution environment comes from, if the agent runs in one.
    pub evidence: Option<FetchEvidence>,
    /// The keys that may have signed what a sequencer answers, at most [`SEQUENCER_KEYS_MAX`]. Without any it is the key that signed the first
    /// receipt, and no other; that one is kept as `sequencer.pub` in the folder.
    pub sequencer_keys: Vec<VerifyingKey>,
    /// How large the application's WAL may become, about, in bytes.
    pub wal_bytes_max: u64,
    /// A WAL that is larger than this, in bytes, is let go while nothing can be captured, since the outbox is full: a gap is better than an
    /// application without disk.
    pub wal_bytes_detach: u64,
    /// The program that holds the place in the WAL while no agent runs. Without one, what is committed then may be a gap.
    pub pin: Option<PinProgram>,
    /// How often the database is scanned in full, and compared with what was captured; zero for never. Meanwhile nothing is captured.
    pub audit_interval: Duration,
    /// What bounds the outbox, and which submissions are traced.
    pub outbox: outbox::Options,
    /// How long what is captured may take to be stored, once the agent was asked to end.
    pub drain_max: Duration,
    /// Where the last captured state is restored from when it cannot be proven that nothing was committed in between. Without it, and where that
    /// fails, a new incarnation begins with a snapshot.
    pub last_state: Option<Arc<dyn LastState>>,
}
