//! `synddb detach`: an application's database as it was before an agent was attached to it.

use std::path::Path;
use std::time::{Duration, Instant};

use synddb_sqlite::connection::{Connection, SqliteError};

use crate::arguments::DetachArguments;
use crate::exit::{CommandError, Exit};
use crate::folder::Folder;
use crate::output::{Event, Output};
use crate::peer::{Peer, PeerError};
use crate::process;
use crate::refusal::{Refusal, open_to_read};

/// Between two looks whether the agent has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub(crate) fn run(arguments: &DetachArguments, output: Output) -> Result<Exit, CommandError> {
    let database = &arguments.of.database;
    drop(open_to_read(database)?);
    let folder = Folder::of(database, arguments.of.dir.as_deref());
    if !folder.is_attached() {
        return Err(Refusal::NotAttached { database: database.clone() }.into());
    }
    // `dev` would start its agent again.
    let _dev = folder.lock()?;
    stop_agent(&folder, *arguments.timeout)?;
    refuse_pending(synddb_agent::pending(folder.path())?)?;
    let stream = synddb_agent::stream_of(folder.path())?;
    // Before anything is forgotten: where others keep the mode from being switched, the command can be run again.
    let journal_mode = close(database, arguments.restore_journal_mode)?;
    refuse_pending(synddb_agent::forget(folder.path())?)?;
    // It follows the stream that was left. Whoever wants it can rebuild it from the store.
    folder.remove_replica()?;
    let kept = match folder.named_store()? {
        // Other logs may lie beside it.
        Some(store) => Some(format!("{store}/{}", hex::encode(stream.as_bytes()))),
        None => folder.store().exists().then(|| folder.path().display().to_string()),
    };
    folder.set_named_store(None)?;
    output.tell(&Event::Detached { database: database.display().to_string(), journal_mode, kept })?;
    Ok(Exit::Done)
}

fn refuse_pending(submissions: u64) -> Result<(), Refusal> {
    if submissions > 0 { Err(Refusal::NotStored { submissions }) } else { Ok(()) }
}

/// Has a running agent ship everything and end.
fn stop_agent(folder: &Folder, patience: Duration) -> Result<(), CommandError> {
    if !synddb_agent::is_running(folder.path())? {
        return Ok(());
    }
    let deadline = Instant::now() + patience;
    process::ask(async {
        match Peer::agent(folder)?.stop().await {
            Err(source @ PeerError::Silent { .. }) => {
                return Err(Refusal::AgentRuns { folder: folder.path().to_owned(), source }.into());
            }
            stopped => stopped?,
        }
        while synddb_agent::is_running(folder.path())? {
            if Instant::now() > deadline {
                let detail = "its status says what it waits for".to_owned();
                return Err(CommandError::TimedOut { what: "the agent has not ended", detail });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    })
}

/// Moves the WAL into the file and takes it away, as the last connection of any application does; says the journal mode then.
fn close(database: &Path, restore: bool) -> Result<String, CommandError> {
    let connection = Connection::open(database)?;
    let sqlite = connection.sqlite();
    if restore {
        match sqlite.pragma_update(None, "journal_mode", "DELETE").map_err(SqliteError::from) {
            Err(error) if error.is_busy() => {
                return Err(Refusal::StillOpen { file: database.to_owned() }.into());
            }
            switched => switched?,
        }
    }
    Ok(sqlite.pragma_query_value(None, "journal_mode", |row| row.get(0)).map_err(SqliteError::from)?)
}
