//! What `restore` does and has done, for people.

use synddb_protocol::id::Sequence;
use synddb_service::calendar::utc;
use synddb_sqlite::as_sql::shown;
use synddb_validator::restore::{Doing, Progress, Restored};

use super::verified::size_text;
use super::{mib, printable};

pub(super) fn progress(progress: &Progress) -> String {
    let Progress { doing, sequence, of, read } = progress;
    let doing = match doing {
        Doing::Surveying => "looked through",
        Doing::Replaying => "replayed",
        Doing::Examining => return "the database is scanned and checked".to_owned(),
    };
    let of = of.map_or_else(String::new, |of| format!(" of {of}"));
    let read = mib(read.batch_bytes + read.chunk_bytes);
    format!("{doing} to message {}{of}, {read} read", sequence.map_or(0, Sequence::get))
}

pub(super) fn of(file: &str, restored: &Restored, elapsed_ms: u64) -> String {
    let Restored {
        stream,
        incarnation,
        commit,
        sequence,
        timestamp,
        state,
        is_claimed,
        unfinished,
        gap,
        damage,
        bytes,
        read,
    } = restored;
    let place = match commit {
        Some(commit) => format!("commit {commit} of incarnation {incarnation}"),
        None => format!("the snapshot that begins incarnation {incarnation}"),
    };
    let claimed = if *is_claimed {
        "which the log claims there"
    } else {
        "which leads to the one that the log claims next"
    };
    let mut lines = vec![
        format!("restored {} as it was after {place}", printable(file)),
        format!("  stream    {stream}"),
        format!("  message   {sequence}, of {}", utc(*timestamp)),
        format!("  state     {state}, {claimed}"),
    ];
    lines.extend(unfinished.map(|commit| {
        format!("  parts     of commit {commit} only some had come, so that nothing of it is there")
    }));
    lines.extend(gap.map(|sequence| {
        format!(
            "  gap       message {sequence} follows, before which not every commit was captured: the application may have been further on"
        )
    }));
    lines.extend(damage.as_ref().map(|damage| format!("  damage    SQLite finds: {}", shown(damage))));
    lines.push(format!("  size      {}", size_text(*bytes)));
    lines.push(format!(
        "  read      {} of batches, {} of chunks",
        size_text(read.batch_bytes),
        size_text(read.chunk_bytes)
    ));
    lines.push(format!("  took      {elapsed_ms} ms"));
    lines.join("\n")
}
