//! The journal's file.
//!
//! ```text
//! lead      one row: stream, the epoch written under, what is stored with its checkpoint, where the index begins
//! messages  one row for each message of the index: receipt, and what of the client it holds
//! bodies    the bodies of the messages that are not stored yet
//! cut       at most one row: the exact bytes of the batch that is being stored
//! ```
//!
//! WAL with `synchronous=FULL`: a commit that returned survives a power cut, for one fsync. `locking_mode=EXCLUSIVE` holds the file's
//! lock from the first read to the last close, so a second process is refused by the kernel, and a killed owner leaves no lock.

use std::fs::{self, DirBuilder, File as Folder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use synddb_protocol::id::StreamId;
use synddb_sqlite::connection::SqliteError;
use synddb_sqlite::rusqlite::{self, OpenFlags, Params, ffi, params};

use super::JournalError;

/// `PRAGMA application_id` of a journal: "SJnl".
const APPLICATION: i64 = 0x534a_6e6c;

/// `PRAGMA user_version`: the form of the tables.
const FORM: i64 = 1;

/// What applications write is nobody else's.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// The name of the file in its stream's folder.
pub(crate) const FILE: &str = "journal.db";

const TABLES: &str = "
    CREATE TABLE lead (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        stream BLOB NOT NULL,
        epoch INTEGER,
        stored INTEGER,
        checkpoint BLOB,
        indexed_from INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE messages (
        sequence INTEGER PRIMARY KEY,
        receipt BLOB NOT NULL,
        counter INTEGER,
        nonce BLOB,
        kind INTEGER,
        first_commit INTEGER,
        last_commit INTEGER,
        part INTEGER,
        digest BLOB
    ) STRICT;
    CREATE INDEX messages_by_commit ON messages (counter, nonce, last_commit);
    CREATE TABLE bodies (sequence INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
    CREATE TABLE cut (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        bytes BLOB NOT NULL
    ) STRICT;
";

pub(super) struct File {
    sqlite: rusqlite::Connection,
    path: PathBuf,
}

impl File {
    /// Opens the journal in `folder`, and makes it, durably, when there is none.
    pub(super) fn open(folder: &Path, stream: StreamId) -> Result<Self, JournalError> {
        make_folder(folder)?;
        let path = folder.join(FILE);
        make_private(&path)?;
        let file = Self::open_owned(path)?;
        // A database without content is what a crash while making it leaves. Only its owner is here.
        if file.integer("SELECT count(*) FROM sqlite_schema")? == 0
            && file.integer("PRAGMA application_id")? == 0
        {
            file.make(stream)?;
            sync(folder)?;
        }
        if file.integer("PRAGMA application_id")? != APPLICATION {
            return Err(JournalError::Foreign { file: file.path });
        }
        match file.integer("PRAGMA user_version")? {
            FORM => Ok(file),
            ..FORM => Err(file.damaged("its form")),
            found => Err(JournalError::Newer { supported: FORM, found, file: file.path }),
        }
    }

    fn make(&self, stream: StreamId) -> Result<(), JournalError> {
        self.run("BEGIN IMMEDIATE")?;
        self.run(TABLES)?;
        self.execute("INSERT INTO lead VALUES (1, ?, NULL, NULL, NULL, 1)", params![stream.as_bytes()])?;
        self.run(&format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORM}; COMMIT"))
    }

    fn open_owned(path: PathBuf) -> Result<Self, JournalError> {
        let flags = OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || -> Result<rusqlite::Connection, SqliteError> {
            let sqlite = rusqlite::Connection::open_with_flags(&path, flags)?;
            sqlite.busy_timeout(std::time::Duration::ZERO)?;
            sqlite.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            // The first access to the file: here the lock is taken.
            sqlite.pragma_update(None, "journal_mode", "WAL")?;
            sqlite.pragma_update(None, "synchronous", "FULL")?;
            sqlite.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            Ok(sqlite)
        };
        match open() {
            Ok(sqlite) => Ok(Self { sqlite, path }),
            Err(error) => Err(match error.primary() {
                ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => JournalError::Owned { file: path },
                ffi::SQLITE_NOTADB => JournalError::Foreign { file: path },
                _ => JournalError::Sqlite(error),
            }),
        }
    }

    /// The connection, to read with. What it cannot read is for [`Self::refused`].
    pub(super) const fn sqlite(&self) -> &rusqlite::Connection {
        &self.sqlite
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A journal that is nowhere but in memory.
    #[cfg(test)]
    pub(super) fn in_memory(stream: StreamId) -> Result<Self, JournalError> {
        let sqlite = rusqlite::Connection::open_in_memory();
        let sqlite = sqlite.map_err(|error| JournalError::Sqlite(error.into()))?;
        let file = Self { sqlite, path: PathBuf::new() };
        // So small that a few messages fill one.
        file.run("PRAGMA page_size = 512")?;
        file.make(stream)?;
        Ok(file)
    }

    /// Whether a transaction is open.
    pub(super) fn is_in_transaction(&self) -> bool {
        !self.sqlite.is_autocommit()
    }

    pub(super) fn run(&self, sql: &str) -> Result<(), JournalError> {
        self.sqlite.execute_batch(sql).map_err(|error| self.refused(error))
    }

    pub(super) fn execute(&self, sql: &str, values: impl Params) -> Result<(), JournalError> {
        let run = || self.sqlite.prepare_cached(sql)?.execute(values);
        run().map(|_| ()).map_err(|error| self.refused(error))
    }

    pub(super) fn integer(&self, sql: &str) -> Result<i64, JournalError> {
        self.sqlite.query_row(sql, [], |row| row.get(0)).map_err(|error| self.refused(error))
    }

    pub(super) fn damaged(&self, what: &'static str) -> JournalError {
        JournalError::Damaged { what, file: self.path.clone() }
    }

    /// Sorts what SQLite refused by what its owner does about it.
    pub(super) fn refused(&self, error: rusqlite::Error) -> JournalError {
        match SqliteError::from(error) {
            error if error.primary() == ffi::SQLITE_FULL => JournalError::Full,
            error if matches!(error.primary(), ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB) => {
                self.damaged("pages")
            }
            error => JournalError::Sqlite(error),
        }
    }

    /// Writes a durable copy of the whole journal beside it, under a name that is free.
    pub(super) fn copy_beside(&self, name: &str) -> Result<PathBuf, JournalError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let failed = |source| JournalError::Folder { folder: folder.to_owned(), source };
        let names = (1..).map(|number| match number {
            1 => format!("{name}.fenced"),
            number => format!("{name}-{number}.fenced"),
        });
        let mut free = names.map(|name| folder.join(name)).filter(|path| !path.exists());
        let copy = free.next().expect("numbers do not end");
        make_private(&copy)?;
        let copied = self.execute("VACUUM INTO ?", params![copy.to_string_lossy()]);
        if copied.is_err() {
            // Half a copy tells nobody anything, and takes room on a disk that may have none.
            fs::remove_file(&copy).ok();
        }
        copied?;
        Folder::open(&copy).and_then(|file| file.sync_all()).map_err(failed)?;
        sync(folder)?;
        Ok(copy)
    }
}

/// Makes a file that only its owner may read, or makes one so that is there. SQLite gives its mode to those that it puts beside it.
pub(crate) fn make_private(path: &Path) -> Result<(), JournalError> {
    let make = || -> io::Result<()> {
        match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
            // Never opened here: closing it would release the locks of a connection of this process.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(drop),
        }
        if fs::metadata(path)?.permissions().mode() & 0o777 != FILE_MODE {
            fs::set_permissions(path, Permissions::from_mode(FILE_MODE))?;
        }
        Ok(())
    };
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    make().map_err(|source| JournalError::Folder { folder, source })
}

/// Makes a folder and those above it that are missing, for their owner alone, each durable in the one above. Of one that is there that is
/// made sure as well: who made it may have died before.
pub(crate) fn make_folder(folder: &Path) -> Result<(), JournalError> {
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
    if folder.is_dir() {
        return match Folder::open(above.unwrap_or(Path::new("."))).and_then(|above| above.sync_all()) {
            // Who may not read the folder above did not make this one.
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                Err(JournalError::Folder { folder: folder.to_owned(), source: error })
            }
            Ok(()) | Err(_) => Ok(()),
        };
    }
    if let Some(above) = above {
        make_folder(above)?;
    }
    match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(|source| JournalError::Folder { folder: folder.to_owned(), source })?,
    }
    sync(above.unwrap_or(Path::new(".")))
}

fn sync(folder: &Path) -> Result<(), JournalError> {
    Folder::open(folder)
        .and_then(|handle| handle.sync_all())
        .map_err(|source| JournalError::Folder { folder: folder.to_owned(), source })
}
