//! Waiting until there may be another batch.
//!
//! With a sequencer to ask, one request waits at its side until there is news, and an idle log costs the store nothing. Without one, or
//! while it does not answer, the store is looked into at growing intervals. What a sequencer says decides only when the store is
//! looked into: one that lies or sleeps can make this replica late by [`SILENT_MAX`], and no more.

use std::path::Path;
use std::time::Duration;

use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::limits::CHECKPOINT_BYTES_MAX;
use synddb_protocol::log::SignedCheckpoint;
use synddb_service::authority;
use synddb_service::http::WAIT_MAX;
use synddb_service::shutdown::Shutdown;
use tokio::time::Instant;
use tracing::debug;

use crate::config::ConfigProblem;
use crate::error::ValidatorError;
use crate::view::View;

/// The shortest interval between two looks.
const INTERVAL_MIN: Duration = Duration::from_millis(50);
/// The store is looked into after this long, whatever a sequencer says.
const SILENT_MAX: Duration = Duration::from_secs(300);
/// How long a connection to the sequencer may take, and an answer beyond the time that it was asked to wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a wait ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// The store may hold more.
    More,
    /// A sequencer says that less is stored than was applied here, and did not say so before.
    Less,
}

/// Waits for news of one log.
pub(crate) struct News {
    sequencer: Option<Sequencer>,
    interval: Duration,
    interval_max: Duration,
    /// Whether the last thing that was said turned out to be not so, or not yet.
    misled: bool,
    /// The size that was less than what was applied, and was looked into.
    less: Option<Sequence>,
    view: View,
}

/// A sequencer to ask.
#[derive(Clone)]
pub(crate) struct Sequencer {
    client: reqwest::Client,
    url: reqwest::Url,
}

impl Sequencer {
    /// The sequencer of `stream` at `base`.
    ///
    /// # Errors
    /// [`ValidatorError`] when the URL is none, or no client can be made.
    pub(crate) fn at(base: &str, ca_file: Option<&Path>, stream: StreamId) -> Result<Self, ValidatorError> {
        let refuse = || ConfigProblem::Sequencer { url: base.to_owned() };
        let text = format!("{}/streams/{}/checkpoint", base.trim_end_matches('/'), stream.to_key());
        let url: reqwest::Url = text.parse().map_err(|_| refuse())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse().into());
        }
        // One provider serves the process; a second one to install it is told so, and has what it wanted.
        rustls::crypto::ring::default_provider().install_default().ok();
        let builder = match ca_file {
            Some(file) => {
                let refuse = |source| ValidatorError::Authority { file: file.to_owned(), source };
                let certificates = authority::read(file).map_err(|error| refuse(error.into()))?;
                reqwest::Client::builder().tls_certs_only(certificates)
            }
            None => reqwest::Client::builder(),
        };
        let client = builder
            .connect_timeout(PATIENCE)
            .timeout(WAIT_MAX + PATIENCE)
            .build()
            .map_err(ValidatorError::Client)?;
        Ok(Self { client, url })
    }

    /// The size that the newest stored checkpoint claims, as soon as it is `at_least`, or after the longest wait.
    async fn ask(&self, at_least: Sequence) -> Result<Sequence, Silence> {
        let query = [("at_least", at_least.get().to_string()), ("wait_ms", WAIT_MAX.as_millis().to_string())];
        let mut answer = self.client.get(self.url.clone()).query(&query).send().await?;
        // Also 404: somebody else may lead the stream, and store what is not known there.
        answer.error_for_status_ref()?;
        let mut bytes = Vec::new();
        while let Some(more) = answer.chunk().await? {
            if bytes.len() + more.len() > CHECKPOINT_BYTES_MAX {
                return Err(Silence::NoCheckpoint);
            }
            bytes.extend_from_slice(&more);
        }
        let checkpoint = SignedCheckpoint::from_bytes(&bytes).map_err(|_| Silence::NoCheckpoint)?;
        Ok(checkpoint.claim().size)
    }
}

/// Why a sequencer told nothing.
#[derive(Debug, thiserror::Error)]
enum Silence {
    #[error("the sequencer does not answer")]
    Http(#[from] reqwest::Error),
    #[error("the sequencer's answer is no checkpoint")]
    NoCheckpoint,
}

impl News {
    /// For who waits for none.
    pub(crate) fn none(view: View) -> Self {
        Self::new(None, INTERVAL_MIN, view)
    }

    pub(crate) fn new(sequencer: Option<Sequencer>, interval_max: Duration, view: View) -> Self {
        let interval_max = interval_max.max(INTERVAL_MIN);
        Self { sequencer, interval: INTERVAL_MIN, interval_max, misled: false, less: None, view }
    }

    /// The store had what was waited for.
    pub(crate) fn found(&mut self) {
        (self.interval, self.misled, self.less) = (INTERVAL_MIN, false, None);
    }

    /// Returns when the store may hold the batch that begins with `next`, or when the process was asked to end.
    pub(crate) async fn wait(&mut self, next: Sequence, shutdown: &Shutdown) -> Told {
        tokio::select! {
            () = shutdown.asked() => Told::More,
            told = self.until_news(next) => told,
        }
    }

    async fn until_news(&mut self, next: Sequence) -> Told {
        if self.sequencer.is_none() || self.misled {
            self.misled = false;
            self.pause().await;
            return Told::More;
        }
        let since = Instant::now();
        while since.elapsed() < SILENT_MAX {
            let Some(sequencer) = &self.sequencer else { break };
            let asked = Instant::now();
            match sequencer.ask(next).await {
                Ok(size) if size >= next => {
                    self.view.stored(size);
                    // Should the store not have it, the next wait is one for the store alone.
                    self.misled = true;
                    return Told::More;
                }
                // One that says the same again, and was not right, is no reason to look again.
                Ok(size) if size.next() < Some(next) && self.less != Some(size) => {
                    self.less = Some(size);
                    // One that says something else each time must not make this a busy loop.
                    self.pause().await;
                    return Told::Less;
                }
                // An answer that did not wait as it was asked to must not make this a busy loop.
                Ok(_) if asked.elapsed() < WAIT_MAX / 2 => self.pause().await,
                Ok(_) => {}
                Err(error) => {
                    debug!(error = %synddb_protocol::chain(&error), "the sequencer tells no news; looking into the store");
                    self.pause().await;
                    return Told::More;
                }
            }
        }
        Told::More
    }

    async fn pause(&mut self) {
        let interval = self.interval;
        self.interval = (interval * 2).min(self.interval_max);
        tokio::time::sleep(interval).await;
    }
}
