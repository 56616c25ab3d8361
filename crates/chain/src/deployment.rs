//! Where the contracts of a stream are: the record that deploying wrote (`contracts/deployments/<chainid>.json`).

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use synddb_protocol::id::{Address, StreamId};
use synddb_protocol::signing::Domain;

use crate::contracts::Role;

/// Largest record, in bytes.
const RECORD_BYTES_MAX: u64 = 16 << 20;

/// The contracts of one stream on one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// The chain, by its EIP-155 id.
    pub chain_id: u64,
    /// The stream.
    pub stream: StreamId,
    /// A block before which nothing of it was there.
    pub block: u64,
    /// The bridge.
    pub bridge: Address,
    /// Which keys count.
    pub key_manager: Address,
    /// Where endorsed checkpoints are recorded.
    pub checkpoint_registry: Address,
    /// The contracts that admit keys.
    pub verifiers: Vec<Address>,
    /// The images whose keys are admitted, with what these may sign.
    pub images: Vec<Image>,
}

/// An image whose keys are admitted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Image {
    /// The digest of the container image.
    #[serde(deserialize_with = "digest")]
    pub digest: [u8; 32],
    /// What its keys may sign.
    pub role: Role,
}

/// Why there is no deployment to read.
#[derive(Debug, thiserror::Error)]
pub enum DeploymentError {
    /// The record cannot be read.
    #[error("cannot read the record of what is deployed; deploy first, or name the file that deploying wrote. file=`{}`", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is no record.
    #[error("the file is no record of what is deployed; name the one that `contracts/script/Deploy.s.sol` wrote. file=`{}`", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// It is larger than any record is.
    #[error("the file is larger than {RECORD_BYTES_MAX} bytes, and no record of what is deployed. file=`{}`", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// The stream has no contracts there.
    #[error("nothing is deployed for the stream on chain {chain_id}; deploy it, or name another record. stream=`{stream}` file=`{}`", file.display())]
    Unknown {
        /// The stream.
        stream: StreamId,
        /// The chain.
        chain_id: u64,
        /// The file.
        file: PathBuf,
    },
    /// One of its contracts is not named.
    #[error("the record names no contract `{contract}`; deploy again. file=`{}`", file.display())]
    Lacking {
        /// The contract.
        contract: &'static str,
        /// The file.
        file: PathBuf,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    chain_id: u64,
    streams: BTreeMap<StreamId, OfStream>,
}

#[derive(Deserialize)]
struct OfStream {
    block: u64,
    configuration: Configuration,
    contracts: BTreeMap<String, Contract>,
}

#[derive(Deserialize)]
struct Configuration {
    verifiers: Vec<Verifier>,
    images: Vec<Image>,
}

#[derive(Deserialize)]
struct Verifier {
    #[serde(deserialize_with = "checksummed")]
    verifier: Address,
}

#[derive(Deserialize)]
struct Contract {
    #[serde(deserialize_with = "checksummed")]
    address: Address,
}

/// Addresses stand there in mixed case, which is their checksum.
fn checksummed<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.to_ascii_lowercase().parse().map_err(serde::de::Error::custom)
}

fn digest<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(deserializer)?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.trim_start_matches("0x"), &mut bytes).map_err(serde::de::Error::custom)?;
    Ok(bytes)
}

impl Deployment {
    /// Reads the record of a chain.
    ///
    /// # Errors
    /// [`DeploymentError`].
    pub fn read(file: &Path, stream: StreamId) -> Result<Self, DeploymentError> {
        let unreadable = |source| DeploymentError::Unreadable { file: file.to_owned(), source };
        let mut text = Vec::new();
        let opened = std::fs::File::open(file).map_err(unreadable)?;
        opened.take(RECORD_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
        if text.len() as u64 > RECORD_BYTES_MAX {
            return Err(DeploymentError::TooLarge { file: file.to_owned() });
        }
        let malformed = |source| DeploymentError::Malformed { file: file.to_owned(), source };
        let mut record: Record = serde_json::from_slice(&text).map_err(malformed)?;
        let chain_id = record.chain_id;
        let unknown = || DeploymentError::Unknown { stream, chain_id, file: file.to_owned() };
        let of = record.streams.remove(&stream).ok_or_else(unknown)?;
        let address = |contract: &'static str| {
            let found = of.contracts.get(contract).map(|found| found.address);
            found.ok_or_else(|| DeploymentError::Lacking { contract, file: file.to_owned() })
        };
        Ok(Self {
            chain_id,
            stream,
            block: of.block,
            bridge: address("Bridge")?,
            key_manager: address("TeeKeyManager")?,
            checkpoint_registry: address("CheckpointRegistry")?,
            verifiers: of.configuration.verifiers.iter().map(|admitted| admitted.verifier).collect(),
            images: of.configuration.images,
        })
    }

    /// The image that holds keys of a role.
    pub fn image(&self, role: Role) -> Option<&Image> {
        self.images.iter().find(|image| image.role == role)
    }

    /// What outbound messages are signed for.
    pub const fn bridge_domain(&self) -> Domain {
        Domain { chain_id: self.chain_id, contract: self.bridge }
    }

    /// What endorsements are signed for.
    pub const fn checkpoint_domain(&self) -> Domain {
        Domain { chain_id: self.chain_id, contract: self.checkpoint_registry }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_or_says_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("31337.json");
        let stream = StreamId::from_bytes([7; 32]);
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Deployment::read(&file, stream)
        };
        assert!(matches!(Deployment::read(&file, stream), Err(DeploymentError::Unreadable { .. })));
        assert!(matches!(read("{"), Err(DeploymentError::Malformed { .. })));
        let none = r#"{"chainId": 31337, "streams": {}}"#;
        assert!(matches!(read(none), Err(DeploymentError::Unknown { chain_id: 31337, .. })));
        let contract = |byte: &str| format!(r#"{{"address": "0x{}", "codeHash": "0x00"}}"#, byte.repeat(20));
        let with = |contracts: String| {
            let configuration = format!(
                r#"{{"verifiers": [{{"verifier": "0x{}", "codeHash": "0x00"}}], "images": [{{"digest": "0x{}", "role": "validator"}}]}}"#,
                "Dd".repeat(20),
                "0e".repeat(32)
            );
            format!(
                r#"{{"chainId": 31337, "streams": {{"{stream}": {{"block": 5, "configuration": {configuration}, "contracts": {{{contracts}}}}}}}}}"#
            )
        };
        let bridge = format!(r#""Bridge": {}"#, contract("Aa"));
        assert!(matches!(
            read(&with(bridge.clone())),
            Err(DeploymentError::Lacking { contract: "TeeKeyManager", .. })
        ));
        let (keys, registry) = (contract("bb"), contract("cc"));
        let whole = format!(r#"{bridge}, "TeeKeyManager": {keys}, "CheckpointRegistry": {registry}"#);
        let read = read(&with(whole)).unwrap();
        assert_eq!(read.bridge, Address::from_bytes([0xaa; 20]));
        assert_eq!(
            (read.image(Role::Sequencer), read.image(Role::Validator).map(|image| image.digest)),
            (None, Some([0x0e; 32]))
        );
        assert_eq!((read.block, read.verifiers), (5, vec![Address::from_bytes([0xdd; 20])]));
    }
}
