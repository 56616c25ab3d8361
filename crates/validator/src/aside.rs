//! Threads that answer strangers, and give way to whoever applies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

/// How much less of a processor who answers gets than who applies, where there are not enough: about a tenth (sched(7), "nice").
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// That the thread could not be started, or met a fault.
#[derive(Debug)]
pub(crate) struct Fault;

/// Does something on a thread of its own. How many there are is for the door to say.
///
/// A thread that was made to give way cannot be made equal again, so that none is used twice.
pub(crate) async fn aside<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    let (tell, told) = oneshot::channel();
    let started = std::thread::Builder::new().name("query".to_owned()).spawn(move || {
        // Of this thread alone on Linux; elsewhere it would be of the whole process. Where it is refused, all are equal.
        #[cfg(target_os = "linux")]
        rustix::process::nice(NICENESS).ok();
        // Who does not wait any more does not need it.
        tell.send(act()).ok();
    });
    started.map_err(|_| Fault)?;
    told.await.map_err(|_| Fault)
}

/// Somebody who waits for an answer, until dropped.
pub(crate) struct Waiting(Arc<AtomicBool>);

impl Waiting {
    /// Says besides whether nobody waits any more.
    pub(crate) fn begin() -> (Self, impl Fn() -> bool + Send + 'static) {
        let is_over = Arc::new(AtomicBool::new(false));
        (Self(Arc::clone(&is_over)), move || is_over.load(Ordering::Relaxed))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn who_answers_gives_way_and_nobody_else() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        assert_eq!(aside(niceness).await.unwrap(), (before + NICENESS).min(19));
        assert_eq!(niceness(), before);
    }

    #[tokio::test]
    async fn a_fault_is_told() {
        assert!(aside(|| -> () { std::panic::resume_unwind(Box::new("a fault")) }).await.is_err());
    }
}
