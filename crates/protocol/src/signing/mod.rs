//! Signatures of the log: keys, and the one COSE form in which every signed kind travels.
//!
//! Knows nothing of where a key is kept, how it was registered, or which keys deserve trust.

mod envelope;
mod key;
mod revoked;

pub(crate) use envelope::{Envelope, Header};
pub use envelope::{Kind, SignatureError};
pub use key::{SigningKey, TrustedKeys, VerifyingKey};
pub use revoked::{LastValid, Revocations};
