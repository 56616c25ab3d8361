//! What a sequencer is, signs for and cuts, as flags.

use clap::Args;
use serde::Serialize;
use synddb_protocol::id::Address;

use crate::named;

/// What a sequencer is beside others over one store, as flags.
#[derive(Debug, Args)]
pub(super) struct RoleOverride {
    /// Stand by: lead what no other sequencer over this store leads, and take over when it falls silent. Give both
    /// copies of one key file, or name the other one's key with `--trusted-key`. Start both with it, and exactly one leads.
    #[arg(long, conflicts_with = "lease")]
    standby: bool,
    /// Lead at once, and keep a lease in the store, so that a standby sees when this sequencer lives no more.
    #[arg(long)]
    lease: bool,
}

impl RoleOverride {
    pub(super) const fn is_none(&self) -> bool {
        !self.standby && !self.lease
    }
}

impl Serialize for RoleOverride {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let role =
            if self.standby { synddb_sequencer::Role::Standby } else { synddb_sequencer::Role::Leader };
        role.serialize(serializer)
    }
}

/// The bridge of a sequencer, as flags.
#[derive(Debug, Args, Serialize)]
pub(super) struct BridgeOverrides {
    /// The chain of the bridge, by its EIP-155 id; goes with `--bridge`.
    #[arg(long = "bridge-chain-id", value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    chain_id: Option<u64>,
    /// The address of the bridge for which rows of `outbound_messages` are signed. Without one none are.
    #[arg(long = "bridge", value_name = "ADDRESS", value_parser = named::contract)]
    #[serde(skip_serializing_if = "Option::is_none")]
    contract: Option<Address>,
}

impl BridgeOverrides {
    pub(super) const fn is_empty(&self) -> bool {
        self.chain_id.is_none() && self.contract.is_none()
    }
}

/// When a batch is cut, as flags.
#[derive(Debug, Args, Serialize)]
pub(super) struct BatchOverrides {
    /// How old the oldest message of a batch becomes before it is stored, in milliseconds.
    #[arg(long = "batch-age-ms")]
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ms: Option<u64>,
}

impl BatchOverrides {
    pub(super) const fn is_empty(&self) -> bool {
        self.age_ms.is_none()
    }
}
