//! Events as sentences for people.

use std::fmt::Write as _;

use synddb_agent::{AgentStatus, Audited, PromiseCheck, Promises};
use synddb_protocol::hash::StateHash;
use synddb_protocol::http::{Difference, Halt, HaltKind, Naming, Position, ReplicaStatus, StreamStatus};
use synddb_protocol::id::Sequence;

use super::{Bridged, Event, Stage, Writer, restored, ruled, swept, verified};
use crate::bench::report;
use crate::bridge::in_words;
use crate::diff::Compared;
use crate::doctor::{Count, Finding};
use crate::mirror::Summary;
use crate::token::Listed;

/// The sentence; empty where people are told otherwise.
pub(super) fn of(event: &Event) -> String {
    match event {
        Event::Configuration { text, .. } => text.trim_end().to_owned(),
        Event::Setting(setting) => setting.to_string(),
        Event::Configured { process } => {
            format!("# the {process} could begin as this says; its store and peers were not asked")
        }
        Event::Ready { source, target, state } => {
            format!("following {source}, mirrored to {target}, at state {state}")
        }
        Event::Progress(summary) => progress(summary),
        Event::Stopped(summary) => stopped(summary),
        Event::Equal { state, remote } => compared(format!("equal, at state {state}"), remote.as_deref()),
        Event::Different { difference, remote } => compared(difference.clone(), remote.as_deref()),
        Event::Waiting { reason } => format!("waiting: {reason}"),
        Event::Listening { process, url, key, key_id } => {
            let key = key.as_ref().map_or_else(String::new, |key| format!(", signs with {key}"));
            let key_id =
                key_id.as_ref().map_or_else(String::new, |key_id| format!(", whose name is {key_id}"));
            format!("{process} listens at {url}{key}{key_id}")
        }
        // Alone on its line, so that a shell takes it into a variable.
        Event::TokenMade { token: Some(token), .. } => token.expose().to_owned(),
        Event::TokenMade { entry: Some(entry), .. } => entry.trim_end().to_owned(),
        Event::TokenMade { name, file, .. } => {
            format!("{name} may write: listed in {}", printable(file.as_deref().unwrap_or_default()))
        }
        Event::TokenRevoked { name, file } => {
            format!("{} may write no more: taken out of {}", printable(name), printable(file))
        }
        Event::Tokens { listed } => tokens(listed),
        Event::Attaching { database, switches_to_wal, makes, wal_limit_mib, writers_at_risk } => {
            attaching(database, *switches_to_wal, makes.as_deref(), *wal_limit_mib, writers_at_risk)
        }
        Event::KeysUnnamed { sequencers } => format!(
            "warning: {sequencers} sequencers are named and no key, so only the key that signs first is believed, and none with another key can \
             take over; name the key of each with --sequencer-key"
        ),
        Event::TokenInPlain { sequencers } => format!(
            "warning: the token is sent without TLS, so whoever is in between can read it and write; give the sequencer a certificate and name \
             it as https://, with --ca-file where its authority is your own: {}",
            printable(&sequencers.join(", "))
        ),
        Event::Attached { stream, incarnation, how, .. } => {
            format!("agent follows the database, stream {stream}, incarnation {incarnation}: {how}")
        }
        Event::Pinned { pid } => format!("process {pid} holds the agent's place, should the agent be killed"),
        Event::Unpinned { detail } => {
            format!("warning: no process holds the agent's place, so a kill may leave a gap: {detail}")
        }
        Event::NotReconciled { detail } => format!("warning: the gap cannot be made one commit: {detail}"),
        Event::Audited(audited) => {
            let Audited { captured, scanned, scan_ms, .. } = audited;
            match audited.is_equal() {
                true => {
                    format!("scanned in {scan_ms} ms: the database is what was captured, state {captured}")
                }
                false => {
                    format!("the database is not what was captured: captured {captured}, scanned {scanned}")
                }
            }
        }
        Event::SnapshotTaken { incarnation, chunks, bytes } => {
            let mib = mib(*bytes);
            format!(
                "agent took the snapshot that incarnation {incarnation} begins with: {mib}, chunks: {chunks}"
            )
        }
        Event::SnapshotStored { incarnation } => {
            format!("the snapshot of incarnation {incarnation} is stored")
        }
        Event::Evidence { detail, file, .. } => {
            let file = file.as_deref().unwrap_or("nowhere: it could not be kept");
            format!("EVIDENCE against the sequencer: {detail}; kept in {file}")
        }
        Event::Warning(problem) => format!("warning: {}; {}", problem.detail, problem.fix),
        Event::Recovered => "the sequencer answers again".to_owned(),
        Event::FailedOver { sequencer } => format!("the agent sends to another sequencer now: {sequencer}"),
        Event::Interrupted { again_ms } => format!("the database is attached again in {again_ms} ms"),
        Event::Draining { process } => format!("{process} was asked to end, and finishes what is left"),
        Event::Restored { sequence, state } => {
            format!("a snapshot became the replica, which stands at message {sequence}, at state {state}")
        }
        Event::Began { sequence, state, signer } => format!(
            "replica begins with the snapshot of message {sequence} that key id {signer} took, at state {state}; that earlier messages lead there \
             is not checked: `synddb verify --full --of` does"
        ),
        Event::Snapshot { sequence, chunks, bytes } => {
            format!(
                "snapshot of message {sequence} stored: {} new, {}",
                counted(*chunks, "chunk"),
                mib(*bytes)
            )
        }
        Event::KeyUnchecked { why } => {
            format!("warning: whether a key that is named leads this log is not checked: {}", printable(why))
        }
        Event::Initialized { config, key_file, key, key_id, stream, listen } => {
            let (config, key_file) = (printable(config), printable(key_file));
            let serves = listen.map_or_else(
                || "nothing, until `listen` is set in the configuration".to_owned(),
                |listen| format!("http://{listen}"),
            );
            format!(
                "validator of stream {stream}\n  config   {config}\n  key      {key_file}, key id {key_id}, public {key}\n  serves   {serves}\nlook \
                 through the configuration, then run:\n  synddb config check validator {config}\n  synddb validator --config {config}"
            )
        }
        Event::Applied { sequence, state } => format!("replica at message {sequence}, state {state}"),
        Event::CaughtUp { sequence: Some(sequence), state: Some(state) } => {
            format!("replica has everything stored, up to message {sequence}, at state {state}")
        }
        Event::CaughtUp { .. } => "nothing is stored yet".to_owned(),
        Event::Halted(halt) => halted(halt),
        Event::Started { process, pid } => format!("{process} started, process {pid}"),
        Event::Exited { process, status } => format!("{process} ended ({status}) and is started again"),
        Event::Running { stream, sequencer, validator, store, replica, key, bridge } => {
            let bridge = bridge.as_deref().map_or_else(
                String::new,
                |Bridged { rpc, chain_id, bridge, relayer, .. }| {
                    format!(
                        "\n  chain      {rpc}, id {chain_id}\n  bridge     {bridge}\n  relayer    {relayer}"
                    )
                },
            );
            format!(
                "everything runs; write to the database with any program\n  stream     {stream}\n  sequencer  {sequencer}, signs \
                 with {key}\n  store      {store}\n  validator  {validator}\n  replica    {replica}{bridge}"
            )
        }
        Event::Drained { process, complete: true } => format!("{process} ended, nothing left to do"),
        Event::Drained { process, complete: false } => {
            format!("{process} ended before everything was done; it goes on when it is started again")
        }
        Event::Reached { stage, next, state, elapsed_ms } => reached(*stage, next, *state, *elapsed_ms),
        Event::Status { agent, sequencer, validator } => {
            status(agent.as_deref(), sequencer.as_deref(), validator.as_deref())
        }
        Event::BridgeStatus { bridge, messages } => in_words(bridge, messages),
        Event::Reported { key_id, epoch, sequence, transaction, block } => {
            format!(
                "key {key_id} signed two contents for place {sequence} of epoch {epoch}, and is frozen by {transaction} in block {block}"
            )
        }
        Event::Detached { database, journal_mode, kept } => {
            let kept = kept.as_ref().map_or_else(String::new, |kept| {
                format!("; what was published stays in {kept}, which may be removed")
            });
            let back = if journal_mode.eq_ignore_ascii_case("wal") {
                ", which stays; `PRAGMA journal_mode=DELETE` switches it back while nobody else has it open"
            } else {
                ""
            };
            format!("detached from {database}, journal mode {journal_mode}{back}{kept}")
        }
        Event::Verifying(progress) => {
            let read = mib(progress.read.batch_bytes + progress.read.chunk_bytes);
            let rebuilt =
                progress.rebuilt.map_or_else(String::new, |sequence| format!(", rebuilt to {sequence}"));
            let message = progress.sequence.map_or(0, Sequence::get);
            format!("checked to message {message}{rebuilt}, {read} read")
        }
        Event::Verified { report, elapsed_ms } => verified::of(report, *elapsed_ms),
        Event::Sweeping(progress) => swept::so_far(progress),
        Event::Swept { report, elapsed_ms } => swept::of(report, *elapsed_ms),
        Event::Restoring(progress) => restored::progress(progress),
        Event::Rebuilt { file, restored, elapsed_ms } => restored::of(file, restored, *elapsed_ms),
        Event::Violated { .. }
        | Event::Resolved { .. }
        | Event::Endorses { .. }
        | Event::Endorsed { .. }
        | Event::RuleProblem { .. }
        | Event::RulesChecked { .. }
        | Event::RuleHolds { .. }
        | Event::RuleViolated { .. }
        | Event::RulesTested { .. }
        | Event::Violation(_)
        | Event::ViolationsOpen { .. }
        | Event::ResolutionLeft { .. }
        | Event::Gathered { .. }
        | Event::NotCounted { .. }
        | Event::Quorum { .. }
        | Event::MessagesMade { .. }
        | Event::MessagesSql { .. } => ruled::of(event),
        Event::Shown(shown) => shown.to_string(),
        Event::Finding(finding) => found(finding),
        Event::Examined(Count { warnings, refused: 0, .. }) => {
            format!("the database can be followed; warnings: {warnings}")
        }
        Event::Examined(Count { warnings, refused, .. }) => {
            format!("the database cannot be followed as it is; refused: {refused}, warnings: {warnings}")
        }
        Event::Measuring(machine) => report::heading(machine),
        Event::Measured(measured) => report::line(measured),
        // Each was printed when it was done.
        Event::Benchmarked { .. } => String::new(),
        // Errors are printed for people on standard error.
        Event::Failed { .. } => String::new(),
    }
}

/// What two databases are, and below it what is known of both.
fn compared(found: String, remote: Option<&Compared>) -> String {
    let lines = remote.map(Compared::lines).unwrap_or_default();
    std::iter::once(found).chain(lines).collect::<Vec<_>>().join("\n  ")
}

/// A text of a stranger on one line, with nothing in it that a terminal obeys or that turns its direction.
pub(crate) fn printable(text: &str) -> String {
    let obeyed = |character: char| {
        character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|character| if obeyed(character) { '\u{fffd}' } else { character }).collect()
}

/// What changes, in one line each: people must read it.
fn attaching(
    database: &str,
    switches_to_wal: bool,
    makes: Option<&str>,
    wal_limit_mib: u64,
    writers: &[Writer],
) -> String {
    let mut lines = vec![format!("attaching to {database}")];
    if switches_to_wal {
        lines.push("  switches it to journal_mode=WAL, which persists".to_owned());
    }
    lines.extend(makes.map(|folder| format!("  makes {folder}")));
    lines.push(format!(
        "  while it is followed: journal_mode=DELETE and locking_mode=EXCLUSIVE fail with \"database is locked\", TRUNCATE and RESTART \
         checkpoints may return busy, the last close leaves -wal and -shm, and the WAL is kept to about {wal_limit_mib} MiB"
    ));
    let at_risk = writers.iter().map(|Writer { who, sqlite, risk }| {
        format!("  risk: {who} has SQLite {sqlite}, which {risk}, followed or not; update it")
    });
    lines.extend(at_risk);
    lines.join("\n")
}

/// A line, and below it what to do.
fn found(finding: &Finding) -> String {
    let Finding { code, severity, seen, fix } = finding;
    let fix = fix.as_ref().map_or_else(String::new, |fix| format!("\n         {fix}"));
    format!("{:<8} {code}: {seen}{fix}", severity.to_string())
}

fn progress(summary: &Summary) -> String {
    format!(
        "{}, {}, WAL at most {}",
        counted(summary.commits, "commit"),
        counted(summary.row_changes, "row change"),
        mib(summary.wal_bytes_max)
    )
}

fn stopped(summary: &Summary) -> String {
    format!(
        "stopped after {:.1} s: {}, {}, {}, WAL at most {}, write lock taken {}, at state {}{}",
        summary.seconds,
        counted(summary.commits, "commit"),
        counted(summary.row_changes, "row change"),
        counted(summary.wal_resets, "WAL reset"),
        mib(summary.wal_bytes_max),
        counted(summary.write_locks, "time"),
        summary.state,
        if summary.verified { ", compared in full: equal" } else { "" },
    )
}

/// What a halt says. Names and values of a database stand in it, also a stranger's.
fn halted(halt: &Halt) -> String {
    let Halt { kind, from, to, detail, difference } = halt;
    let named = difference.as_deref().map_or_else(String::new, named);
    // The file was found to be something else, after everything before `from` was applied.
    let of_file = difference.as_deref().map(|difference| difference.sequence).filter(|at| at < from);
    let what = match (kind, of_file) {
        (HaltKind::Divergence, Some(at)) => format!("it is not what the log says at message {at}"),
        (HaltKind::Divergence, None) => format!("{} missing", span(*from, *to)),
        (HaltKind::Refused, _) => {
            format!("{} missing: the log is not what a trusted leader would store", span(*from, *to))
        }
        (HaltKind::Revoked, _) => {
            format!("{} not believed any more: a key was revoked that signed that", span(*from, *to))
        }
        (HaltKind::UpgradeRequired, _) => {
            format!("{} missing: newer software is needed", span(*from, *to))
        }
    };
    printable(&format!("replica halted: {what}: {detail}{named}"))
}

/// Messages as a subject with its verb.
fn span(from: Sequence, to: Sequence) -> String {
    if from == to { format!("message {from} is") } else { format!("messages {from} to {to} are") }
}

/// What of the replica differs, where it was looked for.
fn named(difference: &Difference) -> String {
    let Difference { object: Some(object), row, column, expected, found, naming: Naming::Done, .. } =
        difference
    else {
        return String::new();
    };
    let part = |name: &str, value: &Option<String>| {
        value.as_ref().map_or_else(String::new, |value| format!(" {name}=`{value}`"))
    };
    let (row, column) = (part("row", row), part("column", column));
    format!("; first difference: {object}{row}{column}{}{}", part("expected", expected), part("found", found))
}

fn reached(stage: Stage, next: &Position, state: Option<StateHash>, elapsed_ms: u64) -> String {
    let stage = match stage {
        Stage::Sequenced => "sequenced",
        Stage::Stored => "stored",
        Stage::Applied => "applied",
    };
    let state = state.map_or_else(String::new, |state| format!(", at state {state}"));
    format!("everything up to {} is {stage}{state} ({elapsed_ms} ms)", through(next))
}

/// What comes before a position, in words.
fn through(next: &Position) -> String {
    let incarnation = next.incarnation.counter;
    match (next.commit.previous(), next.part) {
        (_, Some(part)) => {
            format!("part {} of commit {} of incarnation {incarnation}", part.get(), next.commit)
        }
        (Some(commit), None) => format!("commit {commit} of incarnation {incarnation}"),
        (None, None) => format!("the snapshot of incarnation {incarnation}"),
    }
}

fn status(
    agent: Option<&AgentStatus>,
    sequencer: Option<&StreamStatus>,
    validator: Option<&ReplicaStatus>,
) -> String {
    let to = |next: &Option<Position>| next.as_ref().map_or_else(|| "nothing".to_owned(), through);
    let message = |sequence: Option<Sequence>| sequence.map_or(0, Sequence::get);
    let mut lines = Vec::new();
    match agent {
        Some(agent) => {
            let AgentStatus { stream, next, stored_next, pending, wal_bytes, promises, problem, .. } = agent;
            lines.push(format!("stream     {stream}"));
            lines.push(format!("agent      captured to {}, stored to {}", to(next), to(stored_next)));
            let (bytes, wal) = (mib(pending.bytes), mib(*wal_bytes));
            lines.push(format!(
                "           submissions that wait: {} ({bytes}), WAL {wal}",
                pending.submissions
            ));
            lines.push(format!("           sends to {}", agent.sequencer));
            lines.push(format!("           promises: {}", promised(promises)));
            if let Some(problem) = problem {
                lines.push(format!("           problem: {}; {}", problem.detail, problem.fix));
            }
        }
        None => lines.push("agent      does not answer".to_owned()),
    }
    lines.push(match sequencer {
        Some(StreamStatus { epoch, sequence, stored, .. }) => {
            let (given, stored) = (counted(message(*sequence), "message"), message(*stored));
            format!("sequencer  epoch {epoch}, {given}, {stored} of them stored")
        }
        None => "sequencer  does not answer; only one that `dev` started is asked".to_owned(),
    });
    lines.push(match validator {
        Some(ReplicaStatus { halted: Some(halt), .. }) => format!("validator  {}", halted(halt)),
        Some(ReplicaStatus { sequence, next, state, .. }) => {
            let state = state.map_or_else(String::new, |state| format!(", state {state}"));
            let applied = counted(message(*sequence), "message");
            format!("validator  {applied} applied, to {}{state}", to(next))
        }
        None => "validator  does not answer; only one that `dev` started is asked".to_owned(),
    });
    lines.join("\n")
}

/// What became of what the sequencers promised.
fn promised(promises: &Promises) -> String {
    let Promises { check, got, kept, unkept, unchecked, evidence } = promises;
    let unchecked_now = if *check == PromiseCheck::Unchecked { "unchecked; " } else { "" };
    let mut told = format!("{unchecked_now}{got} given, {kept} kept, {unkept} not kept");
    if *unchecked > 0 {
        write!(told, ", {unchecked} not looked at").ok();
    }
    match evidence {
        0 => told,
        count => format!(
            "{told}; EVIDENCE against the sequencer: {} in the agent's folder",
            counted(*count, "file")
        ),
    }
}

/// So many of something that has a plural with an `s`.
pub(crate) fn counted(count: u64, one: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {one}{plural}")
}

/// A size for people.
pub(crate) fn mib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn tokens(listed: &[Listed]) -> String {
    let lines = listed.iter().map(|Listed { name, kind, streams, expires }| {
        let streams = streams.as_ref().map_or_else(
            || "every stream".to_owned(),
            |streams| streams.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        );
        let expires = expires.as_ref().map_or_else(String::new, |expires| format!(", until {expires}"));
        format!("{name}: {kind}, {streams}{expires}")
    });
    if listed.is_empty() { "nobody may write".to_owned() } else { lines.collect::<Vec<_>>().join("\n") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn halt(at: u64) -> String {
        let sequence = Sequence::new(at).unwrap();
        let difference = Difference {
            sequence,
            commit: None,
            expected_state: None,
            found_state: None,
            tables: Vec::new(),
            naming: Naming::Done,
            object: Some("table t\u{1b}[2J".to_owned()),
            table: None,
            row: Some("id=1\nequal".to_owned()),
            column: None,
            expected: None,
            found: None,
        };
        let five = Sequence::new(5).unwrap();
        let detail = format!("the replica diverged. sequence=`{at}`: a row");
        halted(&Halt {
            kind: HaltKind::Divergence,
            from: five,
            to: five,
            detail,
            difference: Some(Box::new(difference)),
        })
    }

    #[test]
    fn nothing_is_missing_where_the_file_was_changed() {
        let told = halt(4);
        assert!(told.starts_with("replica halted: it is not what the log says at message 4: "), "{told}");
        assert!(!told.contains("missing") && !told.contains(char::is_control), "{told:?}");
        assert_eq!(told.matches("the replica diverged").count(), 1, "{told}");
        let told = halt(5);
        assert!(told.starts_with("replica halted: message 5 is missing: the replica diverged"), "{told}");
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!(
            ["0 messages", "1 message", "2 messages"],
            [0, 1, 2].map(|count| counted(count, "message"))
        );
    }
}
