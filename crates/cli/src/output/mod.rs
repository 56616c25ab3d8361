//! What a command prints on standard output: sentences for people, or one JSON object per line for programs.
//!
//! Every line is flushed, so that a program can wait for it.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::mirror::Summary;

/// Something that happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The mirror follows; everything committed from here on is applied.
    Ready {
        /// The application's database.
        source: String,
        /// The replica.
        target: String,
        /// Their state hash.
        state: String,
    },
    /// The mirror took something since the last time this was said.
    Progress(Summary),
    /// The mirror ended; everything committed until it was asked to is applied.
    Stopped(Summary),
    /// Two databases are equal.
    Equal {
        /// Their state hash.
        state: String,
    },
    /// Two databases differ.
    Different {
        /// The first difference.
        difference: String,
    },
    /// The command did not come to its end.
    Failed {
        /// The exit code.
        exit: u8,
        /// What failed, and why.
        message: String,
    },
}

/// Standard output.
#[derive(Debug)]
pub struct Output {
    is_json: bool,
}

impl Output {
    /// Standard output, as JSON lines or as sentences.
    pub const fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    /// Prints an event.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn say(&mut self, event: &Event) -> io::Result<()> {
        let line = if self.is_json { serde_json::to_string(event)? } else { sentence(event) };
        if line.is_empty() {
            return Ok(());
        }
        let mut output = io::stdout().lock();
        writeln!(output, "{line}")?;
        output.flush()
    }
}

fn sentence(event: &Event) -> String {
    match event {
        Event::Ready { source, target, state } => {
            format!("following {source}, mirrored to {target}, at state {state}")
        }
        Event::Progress(summary) => {
            format!(
                "{} commits, {} row changes, WAL at most {}",
                summary.commits,
                summary.row_changes,
                mib(summary.wal_bytes_max)
            )
        }
        Event::Stopped(summary) => format!(
            "stopped after {:.1} s: {} commits, {} row changes, {} WAL resets, WAL at most {}, write lock taken {} times, at state {}{}",
            summary.seconds,
            summary.commits,
            summary.row_changes,
            summary.wal_resets,
            mib(summary.wal_bytes_max),
            summary.write_locks,
            summary.state,
            if summary.verified { ", compared in full: equal" } else { "" },
        ),
        Event::Equal { state } => format!("equal, at state {state}"),
        Event::Different { difference } => difference.clone(),
        // Errors are printed for people on standard error.
        Event::Failed { .. } => String::new(),
    }
}

fn mib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
