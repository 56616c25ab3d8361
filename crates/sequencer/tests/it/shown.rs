//! A reader of a log as it grows: it reads the CBOR sequence off the wire, item by item.

use std::time::Duration;

use synddb_protocol::Canonical as _;
use synddb_protocol::encoding::cbor::Reader as Cbor;
use synddb_protocol::live::LogItem;
use synddb_protocol::log::{Message, SignedCheckpoint};

use crate::server::{Answer, Server, answer};

/// How long anything may take that is bound to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One connection that is shown a log.
pub(crate) struct Shown {
    response: reqwest::Response,
    buffer: Vec<u8>,
}

impl Shown {
    /// Asks to be shown a log; gives the refusal when it is refused.
    pub(crate) async fn ask(server: &Server, query: &str) -> Result<Self, Answer> {
        let url = format!("{}/log/stream?{query}", server.base);
        let response = server.http.get(url).send().await.unwrap();
        if response.status() != 200 {
            return Err(answer(response).await);
        }
        assert_eq!(response.headers()["content-type"], "application/cbor-seq");
        Ok(Self { response, buffer: Vec::new() })
    }

    pub(crate) async fn begin(server: &Server, query: &str) -> Self {
        Self::ask(server, query).await.unwrap_or_else(|answer| panic!("{:?}", answer.reason()))
    }

    /// The next item. `None` when the answer ended, between items.
    pub(crate) async fn next(&mut self) -> Option<LogItem> {
        loop {
            let mut reader = Cbor::new(&self.buffer);
            if let Ok(item) = LogItem::read(&mut reader) {
                self.buffer.drain(..reader.position());
                return Some(item);
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("it says nothing");
            let Some(chunk) = chunk.unwrap() else {
                assert!(self.buffer.is_empty(), "it ends in the middle of an item");
                return None;
            };
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// The next item that is no mark of what is stored.
    pub(crate) async fn next_but_marks(&mut self) -> Option<LogItem> {
        loop {
            match self.next().await {
                Some(LogItem::Stored(_) | LogItem::Idle) => {}
                item => return item,
            }
        }
    }

    /// The next message, and whether it is stored.
    pub(crate) async fn message(&mut self) -> (Message, bool) {
        match self.next_but_marks().await {
            Some(LogItem::Message { message, stored }) => (*message, stored),
            other => panic!("{other:?}"),
        }
    }

    /// The next mark that reaches `sequence`; messages before it are passed over.
    pub(crate) async fn mark(&mut self, sequence: u64) -> SignedCheckpoint {
        loop {
            match self.next().await {
                Some(LogItem::Stored(mark)) if mark.claim().size.get() >= sequence => return *mark,
                Some(LogItem::Stored(_) | LogItem::Idle | LogItem::Message { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
