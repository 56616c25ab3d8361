//! Serving a router until the process is asked to end.
//!
//! Nobody who is slow, or says nothing, holds anything for long: a connection has a time for the head of its next request, for
//! each write, and a pace for each body; there are only so many connections, and who says nothing makes room for who does. What only
//! this machine can reach is not answered to web pages either: a browser on this machine must not become a way in.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use synddb_protocol::http::{EVIDENCE_HEADER_BYTES_MAX, Reason};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio_io_timeout::TimeoutStream;

use super::connections::{ConnectionBounds, Peer, Seat, Seats, Worked};
use super::pace::{LEFTOVER_BYTES_MAX, Leftover, PacedBody};
use super::{PeerCertificate, Refusal, Transport};
use crate::shutdown::Shutdown;
use crate::trouble::Trouble;

/// How long the head of a request may take, and a connection may wait for the next one.
const HEAD_MAX: Duration = Duration::from_secs(15);

/// Most connections that wait to be accepted. The kernel's own bound (`net.core.somaxconn`) is the same where nobody changed it.
const WAITING_MAX: u32 = 4096;

/// Longest head of a request, in bytes. A longer one is refused with 431. Evidence of a credential fits.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Most bytes that a connection reads ahead, and that wait in it to be written.
const BUFFER_BYTES_MAX: usize = 64 << 10;

const _: () = assert!(
    EVIDENCE_HEADER_BYTES_MAX + (4 << 10) <= HEAD_BYTES_MAX,
    "evidence fits beside everything else of a head"
);
const _: () = assert!(HEAD_BYTES_MAX <= BUFFER_BYTES_MAX, "a head fits the buffer that it is read into");

/// How long a client may take to read what is sent to it before more can be sent.
const WRITE_MAX: Duration = Duration::from_secs(30);

/// How long requests under way may take once the process was asked to end. Long polls end then.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// How long nobody is accepted after that failed for want of something.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// What connections come in by.
pub trait Entrance: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Whether only this machine can reach it.
    ///
    /// # Errors
    /// When it has no address.
    fn is_local(&self) -> io::Result<bool>;

    /// The next connection, and the address that it comes from, where there are addresses.
    ///
    /// # Errors
    /// As `accept(2)`.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<IpAddr>)>> + Send;
}

impl Entrance for TcpListener {
    type Stream = TcpStream;

    fn is_local(&self) -> io::Result<bool> {
        Ok(self.local_addr()?.ip().is_loopback())
    }

    async fn accept(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        Self::accept(self).await.map(|(stream, address)| (stream, Some(address.ip())))
    }
}

impl Entrance for UnixListener {
    type Stream = UnixStream;

    fn is_local(&self) -> io::Result<bool> {
        Ok(true)
    }

    async fn accept(&self) -> io::Result<(UnixStream, Option<IpAddr>)> {
        Self::accept(self).await.map(|(stream, _)| (stream, None))
    }
}

/// Listens at an address, with room for a crowd that comes at once: who finds none is told nothing, and tries again after seconds.
///
/// # Errors
/// As `bind(2)` and `listen(2)`.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A service that starts again takes the place of the one before it at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING_MAX)
}

/// Serves until asked to end, then finishes the requests under way, within a bound.
///
/// # Errors
/// When the listener has no address.
pub async fn serve(
    entrance: impl Entrance,
    transport: Transport,
    router: Router,
    bounds: ConnectionBounds,
    shutdown: Shutdown,
) -> io::Result<()> {
    let router = if entrance.is_local()? { router.layer(from_fn(refuse_web_pages)) } else { router };
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    let seats = Seats::new(bounds);
    let graceful = GracefulShutdown::new();
    let mut trouble = Trouble::new();
    loop {
        let next = async {
            let (stream, peer) = accept(&entrance, &seats, &mut trouble).await;
            let peer = peer.map(Peer::from);
            (stream, peer, seats.take(peer).await)
        };
        let (stream, peer, seat) = tokio::select! {
            next = next => next,
            () = shutdown.asked() => break,
        };
        let Some(seat) = seat else { continue };
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_MAX));
        let (http, transport, service) = (http.clone(), transport.clone(), service.clone());
        let (watcher, ended) = (graceful.watcher(), shutdown.clone());
        tokio::spawn(async move {
            // What goes wrong on one connection is its client's affair.
            let begun = tokio::select! {
                begun = transport.begin(Box::pin(stream)) => begun,
                () = seat.asked_to_leave() => return,
                () = ended.asked() => return,
            };
            let Ok((stream, certificate)) = begun else { return };
            let seated = Seated { service, certificate, peer, seat: Arc::clone(&seat) };
            tokio::select! {
                _ = watcher.watch(http.serve_connection(TokioIo::new(stream), seated)) => {}
                () = seat.asked_to_leave() => {}
            }
        });
    }
    drop(entrance);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(DRAIN_MAX) => {}
    }
    Ok(())
}

/// The next connection. Where one cannot be accepted for want of files or memory, an idle one is closed, and it is tried again soon.
async fn accept<E: Entrance>(
    entrance: &E,
    seats: &Seats,
    trouble: &mut Trouble,
) -> (E::Stream, Option<IpAddr>) {
    loop {
        let error = match entrance.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => error,
        };
        // One that went before it was accepted says nothing about the next one.
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
            continue;
        }
        if trouble.met(Instant::now(), "accept").is_some() {
            tracing::warn!(
                error = synddb_protocol::chain(&error),
                "cannot accept a connection; look at the limit of open files"
            );
        }
        seats.make_room();
        tokio::time::sleep(ACCEPT_RETRY).await;
    }
}

/// The routes as one connection has them: its bodies come at a pace, and its seat knows whether it is worked for.
struct Seated {
    service: TowerToHyperService<Router>,
    /// What the client showed when the connection began.
    certificate: Option<PeerCertificate>,
    /// Where it comes from.
    peer: Option<Peer>,
    seat: Arc<Seat>,
}

impl Service<Request<Incoming>> for Seated {
    type Response = Response<Answering>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let worked = Worked::begin(&self.seat);
        let is_unmeasured = request.headers().contains_key(header::TRANSFER_ENCODING);
        let length = request
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        let is_long = length.is_some_and(|length: usize| length > LEFTOVER_BYTES_MAX);
        let is_waiting = request.headers().contains_key(header::EXPECT);
        let leftover = if is_waiting { Leftover::Unasked } else { Leftover::Discarded };
        let mut request = request.map(|body| Body::new(PacedBody::new(body, leftover, &self.seat)));
        if let Some(certificate) = self.certificate {
            request.extensions_mut().insert(certificate);
        }
        request.extensions_mut().insert(Arc::clone(&self.seat));
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        let answered = self.service.call(request);
        Box::pin(async move {
            let Ok(mut response) = answered.await;
            if is_unmeasured || (is_long && response.status().is_client_error()) {
                // Of a long body that was refused the rest may not be read to its end, and its connection ends then.
                // Where something in front of this reads lengths otherwise, what follows a body may be somebody else's (RFC 9112,
                // section 11.2): nothing follows.
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| Answering { body, _worked: worked }))
        })
    }
}

/// The body of an answer; its connection is worked for until it was handed over.
struct Answering {
    body: Body,
    _worked: Worked,
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Refuses what a browser sends on behalf of a page: it says where the page is from, or names a host that is not this machine.
async fn refuse_web_pages(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).map_or(Some(""), |host| host.to_str().ok());
    // A target in absolute form names its host itself (RFC 9112, section 3.2.2).
    let named = request.uri().authority().map_or("", |authority| authority.as_str());
    if headers.contains_key(header::ORIGIN) || !host.is_some_and(is_this_machine) || !is_this_machine(named) {
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
    use axum::http::StatusCode;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::http::Payload;

    /// A server on a free port.
    struct Serving {
        address: SocketAddr,
        shutdown: Shutdown,
        task: tokio::task::JoinHandle<io::Result<()>>,
    }

    impl Serving {
        async fn start(connections_max: usize) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let shutdown = Shutdown::new();
            let router = Router::new()
                .route("/", axum::routing::get(async || "served"))
                .route("/refuse", axum::routing::post(async || StatusCode::UNAUTHORIZED))
                .route("/read", axum::routing::post(async |read: Payload<64>| read.bytes));
            let bounds = ConnectionBounds {
                connections_max: connections_max.try_into().unwrap(),
                ..ConnectionBounds::default()
            };
            let task = tokio::spawn(serve(listener, Transport::Plain, router, bounds, shutdown.clone()));
            Self { address, shutdown, task }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        async fn stop(self) {
            self.shutdown.ask();
            self.task.await.unwrap().unwrap();
        }
    }

    /// What a server answers to these bytes, and then closes or ends.
    async fn answer(request: &str) -> String {
        let serving = Serving::start(8).await;
        let mut client = serving.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        serving.stop().await;
        answer
    }

    /// Asks on a connection that stays open.
    async fn ask(client: &mut TcpStream) -> io::Result<()> {
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"served") {
            if client.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
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
        // A target in absolute form is what is asked for, whatever `Host` says.
        let absolute =
            |host| format!("GET http://{host}/ HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\n\r\n");
        assert!(answer(&absolute("evil.example")).await.starts_with("HTTP/1.1 401"));
        assert!(answer(&absolute("localhost:80")).await.contains("served"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_closed() {
        // Time passes by itself while everybody waits, so this takes no time.
        let begun = tokio::time::Instant::now();
        answer("GET / HTTP/1.1\r\nHost: local").await;
        assert!(begun.elapsed() >= HEAD_MAX, "{:?}", begun.elapsed());
    }
    #[tokio::test]
    async fn who_is_idle_makes_room_for_who_comes() {
        let serving = Serving::start(2).await;
        let (mut idle, mut working) = (serving.connect().await, serving.connect().await);
        ask(&mut idle).await.unwrap();
        ask(&mut working).await.unwrap();
        let mut late = serving.connect().await;
        ask(&mut late).await.unwrap();
        ask(&mut working).await.unwrap();
        assert!(ask(&mut idle).await.is_err(), "it was closed");
        serving.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_refused_and_one_that_comes_is_not() {
        let body =
            |length| format!("POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\na");
        let begun = tokio::time::Instant::now();
        let serving = Serving::start(8).await;
        let mut client = serving.connect().await;
        client.write_all(body(3).as_bytes()).await.unwrap();
        let mut refused = String::new();
        client.read_to_string(&mut refused).await.unwrap();
        assert!(refused.starts_with("HTTP/1.1 408") && refused.contains("too_slow"), "{refused}");
        assert!(begun.elapsed() >= Duration::from_secs(10), "{:?}", begun.elapsed());
        serving.stop().await;
        assert!(answer(&body(65)).await.starts_with("HTTP/1.1 413"));
    }

    /// The head of a request that is answered before anything of its body was read.
    fn refused_head(length: usize, more: &str) -> String {
        format!("POST /refuse HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: {length}\r\n\r\n")
    }

    #[tokio::test]
    async fn who_sends_all_of_a_body_that_nobody_reads_sees_the_answer() {
        const LENGTH: usize = 512 << 10;
        let serving = Serving::start(8).await;
        let mut client = serving.connect().await;
        client.write_all(refused_head(LENGTH, "").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            assert!(client.read_buf(&mut answer).await.unwrap() > 0, "it is answered first");
        }
        assert!(answer.starts_with(b"HTTP/1.1 401"), "{answer:?}");
        client.write_all(&vec![0; LENGTH]).await.unwrap();
        ask(&mut client).await.unwrap();
        serving.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_nobody_reads_is_waited_for_shortly_and_not_where_its_client_waits() {
        for (more, within) in [("", 5), ("Expect: 100-continue\r\n", 0)] {
            let begun = tokio::time::Instant::now();
            let answer = answer(&refused_head(1 << 20, more)).await;
            assert!(answer.starts_with("HTTP/1.1 401") && !answer.contains(" 100 "), "{answer}");
            assert_eq!(begun.elapsed().as_secs(), within, "{more}");
        }
    }

    #[tokio::test]
    async fn of_a_body_that_nobody_reads_no_more_is_taken_than_is_bounded() {
        let serving = Serving::start(8).await;
        let mut client = serving.connect().await;
        client.write_all(refused_head(1 << 40, "").as_bytes()).await.unwrap();
        let begun = Instant::now();
        while client.write_all(&[0; 64 << 10]).await.is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it is closed");
        }
        serving.stop().await;
    }

    #[tokio::test]
    async fn nothing_follows_a_body_without_a_length() {
        let smuggled = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let head = "POST /read HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n";
        for lengths in ["", "Content-Length: 5\r\n"] {
            let answer = answer(&format!("{head}{lengths}\r\n2\r\nab\r\n0\r\n\r\n{smuggled}")).await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ab"), "{answer}");
        }
    }

    /// One that has no file left for the first connections.
    struct Short(TcpListener, std::sync::atomic::AtomicU32);

    impl Entrance for Short {
        type Stream = TcpStream;

        fn is_local(&self) -> io::Result<bool> {
            Ok(true)
        }

        async fn accept(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
            const EMFILE: i32 = 24;
            match self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                // One comes, then there is nothing left for a while.
                1..=3 => Err(io::Error::from_raw_os_error(EMFILE)),
                _ => Entrance::accept(&self.0).await,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_files_run_out_an_idle_connection_is_closed_and_accepting_goes_on() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let router = Router::new().route("/", axum::routing::get(async || "served"));
        let begun = tokio::time::Instant::now();
        let entrance = Short(listener, std::sync::atomic::AtomicU32::new(0));
        let serving = tokio::spawn(serve(
            entrance,
            Transport::Plain,
            router,
            ConnectionBounds::default(),
            shutdown.clone(),
        ));
        let mut idle = TcpStream::connect(address).await.unwrap();
        assert_eq!(idle.read(&mut [0]).await.unwrap_or(0), 0, "it was closed");
        ask(&mut TcpStream::connect(address).await.unwrap()).await.unwrap();
        assert!(begun.elapsed() >= 3 * ACCEPT_RETRY, "it does not spin: {:?}", begun.elapsed());
        shutdown.ask();
        serving.await.unwrap().unwrap();
    }
}
