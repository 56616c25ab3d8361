//! Errors as one line for people.

use std::error::Error;

/// An error and its causes: `cannot read batch: the store is away: connection refused`.
///
/// ```
/// let cause = std::io::Error::other("connection refused");
/// assert_eq!(synddb_protocol::chain(&cause), "connection refused");
/// ```
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
