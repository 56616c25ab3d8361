//! What `gc` did, for people.

use synddb_protocol::id::Sequence;
use synddb_sqlite::as_sql::shown;
use synddb_validator::gc::{Fate, Judged, Left, Progress, Report, Swept, Tally};

use super::counted;
use super::verified::size_text;

/// How far it is.
pub(crate) fn so_far(progress: &Progress) -> String {
    let Progress { sequence, batch_bytes, manifests, manifests_removed, chunks_removed } = progress;
    let message = sequence.map_or(0, Sequence::get);
    let mut text = format!(
        "read {}, the log to message {message}, {}",
        counted(*manifests, "manifest"),
        size_text(*batch_bytes)
    );
    if manifests_removed + chunks_removed > 0 {
        text = format!(
            "{text}; removed {}, {}",
            counted(*manifests_removed, "manifest"),
            counted(*chunks_removed, "chunk")
        );
    }
    text
}

pub(super) fn of(report: &Report, elapsed_ms: u64) -> String {
    let Report {
        stream,
        size,
        dry_run,
        manifests,
        judged,
        untold,
        young_manifests,
        broken,
        chunks,
        young,
        unknown,
        left,
    } = report;
    let mut lines = vec![
        match (dry_run, left) {
            (true, _) => "nothing was removed; without --dry-run it would be:".to_owned(),
            (false, None) => "what nobody needs was removed".to_owned(),
            (false, Some(_)) => "not everything was removed that nobody needs".to_owned(),
        },
        format!("  stream     {stream}, read to message {size}"),
        format!("  manifests  {}", swept(manifests)),
        format!("  chunks     {}", swept(chunks)),
    ];
    let told = |what: &str, tally: &Tally| {
        (tally.count > 0).then(|| format!("             {what}: {}", amount(tally)))
    };
    lines.extend(told("manifests that stay because they are young", young_manifests));
    lines.extend(told("manifests that restore nothing, and stay because they are young", broken));
    lines.extend(told("chunks that nobody names, and stay because they are young", young));
    lines.extend(told("objects among the chunks that are none, and stay", unknown));
    lines.extend(left.as_ref().map(|left| match left {
        Left::Asked => "  left       ended as asked; another run goes on".to_owned(),
        Left::Unreadable { manifest } => format!(
            "  left       no chunk was removed, because a manifest that is kept cannot be read and may name any: {}. It goes when it is old enough; \
             if a later release wrote it, use that one",
            shown(manifest)
        ),
    }));
    lines.extend(judged.iter().map(of_one));
    if *untold > 0 {
        lines.push(format!(
            "  ...        and {}, of which nothing more is said",
            counted(*untold, "manifest")
        ));
    }
    lines.push(format!("  took       {elapsed_ms} ms"));
    lines.join("\n")
}

fn of_one(judged: &Judged) -> String {
    let Judged { sequence, signer, fate, .. } = judged;
    let why = match fate {
        Fate::Young => "it is young",
        Fate::Newest => "it is among the newest of its signer",
        Fate::FirstOfRun => "it is the first of its signer there, by --keep-every",
        Fate::Superseded => "newer ones of its signer stay",
        Fate::NotWhole => "no database can be restored from it",
        Fate::Unwanted => "its signer is not wanted, by --signer",
    };
    let becomes = if fate.stays() { "stays" } else { "goes " };
    format!("  {becomes}      message {sequence}, signer {signer}: {why}")
}

fn swept(swept: &Swept) -> String {
    format!("kept {}; removed {}", amount(&swept.kept), amount(&swept.removed))
}

fn amount(tally: &Tally) -> String {
    format!("{}, {}", tally.count, size_text(tally.bytes))
}
