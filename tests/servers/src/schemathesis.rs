//! schemathesis: requests made of an OpenAPI document, and answers compared with it.
//!
//! Three things are required of a service: each operation was answered with 2xx at least once, none with 5xx, and every answer is one that the
//! document describes. What schemathesis cannot know, as names that exist, `schemathesis/hooks.py` puts into its requests.
//!
//! `SYNDDB_SCHEMATHESIS` names a Python that has it. `SYNDDB_SCHEMATHESIS_EXAMPLES` is how many requests are made up for each operation beside
//! those at the ends of every bound; `SYNDDB_SCHEMATHESIS_SEED` makes others.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::ask::ask;

/// The variable that names the Python.
const PYTHON: &str = "SYNDDB_SCHEMATHESIS";

/// Requests that are made up for each operation, in a run that nobody waits for long.
const EXAMPLES: &str = "5";

/// How long an answer may take, in seconds.
const ANSWER_S: &str = "30";

/// What a service is asked.
#[derive(Debug)]
pub struct Questions<'a> {
    /// The URL of the service.
    pub url: &'a str,
    /// Its document.
    pub document: &'a Value,
    /// The token that each request carries.
    pub token: Option<&'a str>,
    /// What the hooks put into requests: `stream`, `table`, `endorsed`, `bodies`.
    pub prepared: &'a Value,
    /// A regular expression of paths that are not asked.
    pub except: Option<&'a str>,
    /// A folder for what is written.
    pub folder: &'a Path,
}

/// How often each operation was answered with each status.
pub type Statuses = BTreeMap<String, BTreeMap<u16, u64>>;

/// What came of it.
#[derive(Debug)]
pub struct Answers {
    /// Whether every answer is one that the document describes.
    pub passed: bool,
    /// What schemathesis said.
    pub said: String,
    /// The answers, by operation.
    pub statuses: Statuses,
}

impl Questions<'_> {
    /// Asks. `None` where there is no Python for it, which is said.
    ///
    /// # Errors
    /// When schemathesis does not run.
    ///
    /// # Panics
    /// When it is missing in CI, where nothing may be left out.
    pub fn ask(&self) -> Result<Option<Answers>> {
        let Some(python) = std::env::var_os(PYTHON) else {
            let in_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
            assert!(!in_ci, "nothing may be left out in CI: {PYTHON} names no Python with schemathesis");
            eprintln!("left out: {PYTHON} names no Python with schemathesis; `cargo xtask test` does");
            return Ok(None);
        };
        let variable = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
        let counts = self.folder.join("counts.json");
        let mut command = Command::new(python);
        command.current_dir(self.folder).args(["-m", "schemathesis.cli", "--no-color", "run"]);
        let document = self.folder.join("document.json");
        std::fs::write(&document, self.document.to_string()).context("cannot write the document")?;
        command.arg(document).args(["--url", self.url]);
        command.args(["--phases", "examples,coverage,fuzzing", "--mode", "all", "--continue-on-failure"]);
        command.args(["--checks", "all", "--exclude-checks", "positive_data_acceptance"]);
        command.args(["--max-examples", &variable("SYNDDB_SCHEMATHESIS_EXAMPLES", EXAMPLES)]);
        command.args(["--seed", &variable("SYNDDB_SCHEMATHESIS_SEED", "1"), "--generation-database", "none"]);
        command.args(["--request-timeout", ANSWER_S, "--warnings", "off", "--no-shrink"]);
        if let Some(token) = self.token {
            command.arg("--header").arg(format!("Authorization: Bearer {token}"));
        }
        if let Some(except) = self.except {
            command.args(["--exclude-path-regex", except]);
        }
        let hooks = concat!(env!("CARGO_MANIFEST_DIR"), "/schemathesis/hooks.py");
        command.env("SCHEMATHESIS_HOOKS", hooks).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("SYNDDB_PREPARED", self.prepared.to_string()).env("SYNDDB_COUNTS", &counts);
        let output = command.output().context("cannot run schemathesis")?;
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        ensure!(counts.exists(), "schemathesis counted nothing: {said}");
        let statuses = serde_json::from_slice(&std::fs::read(&counts)?).context("cannot read the counts")?;
        std::fs::remove_file(&counts)?;
        Ok(Some(Answers { passed: output.status.success(), said: said.into_owned(), statuses }))
    }
}

impl Answers {
    /// Prints how often each operation was answered with what, and gives what is not as it must be.
    pub fn faults(&self, questions: &Questions<'_>, except: &[&str]) -> String {
        let mut faults = refused_methods(questions).unwrap_or_else(|error| format!("{error:#}\n"));
        for operation in operations(questions.document) {
            let statuses = self.statuses.get(&operation).cloned().unwrap_or_default();
            println!("{operation}: {statuses:?}");
            let of = |hundred: u16| statuses.keys().any(|status| status / 100 == hundred);
            if !of(2) && !except.contains(&operation.as_str()) {
                writeln!(faults, "{operation} was never answered with 2xx: {statuses:?}").ok();
            }
            if of(5) {
                writeln!(faults, "{operation} was answered with 5xx: {statuses:?}").ok();
            }
        }
        if !self.passed {
            faults.push_str(&self.said);
        }
        faults
    }
}

/// The document that a service serves.
///
/// # Errors
/// When it serves none.
pub fn document(url: &str) -> Result<Value> {
    let answer = ask(address(url)?, "GET", "/openapi.json", &[], &[])?.succeeded()?;
    serde_json::from_slice(&answer.body).context("the document is no JSON")
}

/// What a method that no path takes is answered: a refusal that names those which the document has, and no others.
fn refused_methods(questions: &Questions<'_>) -> Result<String> {
    let mut faults = String::new();
    for (path, item) in questions.document["paths"].as_object().into_iter().flatten() {
        let stream = questions.prepared["stream"].as_str().unwrap_or_default();
        let target = path.replace("{stream}", stream).replace(['{', '}'], "");
        let answer = ask(address(questions.url)?, "OPTIONS", &target, &[], &[])?;
        let mut allowed: Vec<_> =
            answer.header("allow").unwrap_or_default().split(',').map(str::trim).collect();
        let mut documented: Vec<_> =
            item.as_object().into_iter().flatten().map(|(method, _)| method.to_ascii_uppercase()).collect();
        if documented.iter().any(|method| method == "GET") {
            documented.push("HEAD".to_owned());
        }
        allowed.sort_unstable();
        documented.sort_unstable();
        let is_problem = answer.header("content-type") == Some("application/problem+json");
        if answer.status != 405 || !is_problem || allowed != documented {
            writeln!(faults, "OPTIONS {target} was answered {}, and allows {allowed:?}", answer.status)?;
        }
    }
    Ok(faults)
}

fn address(url: &str) -> Result<SocketAddr> {
    let named = url.strip_prefix("http://").with_context(|| format!("no URL of plain HTTP. url=`{url}`"))?;
    named.parse().with_context(|| format!("no address. url=`{url}`"))
}

/// The operations of a document, as `GET /status`.
pub fn operations(document: &Value) -> Vec<String> {
    let items = document["paths"].as_object().into_iter().flatten();
    let named = items.flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten().map(|(method, _)| method.to_ascii_uppercase());
        methods.map(move |method| format!("{method} {path}"))
    });
    named.collect()
}
