//! `synddb restore`: the application's database as it was, from a store alone.
//!
//! How it is rebuilt and checked is the validator's; this asks, and says what came of it.

mod at;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::signing::VerifyingKey;
use synddb_service::shutdown::Shutdown;
use synddb_storage::StoreUrl;
use synddb_validator::restore::{self, At, Question};

use crate::exit::{CommandError, Exit};
use crate::named;
use crate::output::{Event, Output, Seldom};
use crate::process;

#[derive(Debug, Args)]
pub(crate) struct RestoreArguments {
    /// The store: `gs://bucket/prefix`, `s3://bucket/prefix`, `az://container/prefix`, `file:///folder`, or `https://host/prefix` of a host that
    /// serves one. It is waited for while it does not answer, but for its first answer at most 30 seconds; Ctrl-C ends it.
    #[arg(value_parser = named::store)]
    store: StoreUrl,
    /// The file to write. It must not exist; its folder must, with room for about twice the database.
    file: PathBuf,
    /// The stream. Without it, those that the store holds are named.
    #[arg(long)]
    stream: Option<StreamId>,
    /// A key that may sign the log; several may be named. Take it from whoever runs the sequencer, not from the store. Without any, the names of
    /// the keys that claimed epochs are told.
    #[arg(long = "sequencer-key", value_parser = named::sequencer_key)]
    sequencer_keys: Vec<VerifyingKey>,
    /// The state: after a commit, as `status` and `inspect` number them, or at a time. Without it, everything that is stored.
    ///
    /// `42` is commit 42 of the newest incarnation that has one, `2:42` that of incarnation 2, and `2:0` the snapshot that begins it.
    /// `2026-01-31T12:00:00Z`, or with an offset as in `2026-01-31T14:00:00.5+02:00`, is a time of the log in RFC 3339: everything that the
    /// sequencer had taken until then, as it saw the time. A commit of which only parts had come is not in it.
    #[arg(long, value_name = "COMMIT|TIME", value_parser = at::read, allow_hyphen_values = true, conflicts_with = "at_message")]
    at: Option<At>,
    /// The state after a message of the log instead.
    #[arg(long, value_name = "SEQUENCE")]
    at_message: Option<Sequence>,
}

impl RestoreArguments {
    fn question(&self) -> Question {
        let at = self.at_message.map(At::Message).or(self.at);
        Question {
            store: self.store.clone(),
            stream: self.stream,
            keys: self.sequencer_keys.clone(),
            at: at.unwrap_or_default(),
            file: self.file.clone(),
        }
    }
}

pub(crate) fn run(arguments: &RestoreArguments, output: Output) -> Result<Exit, CommandError> {
    let began = Instant::now();
    let question = arguments.question();
    let restored = process::serve(output, "restore", false, async |_, shutdown: Shutdown| {
        let mut seldom = Seldom::begin(output);
        Ok::<_, CommandError>(
            restore::run(question, shutdown, move |progress| seldom.tell(&Event::Restoring(progress))).await,
        )
    })?;
    let restored = Box::new(restored.map_err(Box::new)?);
    let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let file = arguments.file.display().to_string();
    output.tell(&Event::Rebuilt { file, restored, elapsed_ms })?;
    Ok(Exit::Done)
}
