//! What is found without SQLite: where the file lies, whose it is, what its first bytes say, who keeps it locked, how large its WAL is.

use std::fs;
use std::io;
use std::path::Path;

use synddb_protocol::submission::TextEncoding;
use synddb_sqlite::inspect::{
    self, FileSystem, FileSystemKind, Form, Head, JournalMode, Locked, Locker, Unfit, check_place,
};
use synddb_sqlite::name::beside;

use super::finding::{Code, Findings};
use super::processes::name_of;
use crate::output::mib;

/// Looks at the file, and says how it is to be read; `None` where it cannot be.
pub(super) fn examine(path: &Path, wal_bytes_max: u64, findings: &mut Findings) -> Option<JournalMode> {
    place(path, findings);
    access(path, findings);
    let head = match Head::read(path) {
        Ok(head) => head,
        Err(error) => {
            unreadable(path, &error, findings);
            return None;
        }
    };
    let mode = match head {
        Head::Empty => {
            findings.ok(Code::Form, "nothing was written to the database yet; it becomes one in WAL mode");
            JournalMode::Rollback
        }
        Head::Database(form) => {
            tell_form(&form, findings);
            form.journal_mode
        }
        Head::Damaged(damaged) => {
            let fix = "run `PRAGMA integrity_check`, and restore it from a backup";
            findings.refuse(Code::Form, damaged.to_string(), fix);
            return None;
        }
        Head::Unfit(unfit) => {
            findings.refuse_unfit(Code::Form, &unfit);
            return None;
        }
    };
    wal(path, wal_bytes_max, findings);
    if lock(path, findings) { Some(mode) } else { None }
}

fn place(path: &Path, findings: &mut Findings) {
    let found = match FileSystem::of(path) {
        Ok(found) => found,
        Err(error) => {
            let seen = format!("the file system cannot be asked for: {error}");
            return findings.warn(Code::FileSystem, seen, "make sure that it is on a local disk");
        }
    };
    if let Err(unfit) = check_place(path) {
        return findings.refuse_unfit(Code::FileSystem, &unfit);
    }
    let seen = |what: &str| format!("{what} file_system=`{found}`");
    match found.kind {
        FileSystemKind::Memory => findings.warn(
            Code::FileSystem,
            seen("the database lies in memory, so nothing of it survives a power cut."),
            "move it to a disk, unless it may be lost",
        ),
        FileSystemKind::Overlay => findings.warn(
            Code::FileSystem,
            seen("the database lies in a layer of a container, which goes with the container."),
            "put it on a volume that the application and the agent share",
        ),
        FileSystemKind::Process => findings.warn(
            Code::FileSystem,
            seen("a process stands behind the file system, which may lead to a network."),
            "make sure that all who open the database do so on this machine, or move it to a local disk",
        ),
        FileSystemKind::Local | FileSystemKind::Network => {
            findings.ok(Code::FileSystem, seen("the database lies on a local disk."));
        }
    }
}

fn access(path: &Path, findings: &mut Findings) {
    let found = match inspect::access(path) {
        Ok(found) => found,
        Err(error) => return unreadable(path, &error, findings),
    };
    match found.check() {
        Err(unfit) => findings.refuse_unfit(Code::Access, &unfit),
        Ok(()) => findings.ok(Code::Access, "this user may write the database and its folder"),
    }
    if found.is_owners() {
        return findings.ok(
            Code::Owner,
            format!("what is made beside the database is its owner's. user=`{}`", found.owner),
        );
    }
    findings.warn(
        Code::Owner,
        format!(
            "the database is another user's, who may be kept from the files that are made beside it. owner=`{}` user=`{}`",
            found.owner, found.user
        ),
        "run the agent as the user that the application runs as",
    );
}

fn unreadable(path: &Path, error: &io::Error, findings: &mut Findings) {
    if path.is_file() {
        let seen = format!("this user may not read the database: {error}");
        findings.refuse(Code::Access, seen, "make the file readable for it, or run as its owner");
    } else {
        findings.refuse_unfit(Code::Form, &Unfit::NotADatabase { path: path.to_owned() });
    }
}

fn tell_form(form: &Form, findings: &mut Findings) {
    findings.ok(
        Code::JournalMode,
        match form.journal_mode {
            JournalMode::Wal => "the database is in WAL mode",
            JournalMode::Rollback => {
                "the database has a rollback journal; following switches it to WAL, which persists until \
                 `PRAGMA journal_mode=DELETE`"
            }
        },
    );
    let header = &form.header;
    findings.ok(Code::PageSize, format!("the size of a page is {} bytes", header.page_size.get()));
    if header.reserved > 0 {
        findings.ok(
            Code::ReservedBytes,
            format!(
                "an extension keeps bytes of each page for itself, and what it writes there is not replicated. reserved=`{}`",
                header.reserved
            ),
        );
    }
    let encoding = match header.encoding {
        TextEncoding::Utf8 => "UTF-8",
        TextEncoding::Utf16Le => "UTF-16le",
        TextEncoding::Utf16Be => "UTF-16be",
    };
    findings.ok(Code::Encoding, format!("text is stored as {encoding}"));
}

fn wal(path: &Path, bytes_max: u64, findings: &mut Findings) {
    let bytes = fs::metadata(beside(path, "-wal")).map_or(0, |wal| wal.len());
    let seen = format!("the WAL has {}, of a limit of {}", mib(bytes), mib(bytes_max));
    if bytes <= bytes_max {
        return findings.ok(Code::WalSize, seen);
    }
    findings.warn(
        Code::WalSize,
        seen,
        "end read transactions that stay open for long; then `PRAGMA wal_checkpoint(TRUNCATE)` makes it short again",
    );
}

/// Says whether the database can be read.
fn lock(path: &Path, findings: &mut Findings) -> bool {
    let locker = match inspect::locked(path) {
        Ok(None) => {
            findings.ok(Code::Lock, "nobody keeps others out of the database");
            return true;
        }
        Ok(Some(locker)) => locker,
        Err(error) => {
            let seen = format!("the locks of the database cannot be asked for: {error}");
            findings.warn(Code::Lock, seen, "make sure that nobody opens it with locking_mode=EXCLUSIVE");
            return true;
        }
    };
    let Locker { pid, lock } = locker;
    let who = pid.map_or_else(|| "a process that cannot be named".to_owned(), name_of);
    match lock {
        Locked::Exclusive => findings.refuse(
            Code::Lock,
            format!("{who} keeps the database locked: by locking_mode=EXCLUSIVE, or by a long transaction"),
            "end its transaction, or have it open the database with locking_mode=NORMAL; following waits until then",
        ),
        Locked::Pending => findings.refuse(
            Code::Lock,
            format!("{who} waits to write, and keeps new readers out, while another one reads"),
            "end the long read transaction; following waits until then",
        ),
    }
    false
}
