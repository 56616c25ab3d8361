//! Speaks to a sequencer over HTTP, the one whose turn it is: every request has a time-out, every answer a bound, and nothing in an answer is believed unchecked.
//!
//! Knows nothing of what to send when, and of retries.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use synddb_protocol::Canonical as _;
use synddb_protocol::encoding::cbor::Reader;
use synddb_protocol::hash::{BodyHash, ChunkHash, TreeHash};
use synddb_protocol::http::{EVIDENCE_HEADER, Problem as Refused, Reason, Receipts};
use synddb_protocol::id::{Epoch, Sequence, StreamId};
use synddb_protocol::limits::{BATCH_STORED_MAX, CHECKPOINT_BYTES_MAX, SNAPSHOT_CHUNKS_MAX};
use synddb_protocol::log::{Batch, MessageType, Receipt, SignedCheckpoint};
use synddb_protocol::proof::Leaves;
use ureq::RequestBuilder;
use ureq::http::{Response, StatusCode};
use ureq::typestate::WithBody;

use super::sequencers::{Sequencers, Which};
use super::trust::{Standing, Trust};
use crate::config::Config;
use crate::credential::{FetchEvidence, ReadError, Tls, TlsError, TlsFiles, Token, sensitive};
use crate::error::AgentError;

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The same where another sequencer may answer instead.
const CONNECT_MAX_OF_SEVERAL: Duration = Duration::from_secs(2);
/// How long an answer may take, beside what was asked to be waited for, where another sequencer may answer instead: one that stands still is left for the next. One that was
/// only slow is sent the same again, which costs nothing but time.
const ANSWER_MAX_OF_SEVERAL: Duration = Duration::from_secs(3);
/// How long the sequencer is asked to wait for a sequence to be stored where another one may lead meanwhile.
const WAIT_STORED_OF_SEVERAL: Duration = Duration::from_secs(2);
/// How long the leaves of the log may take: what is stored is not told before.
const LEAVES_WITHIN: Duration = Duration::from_secs(5);
/// How long nothing may be sent or received. A long poll is answered later than that.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long a request may take with everything.
const REQUEST_MAX: Duration = Duration::from_secs(120);
/// How long the sequencer is asked to wait for a sequence to be stored, at most.
pub(super) const WAIT_STORED: Duration = Duration::from_secs(10);
/// Largest refusal that is read, in bytes: it may list every chunk of a snapshot.
const REFUSAL_BYTES_MAX: usize = SNAPSHOT_CHUNKS_MAX * 72 + (64 << 10);

/// Where the log stands by a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The epoch of the leader that promised it.
    pub(crate) epoch: Epoch,
    /// The last sequence promised.
    pub(crate) sequence: Sequence,
}

/// What a sequencer has promised.
#[derive(Debug)]
pub(crate) struct Promised {
    /// How far.
    pub(crate) placed: Placed,
    /// In which receipts.
    pub(crate) receipts: Vec<Receipt>,
}

/// What came back from a request.
#[derive(Debug)]
pub(crate) enum Answer<T> {
    /// What was asked for.
    Done(T),
    /// A refusal, and after which time it may be tried again.
    Refused(Box<Refused>, Option<Duration>),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No connection, or none that lasted.
    #[error("the sequencer does not answer. url=`{url}`: {error}")]
    Unreachable {
        /// The sequencer's URL.
        url: String,
        /// Why not.
        error: Box<ureq::Error>,
    },
    /// What the agent is known by cannot be had.
    #[error("there is nothing that the sequencer would know this agent by: {what}")]
    NoCredential {
        /// Why not.
        what: ReadError,
    },
    /// There is no connection, since TLS does not come about.
    #[error("{what}. url=`{url}`: {error}")]
    Tls {
        /// The sequencer's URL.
        url: String,
        /// What is wrong, and what to do about it.
        what: &'static str,
        /// What was seen.
        error: Box<ureq::Error>,
    },
    /// What answers is no sequencer.
    #[error("what answers does not answer as a sequencer does. url=`{url}` status=`{status}` what=`{what}`")]
    Foreign {
        /// The URL.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What is wrong with the answer.
        what: &'static str,
    },
    /// It is signed by another key, or for another stream.
    #[error("the answer is not signed as it must be. url=`{url}` what=`{what}`")]
    Untrusted {
        /// The URL.
        url: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It is signed by a key that is proven to have signed twice for one place.
    #[error("the answer is signed by a key that signed two things for one place. url=`{url}` evidence=`{}`", file.display())]
    Convicted {
        /// The URL.
        url: String,
        /// The evidence.
        file: PathBuf,
    },
    /// Whose signature was seen first cannot be written down, so it is not believed.
    #[error(transparent)]
    NotKept(AgentError),
}

/// The way to the sequencers of one stream.
pub(crate) struct Client {
    agent: RefCell<ureq::Agent>,
    tls: Tls,
    /// What the agent speaks TLS with now.
    tls_files: RefCell<TlsFiles>,
    sequencers: Arc<Sequencers>,
    /// Who was asked last.
    asked: Cell<Which>,
    token: Option<Token>,
    evidence: Option<FetchEvidence>,
    stream: StreamId,
    trust: Arc<Trust>,
}

impl Client {
    pub(crate) fn new(
        config: &Config,
        stream: StreamId,
        trust: Arc<Trust>,
        sequencers: Arc<Sequencers>,
    ) -> Result<Self, AgentError> {
        let files = config.tls.files()?;
        Ok(Self {
            agent: RefCell::new(http(&files, sequencers.are_several())?),
            tls: config.tls.clone(),
            tls_files: RefCell::new(files),
            asked: Cell::new(sequencers.current()),
            sequencers,
            token: config.token.clone(),
            evidence: config.evidence.clone(),
            stream,
            trust,
        })
    }

    /// The way to the sequencers. Connections are kept by it.
    fn agent(&self) -> ureq::Agent {
        self.agent.borrow().clone()
    }

    /// Speaks TLS with what the files hold now, where that is something else than before. Whether it is.
    fn renew_tls(&self) -> bool {
        let renewed = self.tls.files().and_then(|files| {
            if *self.tls_files.borrow() == files {
                return Ok(false);
            }
            self.agent.replace(http(&files, self.sequencers.are_several())?);
            self.tls_files.replace(files);
            tracing::info!("certificates have changed, and were read again");
            Ok(true)
        });
        renewed.unwrap_or_else(|error| {
            tracing::warn!(error = %synddb_protocol::chain(&error), "what TLS needs cannot be read again; what was read last counts");
            false
        })
    }

    /// The stream.
    pub(crate) const fn stream(&self) -> StreamId {
        self.stream
    }

    /// Whether it is known whose checkpoints to believe.
    pub(crate) fn knows_key(&self) -> bool {
        self.trust.knows_any()
    }

    /// Who was asked last.
    pub(crate) fn asked(&self) -> Which {
        self.asked.get()
    }

    /// The URL of whoever was asked last.
    pub(super) fn url(&self) -> &str {
        self.sequencers.url(self.asked())
    }

    /// Where whoever is spoken to has this path of the stream.
    fn at(&self, path: &str) -> String {
        self.asked.set(self.sequencers.current());
        format!("{}/streams/{}/{path}", self.url(), self.stream.to_key())
    }

    /// Sends a submission. `within` bounds the whole request.
    pub(crate) fn submit(
        &self,
        body: &[u8],
        traceparent: Option<&str>,
        within: Duration,
    ) -> Result<Answer<Promised>, ClientError> {
        self.post("submit", MessageType::Submission, body, traceparent, within)
    }

    /// Sends the message of a snapshot, whose chunks are in the store.
    pub(crate) fn snapshot(&self, body: &[u8], within: Duration) -> Result<Answer<Promised>, ClientError> {
        self.post("snapshot", MessageType::Snapshot, body, None, within)
    }

    /// Has a chunk stored.
    pub(crate) fn put_chunk(
        &self,
        hash: ChunkHash,
        bytes: &[u8],
        within: Duration,
    ) -> Result<Answer<()>, ClientError> {
        self.write(|| {
            let request = self
                .agent()
                .put(self.at(&format!("snapshot/chunks/{}", hash.to_key())))
                .content_type("application/octet-stream")
                .config()
                .timeout_global(Some(within.min(REQUEST_MAX)))
                .build();
            let response = self.send(request, bytes)?;
            answer(self.url(), response, REFUSAL_BYTES_MAX, |_, _| Ok(()))
        })
    }

    /// The checkpoint of the newest stored batch; waits so long for one that reaches `at_least`, at most [`WAIT_STORED`].
    pub(crate) fn checkpoint(
        &self,
        at_least: Sequence,
        wait: Duration,
    ) -> Result<Answer<SignedCheckpoint>, ClientError> {
        let are_several = self.sequencers.are_several();
        let wait = wait.min(if are_several { WAIT_STORED_OF_SEVERAL } else { WAIT_STORED });
        let url = self.at(&format!("checkpoint?at_least={at_least}&wait_ms={}", wait.as_millis()));
        self.known(|| {
            let request = self
                .agent()
                .get(&url)
                .config()
                .timeout_recv_response(are_several.then_some(wait + ANSWER_MAX_OF_SEVERAL))
                .build();
            let response = request.call().map_err(|error| unreachable(self.url(), error))?;
            answer(self.url(), response, CHECKPOINT_BYTES_MAX, |_, bytes| self.check_checkpoint(bytes))
        })
    }

    /// The leaves of the stored messages from `start` to `end`. Nobody signed them: they are right when they lead to a signed checkpoint.
    pub(crate) fn leaves(&self, start: u64, end: u64) -> Result<Answer<Vec<TreeHash>>, ClientError> {
        let url = self.at(&format!("leaves/{start}_{end}"));
        let request = || self.agent().get(&url).config().timeout_global(Some(LEAVES_WITHIN)).build();
        let response = self.known(|| request().call().map_err(|error| unreachable(self.url(), error)))?;
        answer(self.url(), response, Leaves::BYTES_MAX, |_, bytes| {
            let Leaves(leaves) = Leaves::from_bytes(bytes).map_err(|_| Unfit::Unreadable)?;
            // Fewer are an answer: whoever gets them asks behind them.
            let asked = 1..=end - start + 1;
            if asked.contains(&(leaves.len() as u64)) { Ok(leaves) } else { Err(Unfit::Unreadable) }
        })
    }

    /// What stands at a sequence in the stored batch that holds it; nothing when the batch is another one. Nothing of it is checked.
    pub(crate) fn stored_at(&self, sequence: Sequence) -> Result<Answer<Option<Receipt>>, ClientError> {
        let url = self.at(&format!("batches/{sequence}_{sequence}"));
        let call = || self.agent().get(&url).call().map_err(|error| unreachable(self.url(), error));
        let response = self.known(call)?;
        answer(self.url(), response, BATCH_STORED_MAX + 16, |_, bytes| {
            let mut reader = Reader::new(bytes);
            let stored = reader.bytes("batch", BATCH_STORED_MAX).map_err(|_| Unfit::Unreadable)?;
            let batch = Batch::from_stored(stored).map_err(|_| Unfit::Unreadable)?;
            let mut receipts = batch.messages().iter().map(|message| &message.receipt);
            Ok(receipts.find(|receipt| receipt.header().sequence == sequence).cloned())
        })
    }

    fn post(
        &self,
        path: &str,
        of: MessageType,
        body: &[u8],
        traceparent: Option<&str>,
        within: Duration,
    ) -> Result<Answer<Promised>, ClientError> {
        self.write(|| {
            let mut request = self.agent().post(self.at(path)).content_type("application/cbor");
            if let Some(traceparent) = traceparent {
                request = request.header("traceparent", traceparent);
            }
            let request = request
                .config()
                .timeout_global(Some(within.min(REQUEST_MAX)))
                .timeout_recv_response(self.sequencers.are_several().then_some(ANSWER_MAX_OF_SEVERAL))
                .build();
            let response = self.send(request, body)?;
            answer(self.url(), response, Receipts::BYTES_MAX, |status, bytes| {
                // What has just got its place got it as it was sent. What had one already may stand there between other boundaries; nothing is
                // forgotten by that.
                let is_new = status == StatusCode::CREATED;
                self.check_receipts(bytes, of, is_new.then(|| BodyHash::of(body)))
            })
        })
    }

    /// Asks, and once more where TLS did not come about and its files have changed.
    fn known<T>(&self, ask: impl Fn() -> Result<T, ClientError>) -> Result<T, ClientError> {
        match ask() {
            Err(ClientError::Tls { .. }) if self.renew_tls() => ask(),
            answered => answered,
        }
    }

    /// Sends what writes, and again where what the agent is known by may be why it was not taken, and has changed.
    fn write<T>(&self, send: impl Fn() -> Result<Answer<T>, ClientError>) -> Result<Answer<T>, ClientError> {
        let token = self.token.as_ref().map(Token::expose);
        let answered = self.known(&send);
        if !is_maybe_unknown(&answered) {
            return answered;
        }
        let has_token = self.token.as_ref().zip(token).is_some_and(|(token, before)| token.renew(&before));
        if !has_token && !self.renew_tls() {
            return answered;
        }
        // The connection that is kept may be the one that the refusal ends: then it breaks, and the next one is new.
        match send() {
            Err(ClientError::Unreachable { error, .. }) if matches!(*error, ureq::Error::Io(_)) => send(),
            again => again,
        }
    }

    /// Sends a body with everything that the agent is known by.
    fn send(
        &self,
        mut request: RequestBuilder<WithBody>,
        body: &[u8],
    ) -> Result<Response<ureq::Body>, ClientError> {
        let unsent = |what: ReadError| ClientError::NoCredential { what };
        if let Some(token) = &self.token {
            let value = sensitive(&format!("Bearer {}", token.expose()))
                .ok_or_else(|| unsent("the token is no visible ASCII".into()))?;
            request = request.header("Authorization", value);
        }
        if let Some(evidence) = &self.evidence {
            request = request.header(EVIDENCE_HEADER, evidence.fetch().map_err(unsent)?);
        }
        request.send(body).map_err(|error| unreachable(self.url(), error))
    }

    fn check_receipts(
        &self,
        bytes: &[u8],
        of: MessageType,
        sent: Option<BodyHash>,
    ) -> Result<Promised, Unfit> {
        let Receipts(receipts) = Receipts::from_bytes(bytes).map_err(|_| Unfit::Unreadable)?;
        if receipts.iter().any(|receipt| receipt.header().message_type != of) {
            return Err(Unfit::Untrusted("a receipt is for a message of another type"));
        }
        if sent.is_some_and(|sent| receipts.iter().any(|receipt| receipt.body_hash() != sent)) {
            return Err(Unfit::Untrusted("a receipt is for something that was not sent"));
        }
        let (mut placed, mut promises): (Option<Placed>, _) = (None, Vec::new());
        for receipt in &receipts {
            if receipt.header().stream != self.stream {
                return Err(Unfit::Untrusted("the stream"));
            }
            let key = receipt.recover().map_err(|_| Unfit::Untrusted("the signature"))?;
            let standing = self.trust.admits(key).map_err(Unfit::NotKept)?;
            // Whoever leads now answers for what an earlier leader has placed with that one's receipts. They say where it stands, and are no promise
            // of a key that is not believed any more; what is forgotten is forgotten by checkpoints.
            if sent.is_some() || !matches!(standing, Standing::Convicted(_)) {
                standing.check()?;
                promises.push(receipt.clone());
            }
            let Placed { epoch, sequence } = placed
                .unwrap_or(Placed { epoch: receipt.header().epoch, sequence: receipt.header().sequence });
            let (epoch, sequence) =
                (epoch.max(receipt.header().epoch), sequence.max(receipt.header().sequence));
            placed = Some(Placed { epoch, sequence });
        }
        let placed = placed.ok_or(Unfit::Unreadable)?;
        Ok(Promised { placed, receipts: promises })
    }

    fn check_checkpoint(&self, bytes: &[u8]) -> Result<SignedCheckpoint, Unfit> {
        let signed = SignedCheckpoint::from_bytes(bytes).map_err(|_| Unfit::Unreadable)?;
        if signed.claim().stream != self.stream {
            return Err(Unfit::Untrusted("the stream"));
        }
        let key = signed.recover().map_err(|_| Unfit::Untrusted("the signature"))?;
        // Nothing is asked before there was a receipt, so nobody is believed first by this.
        self.trust.standing(key).check()?;
        Ok(signed)
    }
}

/// It is signed well, by somebody else.
const OTHER_KEY: &str = "the key is not one that is believed";

/// Why the body of an answer is not taken.
enum Unfit {
    Unreadable,
    Convicted(PathBuf),
    Untrusted(&'static str),
    NotKept(AgentError),
}

impl Standing {
    fn check(self) -> Result<(), Unfit> {
        match self {
            Self::Believed => Ok(()),
            Self::Unknown => Err(Unfit::Untrusted(OTHER_KEY)),
            Self::Convicted(file) => Err(Unfit::Convicted(file)),
        }
    }
}

/// Whether something may not have been taken for want of a credential that counts. Who is refused before the end of a long body is closed upon, and
/// while it sends the rest it sees a connection that breaks instead of the answer.
fn is_maybe_unknown<T>(answered: &Result<Answer<T>, ClientError>) -> bool {
    match answered {
        Ok(Answer::Refused(refused, _)) => {
            matches!(refused.reason(), Reason::Unauthorized | Reason::Forbidden)
        }
        Err(ClientError::Unreachable { error, .. }) => matches!(**error, ureq::Error::Io(_)),
        Ok(Answer::Done(_)) | Err(_) => false,
    }
}

fn unreachable(url: &str, error: ureq::Error) -> ClientError {
    let (url, what) = (url.to_owned(), wrong_with_tls(&error));
    let error = Box::new(error);
    match what {
        Some(what) => ClientError::Tls { url, what, error },
        None => ClientError::Unreachable { url, error },
    }
}

/// What is wrong with TLS, where it is that.
#[expect(clippy::wildcard_enum_match_arm, reason = "the errors of other crates are not closed sets")]
fn wrong_with_tls(error: &ureq::Error) -> Option<&'static str> {
    let within = match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref().and_then(|within| within.downcast_ref()),
        _ => None,
    };
    match within? {
        rustls::Error::InvalidMessage(_) => {
            Some("what answers does not speak TLS; write http:// if that is meant, or name the port of TLS")
        }
        rustls::Error::InvalidCertificate(_) => Some(
            "the sequencer's certificate is not believed; give its authority with --ca-file, and its host as the certificate names it",
        ),
        rustls::Error::AlertReceived(_) => Some(
            "the sequencer ends the TLS connection; is --client-certificate one that its authority signed, and valid now?",
        ),
        _ => None,
    }
}

/// The way to sequencers, with what TLS needs.
fn http(files: &TlsFiles, are_several: bool) -> Result<ureq::Agent, TlsError> {
    let connect = if are_several { CONNECT_MAX_OF_SEVERAL } else { CONNECT_MAX };
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_connect(Some(connect))
        .timeout_global(Some(REQUEST_MAX))
        .timeout_per_read(Some(WAIT_STORED + SILENCE_MAX))
        .timeout_per_write(Some(SILENCE_MAX))
        .tls_config(files.to_config()?)
        .user_agent("synddb-agent");
    Ok(config.build().new_agent())
}

/// Reads an answer: what was asked for, or a refusal.
fn answer<T>(
    url: &str,
    mut response: Response<ureq::Body>,
    bytes_max: usize,
    read: impl FnOnce(StatusCode, &[u8]) -> Result<T, Unfit>,
) -> Result<Answer<T>, ClientError> {
    let status = response.status();
    let foreign = |what| ClientError::Foreign { url: url.to_owned(), status: status.as_u16(), what };
    let is_done = matches!(status, StatusCode::OK | StatusCode::CREATED);
    let asked = response.headers().get("Retry-After").and_then(|value| value.to_str().ok()?.parse().ok());
    let limit = if is_done { bytes_max } else { REFUSAL_BYTES_MAX } as u64;
    let body = response.body_mut().with_config().limit(limit).read_to_vec().map_err(|error| {
        if matches!(error, ureq::Error::BodyExceedsLimit(_)) {
            return foreign("the answer is longer than it can be");
        }
        unreachable(url, error)
    })?;
    if is_done {
        return match read(status, &body) {
            Ok(done) => Ok(Answer::Done(done)),
            Err(Unfit::Unreadable) => Err(foreign("the answer cannot be read")),
            Err(Unfit::Untrusted(what)) => Err(ClientError::Untrusted { url: url.to_owned(), what }),
            Err(Unfit::Convicted(file)) => Err(ClientError::Convicted { url: url.to_owned(), file }),
            Err(Unfit::NotKept(error)) => Err(ClientError::NotKept(error)),
        };
    }
    // A proxy in between refuses without our words.
    let refused: Refused =
        serde_json::from_slice(&body).map_err(|_| foreign("the refusal is no problem+json"))?;
    Ok(Answer::Refused(Box::new(refused), asked.map(Duration::from_secs)))
}
