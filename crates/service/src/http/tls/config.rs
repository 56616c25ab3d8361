//! What a listener shows to clients, and whom it asks for a certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reloaded::Source;
use crate::secret::{SecretError, read_secret, read_unwritable};

/// Largest file of certificates, in bytes.
const CERTIFICATES_BYTES_MAX: u64 = 256 << 10;

/// The protocol that is spoken above TLS.
const ALPN: &[u8] = b"http/1.1";

/// How a listener speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Form", into = "Form")]
pub struct TlsConfig {
    /// Its certificate in PEM, with those between it and an authority that clients trust.
    pub certificate_file: PathBuf,
    /// The key of the certificate in PEM: a secret.
    pub key_file: PathBuf,
    /// Which clients show a certificate.
    pub clients: ClientCertificates,
}

/// Which clients show a certificate. One that does must be signed by the authority, in PEM, and be valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Nobody is asked for one.
    Unasked,
    /// Who has one shows it.
    Optional {
        /// The file of the authority.
        ca_file: PathBuf,
    },
    /// Without one nobody is served.
    Required {
        /// The file of the authority.
        ca_file: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Demand {
    /// Without a certificate nobody is served.
    Required,
    /// Who has a certificate shows it.
    Optional,
}

/// How TLS is spoken with clients.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Form {
    /// The certificate in PEM, with those between it and an authority that clients trust. It is read again when it changes, as are the files below.
    #[schemars(example = "/etc/synddb/server.pem")]
    certificate_file: PathBuf,
    /// The key of the certificate in PEM: a secret.
    #[schemars(example = "/etc/synddb/server.key")]
    key_file: PathBuf,
    /// The authority that signs the certificates of clients, in PEM. Without it nobody is asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/etc/synddb/clients-ca.pem")]
    client_ca_file: Option<PathBuf>,
    /// Which clients show a certificate, where there is an authority: all of them unless it says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"optional")]
    client_certificates: Option<Demand>,
}

impl TryFrom<Form> for TlsConfig {
    type Error = &'static str;

    fn try_from(form: Form) -> Result<Self, &'static str> {
        let clients = match (form.client_ca_file, form.client_certificates) {
            (None, None) => ClientCertificates::Unasked,
            (None, Some(_)) => {
                return Err("`client_certificates` needs `client_ca_file`, the authority that signs them");
            }
            (Some(ca_file), Some(Demand::Optional)) => ClientCertificates::Optional { ca_file },
            (Some(ca_file), Some(Demand::Required) | None) => ClientCertificates::Required { ca_file },
        };
        Ok(Self { certificate_file: form.certificate_file, key_file: form.key_file, clients })
    }
}

impl From<TlsConfig> for Form {
    fn from(config: TlsConfig) -> Self {
        let (client_ca_file, client_certificates) = match config.clients {
            ClientCertificates::Unasked => (None, None),
            ClientCertificates::Optional { ca_file } => (Some(ca_file), Some(Demand::Optional)),
            ClientCertificates::Required { ca_file } => (Some(ca_file), Some(Demand::Required)),
        };
        let TlsConfig { certificate_file, key_file, .. } = config;
        Self { certificate_file, key_file, client_ca_file, client_certificates }
    }
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error(transparent)]
    Unusable(#[from] SecretError),
    /// A file does not hold what it should. Nothing of it is repeated.
    #[error("the file holds no {expected} in PEM. file=`{}`", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// Certificate and key do not go together.
    #[error(
        "certificate and key cannot be used; are they of one pair? certificate_file=`{}` key_file=`{}`",
        certificate_file.display(),
        key_file.display()
    )]
    Unfit {
        /// The certificate.
        certificate_file: PathBuf,
        /// The key.
        key_file: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The authority of clients is none.
    #[error("the authority of clients cannot be used. client_ca_file=`{}`", file.display())]
    Authority {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: VerifierBuilderError,
    },
}

/// The files of one listener.
pub(super) struct TlsFiles(pub(super) TlsConfig);

impl Source for TlsFiles {
    type Value = ServerConfig;
    type Error = TlsError;
    const NAME: &'static str = "tls";

    fn read(&self) -> Result<Vec<u8>, TlsError> {
        let TlsConfig { certificate_file, key_file, clients } = &self.0;
        let mut parts = vec![read_unwritable(certificate_file, CERTIFICATES_BYTES_MAX)?];
        parts.push(read_secret(key_file)?.into_bytes());
        match clients {
            ClientCertificates::Unasked => {}
            ClientCertificates::Optional { ca_file } | ClientCertificates::Required { ca_file } => {
                parts.push(read_unwritable(ca_file, CERTIFICATES_BYTES_MAX)?);
            }
        }
        // Each behind its length, so that the parts are found again.
        let framed = parts.into_iter().map(|part| [&(part.len() as u64).to_le_bytes()[..], &part].concat());
        Ok(framed.collect::<Vec<_>>().concat())
    }

    fn parse(&self, content: &[u8]) -> Result<ServerConfig, TlsError> {
        let TlsConfig { certificate_file, key_file, clients } = &self.0;
        let mut rest = content;
        let chain = certificates(certificate_file, part(&mut rest))?;
        let expected = "private key";
        let key = PrivateKeyDer::from_pem_slice(part(&mut rest))
            .map_err(|_| TlsError::Malformed { file: key_file.clone(), expected })?;
        let provider = Arc::new(ring::default_provider());
        let unfit = |source| TlsError::Unfit {
            certificate_file: certificate_file.clone(),
            key_file: key_file.clone(),
            source,
        };
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(&versions).map_err(unfit)?;
        let builder = match clients {
            ClientCertificates::Unasked => builder.with_no_client_auth(),
            ClientCertificates::Optional { ca_file } | ClientCertificates::Required { ca_file } => {
                let authority = |source| TlsError::Authority { file: ca_file.clone(), source };
                let roots = Arc::new(roots(ca_file, part(&mut rest))?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = match clients {
                    ClientCertificates::Optional { .. } => verifier.allow_unauthenticated(),
                    ClientCertificates::Unasked | ClientCertificates::Required { .. } => verifier,
                };
                builder.with_client_cert_verifier(verifier.build().map_err(authority)?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(unfit)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A session that goes on would go by a certificate that was checked long ago.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// The next part of what was read.
fn part<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let Some((length, behind)) = rest.split_first_chunk() else { return &[] };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let (part, behind) = behind.split_at(length.min(behind.len()));
    *rest = behind;
    part
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.ok().filter(|read| !read.is_empty()).ok_or_else(|| no_certificate(file))
}

fn roots(file: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, pem)? {
        roots.add(certificate).map_err(|_| no_certificate(file))?;
    }
    Ok(roots)
}

fn no_certificate(file: &Path) -> TlsError {
    TlsError::Malformed { file: file.to_owned(), expected: "certificate" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_returns_from_its_text_and_says_what_it_lacks() {
        let read = |text: &str| toml::from_str::<TlsConfig>(text);
        let pair = "certificate_file = \"c\"\nkey_file = \"k\"\n";
        for (more, clients) in [
            ("", ClientCertificates::Unasked),
            ("client_ca_file = \"a\"\n", ClientCertificates::Required { ca_file: "a".into() }),
            (
                "client_ca_file = \"a\"\nclient_certificates = \"optional\"\n",
                ClientCertificates::Optional { ca_file: "a".into() },
            ),
        ] {
            let config = read(&format!("{pair}{more}")).unwrap();
            assert_eq!(config.clients, clients);
            assert_eq!(read(&toml::to_string(&config).unwrap()).unwrap(), config);
        }
        for (wrong, why) in [
            ("certificate_file = \"c\"\n".to_owned(), "key_file"),
            (format!("{pair}client_certificates = \"required\"\n"), "client_ca_file"),
            (format!("{pair}client_ca_file = \"a\"\nclient_certificates = \"no\"\n"), "no"),
            (format!("{pair}ca_file = \"a\"\n"), "ca_file"),
        ] {
            let refused = read(&wrong).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
