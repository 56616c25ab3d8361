//! `synddb gc`: what nobody needs, removed from a store.
//!
//! What that is, and in which order it goes, is the validator's to say; this names the store and says what came of it.

use std::time::{Instant, SystemTime};

use synddb_service::shutdown::Shutdown;
use synddb_validator::gc::{self, Question, Retention};

use crate::arguments::GcArguments;
use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output, Seldom};
use crate::process;

pub(crate) fn run(arguments: &GcArguments, output: Output) -> Result<Exit, CommandError> {
    let began = Instant::now();
    let question = Question {
        store: arguments.store.clone(),
        stream: arguments.stream,
        retention: Retention {
            keep: arguments.keep,
            keep_every: arguments.keep_every,
            older_than: arguments.older_than.into(),
            signers: arguments.signers.clone(),
        },
        dry_run: arguments.dry_run,
        now: SystemTime::now(),
    };
    let swept = process::serve(output, "gc", false, async |_, shutdown: Shutdown| {
        let mut seldom = Seldom::begin(output);
        Ok::<_, CommandError>(
            gc::run(question, shutdown, move |progress| seldom.tell(&Event::Sweeping(progress))).await,
        )
    })?;
    let report = swept.map_err(Box::new)?;
    let exit = if report.left.is_some() { Exit::Incomplete } else { Exit::Done };
    let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    output.tell(&Event::Swept { report: Box::new(report), elapsed_ms })?;
    Ok(exit)
}
