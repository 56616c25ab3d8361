//! An HTTP server inside the test's process, for what stands before a real one.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Largest body that is passed on either way: more than any object of a log.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 20;

/// What it answers: whole, so that a body that is cut short behind it is never passed on as one that is not.
pub(crate) type Answer = Response<Full<Bytes>>;

/// A server that runs until it is dropped, on threads of its own.
#[derive(Debug)]
pub(crate) struct Listener {
    address: SocketAddr,
    /// Taken out to be dropped, because a runtime must not be dropped inside another.
    runtime: Option<Runtime>,
}

impl Listener {
    /// Starts one that answers each request by `answer`.
    pub(crate) fn start<Answering>(
        name: &str,
        answer: impl Fn(Request<Incoming>) -> Answering + Clone + Send + 'static,
    ) -> Result<Self>
    where
        Answering: Future<Output = Answer> + Send + 'static,
    {
        let started = || -> Result<Self> {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name(name)
                .enable_all()
                .build()?;
            let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            runtime.spawn(serve(socket, answer));
            Ok(Self { address, runtime: Some(runtime) })
        };
        started().with_context(|| format!("cannot start an HTTP server. name=`{name}`"))
    }

    /// Where clients connect.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve<Answering>(
    socket: std::net::TcpListener,
    answer: impl Fn(Request<Incoming>) -> Answering + Clone + Send + 'static,
) -> Result<()>
where
    Answering: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::from_std(socket)?;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        let service = service_fn(move |request| {
            let answering = answer(request);
            async move { Ok::<_, Infallible>(answering.await) }
        });
        // A connection that breaks is its client's to notice.
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}
