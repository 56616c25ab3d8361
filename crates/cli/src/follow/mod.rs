//! `synddb follow`: the agent beside an application, with its HTTP front.

mod attaching;
mod credentials;
mod front;
mod last_state;
mod settings;

use std::io;
use std::sync::Arc;

use synddb_agent::How;
use synddb_agent::pin::PinConfig;
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::span::sampling;

pub(crate) use front::openapi;
pub use last_state::StoredState;
pub(crate) use settings::{FollowArguments, PREFIX, Settings};

use crate::arguments::{DatabaseArguments, PinArguments};
use crate::exit::{CommandError, Exit};
use crate::folder::Folder;
use crate::output::{Continuity, Event, Output, Process};
use crate::process;
use crate::refusal::check_database;

pub(crate) fn run(arguments: &FollowArguments, output: Output) -> Result<Exit, CommandError> {
    let settings = arguments.settings()?;
    let database = settings.database()?;
    // What can be refused is, before anything is made.
    check_database(database)?;
    let (folder, port) = (settings.folder()?, settings.port());
    let mut config = settings.config()?;
    let attaching = attaching::attaching(database, &folder, settings.wal_limit_mib());
    let unnamed = settings.keys_unnamed().map(|sequencers| Event::KeysUnnamed { sequencers });
    let sequencers = settings.tokens_in_plain();
    let in_plain = (!sequencers.is_empty()).then_some(Event::TokenInPlain { sequencers });
    folder.make()?;
    let complete = process::serve_as(
        output,
        "agent",
        &settings.telemetry(),
        arguments.stop_on_eof,
        async |metrics, shutdown| {
            config.outbox.traces = sampling();
            output.mention(&attaching);
            [unnamed, in_plain].iter().flatten().for_each(|warning| output.mention(warning));
            let agent = Arc::new(synddb_agent::start(config, move |event| say(output, event))?);
            // The front ends after the agent, so that it can be asked how the drain goes.
            let ended = Shutdown::new();
            let front =
                front::serve(folder, port, Arc::clone(&agent), metrics, ended.clone(), output).await?;
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
        },
    )?;
    output.mention(&Event::Drained { process: Process::Agent, complete });
    Ok(if complete { Exit::Done } else { Exit::Incomplete })
}

/// What a pin does. It says nothing: whoever reads what its agent says must not wait for it.
pub(crate) fn pin(arguments: &PinArguments) -> Result<Exit, CommandError> {
    let PinArguments { of: DatabaseArguments { database, dir }, let_go_mib, linger } = arguments;
    synddb_agent::pin::serve(&PinConfig {
        database: database.clone(),
        folder: Folder::of(database, dir.as_deref()).path().to_owned(),
        wal_bytes_max: let_go_mib << 20,
        linger: **linger,
    })?;
    Ok(Exit::Done)
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
