//! Asking a process of the system something over HTTP: an agent at its socket, a sequencer or validator at its URL.
//!
//! Answers are bounded in size and time. Peers are on this machine or were named by whoever runs the command.

use std::io;
use std::path::Path;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Certificate, Client, ClientBuilder, Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use synddb_agent::SocketPath;
use synddb_agent::{AgentStatus, Audited, Captured, Until};
use synddb_protocol::contents;
use synddb_protocol::http::Problem;
use synddb_service::authority;
use synddb_sqlite::capture::WalPosition;

use crate::exit::CommandError;
use crate::folder::Folder;
use crate::output::printable;
use crate::refusal::Refusal;

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// How long a peer may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// How long a peer may take to answer what needs no waiting.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What to look at when a service that somebody named answers as if it were another one.
const HINT: &str = "; is it the URL of a validator or read replica?";

/// Why a peer gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// Nothing listens there, or it does not answer in time.
    #[error("{peer} does not answer")]
    Silent {
        /// Who.
        peer: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The peer refuses.
    #[error("{peer} refuses: {}", printable(problem.detail()))]
    Refused {
        /// Who.
        peer: &'static str,
        /// What it says.
        problem: Box<Problem>,
    },
    /// What it said cannot be true.
    #[error("{peer} says what cannot be: {what}")]
    Contradicts {
        /// Who.
        peer: &'static str,
        /// What it said.
        what: &'static str,
    },
    /// The answer is none.
    #[error("{peer} answers something else than it should{} status=`{status}`", if *is_named { HINT } else { "." })]
    Foreign {
        /// Who.
        peer: &'static str,
        /// Whether somebody named its URL, which may be that of something else.
        is_named: bool,
        /// The status code.
        status: u16,
    },
}

/// Whom services are believed to be certified by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Authority(Option<Vec<Certificate>>);

impl Authority {
    /// The authority in a file, in PEM, and no other; without one, those that the system trusts.
    ///
    /// # Errors
    /// [`Refusal::Authority`].
    pub(crate) fn read(file: Option<&Path>) -> Result<Self, Refusal> {
        let Some(file) = file else { return Ok(Self::default()) };
        let refuse = |source| Refusal::Authority { file: file.to_owned(), source };
        let certificates = authority::read(file).map_err(|error| refuse(error.into()))?;
        let authority = Self(Some(certificates));
        // Whether they are certificates is seen no sooner.
        authority.client().build().map_err(|error| refuse(error.into()))?;
        Ok(authority)
    }

    fn client(&self) -> ClientBuilder {
        match &self.0 {
            Some(certificates) => Client::builder().tls_certs_only(certificates.clone()),
            None => Client::builder(),
        }
    }
}

/// What a push asks.
#[derive(Serialize)]
struct PushQuery {
    until: Until,
    wait_ms: u128,
}

/// What an audit asks.
#[derive(Serialize)]
struct AuditQuery {
    wait_ms: u128,
}

/// A process to ask.
pub(crate) struct Peer {
    name: &'static str,
    client: Client,
    base: String,
    /// The way to the socket, kept open; `None` of a service at a URL.
    socket: Option<SocketPath>,
}

impl Peer {
    /// The agent of a folder.
    pub(crate) fn agent(folder: &Folder) -> Result<Self, PeerError> {
        const NAME: &str = "the agent";
        let socket = SocketPath::of_agent(folder.path())
            .map_err(|source| PeerError::Silent { peer: NAME, source: source.into() })?;
        let client = Client::builder().unix_socket(socket.path()).no_proxy();
        Self::new(NAME, client, "http://agent".to_owned(), Some(socket))
    }

    /// The validator of a database: the one named, or the one that a running `dev` started.
    pub(crate) fn validator(
        folder: &Folder,
        named: Option<&str>,
        authority: &Authority,
    ) -> Result<Self, CommandError> {
        let url = named.map(str::to_owned).or_else(|| folder.read_running().map(|running| running.validator));
        Ok(Self::at("the validator", &url.ok_or(Refusal::NoValidator)?, authority)?)
    }

    /// A service at a URL.
    pub(crate) fn at(name: &'static str, url: &str, authority: &Authority) -> Result<Self, PeerError> {
        Self::new(name, authority.client(), url.trim_end_matches('/').to_owned(), None)
    }

    fn new(
        name: &'static str,
        client: ClientBuilder,
        base: String,
        socket: Option<SocketPath>,
    ) -> Result<Self, PeerError> {
        let client = client.connect_timeout(CONNECT_MAX).build();
        let client = client.map_err(|source| PeerError::Silent { peer: name, source: source.into() })?;
        Ok(Self { name, client, base, socket })
    }

    /// What it says of itself.
    pub(crate) async fn status<T: DeserializeOwned>(&self) -> Result<T, PeerError> {
        self.ask(self.request(Method::GET, "/status").timeout(ANSWER_MAX)).await
    }

    /// Whether everything committed at a position is captured; without one, everything committed now.
    pub(crate) async fn captured(&self, position: Option<&WalPosition>) -> Result<Captured, PeerError> {
        let request = self.request(Method::GET, "/captured").timeout(ANSWER_MAX);
        self.ask(match position {
            Some(position) => request.query(&[("position", hex::encode(position.to_bytes()))]),
            None => request,
        })
        .await
    }

    /// Has an agent push, for as long as `wait` at most.
    pub(crate) async fn push(&self, until: Until, wait: Duration) -> Result<AgentStatus, PeerError> {
        let request =
            self.request(Method::POST, "/push").query(&PushQuery { until, wait_ms: wait.as_millis() });
        self.ask(request.timeout(wait + ANSWER_MAX)).await
    }

    /// Has an agent scan its database, for as long as `wait` at most.
    pub(crate) async fn audit(&self, wait: Duration) -> Result<Audited, PeerError> {
        let request = self.request(Method::POST, "/audit").query(&AuditQuery { wait_ms: wait.as_millis() });
        self.ask(request.timeout(wait + ANSWER_MAX)).await
    }

    /// Asks an agent to end.
    pub(crate) async fn stop(&self) -> Result<(), PeerError> {
        self.send(self.request(Method::POST, "/stop").timeout(ANSWER_MAX), ANSWER_BYTES_MAX).await.map(drop)
    }

    /// Asks a replica for something that may be long.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        patience: Duration,
    ) -> Result<T, PeerError> {
        self.ask_up_to(contents::ANSWER_BYTES_MAX, self.request(Method::GET, path).timeout(patience)).await
    }

    /// The same, with a question in JSON.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        question: &impl Serialize,
        patience: Duration,
    ) -> Result<T, PeerError> {
        let body = serde_json::to_vec(question)
            .map_err(|source| PeerError::Silent { peer: self.name, source: source.into() })?;
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, "application/json").body(body);
        let request = request.timeout(patience);
        self.ask_up_to(contents::ANSWER_BYTES_MAX, request).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, PeerError> {
        self.ask_up_to(ANSWER_BYTES_MAX, request).await
    }

    async fn ask_up_to<T: DeserializeOwned>(
        &self,
        bytes_max: usize,
        request: RequestBuilder,
    ) -> Result<T, PeerError> {
        let (status, body) = self.send(request, bytes_max).await?;
        serde_json::from_slice(&body).map_err(|_| self.foreign(status))
    }

    async fn send(
        &self,
        request: RequestBuilder,
        bytes_max: usize,
    ) -> Result<(StatusCode, Vec<u8>), PeerError> {
        let silent =
            |source: Box<dyn std::error::Error + Send + Sync>| PeerError::Silent { peer: self.name, source };
        let response = request.send().await.map_err(|source| silent(source.into()))?;
        let status = response.status();
        let body = bounded(response, bytes_max).await.map_err(|source| silent(source.into()))?;
        if status.is_success() {
            return Ok((status, body));
        }
        match serde_json::from_slice(&body) {
            Ok(problem) => Err(PeerError::Refused { peer: self.name, problem: Box::new(problem) }),
            Err(_) => Err(self.foreign(status)),
        }
    }

    const fn foreign(&self, status: StatusCode) -> PeerError {
        PeerError::Foreign { peer: self.name, is_named: self.socket.is_none(), status: status.as_u16() }
    }
}

async fn bounded(mut response: Response, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(io::Error::other)? {
        if body.len() + piece.len() > bytes_max {
            return Err(io::Error::other("the answer is too large"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
