//! When a command that waits by itself is asked to end: a signal, or the end of standard input.

use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// What a shell reports for a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Whether the command was asked to end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Set by SIGINT and SIGTERM. A second signal ends the process at once.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag unset.
            flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&stop.0))?;
            flag::register(signal, Arc::clone(&stop.0))?;
        }
        Ok(stop)
    }

    /// Set also when standard input ends. The thread that waits for it ends with the process.
    pub(crate) fn or_on_eof(&self) -> io::Result<()> {
        let flag = Arc::clone(&self.0);
        let wait = move || {
            let mut input = io::stdin().lock();
            let mut nothing = [0; 512];
            // Whatever is written is ignored. An input that cannot be read will not end later either.
            while let Ok(1..) = input.read(&mut nothing) {}
            flag.store(true, Ordering::SeqCst);
        };
        std::thread::Builder::new().name("standard input".to_owned()).spawn(wait).map(drop)
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
