//! What commands refuse, what they say then, and how they end.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use super::processes::{Mirror, diff, run, synddb};
use super::programs::sql;

/// Runs the command with arguments inside a folder, and makes sure that it refuses with words that name the fix.
fn refused(folder: &std::path::Path, arguments: &[&str], fix: &str) {
    let mut command = synddb(arguments.iter().copied());
    command.current_dir(folder);
    let (exit, told, errors) = run(command);
    assert_eq!(exit, 2, "{arguments:?}: {told}{errors}");
    assert!(errors.contains(fix), "{arguments:?}: {errors}");
    assert_eq!(told, "");
}

#[test]
fn what_cannot_work_is_refused_with_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    sql(&folder.join("app.db"), "CREATE TABLE t (a);");
    sql(&folder.join("full.db"), "CREATE TABLE t (a);");
    fs::write(folder.join("notes.txt"), "not a database at all ".repeat(100)).unwrap();
    fs::hard_link(folder.join("app.db"), folder.join("hard.db")).unwrap();
    symlink("app.db", folder.join("soft.db")).unwrap();
    for same in ["app.db", "./app.db", "hard.db", "soft.db"] {
        refused(folder, &["diff", "app.db", same], "name two");
        refused(folder, &["mirror", "app.db", same, "--replace"], "name two");
    }
    for command in ["diff", "mirror"] {
        refused(folder, &[command, "missing.db", "full.db"], "check the path");
        refused(folder, &[command, "notes.txt", "new.db"], "no database");
        refused(folder, &[command, ".", "new.db"], "no database");
        refused(folder, &[command, "app.db"], "Usage");
    }
    refused(folder, &["diff", "app.db", "missing.db"], "check the path");
    refused(folder, &["diff", "app.db", "http://127.0.0.1:1"], "for a URL use --remote");
    refused(folder, &["diff", "--remote", "app.db", "127.0.0.1:1"], "write a URL as http://");
    refused(folder, &["inspect"], "--store");
    for more in [&[][..], &["--replace"]] {
        refused(folder, &[&["mirror", "app.db", "full.db"], more].concat(), "not made by a mirror");
    }
    refused(folder, &["mirror", "app.db", "no/folder/copy.db"], "make it");
    refused(folder, &["mend"], "Usage");
    let left = fs::read_dir(folder).unwrap().count();
    assert_eq!(left, 5, "a refused command left something");
    assert_eq!(sql(&folder.join("app.db"), "PRAGMA journal_mode;").trim(), "delete");
}

#[test]
fn sequencers_that_cannot_be_asked_are_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    sql(&folder.join("app.db"), "CREATE TABLE t (a);");
    fs::write(folder.join("token"), super::roles::TOKEN).unwrap();
    fs::set_permissions(folder.join("token"), fs::Permissions::from_mode(0o600)).unwrap();
    let follow = ["follow", "app.db", "--token-file", "token", "--sequencer"];
    for (named, fix) in [
        ("ftp://x", "must begin with http:// or https://"),
        ("http://127.0.0.1:1,ftp://x", "must begin with http:// or https://"),
        ("http://127.0.0.1:1,http://127.0.0.1:1/", "name each sequencer once"),
    ] {
        let mut command = synddb(follow.into_iter().chain([named]));
        command.current_dir(folder);
        let (exit, told, errors) = run(command);
        assert_eq!((exit, told.as_str()), (2, ""), "{named}: {errors}");
        assert!(errors.contains(fix) && !errors.contains("attaching"), "{named}: {errors}");
    }
    let mut left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["app.db", "token"], "a refused command left something");
    assert_eq!(sql(&folder.join("app.db"), "PRAGMA journal_mode;").trim(), "delete");
}

#[test]
fn a_second_mirror_to_one_target_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    sql(&folder.path().join("app.db"), "CREATE TABLE t (a);");
    let mirror = Mirror::start(folder.path());
    refused(folder.path(), &["mirror", "app.db", "copy.db", "--replace"], "stop that one");
    sql(&mirror.source, "INSERT INTO t VALUES (1);");
    mirror.stop();
}

#[test]
fn an_earlier_mirror_is_replaced_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("app.db"), folder.path().join("copy.db"));
    sql(&source, "CREATE TABLE t (a);");
    Mirror::start(folder.path()).stop();
    let again = || {
        let mut again = synddb(["mirror", "app.db", "copy.db", "--replace", "--stop-on-eof", "--json"]);
        again.current_dir(folder.path());
        let (exit, told, errors) = run(again);
        assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
        assert_eq!(diff(&source, &target).0, 0);
    };
    sql(&source, "INSERT INTO t VALUES (1);");
    assert_eq!(diff(&source, &target).0, 1);
    again();
    // Dropped without being asked to end, a mirror is killed.
    fs::remove_file(&target).unwrap();
    drop(Mirror::start_replacing(folder.path()));
    fs::remove_file(&target).unwrap();
    refused(folder.path(), &["mirror", "app.db", "copy.db"], "--replace");
    again();
}

#[test]
fn a_signal_ends_a_mirror_after_everything_committed_is_applied() {
    for signal in ["-INT", "-TERM"] {
        let folder = tempfile::tempdir().unwrap();
        sql(&folder.path().join("app.db"), "CREATE TABLE t (a);");
        let mut mirror = Mirror::start(folder.path());
        sql(&mirror.source, "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2);");
        // The shell's own `kill`: the program of that name is not on every machine.
        let kill = format!("kill {signal} {}", mirror.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(sent.success());
        assert_eq!(mirror.stopped()["commits"], 2);
        assert_eq!(diff(&mirror.source, &mirror.target).0, 0);
    }
}

#[test]
fn help_and_version_are_no_failures() {
    let nested = [&["validator", "resync", "--help"][..], &["bench", "capture", "--help"]];
    for arguments in [&["--help"][..], &["mirror", "--help"], &["diff", "--help"], &["--version"]]
        .into_iter()
        .chain(nested)
    {
        let (exit, told, errors) = run(synddb(arguments.iter().copied()));
        assert_eq!((exit, errors.as_str()), (0, ""));
        assert!(told.contains("Exit codes") || told.starts_with("synddb "), "{told}");
    }
}
