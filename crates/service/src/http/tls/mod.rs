//! TLS of a listener (RFC 8446 and 5246, by rustls): certificate, key and the authority of clients, from files that are read again when they
//! change.
//!
//! ```text
//! connection -> first byte -> handshake, all within HANDSHAKE_TIME_MAX -> HTTP, with the client's certificate
//!           \-> plain HTTP: told so, and closed
//! ```
//!
//! A client's certificate that the authority signed says who somebody is. Whether they may write is said by the file of credentials alone.

mod config;
mod handshake;

pub use config::{ClientCertificates, TlsConfig, TlsError};
pub use handshake::{PeerCertificate, Transport};
