//! Credentials of real processes: exchanged while an application writes, over TLS, and nowhere to be found.

mod exchanged;
mod over_tls;
mod request;
mod tls;
mod unseen;

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::processes::{run, synddb};
use super::roles::Role;

/// `synddb token` with these arguments and the credentials file of a folder. Gives what it printed.
fn token(folder: &Path, arguments: &[&str]) -> String {
    let mut command = synddb(["token"]);
    command.args(arguments).arg("--credentials").arg(folder.join("credentials.toml"));
    let (exit, told, errors) = run(command);
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    told.trim().to_owned()
}

/// Lists a certificate as an operator does, in an editor.
fn list_certificate(folder: &Path, name: &str, sha256: &str) {
    let (file, staged) = (folder.join("credentials.toml"), folder.join("credentials.new"));
    let before = fs::read_to_string(&file).unwrap();
    fs::write(&staged, format!("{before}\n[[certificate]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\n"))
        .unwrap();
    fs::rename(staged, file).unwrap();
}

/// The address that a role listens at, as `127.0.0.1:N`.
fn address(role: &Role) -> String {
    let listening = role.event("listening", |_| true);
    let url = listening["url"].as_str().unwrap();
    url.split_once("://").unwrap().1.to_owned()
}

/// The problem that an agent warns of first.
fn warned(agent: &Role) -> Value {
    agent.event("warning", |_| true)
}
