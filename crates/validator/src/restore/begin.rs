//! Where the replay begins. This is the one place that decides it.
//!
//! A replay begins at the first batch. Whoever lets one begin at a snapshot returns here what the log before it adds up to, as far as
//! somebody who is trusted signed it: [`Beginning`] has the checkpoint, the leaders and the signers. The snapshot itself is the first message
//! that is taken, or is handed to the rebuilding thread before it.

use synddb_protocol::id::StreamId;
use synddb_protocol::signing::TrustedKeys;

use super::target::Target;
use crate::once::Beginning;

/// Where the replay to `target` begins.
pub(super) fn of(_target: Target, stream: StreamId, keys: &TrustedKeys) -> Beginning {
    Beginning::of_log(stream, keys)
}
