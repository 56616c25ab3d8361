//! When a process is asked to end: by SIGINT, by SIGTERM, or by the end of standard input.
//!
//! Asking is not ending: whoever holds a [`Shutdown`] finishes what it has promised first. A second signal ends the process at
//! once.

use std::io;

use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell reports for a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Whether a process, or a part of it, was asked to end. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Nobody asks but [`Self::ask`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Asked by SIGINT and SIGTERM; a second one ends the process at once. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// When signals cannot be caught.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::default();
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let asked = shutdown.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if asked.is_asked() {
                    std::process::exit(INTERRUPTED);
                }
                asked.ask();
            }
        });
        Ok(shutdown)
    }

    /// Asked also when standard input ends: for a process whose parent may die.
    pub fn or_on_eof(&self) {
        let asked = self.clone();
        tokio::spawn(async move {
            let mut input = tokio::io::stdin();
            let mut nothing = [0; 512];
            // Whatever is written is ignored. An input that cannot be read will not end later either.
            while let Ok(1..) = input.read(&mut nothing).await {}
            asked.ask();
        });
    }

    /// Asks.
    pub fn ask(&self) {
        self.0.cancel();
    }

    /// Whether somebody asked.
    pub fn is_asked(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Returns when somebody asked.
    pub async fn asked(&self) {
        self.0.cancelled().await;
    }
}
