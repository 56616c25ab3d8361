//! How far something long is, for a person who watches: one line on a terminal, which goes when it is done.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{Event, Output, sentence};

/// How often the line moves.
const TICK: Duration = Duration::from_millis(120);

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

    /// Says what an event does to people; says whether somebody sees it.
    pub(crate) fn set_event(&self, event: &Event) -> bool {
        self.set(sentence::of(event))
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
