//! Children, started for real.

use std::path::Path;

use anyhow::Result;
use xtask::process;

#[test]
fn stream_shows_every_line_and_the_unfinished_one() -> Result<()> {
    let (mut lines, mut through) = (Vec::new(), Vec::new());
    let mut child = process::command("sh", Path::new("/"));
    child.args(["-c", r"printf 'one\ntwo\r\nlast'; exit 3"]);
    let status = process::stream_to(&mut child, &mut through, |line| lines.push(line.to_owned()))?;
    assert_eq!(lines, ["one", "two", "last"]);
    assert_eq!(through, b"one\ntwo\r\nlast");
    assert_eq!(status.code(), Some(3));
    Ok(())
}

#[test]
fn run_names_the_command_that_failed() {
    let mut child = process::command("/bin/sh", Path::new("/"));
    let error = process::run(child.args(["-c", "exit 3"])).map_err(|error| error.to_string());
    assert!(error.is_err_and(|text| text.contains("`sh -c exit 3`")));
}

#[test]
fn stdin_is_closed() -> Result<()> {
    assert_eq!(process::read(&mut process::command("cat", Path::new("/")))?, "");
    Ok(())
}
