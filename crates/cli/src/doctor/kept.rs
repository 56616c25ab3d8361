//! What belongs to following: who follows, what holds the place, what waits in the agent's folder, how much room is left.

use std::path::Path;

use synddb_agent::{AgentStatus, FolderState, Pending};
use synddb_protocol::chain;
use synddb_sqlite::inspect::{FileSystem, FileSystemKind, owner_seems_to_run, users_of};
use synddb_sqlite::name::beside;

use super::finding::{Code, Findings};
use super::processes::named;
use crate::arguments::DoctorArguments;
use crate::folder::Folder;
use crate::output::mib;
use crate::peer::Peer;
use crate::process;

pub(super) fn examine(path: &Path, folder: &Folder, arguments: &DoctorArguments, findings: &mut Findings) {
    let found = match synddb_agent::look(folder.path()) {
        Ok(found) => found,
        Err(error) => {
            findings.refuse(
                Code::Folder,
                chain(&error),
                "run this as the user that the agent runs as, or do what it says",
            );
            None
        }
    };
    let is_running = found.as_ref().is_some_and(|found| found.is_running);
    follower(path, folder, is_running, findings);
    pin(folder, findings);
    match &found {
        None => findings.ok(
            Code::Folder,
            format!("the agent's folder will be made. folder=`{}`", folder.path().display()),
        ),
        Some(found) => kept(folder, found, findings),
    }
    room(path, folder, arguments, findings);
}

/// Who follows the database, from this folder or another one.
fn follower(path: &Path, folder: &Folder, is_running: bool, findings: &mut Findings) {
    // Whoever follows holds the lock of the WAL.
    let is_followed = owner_seems_to_run(&beside(path, "-wal")).unwrap_or(false);
    let who = |file: &Path| {
        let mut users = users_of(file).users;
        // Applications have the WAL open as well.
        if users.iter().any(|user| user.is_ours) {
            users.retain(|user| user.is_ours);
        }
        let users: Vec<String> = users.iter().map(named).collect();
        if users.is_empty() { "a process that cannot be seen".to_owned() } else { users.join(", ") }
    };
    if is_running {
        let who = who(&folder.path().join("agent.lock"));
        findings.ok(Code::Agent, format!("an agent runs for this database: {who}"));
    } else if is_followed {
        findings.refuse(
            Code::Agent,
            format!(
                "another agent or mirror follows this database, not from this folder: {}",
                who(&beside(path, "-wal"))
            ),
            "stop that one first, or name its folder with --dir",
        );
    } else {
        findings.ok(Code::Agent, "nobody follows this database");
    }
}

/// Whether a process holds the agent's place in the WAL, also while no agent runs.
fn pin(folder: &Folder, findings: &mut Findings) {
    if let Some(pid) = synddb_agent::pin::running(folder.path()) {
        findings.ok(Code::Pin, format!("a process holds the agent's place in the WAL. pid=`{pid}`"));
    } else if folder.path().join("pin.sock").exists() {
        findings.warn(
            Code::Pin,
            "the process that held the agent's place in the WAL is gone",
            "start the agent again; it says whether it could go on exactly",
        );
    }
}

fn kept(folder: &Folder, found: &FolderState, findings: &mut Findings) {
    let at = folder.path().display();
    let stream = found.stream.map_or_else(|| "none yet".to_owned(), |stream| stream.to_string());
    if found.is_writable_by_others() {
        let seen = format!("others may write the agent's folder. folder=`{at}` mode=`{:o}`", found.mode);
        findings.refuse(Code::Folder, seen, "take that away with `chmod go-w`");
    } else {
        findings.ok(
            Code::Folder,
            format!("the agent's folder is its own. folder=`{at}` mode=`{:o}` stream=`{stream}`", found.mode),
        );
    }
    if let Ok(FileSystem { kind: FileSystemKind::Network | FileSystemKind::Memory, .. }) =
        FileSystem::of(folder.path())
    {
        findings.warn(
            Code::Folder,
            format!("the agent's folder is on no disk of this machine, so what waits there may be lost. folder=`{at}`"),
            "move it to a local disk, and name it with --dir",
        );
    }
    if found.is_running
        && let Some(status) = ask(folder)
    {
        let AgentStatus { pending, problem, .. } = status;
        findings.ok(Code::Outbox, waiting(&pending, found.incarnations.len()));
        if let Some(problem) = problem {
            findings.warn(Code::Agent, problem.detail, problem.fix);
        }
        return;
    }
    let told = found.incarnations.iter().try_fold(Pending::default(), |sum, incarnation| {
        let pending = incarnation.pending?;
        Some(Pending { submissions: sum.submissions + pending.submissions, bytes: sum.bytes + pending.bytes })
    });
    let bytes: u64 = found.incarnations.iter().map(|incarnation| incarnation.bytes).sum();
    let snapshots = found.incarnations.iter().filter(|incarnation| incarnation.snapshot_waits).count();
    let count = found.incarnations.len();
    let sizes = format!("its files have {}, snapshots that wait: {snapshots}", mib(bytes));
    match told {
        Some(pending) => findings.ok(Code::Outbox, format!("{}; {sizes}", waiting(&pending, count))),
        None => findings.ok(
            Code::Outbox,
            format!("how much waits cannot be told from outside; incarnations: {count}, {sizes}"),
        ),
    }
}

fn waiting(pending: &Pending, incarnations: usize) -> String {
    let Pending { submissions, bytes } = pending;
    format!("{submissions} submissions wait to be stored ({}), incarnations: {incarnations}", mib(*bytes))
}

/// What a running agent says of itself.
fn ask(folder: &Folder) -> Option<AgentStatus> {
    process::ask(async { Ok(Peer::agent(folder)?.status().await?) }).ok()
}

/// Whether there is room for a WAL and an outbox at their limits.
fn room(path: &Path, folder: &Folder, arguments: &DoctorArguments, findings: &mut Findings) {
    let above = |file: &Path| file.parent().map(Path::to_owned).unwrap_or_default();
    let beside_file = above(path);
    let of_folder = if folder.path().exists() { folder.path().to_owned() } else { above(folder.path()) };
    for (what, at, limit) in
        [("WAL", beside_file, arguments.wal.mib << 20), ("outbox", of_folder, arguments.outbox.mib << 20)]
    {
        let at = if at.as_os_str().is_empty() { Path::new(".").to_owned() } else { at };
        let Ok(room) = FileSystem::room(&at) else { continue };
        let seen = format!("{} are free for the {what}, whose limit is {}", mib(room), mib(limit));
        if room >= limit {
            findings.ok(Code::Room, seen);
        } else {
            findings.warn(
                Code::Room,
                seen,
                "give the disk more room, or lower --wal-limit or --outbox-limit",
            );
        }
    }
}
