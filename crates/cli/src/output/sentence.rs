//! Events as sentences for people.

use serde_json::Value;
use synddb_protocol::http::{Halt, HaltKind};

use super::Event;
use crate::mirror::Summary;

/// The sentence; empty where people are told otherwise.
pub(super) fn of(event: &Event) -> String {
    match event {
        Event::Ready { source, target, state } => {
            format!("following {source}, mirrored to {target}, at state {state}")
        }
        Event::Progress(summary) => progress(summary),
        Event::Stopped(summary) => stopped(summary),
        Event::Equal { state } => format!("equal, at state {state}"),
        Event::Different { difference } => difference.clone(),
        Event::Waiting { reason } => format!("waiting: {reason}"),
        Event::Listening { process, url, key } => {
            let key = key.as_ref().map_or_else(String::new, |key| format!(", signs with {key}"));
            format!("{process} listens at {url}{key}")
        }
        Event::Attached { stream, incarnation, how } => {
            format!("agent follows the database, stream {stream}, incarnation {incarnation}: {how}")
        }
        Event::Agent { message } => format!("agent: {message}"),
        Event::Restored { sequence, state } => {
            format!("replica restored from the snapshot of message {sequence}, at state {state}")
        }
        Event::Applied { sequence, state } => format!("replica at message {sequence}, state {state}"),
        Event::CaughtUp { sequence: Some(sequence), state: Some(state) } => {
            format!("replica has everything stored, up to message {sequence}, at state {state}")
        }
        Event::CaughtUp { .. } => "nothing is stored yet".to_owned(),
        Event::Halted(halt) => halted(halt),
        Event::Started { process, pid } => format!("{process} started, process {pid}"),
        Event::Exited { process, status } => format!("{process} ended ({status}) and is started again"),
        Event::Running { stream, sequencer, validator, store, replica, key } => format!(
            "everything runs; write to the database with any program\n  stream     {stream}\n  sequencer  {sequencer}, signs \
             with {key}\n  store      {store}\n  validator  {validator}\n  replica    {replica}"
        ),
        Event::Drained { process, complete: true } => format!("{process} ended, nothing left to do"),
        Event::Drained { process, complete: false } => {
            format!("{process} ended before everything was done; it goes on when it is started again")
        }
        Event::Reached { next, state, elapsed_ms } => {
            let state = state.map_or_else(String::new, |state| format!(", at state {state}"));
            format!("reached after {elapsed_ms} ms, before commit {}{state}", next.commit)
        }
        Event::Status { agent, sequencer, validator } => {
            let line = |name, status: &Option<Value>| match status {
                Some(status) => format!("{name}  {}", flat(status)),
                None => format!("{name}  does not answer"),
            };
            [line("agent    ", agent), line("sequencer", sequencer), line("validator", validator)].join("\n")
        }
        Event::Detached { database, journal_mode } => {
            format!("detached from {database}, journal mode {journal_mode}")
        }
        // Errors are printed for people on standard error.
        Event::Failed { .. } => String::new(),
    }
}

fn progress(summary: &Summary) -> String {
    format!(
        "{} commits, {} row changes, WAL at most {}",
        summary.commits,
        summary.row_changes,
        mib(summary.wal_bytes_max)
    )
}

fn stopped(summary: &Summary) -> String {
    format!(
        "stopped after {:.1} s: {} commits, {} row changes, {} WAL resets, WAL at most {}, write lock taken {} times, at state {}{}",
        summary.seconds,
        summary.commits,
        summary.row_changes,
        summary.wal_resets,
        mib(summary.wal_bytes_max),
        summary.write_locks,
        summary.state,
        if summary.verified { ", compared in full: equal" } else { "" },
    )
}

fn halted(halt: &Halt) -> String {
    let Halt { kind, from, to, detail } = halt;
    let what = match kind {
        HaltKind::Divergence => "the replica diverged",
        HaltKind::Refused => "the log is not what a trusted leader would store",
        HaltKind::UpgradeRequired => "newer software is needed",
    };
    format!("replica halted, messages {from} to {to} are missing: {what}: {detail}")
}

/// The members of an object as `name value`, without those that are null.
fn flat(status: &Value) -> String {
    let Some(members) = status.as_object() else { return status.to_string() };
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let members = members.iter().filter(|(_, value)| !value.is_null());
    members.map(|(name, value)| format!("{name} {}", shown(value))).collect::<Vec<_>>().join(", ")
}

fn mib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
