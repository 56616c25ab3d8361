//! Serving a router until the process is asked to end.

use std::future::IntoFuture as _;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use tower::limit::GlobalConcurrencyLimitLayer;

use crate::shutdown::Shutdown;

/// Most requests that one listener works on at a time; more wait unread.
pub const REQUESTS_MAX: usize = 1024;

/// How long requests under way may take once the process was asked to end. Long polls end then.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Serves until asked to end, then finishes the requests under way, within a bound.
///
/// # Errors
/// When the listener fails.
pub async fn serve<L>(listener: L, router: Router, shutdown: Shutdown) -> io::Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let router = router.layer(GlobalConcurrencyLimitLayer::new(REQUESTS_MAX));
    let asked = shutdown.clone();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move { asked.asked().await });
    tokio::select! {
        served = serving.into_future() => served,
        () = async {
            shutdown.asked().await;
            tokio::time::sleep(DRAIN_MAX).await;
        } => Ok(()),
    }
}
