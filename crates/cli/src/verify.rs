//! `synddb verify`: a whole stored log, checked once from its beginning to its end.
//!
//! What is checked, and how, is the validator's; this says what came out of it.

use std::time::Instant;

use synddb_service::shutdown::Shutdown;
use synddb_validator::fsck::{self, Question};

use crate::arguments::VerifyArguments;
use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output, Seldom};
use crate::process;

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
        rules: arguments.rules.clone(),
    };
    let checked = process::serve(output, "verify", false, async |_, shutdown: Shutdown| {
        let mut seldom = Seldom::begin(output);
        Ok::<_, CommandError>(
            fsck::run(question, shutdown, move |progress| seldom.tell(&Event::Verifying(progress))).await,
        )
    })?;
    let report = checked.map_err(Box::new)?;
    let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    output.tell(&Event::Verified { report: Box::new(report), elapsed_ms })?;
    Ok(Exit::Done)
}
