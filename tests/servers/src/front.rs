//! What stands before `fake-gcs-server`, so that it answers the protocol that clients speak as Google Cloud Storage does.
//!
//! The server has two protocols, as the real one. In the JSON one it honours preconditions and pages its listings; in the XML one, which
//! the product's client speaks, it refuses plain puts, ignores preconditions, knows no pages, and does not tell an absent bucket from an
//! absent object. So requests of the XML protocol are translated:
//!
//! | request | asked of the server | |
//! |---|---|---|
//! | `PUT /bucket/object`, `x-goog-if-generation-match` | a media upload with `ifGenerationMatch` | whole, so that an upload that is cut short never reaches the server |
//! | `GET /bucket?list-type=2&...` | a listing with `startOffset`, `pageToken`, `maxResults` | `start-after` leaves its place out, `startOffset` does not: it is the next possible name |
//! | `GET`, `HEAD /bucket/object` | the same | what is absent is told apart: `NoSuchBucket`, `NoSuchKey` |
//! | `DELETE /bucket/object` | a removal | |
//!
//! Whether a precondition holds, what is stored and what is listed decides the server alone. The front keeps nothing.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::listener::{Answer, BODY_BYTES_MAX, Listener};

/// Most names in one page, as Google Cloud Storage has it.
const PAGE_NAMES_MAX: usize = 1000;

const GENERATION: HeaderName = HeaderName::from_static("x-goog-generation");
const GENERATION_MATCH: &str = "x-goog-if-generation-match";

/// Starts one before the server at `behind`.
pub(crate) fn before(behind: SocketAddr) -> Result<Listener> {
    let behind = Behind { address: behind, client: Client::builder(TokioExecutor::new()).build_http() };
    Listener::start("front", move |request| {
        let behind = behind.clone();
        async move { behind.answer(request).await }
    })
}

/// The server behind the front.
#[derive(Debug, Clone)]
struct Behind {
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Behind {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let answered = self.translate(request).await;
        answered.unwrap_or_else(|error| refusal(StatusCode::BAD_GATEWAY, "BadGateway", &format!("{error:#}")))
    }

    async fn translate(&self, request: Request<Incoming>) -> Result<Answer> {
        let (bucket, object) = match request.uri().path().trim_start_matches('/').split_once('/') {
            Some((bucket, object)) if !object.is_empty() => (bucket.to_owned(), Some(object.to_owned())),
            Some((bucket, _)) => (bucket.to_owned(), None),
            None => (request.uri().path().trim_start_matches('/').to_owned(), None),
        };
        match (request.method().clone(), object) {
            (Method::GET, None) => self.list(&bucket, request.uri().query().unwrap_or_default()).await,
            (Method::PUT, Some(object)) => self.put(&bucket, &object, request).await,
            (Method::GET | Method::HEAD, Some(object)) => self.get(&bucket, &object, request).await,
            (Method::DELETE, Some(object)) => {
                let target = format!("/storage/v1/b/{bucket}/o/{object}");
                let (status, _) = self.send(Method::DELETE, &target, Bytes::new()).await?;
                if status.is_success() {
                    Ok(plain(StatusCode::NO_CONTENT))
                } else {
                    self.absent(&bucket).await
                }
            }
            (method, _) => {
                let told = format!("the front does not know this request. method=`{method}`");
                Ok(refusal(StatusCode::NOT_IMPLEMENTED, "NotImplemented", &told))
            }
        }
    }

    async fn put(&self, bucket: &str, object: &str, request: Request<Incoming>) -> Result<Answer> {
        let mut target =
            format!("/upload/storage/v1/b/{bucket}/o?uploadType=media&name={}", as_value(object));
        if let Some(generation) = request.headers().get(GENERATION_MATCH) {
            let generation = generation.to_str().context("a generation is no text")?;
            write!(target, "&ifGenerationMatch={generation}")?;
        }
        let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
            return Ok(refusal(
                StatusCode::BAD_REQUEST,
                "IncompleteBody",
                "the body is cut short, or too large",
            ));
        };
        let (status, body) = self.send(Method::POST, &target, body.to_bytes()).await?;
        match status {
            StatusCode::OK => {
                let stored: Value =
                    serde_json::from_slice(&body).context("the server does not answer in JSON")?;
                let mut answer = plain(StatusCode::OK);
                let (tag, generation) = (text(&stored, "etag")?, text(&stored, "generation")?);
                answer.headers_mut().insert(ETAG, HeaderValue::from_str(&format!("\"{tag}\""))?);
                answer.headers_mut().insert(GENERATION, HeaderValue::from_str(generation)?);
                Ok(answer)
            }
            StatusCode::PRECONDITION_FAILED => {
                let told = "At least one of the pre-conditions you specified did not hold.";
                Ok(refusal(status, "PreconditionFailed", told))
            }
            StatusCode::NOT_FOUND => self.absent(bucket).await,
            _ => Ok(refusal(status, "Unexpected", &String::from_utf8_lossy(&body))),
        }
    }

    async fn get(&self, bucket: &str, object: &str, request: Request<Incoming>) -> Result<Answer> {
        let (mut parts, _) = request.into_parts();
        let query = parts.uri.query().map_or_else(String::new, |query| format!("?{query}"));
        parts.uri = self.uri(&format!("/download/storage/v1/b/{bucket}/o/{object}{query}"))?;
        parts.headers.remove(HOST);
        let answer = self.client.request(Request::from_parts(parts, Full::default())).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return self.absent(bucket).await;
        }
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let Ok(body) = body else { bail!("the server's answer is cut short, or too large") };
        let mut answer = Response::from_parts(parts, Full::new(body.to_bytes()));
        answer.headers_mut().remove(TRANSFER_ENCODING);
        Ok(answer)
    }

    async fn list(&self, bucket: &str, query: &str) -> Result<Answer> {
        let target = format!("/storage/v1/b/{bucket}/o?{}", listing_query(query)?);
        let (status, body) = self.send(Method::GET, &target, Bytes::new()).await?;
        match status {
            StatusCode::OK => {
                let found = serde_json::from_slice(&body).context("the server does not answer in JSON")?;
                Ok(document(StatusCode::OK, &listing(bucket, &found)?))
            }
            StatusCode::NOT_FOUND => self.absent(bucket).await,
            _ => Ok(refusal(status, "Unexpected", &String::from_utf8_lossy(&body))),
        }
    }

    /// What a client is told of what is not there: of the bucket, or of the object in it.
    async fn absent(&self, bucket: &str) -> Result<Answer> {
        let (status, _) = self.send(Method::GET, &format!("/storage/v1/b/{bucket}"), Bytes::new()).await?;
        Ok(if status.is_success() {
            refusal(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.")
        } else {
            refusal(StatusCode::NOT_FOUND, "NoSuchBucket", "The specified bucket does not exist.")
        })
    }

    async fn send(&self, method: Method, target: &str, body: Bytes) -> Result<(StatusCode, Bytes)> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri(target)?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let (parts, body) = self.client.request(request).await?.into_parts();
        let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
            bail!("the server's answer is cut short, or too large");
        };
        Ok((parts.status, body.to_bytes()))
    }

    fn uri(&self, target: &str) -> Result<Uri> {
        format!("http://{}{target}", self.address).parse().context("a request's target is no target")
    }
}

/// What the JSON protocol calls the parameters of a listing.
fn listing_query(query: &str) -> Result<String> {
    let mut asked = url::form_urlencoded::Serializer::new(String::new());
    let mut limit = PAGE_NAMES_MAX;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "prefix" | "delimiter" => drop(asked.append_pair(&name, &value)),
            "continuation-token" => drop(asked.append_pair("pageToken", &value)),
            "start-after" => drop(asked.append_pair("startOffset", &format!("{value}\0"))),
            "max-keys" => {
                limit = value.parse::<usize>().context("max-keys is no number")?.min(PAGE_NAMES_MAX)
            }
            "list-type" => {}
            _ => bail!("the front does not know this parameter. name=`{name}`"),
        }
    }
    asked.append_pair("maxResults", &limit.to_string());
    Ok(asked.finish())
}

/// An escaped path as the value of a parameter.
fn as_value(path: &str) -> String {
    path.replace('&', "%26").replace('+', "%2B")
}

fn text<'a>(value: &'a Value, member: &str) -> Result<&'a str> {
    value[member].as_str().with_context(|| format!("the server's answer lacks a member. member=`{member}`"))
}

/// A listing of the JSON protocol in the XML one.
fn listing(bucket: &str, found: &Value) -> Result<String> {
    let token = found["nextPageToken"].as_str();
    let mut xml = format!(
        "<ListBucketResult><Name>{}</Name><IsTruncated>{}</IsTruncated>",
        escaped(bucket),
        token.is_some()
    );
    if let Some(token) = token {
        write!(xml, "<NextContinuationToken>{}</NextContinuationToken>", escaped(token))?;
    }
    for item in found["items"].as_array().into_iter().flatten() {
        let (name, size, changed) = (text(item, "name")?, text(item, "size")?, text(item, "updated")?);
        let (tag, generation) = (text(item, "etag")?, text(item, "generation")?);
        write!(
            xml,
            "<Contents><Key>{}</Key><Generation>{generation}</Generation><LastModified>{changed}</LastModified>\
             <ETag>&quot;{}&quot;</ETag><Size>{size}</Size></Contents>",
            escaped(name),
            escaped(tag)
        )?;
    }
    for prefix in found["prefixes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        write!(xml, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escaped(prefix))?;
    }
    xml.push_str("</ListBucketResult>");
    Ok(xml)
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Answer {
    document(status, &format!("<Error><Code>{code}</Code><Message>{}</Message></Error>", escaped(message)))
}

fn document(status: StatusCode, xml: &str) -> Answer {
    let mut answer =
        Response::new(Full::new(Bytes::from(format!("<?xml version='1.0' encoding='UTF-8'?>{xml}"))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml; charset=UTF-8"));
    answer
}

fn plain(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    if status != StatusCode::NO_CONTENT {
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    answer
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
