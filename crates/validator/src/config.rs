//! What a validator is told before it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use synddb_protocol::id::StreamId;
use synddb_protocol::signing::VerifyingKey;
use synddb_sqlite::query::Limits;
use synddb_storage::StoreUrl;

/// What a validator is told. Every field has a default but [`stream`](Self::stream) and
/// [`sequencer_keys`](Self::sequencer_keys), which nobody can guess.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the log is stored.
    pub store: StoreUrl,
    /// Which log it is.
    pub stream: Option<StreamId>,
    /// The file that becomes the replica. Its folder must exist.
    pub replica: PathBuf,
    /// The public keys that may lead the log, pinned by whoever runs this: at least one.
    pub sequencer_keys: Vec<VerifyingKey>,
    /// Where HTTP is served, if anywhere.
    pub listen: Option<SocketAddr>,
    /// The URL of a sequencer that is asked whether there is news, so that an idle log costs the store nothing. Never trusted.
    pub sequencer: Option<String>,
    /// The longest time between two looks into the store while nothing new is found, in milliseconds.
    pub poll_ms_max: u64,
    /// When to end.
    pub mode: Mode,
    /// How many messages the replica may be behind what is known to be stored and still call itself ready.
    pub lag_max: u64,
    /// What queries may cost.
    pub query: QueryConfig,
    /// The file that this was read from. Looked at by the process alone, and known here because `SYNDDB_VALIDATOR_CONFIG` has the prefix of
    /// every other key.
    #[serde(skip_serializing)]
    pub config: Option<PathBuf>,
}

/// When to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// When asked to.
    #[default]
    Follow,
    /// At the end of what the store holds.
    Once,
}

/// What queries may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueryConfig {
    /// Most rows of one answer.
    pub rows_max: usize,
    /// Most bytes of one answer, and of one value on the way to it.
    pub bytes_max: usize,
    /// Longest time that one query may take, in milliseconds.
    pub ms_max: u64,
    /// Most queries that run at a time; more are refused.
    pub concurrent_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store: StoreUrl::memory(),
            stream: None,
            replica: PathBuf::from("replica.db"),
            sequencer_keys: Vec::new(),
            listen: None,
            sequencer: None,
            poll_ms_max: 2000,
            mode: Mode::Follow,
            lag_max: 10_000,
            query: QueryConfig::default(),
            config: None,
        }
    }
}

impl Default for QueryConfig {
    fn default() -> Self {
        let limits = Limits::default();
        let ms_max = u64::try_from(limits.time.as_millis()).unwrap_or(u64::MAX);
        Self { rows_max: limits.rows, bytes_max: limits.bytes, ms_max, concurrent_max: 4 }
    }
}

impl QueryConfig {
    /// The bounds of one query.
    pub(crate) const fn limits(&self) -> Limits {
        Limits { rows: self.rows_max, bytes: self.bytes_max, time: Duration::from_millis(self.ms_max) }
    }
}

/// Why a configuration cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    /// Nobody said which log.
    #[error("no stream is named; set `stream` to the identifier that `synddb status` of the agent shows")]
    NoStream,
    /// Nobody said whom to believe.
    #[error("no key is pinned; set `sequencer_keys` to the public keys that may lead the log")]
    NoKeys,
    /// The replica has no name.
    #[error("the replica is no file; set `replica` to the path of one. path=`{}`", path.display())]
    NoFile {
        /// What was given.
        path: PathBuf,
    },
    /// The sequencer's URL is none.
    #[error(
        "the sequencer's URL is none that can be asked; write it like `http://127.0.0.1:8433`. url=`{url}`"
    )]
    Sequencer {
        /// What was given.
        url: String,
    },
    /// A bound of zero lets nothing through.
    #[error("a bound must be 1 or more. key=`{key}`")]
    Zero {
        /// The key.
        key: &'static str,
    },
}
