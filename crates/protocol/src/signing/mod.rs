//! Signatures of the log: keys, and the one COSE form in which every signed kind travels.
//!
//! Knows nothing of where a key is kept, how it was registered, or which keys deserve trust.

mod eip712;
mod envelope;
mod key;
mod registered;
mod revoked;

pub(crate) use eip712::Struct;
pub use eip712::{Digest, Domain, RecoverableSignature};
pub(crate) use envelope::{Envelope, Header};
pub use envelope::{Kind, SignatureError};
pub use key::{SigningKey, TrustedKeys, VerifyingKey};
pub use registered::RegisteredSigner;
pub use revoked::{LastValid, Revocations};
