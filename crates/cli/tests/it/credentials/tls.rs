//! Processes that speak TLS, by files in their folder: `ca.pem` of an authority, `server` and `client` with `.pem` and `.key`.

use std::fs;
use std::path::Path;
use std::process::Command;

use synddb_servers::{Authority, Pair};

use super::list_certificate;
use crate::roles::sequencer_as;

/// A sequencer at this address that speaks TLS, with the authority that signs for it and its clients, of which one is listed.
pub(super) fn sequencer(folder: &Path, authority: &Authority, listed: (&str, &Pair), at: &str) -> Command {
    authority.server().unwrap().write(folder, "server").unwrap();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    let mut command = sequencer_as(folder, "sequencer", at);
    serve(&mut command, folder);
    command.arg("--tls-client-ca").arg(folder.join("ca.pem"));
    let (name, pair) = listed;
    list_certificate(folder, name, &pair.sha256);
    command
}

/// Has a service speak TLS.
pub(super) fn serve(command: &mut Command, folder: &Path) {
    command.arg("--tls-certificate").arg(folder.join("server.pem"));
    command.arg("--tls-key").arg(folder.join("server.key"));
}

/// Has an agent show the client's certificate to whom its authority signed for.
pub(super) fn show_certificate(command: &mut Command, folder: &Path) {
    command.arg("--ca-file").arg(folder.join("ca.pem"));
    command.arg("--client-certificate").arg(folder.join("client.pem"));
    command.arg("--client-key").arg(folder.join("client.key"));
}
