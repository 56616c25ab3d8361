//! `synddb status`: what the processes of one database say of themselves.

use serde_json::Value;

use crate::arguments::StatusArguments;
use crate::exit::{CommandError, Exit};
use crate::folder::Folder;
use crate::output::{Event, Output};
use crate::peer::Peer;
use crate::process;

pub(crate) fn run(arguments: &StatusArguments, output: Output) -> Result<Exit, CommandError> {
    let folder = Folder::of(&arguments.database, arguments.dir.as_deref());
    let running = folder.read_running();
    let event = process::ask(async {
        let at = |name, url: Option<&String>| url.and_then(|url| Peer::at(name, url).ok());
        let agent = Peer::agent(&folder).ok();
        let sequencer = at("the sequencer", running.as_ref().map(|running| &running.sequencer));
        let validator = at("the validator", running.as_ref().map(|running| &running.validator));
        let (agent, sequencer, validator) =
            tokio::join!(said(agent.as_ref()), said(sequencer.as_ref()), said(validator.as_ref()));
        Ok::<_, CommandError>(Event::Status { agent, sequencer, validator })
    })?;
    let nobody = matches!(&event, Event::Status { agent: None, sequencer: None, validator: None });
    output.tell(&event)?;
    Ok(if nobody { Exit::Failed } else { Exit::Done })
}

/// What a process says; `None` when it does not answer.
async fn said(peer: Option<&Peer>) -> Option<Value> {
    peer?.status().await.ok()
}
