//! The way of one request: read whole, late, struck or forwarded, answered.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use super::faults::{Blackout, Fault, Outcome, Shared};
use super::line::{Line, Reset};

/// Largest body that passes, in bytes: more than any object of a log.
const BODY_BYTES_MAX: usize = 256 << 20;

/// How long the first half of something that is cut has for its way, before the connection ends.
const HALF_WAY: Duration = Duration::from_millis(30);

/// The header that only clients of Azure send.
const AZURE: &str = "x-ms-version";

/// That a connection is to end in the middle.
#[derive(Debug, thiserror::Error)]
#[error("the connection is broken on purpose")]
struct Broken;

type Body = UnsyncBoxBody<Bytes, Broken>;
type Server = Client<HttpConnector, Body>;

/// Serves until it is dropped.
pub(super) async fn serve(listener: std::net::TcpListener, server: SocketAddr, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let client: Server = Client::builder(TokioExecutor::new()).build_http();
    loop {
        // One that ended before it was accepted is nobody's.
        let Ok((stream, _)) = listener.accept().await else { continue };
        stream.set_nodelay(true).ok();
        let (line, reset) = Line::new(stream);
        if *shared.blackout.borrow() == Some(Blackout::Refuses) {
            shared.faults().counts.refused += 1;
            reset.ask();
            continue;
        }
        let way = Way { client: client.clone(), server, shared: Arc::clone(&shared), reset };
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let way = way.clone();
                async move { way.go(request).await }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .header_read_timeout(None)
                .serve_connection(TokioIo::new(line), service);
            // It ends in an error whenever a fault strikes.
            connection.await.ok();
        });
    }
}

/// What a request needs on its way.
#[derive(Clone)]
struct Way {
    client: Server,
    server: SocketAddr,
    shared: Arc<Shared>,
    reset: Reset,
}

impl Way {
    async fn go(self, request: Request<Incoming>) -> Result<Response<Body>, Broken> {
        let plan = self.shared.arrive(request.method().as_str());
        self.check_there().await?;
        let (head, body) = request.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|_| Broken)?.to_bytes();
        let is_azure = head.headers.contains_key(AZURE);
        let mut request = Request::from_parts(head, body);
        delay(plan.latency).await;
        self.check_there().await?;
        let is_head = request.method() == Method::HEAD;
        match plan.fault {
            Some(fault @ (Fault::Unavailable | Fault::Denied | Fault::Gone)) => {
                self.shared.ended(Outcome::Struck(fault));
                return Ok(refusal(fault, is_azure, is_head));
            }
            Some(Fault::Hang) => {
                self.shared.ended(Outcome::Struck(Fault::Hang));
                return pending().await;
            }
            Some(Fault::CutRequest) if !request.body().is_empty() => {
                // The server is not asked for an answer: it never had the whole.
                let cut = request.map(|body| half(&body));
                self.send(cut).await.ok();
                return self.break_off(Outcome::Struck(Fault::CutRequest));
            }
            Some(Fault::ResetBefore | Fault::CutRequest) => {
                return self.break_off(Outcome::Struck(Fault::ResetBefore));
            }
            Some(Fault::ResetAfter | Fault::CutAnswer) | None => {}
        }
        request.headers_mut().remove(CONNECTION);
        let Ok(answer) = self.send(request.map(whole)).await else {
            return self.break_off(Outcome::Unanswered);
        };
        let (mut head, body) = answer.into_parts();
        let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
            return self.break_off(Outcome::Unanswered);
        };
        let body = body.to_bytes();
        self.check_there().await?;
        head.headers.remove(CONNECTION);
        head.headers.remove(TRANSFER_ENCODING);
        match plan.fault {
            Some(Fault::CutAnswer) if !body.is_empty() => {
                self.shared.ended(Outcome::Struck(Fault::CutAnswer));
                head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
                Ok(Response::from_parts(head, half(&body)))
            }
            Some(Fault::ResetAfter | Fault::CutAnswer) => self.break_off(Outcome::Struck(Fault::ResetAfter)),
            _ => {
                self.shared.ended(Outcome::Answered);
                if !is_head
                    && head.status != StatusCode::NO_CONTENT
                    && head.status != StatusCode::NOT_MODIFIED
                {
                    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
                }
                Ok(Response::from_parts(head, whole(body)))
            }
        }
    }

    /// Ends the request where the server is away: at once, or when it is there again.
    async fn check_there(&self) -> Result<(), Broken> {
        let mut blackout = self.shared.blackout.subscribe();
        let now = *blackout.borrow_and_update();
        match now {
            None => return Ok(()),
            Some(Blackout::Refuses) => {}
            Some(Blackout::Silent) => {
                self.shared.ended(Outcome::BlackedOut);
                // The proxy ends together with what says so.
                blackout.wait_for(Option::is_none).await.ok();
                self.reset.ask();
                return Err(Broken);
            }
        }
        self.break_off(Outcome::BlackedOut)
    }

    fn break_off<T>(&self, outcome: Outcome) -> Result<T, Broken> {
        self.shared.ended(outcome);
        self.reset.ask();
        Err(Broken)
    }

    /// Sends a request to the server, with the path and the headers that it came with.
    async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, Broken> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let uri = Uri::builder().scheme("http").authority(self.server.to_string()).path_and_query(path);
        *request.uri_mut() = uri.build().map_err(|_| Broken)?;
        self.client.request(request).await.map_err(|_| Broken)
    }
}

fn whole(body: Bytes) -> Body {
    UnsyncBoxBody::new(Full::new(body).map_err(|never: Infallible| match never {}))
}

/// The first half of a body, and then the end of the connection.
fn half(body: &Bytes) -> Body {
    let first = Ok(Frame::data(body.slice(..body.len() / 2)));
    let broken = stream::once(async {
        delay(HALF_WAY).await;
        Err(Broken)
    });
    UnsyncBoxBody::new(StreamBody::new(stream::iter([first]).chain(broken)))
}

async fn delay(time: Duration) {
    if !time.is_zero() {
        tokio::time::timeout(time, pending::<()>()).await.ok();
    }
}

/// What a store of this kind answers that refuses.
fn refusal(fault: Fault, is_azure: bool, is_head: bool) -> Response<Body> {
    let (status, s3, azure) = if fault == Fault::Denied {
        (StatusCode::FORBIDDEN, "AccessDenied", "AuthorizationFailure")
    } else if fault == Fault::Gone {
        (StatusCode::NOT_FOUND, "NoSuchBucket", "ContainerNotFound")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "ServerBusy")
    };
    let code = if is_azure { azure } else { s3 };
    let xml = format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>injected by the test</Message></Error>"#
    );
    let mut answer = Response::new(whole(if is_head { Bytes::new() } else { Bytes::from(xml) }));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    if is_azure && let Ok(code) = HeaderValue::from_str(code) {
        answer.headers_mut().insert("x-ms-error-code", code);
    }
    answer
}
