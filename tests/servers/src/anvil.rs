//! Anvil: an EVM chain of one node, which makes blocks when it is told to.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::ask::ask;
use crate::child::Server;
use crate::port::Port;
use crate::programs::Program;

/// The number of its chain.
const CHAIN_ID: u64 = 31_337;

/// A chain that is gone when this value or its process ends.
#[derive(Debug)]
pub struct Anvil {
    server: Server,
    port: Port,
}

impl Anvil {
    /// Starts one with further arguments, such as `--no-mining`.
    ///
    /// # Errors
    /// When it does not start, with what it said.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let program = Program::Anvil.find()?;
        let port = Port::take()?;
        let address = port.address();
        let all = |_: &std::path::Path| {
            let mut all = vec!["--chain-id".to_owned(), CHAIN_ID.to_string()];
            all.extend(["--host".to_owned(), address.ip().to_string()]);
            all.extend(["--port".to_owned(), address.port().to_string()]);
            all.extend(arguments.iter().map(|&argument| argument.to_owned()));
            Ok(all)
        };
        let server = Server::start(&program, all, &[])?;
        let started = Self { server, port };
        started.server.wait_until(address, || started.ask("eth_chainId", &json!([])).is_ok())?;
        Ok(started)
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// The number of its chain.
    #[must_use]
    pub const fn chain_id(&self) -> u64 {
        CHAIN_ID
    }

    /// Makes so many blocks.
    ///
    /// # Errors
    /// When it refuses.
    pub fn mine(&self, blocks: u64) -> Result<()> {
        self.ask("anvil_mine", &json!([blocks])).map(drop)
    }

    /// Asks it anything.
    ///
    /// # Errors
    /// When it refuses.
    pub fn ask(&self, method: &str, params: &Value) -> Result<Value> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let headers = [("content-type".to_owned(), "application/json".to_owned())];
        let answer = ask(self.port.address(), "POST", "/", &headers, body.as_bytes())?.succeeded()?;
        let mut answer: Value = serde_json::from_slice(&answer.body).context("the answer is no JSON")?;
        if let Some(error) = answer.get("error") {
            bail!("anvil refuses. method=`{method}` error=`{error}`");
        }
        Ok(answer["result"].take())
    }
}
