//! A proxy that keeps preconditions to itself, so that the server behind it overwrites whatever is there.
//!
//! It stands for a store that takes the request and ignores what it says: the worst that a store can do to a log. Whatever is said to hold
//! such stores off is shown with it. Signed requests do not survive it, see
//! [`variables_unsigned_at`](crate::ObjectServer::variables_unsigned_at).

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::TRANSFER_ENCODING;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::listener::{Answer, BODY_BYTES_MAX, Listener};

/// The headers that carry preconditions, on all platforms.
const PRECONDITIONS: [&str; 3] = ["if-none-match", "if-match", "x-goog-if-generation-match"];

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct DeafProxy(Listener);

impl DeafProxy {
    /// Starts one before a server.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn before(server: SocketAddr) -> Result<Self> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let listener = Listener::start("deaf", move |request| {
            let client = client.clone();
            async move {
                pass(&client, server, request).await.unwrap_or_else(|error| {
                    let mut answer = Response::new(Full::from(format!("{error:#}")));
                    *answer.status_mut() = StatusCode::BAD_GATEWAY;
                    answer
                })
            }
        });
        Ok(Self(listener?))
    }

    /// Where clients connect.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

async fn pass(
    client: &Client<HttpConnector, Full<Bytes>>,
    server: SocketAddr,
    request: Request<Incoming>,
) -> Result<Answer> {
    let (mut head, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(anyhow::Error::from_boxed)?;
    let target = head.uri.path_and_query().context("a request has no target")?;
    head.uri = format!("http://{server}{target}").parse()?;
    head.headers.remove(TRANSFER_ENCODING);
    for name in PRECONDITIONS {
        head.headers.remove(name);
    }
    let (mut head, body) =
        client.request(Request::from_parts(head, Full::new(body.to_bytes()))).await?.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(anyhow::Error::from_boxed)?;
    head.headers.remove(TRANSFER_ENCODING);
    Ok(Response::from_parts(head, Full::new(body.to_bytes())))
}
