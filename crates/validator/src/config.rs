//! What a validator is told before it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use synddb_chain::Endpoint;
use synddb_chain::follow::{Deadlines, Nodes, NodesError};
use synddb_protocol::id::{Address, KeyId, StreamId};
use synddb_protocol::log::{Quorum, QuorumError, Versions};
use synddb_protocol::signing::{Domain, TrustedKeys, VerifyingKey};
use synddb_service::http::{ConnectionBounds, TlsConfig};
use synddb_service::telemetry::Settings as Telemetry;
use synddb_sqlite::query::Limits;
use synddb_storage::StoreUrl;

use crate::door::Bounds;
use crate::keys::RevokedKey;

/// What a validator is told. Every field has a default but [`stream`](Self::stream) and whom to believe, which nobody can guess: one of
/// [`sequencer_keys`](Self::sequencer_keys) and [`keys_file`](Self::keys_file).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the log is stored: `gs://bucket/prefix`, `s3://bucket/prefix`, `az://container/prefix`, `file:///folder`, or `https://host/prefix` of a
    /// host that serves one.
    #[schemars(with = "String")]
    pub store: StoreUrl,
    /// Which log it is. It must be set.
    #[schemars(
        with = "Option<String>",
        example = "0x0000000000000000000000000000000000000000000000000000000000000000"
    )]
    pub stream: Option<StreamId>,
    /// The file that becomes the replica. Its folder must exist.
    pub replica: PathBuf,
    /// The public keys that may lead the log, pinned by whoever runs this: at least one, or `keys_file`.
    #[schemars(with = "Vec<String>")]
    pub sequencer_keys: Vec<VerifyingKey>,
    /// Pinned keys that are revoked, and up to where each is believed: `{ key = "0x02…", epoch = 3, size = 1200 }`, the last
    /// epoch that it may have led and the size of the log up to which it is believed in that, or 0.
    #[schemars(with = "Vec<String>")]
    pub revoked: Vec<RevokedKey>,
    /// A file of the keys that may lead the log, and of those that are revoked. It is read again when it changes.
    #[schemars(example = "/etc/synddb/keys.toml")]
    pub keys_file: Option<PathBuf>,
    /// Where HTTP is served, if anywhere.
    #[schemars(with = "Option<String>", example = "127.0.0.1:8080")]
    pub listen: Option<SocketAddr>,
    /// How many may be connected.
    pub http: ConnectionBounds,
    /// How TLS is spoken there; without it, it is not.
    pub tls: Option<TlsConfig>,
    /// The file that lists the credentials of those who may have the file scanned. It is read again when it changes. Without one that is
    /// answered only where nobody but this machine can reach `listen`.
    #[schemars(example = "/etc/synddb/credentials.toml")]
    pub credentials_file: Option<PathBuf>,
    /// The URL of a sequencer that is asked whether there is news, so that an idle log costs the store nothing. Never trusted.
    #[schemars(example = "https://sequencer.example:8433")]
    pub sequencer: Option<String>,
    /// The authority that signs the certificate of `sequencer`, in PEM. Without it, those that the system trusts.
    #[schemars(example = "/etc/synddb/ca.pem")]
    pub sequencer_ca_file: Option<PathBuf>,
    /// The longest time between two looks into the store while nothing new is found, in milliseconds.
    pub poll_ms_max: u64,
    /// When to end.
    pub mode: Mode,
    /// How many messages the replica may be behind what is known to be stored and still call itself ready.
    pub lag_max: u64,
    /// What queries may cost.
    pub query: QueryConfig,
    /// Most bytes of the replica's WAL that readers may cause. Over it no query begins until those that run have ended, and the WAL is
    /// emptied. A large transaction may need more for a moment.
    pub wal_bytes_max: u64,
    /// Who may read the row changes.
    pub changes: ChangesConfig,
    /// Longest time that one question about whole tables may take, in milliseconds: what `synddb diff --remote` asks. One is answered at a
    /// time, beside the queries.
    pub scan_ms_max: u64,
    /// How often the replica is scanned in full and compared with what it should be, in milliseconds; 0 for never. Applying waits meanwhile,
    /// readers do not.
    pub audit_interval_ms: u64,
    /// Whether a replica that is not what it was is compared with another one, which is rebuilt beside it from the log, so that the first
    /// difference can be named. Costs as much disk as the database, for as long as that takes.
    pub name_differences: bool,
    /// How a replica begins that is not there yet, or is fetched again.
    pub from_snapshot: FromSnapshot,
    /// Snapshots of the replica, which are stored for those who begin later.
    pub snapshots: SnapshotsConfig,
    /// The rules that the database must keep: a file of them in TOML. Without one, a validator that endorses has the default rules alone, and a
    /// read replica none.
    #[schemars(example = "/etc/synddb/rules.toml")]
    pub rules: Option<PathBuf>,
    /// Most instructions of SQLite's machine that one rule may take for one commit; sixty times as many where it is shown all rows there are. A rule that
    /// takes more counts as violated. Validators of one quorum have the same number here: what is too much is then too much for each of them.
    pub rule_steps_max: u64,
    /// Longest time that one rule may take for one commit, in milliseconds, however few its instructions. A rule that takes longer counts as violated,
    /// by this validator alone.
    pub rule_ms_max: u64,
    /// Whether checkpoints are endorsed, and how.
    pub endorse: EndorseConfig,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// The file that this was read from. Looked at by the process alone, and known here because `SYNDDB_VALIDATOR_CONFIG` has the prefix of
    /// every other key.
    #[serde(skip_serializing)]
    #[schemars(skip)]
    pub config: Option<PathBuf>,
    /// The newest rules that this reader knows. No file sets it: it is for tests in which releases run beside each other.
    #[serde(skip)]
    #[schemars(skip)]
    pub supported: Versions,
}

/// How a replica begins that is not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FromSnapshot {
    /// From the first message, so that everything is checked.
    #[default]
    Never,
    /// From the newest snapshot in the store that the log vouches for; from the first message where there is none. That what the log claims of states
    /// before it follows from its rows is not checked: `/status` says so until `synddb verify --full --of` has. Needs a store that can be listed.
    Newest,
}

/// When snapshots of the replica are taken, by a process that follows the log. Without any of the two, none is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotsConfig {
    /// When so many messages are applied behind the last one; 0 for not by messages. The store must be one that can be written.
    pub every_messages: u64,
    /// When so much time went by since the last one and the replica moved, in milliseconds; 0 for not by time.
    pub every_ms: u64,
    /// The file of the key that signs them: 32 bytes in hex. It is made when it is missing and snapshots are taken. It proves who took them and
    /// nothing else; nobody needs to trust it.
    pub key_file: PathBuf,
}

impl Default for SnapshotsConfig {
    fn default() -> Self {
        Self { every_messages: 0, every_ms: 0, key_file: PathBuf::from("/var/lib/synddb/validator.key") }
    }
}

impl SnapshotsConfig {
    /// Whether any are taken.
    pub(crate) const fn is_on(&self) -> bool {
        self.every_messages > 0 || self.every_ms > 0
    }
}

/// Whether checkpoints are endorsed: signed for whoever settles by them, where the replica is what they claim and no rule is violated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EndorseConfig {
    /// Whether they are, by a process that follows the log. The store must be one that can be written and listed.
    pub on: bool,
    /// The file of the key that signs them: 32 bytes in hex. It is made when it is missing. As long as no contract has registered it, it is a development
    /// signer, which endorsements say.
    pub key_file: PathBuf,
    /// The key that this one follows, where it was exchanged: nothing is endorsed below what that one has.
    #[schemars(with = "Option<String>", example = "0x0000000000000000000000000000000000000000")]
    pub predecessor: Option<KeyId>,
    /// The chain, by its EIP-155 id, and the checkpoint registry there for which endorsements are good: both, or none. Without a chain they are good for
    /// no contract.
    pub chain_id: u64,
    /// The contract.
    #[schemars(with = "String")]
    pub registry: Address,
    /// The bridge on that chain, for which outbound messages are signed as soon as a checkpoint that covers them is endorsed; zero for none, and then none is
    /// signed.
    #[schemars(with = "String")]
    pub bridge: Address,
    /// The nodes of that chain that tell what the bridge has sent. Each inbound message of the log is compared with what they say, and nothing is endorsed that
    /// covers another one. Without them the sequencer is believed.
    pub nodes: Nodes,
    /// How long, in milliseconds after its block's time, a message of the bridge that is final may be missing in the log. While one is missing for longer, no
    /// outbound message is signed.
    pub inclusion_ms: u64,
    /// How late the application may be with inbound messages. From `degraded_ms` on no outbound message is signed until it has caught up; then all are that waited. Sequencer and
    /// validators of a stream should have the same.
    pub deadlines: Deadlines,
    /// The last incarnation of the application's that is admitted. When it begins a later one, nothing is endorsed until somebody looked: 0 for all.
    pub incarnation_max: u64,
    /// Whether a replica that lacks messages, because somebody went on after a divergence, endorses all the same.
    pub behind_gaps: bool,
    /// The validators of whom a quorum is believed, for a replica that began with a snapshot: their key ids.
    #[schemars(with = "Vec<String>")]
    pub validators: Vec<KeyId>,
    /// How many of them are a quorum.
    pub threshold: u32,
}

impl EndorseConfig {
    /// Who is believed of a state that nobody has checked here, if anybody.
    pub(crate) fn quorum(&self) -> Result<Option<Quorum>, QuorumError> {
        if self.validators.is_empty() && self.threshold == 0 {
            return Ok(None);
        }
        Quorum::new(self.validators.iter().copied(), self.threshold as usize).map(Some)
    }

    /// The bridge for which outbound messages are signed, if they are.
    pub(crate) fn bridge(&self) -> Option<Domain> {
        let bridge = Domain { chain_id: self.chain_id, contract: self.bridge };
        (self.on && self.bridge != Address::ZERO).then_some(bridge)
    }

    /// The nodes that are asked what the bridge sent: none where none are named, or nothing is endorsed.
    pub(crate) fn endpoints(&self) -> Result<Vec<Endpoint>, NodesError> {
        if !self.nodes.are_named() {
            return Ok(Vec::new());
        }
        // One provider serves the process; a second one to install it is told so, and has what it wanted.
        rustls::crypto::ring::default_provider().install_default().ok();
        self.nodes.endpoints(self.chain_id)
    }

    /// The contract for which endorsements are good.
    pub(crate) const fn domain(&self) -> Domain {
        Domain { chain_id: self.chain_id, contract: self.registry }
    }
}

impl Default for EndorseConfig {
    fn default() -> Self {
        Self {
            on: false,
            key_file: PathBuf::from("/var/lib/synddb/validator.key"),
            predecessor: None,
            chain_id: 0,
            registry: Address::ZERO,
            bridge: Address::ZERO,
            nodes: Nodes::default(),
            inclusion_ms: 3_600_000,
            deadlines: Deadlines::default(),
            incarnation_max: 1,
            behind_gaps: false,
            validators: Vec::new(),
            threshold: 0,
        }
    }
}

/// When to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// When asked to.
    #[default]
    Follow,
    /// At the end of what the store holds.
    Once,
}

/// What queries may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueryConfig {
    /// Most rows of one answer.
    pub rows_max: usize,
    /// Most bytes of one answer, and of one value on the way to it.
    pub bytes_max: usize,
    /// Longest time that one query may take, in milliseconds.
    pub ms_max: u64,
    /// Most bytes of memory that SQLite may take for one query at a time: what it sorts, keeps and computes. Nothing of it goes to disk.
    pub memory_bytes_max: usize,
    /// Most queries that run at a time. More wait for their turn, and clients take turns: one that asks for much waits for itself.
    pub concurrent_max: usize,
    /// Most queries that wait for their turn; more are refused.
    pub waiting_max: usize,
    /// Longest time that one waits for its turn, in milliseconds.
    pub waiting_ms_max: u64,
}

/// Who may read the row changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChangesConfig {
    /// Most readers at a time; more are refused.
    pub readers_max: usize,
    /// How long a reader may take nothing, in milliseconds, before it is ended. It goes on where it was when it comes again.
    pub stall_ms_max: u64,
}

impl Default for ChangesConfig {
    fn default() -> Self {
        Self { readers_max: 64, stall_ms_max: 30_000 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store: StoreUrl::memory(),
            stream: None,
            replica: PathBuf::from("replica.db"),
            sequencer_keys: Vec::new(),
            revoked: Vec::new(),
            keys_file: None,
            listen: None,
            http: ConnectionBounds::default(),
            tls: None,
            credentials_file: None,
            sequencer: None,
            sequencer_ca_file: None,
            poll_ms_max: 2000,
            mode: Mode::Follow,
            lag_max: 10_000,
            query: QueryConfig::default(),
            wal_bytes_max: 256 << 20,
            changes: ChangesConfig::default(),
            scan_ms_max: 60_000,
            audit_interval_ms: 3_600_000,
            name_differences: true,
            from_snapshot: FromSnapshot::Never,
            snapshots: SnapshotsConfig::default(),
            rules: None,
            rule_steps_max: 100_000_000,
            rule_ms_max: 30_000,
            endorse: EndorseConfig::default(),
            telemetry: Telemetry::default(),
            config: None,
            supported: Versions::SUPPORTED,
        }
    }
}

impl Default for QueryConfig {
    fn default() -> Self {
        let limits = Limits::default();
        let ms_max = u64::try_from(limits.time.as_millis()).unwrap_or(u64::MAX);
        Self {
            rows_max: limits.rows,
            bytes_max: limits.bytes,
            ms_max,
            memory_bytes_max: limits.memory,
            concurrent_max: 4,
            waiting_max: 256,
            waiting_ms_max: 10_000,
        }
    }
}

impl QueryConfig {
    /// The bounds of one query.
    pub(crate) const fn limits(&self) -> Limits {
        Limits {
            rows: self.rows_max,
            bytes: self.bytes_max,
            time: Duration::from_millis(self.ms_max),
            memory: self.memory_bytes_max,
        }
    }

    /// How many queries go through the door.
    pub(crate) const fn door(&self) -> Bounds {
        Bounds {
            inside: self.concurrent_max,
            waiting: self.waiting_max,
            patience: Duration::from_millis(self.waiting_ms_max),
        }
    }
}

/// Whom a configuration believes.
#[derive(Debug)]
pub(crate) enum Trusted {
    /// Keys that it names.
    Pinned(TrustedKeys),
    /// Keys that a file names.
    File(PathBuf),
}

impl Trusted {
    /// Whom `config` believes: exactly one of the two ways is named.
    pub(crate) fn of(config: &Config) -> Result<Self, ConfigProblem> {
        match (&config.keys_file, config.sequencer_keys.as_slice()) {
            (None, []) => Err(ConfigProblem::NoKeys),
            (Some(file), []) if config.revoked.is_empty() => Ok(Self::File(file.clone())),
            (Some(_), _) => Err(ConfigProblem::TwoSources),
            (None, keys) => {
                let mut trusted = TrustedKeys::pinned(keys.iter().copied());
                for revoked in &config.revoked {
                    let last_valid =
                        revoked.last_valid().map_err(|_| ConfigProblem::Revoked { size: revoked.size })?;
                    trusted.revoke(revoked.key.id(), last_valid);
                }
                Ok(Self::Pinned(trusted))
            }
        }
    }
}

/// Why a configuration cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    /// Nobody said which log.
    #[error("no stream is named; set `stream` to the identifier that `synddb status` of the agent shows")]
    NoStream,
    /// Nobody said whom to believe.
    #[error(
        "no key is trusted; set `sequencer_keys` to the public keys that may lead the log, or `keys_file` to a file of them"
    )]
    NoKeys,
    /// Two places say whom to believe.
    #[error(
        "`keys_file` says which keys are trusted and revoked; leave out `sequencer_keys` and `revoked`, or `keys_file`"
    )]
    TwoSources,
    /// No log has this size.
    #[error("a key is revoked at a size that no log has; name the size of a checkpoint, or 0. size=`{size}`")]
    Revoked {
        /// What was given.
        size: u64,
    },
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
    /// Snapshots cannot be put where nothing can be put.
    #[error(
        "snapshots cannot be put into a store that is only read; name one that can be written, or set both `snapshots.every_messages` and \
         `snapshots.every_ms` to 0. store=`{store}`"
    )]
    NotWritable {
        /// The store.
        store: StoreUrl,
    },
    /// Nothing can be endorsed where nothing can be put.
    #[error(
        "endorsements cannot be put into a store that is only read; name one that can be written, or set `endorse.on` to false. store=`{store}`"
    )]
    NotEndorsable {
        /// The store.
        store: StoreUrl,
    },
    /// A chain without a contract, or a contract without a chain.
    #[error("set both `endorse.chain_id` and `endorse.registry`, or none of the two")]
    HalfADomain,
    /// A bridge on no chain.
    #[error("`endorse.bridge` is on a chain: set `endorse.chain_id` and `endorse.registry` as well")]
    BridgeWithoutChain,
    /// Nodes without a bridge that they could be asked about.
    #[error("`endorse.nodes.rpc` tells what a bridge sent: set `endorse.bridge` as well, or name no node")]
    NodesWithoutBridge,
    /// The validators that are named are no quorum.
    #[error("`endorse.validators` and `endorse.threshold` are no quorum")]
    Quorum(#[source] QuorumError),
    /// Snapshots cannot be looked for where nothing can be listed.
    #[error(
        "a static host cannot be asked which snapshots it has; set `from_snapshot` to \"never\", or name the store behind that host. \
         store=`{store}`"
    )]
    NotListed {
        /// The store.
        store: StoreUrl,
    },
}
