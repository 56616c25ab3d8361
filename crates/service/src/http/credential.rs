//! Who sends a request, and whether they may write: the one place that decides.
//!
//! ```text
//! Authorization: Bearer TOKEN -> listed, or 401          a token that is given decides alone
//! certificate of the connection -> listed: admitted      one that is not listed is as none
//! Synddb-Evidence: EVIDENCE -> the checker decides       401 where this process checks none
//! nothing -> 401
//! ```
//!
//! Credentials are never logged, and no refusal repeats one.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use synddb_protocol::http::{EVIDENCE_HEADER, EVIDENCE_HEADER_BYTES_MAX, Reason};

use super::connections::Seat;
use super::{PeerCertificate, Refusal};
use crate::credentials::{Credentials, CredentialsFile, CredentialsFileError, Fingerprint, Holder, Unlisted};
use crate::reloaded::Reloaded;

/// What a request presents.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Presented<'a> {
    /// A bearer token (RFC 6750, section 2.1).
    Token(&'a str),
    /// The certificate that the client proved to hold the key of, when the connection began.
    Certificate(Fingerprint),
    /// Evidence of a trusted execution environment.
    Evidence(&'a str),
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token"),
            Self::Certificate(fingerprint) => f.debug_tuple("Certificate").field(fingerprint).finish(),
            Self::Evidence(_) => f.write_str("Evidence"),
        }
    }
}

/// Checks evidence. It decides by what it has: it asks nobody, and waits for nothing.
pub trait CheckEvidence: fmt::Debug + Send + Sync {
    /// Whose evidence this is.
    ///
    /// # Errors
    /// Why it is not accepted, in words that do not repeat it.
    fn check(&self, evidence: &str, now: SystemTime) -> Result<Holder, String>;
}

/// Admits who may write.
#[derive(Clone)]
pub struct Gate {
    credentials: Reloaded<CredentialsFile>,
    evidence: Option<Arc<dyn CheckEvidence>>,
}

impl Gate {
    /// One that goes by a file, which is read again when it changes, and checks evidence where there is a checker.
    ///
    /// # Errors
    /// [`CredentialsFileError`]: without a first good file nobody is admitted.
    pub fn open(
        file: CredentialsFile,
        evidence: Option<Arc<dyn CheckEvidence>>,
    ) -> Result<Self, CredentialsFileError> {
        Ok(Self { credentials: Reloaded::open(file)?, evidence })
    }

    /// Who sends this request.
    ///
    /// # Errors
    /// 401 when nothing that it presents is accepted.
    pub async fn admit(&self, parts: &Parts) -> Result<Arc<Holder>, Refusal> {
        let credentials = self.credentials.now().await;
        let peer = parts.extensions.get::<PeerCertificate>().map(|peer| peer.0);
        let presented = presented(&parts.headers, peer)?;
        let holder = decide(&credentials, self.evidence.as_deref(), &presented, SystemTime::now())?;
        if let Some(seat) = parts.extensions.get::<Arc<Seat>>() {
            seat.admitted();
        }
        Ok(holder)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checks_evidence = self.evidence.is_some();
        f.debug_struct("Gate").field("checks_evidence", &checks_evidence).finish_non_exhaustive()
    }
}

fn refuse<T>(detail: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(Reason::Unauthorized, detail))
}

/// Everything that a request presents, in the order in which it decides.
fn presented(headers: &HeaderMap, peer: Option<Fingerprint>) -> Result<Vec<Presented<'_>>, Refusal> {
    let token = match one(headers, header::AUTHORIZATION.as_str())? {
        Some(value) => match value.split_once(' ') {
            Some((scheme, given)) if scheme.eq_ignore_ascii_case("bearer") => {
                Some(Presented::Token(given.trim()))
            }
            Some(_) | None => return refuse("the header `Authorization` must read `Bearer TOKEN`"),
        },
        None => None,
    };
    let evidence = match one(headers, EVIDENCE_HEADER)? {
        Some(evidence) if evidence.len() > EVIDENCE_HEADER_BYTES_MAX => {
            return refuse(format!("evidence has at most {EVIDENCE_HEADER_BYTES_MAX} bytes"));
        }
        evidence => evidence.map(Presented::Evidence),
    };
    Ok(token.into_iter().chain(peer.map(Presented::Certificate)).chain(evidence).collect())
}

/// The value of a header that stands once.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().map(Some).or_else(|_| refuse(format!("the header `{name}` is no text")))
        }
        (Some(_), Some(_)) => refuse(format!("the header `{name}` stands twice")),
    }
}

/// Who is admitted by what they present.
fn decide(
    credentials: &Credentials,
    evidence: Option<&dyn CheckEvidence>,
    presented: &[Presented<'_>],
    now: SystemTime,
) -> Result<Arc<Holder>, Refusal> {
    let mut why = "send the header `Authorization: Bearer TOKEN`".to_owned();
    for presented in presented {
        match *presented {
            Presented::Token(given) => {
                return match credentials.token(given, now) {
                    Ok(holder) => Ok(Arc::clone(holder)),
                    Err(Unlisted::Unknown) => refuse("this token is not accepted here"),
                    Err(Unlisted::Expired) => refuse("this token has expired; ask for a new one"),
                };
            }
            Presented::Certificate(fingerprint) => match credentials.certificate(fingerprint, now) {
                Ok(holder) => return Ok(Arc::clone(holder)),
                Err(Unlisted::Unknown) => {
                    why = format!(
                        "the client's certificate is not listed here; have it listed, or send a token. sha256=`{fingerprint}`"
                    );
                }
                Err(Unlisted::Expired) => {
                    why = format!(
                        "the client's certificate is not listed here any more. sha256=`{fingerprint}`"
                    );
                }
            },
            Presented::Evidence(given) => {
                let Some(checker) = evidence else {
                    return refuse(
                        "this process checks no evidence; send the header `Authorization: Bearer TOKEN`",
                    );
                };
                return checker.check(given, now).map(Arc::new).or_else(refuse);
            }
        }
    }
    refuse(why)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::credentials::{Kind, NewCredential, Writable, add};

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    /// Stands for hardware: it accepts one word, and nobody could prove anything with it.
    #[derive(Debug)]
    struct StandsForHardware;

    impl CheckEvidence for StandsForHardware {
        fn check(&self, evidence: &str, _: SystemTime) -> Result<Holder, String> {
            if evidence == "measured" {
                return Ok(Holder { name: "enclave".to_owned(), streams: Writable::Any });
            }
            Err("the evidence is of something else".to_owned())
        }
    }

    /// Asks with headers and a certificate; gives the name of who was admitted, or why nobody was.
    async fn ask(
        gate: &Gate,
        headers: &[(&'static str, &str)],
        certificate: Option<&[u8]>,
    ) -> Result<String, String> {
        let mut request = axum::http::Request::new(());
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
        }
        if let Some(certificate) = certificate {
            request.extensions_mut().insert(PeerCertificate(Fingerprint::of(certificate)));
        }
        let (parts, ()) = request.into_parts();
        let admitted = gate.admit(&parts).await;
        admitted.map(|holder| holder.name.clone()).map_err(|refusal| {
            assert_eq!(refusal.reason(), &Reason::Unauthorized);
            let told = format!("{refusal:?}");
            assert!(!headers.iter().any(|(_, value)| value.len() > 16 && told.contains(value)), "{told}");
            told
        })
    }

    fn token(value: &str) -> [(&'static str, &str); 1] {
        [("authorization", value)]
    }

    fn evidence(value: &str) -> [(&'static str, &str); 1] {
        [(EVIDENCE_HEADER, value)]
    }

    #[tokio::test]
    async fn one_credential_of_three_kinds_admits() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials.toml");
        let list = |kind, name: &str, credential: &[u8]| {
            let sha256 = Fingerprint::of(credential);
            let new =
                NewCredential { kind, name: name.to_owned(), sha256, streams: [].into(), expires: None };
            add(&file, &new).unwrap();
        };
        list(Kind::Token, "app", TOKEN.as_bytes());
        list(Kind::Certificate, "machine", b"certificate");
        let plain = Gate::open(CredentialsFile::at(&file), None).unwrap();
        let checking = Gate::open(CredentialsFile::at(&file), Some(Arc::new(StandsForHardware))).unwrap();
        let (right, wrong) = (format!("Bearer {TOKEN}"), format!("Bearer {}", TOKEN.replace('0', "1")));
        let (right, wrong) = (right.as_str(), wrong.as_str());
        for gate in [&plain, &checking] {
            assert_eq!(ask(gate, &token(right), None).await.unwrap(), "app");
            assert_eq!(ask(gate, &token(&right.replace("Bearer", "bearer")), None).await.unwrap(), "app");
            assert_eq!(ask(gate, &[], Some(b"certificate")).await.unwrap(), "machine");
            // A token that is given decides alone.
            assert_eq!(ask(gate, &token(right), Some(b"other")).await.unwrap(), "app");
            assert!(ask(gate, &token(wrong), Some(b"certificate")).await.is_err());
            assert!(ask(gate, &token(TOKEN), None).await.unwrap_err().contains("must read"));
            assert!(
                ask(gate, &[token(right)[0], token(right)[0]], None).await.unwrap_err().contains("twice")
            );
            assert!(ask(gate, &[], None).await.unwrap_err().contains("Bearer TOKEN"));
            let unlisted = ask(gate, &[], Some(b"other")).await.unwrap_err();
            assert!(unlisted.contains(&Fingerprint::of(b"other").to_string()), "{unlisted}");
        }
        assert!(ask(&plain, &evidence("measured"), None).await.unwrap_err().contains("checks no evidence"));
        assert_eq!(ask(&checking, &evidence("measured"), None).await.unwrap(), "enclave");
        assert_eq!(ask(&checking, &evidence("measured"), Some(b"other")).await.unwrap(), "enclave");
        assert!(ask(&checking, &evidence("other"), None).await.unwrap_err().contains("something else"));
        let long = "x".repeat(EVIDENCE_HEADER_BYTES_MAX + 1);
        assert!(ask(&checking, &evidence(&long), None).await.unwrap_err().contains("at most"));
    }

    #[test]
    fn what_is_presented_is_not_shown() {
        let shown = format!("{:?}", [Presented::Token(TOKEN), Presented::Evidence("measured")]);
        assert_eq!(shown, "[Token, Evidence]");
    }
}
