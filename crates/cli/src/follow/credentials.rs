//! What an agent shows sequencers, and whom it believes to be one: files that are read again when they are refused.

use std::path::PathBuf;

use synddb_agent::{AgentError, ClientFiles, Tls, TlsFiles};
use synddb_service::secret::{SecretError, Token, read_secret, read_unwritable};

use crate::exit::CommandError;

/// Largest file of certificates, in bytes.
const CERTIFICATES_BYTES_MAX: u64 = 256 << 10;

/// The token in a file, which is read again when it is refused.
pub(super) fn token(file: PathBuf) -> Result<synddb_agent::Token, SecretError> {
    synddb_agent::Token::read_by(move || Token::read(&file).map(|token| token.expose().to_owned()))
}

/// TLS with the authority of the sequencers and the certificate and key of this agent, which are read again when a sequencer cannot be spoken to.
pub(super) fn tls(
    authority: Option<PathBuf>,
    client: Option<(PathBuf, PathBuf)>,
) -> Result<Tls, CommandError> {
    if authority.is_none() && client.is_none() {
        return Ok(Tls::default());
    }
    let read = move || -> Result<TlsFiles, SecretError> {
        let authority =
            authority.as_ref().map(|file| read_unwritable(file, CERTIFICATES_BYTES_MAX)).transpose()?;
        let client = match &client {
            Some((certificate, key)) => Some(ClientFiles {
                certificate: read_unwritable(certificate, CERTIFICATES_BYTES_MAX)?,
                key: read_secret(key)?.into_bytes(),
            }),
            None => None,
        };
        Ok(TlsFiles { authority, client })
    };
    Ok(Tls::read_by(read).map_err(AgentError::from)?)
}
