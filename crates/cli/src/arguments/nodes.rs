//! The nodes of the bridge's chain, as flags.

use clap::Args;
use serde::Serialize;

/// Who tells what the bridge has for the application.
#[derive(Debug, Args, Serialize)]
pub(super) struct NodesOverrides {
    /// A node of the bridge's chain, which tells what the bridge has for the application; several may be named, and all must say the same. A sequencer brings that
    /// into the log, and a validator compares it with the log; without a node they do not. Goes before `nodes.rpc`, or `endorse.nodes.rpc`, of the file.
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rpc: Vec<String>,
}

impl NodesOverrides {
    pub(super) const fn is_empty(&self) -> bool {
        self.rpc.is_empty()
    }
}
