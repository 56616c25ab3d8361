//! What files say, read again when they change: an operator changes them without a restart.
//!
//! ```text
//! use -> a second since the last look? -> read -> the same bytes? -> parse -> counts from now on
//!                                                                         \-> refused: the last good content counts
//! ```
//!
//! What cannot be read or understood later changes nothing, so an editor that writes a file in two steps takes nothing away. A warning and
//! the gauge `synddb_service_file_refused` say so. Whoever uses a value while another looks gets the last one, and waits for no file.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use synddb_protocol::chain;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::trouble::Trouble;

/// How long a change may stay unseen while something is asked.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Files, and what they mean.
pub trait Source: Send + Sync + 'static {
    /// What they say.
    type Value: Send + Sync + 'static;
    /// Why they are refused.
    type Error: Error + Send + Sync + 'static;
    /// What they are called, in traces and metrics.
    const NAME: &'static str;

    /// Their bytes, one after the other.
    ///
    /// # Errors
    /// When one cannot be read, or may not be used.
    fn read(&self) -> Result<Vec<u8>, Self::Error>;

    /// What the bytes that were read mean.
    ///
    /// # Errors
    /// When they mean nothing.
    fn parse(&self, content: &[u8]) -> Result<Self::Value, Self::Error>;
}

/// What files say. Clones look together.
pub struct Reloaded<S: Source>(Arc<Shared<S>>);

struct Shared<S: Source> {
    source: S,
    /// The last good value.
    good: RwLock<Arc<S::Value>>,
    look: Arc<Mutex<Look>>,
}

/// The last look. Of what was seen only a hash is kept: it may be a secret.
struct Look {
    at: Instant,
    seen: Option<[u8; 32]>,
    is_refused: bool,
    trouble: Trouble,
}

impl<S: Source> Reloaded<S> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// Those of the source: without a first good content there is nothing to go by.
    pub fn open(source: S) -> Result<Self, S::Error> {
        let content = source.read()?;
        let value = source.parse(&content)?;
        refused(S::NAME, false);
        let look = Look {
            at: Instant::now(),
            seen: Some(hash(&content)),
            is_refused: false,
            trouble: Trouble::new(),
        };
        let (good, look) = (RwLock::new(Arc::new(value)), Arc::new(Mutex::new(look)));
        Ok(Self(Arc::new(Shared { source, good, look })))
    }

    /// What the files say now, or said last.
    pub async fn now(&self) -> Arc<S::Value> {
        if let Ok(mut look) = Arc::clone(&self.0.look).try_lock_owned()
            && look.at.elapsed() >= LOOK_AGAIN
        {
            let shared = Arc::clone(&self.0);
            // A look that its caller gives up goes on, and nobody else begins one meanwhile. One that panics has changed nothing.
            spawn_blocking(move || shared.look(&mut look)).await.ok();
        }
        self.0.good()
    }
}

impl<S: Source> Shared<S> {
    fn good(&self) -> Arc<S::Value> {
        // The value is exchanged at once or not at all, so whoever panicked left it whole.
        Arc::clone(&self.good.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn look(&self, look: &mut Look) {
        let now = Instant::now();
        look.at = now;
        let parsed = self.source.read().and_then(|content| {
            let seen = Some(hash(&content));
            if look.seen == seen && !look.is_refused {
                return Ok(None);
            }
            look.seen = seen;
            self.source.parse(&content).map(Some)
        });
        let is_refused = parsed.is_err();
        if is_refused != look.is_refused {
            look.is_refused = is_refused;
            refused(S::NAME, is_refused);
        }
        match parsed {
            Ok(changed) => {
                if let Some(value) = changed {
                    *self.good.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                    tracing::info!(file = S::NAME, "a file changed, and counts from now on");
                }
                look.trouble.over(now);
            }
            Err(error) => {
                if look.trouble.met(now, "refused").is_some() {
                    tracing::warn!(file = S::NAME, error = %chain(&error), "a file is refused; its last good content counts");
                }
            }
        }
    }
}

/// Whether what the files say now is not what counts.
fn refused(name: &'static str, is_refused: bool) {
    metrics::gauge!("synddb_service_file_refused", "file" => name).set(f64::from(u8::from(is_refused)));
}

fn hash(content: &[u8]) -> [u8; 32] {
    Sha256::digest(content).into()
}

impl<S: Source> Clone for Reloaded<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Source> fmt::Debug for Reloaded<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reloaded").field(&S::NAME).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Lock;

    use super::*;

    /// A number that somebody writes and rewrites.
    struct Number(Arc<Lock<Option<&'static str>>>);

    #[derive(Debug, thiserror::Error)]
    #[error("it is no number")]
    struct NoNumber;

    impl Source for Number {
        type Value = u32;
        type Error = NoNumber;
        const NAME: &'static str = "number";

        fn read(&self) -> Result<Vec<u8>, NoNumber> {
            self.0.lock().unwrap().map(|text| text.as_bytes().to_vec()).ok_or(NoNumber)
        }

        fn parse(&self, content: &[u8]) -> Result<u32, NoNumber> {
            std::str::from_utf8(content).ok().and_then(|text| text.parse().ok()).ok_or(NoNumber)
        }
    }

    /// What it says after a look that is due.
    async fn looked(reloaded: &Reloaded<Number>) -> u32 {
        let due = Instant::now().checked_sub(LOOK_AGAIN).unwrap();
        reloaded.0.look.lock().await.at = due;
        *reloaded.now().await
    }

    #[tokio::test]
    async fn what_is_refused_later_changes_nothing() {
        let text = Arc::new(Lock::new(Some("1")));
        let write = |new| *text.lock().unwrap() = new;
        let reloaded = Reloaded::open(Number(Arc::clone(&text))).unwrap();
        write(Some("2"));
        assert_eq!(*reloaded.now().await, 1, "it was looked at a moment ago");
        assert_eq!(looked(&reloaded).await, 2);
        for wrong in [Some("x"), None, Some("")] {
            write(wrong);
            assert_eq!(looked(&reloaded).await, 2, "{wrong:?}");
            assert!(reloaded.0.look.lock().await.is_refused);
        }
        write(Some("2"));
        assert_eq!(looked(&reloaded).await, 2);
        assert!(!reloaded.0.look.lock().await.is_refused, "the same as before is good again");
        write(Some("3"));
        assert_eq!(looked(&reloaded).await, 3);
    }

    #[test]
    fn nothing_begins_with_a_file_that_is_refused() {
        for wrong in [Some("x"), None] {
            assert!(Reloaded::open(Number(Arc::new(Lock::new(wrong)))).is_err());
        }
    }
}
