//! A proxy in front of a real server that is slow, breaks, or is away, on demand and by a seed.
//!
//! ```text
//! client --HTTP/1.1--> proxy: arrives (counted) -> latency -> a fault, or forwarded -> answered
//! ```
//!
//! Nothing is wrong until somebody says so. What is forwarded arrives as it was sent, its `Host` included, because signatures cover it. Which request a
//! fault strikes is decided by the seed and the order of arrival alone. A request is counted when it arrives and again by what became of it, so that a test
//! can say "none while idle", and that what it planted did happen.
//!
//! The proxy has a thread and a runtime of its own: it goes on while the test that started it blocks. It ends when it is dropped.

mod faults;
mod line;
mod serving;
#[cfg(test)]
mod tests;

pub use faults::{Blackout, Counts, Fault, Outcome};

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::oneshot;

use faults::Shared;

/// A proxy that runs until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy on a free port of this machine, in front of a server.
    ///
    /// # Errors
    /// When there is no port, thread or runtime.
    pub fn before(server: SocketAddr, seed: u64) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("cannot listen")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(seed));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("proxy".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serving::serve(listener, server, serving) => {}
                    // Also when the sender is gone.
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        })?;
        Ok(Self { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Where clients connect.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on each request waits so long before anything else happens to it: a time between these, each as likely.
    pub fn set_latency(&self, latency: RangeInclusive<Duration>) {
        self.shared.faults().latency = latency;
    }

    /// From now on this happens to so many requests in a thousand; with 1000, to all that no other fault strikes. The shares of all faults add up.
    pub fn strike(&self, fault: Fault, per_mille: u16) {
        self.shared.faults().shares.insert(fault, per_mille);
    }

    /// From now on the server is away; with `None` it is there again, and what hung is reset.
    pub fn black_out(&self, blackout: Option<Blackout>) {
        self.shared.blackout.send_replace(blackout);
    }

    /// Ends every fault, latency and blackout. The counters stay.
    pub fn clear(&self) {
        let mut faults = self.shared.faults();
        faults.latency = Duration::ZERO..=Duration::ZERO;
        faults.shares.clear();
        drop(faults);
        self.black_out(None);
    }

    /// What arrived since the proxy began, and what became of it.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.faults().counts.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
