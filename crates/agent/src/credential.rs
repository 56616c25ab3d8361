//! What sequencers know the agent by, and whom it takes for one: a token, TLS, evidence.
//!
//! Each comes from a function that whoever starts the agent gives, since a library reads no secrets by itself. It is asked again when a
//! sequencer refuses what it gave, or may have: so a token or a certificate is exchanged without a restart. Nothing of it is ever printed.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use synddb_protocol::http::EVIDENCE_HEADER_BYTES_MAX;
use ureq::http::HeaderValue;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// Why something could not be read by who gives it.
pub type ReadError = Box<dyn Error + Send + Sync>;

type Read<T> = Box<dyn Fn() -> Result<T, ReadError> + Send + Sync>;

/// A bearer token (RFC 6750). It is never printed. Clones are exchanged together.
#[derive(Clone)]
pub struct Token(Arc<Held>);

struct Held {
    text: RwLock<Arc<str>>,
    again: Option<Read<String>>,
}

impl Token {
    /// The token that `read` gives: now, and again whenever a sequencer refuses the one before, or breaks off while something is sent with it.
    ///
    /// # Errors
    /// What `read` says now. Later the token stays as it is.
    pub fn read_by<E: Into<ReadError>>(
        read: impl Fn() -> Result<String, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        let text = RwLock::new(read()?.into());
        let again: Read<String> = Box::new(move || read().map_err(Into::into));
        Ok(Self(Arc::new(Held { text, again: Some(again) })))
    }

    /// The token, to send.
    pub(crate) fn expose(&self) -> Arc<str> {
        // It is exchanged at once or not at all, so whoever panicked left it whole.
        Arc::clone(&self.0.text.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads it again, since `before` may have been refused. Whether it is another one now.
    pub(crate) fn renew(&self, before: &str) -> bool {
        if *self.expose() != *before {
            return true;
        }
        let Some(again) = &self.0.again else { return false };
        match again() {
            Ok(text) if text != before => {
                *self.0.text.write().unwrap_or_else(PoisonError::into_inner) = text.into();
                tracing::info!("the token has changed, and was read again");
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(%error, "the token cannot be read again; what was read last counts");
                false
            }
        }
    }
}

impl From<String> for Token {
    fn from(token: String) -> Self {
        Self(Arc::new(Held { text: RwLock::new(token.into()), again: None }))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// What TLS needs that is no default, in PEM.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// The authorities that may have signed a sequencer's certificate; without it, those of the web.
    pub authority: Option<Vec<u8>>,
    /// What the agent shows to sequencers that ask: its certificate, with those up to an authority, and its key.
    pub client: Option<ClientFiles>,
}

/// A certificate and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// The certificate.
    pub certificate: Vec<u8>,
    /// The key: a secret.
    pub key: Vec<u8>,
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (has_authority, has_client) = (self.authority.is_some(), self.client.is_some());
        f.debug_struct("TlsFiles").field("authority", &has_authority).field("client", &has_client).finish()
    }
}

impl fmt::Debug for ClientFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientFiles")
    }
}

/// Why TLS cannot be spoken as it should be.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read what TLS needs")]
    Read(#[source] ReadError),
    /// A file does not hold what it should. Nothing of it is repeated.
    #[error("what TLS needs is malformed; write it in PEM. expected=`{expected}`")]
    Malformed {
        /// What it should hold.
        expected: &'static str,
    },
    /// Certificate and key do not go together.
    #[error("the client's certificate and key cannot be used; are they of one pair?")]
    Unfit(#[source] rustls::Error),
}

/// How the agent speaks TLS. The default believes the authorities of the web, and shows no certificate.
#[derive(Clone, Default)]
pub struct Tls(Option<Arc<Read<TlsFiles>>>);

impl Tls {
    /// TLS with what `read` gives: now, and again whenever a sequencer cannot be spoken to or refuses.
    ///
    /// # Errors
    /// [`TlsError`]: what can be refused at the start is.
    pub fn read_by<E: Into<ReadError>>(
        read: impl Fn() -> Result<TlsFiles, E> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let read: Read<TlsFiles> = Box::new(move || read().map_err(Into::into));
        let tls = Self(Some(Arc::new(read)));
        tls.files()?.to_config()?;
        Ok(tls)
    }

    /// What there is now.
    pub(crate) fn files(&self) -> Result<TlsFiles, TlsError> {
        self.0.as_ref().map_or_else(|| Ok(TlsFiles::default()), |read| read().map_err(TlsError::Read))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Tls(own)" } else { "Tls(default)" })
    }
}

impl TlsFiles {
    /// The same as the HTTP client takes it. Everything is checked here: it checks when it is too late to refuse.
    pub(crate) fn to_config(&self) -> Result<TlsConfig, TlsError> {
        let mut config = TlsConfig::builder();
        if let Some(authority) = &self.authority {
            let roots: Vec<_> = certificates(authority, "an authority")?
                .iter()
                .map(|der| Certificate::from_der(der).to_owned())
                .collect();
            config = config.root_certs(RootCerts::Specific(Arc::new(roots)));
        }
        if let Some(ClientFiles { certificate, key }) = &self.client {
            let chain = certificates(certificate, "the client's certificate")?;
            let shown: Vec<_> = chain.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
            let malformed = |_| TlsError::Malformed { expected: "the client's key" };
            let parsed = PrivateKeyDer::from_pem_slice(key).map_err(malformed)?;
            CertifiedKey::from_der(chain, parsed, &ring::default_provider()).map_err(TlsError::Unfit)?;
            let key = PrivateKey::from_pem(key)
                .map_err(|_| TlsError::Malformed { expected: "the client's key" })?;
            config = config.client_cert(Some(ClientCert::new_with_certs(&shown, key)));
        }
        Ok(config.build())
    }
}

fn certificates(pem: &[u8], expected: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.ok().filter(|read| !read.is_empty()).ok_or(TlsError::Malformed { expected })
}

/// Evidence of the trusted execution environment that the agent runs in, fetched anew for each request that writes.
#[derive(Clone)]
pub struct FetchEvidence(Arc<Read<String>>);

impl FetchEvidence {
    /// Evidence that `fetch` gives. It is asked before each request, and should take no longer than one.
    pub fn by<E: Into<ReadError>>(fetch: impl Fn() -> Result<String, E> + Send + Sync + 'static) -> Self {
        let fetch: Read<String> = Box::new(move || fetch().map_err(Into::into));
        Self(Arc::new(fetch))
    }

    /// Fresh evidence, as the value of a header.
    pub(crate) fn fetch(&self) -> Result<HeaderValue, ReadError> {
        let evidence = (self.0)()?;
        if evidence.len() > EVIDENCE_HEADER_BYTES_MAX {
            return Err(
                format!("evidence is longer than it can be. limit=`{EVIDENCE_HEADER_BYTES_MAX}`").into()
            );
        }
        sensitive(&evidence).ok_or_else(|| "evidence is no visible ASCII".into())
    }
}

impl fmt::Debug for FetchEvidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FetchEvidence")
    }
}

/// The value of a header that is not shown.
pub(crate) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_token_is_exchanged_when_it_is_read_again_and_is_another_one() {
        let file = Arc::new(Mutex::new(Ok("first")));
        let read = Arc::clone(&file);
        let token = Token::read_by(move || read.lock().unwrap().map(str::to_owned)).unwrap();
        let other = token.clone();
        *file.lock().unwrap() = Ok("second");
        assert_eq!(&*token.expose(), "first");
        assert!(token.renew("first"));
        assert_eq!(&*other.expose(), "second", "clones are exchanged together");
        assert!(other.renew("first"), "somebody read it meanwhile");
        assert!(!token.renew("second"), "it is the same again");
        *file.lock().unwrap() = Err("gone");
        assert!(!token.renew("second"));
        assert_eq!(&*token.expose(), "second", "the last one stays");
        assert!(Token::read_by(|| Err::<String, _>("gone")).is_err());
    }

    #[test]
    fn nothing_secret_is_shown() {
        let client = Some(ClientFiles { certificate: b"secret".to_vec(), key: b"secret".to_vec() });
        let files = TlsFiles { authority: Some(b"secret".to_vec()), client };
        let evidence = FetchEvidence::by(|| Ok::<_, ReadError>("secret".to_owned()));
        let shown =
            format!("{:?}", (Token::from("secret".to_owned()), &files, &evidence, evidence.fetch().unwrap()));
        assert!(!shown.contains("secret"), "{shown}");
        let refused = files.to_config().unwrap_err();
        assert!(matches!(refused, TlsError::Malformed { .. }), "{refused}");
    }

    #[test]
    fn evidence_that_is_no_header_is_not_sent() {
        for wrong in ["a\nb".to_owned(), "x".repeat(EVIDENCE_HEADER_BYTES_MAX + 1)] {
            assert!(FetchEvidence::by(move || Ok::<_, ReadError>(wrong.clone())).fetch().is_err());
        }
        assert!(FetchEvidence::by(|| Err::<String, _>("no hardware")).fetch().is_err());
    }
}
