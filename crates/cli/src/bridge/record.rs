//! The record of what is deployed on a chain: `deployments/<chainid>.json`, as the scripts of `contracts/` write it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use synddb_protocol::id::{Address, StreamId};

/// Largest record that is read, in bytes.
const RECORD_BYTES_MAX: u64 = 4 << 20;

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It cannot be read.
    #[error("cannot read what is deployed; name the file `deployments/<chainid>.json` with --deployments. file=`{}`", file.display())]
    Unread {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is none.
    #[error("the file is no record of what is deployed; deploy again, or name another with --deployments. file=`{}`", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It knows another stream.
    #[error("no bridge of this stream is recorded; check --stream and --deployments. file=`{}` stream=`{stream}`", file.display())]
    Stream {
        /// The file.
        file: PathBuf,
        /// The stream.
        stream: StreamId,
    },
    /// It lacks a contract.
    #[error("the record names no such contract; deploy again. contract=`{contract}`")]
    Contract {
        /// Which.
        contract: &'static str,
    },
}

/// What is deployed on one chain.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    chain_id: u64,
    streams: BTreeMap<StreamId, Deployed>,
}

/// What is deployed for one stream.
#[derive(Debug, Deserialize)]
struct Deployed {
    configuration: Configuration,
    contracts: BTreeMap<String, Contract>,
}

#[derive(Debug, Deserialize)]
struct Contract {
    #[serde(deserialize_with = "address")]
    address: Address,
}

#[derive(Debug, Deserialize)]
struct Configuration {
    verifiers: Vec<Verifier>,
    images: Vec<Image>,
}

#[derive(Debug, Deserialize)]
struct Verifier {
    #[serde(deserialize_with = "address")]
    verifier: Address,
}

/// An image that may hold keys.
#[derive(Debug, Deserialize)]
struct Image {
    #[serde(deserialize_with = "digest")]
    digest: [u8; 32],
    role: String,
}

/// An address, which scripts write in mixed case.
fn address<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
    String::deserialize(deserializer)?.to_ascii_lowercase().parse().map_err(serde::de::Error::custom)
}

fn digest<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(deserializer)?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.trim_start_matches("0x"), &mut bytes).map_err(serde::de::Error::custom)?;
    Ok(bytes)
}

/// Where the contracts of one stream are.
#[derive(Debug, Clone)]
pub(crate) struct Deployment {
    /// The chain.
    pub(crate) chain_id: u64,
    /// The bridge.
    pub(crate) bridge: Address,
    /// Which keys count.
    pub(crate) keys: Address,
    /// Where endorsed checkpoints are.
    pub(crate) registry: Address,
    /// The first verifier that is admitted.
    pub(crate) verifier: Option<Address>,
    /// The digests of the images that may hold keys, by role.
    images: Vec<(String, [u8; 32])>,
}

impl Deployment {
    /// Reads that of a stream out of a record.
    pub(crate) fn read(file: &Path, stream: StreamId) -> Result<Self, RecordError> {
        let unread = |source| RecordError::Unread { file: file.to_owned(), source };
        let bytes = fs::metadata(file).map_err(unread)?.len();
        if bytes > RECORD_BYTES_MAX {
            return Err(unread(io::Error::other("it is too large")));
        }
        let text = fs::read_to_string(file).map_err(unread)?;
        let record: Record = serde_json::from_str(&text)
            .map_err(|source| RecordError::Malformed { file: file.to_owned(), source })?;
        let missing = || RecordError::Stream { file: file.to_owned(), stream };
        let deployed = record.streams.get(&stream).ok_or_else(missing)?;
        let at = |contract| {
            let found = deployed.contracts.get(contract).ok_or(RecordError::Contract { contract })?;
            Ok::<_, RecordError>(found.address)
        };
        Ok(Self {
            chain_id: record.chain_id,
            bridge: at("Bridge")?,
            keys: at("TeeKeyManager")?,
            registry: at("CheckpointRegistry")?,
            verifier: deployed.configuration.verifiers.first().map(|admitted| admitted.verifier),
            images: deployed
                .configuration
                .images
                .iter()
                .map(|image| (image.role.clone(), image.digest))
                .collect(),
        })
    }

    /// The image that holds keys of a role.
    pub(crate) fn image(&self, role: &str) -> Option<[u8; 32]> {
        self.images.iter().find(|(held, _)| held == role).map(|(_, digest)| *digest)
    }
}
