//! `synddb gc`: what nobody needs, removed from a store.
//!
//! What that is, and in which order it goes, is the validator's to say; this names the store and says what came of it.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::{Instant, SystemTime};

use clap::Args;
use synddb_protocol::id::{KeyId, StreamId};
use synddb_service::shutdown::Shutdown;
use synddb_storage::StoreUrl;
use synddb_validator::gc::{self, Question, Retention};

use crate::exit::{CommandError, Exit};
use crate::named;
use crate::output::{Event, Output, Seldom};
use crate::process;

#[derive(Debug, Args)]
pub(crate) struct GcArguments {
    /// The store: `gs://bucket/prefix`, `s3://bucket/prefix`, `az://container/prefix` or `file:///folder`. Credentials come from the environment.
    #[arg(value_parser = named::store)]
    store: StoreUrl,
    /// The stream. Without it, the only one that the store holds.
    #[arg(long)]
    stream: Option<StreamId>,
    /// How many snapshots are kept of each signer: the newest of those that are older than `--older-than`. Only those count from which a database
    /// can be restored.
    #[arg(long, value_name = "SNAPSHOTS", default_value = "3", value_parser = named::count::<NonZeroU32>)]
    keep: NonZeroU32,
    /// Of every so many messages also keep the first snapshot of each signer, for whoever restores old places.
    #[arg(long, value_name = "MESSAGES", value_parser = named::count::<NonZeroU64>)]
    keep_every: Option<NonZeroU64>,
    /// What is younger is never removed. It must be longer than any writer takes from the first chunk of a snapshot to its manifest.
    #[arg(long, value_name = "AGE", default_value = "7d")]
    older_than: humantime::Duration,
    /// Whose snapshots are wanted, by key id; several may be named. Those of others are removed when they are old. Without any, everybody's are.
    #[arg(long = "signer", value_name = "KEY_ID", value_parser = named::key_id)]
    signers: Vec<KeyId>,
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
}

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
