//! What went wrong, sorted once into the few kinds that a caller treats differently.
//!
//! By types: a [`Refusal`] that the HTTP client of a remote store put into the chain of causes, the first error of the operating
//! system, or what `object_store` calls it. Never by a text.

use std::error::Error as StdError;
use std::io;

use crate::remote::Refusal;
use crate::store::{Cause, Failure};

pub(crate) fn io_failure(error: io::Error) -> Failure {
    failure_for(error.kind())(Box::new(error))
}

pub(crate) fn failure_of(error: object_store::Error) -> Failure {
    use object_store::Error;
    // What the platform said replaces the chain that led to it: its words name the fix, and the chain repeats them three times.
    if let Some(refusal) = found_in::<Refusal>(&error) {
        let refusal = refusal.clone();
        return refusal.sorted()(Box::new(refusal));
    }
    match &error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Failure::Denied(Box::new(error)),
        Error::InvalidPath { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::UnknownConfigurationKey { .. } => Failure::Misconfigured(Box::new(error)),
        Error::Generic { .. }
        | Error::NotFound { .. }
        | Error::JoinError { .. }
        | Error::AlreadyExists { .. }
        | Error::Precondition { .. }
        | Error::NotModified { .. } => failure_by_cause(&error),
        _ => failure_by_cause(&error),
    }
}

/// Sorts by the first operating system error in the chain of causes, where the file backend keeps it.
fn failure_by_cause(error: &object_store::Error) -> Failure {
    match found_in::<io::Error>(error).map(io::Error::kind) {
        Some(kind) => failure_for(kind)(Box::new(Said::by(error))),
        None => Failure::Unavailable(Box::new(Said::by(error))),
    }
}

/// What a backend said, each thing once: its errors repeat their causes in their own texts.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Said(String);

/// The longest text that is kept of a backend's error. It may hold a page that some host sent instead of an answer.
const SAID_CHARS_MAX: usize = 1000;

impl Said {
    pub(crate) fn by(error: &(dyn StdError + 'static)) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(current) = cause {
            let more = current.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = current.source();
        }
        if text.chars().nth(SAID_CHARS_MAX).is_some() {
            text = text.chars().take(SAID_CHARS_MAX).chain("…".chars()).collect();
        }
        // It reaches logs and terminals, and whoever answered may want to move a cursor or forge a line.
        Self(text.replace(char::is_control, " "))
    }
}

/// The first cause of this type, the error itself included.
pub(crate) fn found_in<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(found) = current.downcast_ref::<E>() {
            return Some(found);
        }
        cause = current.source();
    }
    None
}

fn failure_for(kind: io::ErrorKind) -> fn(Cause) -> Failure {
    use io::ErrorKind;
    if matches!(kind, ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) {
        Failure::Denied
    } else if matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) {
        Failure::Full
    } else if matches!(
        kind,
        ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidFilename
            | ErrorKind::Unsupported
    ) {
        Failure::Misconfigured
    } else {
        Failure::Unavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operating_system_errors_are_sorted_by_what_the_caller_does() {
        let sorted = |kind| {
            let source = Box::new(io::Error::from(kind));
            failure_of(object_store::Error::Generic { store: "test", source })
        };
        assert!(matches!(sorted(io::ErrorKind::PermissionDenied), Failure::Denied(_)));
        assert!(matches!(sorted(io::ErrorKind::ReadOnlyFilesystem), Failure::Denied(_)));
        assert!(matches!(sorted(io::ErrorKind::StorageFull), Failure::Full(_)));
        assert!(matches!(sorted(io::ErrorKind::QuotaExceeded), Failure::Full(_)));
        assert!(matches!(sorted(io::ErrorKind::NotADirectory), Failure::Misconfigured(_)));
        assert!(matches!(sorted(io::ErrorKind::TimedOut), Failure::Unavailable(_)));
        assert!(matches!(sorted(io::ErrorKind::ConnectionReset), Failure::Unavailable(_)));
    }

    #[test]
    fn what_a_backend_says_is_told_once_and_is_bounded() {
        let cause: Cause = "the line is cut".into();
        let once = failure_of(object_store::Error::Generic { store: "test", source: cause });
        let text = StdError::source(&once).unwrap().to_string();
        assert_eq!(text.matches("the line is cut").count(), 1, "{text}");
        assert!(StdError::source(&once).unwrap().source().is_none());
        let cause: Cause = "page ".repeat(1000).into();
        let long = failure_of(object_store::Error::Generic { store: "test", source: cause });
        assert_eq!(StdError::source(&long).unwrap().to_string().chars().count(), SAID_CHARS_MAX + 1);
    }

    #[test]
    fn backend_errors_are_sorted_by_what_the_caller_does() {
        let path = || "key".to_owned();
        let source = || -> Cause { "told so".into() };
        let denied = object_store::Error::PermissionDenied { path: path(), source: source() };
        assert!(matches!(failure_of(denied), Failure::Denied(_)));
        let stranger = object_store::Error::Unauthenticated { path: path(), source: source() };
        assert!(matches!(failure_of(stranger), Failure::Denied(_)));
        let unable = object_store::Error::NotSupported { source: source() };
        assert!(matches!(failure_of(unable), Failure::Misconfigured(_)));
        let broken = object_store::Error::Generic { store: "test", source: source() };
        assert!(matches!(failure_of(broken), Failure::Unavailable(_)));
    }
}
