//! Server-sent events, read as any client reads them.

use std::time::Duration;

use reqwest::Response;
use serde_json::Value;

use crate::running::{PATIENCE, client};

/// An event as it came.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) id: Option<String>,
    pub(super) data: Value,
    /// How long the data is, in bytes.
    pub(super) bytes: usize,
}

impl Event {
    /// What `name` of the data is, as a number.
    pub(super) fn number(&self, name: &str) -> u64 {
        self.data[name].as_u64().unwrap()
    }

    pub(super) fn is_last(&self) -> bool {
        self.data["last"] == Value::Bool(true)
    }
}

/// A connection.
pub(super) struct Events {
    answer: Response,
    text: Vec<u8>,
    /// How much of it has no end of an event.
    seen: usize,
    /// The last id that came, also with nothing else.
    pub(super) last_id: Option<String>,
}

impl Events {
    pub(super) async fn open(url: &str, last_id: Option<&str>) -> Self {
        let mut request = client().get(url);
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{}", answer.text().await.unwrap());
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { answer, text: Vec::new(), seen: 0, last_id: last_id.map(str::to_owned) }
    }

    /// The next event; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Option<Event> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("something comes in time")
    }

    /// The next event, if one comes in this time.
    pub(super) async fn within(&mut self, time: Duration) -> Option<Event> {
        tokio::time::timeout(time, self.read()).await.ok().flatten()
    }

    /// What comes, through an event that is wanted.
    pub(super) async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await.expect("the stream has no end");
            let is_wanted = wanted(&event);
            events.push(event);
            if is_wanted {
                return events;
            }
        }
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.text[self.seen..].windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.text.drain(..self.seen + end + 2).collect();
                self.seen = 0;
                if let Some(event) = self.block(std::str::from_utf8(&block).unwrap()) {
                    return Some(event);
                }
            }
            self.seen = self.text.len().saturating_sub(1);
            let more = self.answer.chunk().await.ok()??;
            self.text.extend_from_slice(&more);
        }
    }

    fn block(&mut self, block: &str) -> Option<Event> {
        let (mut name, mut id, mut data) = (String::new(), None, None);
        for line in block.lines().filter(|line| !line.starts_with(':') && !line.is_empty()) {
            let (field, value) = line.split_once(": ").unwrap();
            match field {
                "event" => value.clone_into(&mut name),
                "id" => id = Some(value.to_owned()),
                "data" => data = Some(value.to_owned()),
                "retry" => {}
                other => panic!("{other}"),
            }
        }
        if let Some(id) = &id {
            self.last_id = Some(id.clone());
        }
        let data = data?;
        Some(Event { name, id, bytes: data.len(), data: serde_json::from_str(&data).unwrap() })
    }
}
