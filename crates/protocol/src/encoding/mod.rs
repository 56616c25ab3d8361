//! How values become bytes and text: canonical CBOR, bounded compression, hex.
//!
//! Knows nothing of what the values mean.

pub mod cbor;
pub(crate) mod frame;
pub(crate) mod text;

pub use cbor::{Canonical, DecodeError};
pub use text::ParseError;
