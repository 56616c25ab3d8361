//! The place in the log up to which a reader was shown everything: the `id` of an event, and so `Last-Event-ID`.
//!
//! ```text
//! S        everything through message S
//! S-C      and of what follows, everything through commit C, which begins in message S, or ends there
//! S-C-I    and of commit C, which begins in message S, the first I items: its schema changes, then its rows
//! ```
//!
//! A place names what is in the log and nothing of this process, so that it is good at any replica of the stream, and for any filter.

use std::fmt;

use synddb_protocol::id::{CommitNumber, Sequence};

/// A place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Behind a message; 0 is the beginning of the log.
    Behind(u64),
    /// Behind a commit of a message.
    BehindCommit(Sequence, CommitNumber),
    /// Inside a commit that begins in a message.
    Inside(Sequence, CommitNumber, u64),
}

impl Place {
    /// The message that is read next.
    pub(crate) const fn next(self) -> u64 {
        match self {
            Self::Behind(size) => size + 1,
            Self::BehindCommit(sequence, _) | Self::Inside(sequence, _, _) => sequence.get(),
        }
    }

    /// Reads what [`fmt::Display`] writes.
    pub(crate) fn read(id: &str) -> Option<Self> {
        let mut numbers = id.split('-').map(|digits| {
            // No sign, no blank, and no number of more digits than any has.
            let is_number = digits.len() <= 16 && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.parse::<u64>().ok()).flatten()
        });
        let size = numbers.next()??;
        let place = match (numbers.next(), numbers.next()) {
            (None, _) if size <= Sequence::MAX => Self::Behind(size),
            (None, _) => return None,
            (Some(commit), None) => {
                Self::BehindCommit(Sequence::new(size).ok()?, CommitNumber::new(commit?).ok()?)
            }
            (Some(commit), Some(items)) => {
                Self::Inside(Sequence::new(size).ok()?, CommitNumber::new(commit?).ok()?, items?)
            }
        };
        numbers.next().is_none().then_some(place)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behind(size) => write!(f, "{size}"),
            Self::BehindCommit(sequence, commit) => write!(f, "{sequence}-{commit}"),
            Self::Inside(sequence, commit, items) => write!(f, "{sequence}-{commit}-{items}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is() {
        for id in ["0", "7", "7-3", "7-3-0", "7-3-4096", "999999999999-9007199254740991-1"] {
            assert_eq!(Place::read(id).unwrap().to_string(), id);
        }
        for id in ["", "-", "7-", "-7", "7-0", "0-1", "7-3-", "7-3-1-1", "+7", " 7", "1000000000000", "7-x"] {
            assert_eq!(Place::read(id), None, "{id}");
        }
        assert_eq!([Place::Behind(0).next(), Place::read("7-3").unwrap().next()], [1, 7]);
    }
}
