//! What `--at` names: a commit, a commit of an incarnation, or a time.

use synddb_protocol::ParseError;
use synddb_protocol::id::{CommitNumber, IncarnationCounter};
use synddb_service::calendar::moment;
use synddb_validator::restore::At;

const FORMS: &str = "a commit as in 42, a commit of an incarnation as in 2:42, or a time as in 2026-01-31T12:00:00Z or \
                     2026-01-31T14:00:00+02:00";

/// Why a text names no state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoState {
    #[error(transparent)]
    Number(#[from] ParseError),
    #[error("this is no state of a log; name {FORMS}")]
    Other,
}

/// Reads it.
pub(crate) fn read(text: &str) -> Result<At, NoState> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number(text) {
        return Ok(At::Commit { incarnation: None, commit: commit(text)? });
    }
    match text.split_once(':') {
        Some((incarnation, number)) if is_number(incarnation) && is_number(number) => {
            let incarnation: IncarnationCounter = incarnation.parse()?;
            Ok(At::Commit { incarnation: Some(incarnation), commit: commit(number)? })
        }
        Some(_) | None => moment(text).map(At::Time).ok_or(NoState::Other),
    }
}

/// Number 0 is no commit: it stands for what comes before the first.
fn commit(text: &str) -> Result<Option<CommitNumber>, ParseError> {
    if text.bytes().all(|byte| byte == b'0') { Ok(None) } else { text.parse().map(Some) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use synddb_protocol::id::Timestamp;

    use super::*;

    #[test]
    fn a_state_is_named_in_one_of_three_ways() {
        let of = |incarnation: Option<u64>, commit: Option<u64>| At::Commit {
            incarnation: incarnation.map(|counter| counter.try_into().unwrap()),
            commit: commit.map(|number| number.try_into().unwrap()),
        };
        assert_eq!(read("42").unwrap(), of(None, Some(42)));
        assert_eq!(read("0").unwrap(), of(None, None));
        assert_eq!(read("2:42").unwrap(), of(Some(2), Some(42)));
        assert_eq!(read("2:0").unwrap(), of(Some(2), None));
        let noon = At::Time(Timestamp::from_ms(1_767_268_800_000).unwrap());
        assert_eq!(read("2026-01-01T12:00:00Z").unwrap(), noon);
        assert_eq!(read("2026-01-01T13:00:00+01:00").unwrap(), noon);
        for text in ["", "-1", "1:", ":1", "1:2:3", "0:1", "2026-01-01", "99999999999999999999", "now"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
