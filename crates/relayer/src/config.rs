//! What a relayer is told: whose messages it brings where, whom it asks, and what it may pay.
//!
//! What parses is valid but for what nobody can guess: [`Config::told`] says what is missing. Secrets are references to files. The struct reads no
//! environment; its process does.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use synddb_chain::Finality;
use synddb_protocol::id::StreamId;
use synddb_service::http::{ConnectionBounds, TlsConfig};
use synddb_service::telemetry::Settings as Telemetry;

use crate::relay::Policy;

/// Where a relayer listens unless it is told otherwise.
pub const PORT: u16 = 8434;

/// Most validators that are asked.
pub(crate) const VALIDATORS_ASKED_MAX: usize = 256;

/// Shortest time between two looks, in milliseconds.
const POLL_MS_MIN: u64 = 10;

/// The configuration of a relayer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens. Port 0 takes a free one.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// How many may be connected.
    pub http: ConnectionBounds,
    /// How TLS is spoken; without it, it is not.
    pub tls: Option<TlsConfig>,
    /// The stream whose messages it brings. It must be set.
    #[schemars(
        with = "Option<String>",
        example = "0x0000000000000000000000000000000000000000000000000000000000000000"
    )]
    pub stream: Option<StreamId>,
    /// The URLs of nodes of the chain, of which the first that answers at the start is used. At least one must be set.
    #[schemars(example = ["https://rpc.example"])]
    pub rpc: Vec<String>,
    /// The record of what is deployed on the chain: `deployments/<chainid>.json`.
    pub deployments_file: PathBuf,
    /// The URL of the sequencer, which tells what is to be brought. It must be set. Never trusted.
    #[schemars(example = "https://sequencer.example:8433")]
    pub sequencer: Option<String>,
    /// The URLs of validators, which are asked for signatures: at least as many as are a quorum. Never trusted.
    #[schemars(example = ["https://validator.example:8080"])]
    pub validators: Vec<String>,
    /// The authority that signs the certificates of sequencer and validators, in PEM. Without it, those that the system trusts.
    #[schemars(example = "/etc/synddb/ca.pem")]
    pub ca_file: Option<PathBuf>,
    /// The file that holds the key of the account that pays: 32 bytes in hex. It is made when it is missing.
    pub account_file: PathBuf,
    /// The folder of its queue. One process owns it.
    pub dir: PathBuf,
    /// Time between two looks at sequencer and chain, in milliseconds; at least 10.
    pub poll_ms: u64,
    /// When what stands on the chain is believed to stay: `"finalized"`, or `{ depth = 12 }`, so many blocks later, on a chain that never says so.
    #[schemars(with = "String")]
    pub finality: Finality,
    /// What it may pay.
    pub fees: FeePolicy,
    /// When it tries again.
    pub retry: RetryPolicy,
    /// Whether endorsed checkpoints are brought too.
    pub checkpoints: bool,
    /// Shortest time between two checkpoints that it brings, in seconds.
    pub checkpoint_every_s: u64,
    /// Logs and traces.
    pub telemetry: Telemetry,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)),
            http: ConnectionBounds::default(),
            tls: None,
            stream: None,
            rpc: Vec::new(),
            deployments_file: PathBuf::from("/etc/synddb/deployments.json"),
            sequencer: None,
            validators: Vec::new(),
            ca_file: None,
            account_file: PathBuf::from("/var/lib/synddb/relayer.key"),
            dir: PathBuf::from("/var/lib/synddb/relayer"),
            poll_ms: 2000,
            finality: Finality::Finalized,
            fees: FeePolicy::default(),
            retry: RetryPolicy::default(),
            checkpoints: false,
            checkpoint_every_s: 3600,
            telemetry: Telemetry::default(),
        }
    }
}

/// What a transaction may cost. One that would cost more is held, and looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FeePolicy {
    /// Most gas of one transaction.
    pub gas_max: u64,
    /// What a transaction is given beyond what it was estimated to take, in percent.
    pub gas_margin_percent: u64,
    /// Most that is paid for a unit of gas, in wei, however often a stuck transaction is sent again for more.
    pub fee_per_gas_wei_max: u64,
}

impl FeePolicy {
    /// The limit of a transaction that is estimated to take so much gas.
    pub(crate) const fn limited(&self, gas: u64) -> u64 {
        let limit = gas.saturating_add(gas.saturating_mul(self.gas_margin_percent) / 100);
        if limit < self.gas_max { limit } else { self.gas_max }
    }
}

impl Default for FeePolicy {
    fn default() -> Self {
        Self { gas_max: 15_000_000, gas_margin_percent: 20, fee_per_gas_wei_max: 200_000_000_000 }
    }
}

/// When something that did not go is tried again: pauses double from the first to the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryPolicy {
    /// Most transactions for one message. One that failed that often is left as it is, for whoever brings it.
    pub attempts_max: u32,
    /// The first pause, in milliseconds.
    pub pause_ms: u64,
    /// The longest pause, in milliseconds.
    pub pause_ms_max: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts_max: 5, pause_ms: 2000, pause_ms_max: 600_000 }
    }
}

/// Why a configuration cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    /// Something that nobody can guess is not said.
    #[error("the configuration lacks what nobody can guess; set it. key=`{key}`")]
    Missing {
        /// What.
        key: &'static str,
    },
    /// There are more validators than can be asked.
    #[error(
        "more validators than are asked; name fewer. validators=`{given}` limit=`{VALIDATORS_ASKED_MAX}`"
    )]
    TooManyValidators {
        /// How many.
        given: usize,
    },
    /// A URL is none that can be asked.
    #[error("this is no http or https URL; one of `rpc` alone may have a query. key=`{key}` place=`{place}`")]
    Url {
        /// Where it stands. It is not shown: keys stand in URLs.
        key: &'static str,
        /// Which of several it is, counted from 0.
        place: usize,
    },
    /// There would be hardly a pause between two looks.
    #[error("time between two looks is too short. poll_ms=`{given}` min=`{POLL_MS_MIN}`")]
    Poll {
        /// What is asked for.
        given: u64,
    },
}

/// What nobody can guess, once it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) stream: StreamId,
    pub(crate) sequencer: String,
}

impl Config {
    /// What must be set.
    ///
    /// # Errors
    /// [`ConfigProblem`], which names the key.
    pub(crate) fn told(&self) -> Result<Told, ConfigProblem> {
        let missing = |key| ConfigProblem::Missing { key };
        let stream = self.stream.ok_or_else(|| missing("stream"))?;
        let sequencer = self.sequencer.clone().ok_or_else(|| missing("sequencer"))?;
        if self.rpc.is_empty() {
            return Err(missing("rpc"));
        }
        if self.validators.is_empty() {
            return Err(missing("validators"));
        }
        if self.validators.len() > VALIDATORS_ASKED_MAX {
            return Err(ConfigProblem::TooManyValidators { given: self.validators.len() });
        }
        if self.poll_ms < POLL_MS_MIN {
            return Err(ConfigProblem::Poll { given: self.poll_ms });
        }
        Ok(Told { stream, sequencer })
    }

    pub(crate) const fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }

    pub(crate) const fn policy(&self) -> Policy {
        Policy { fees: self.fees, retry: self.retry, poll_ms: self.poll_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_returns_from_its_text() {
        let finalities = [Finality::Finalized, Finality::Depth(12)];
        for finality in finalities {
            let config =
                Config { finality, stream: Some(StreamId::from_bytes([7; 32])), ..Config::default() };
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
        }
        for wrong in [
            r#"{"finality": "soon"}"#,
            r#"{"fees": {"gas": 1}}"#,
            r#"{"retry": {"attempts": 1}}"#,
            r#"{"rpc": "https://rpc.example"}"#,
        ] {
            assert!(serde_json::from_str::<Config>(wrong).is_err(), "{wrong}");
        }
    }

    /// Gas that a bridge uses around the call of a message, signatures and modules among it.
    const AROUND: u64 = 1_000_000;

    #[test]
    fn the_largest_message_is_paid_for_unless_it_is_told_otherwise() {
        // All but a 64th of what is left is given to the call; a byte of call data that is not 0 takes 16 gas.
        let call = synddb_sqlite::messages::GAS_LIMIT_MAX * 64 / 63;
        let data = u64::try_from(synddb_sqlite::messages::PAYLOAD_BYTES_MAX).unwrap() * 16;
        let largest = call + data + AROUND;
        let fees = FeePolicy::default();
        assert!(fees.limited(largest) > largest, "{largest}");
    }

    #[test]
    fn what_nobody_can_guess_is_asked_for_by_name() {
        let mut config = Config::default();
        let lacks = |config: &Config| match config.told() {
            Err(ConfigProblem::Missing { key }) => key,
            told => panic!("{told:?}"),
        };
        assert_eq!(lacks(&config), "stream");
        config.stream = Some(StreamId::from_bytes([7; 32]));
        assert_eq!(lacks(&config), "sequencer");
        config.sequencer = Some("http://localhost".to_owned());
        assert_eq!(lacks(&config), "rpc");
        config.rpc = vec!["http://localhost".to_owned()];
        assert_eq!(lacks(&config), "validators");
        config.validators = vec!["http://localhost".to_owned()];
        assert!(config.told().is_ok());
        config.poll_ms = POLL_MS_MIN - 1;
        assert_eq!(config.told(), Err(ConfigProblem::Poll { given: POLL_MS_MIN - 1 }));
    }
}
