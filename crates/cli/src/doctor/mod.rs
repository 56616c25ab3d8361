//! `synddb doctor`: whether a database can be followed, what may go wrong, and what to do about it.
//!
//! | file | looks at |
//! |---|---|
//! | `file.rs` | where the file lies, whose it is, its form, its locks, its WAL |
//! | `contents.rs` | the schema and, when asked, all rows |
//! | `processes.rs` | who has it open, and with which SQLite |
//! | `kept.rs` | the agent's folder: who runs there, what waits, how much room is left |
//!
//! What must stay true: nothing changes. No byte of the database and of the folder beside it is written, no file is made, no lock outlives
//! the command; an application and an agent go on meanwhile. What is called refused here, `follow` refuses in the same words; only for
//! somebody else's lock it waits, because from outside an exclusive mode looks like a long transaction.

mod contents;
mod file;
mod finding;
mod kept;
mod processes;

use std::io;
use std::path::{Path, PathBuf};

pub use finding::{Code, Count, Finding, Severity};
pub(crate) use processes::{named, risk};

use crate::arguments::DoctorArguments;
use crate::exit::{CommandError, Exit};
use crate::folder::Folder;
use crate::output::{Event, Output};
use crate::refusal::Refusal;
use finding::Findings;

pub(crate) fn run(arguments: &DoctorArguments, output: Output) -> Result<Exit, CommandError> {
    let database = &arguments.of.database;
    let folder = Folder::of(database, arguments.of.dir.as_deref());
    // Free of links, since what belongs to a database lies beside the file itself.
    let path = without_links(database)?;
    let mut findings = Findings::default();
    // The file's own bytes come before SQLite opens it: closing them would drop SQLite's locks.
    if let Some(mode) = file::examine(&path, arguments.wal.mib << 20, &mut findings) {
        contents::examine(&path, mode, arguments.full, &mut findings);
    }
    processes::examine(&path, &mut findings);
    kept::examine(&path, &folder, arguments, &mut findings);
    let count = findings.count();
    for finding in findings.all() {
        output.tell(&Event::Finding(finding))?;
    }
    output.tell(&Event::Examined(count))?;
    Ok(if count.refused > 0 { Exit::Refused } else { Exit::Done })
}

fn without_links(database: &Path) -> Result<PathBuf, CommandError> {
    match database.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Refusal::Missing { file: database.to_owned() }.into())
        }
        found => found.map_err(CommandError::system("find the database")),
    }
}
