//! What a test does whose program is missing: this binary, started again where none is.

use std::process::{Command, Output};

use synddb_servers::Platform;

/// Makes a child of this binary ask for a program.
const ROLE: &str = "SYNDDB_SERVERS_TEST_MISSING";

fn child(ci: Option<&str>) -> Output {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["missing::asks_for_a_program", "--exact"]).env(ROLE, "ask");
    child.env("SYNDDB_MINIO", "/nowhere/minio").env_remove("CI").envs(ci.map(|value| ("CI", value)));
    child.output().unwrap()
}

/// What the child does; in the parent, nothing.
#[test]
fn asks_for_a_program() {
    if std::env::var_os(ROLE).is_some() {
        assert!(!Platform::S3.is_here());
    }
}

#[test]
fn a_test_without_its_server_is_left_out_loudly() {
    for ci in [None, Some("false")] {
        let output = child(ci);
        // Not captured, although the test passes.
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        assert!(
            said.contains("!! LEFT OUT missing::asks_for_a_program: SYNDDB_MINIO names no file"),
            "{said}"
        );
    }
}

#[test]
fn a_test_without_its_server_fails_in_ci() {
    let output = child(Some("true"));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success());
    assert!(said.contains("nothing may be left out in CI: SYNDDB_MINIO names no file"), "{said}");
}
