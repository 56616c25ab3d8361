//! What a sequencer is told: where it listens, where batches rest, whose streams it leads, and its bounds.
//!
//! What parses is valid. Secrets are references to files. The struct reads no environment; its process does.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use synddb_chain::follow::{Deadlines, Nodes};
use synddb_protocol::id::{Address, StreamId};
use synddb_protocol::limits::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX};
use synddb_protocol::signing::{Domain, SigningKey, TrustedKeys, VerifyingKey};
use synddb_service::http::{CheckEvidence, ConnectionBounds, TlsConfig};
use synddb_service::telemetry::Settings as Telemetry;
use synddb_storage::StoreUrl;

use crate::journal::Unstored;

/// Where a sequencer listens unless it is told otherwise.
pub const PORT: u16 = 8433;

/// The configuration of a sequencer.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens. Port 0 takes a free one.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// How many may be connected.
    pub http: ConnectionBounds,
    /// Where batches rest: `gs://bucket/prefix`, `s3://bucket/prefix`, `az://container/prefix`, `file:///folder`, or `memory:`, which nothing outlives.
    #[schemars(with = "String")]
    pub store: StoreUrl,
    /// The folder of its journals. One process owns it.
    pub dir: PathBuf,
    /// The file that lists the credentials of those who may write. It is read again when it changes.
    pub credentials_file: PathBuf,
    /// How TLS is spoken; without it, it is not.
    pub tls: Option<TlsConfig>,
    /// The file that holds the signing key: 32 bytes in hex. It is made when it is missing.
    pub key_file: PathBuf,
    /// The streams that it may lead: `"any"`, or a list of their identifiers. Unless it stands by, those of a list that have a log are led from the start, also on a machine that
    /// has never led them; otherwise those of which the machine has a journal, and each when a client asks. 64 at most.
    #[schemars(with = "String")]
    pub streams: Streams,
    /// Whether it leads at once, and whether another sequencer may take over.
    pub role: Role,
    /// The times of leases, where `role` has any.
    #[schemars(with = "LeasingForm")]
    pub lease: Leasing,
    /// Where leases lie, if not in the store: one whose objects are locked does not take what is overwritten. Every sequencer over one
    /// store must be told the same.
    #[schemars(with = "Option<String>", example = "s3://leases")]
    pub lease_store: Option<StoreUrl>,
    /// Where clients reach it, for whoever reads its leases.
    #[schemars(with = "Option<String>", example = "https://sequencer.example:8433")]
    pub url: Option<PublicUrl>,
    /// Keys of earlier leaders, whose part of a log is accepted when a stream is taken over. The own key always is.
    #[serde(deserialize_with = "listed_keys")]
    #[schemars(with = "Vec<String>")]
    pub trusted_keys: Vec<VerifyingKey>,
    /// The bridge for which rows of `outbound_messages` are signed, of every stream that is led: a bridge takes those of its own stream alone. Without it
    /// none are read. Every key that ever led a stream must be in `trusted_keys`.
    #[schemars(with = "Option<BridgeForm>")]
    pub bridge: Option<Bridge>,
    /// Which nodes of its chain tell what the bridge has for the application. Without one, nobody brings that into the log.
    pub nodes: Nodes,
    /// How late the application may be with what the bridge told it. Sequencer and validators of a stream should have the same.
    pub deadlines: Deadlines,
    /// When a batch is cut.
    pub batch: Batching,
    /// Most requests that wait for one stream's owner; further ones are refused as busy.
    pub queue_max: usize,
    /// Most bytes of one stream that are accepted and not stored yet; further submissions are refused.
    pub journal_bytes_max: u64,
    /// Most messages of one stream that are accepted and not stored yet; further submissions are refused. After a restart all of them are stored before
    /// anything new is taken.
    pub journal_messages_max: u64,
    /// How long publishing what was accepted may take after the process was asked to end, in milliseconds.
    pub drain_ms: u64,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// What checks evidence of trusted execution environments. No file sets it; without one, none is accepted.
    #[serde(skip)]
    #[schemars(skip)]
    pub evidence: Option<Arc<dyn CheckEvidence>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)),
            http: ConnectionBounds::default(),
            store: "file:///var/lib/synddb/store".parse().expect("the constant is a store URL"),
            dir: PathBuf::from("/var/lib/synddb/sequencer"),
            credentials_file: PathBuf::from("/etc/synddb/credentials.toml"),
            tls: None,
            key_file: PathBuf::from("/var/lib/synddb/sequencer.key"),
            streams: Streams::Any,
            role: Role::Alone,
            lease: Leasing::default(),
            lease_store: None,
            url: None,
            trusted_keys: Vec::new(),
            bridge: None,
            nodes: Nodes::default(),
            deadlines: Deadlines::default(),
            batch: Batching::default(),
            queue_max: 256,
            journal_bytes_max: 1 << 30,
            journal_messages_max: 1 << 20,
            drain_ms: 10_000,
            telemetry: Telemetry::default(),
            evidence: None,
        }
    }
}

impl Config {
    pub(crate) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    /// Most of one stream that may be accepted and not stored.
    pub(crate) const fn journal_max(&self) -> Unstored {
        Unstored { messages: self.journal_messages_max, bytes: self.journal_bytes_max }
    }

    /// The keys whose epochs are accepted.
    pub(crate) fn trusted(&self, own: &SigningKey) -> TrustedKeys {
        TrustedKeys::pinned(self.trusted_keys.iter().copied().chain([*own.verifying_key()]))
    }
}

/// What a sequencer does beside others over one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It leads at once, and keeps no lease. Idle, it asks the store nothing.
    #[default]
    Alone,
    /// It leads at once, whoever led before, and keeps a lease, so that a standby sees when it does not live any more.
    Leader,
    /// It leads what nobody else does, and keeps a lease of it. Of several standbys exactly one leads.
    Standby,
}

/// Least time between two heartbeats, in milliseconds.
const HEARTBEAT_MS_MIN: u64 = 10;

/// The times of a lease. Every sequencer over one store should be told the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "LeasingForm", into = "LeasingForm")]
pub struct Leasing {
    heartbeat_ms: u64,
    patience_ms: u64,
}

/// Why two times are none of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a heartbeat takes at least {HEARTBEAT_MS_MIN} ms, and patience at least two heartbeats. heartbeat_ms=`{heartbeat_ms}` patience_ms=`{patience_ms}`"
)]
pub struct LeasingError {
    heartbeat_ms: u64,
    patience_ms: u64,
}

impl Leasing {
    /// A heartbeat every `heartbeat_ms`, and a lease that is taken when it has not changed for `patience_ms`.
    ///
    /// # Errors
    /// [`LeasingError`] for what would ask the store in a tight loop, or take a lease between two heartbeats.
    pub const fn new(heartbeat_ms: u64, patience_ms: u64) -> Result<Self, LeasingError> {
        if heartbeat_ms < HEARTBEAT_MS_MIN || patience_ms / 2 < heartbeat_ms {
            return Err(LeasingError { heartbeat_ms, patience_ms });
        }
        Ok(Self { heartbeat_ms, patience_ms })
    }

    /// The same, as slow as the store takes it: patience stays at least three heartbeats.
    pub(crate) fn at(self, pace: Duration) -> Self {
        let pace_ms = u64::try_from(pace.as_millis()).unwrap_or(u64::MAX);
        if self.heartbeat_ms >= pace_ms {
            return self;
        }
        Self { heartbeat_ms: pace_ms, patience_ms: self.patience_ms.max(pace_ms.saturating_mul(3)) }
    }

    pub(crate) const fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    pub(crate) const fn patience(&self) -> Duration {
        Duration::from_millis(self.patience_ms)
    }
}

/// The defaults lead to less than five seconds until somebody else leads, on a store that takes them.
impl Default for Leasing {
    fn default() -> Self {
        Self { heartbeat_ms: 500, patience_ms: 2000 }
    }
}

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct LeasingForm {
    /// Time between two heartbeats, in milliseconds.
    heartbeat_ms: u64,
    /// How long a lease may stay the same until it is taken, in milliseconds.
    patience_ms: u64,
}

impl Default for LeasingForm {
    fn default() -> Self {
        Leasing::default().into()
    }
}

impl TryFrom<LeasingForm> for Leasing {
    type Error = LeasingError;

    fn try_from(form: LeasingForm) -> Result<Self, LeasingError> {
        Self::new(form.heartbeat_ms, form.patience_ms)
    }
}

impl From<Leasing> for LeasingForm {
    fn from(leasing: Leasing) -> Self {
        Self { heartbeat_ms: leasing.heartbeat_ms, patience_ms: leasing.patience_ms }
    }
}

/// The contract that executes outbound messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BridgeForm", into = "BridgeForm")]
pub struct Bridge(Domain);

/// Why two values name no bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a bridge is a contract on a live chain, so neither is zero; write the chain's EIP-155 id and the address of the contract. chain_id=`{chain_id}` contract=`{contract}`"
)]
pub struct BridgeError {
    chain_id: u64,
    contract: Address,
}

impl Bridge {
    /// The bridge at an address on a chain.
    ///
    /// # Errors
    /// [`BridgeError`] where one of them is zero.
    pub fn new(chain_id: u64, contract: Address) -> Result<Self, BridgeError> {
        if chain_id == 0 || contract == Address::ZERO {
            return Err(BridgeError { chain_id, contract });
        }
        Ok(Self(Domain { chain_id, contract }))
    }

    /// What is signed for it is signed for this domain.
    pub const fn domain(&self) -> Domain {
        self.0
    }
}

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BridgeForm {
    /// The chain, by its EIP-155 id.
    chain_id: u64,
    /// The address of the contract.
    #[schemars(with = "String", example = "0x00000000000000000000000000000000000000b1")]
    contract: Address,
}

impl TryFrom<BridgeForm> for Bridge {
    type Error = BridgeError;

    fn try_from(BridgeForm { chain_id, contract }: BridgeForm) -> Result<Self, BridgeError> {
        Self::new(chain_id, contract)
    }
}

impl From<Bridge> for BridgeForm {
    fn from(Bridge(Domain { chain_id, contract }): Bridge) -> Self {
        Self { chain_id, contract }
    }
}

/// Longest URL that a sequencer tells of itself, in bytes.
pub(crate) const PUBLIC_URL_BYTES_MAX: usize = 1 << 10;

/// Where clients reach a sequencer: an `http` or `https` URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicUrl(String);

impl TryFrom<String> for PublicUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let has_scheme = text.starts_with("http://") || text.starts_with("https://");
        // What JSON escapes is no part of a URL, and would make a lease longer than its text.
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
        if has_scheme && is_plain && text.len() <= PUBLIC_URL_BYTES_MAX {
            return Ok(Self(text));
        }
        Err(format!("write an http or https URL of at most {PUBLIC_URL_BYTES_MAX} bytes"))
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

impl From<PublicUrl> for String {
    fn from(url: PublicUrl) -> Self {
        url.0
    }
}

/// A list of keys, which says how one is written to whoever gives one key alone, as in a variable of the environment.
fn listed_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<VerifyingKey>, D::Error> {
    struct Keys;
    impl<'de> Visitor<'de> for Keys {
        type Value = Vec<VerifyingKey>;

        fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
            to.write_str(r#"a list of public keys, as in `["0x02…"]`"#)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut keys: A) -> Result<Self::Value, A::Error> {
            std::iter::from_fn(|| keys.next_element().transpose()).collect()
        }
    }
    deserializer.deserialize_seq(Keys)
}

/// Which streams a sequencer may lead: `"any"`, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StreamsForm", into = "StreamsForm")]
pub enum Streams {
    /// Every stream that somebody with a credential for it begins.
    Any,
    /// These.
    Only(BTreeSet<StreamId>),
}

impl Streams {
    pub(crate) fn admit(&self, stream: StreamId) -> bool {
        match self {
            Self::Any => true,
            Self::Only(streams) => streams.contains(&stream),
        }
    }

    /// Those that are named, if any are.
    pub(crate) const fn named(&self) -> Option<&BTreeSet<StreamId>> {
        match self {
            Self::Any => None,
            Self::Only(streams) => Some(streams),
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum StreamsForm {
    Word(String),
    List(BTreeSet<StreamId>),
}

impl TryFrom<StreamsForm> for Streams {
    type Error = String;

    fn try_from(form: StreamsForm) -> Result<Self, String> {
        match form {
            StreamsForm::Word(word) if word == "any" => Ok(Self::Any),
            StreamsForm::Word(word) => Err(format!("write `any`, or a list of stream ids. found=`{word}`")),
            StreamsForm::List(streams) => Ok(Self::Only(streams)),
        }
    }
}

impl From<Streams> for StreamsForm {
    fn from(streams: Streams) -> Self {
        match streams {
            Streams::Any => Self::Word("any".to_owned()),
            Streams::Only(streams) => Self::List(streams),
        }
    }
}

/// When a batch is cut: at the first of these, once the batch before is stored. What is larger than the protocol allows means
/// as much as it allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Batching {
    /// Age of its first message, in milliseconds.
    pub age_ms: u64,
    /// Messages.
    pub messages_max: usize,
    /// Bytes before its outer compression. One message alone may be larger.
    pub bytes_max: usize,
}

impl Default for Batching {
    fn default() -> Self {
        Self { age_ms: 500, messages_max: BATCH_MESSAGES_MAX, bytes_max: BATCH_BYTES_MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_beats_no_faster_than_its_store_takes_it() {
        let usual = Leasing::default();
        assert_eq!(usual.at(Duration::ZERO), usual);
        let slow = usual.at(Duration::from_millis(1100));
        assert_eq!((slow.heartbeat_ms, slow.patience_ms), (1100, 3300));
        let patient = Leasing::new(2000, 9000).unwrap();
        assert_eq!(patient.at(Duration::from_millis(1100)), patient);
    }

    #[test]
    fn a_configuration_returns_from_its_text() {
        let key = SigningKey::from_bytes([7; 32]).unwrap();
        let stream = StreamId::from_bytes([0x5d; 32]);
        for streams in [Streams::Any, Streams::Only([stream].into())] {
            let config = Config { streams, trusted_keys: vec![*key.verifying_key()], ..Config::default() };
            let text = serde_json::to_string(&config).unwrap();
            let read: Config = serde_json::from_str(&text).unwrap();
            assert_eq!(read.streams, config.streams);
            assert_eq!(read.trusted_keys, config.trusted_keys);
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        for role in [Role::Alone, Role::Leader, Role::Standby] {
            let lease = Leasing::new(10, 20).unwrap();
            let url = Some(PublicUrl::try_from("https://sequencer.example:8433".to_owned()).unwrap());
            let text = serde_json::to_string(&Config { role, lease, url, ..Config::default() }).unwrap();
            let read: Config = serde_json::from_str(&text).unwrap();
            assert_eq!((read.role, read.lease), (role, lease));
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        for wrong in [
            r#"{"role": "follower"}"#,
            r#"{"lease": {"heartbeat_ms": 9}}"#,
            r#"{"lease": {"patience_ms": 999}}"#,
            r#"{"lease": {"heart": 1}}"#,
            r#"{"url": "sequencer.example"}"#,
            r#"{"url": "https://a\"b"}"#,
            r#"{"tls": {"certificate_file": "c"}}"#,
        ] {
            assert!(serde_json::from_str::<Config>(wrong).is_err(), "{wrong}");
        }
        let one_key = serde_json::from_str::<Config>(r#"{"trusted_keys": "0x02aa"}"#).unwrap_err();
        assert!(one_key.to_string().contains(r#"as in `["0x02…"]`"#), "{one_key}");
        assert!(serde_json::from_str::<Config>(r#"{"streams": "all"}"#).is_err());
        assert!(serde_json::from_str::<Config>(r#"{"batch": {"age": 1}}"#).is_err());
    }
}
