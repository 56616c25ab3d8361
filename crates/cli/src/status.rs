//! `synddb status`: what the processes of one database say of themselves.

use serde::de::DeserializeOwned;

use crate::arguments::StatusArguments;
use crate::exit::{CommandError, Exit};
use crate::folder::Folder;
use crate::output::{Event, Output};
use crate::peer::{Authority, Peer};
use crate::process;
use crate::refusal::{Refusal, open_to_read};

pub(crate) fn run(arguments: &StatusArguments, output: Output) -> Result<Exit, CommandError> {
    let database = &arguments.of.database;
    drop(open_to_read(database)?);
    let folder = Folder::of(database, arguments.of.dir.as_deref());
    let running = folder.read_running();
    let event = process::ask(async {
        let at =
            |name, url: Option<&String>| url.and_then(|url| Peer::at(name, url, &Authority::default()).ok());
        let agent = Peer::agent(&folder).ok();
        let sequencer = at("the sequencer", running.as_ref().map(|running| &running.sequencer));
        let validator = at("the validator", running.as_ref().map(|running| &running.validator));
        let (agent, sequencer, validator) =
            tokio::join!(said(agent.as_ref()), said(sequencer.as_ref()), said(validator.as_ref()));
        Ok::<_, CommandError>(Event::Status { agent, sequencer, validator })
    })?;
    if matches!(&event, Event::Status { agent: None, sequencer: None, validator: None }) {
        return Err(Refusal::NothingRuns { database: database.clone() }.into());
    }
    output.tell(&event)?;
    Ok(Exit::Done)
}

/// What a process says; `None` when it does not answer.
async fn said<T: DeserializeOwned>(peer: Option<&Peer>) -> Option<Box<T>> {
    peer?.status().await.ok().map(Box::new)
}
