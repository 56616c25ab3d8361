//! Grammar of what applications do to the file rather than to rows.

use super::steps::{Context, Step};

pub(super) fn change_header_or_statistics(context: &mut Context<'_>) -> Option<Step> {
    let number = context.random.below(1 << 32);
    let number = i64::try_from(number).ok()? - (1 << 31);
    Some(match context.random.below(6) {
        0 | 1 => Step::rows("PRAGMA user_version", format!("PRAGMA user_version = {number}")),
        2 | 3 => Step::rows("PRAGMA application_id", format!("PRAGMA application_id = {number}")),
        4 => Step::schema("ANALYZE", "ANALYZE".to_owned()),
        _ => Step::schema("REINDEX", "REINDEX".to_owned()),
    })
}

pub(super) fn vacuum(context: &mut Context<'_>) -> Option<Step> {
    if context.random.percent(70) {
        return Some(Step::schema("VACUUM", "VACUUM".to_owned()));
    }
    // Whether a database keeps pointer maps can change only while VACUUM rewrites it, or between the two kinds that do.
    let mode = context.random.below(3);
    Some(Step::several(
        "VACUUM to other auto_vacuum",
        vec![format!("PRAGMA auto_vacuum = {mode}"), "VACUUM".to_owned()],
        true,
    ))
}

pub(super) fn incremental_vacuum(context: &mut Context<'_>) -> Option<Step> {
    let pages = context.random.pick(&["", "(1)", "(5)", "(100)"]);
    Some(Step::schema("incremental_vacuum", format!("PRAGMA incremental_vacuum{pages}")))
}

pub(super) fn checkpoint(context: &mut Context<'_>) -> Option<Step> {
    let (feature, mode) = context.random.weighted(&[
        (5, ("wal_checkpoint PASSIVE", "PASSIVE")),
        (2, ("wal_checkpoint FULL", "FULL")),
        (2, ("wal_checkpoint RESTART", "RESTART")),
        (3, ("wal_checkpoint TRUNCATE", "TRUNCATE")),
    ]);
    Some(Step::rows(feature, format!("PRAGMA wal_checkpoint({mode})")))
}

/// What a follower stands in the way of: it is refused, and nothing is lost.
pub(super) fn leave_wal(_: &mut Context<'_>) -> Option<Step> {
    Some(Step::rows("journal_mode=DELETE, refused", "PRAGMA journal_mode = DELETE".to_owned()))
}
