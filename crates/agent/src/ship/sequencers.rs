//! The sequencers that an agent knows, and the one that it speaks to.
//!
//! What must stay true: one thread decides whom to speak to, the one that sends. The watcher follows, and says who did not answer.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::SEQUENCERS_MAX;
use crate::error::AgentError;

/// One of the sequencers, by its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Which(usize);

/// All of them, at least one.
#[derive(Debug)]
pub(super) struct Sequencers {
    urls: Vec<String>,
    current: AtomicUsize,
}

/// Whether an agent can be told of these sequencers, for whoever refuses before anything is made.
///
/// # Errors
/// [`AgentError`] when there are none, or too many, or one of them is no URL or named twice.
pub fn check(named: &[String]) -> Result<(), AgentError> {
    Sequencers::new(named).map(drop)
}

impl Sequencers {
    pub(super) fn new(named: &[String]) -> Result<Self, AgentError> {
        if !(1..=SEQUENCERS_MAX).contains(&named.len()) {
            return Err(AgentError::Sequencers { found: named.len() });
        }
        let mut urls: Vec<String> = Vec::new();
        for url in named {
            let url = url.trim_end_matches('/');
            if !(url.starts_with("http://") || url.starts_with("https://")) {
                return Err(AgentError::Url { url: url.to_owned() });
            }
            if urls.iter().any(|named| named == url) {
                return Err(AgentError::SequencerTwice { url: url.to_owned() });
            }
            urls.push(url.to_owned());
        }
        Ok(Self { urls, current: AtomicUsize::new(0) })
    }

    /// Whether another one could lead.
    pub(super) const fn are_several(&self) -> bool {
        self.urls.len() > 1
    }

    pub(super) const fn count(&self) -> usize {
        self.urls.len()
    }

    /// The one that is spoken to.
    pub(super) fn current(&self) -> Which {
        Which(self.current.load(Ordering::SeqCst))
    }

    /// Its URL, without a slash at its end.
    pub(super) fn url(&self, which: Which) -> &str {
        &self.urls[which.0]
    }

    /// Goes on from one that does not answer or does not lead to the next in turn, unless somebody else is spoken to already.
    pub(super) fn leave(&self, which: Which) {
        if self.current() == which {
            self.current.store((which.0 + 1) % self.urls.len(), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn they_are_asked_in_turn_and_nobody_is_left_twice() {
        let urls = ["http://a/", "https://b", "http://c"].map(str::to_owned);
        let sequencers = Sequencers::new(&urls).unwrap();
        let first = sequencers.current();
        assert_eq!(sequencers.url(first), "http://a");
        sequencers.leave(first);
        sequencers.leave(first);
        let second = sequencers.current();
        assert_eq!(sequencers.url(second), "https://b");
        sequencers.leave(second);
        sequencers.leave(sequencers.current());
        assert_eq!(sequencers.current(), first);
    }

    #[test]
    fn none_too_many_and_what_is_no_url_are_refused() {
        let of = |count: usize| {
            let named: Vec<String> = (0..count).map(|number| format!("http://{number}")).collect();
            Sequencers::new(&named).map(|found| found.count())
        };
        assert!(matches!(of(0), Err(AgentError::Sequencers { found: 0 })));
        assert!(matches!(of(SEQUENCERS_MAX), Ok(SEQUENCERS_MAX)));
        assert!(matches!(of(SEQUENCERS_MAX + 1), Err(AgentError::Sequencers { .. })));
        let other = Sequencers::new(&["http://a".to_owned(), "ftp://b".to_owned()]);
        assert!(matches!(other, Err(AgentError::Url { url }) if url == "ftp://b"));
        let twice = Sequencers::new(&["http://a".to_owned(), "http://a/".to_owned()]);
        assert!(matches!(twice, Err(AgentError::SequencerTwice { url }) if url == "http://a"));
    }
}
