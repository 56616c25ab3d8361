//! Whom the relayer asks over HTTP: the sequencer what is to be brought, validators for their signatures. Every answer has a bound, and a time.

use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use serde::de::DeserializeOwned;
use synddb_protocol::http::{OutboundContent, OutboundList, OutboundSignature, ServedEndorsement};
use synddb_protocol::id::{Sequence, StreamId};
use synddb_service::authority;
use synddb_sqlite::messages::PAYLOAD_BYTES_MAX;

use crate::config::ConfigProblem;
use crate::error::RelayerError;

/// How long a whole answer is waited for.
const PATIENCE: Duration = if cfg!(test) { Duration::from_secs(1) } else { Duration::from_secs(10) };

/// What everything of a message but its call data takes as JSON at most, in bytes.
const SIGNED_BYTES_MAX: usize = 4 << 10;
/// Largest message with its call data in hex, as JSON, in bytes.
const CONTENT_BYTES_MAX: usize = SIGNED_BYTES_MAX + 2 * PAYLOAD_BYTES_MAX;
/// Largest list of messages, in bytes.
const LIST_BYTES_MAX: usize = 1 << 20;
/// Largest endorsement, in bytes.
const ENDORSEMENT_BYTES_MAX: usize = 64 << 10;

/// Why somebody told nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Silence {
    /// It does not answer, or refuses.
    #[error("it does not answer")]
    Http(#[source] reqwest::Error),
    /// It has nothing of this.
    #[error("it has none yet")]
    Nothing,
    /// It sends more than there can be.
    #[error("its answer is too large. limit=`{0}`")]
    TooLarge(usize),
    /// What it sends cannot be read.
    #[error("its answer cannot be read")]
    Malformed(#[from] serde_json::Error),
}

/// Keys may stand in URLs, and errors in logs and answers.
impl From<reqwest::Error> for Silence {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error.without_url())
    }
}

/// The sequencer and the validators.
#[derive(Clone)]
pub(crate) struct Peers {
    client: Client,
    outbound: String,
    validators: Vec<Validator>,
}

#[derive(Clone)]
struct Validator {
    base: String,
    /// What it is called in logs and answers: its URL without what may be secret.
    name: String,
}

impl Peers {
    /// Those at these URLs.
    ///
    /// # Errors
    /// [`RelayerError`] when a URL is none, or no client can be made.
    pub(crate) fn at(
        sequencer: &str,
        validators: &[String],
        ca_file: Option<&Path>,
        stream: StreamId,
    ) -> Result<Self, RelayerError> {
        let sequencer = base("sequencer", 0, sequencer)?;
        let outbound = format!("{sequencer}/streams/{}/messages/outbound", stream.to_key());
        let validator = |(place, url): (usize, &String)| {
            let base = base("validators", place, url)?;
            Ok(Validator { name: origin(&base), base })
        };
        let validators = validators.iter().enumerate().map(validator);
        let validators = validators.collect::<Result<Vec<_>, ConfigProblem>>()?;
        Ok(Self { client: client(ca_file)?, outbound, validators })
    }

    /// Rows from a nonce on.
    pub(crate) async fn list(&self, from: u64) -> Result<OutboundList, Silence> {
        self.get(&format!("{}?from={from}", self.outbound), LIST_BYTES_MAX).await
    }

    /// A signed row with its call data.
    pub(crate) async fn content(&self, nonce: u64) -> Result<OutboundContent, Silence> {
        self.get(&format!("{}/{nonce}", self.outbound), CONTENT_BYTES_MAX).await
    }

    /// What each validator says of a row, all at once.
    pub(crate) async fn signatures(&self, nonce: u64) -> Vec<(&str, Result<OutboundSignature, Silence>)> {
        self.of_each(&format!("outbound/{nonce}/signature"), SIGNED_BYTES_MAX).await
    }

    /// What each validator has endorsed last, all at once.
    pub(crate) async fn newest(&self) -> Vec<(&str, Result<ServedEndorsement, Silence>)> {
        self.of_each("endorsements", ENDORSEMENT_BYTES_MAX).await
    }

    /// What each validator has endorsed at a sequence, all at once.
    pub(crate) async fn endorsements(
        &self,
        sequence: Sequence,
    ) -> Vec<(&str, Result<ServedEndorsement, Silence>)> {
        self.of_each(&format!("endorsements/{sequence}"), ENDORSEMENT_BYTES_MAX).await
    }

    async fn of_each<T: DeserializeOwned>(
        &self,
        path: &str,
        bytes_max: usize,
    ) -> Vec<(&str, Result<T, Silence>)> {
        let ask =
            async |validator: &Validator| self.get(&format!("{}/{path}", validator.base), bytes_max).await;
        let answers = join_all(self.validators.iter().map(ask)).await;
        self.validators.iter().map(|validator| validator.name.as_str()).zip(answers).collect()
    }

    async fn get<T: DeserializeOwned>(&self, url: &str, bytes_max: usize) -> Result<T, Silence> {
        let mut answer = self.client.get(url).send().await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Err(Silence::Nothing);
        }
        answer.error_for_status_ref()?;
        let mut bytes = Vec::new();
        while let Some(more) = answer.chunk().await? {
            if bytes.len() + more.len() > bytes_max {
                return Err(Silence::TooLarge(bytes_max));
            }
            bytes.extend_from_slice(&more);
        }
        Ok(serde_json::from_slice(&bytes)?)
    }
}

/// A URL that paths are put behind.
pub(crate) fn base(key: &'static str, place: usize, text: &str) -> Result<String, ConfigProblem> {
    let is_one = text.parse::<Url>().is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none()
    });
    if is_one {
        return Ok(text.trim_end_matches('/').to_owned());
    }
    Err(ConfigProblem::Url { key, place })
}

/// A URL without user, path and query, of which any may be secret.
fn origin(base: &str) -> String {
    base.parse::<Url>().map(|url| url.origin().ascii_serialization()).unwrap_or_default()
}

/// A client that follows nobody anywhere, and waits for nobody for long.
pub(crate) fn client(ca_file: Option<&Path>) -> Result<Client, RelayerError> {
    // One provider serves the process; a second one to install it is told so, and has what it wanted.
    rustls::crypto::ring::default_provider().install_default().ok();
    let builder = match ca_file {
        Some(file) => {
            let refuse = |source| RelayerError::Authority { file: file.to_owned(), source };
            let certificates = authority::read(file).map_err(|error| refuse(error.into()))?;
            Client::builder().tls_certs_only(certificates)
        }
        None => Client::builder(),
    };
    let builder = builder.redirect(Policy::none()).connect_timeout(PATIENCE).timeout(PATIENCE);
    builder.build().map_err(RelayerError::Client)
}
