//! Endorsements: this validator's signature over checkpoints that it has verified, and whose state it has computed.
//!
//! ```text
//! replica/owner.rs --a batch is committed, and no violation is open--> due.rs --> endorser.rs --> the store, then shown.rs, http.rs
//!                                                                                    ^
//!                                      highest.rs, noted.rs: how far this key has gone, by the store and by the disk
//! outbound.rs, messages.rs: what is signed for a bridge of what an endorsed checkpoint covers, and what is answered of it
//! inbox/: whether what the checkpoint covers of inbound messages is what the chain has, and whether the application is in time with them
//! gathered.rs: who else has endorsed the same, for whoever waits for a quorum
//! ```
//!
//! What must stay true:
//!
//! - One digest for one place, ever, whenever the process is killed (`crates/cli/tests/it/ruled/kills.rs`).
//! - Nothing at or behind an open violation (`tests/it/ruled/refused.rs`), and nothing below what this key has endorsed before (`tests/it/ruled/endorsed.rs`).
//! - One digest for one outbound message, ever, and none of a row that was changed since (`tests/it/ruled/outbound.rs`).
//! - No inbound message that the chain has not so (`tests/it/ruled/inbox.rs`).
//! - What did not compute its history vouches for nothing alone (`tests/it/ruled/started.rs`).

mod due;
mod endorser;
pub mod gathered;
mod highest;
mod http;
mod inbox;
mod messages;
mod noted;
mod outbound;
mod shown;

use std::sync::Arc;

use synddb_protocol::signing::RegisteredSigner;
use synddb_service::secret::{SecretError, signing_key};

pub(crate) use self::due::{Clean, Due};
pub(crate) use self::endorser::Endorser;
pub(crate) use self::http::routes;
pub(crate) use self::messages::routes as outbound_routes;
pub(crate) use self::shown::Shown;
use crate::config::EndorseConfig;

/// The key that endorses; made when it is missing. `None` where nothing is endorsed. As long as nothing registers keys it is a development signer.
///
/// # Errors
/// [`SecretError`] when it cannot be used.
pub(crate) fn signer(config: &EndorseConfig) -> Result<Option<Arc<RegisteredSigner>>, SecretError> {
    if !config.on {
        return Ok(None);
    }
    let key = signing_key(&config.key_file)?;
    Ok(Some(Arc::new(RegisteredSigner::unattested(key).following(config.predecessor))))
}
