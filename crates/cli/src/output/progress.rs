//! How far something long is, for a person who watches: one line on a terminal, which goes when it is done.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Event, Output, sentence};

/// How often the line moves.
const TICK: Duration = Duration::from_millis(120);

/// How long nothing is said about progress.
const SELDOM: Duration = Duration::from_secs(1);

/// A line on standard error. Nothing where nobody watches, or programs read.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    pub(crate) fn begin(output: Output) -> Self {
        if output.is_json() || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
        bar.enable_steady_tick(TICK);
        Self(Some(bar))
    }

    /// Says how far it is; says whether somebody sees it.
    pub(crate) fn set(&self, message: String) -> bool {
        if let Some(bar) = &self.0 {
            bar.set_message(message);
        }
        self.0.is_some()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// How far something long is, said at most once a second: by that line where somebody watches, and as an event otherwise.
pub(crate) struct Seldom {
    said: Instant,
    progress: Progress,
    output: Output,
}

impl Seldom {
    pub(crate) fn begin(output: Output) -> Self {
        Self { said: Instant::now(), progress: Progress::begin(output), output }
    }

    /// Says it, unless it was said a moment ago.
    pub(crate) fn tell(&mut self, event: &Event) {
        if self.said.elapsed() < SELDOM {
            return;
        }
        self.said = Instant::now();
        if !self.progress.set(sentence::of(event)) {
            self.output.mention(event);
        }
    }
}
