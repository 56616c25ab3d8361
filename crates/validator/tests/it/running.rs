//! A validator in this process, and what it says.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use synddb_protocol::id::Sequence;
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::Metrics;
use synddb_sqlite::compare::first_difference;
use synddb_storage::BatchStore;
use synddb_validator::{Config, End, Event, Mode, Start, ValidatorError, run_as, run_over};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::log::Log;

/// Longer than anything here takes; a test that needs it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const EVENTS_MAX: usize = 10_000;

pub(crate) struct Running {
    pub(crate) shutdown: Shutdown,
    events: mpsc::Receiver<Event>,
    ended: JoinHandle<Result<End, ValidatorError>>,
    address: Option<std::net::SocketAddr>,
}

impl Running {
    pub(crate) fn start(config: Config) -> Self {
        Self::start_as(Start::GoOn, config)
    }

    pub(crate) fn start_over(store: Arc<dyn BatchStore>, config: Config) -> Self {
        Self::begin(Some(store), Start::GoOn, config)
    }

    pub(crate) fn start_as(start: Start, config: Config) -> Self {
        Self::begin(None, start, config)
    }

    fn begin(store: Option<Arc<dyn BatchStore>>, start: Start, config: Config) -> Self {
        let shutdown = Shutdown::new();
        let (told, events) = mpsc::channel(EVENTS_MAX);
        let tell = move |event| {
            told.try_send(event).ok();
        };
        let asked = shutdown.clone();
        let ended = tokio::spawn(async move {
            match store {
                Some(store) => run_over(store, config, Metrics::detached(), asked, tell).await,
                None => run_as(start, config, Metrics::detached(), asked, tell).await,
            }
        });
        Self { shutdown, events, ended, address: None }
    }

    /// The next event.
    pub(crate) async fn next(&mut self) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        let event = event.expect("something happens in time").expect("the validator still runs");
        if let Event::Listening { address, .. } = event {
            self.address = Some(address);
        }
        event
    }

    /// Waits for an event, and returns it with those before it.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await;
            events.push(event.clone());
            if wanted(&event) {
                return events;
            }
        }
    }

    pub(crate) async fn until_applied(&mut self, wanted: Sequence) -> Vec<Event> {
        self.until(|event| matches!(event, Event::Applied { sequence, .. } if *sequence >= wanted)).await
    }

    /// Waits for its end, whoever asks.
    pub(crate) async fn end(self) -> Result<End, ValidatorError> {
        tokio::time::timeout(PATIENCE, self.ended).await.expect("it ends in time").unwrap()
    }

    /// Asks it to end, and waits.
    pub(crate) async fn stop(self) -> Result<End, ValidatorError> {
        self.shutdown.ask();
        self.end().await
    }

    pub(crate) async fn url(&mut self, path: &str) -> String {
        if self.address.is_none() {
            self.until(|event| matches!(event, Event::Listening { .. })).await;
        }
        format!("http://{}{path}", self.address.unwrap())
    }

    pub(crate) async fn get(&mut self, path: &str) -> (u16, String) {
        let url = self.url(path).await;
        let answer = client().get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub(crate) async fn get_json(&mut self, path: &str) -> (u16, Value) {
        let (status, text) = self.get(path).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}")))
    }

    pub(crate) async fn query(&mut self, body: Value) -> (u16, Value) {
        let url = self.url("/query").await;
        let answer = client().post(url).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}

/// Every client of this program needs the provider, also one that only speaks HTTP.
pub(crate) fn client() -> reqwest::Client {
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::new()
}

/// Brings the replica of `log` to the end of the store, and compares it with the application's database.
pub(crate) async fn rebuild(log: &Log) -> End {
    let end = Running::start(log.config(Mode::Once)).end().await.unwrap();
    assert_eq!(end, End { sequence: Some(log.last()), state: Some(log.state()) });
    equal(log);
    end
}

/// Row by row, with nothing that the validator uses.
pub(crate) fn equal(log: &Log) {
    assert_eq!(
        first_difference(std::path::Path::new(log.app.path().unwrap()), &log.replica()).unwrap(),
        None
    );
}
