//! Which nodes tell what a bridge has sent, as a configuration says it.

use std::time::Duration;

use reqwest::redirect::Policy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::endpoint::Endpoint;
use crate::finality::Finality;

/// Least time between two looks, in milliseconds.
const POLL_MS_MIN: u64 = 10;
/// Most nodes that are asked: each is, in every look.
const NODES_MAX: usize = 8;

/// Which nodes tell what the bridge has sent, and when they are believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Nodes {
    /// The URLs of nodes of the chain. All of them must say the same, or nothing is believed. Without one, nobody looks.
    #[schemars(example = ["https://rpc.example"])]
    pub rpc: Vec<String>,
    /// When what stands on the chain is believed to stay: `"finalized"`, or `{ depth = 12 }`, so many blocks later, on a chain that never says so.
    #[schemars(with = "String")]
    pub finality: Finality,
    /// The block in which the bridge was made, or any before it. With 0 the whole chain is looked at.
    pub from_block: u64,
    /// Time between two looks at the chain, in milliseconds; at least 10.
    pub poll_ms: u64,
    /// The URL of a node that tells of new blocks over WebSocket, so that nobody has to wait for the next look. Nothing that it says is believed.
    #[schemars(example = "wss://rpc.example")]
    pub ws: Option<String>,
}

impl Default for Nodes {
    fn default() -> Self {
        Self { rpc: Vec::new(), finality: Finality::Finalized, from_block: 0, poll_ms: 4000, ws: None }
    }
}

/// Why nodes cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    /// A URL is none that can be asked. It is not shown: keys stand in URLs.
    #[error("this is no http or https URL. key=`rpc` place=`{place}`")]
    Url {
        /// Which of several it is, counted from 0.
        place: usize,
    },
    /// The one that should tell of blocks cannot. It is not shown: keys stand in URLs.
    #[error("this is no ws or wss URL. key=`ws`")]
    WebSocket,
    /// There are more than are asked.
    #[error("more nodes than are asked; name fewer. rpc=`{given}` limit=`{NODES_MAX}`")]
    TooMany {
        /// How many.
        given: usize,
    },
    /// There would be hardly a pause between two looks.
    #[error("time between two looks is too short. poll_ms=`{given}` min=`{POLL_MS_MIN}`")]
    Poll {
        /// What is asked for.
        given: u64,
    },
    /// Nothing can be asked from here.
    #[error("no client for HTTP can be made")]
    Client(#[source] reqwest::Error),
}

impl Nodes {
    /// Whether there are any.
    pub const fn are_named(&self) -> bool {
        !self.rpc.is_empty()
    }

    /// Time between two looks.
    pub const fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }

    /// The nodes of a chain. None of them is asked yet.
    ///
    /// # Errors
    /// [`NodesError`].
    pub fn endpoints(&self, chain_id: u64) -> Result<Vec<Endpoint>, NodesError> {
        if self.rpc.len() > NODES_MAX {
            return Err(NodesError::TooMany { given: self.rpc.len() });
        }
        let is_ws = |text: &String| text.parse::<Url>().is_ok_and(|url| matches!(url.scheme(), "ws" | "wss"));
        if !self.ws.iter().all(is_ws) {
            return Err(NodesError::WebSocket);
        }
        if self.poll_ms < POLL_MS_MIN {
            return Err(NodesError::Poll { given: self.poll_ms });
        }
        if self.rpc.is_empty() {
            return Ok(Vec::new());
        }
        // One provider serves the process; a second one to install it is told so, and has what it wanted.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = reqwest::Client::builder().redirect(Policy::none()).build();
        let client = client.map_err(NodesError::Client)?;
        let node = |(place, text): (usize, &String)| {
            let url = text.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            let url = url.ok_or(NodesError::Url { place })?;
            Ok(Endpoint::new(client.clone(), url, chain_id))
        };
        self.rpc.iter().enumerate().map(node).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn nodes_that_cannot_be_asked_are_told_without_their_urls() {
        let named = |rpc: &[&str]| Nodes {
            rpc: rpc.iter().map(|url| (*url).to_owned()).collect(),
            ..Nodes::default()
        };
        assert!(!named(&[]).are_named() && named(&[]).endpoints(1).unwrap().is_empty());
        assert_eq!(named(&["http://one", "https://two/key"]).endpoints(1).unwrap().len(), 2);
        let refused = named(&["http://one", "wss://secret"]).endpoints(1).unwrap_err();
        assert!(matches!(refused, NodesError::Url { place: 1 }), "{refused}");
        assert!(!refused.to_string().contains("secret"));
        let refused = named(&["http://one"; NODES_MAX + 1]).endpoints(1).unwrap_err();
        assert!(matches!(refused, NodesError::TooMany { .. }));
        let refused = Nodes { ws: Some("https://secret".to_owned()), ..named(&[]) }.endpoints(1).unwrap_err();
        assert!(matches!(refused, NodesError::WebSocket) && !refused.to_string().contains("secret"));
        let hurried = Nodes { poll_ms: POLL_MS_MIN - 1, ..named(&["http://one"]) };
        assert!(matches!(hurried.endpoints(1).unwrap_err(), NodesError::Poll { .. }));
    }
}
