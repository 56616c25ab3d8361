//! A sequencer: for an agent that is measured as it works, since one that is sent what was captured does not gather it; or to be measured itself.
//!
//! What must stay true: beside an agent it keeps up, since nobody waits for what it does.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use synddb_service::credentials::{self, NewCredential};
use synddb_service::secret::Token;
use synddb_storage::StoreUrl;

use super::agent::without_settings;
use super::child::Child;
use super::{Bench, BenchError};
use crate::exit::CommandError;
use crate::output::Event;

/// How long it may take until it listens.
const LISTENING_MAX: Duration = Duration::from_secs(60);

/// Under what a sequencer runs.
pub(super) enum Under {
    /// Nothing.
    Nothing,
    /// A command that runs it, and notes something of it.
    Tracer(Vec<OsString>),
}

/// A sequencer, with a store of files.
pub(super) struct Sequencer {
    child: Child,
    url: String,
    key: String,
    store: String,
}

impl Sequencer {
    /// Starts one that keeps everything in a folder, and returns when it listens.
    pub(super) fn start(bench: &Bench, folder: &Path, token: &Path) -> Result<Self, BenchError> {
        Self::start_under(bench, folder, token, &Under::Nothing)
    }

    /// The same for one that may have been there before, under something.
    pub(super) fn start_under(
        bench: &Bench,
        folder: &Path,
        token: &Path,
        under: &Under,
    ) -> Result<Self, BenchError> {
        let failed = BenchError::system;
        let store = folder.join("store");
        std::fs::create_dir_all(&store).map_err(failed("make a folder"))?;
        let store = StoreUrl::folder(&store).map_err(CommandError::from)?.to_string();
        let program = std::env::current_exe().map_err(failed("find this program"))?;
        let mut command = match under {
            Under::Tracer(tracer) if !tracer.is_empty() => {
                let mut command = Command::new(&tracer[0]);
                command.args(&tracer[1..]).arg(program);
                command
            }
            Under::Tracer(_) | Under::Nothing => Command::new(program),
        };
        command.args(["sequencer", "--json", "--stop-on-eof", "--listen", "127.0.0.1:0", "--store", &store]);
        command.arg("--dir").arg(folder.join("sequencer"));
        command.arg("--credentials-file").arg(credentials_of(folder, token)?);
        command.arg("--key-file").arg(folder.join("sequencer.key"));
        without_settings(&mut command);
        let mut child = Child::start(bench, "sequencer", command)?;
        loop {
            let line = child.next("listen", LISTENING_MAX)?;
            match serde_json::from_str(&line) {
                Ok(Event::Listening { url, key: Some(key), .. }) => {
                    return Ok(Self { child, url, key, store });
                }
                Ok(_) => {}
                Err(_) => return Err(child.foreign(&line)),
            }
        }
    }

    /// Its number for the operating system, or that of what it runs under.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The key that signs.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Where the log is stored.
    pub(super) fn store(&self) -> &str {
        &self.store
    }

    /// Has it end, after everything is stored.
    pub(super) fn end(self) -> Result<(), BenchError> {
        self.child.end()
    }
}

/// The file by which a sequencer knows a token, in this folder.
pub(super) fn credentials_of(folder: &Path, token: &Path) -> Result<PathBuf, BenchError> {
    let file = folder.join("credentials.toml");
    let token = NewCredential::of_token("bench", &Token::read(token).map_err(CommandError::from)?);
    credentials::write(&file, &token).map_err(CommandError::from)?;
    Ok(file)
}
