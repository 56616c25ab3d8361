//! What an agent shows sequencers, and whom it believes to be one: files that are read again when they are refused.

use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::Url;
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

/// Those of these URLs that lead to other machines without TLS, up to the path and without what they say of a user.
pub(super) fn in_plain(urls: &[String]) -> Vec<String> {
    let urls = urls.iter().filter_map(|url| Url::parse(url).ok());
    let in_plain = urls.filter(|url| url.scheme() == "http" && !url.host_str().is_some_and(is_this_machine));
    in_plain.map(|url| url.origin().ascii_serialization()).collect()
}

/// Whether a host, as URLs name it, is the loopback interface.
fn is_this_machine(host: &str) -> bool {
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_without_tls_is_seen_where_others_are() {
        let found = |urls: &[&str]| in_plain(&urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>());
        let here = ["http://127.0.0.1:8433", "http://127.8.7.6", "http://[::1]:1/", "http://localhost:8433"];
        assert!(found(&here).is_empty());
        let there =
            ["http://10.0.0.1:8433/", "https://b.example", "http://user:word@a.example", "http://[::2]"];
        assert_eq!(found(&there), ["http://10.0.0.1:8433", "http://a.example", "http://[::2]"]);
        assert_eq!(found(&["http://127.0.0.1.example", "http://localhost.example"]).len(), 2);
    }
}
