//! `synddb follow`: the agent beside an application, with its HTTP front.

mod attaching;
mod front;
mod last_state;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;

use synddb_agent::pin::{PinConfig, PinProgram};
use synddb_agent::reconcile::LastState;
use synddb_agent::{How, outbox};
use synddb_service::secret::Token;
use synddb_service::shutdown::Shutdown;

pub use last_state::StoredState;

use crate::arguments::{DatabaseArguments, FollowArguments, LettingGo, PinArguments};
use crate::exit::{CommandError, Exit};
use crate::folder::Folder;
use crate::output::{Continuity, Event, Output, Process};
use crate::process;
use crate::refusal::check_database;

pub(crate) fn run(arguments: &FollowArguments, output: Output) -> Result<Exit, CommandError> {
    let DatabaseArguments { database, dir } = &arguments.of;
    // What can be refused is, before anything is made.
    check_database(database)?;
    let folder = Folder::of(database, dir.as_deref());
    let config = config(arguments, &folder)?;
    let attaching = attaching::attaching(database, &folder, arguments.wal.mib);
    let unnamed = keys_unnamed(arguments);
    folder.make()?;
    let complete = process::serve(output, arguments.stop_on_eof, async |metrics, shutdown| {
        output.mention(&attaching);
        if let Some(unnamed) = unnamed {
            output.mention(&unnamed);
        }
        let agent = Arc::new(synddb_agent::start(config, move |event| say(output, event))?);
        // The front ends after the agent, so that it can be asked how the drain goes.
        let ended = Shutdown::new();
        let front =
            front::serve(folder, arguments.port, Arc::clone(&agent), metrics, ended.clone(), output).await?;
        let front = tokio::spawn(front);
        let asked = Arc::clone(&agent);
        tokio::spawn(async move {
            shutdown.asked().await;
            asked.stop();
        });
        let joined = tokio::task::spawn_blocking(move || agent.join()).await;
        ended.ask();
        let lost = |error: tokio::task::JoinError| io::Error::other(error);
        front.await.map_err(lost).flatten().map_err(CommandError::system("serve the agent's socket"))?;
        Ok(joined.map_err(|error| CommandError::system("wait for the agent")(lost(error)))??.complete)
    })?;
    output.mention(&Event::Drained { process: Process::Agent, complete });
    Ok(if complete { Exit::Done } else { Exit::Incomplete })
}

/// That no key is named where several sequencers are: one with another key than the first could not take over, and that is better known
/// before it is needed.
fn keys_unnamed(arguments: &FollowArguments) -> Option<Event> {
    let sequencers = arguments.sequencers.len();
    (sequencers > 1 && arguments.sequencer_keys.is_empty()).then_some(Event::KeysUnnamed { sequencers })
}

/// What a pin does. It says nothing: whoever reads what its agent says must not wait for it.
pub(crate) fn pin(arguments: &PinArguments) -> Result<Exit, CommandError> {
    let PinArguments { of: DatabaseArguments { database, dir }, letting_go } = arguments;
    synddb_agent::pin::serve(&PinConfig {
        database: database.clone(),
        folder: Folder::of(database, dir.as_deref()).path().to_owned(),
        wal_bytes_max: letting_go.mib << 20,
        linger: *letting_go.pin_linger,
    })?;
    Ok(Exit::Done)
}

/// The agent that the arguments describe.
pub(crate) fn config(
    arguments: &FollowArguments,
    folder: &Folder,
) -> Result<synddb_agent::Config, CommandError> {
    synddb_agent::check_sequencers(&arguments.sequencers)?;
    let database = &arguments.of.database;
    let token = Token::read(&arguments.token_file)?;
    let let_go = arguments.letting_go.at_least_twice(&arguments.wal);
    Ok(synddb_agent::Config {
        database: database.clone(),
        folder: folder.path().to_owned(),
        sequencers: arguments.sequencers.clone(),
        token: token.expose().to_owned().into(),
        sequencer_keys: arguments.sequencer_keys.clone(),
        wal_bytes_max: arguments.wal.mib << 20,
        wal_bytes_detach: let_go << 20,
        pin: if arguments.no_pin {
            None
        } else {
            Some(pin_program(database, folder, let_go, &arguments.letting_go)?)
        },
        audit_interval: *arguments.audit_interval,
        outbox: outbox::Options { bytes_max: arguments.outbox.mib << 20 },
        drain_max: *arguments.drain_timeout,
        last_state: arguments
            .store
            .clone()
            .map(|store| Arc::new(StoredState::of(store)) as Arc<dyn LastState>),
    })
}

/// This program, as a pin.
fn pin_program(
    database: &Path,
    folder: &Folder,
    let_go_mib: u64,
    letting_go: &LettingGo,
) -> Result<PinProgram, CommandError> {
    let program = std::env::current_exe().map_err(CommandError::system("find this program"))?;
    let text = |text: &str| OsString::from(text);
    let arguments = vec![
        text("pin"),
        database.into(),
        text("--dir"),
        folder.path().into(),
        text("--wal-let-go"),
        text(&let_go_mib.to_string()),
        text("--pin-linger"),
        text(&letting_go.pin_linger.to_string()),
    ];
    Ok(PinProgram { program, arguments })
}

/// Says what the agent does. What comes with every submission is for its status.
fn say(output: Output, event: synddb_agent::Event) {
    use synddb_agent::Event as Told;
    let event = match event {
        Told::Attached { stream, incarnation, how, .. } => {
            let continuity = match &how {
                How::Resumed => Continuity::Exact,
                How::Reconciled { .. } => Continuity::Reconciled,
                How::New { .. } => Continuity::Incarnation,
            };
            let incarnation = incarnation.counter.get();
            Event::Attached { stream, incarnation, continuity, how: how.to_string() }
        }
        Told::Pinned { pid } => Event::Pinned { pid },
        Told::Unpinned { detail } => Event::Unpinned { detail },
        Told::NotReconciled { detail } => Event::NotReconciled { detail },
        Told::Audited(audited) => Event::Audited(audited),
        Told::SnapshotSpooled { incarnation, chunks, bytes } => {
            Event::SnapshotTaken { incarnation: incarnation.counter.get(), chunks, bytes }
        }
        Told::SnapshotStored { incarnation } => {
            Event::SnapshotStored { incarnation: incarnation.counter.get() }
        }
        Told::Evidence { finding, detail, file } => {
            let file = file.map(|file| file.display().to_string());
            Event::Evidence { finding, detail, file }
        }
        Told::Warning { problem } => Event::Warning(problem),
        Told::Recovered => Event::Recovered,
        Told::FailedOver { sequencer } => Event::FailedOver { sequencer },
        Told::Interrupted { again_ms } => Event::Interrupted { again_ms },
        Told::Draining { .. } => Event::Draining { process: Process::Agent },
        Told::Sequenced { .. } | Told::Stored { .. } | Told::Ended { .. } => return,
    };
    output.mention(&event);
}
