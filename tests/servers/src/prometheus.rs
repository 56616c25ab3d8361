//! Prometheus, as operators run it: it scrapes processes, and evaluates what is asked of what it scraped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::ask::ask;
use crate::child::Server;
use crate::port::Port;
use crate::programs::Program;

/// A Prometheus that is killed when this value or its process ends.
#[derive(Debug)]
pub struct Prometheus {
    _server: Server,
    port: Port,
}

impl Prometheus {
    /// Starts one that scrapes each of these jobs four times a second, and evaluates the rules of a file.
    ///
    /// # Errors
    /// When it does not start, with what it said.
    pub fn scrape(jobs: &[(&str, SocketAddr)], rules: &Path) -> Result<Self> {
        let program = Program::Prometheus.find()?;
        let port = Port::take()?;
        let rules = rules.canonicalize().context("there is no file of rules")?;
        let arguments = |own: &Path| {
            let file = own.join("prometheus.yml");
            std::fs::write(&file, configuration(jobs, &rules)).context("cannot write the configuration")?;
            check(&["check", "config"], std::slice::from_ref(&file), "")?;
            Ok(vec![
                format!("--config.file={}", file.display()),
                format!("--storage.tsdb.path={}", own.join("data").display()),
                format!("--web.listen-address={}", port.address()),
                "--log.level=warn".to_owned(),
            ])
        };
        let server = Server::start(&program, arguments, &[])?;
        let address = port.address();
        server.wait_until(address, || {
            ask(address, "GET", "/-/ready", &[], b"").is_ok_and(|answer| answer.status == 200)
        })?;
        Ok(Self { _server: server, port })
    }

    /// What an expression evaluates to now: a list of samples.
    ///
    /// # Errors
    /// When it refuses the expression.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let escaped: String = url::form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let answer = self.get(&format!("/api/v1/query?query={escaped}"))?;
        let result = answer["data"]["result"].as_array().cloned();
        match answer["data"]["resultType"].as_str() {
            Some("vector") => result.context("a vector has no samples"),
            other => {
                bail!("the expression is no list of samples. expression=`{expression}` type=`{other:?}`")
            }
        }
    }

    /// What it answers to a request of its API.
    ///
    /// # Errors
    /// When it refuses it.
    pub fn get(&self, target: &str) -> Result<Value> {
        let answer = ask(self.port.address(), "GET", target, &[], b"")?.succeeded()?;
        serde_json::from_slice(&answer.body).context("the answer is no JSON")
    }
}

fn configuration(jobs: &[(&str, SocketAddr)], rules: &Path) -> String {
    let mut text = format!(
        "global:\n  scrape_interval: 250ms\n  scrape_timeout: 250ms\n  evaluation_interval: 250ms\nrule_files: ['{}']\nscrape_configs:\n",
        rules.display()
    );
    for (job, address) in jobs {
        text.push_str(&format!("  - job_name: {job}\n    static_configs: [{{ targets: ['{address}'] }}]\n"));
    }
    text
}

/// Runs Prometheus' own checks: `promtool` with these words and files, and a text on its standard input.
///
/// # Errors
/// With what it said, when it finds something.
pub fn check(words: &[&str], files: &[PathBuf], input: &str) -> Result<String> {
    use std::io::Write as _;
    use std::process::Stdio;
    let mut command = Command::new(Program::Promtool.find()?);
    command.args(words).args(files).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start promtool")?;
    child.stdin.take().context("promtool has no input")?.write_all(input.as_bytes())?;
    let done = child.wait_with_output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if !done.status.success() {
        bail!("promtool finds something. words=`{}` said=`{said}`", words.join(" "));
    }
    Ok(said)
}
