//! What a command prints on standard output: sentences for people, or one JSON object per line for programs.
//!
//! Every line is flushed, so that a program can wait for it.

mod event;
mod progress;
mod restored;
mod ruled;
mod sentence;
mod swept;
mod verified;

use std::io::{self, Write as _};

pub use event::{Bridged, Continuity, Event, Process, Stage, Writer};
pub(crate) use progress::{Progress, Seldom};
pub(crate) use sentence::{counted, mib, printable};

use crate::exit::CommandError;

/// Standard output.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    is_json: bool,
}

impl Output {
    /// Standard output, as JSON lines or as sentences.
    pub const fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    /// Whether it is for programs.
    pub const fn is_json(self) -> bool {
        self.is_json
    }

    /// Prints an event.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn say(self, event: &Event) -> io::Result<()> {
        let line = if self.is_json { serde_json::to_string(event)? } else { sentence::of(event) };
        if line.is_empty() {
            return Ok(());
        }
        let mut output = io::stdout().lock();
        writeln!(output, "{line}")?;
        output.flush()
    }

    /// Tells people on standard error why a command failed. Names of files and of what is in a database stand in it.
    pub fn complain(self, message: &str) {
        let lines: Vec<String> = message.lines().map(printable).collect();
        eprintln!("error: {}", lines.join("\n"));
    }

    /// The same for a process whose work goes on when nobody listens any more: its parent may have died.
    pub(crate) fn mention(self, event: &Event) {
        self.say(event).ok();
    }

    /// The same, as a command's error.
    pub(crate) fn tell(self, event: &Event) -> Result<(), CommandError> {
        self.say(event).map_err(CommandError::system("write to standard output"))
    }
}
