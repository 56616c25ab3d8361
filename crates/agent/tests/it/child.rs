//! Real processes: this test binary, started again with a role.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use synddb_agent::outbox::{Options, Outbox, OutboxError};
use synddb_agent::pin::PinProgram;

use super::{bounds, file, killed, pinned, resuming};

/// Names the role of a child. Without it, this binary is the parent.
const ROLE: &str = "SYNDDB_AGENT_TEST_ROLE";

/// The folder of the outbox that a child opens.
const FOLDER: &str = "SYNDDB_AGENT_TEST_FOLDER";

/// The URL of the sequencer that a child talks to.
const URL: &str = "SYNDDB_AGENT_TEST_URL";

/// What a child can be told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Keeps one poll after the other until it is killed.
    Keep,
    /// Meets a disk that is full.
    Full,
    /// Finds that another process owns the outbox.
    FindOwned,
    /// Finds that none does.
    FindFree,
    /// Follows a database until it is killed.
    Follow,
    /// The same, with a pin.
    FollowPinned,
    /// The same, with a pin that lets go soon.
    FollowPinnedBriefly,
    /// Holds the place of an agent.
    Pin,
    /// The same, until the WAL has become larger than a few frames.
    PinBriefly,
}

impl Role {
    const ALL: [Self; 9] = [
        Self::Keep,
        Self::Full,
        Self::FindOwned,
        Self::FindFree,
        Self::Follow,
        Self::FollowPinned,
        Self::FollowPinnedBriefly,
        Self::Pin,
        Self::PinBriefly,
    ];
}

/// Starts a child whose standard output the parent holds.
pub(crate) fn spawn(role: Role, folder: &Path) -> Child {
    spawn_with(Command::new(std::env::current_exe().unwrap()), role, folder)
}

/// Starts a child that may write no file larger than this many blocks of 512 bytes, so that a write fails half-way as it does on a full
/// disk.
pub(crate) fn spawn_limited(role: Role, folder: &Path, blocks: u32) -> Child {
    let limited = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &limited]).arg(std::env::current_exe().unwrap());
    spawn_with(shell, role, folder)
}

/// Starts a child that has a sequencer, and whose standard input the parent holds as well.
pub(crate) fn spawn_asking(role: Role, folder: &Path, url: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    told(&mut command, role, folder).env(URL, url).stdin(Stdio::piped()).spawn().unwrap()
}

/// This binary as the pin of an agent.
pub(crate) fn pin(role: Role, folder: &Path) -> PinProgram {
    let mut set = OsString::from(format!("{FOLDER}="));
    set.push(folder);
    let role = format!("{ROLE}={role:?}").into();
    let this = std::env::current_exe().unwrap().into_os_string();
    PinProgram {
        program: "env".into(),
        arguments: [role, set, this].into_iter().chain(ARGUMENTS.map(Into::into)).collect(),
    }
}

/// What has this binary play its role.
const ARGUMENTS: [&str; 4] = ["child::plays_its_role", "--exact", "--nocapture", "--test-threads=1"];

fn spawn_with(mut command: Command, role: Role, folder: &Path) -> Child {
    told(&mut command, role, folder).stdin(Stdio::null()).spawn().unwrap()
}

/// Tells a child what to do.
fn told<'c>(command: &'c mut Command, role: Role, folder: &Path) -> &'c mut Command {
    command.args(ARGUMENTS).env(ROLE, format!("{role:?}")).env(FOLDER, folder).stdout(Stdio::piped())
}

/// Waits for a child, and makes sure that it did what it was started for.
pub(crate) fn finish(child: Child) {
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("role played"), "the child did nothing: {told}");
}

/// What a child does; in the parent, nothing.
#[test]
fn plays_its_role() {
    let Ok(name) = std::env::var(ROLE) else { return };
    let role = Role::ALL.into_iter().find(|role| format!("{role:?}") == name).unwrap();
    let folder = std::env::var_os(FOLDER).unwrap();
    let folder = Path::new(&folder);
    match role {
        Role::Keep => killed::keep_until_killed(folder),
        Role::Full => bounds::meet_full_disk(folder),
        Role::FindOwned => {
            for opened in [
                Outbox::open(&file(folder), Options::default()),
                Outbox::create(&file(folder), &super::beginning(), Options::default()),
            ] {
                assert!(matches!(opened, Err(OutboxError::Owned { .. })));
            }
        }
        Role::FindFree => drop(super::open(folder)),
        Role::Follow => {
            resuming::follow_until_killed(super::agent::config(folder, &std::env::var(URL).unwrap()));
        }
        Role::FollowPinned => pinned::follow_until_killed(folder, &std::env::var(URL).unwrap(), Role::Pin),
        Role::FollowPinnedBriefly => {
            pinned::follow_until_killed(folder, &std::env::var(URL).unwrap(), Role::PinBriefly);
        }
        Role::Pin => pinned::hold(folder, 1 << 30),
        Role::PinBriefly => pinned::hold(folder, 200_000),
    }
    println!("\nrole played");
}
