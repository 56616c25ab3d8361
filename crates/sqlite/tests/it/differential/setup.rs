//! Grammar of database files and of connections to them.

#![allow(
    unsafe_code,
    reason = "reserved bytes are set by a file control, which rusqlite has no function for"
)]

use std::path::Path;

use synddb_protocol::submission::TextEncoding;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::rusqlite::{self, ffi};

use super::child::Remote;
use super::model::{Outcome, Writer};
use super::random::Random;
use super::values::Ground;

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// This process.
    Local,
    /// Another process, with the same SQLite.
    Child,
    /// Another process, with the SQLite of the system.
    System,
    /// Another process, with the SQLite that the package `apsw` brings.
    Apsw,
}

const KINDS: [(Kind, &str); 4] =
    [(Kind::Local, "local"), (Kind::Child, "child"), (Kind::System, "system"), (Kind::Apsw, "apsw")];

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(KINDS.iter().find(|(kind, _)| kind == self).unwrap().1)
    }
}

impl std::str::FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        KINDS.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind).ok_or(())
    }
}

/// What a database file is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) page_size: u32,
    pub(super) auto_vacuum: &'static str,
    pub(super) encoding: TextEncoding,
    pub(super) reserved: i32,
}

impl Settings {
    pub(super) fn choose(random: &mut Random) -> Self {
        let page_size = random.weighted(&[
            (4, 512),
            (4, 1024),
            (2, 2048),
            (5, 4096),
            (1, 8192),
            (1, 16_384),
            (1, 32_768),
            (2, 65_536),
        ]);
        // SQLite needs 480 usable bytes on a page.
        let reserved = if page_size == 512 { [0, 0, 8, 32] } else { [0, 0, 12, 64] };
        Self {
            page_size,
            auto_vacuum: random.weighted(&[(4, "NONE"), (3, "FULL"), (3, "INCREMENTAL")]),
            encoding: random.weighted(&[
                (6, TextEncoding::Utf8),
                (2, TextEncoding::Utf16Le),
                (1, TextEncoding::Utf16Be),
            ]),
            reserved: *random.pick(&reserved),
        }
    }

    pub(super) fn ground(&self, is_old: bool) -> Ground {
        let reserved = u64::try_from(self.reserved).unwrap();
        Ground { page_size: u64::from(self.page_size) - reserved, encoding: self.encoding, is_old }
    }

    /// Makes the file, without any table, in WAL mode.
    pub(super) fn create(&self, path: &Path) {
        let sqlite = rusqlite::Connection::open(path).unwrap();
        let encoding = match self.encoding {
            TextEncoding::Utf8 => "UTF-8",
            TextEncoding::Utf16Le => "UTF-16le",
            TextEncoding::Utf16Be => "UTF-16be",
        };
        sqlite.pragma_update(None, "page_size", self.page_size).unwrap();
        sqlite.pragma_update(None, "encoding", encoding).unwrap();
        sqlite.pragma_update(None, "auto_vacuum", self.auto_vacuum).unwrap();
        sqlite.execute_batch("CREATE TABLE first(a); DROP TABLE first").unwrap();
        let mut reserved = self.reserved;
        // SAFETY: the connection is open, the name ends with a NUL, and this control reads and writes one int.
        let code = unsafe {
            let argument = (&raw mut reserved).cast();
            ffi::sqlite3_file_control(
                sqlite.handle(),
                c"main".as_ptr(),
                ffi::SQLITE_FCNTL_RESERVE_BYTES,
                argument,
            )
        };
        assert_eq!(code, ffi::SQLITE_OK);
        // What the control asked for takes effect when the file is written anew.
        sqlite.execute_batch("VACUUM").unwrap();
        let mode: String =
            sqlite.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        sqlite.close().unwrap();
        let header = std::fs::read(path).unwrap();
        assert_eq!(i32::from(header[20]), self.reserved, "the file has other reserved bytes");
    }
}

/// Statements that set one connection up, by chance.
pub(super) fn connection_settings(random: &mut Random) -> Vec<String> {
    let mut settings = vec![
        format!("PRAGMA synchronous = {}", random.pick(&["OFF", "NORMAL"])),
        format!("PRAGMA secure_delete = {}", random.pick(&["ON", "OFF", "FAST"])),
        format!("PRAGMA cache_size = {}", random.pick(&["10", "25", "2000", "-2000"])),
        format!("PRAGMA recursive_triggers = {}", random.pick(&["ON", "ON", "OFF"])),
        format!("PRAGMA foreign_keys = {}", random.pick(&["ON", "ON", "OFF"])),
        format!("PRAGMA wal_autocheckpoint = {}", random.pick(&["1000", "30", "0"])),
    ];
    if random.percent(30) {
        settings.push("PRAGMA temp_store = MEMORY".to_owned());
    }
    settings
}

/// A connection of this kind.
pub(super) fn open(kind: Kind, path: &Path, settings: &[String]) -> Box<dyn Writer> {
    match kind {
        Kind::Local => Box::new(Local::open(path, settings)),
        Kind::Child | Kind::System | Kind::Apsw => Box::new(Remote::start(kind, path, settings)),
    }
}

/// A connection in this process.
pub(super) struct Local {
    pub(super) connection: Connection,
}

impl Local {
    pub(super) fn open(path: &Path, settings: &[String]) -> Self {
        let mut local = Self { connection: Connection::open(path).unwrap() };
        // Who holds a lock waits for its own turn, so waiting for it is in vain.
        local.connection.set_patience(std::time::Duration::ZERO).unwrap();
        for setting in settings {
            let outcome = local.run(setting);
            assert_eq!(outcome.error, None, "{setting}");
        }
        local
    }

    /// Writes into the first blob or text that is long enough, in place.
    pub(super) fn write_blob(&self, table: &str, column: &str, bytes: &[u8]) -> Outcome {
        let result = self.try_write_blob(table, column, bytes);
        self.outcome(result.err())
    }

    fn try_write_blob(&self, table: &str, column: &str, bytes: &[u8]) -> Result<(), String> {
        use synddb_sqlite::connection::quoted;
        let sqlite = self.connection.sqlite();
        let sql = format!(
            "SELECT rowid, length({0}) FROM {1} WHERE typeof({0}) = 'blob' ORDER BY length({0}) DESC LIMIT 1",
            quoted(column),
            quoted(table)
        );
        let found = sqlite.query_row(&sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
        let (rowid, length) = match found {
            Err(rusqlite::Error::QueryReturnedNoRows) => return Ok(()),
            found => found.map_err(|error| error.to_string())?,
        };
        let blob = sqlite.blob_open("main", table, column, rowid, false);
        let mut blob = blob.map_err(|error| error.to_string())?;
        let length = usize::try_from(length).unwrap();
        let bytes = &bytes[..bytes.len().min(length)];
        let offset = (length - bytes.len()) / 2;
        blob.write_at(bytes, offset).map_err(|error| error.to_string())?;
        blob.close().map_err(|error| error.to_string())
    }

    fn outcome(&self, error: Option<String>) -> Outcome {
        Outcome { error, in_transaction: !self.connection.sqlite().is_autocommit() }
    }
}

impl Writer for Local {
    fn run(&mut self, sql: &str) -> Outcome {
        // Stepped to its end: `PRAGMA incremental_vacuum` works step by step.
        let result = self.connection.prepare(sql).and_then(|mut statement| {
            statement.query::<synddb_sqlite::connection::SqliteError>(&[], |_| Ok(()))
        });
        self.outcome(result.err().map(|error| error.message().to_owned()))
    }

    fn local(&self) -> Option<&Local> {
        Some(self)
    }

    fn query(&mut self, sql: &str) -> Vec<Vec<String>> {
        let mut statement = self.connection.sqlite().prepare(sql).unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            (0..columns)
                .map(|column| {
                    Ok(match row.get_ref(column)? {
                        rusqlite::types::ValueRef::Null => String::new(),
                        rusqlite::types::ValueRef::Integer(value) => value.to_string(),
                        rusqlite::types::ValueRef::Real(value) => value.to_string(),
                        rusqlite::types::ValueRef::Text(bytes) | rusqlite::types::ValueRef::Blob(bytes) => {
                            String::from_utf8_lossy(bytes).into_owned()
                        }
                    })
                })
                .collect()
        });
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }
}
