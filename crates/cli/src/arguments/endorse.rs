//! What the command line says of endorsements.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use synddb_protocol::id::Address;

use super::nodes::NodesOverrides;
use crate::named;

/// The key that endorses, and for which contracts.
#[derive(Debug, Args)]
pub(crate) struct EndorseOptions {
    /// The file of the key to endorse with; it is made when it is missing. Without it nothing is endorsed, unless the configuration says so.
    #[arg(long, value_name = "FILE")]
    endorse_key: Option<PathBuf>,
    /// The chain, by its EIP-155 id, for whose contracts it endorses.
    #[arg(long, value_name = "ID", requires = "registry")]
    chain_id: Option<u64>,
    /// The checkpoint registry on that chain.
    #[arg(long, value_name = "ADDRESS", value_parser = named::contract, requires = "chain_id")]
    registry: Option<Address>,
    /// The bridge on that chain: outbound messages are signed for it.
    #[arg(long, value_name = "ADDRESS", value_parser = named::contract, requires = "chain_id")]
    bridge: Option<Address>,
    #[command(flatten)]
    nodes: NodesOverrides,
}

/// What the command line sets of endorsements.
#[derive(Debug, Serialize)]
pub(crate) struct EndorseOverrides<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_file: Option<&'a PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chain_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registry: Option<Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bridge: Option<Address>,
    #[serde(skip_serializing_if = "NodesOverrides::is_empty")]
    nodes: &'a NodesOverrides,
}

impl EndorseOptions {
    pub(crate) fn overrides(&self) -> Option<EndorseOverrides<'_>> {
        let Self { endorse_key, chain_id, registry, bridge, nodes } = self;
        if endorse_key.is_none() && chain_id.is_none() && nodes.is_empty() {
            return None;
        }
        let on = endorse_key.as_ref().map(|_| true);
        let (chain_id, registry, bridge) = (*chain_id, *registry, *bridge);
        Some(EndorseOverrides { on, key_file: endorse_key.as_ref(), chain_id, registry, bridge, nodes })
    }
}
