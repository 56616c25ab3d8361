//! What `verify` found, for people.

use synddb_service::calendar::utc;
use synddb_sqlite::as_sql::shown;
use synddb_validator::fsck::{Beside, Claim, Counts, EpochRun, Read, ReplicaBegan, Report, Stray};

use super::{counted, mib};

/// Runs of epochs that are written out, at most.
const RUNS_MAX: usize = 20;

pub(super) fn of(report: &Report, elapsed_ms: u64) -> String {
    let Report {
        stream,
        size,
        root,
        state,
        timestamp,
        ends_between_parts,
        batches,
        counts,
        epochs,
        read,
        rebuilt,
        beside,
        replica,
    } = report;
    let Counts { submissions, snapshots, inbound, status, epochs: begun, commits, reconciles } = counts;
    let Read { batch_bytes, chunks, chunk_bytes } = read;
    let state =
        state.map_or_else(|| "none: the log has no snapshot yet".to_owned(), |state| state.to_string());
    let mut lines = vec![
        format!("the log is whole, {} up to {}", counted(size.get(), "message"), utc(*timestamp)),
        format!("  stream    {stream}"),
        format!("  root      {root}"),
        format!("  state     {state}"),
        format!("  batches   {batches}, {}", size_text(*batch_bytes)),
        format!("  chunks    {chunks} read, {}", size_text(*chunk_bytes)),
        format!(
            "  messages  submissions {submissions}, snapshots {snapshots}, inbound {inbound}, status {status}, epochs {begun}"
        ),
        format!("  commits   {commits}, of which close a gap: {reconciles}"),
    ];
    if *ends_between_parts {
        lines.push("            the log ends between the parts of one more".to_owned());
    }
    lines.extend(epochs.iter().take(RUNS_MAX).map(epoch));
    if epochs.len() > RUNS_MAX {
        lines.push(format!("  epochs    more runs: {}; --json has them", epochs.len() - RUNS_MAX));
    }
    lines.push(match rebuilt {
        Some(rebuilt) => format!(
            "  rebuilt   to message {}, every state hash compared, scanned in full: {}",
            rebuilt.sequence, rebuilt.state
        ),
        None => "  rebuilt   no; --full rebuilds the database and compares every state hash".to_owned(),
    });
    lines.extend(replica.map(|replica| match replica {
        ReplicaBegan::Checked { sequence, violations: 0 } => {
            format!("  replica   began with message {sequence} of this log: told that everything before is checked")
        }
        ReplicaBegan::Checked { sequence, violations } => format!(
            "  replica   began with message {sequence} of this log: told that everything before is checked, and that rules did not hold there \
             {violations} times: `synddb rules list`"
        ),
        ReplicaBegan::Otherwise => "  replica   has begun otherwise meanwhile, or was told: run it again if it says `started_from`".to_owned(),
        ReplicaBegan::AtTheFirst => "  replica   has nothing left to be checked: it began with the first message".to_owned(),
    }));
    lines.extend(match beside {
        Some(beside) => beside_lines(beside),
        None => vec!["  beside    not known: a static host lists nothing".to_owned()],
    });
    lines.push(format!("  took      {elapsed_ms} ms"));
    lines.join("\n")
}

/// A size for people, exact while it is small.
pub(super) fn size_text(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{bytes} bytes") } else { mib(bytes) }
}

fn epoch(run: &EpochRun) -> String {
    let EpochRun { from, to, claim } = run;
    let which = if from == to { format!("{from}") } else { format!("{from} to {to}") };
    match claim {
        Claim::Admitted { key_id } => format!("  epoch     {which}: led by key id {key_id}"),
        Claim::Stranger { key_id } => {
            format!("  epoch     {which}: passed, claimed by key id {key_id}, which is not trusted")
        }
        Claim::Damaged { why } => format!("  epoch     {which}: passed, no record: {}", shown(why)),
        Claim::More => format!("  epoch     {which}: not told apart"),
    }
}

fn beside_lines(beside: &Beside) -> Vec<String> {
    let Beside { batches, epochs, chunks, replica_chunks, other, unknown } = beside;
    let kinds = [
        ("batches that are not read", batches.as_ref()),
        ("epoch records behind a gap", Some(epochs)),
        ("chunks that neither the log nor a snapshot names", chunks.as_ref()),
        ("chunks of replicas' snapshots alone", replica_chunks.as_ref()),
        ("snapshots of replicas and endorsements", Some(other)),
        ("objects with unknown names", Some(unknown)),
    ];
    let mut lines = Vec::new();
    for (what, stray) in kinds {
        match stray {
            None => lines.push(format!("  beside    {what}: too many to tell")),
            Some(Stray { count: 0, .. }) => {}
            Some(Stray { count, bytes, first }) => {
                let names: Vec<String> = first.iter().map(|name| shown(name)).collect();
                let more = if *count > names.len() as u64 { " ..." } else { "" };
                lines.push(format!(
                    "  beside    {what}: {count}, {}: {}{more}",
                    size_text(*bytes),
                    names.join(" ")
                ));
            }
        }
    }
    if lines.is_empty() {
        lines.push("  beside    nothing".to_owned());
    }
    lines
}
