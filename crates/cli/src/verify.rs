//! `synddb verify`: a whole stored log, checked once from its beginning to its end.
//!
//! What is checked, and how, is the validator's; this says what came out of it.

use std::time::{Duration, Instant};

use synddb_service::shutdown::Shutdown;
use synddb_validator::fsck::{self, Question};

use crate::arguments::VerifyArguments;
use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output, Progress, mib};
use crate::process;

/// How long nothing is said about progress.
const PROGRESS: Duration = Duration::from_secs(1);

pub(crate) fn run(arguments: &VerifyArguments, output: Output) -> Result<Exit, CommandError> {
    let began = Instant::now();
    // Removed when the command ends, also on a signal; not after a second one.
    let scratch = arguments.full.then(|| match &arguments.dir {
        Some(folder) => tempfile::Builder::new().prefix("synddb-verify-").tempdir_in(folder),
        None => tempfile::Builder::new().prefix("synddb-verify-").tempdir(),
    });
    let scratch = scratch.transpose().map_err(CommandError::system("make a scratch folder"))?;
    let question = Question {
        store: arguments.store.clone(),
        stream: arguments.stream,
        keys: arguments.sequencer_keys.clone(),
        rebuild_in: scratch.as_ref().map(|folder| folder.path().to_owned()),
        replica: arguments.of.clone(),
    };
    let checked = process::serve(output, "verify", false, async |_, shutdown: Shutdown| {
        let mut seldom = Seldom { said: began, progress: Progress::begin(output), output };
        Ok::<_, CommandError>(fsck::run(question, shutdown, move |progress| seldom.tell(progress)).await)
    })?;
    let report = checked.map_err(Box::new)?;
    let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    output.tell(&Event::Verified { report: Box::new(report), elapsed_ms })?;
    Ok(Exit::Done)
}

/// Says how far it is, at most once a second.
struct Seldom {
    said: Instant,
    progress: Progress,
    output: Output,
}

impl Seldom {
    fn tell(&mut self, progress: fsck::Progress) {
        if self.said.elapsed() < PROGRESS {
            return;
        }
        self.said = Instant::now();
        let read = mib(progress.read.batch_bytes + progress.read.chunk_bytes);
        let message = progress.sequence.map_or(0, |sequence| sequence.get());
        let rebuilt =
            progress.rebuilt.map_or_else(String::new, |sequence| format!(", rebuilt to {sequence}"));
        if !self.progress.set(format!("message {message}{rebuilt}, {read} read")) {
            self.output.mention(&Event::Verifying(progress));
        }
    }
}
