//! Hears from a node, over WebSocket, that there is a new block: who looks then, looks sooner. Nothing that it says is believed, and polling goes on beside.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::connect_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::follow::Nodes;

/// What is said to a node that should tell of its blocks.
const SUBSCRIBE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}"#;
/// Largest thing that it may say, in bytes: a block has a head of a few kilobytes.
const TOLD_BYTES_MAX: usize = 1 << 20;
/// How long it may say nothing. No chain rests that long.
const SILENCE: Duration = Duration::from_secs(300);
/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause before it is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// Least time between two words of it that are passed on.
const APART: Duration = Duration::from_millis(200);

/// Tells whenever a node has a new block, for ever; never, where none is named that says so.
pub async fn hear_blocks(nodes: &Nodes, tell: impl Fn()) {
    let Some(url) = &nodes.ws else { return std::future::pending().await };
    loop {
        if let Err(error) = hear(url, &tell).await {
            // Its URL is not shown: keys stand in URLs.
            tracing::debug!(%error, "a node does not tell of its blocks; they are looked at as often as without it");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Tells until the connection ends.
async fn hear(url: &str, tell: &impl Fn()) -> Result<(), Error> {
    let bounds = WebSocketConfig::default()
        .max_message_size(Some(TOLD_BYTES_MAX))
        .max_frame_size(Some(TOLD_BYTES_MAX));
    let connected = tokio::time::timeout(PATIENCE, connect_async_with_config(url, Some(bounds), false)).await;
    let (mut socket, _) = connected.map_err(|_| Error::ConnectionClosed)??;
    socket.send(Message::text(SUBSCRIBE)).await?;
    while let Ok(Some(told)) = tokio::time::timeout(SILENCE, socket.next()).await {
        // The answer to the question is the first; whether it refuses is seen by its silence.
        if let Message::Text(text) = told?
            && text.contains("eth_subscription")
        {
            tell();
            tokio::time::sleep(APART).await;
        }
    }
    Ok(())
}
