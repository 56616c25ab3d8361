//! The HTTP client under the remote stores: it knows when to give up, and what a platform's refusal means.
//!
//! `object_store` builds and signs the requests and reads the answers. In between stands this module, for what a log needs and a
//! general client does not do:
//!
//! - an answer is waited for as long as its request's size justifies, and no longer: a connection that nobody serves any more costs
//!   seconds, and a slow uplink may take its time;
//! - a body that stops coming is given up, and one that does not stop;
//! - the text of an error is bounded, and its code becomes a [`Refusal`], so that "no such bucket" never reads as "no such object".

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::StatusCode;
use hyper::body::Frame;
use hyper::header::{DATE, RANGE};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};

use synddb_protocol::limits::{BATCH_STORED_MAX, CHUNK_STORED_MAX};

use super::batch;
use super::clock::Clock;
use super::refusal::{REMOVE, Refusal};
use super::transport::{self, Redirects};

/// How long a platform may take to begin its answer, beside the time that the request itself takes to be sent.
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);

/// The slowest uplink that is waited for, in bytes a second: 1 Mbit/s.
const SLOWEST_UPLINK: u64 = 128 << 10;

/// How long the next bytes of a body may take.
const BODY_PATIENCE: Duration = Duration::from_secs(15);

/// How much of the body of a success is read: more than the largest object, and than the longest page of names. Who reads an object
/// has a closer bound; this one is for what `object_store` reads by itself.
const BODY_BYTES_MAX: usize = 64 << 20;

const _: () = assert!(BODY_BYTES_MAX > BATCH_STORED_MAX && BODY_BYTES_MAX > CHUNK_STORED_MAX);

/// How much of the body of an error is read. Platforms send less than one kilobyte.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// The longest code that is kept of a platform's answer.
const CODE_CHARS_MAX: usize = 64;

/// Makes the clients of one platform.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    /// The variables by which credentials can be given, for who has none.
    pub(super) credentials: &'static str,
    /// Whether an answer may lead elsewhere.
    pub(super) redirects: Redirects,
    /// What hears the time that the platform's answers state.
    pub(super) clock: Clock,
}

/// Hosts that give credentials to the machines of a platform.
const METADATA_HOSTS: [&str; 5] =
    ["169.254.169.254", "169.254.170.2", "169.254.170.23", "metadata.google.internal", "metadata"];

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // One TLS provider for the whole process; whoever came first has set the same one.
        rustls::crypto::ring::default_provider().install_default().ok();
        let inner = HttpClient::new(transport::client(options, self.redirects)?);
        let nearby = HttpClient::new(transport::nearby(options)?);
        Ok(HttpClient::new(Told { inner, nearby, credentials: self.credentials, clock: self.clock.clone() }))
    }
}

/// A client whose answers are told as described above.
#[derive(Debug)]
struct Told {
    inner: HttpClient,
    /// For metadata services, which are of this machine.
    nearby: HttpClient,
    credentials: &'static str,
    clock: Clock,
}

/// Nobody answered in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within the time that such a request may take. waited_ms=`{}`", waited.as_millis())]
struct Late {
    waited: Duration,
}

#[async_trait]
impl HttpService for Told {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let method = request.method().to_string();
        let is_batch = request.uri().query().is_some_and(|query| query.contains("comp=batch"));
        let is_whole = !request.headers().contains_key(RANGE);
        let host = request.uri().host().unwrap_or_default().to_owned();
        let sending = Duration::from_secs(request.body().content_length() as u64 / SLOWEST_UPLINK);
        let waited = ANSWER_PATIENCE + sending;
        let is_nearby = METADATA_HOSTS.contains(&host.as_str());
        let client = if is_nearby { &self.nearby } else { &self.inner };
        let answer = tokio::time::timeout(waited, client.execute(request)).await;
        if is_nearby && !matches!(&answer, Ok(Ok(answer)) if answer.status().is_success()) {
            let variables = self.credentials;
            return Err(HttpError::new(HttpErrorKind::Unknown, Refusal::NoCredentials { variables, host }));
        }
        let answer =
            answer.unwrap_or_else(|_| Err(HttpError::new(HttpErrorKind::Timeout, Late { waited })))?;
        let (head, body) = answer.into_parts();
        let body = patient(body);
        let date =
            head.headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        if let Some(date) = date.filter(|_| !is_nearby) {
            self.clock.hear(date);
        }
        if head.status.is_success() {
            if is_whole && head.status == StatusCode::PARTIAL_CONTENT {
                return Err(HttpError::new(HttpErrorKind::Unknown, Partial));
            }
            if is_batch {
                let text = beginning_of(body).await?;
                let refused = batch::refused_in(&text);
                let refusal = refused
                    .and_then(|(status, code)| Refusal::of_answer(REMOVE, status, &bounded(&code), None));
                return match refusal {
                    Some(refusal) => Err(HttpError::new(HttpErrorKind::Unknown, refusal)),
                    None => Ok(HttpResponse::from_parts(head, text.into())),
                };
            }
            return Ok(HttpResponse::from_parts(head, body));
        }
        let text = beginning_of(body).await;
        let status = head.status.as_u16();
        // 304, 409 and 412 answer a precondition, which no removal has; what is 5xx or 429 is tried again. The status alone says so.
        let is_kept = matches!(status, 409 | 412) && method == REMOVE;
        if !is_kept && !matches!(status, 301 | 307 | 308 | 400 | 401 | 403 | 404) {
            return Ok(HttpResponse::from_parts(head, text.unwrap_or_default().into()));
        }
        let text = text?;
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(bounded);
        let code = header("x-ms-error-code").or_else(|| code_in(&text)).unwrap_or_default();
        match Refusal::of_answer(&method, status, &code, header("x-amz-bucket-region").as_deref()) {
            Some(refusal) => {
                let refusal = refusal.seen_at(date, SystemTime::now());
                Err(HttpError::new(HttpErrorKind::Unknown, refusal))
            }
            None => Ok(HttpResponse::from_parts(head, text.into())),
        }
    }
}

/// A part of an object came, and the whole was asked for. Its length is that of the part, so nothing else would tell.
#[derive(Debug, thiserror::Error)]
#[error("the answer is a part of the object, and the whole was asked for")]
struct Partial;

/// The body does not come to an end.
#[derive(Debug, thiserror::Error)]
#[error("the answer is longer than any answer can be. size_max=`{BODY_BYTES_MAX}`")]
struct Endless;

/// The same body, given up when it stops coming, and when it is too long.
fn patient(body: HttpResponseBody) -> HttpResponseBody {
    let frames = stream::unfold(Some((body, BODY_BYTES_MAX)), |left| async move {
        let (mut body, left) = left?;
        let waited = BODY_PATIENCE;
        match tokio::time::timeout(waited, body.frame()).await {
            Ok(Some(Ok(frame))) => match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(left) => Some((Ok(frame), Some((body, left)))),
                None => Some((Err(HttpError::new(HttpErrorKind::Unknown, Endless)), None)),
            },
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(_) => Some((Err(HttpError::new(HttpErrorKind::Timeout, Late { waited })), None)),
        }
    });
    HttpResponseBody::new(StreamBody::new(Box::pin(frames) as Frames))
}

type Frames = std::pin::Pin<Box<dyn futures::Stream<Item = Result<Frame<Bytes>, HttpError>> + Send + Sync>>;

/// Reads the beginning of a body, at most [`ERROR_BYTES_MAX`] bytes of it.
async fn beginning_of(mut body: HttpResponseBody) -> Result<Vec<u8>, HttpError> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = ERROR_BYTES_MAX - read.len();
        read.extend_from_slice(&data[..data.len().min(room)]);
        if read.len() == ERROR_BYTES_MAX {
            break;
        }
    }
    Ok(read)
}

/// The code in the body of an error: XML has it in an element, JSON in a member, of this name or as the reason.
fn code_in(body: &[u8]) -> Option<String> {
    // Bounded where it was cut, and some servers repeat a name as it came: what is no text elsewhere is none of the code.
    let text = &*String::from_utf8_lossy(body);
    if let Some((_, rest)) = text.split_once("<Code>") {
        return Some(bounded(rest.split_once("</Code>")?.0));
    }
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    let error = json.get("error")?;
    let reason = error.get("errors").and_then(|errors| errors.get(0)).and_then(|first| first.get("reason"));
    let code = error.as_str().or_else(|| reason.and_then(serde_json::Value::as_str))?;
    Some(bounded(code))
}

fn bounded(code: &str) -> String {
    // What moves a cursor or begins a line is no part of a code, and would reach logs and terminals.
    code.chars().filter(|char| !char.is_control()).take(CODE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_in_what_platforms_send() {
        let found = |text: &str| code_in(text.as_bytes());
        let xml =
            "<?xml version='1.0'?><Error><Code>NoSuchBucket</Code><Message>The bucket</Message></Error>";
        assert_eq!(found(xml).as_deref(), Some("NoSuchBucket"));
        assert_eq!(
            found(r#"{"error":"invalid_grant","error_description":"x"}"#).as_deref(),
            Some("invalid_grant")
        );
        let json = r#"{"error":{"code":404,"errors":[{"reason":"notFound"}]}}"#;
        assert_eq!(found(json).as_deref(), Some("notFound"));
        for nothing in ["", "Not Found", "<Code>", "{}", "[]", "{\"error\":{}}", "\u{feff}<html>"] {
            assert_eq!(found(nothing), None, "{nothing}");
        }
        assert_eq!(code_in(b"<Code>NoSuchBucket</Code><Name>\xe4</Name>").as_deref(), Some("NoSuchBucket"));
        assert_eq!(found(&format!("<Code>{}</Code>", "x".repeat(1000))).unwrap().len(), CODE_CHARS_MAX);
    }
}
