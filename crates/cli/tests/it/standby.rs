//! A sequencer that stands by, as the command line starts it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use synddb_protocol::signing::VerifyingKey;

use super::keys::get;
use super::processes::{run, synddb};
use super::roles::Role;

/// The command with everything that a sequencer needs.
fn sequencer(folder: &Path, more: &[&str]) -> Command {
    let token = folder.join("token");
    std::fs::write(&token, "a-token-of-more-than-thirty-two-characters").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = synddb(["sequencer", "--listen", "127.0.0.1:0", "--stop-on-eof", "--json"]);
    command.args(["--store", &format!("file://{}", folder.join("store").display())]).args(more);
    command.arg("--dir").arg(folder.join("journals")).arg("--key-file").arg(folder.join("key"));
    command.arg("--credentials-file").arg(super::roles::credentials(folder));
    command
}

#[test]
fn a_sequencer_is_told_its_role_by_a_flag() {
    let folder = tempfile::tempdir().unwrap();
    for (flags, is_ready) in [(&[][..], true), (&["--lease"], true), (&["--standby"], false)] {
        let mut role = Role::start(sequencer(folder.path(), flags));
        let url = role.event("listening", |_| true)["url"].as_str().unwrap().to_owned();
        let answer = get(&format!("{url}/readyz"));
        assert_eq!(!answer.contains("standing by"), is_ready, "{flags:?}: {answer}");
        role.end();
    }
    let (exit, _, errors) = run(sequencer(folder.path(), &["--lease", "--standby"]));
    assert_eq!(exit, 2, "{errors}");
    let (exit, _, errors) = run(sequencer(folder.path(), &["--standby", "--url", "not a url"]));
    assert!(exit == 2 && errors.contains("write an http or https URL"), "{exit}: {errors}");
    assert!(errors.contains("--url"), "it names the argument: {errors}");
}

#[test]
fn a_standby_is_given_the_key_that_the_other_one_shows() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut one = Role::start(sequencer(folders[0].path(), &["--standby"]));
    let listening = one.event("listening", |_| true);
    let (key, key_id) = (listening["key"].as_str().unwrap(), listening["key_id"].as_str().unwrap());
    assert_eq!(key.parse::<VerifyingKey>().unwrap().id().to_string(), key_id);
    let keys = ["--standby", "--trusted-key", key, "--trusted-key", key];
    let mut two = Role::start(sequencer(folders[1].path(), &keys));
    two.event("listening", |_| true);
    for role in [&mut one, &mut two] {
        role.end();
    }
    let (exit, _, errors) = run(sequencer(folders[1].path(), &["--trusted-key", key_id]));
    assert!(exit == 2 && errors.contains("--trusted-key"), "{exit}: {errors}");
}
