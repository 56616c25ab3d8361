//! Whom another service is believed to be certified by: certificates in PEM, in a file that only its owner may write.

use std::path::Path;

use reqwest::Certificate;

use crate::secret::{SecretError, read_unwritable};

/// Largest file, in bytes: many times what systems trust.
const AUTHORITY_BYTES_MAX: u64 = 256 << 10;

/// Why nobody is believed by a file.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// It cannot be read, or others may write it.
    #[error(transparent)]
    File(#[from] SecretError),
    /// What is in it is no certificate.
    #[error(transparent)]
    Malformed(#[from] reqwest::Error),
    /// Nothing in it is one.
    #[error("it holds no certificate in PEM")]
    Empty,
}

/// The certificates in a file: whoever is certified by one of them is believed, and nobody else.
///
/// # Errors
/// [`AuthorityError`]. Whether each is a certificate is seen no sooner than by who makes a client of them.
pub fn read(file: &Path) -> Result<Vec<Certificate>, AuthorityError> {
    let pem = read_unwritable(file, AUTHORITY_BYTES_MAX)?;
    let certificates = Certificate::from_pem_bundle(&pem)?;
    if certificates.is_empty() { Err(AuthorityError::Empty) } else { Ok(certificates) }
}
