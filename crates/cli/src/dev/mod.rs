//! `synddb dev`: agent, sequencer and validator of one database under one command, without configuration and network.
//!
//! ```text
//! app.db <- agent -> sequencer -> store -> validator -> replica.db      each a process of its own, in DIR
//! ```
//!
//! The store lies in DIR as well, unless one is named. What a named one needs to be reached is in the environment, which all processes share.
//!
//! Each process is this program again, with other arguments. One that dies is started again; one that refuses, or finds that the
//! replica diverged, ends all. They end in data order, each when it has nothing left to do. Should this process be killed, they
//! notice by the end of their standard input, and drain as well.

mod children;
mod place;
mod supervise;

use std::time::Duration;

use synddb_protocol::id::StreamId;
use synddb_service::credentials::{self, NewCredential};
use synddb_service::secret::{Token, write_new_secret};
use synddb_service::shutdown::Shutdown;
use synddb_storage::StoreUrl;

use crate::arguments::DevArguments;
use crate::exit::{CommandError, Exit};
use crate::folder::{Folder, Running};
use crate::output::{Event, Output, Process};
use crate::process;
use crate::refusal::check_database;
pub use children::ENVIRONMENT_IS_WHOLE;
use children::{Child, Spec};
use place::Log;
use supervise::Supervisor;

/// Between two looks for a database that does not exist yet.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How old the oldest message of a batch becomes, in milliseconds: a developer looks at the replica, and a put costs nothing.
const BATCH_AGE_MS: u64 = 5;

pub(crate) fn run(arguments: &DevArguments, output: Output) -> Result<Exit, CommandError> {
    let folder = Folder::of(&arguments.of.database, arguments.of.dir.as_deref());
    let log = place::of_log(arguments.store.as_ref(), &folder)?;
    process::serve(output, "dev", arguments.stop_on_eof, async |_, shutdown| {
        if !database_exists(arguments, output, &shutdown).await? {
            return Ok(Exit::Done);
        }
        // A folder, or a file that is no database, is refused before anything is made.
        check_database(&arguments.of.database)?;
        folder.make()?;
        let _lock = folder.lock()?;
        let stream = prepare(&folder, &log.store)?;
        let result = supervised(arguments, &folder, &log, stream, output, &shutdown).await;
        folder.set_running(None)?;
        result
    })
}

/// Waits for the database; says whether it is there.
async fn database_exists(
    arguments: &DevArguments,
    output: Output,
    shutdown: &Shutdown,
) -> Result<bool, CommandError> {
    let database = &arguments.of.database;
    if !database.exists() {
        let reason = format!("there is no {} yet; create it with any program", database.display());
        output.tell(&Event::Waiting { reason })?;
    }
    while !database.exists() {
        tokio::select! {
            () = shutdown.asked() => return Ok(false),
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
    Ok(true)
}

/// Makes what the processes share: the token, the store's folder where it is the own one, the stream.
fn prepare(folder: &Folder, store: &StoreUrl) -> Result<StreamId, CommandError> {
    if !folder.token().exists() {
        let token = Token::draw().map_err(CommandError::system("draw a token"))?;
        write_new_secret(&folder.token(), token.expose())?;
    }
    // Whatever was listed before: nobody else writes here, and the token may have been put there by hand.
    let token = NewCredential::of_token("dev", &Token::read(&folder.token())?);
    credentials::write(&folder.credentials(), &token)?;
    std::fs::create_dir_all(folder.sequencer()).map_err(CommandError::system("make a folder"))?;
    // Before there is a stream: from then on its log is there and nowhere else.
    place::keep(store, folder)?;
    Ok(synddb_agent::stream_of(folder.path())?)
}

async fn supervised(
    arguments: &DevArguments,
    folder: &Folder,
    log: &Log,
    stream: StreamId,
    output: Output,
    shutdown: &Shutdown,
) -> Result<Exit, CommandError> {
    let store = log.store.to_string();
    let text = |path: std::path::PathBuf| path.display().to_string();
    let sequencer = Child::start(
        Spec::new(Process::Sequencer, "sequencer")
            .with("--listen", format!("127.0.0.1:{}", arguments.port))
            .with("--store", store.clone())
            .with("--dir", text(folder.sequencer()))
            .with("--credentials-file", text(folder.credentials()))
            .with("--key-file", text(folder.sequencer_key()))
            .with("--stream", stream.to_string())
            .with("--batch-age-ms", BATCH_AGE_MS.to_string()),
        output,
    )?;
    let mut supervisor = Supervisor::new(output, shutdown.clone());
    let listening = supervisor.listening(sequencer).await;
    if listening.is_err() {
        log.was_refused(folder)?;
    }
    let Some((sequencer_url, key)) = listening? else {
        return supervisor.drain().await;
    };
    let key = key.unwrap_or_default();
    let mut validator = Spec::new(Process::Validator, "validator")
        .with("--listen", format!("127.0.0.1:{}", arguments.validator_port))
        .with("--store", store.clone())
        .with("--stream", stream.to_string())
        .with("--sequencer-key", key.clone())
        .with("--sequencer", sequencer_url.clone())
        .with("--replica", text(folder.replica()));
    if let Some(rules) = &arguments.rules {
        let key = text(folder.endorse_key());
        validator = validator.with("--rules", text(rules.clone())).with("--endorse-key", key);
    }
    let validator = Child::start(validator, output)?;
    let Some((validator_url, _)) = supervisor.listening(validator).await? else {
        return supervisor.drain().await;
    };
    let agent = Spec::new(Process::Agent, "follow")
        .operand(text(arguments.of.database.clone()))
        .with("--dir", text(folder.path().to_owned()))
        .with("--sequencer", sequencer_url.clone())
        .with("--token-file", text(folder.token()))
        .with("--sequencer-key", key.clone())
        .with("--store", store.clone())
        .with("--wal-limit", arguments.wal.mib.to_string());
    folder
        .set_running(Some(&Running { sequencer: sequencer_url.clone(), validator: validator_url.clone() }))?;
    if !supervisor.attached(Child::start(agent, output)?).await? {
        return supervisor.drain().await;
    }
    output.tell(&Event::Running {
        stream,
        sequencer: sequencer_url,
        validator: validator_url,
        store,
        replica: text(folder.replica()),
        key,
    })?;
    supervisor.until_asked().await
}
