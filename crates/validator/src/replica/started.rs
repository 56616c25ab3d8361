//! Which snapshot a replica began with, in the same file: one row, until somebody has checked the log before it in full.
//!
//! The table's name keeps it outside of the state hash and of every comparison with the application's database. A replica that was replayed
//! from its beginning has no such table, and one whose beginning was checked later has it empty.

use std::path::Path;
use std::time::Duration;

use synddb_protocol::http::StartedFrom;
use synddb_protocol::id::{Address, KeyId};
use synddb_protocol::log::SignedCheckpoint;
use synddb_sqlite::connection::{Connection, SqliteError, has_table};
use synddb_sqlite::rusqlite::types::Type;
use synddb_sqlite::rusqlite::{self, OptionalExtension as _, params};

use crate::rules::{self, Found, Rulebook};

/// How long whoever checked a log waits for a replica's own writer, to say so.
const TELLING: Duration = Duration::from_secs(120);

/// What came of telling a replica that the log before its beginning was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Checked,
    /// It has begun anew meanwhile, or was told already.
    BegunOtherwise,
    /// Other rules look at it than looked at that log.
    OtherRules {
        /// One of them.
        rule: String,
    },
}

/// A snapshot that a replica began with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Started {
    /// Who took it.
    pub(crate) signer: KeyId,
    /// The checkpoint at which it was taken.
    pub(crate) checkpoint: SignedCheckpoint,
}

impl Started {
    /// What the file says; `None` where nothing is left to be checked. A row that nobody could have written is an error: it must not pass for none.
    pub(crate) fn read(sqlite: &rusqlite::Connection) -> rusqlite::Result<Option<Self>> {
        if !has_table(sqlite, "_synddb_started")? {
            return Ok(None);
        }
        let sql = "SELECT signer, checkpoint FROM main._synddb_started";
        let read = sqlite.query_row(sql, [], |row| {
            let (signer, checkpoint): ([u8; 20], Vec<u8>) = (row.get(0)?, row.get(1)?);
            let checkpoint = SignedCheckpoint::from_bytes(&checkpoint)
                .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, Type::Blob, Box::new(error)))?;
            Ok(Self { signer: Address::from_bytes(signer), checkpoint })
        });
        read.optional()
    }

    /// Writes it down in a file that becomes a replica.
    pub(crate) fn write(&self, sqlite: &rusqlite::Connection) -> rusqlite::Result<()> {
        sqlite.execute_batch(
            "CREATE TABLE IF NOT EXISTS main._synddb_started(
                 one INTEGER PRIMARY KEY CHECK (one = 1),
                 signer BLOB NOT NULL,
                 checkpoint BLOB NOT NULL
             )",
        )?;
        let sql = "INSERT OR REPLACE INTO main._synddb_started(one, signer, checkpoint) VALUES(1, ?1, ?2)";
        sqlite.execute(sql, params![self.signer.as_bytes(), self.checkpoint.to_bytes()]).map(drop)
    }

    /// Takes it back out of a replica, also of one that is kept by a running process: what came before was checked, and rules found this in it. Whoever has begun
    /// otherwise meanwhile keeps what that says, and so does one at which other rules look by now than `rulebook` has, where there is one.
    pub(crate) fn checked(
        &self,
        replica: &Path,
        rulebook: Option<&Rulebook>,
        found: &Found,
    ) -> Result<Told, SqliteError> {
        let connection = Connection::open(replica)?;
        connection.sqlite().busy_timeout(TELLING)?;
        connection.execute("PRAGMA synchronous = FULL; BEGIN IMMEDIATE")?;
        // What is not committed goes with the connection.
        let sqlite = connection.sqlite();
        let lacks = match rulebook {
            Some(rulebook) => rules::lacking(rulebook, sqlite)?,
            None => rules::is_judged(sqlite)?.then(|| "any".to_owned()),
        };
        if let Some(rule) = lacks {
            return Ok(Told::OtherRules { rule });
        }
        let sql = "DELETE FROM main._synddb_started WHERE checkpoint = ?1";
        if sqlite.execute(sql, params![self.checkpoint.to_bytes()])? == 0 {
            return Ok(Told::BegunOtherwise);
        }
        found.write(sqlite, self.checkpoint.claim())?;
        connection.execute("COMMIT")?;
        Ok(Told::Checked)
    }

    /// As everybody may know it.
    pub(crate) fn told(&self) -> Option<StartedFrom> {
        let claim = self.checkpoint.claim();
        let state = claim.client.as_ref()?.state;
        let (sequence, signer) = (claim.size, self.signer);
        let (epoch, root, inbox_consumed) = (claim.epoch, claim.root(), claim.inbox_consumed);
        Some(StartedFrom { sequence, signer, epoch, root, state, inbox_consumed })
    }
}
