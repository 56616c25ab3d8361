//! `synddb sequencer`, `validator` and `replica`: configuration and events around the roles' own libraries.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use synddb_sequencer::Started;
use synddb_service::config;
use synddb_validator::{End, Start};

use crate::arguments::{Instead, ReplicaArguments, SequencerArguments, ValidatorArguments};
use crate::exit::{CommandError, Exit};
use crate::init;
use crate::output::{Event, Output, Process, Progress};
use crate::process;
use crate::refusal::Refusal;

/// The prefixes of the environment.
pub(crate) const SEQUENCER: &str = "SYNDDB_SEQUENCER_";
pub(crate) const VALIDATOR: &str = "SYNDDB_VALIDATOR_";

pub(crate) fn sequencer(arguments: &SequencerArguments, output: Output) -> Result<Exit, CommandError> {
    let config: synddb_sequencer::Config =
        config::load(arguments.config.as_deref(), SEQUENCER, &arguments.overrides)?;
    let telemetry = config.telemetry.clone();
    process::serve_as(output, "sequencer", &telemetry, arguments.stop_on_eof, async |metrics, shutdown| {
        let started = move |Started { address, scheme, key }| {
            let (url, key_id) = (format!("{scheme}://{address}"), Some(key.id().to_string()));
            let key = Some(key.to_string());
            output.mention(&Event::Listening { process: Process::Sequencer, url, key, key_id });
        };
        synddb_sequencer::run(config, metrics, shutdown, started).await?;
        Ok(())
    })?;
    output.mention(&Event::Drained { process: Process::Sequencer, complete: true });
    Ok(Exit::Done)
}

pub(crate) fn validator(arguments: &ValidatorArguments, output: Output) -> Result<Exit, CommandError> {
    let (options, start, once) = match &arguments.instead {
        None => (&arguments.of, Start::GoOn, false),
        Some(Instead::Init(arguments)) => return init::run(arguments, output),
        Some(Instead::Resync { of, discard, once }) => (of, Start::Resync { discard: *discard }, *once),
        Some(Instead::Resume { of, after_divergence, once }) => {
            (of, Start::Resume { report: after_divergence.clone() }, *once)
        }
    };
    let config = config::load(options.config.as_deref(), VALIDATOR, &options.overrides(once))?;
    follow_log(start, config, options.stop_on_eof, output)?;
    Ok(Exit::Done)
}

pub(crate) fn replica(arguments: &ReplicaArguments, output: Output) -> Result<Exit, CommandError> {
    let config = config::load(None, VALIDATOR, &arguments.overrides())?;
    let end = follow_log(Start::GoOn, config, arguments.stop_on_eof, output)?;
    if arguments.once && end.sequence.is_none() {
        return Err(Refusal::NothingStored.into());
    }
    Ok(Exit::Done)
}

fn follow_log(
    start: Start,
    config: synddb_validator::Config,
    stop_on_eof: bool,
    output: Output,
) -> Result<End, CommandError> {
    // The message of the last `caught_up`, which is not said twice.
    let last_said = Arc::new(Mutex::new(None));
    let telemetry = config.telemetry.clone();
    let end = process::serve_as(output, "validator", &telemetry, stop_on_eof, async |metrics, shutdown| {
        let mut seldom =
            Seldom { said: None, caught_up: None, endorsed: None, progress: Progress::begin(output) };
        let said = Arc::clone(&last_said);
        let on_event = move |event| {
            if let Some(event) = seldom.event(event) {
                output.mention(&event);
                if let Event::CaughtUp { sequence, .. } = event {
                    *said.lock().unwrap_or_else(PoisonError::into_inner) = sequence;
                }
            }
        };
        Ok(synddb_validator::run_as(start, config, metrics, shutdown, on_event).await?)
    })?;
    let End { sequence, state } = end;
    if sequence.is_none() || *last_said.lock().unwrap_or_else(PoisonError::into_inner) != sequence {
        output.mention(&Event::CaughtUp { sequence, state });
    }
    output.mention(&Event::Drained { process: Process::Validator, complete: true });
    Ok(end)
}

/// Says what a validator does, and how far it is at most once a second.
struct Seldom {
    said: Option<Instant>,
    caught_up: Option<Instant>,
    endorsed: Option<Instant>,
    progress: Progress,
}

/// How long nothing is said about progress.
const PROGRESS: Duration = Duration::from_secs(1);

impl Seldom {
    fn event(&mut self, event: synddb_validator::Event) -> Option<Event> {
        use synddb_validator::Event as Told;
        Some(match event {
            Told::Listening { address, scheme } => {
                let url = format!("{scheme}://{address}");
                Event::Listening { process: Process::Validator, url, key: None, key_id: None }
            }
            Told::Restored { sequence, state } => Event::Restored { sequence, state },
            Told::Began { sequence, state, signer } => Event::Began { sequence, state, signer },
            Told::Snapshot { sequence, chunks, bytes } => Event::Snapshot { sequence, chunks, bytes },
            Told::Violated { rule, sequence, detail } => Event::Violated { rule, sequence, detail },
            Told::Resolved { id, rule, sequence } => {
                // Whoever resolved it waits for what comes of that.
                self.endorsed = None;
                Event::Resolved { id, rule, sequence }
            }
            Told::Endorses { validator, attested } => Event::Endorses { validator, attested },
            Told::Endorsed { sequence } => {
                if self.endorsed.is_some_and(|said| said.elapsed() < PROGRESS) {
                    return None;
                }
                self.endorsed = Some(Instant::now());
                Event::Endorsed { sequence }
            }
            Told::Applied { sequence, state } => {
                let is_seen = self.progress.set(format!("message {sequence}"));
                if is_seen || self.said.is_some_and(|said| said.elapsed() < PROGRESS) {
                    return None;
                }
                self.said = Some(Instant::now());
                Event::Applied { sequence, state }
            }
            Told::CaughtUp { sequence, state } => {
                if self.caught_up.is_some_and(|said| said.elapsed() < PROGRESS) {
                    return None;
                }
                self.caught_up = Some(Instant::now());
                Event::CaughtUp { sequence: Some(sequence), state: Some(state) }
            }
            Told::Halted(halt) => Event::Halted(halt),
        })
    }
}
