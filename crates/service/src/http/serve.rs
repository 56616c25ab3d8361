//! Serving a router until the process is asked to end.
//!
//! Nobody who is slow, or says nothing, holds anything for long: a connection has a time for the head of its next request and for
//! each write, and there are only so many connections. What only this machine can reach is not answered to web pages either: a browser
//! on this machine must not become a way in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use synddb_protocol::http::Reason;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

use super::Refusal;
use crate::shutdown::Shutdown;

/// Most connections of one listener; more wait to be accepted. Each has one request at a time.
const CONNECTIONS_MAX: usize = 512;

/// How long the head of a request may take, and a connection may wait for the next one.
const HEAD_MAX: Duration = Duration::from_secs(15);

/// How long a client may take to read what is sent to it before more can be sent.
const WRITE_MAX: Duration = Duration::from_secs(30);

/// How long requests under way may take once the process was asked to end. Long polls end then.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Whether only this machine can reach an address.
pub trait Reach {
    /// Whether it can.
    fn is_local(&self) -> bool;
}

impl Reach for SocketAddr {
    fn is_local(&self) -> bool {
        self.ip().is_loopback()
    }
}

impl Reach for tokio::net::unix::SocketAddr {
    fn is_local(&self) -> bool {
        true
    }
}

/// Serves until asked to end, then finishes the requests under way, within a bound.
///
/// # Errors
/// When the listener has no address.
pub async fn serve<L>(mut listener: L, router: Router, shutdown: Shutdown) -> io::Result<()>
where
    L: Listener,
    L::Addr: Reach,
{
    let router =
        if listener.local_addr()?.is_local() { router.layer(from_fn(refuse_web_pages)) } else { router };
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&room).acquire_owned() => permit.map_err(io::Error::other)?,
            () = shutdown.asked() => break,
        };
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.asked() => break,
        };
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_MAX));
        let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service.clone());
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _permit = permit;
            // What goes wrong on one connection is its client's affair.
            connection.await.ok();
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(DRAIN_MAX) => {}
    }
    Ok(())
}

/// Refuses what a browser sends on behalf of a page: it says where the page is from, or names a host that is not this machine.
async fn refuse_web_pages(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).map_or(Some(""), |host| host.to_str().ok());
    if headers.contains_key(header::ORIGIN) || !host.is_some_and(is_this_machine) {
        let detail = "only programs of this machine are answered here: name it as 127.0.0.1 or localhost, without `Origin`";
        return Refusal::new(Reason::Unauthorized, detail).into_response();
    }
    next.run(request).await
}

fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    // A client of a socket has to name something.
    matches!(name, "" | "agent") || name == "localhost" || name == "127.0.0.1" || name == "[::1]"
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// What a server answers to these bytes, and then closes or ends.
    async fn answer(request: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let router = Router::new().route("/", axum::routing::get(|| async { "served" }));
        let serving = tokio::spawn(serve(listener, router, shutdown.clone()));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        shutdown.ask();
        serving.await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn a_browser_is_no_way_in() {
        let served = |headers: &str| format!("GET / HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        for fine in
            ["Host: localhost\r\n", "Host: 127.0.0.1:8080\r\n", "Host: [::1]:1\r\n", "Host: agent\r\n"]
        {
            assert!(answer(&served(fine)).await.contains("served"), "{fine}");
        }
        for page in [
            "Host: evil.example\r\n",
            "Host: localhost\r\nOrigin: http://evil.example\r\n",
            "Host: 127.0.0.1.evil\r\n",
        ] {
            assert!(answer(&served(page)).await.starts_with("HTTP/1.1 401"), "{page}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_closed() {
        // Time passes by itself while everybody waits, so this takes no time.
        let begun = tokio::time::Instant::now();
        answer("GET / HTTP/1.1\r\nHost: local").await;
        assert!(begun.elapsed() >= HEAD_MAX, "{:?}", begun.elapsed());
    }
}
