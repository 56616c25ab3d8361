//! What can go wrong with an embedded database.

use std::io;
use std::path::PathBuf;

use synddb_agent::{AgentError, PushError};
use synddb_protocol::DecodeError;
use synddb_sqlite::capture::embedded::{RecordError, TRANSACTION_BYTES_MAX};
use synddb_sqlite::connection::SqliteError;
use synddb_sqlite::rusqlite;
use synddb_sqlite::schema::SchemaError;
use synddb_sqlite::state::StateError;

use super::guard::Forbidden;

/// Why a database was not opened, or a transaction not committed. A transaction that fails is rolled back, and uses no number.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite could not do what was asked.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// The transaction did what none may.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The schema cannot be replicated.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The schema has something that no reader takes.
    #[error("the schema holds what no reader takes")]
    Refused(#[source] DecodeError),
    /// The transaction changes more than can be held.
    #[error("the transaction changes too much; write it as several. limit=`{TRANSACTION_BYTES_MAX}`")]
    TooLarge,
    /// What was committed is not kept fast enough, or not at all.
    #[error("the outbox is full; see the status for why nothing is sent, and write again later")]
    OutboxFull,
    /// Nobody keeps what is committed any more, and no more may wait.
    #[error("the agent has ended; close the database, whose error says why, and open it anew")]
    AgentEnded,
    /// Something ended the transaction before its end: a constraint or trigger with ROLLBACK, or a full disk.
    #[error("a statement rolled the whole transaction back; nothing of it was committed")]
    RolledBack,
    /// More was changed by COMMIT itself than was captured.
    #[error("a virtual table changed rows while it was committed; turn its automatic merging off")]
    ChangedAtCommit,
    /// Another program wrote to the file.
    #[error("another program wrote to the database; open it anew, which begins a new incarnation")]
    WrittenByOthers,
    /// An earlier error left it open what is in the database.
    #[error("an earlier error left open what was committed; open the database anew")]
    Broken,
    /// Somebody else captures this file.
    #[error("an agent, a mirror or another process captures this database; stop that one first. path=`{}`", path.display())]
    Followed {
        /// The database.
        path: PathBuf,
    },
    /// The database cannot be switched to WAL mode.
    #[error("cannot switch the database to WAL mode; close other connections to it. mode=`{mode}`")]
    NotWal {
        /// The mode it is in.
        mode: String,
    },
    /// The commits that wait in the database are none.
    #[error(
        "what waits to be sent in the database cannot be read; remove the table `_synddb_outbox` to begin anew. what=`{what}`"
    )]
    Damaged {
        /// What is wrong with it.
        what: &'static str,
    },
    /// What waits in the database was captured into another folder.
    #[error(
        "commits wait in the database that this folder knows nothing of; open it with the folder that they were captured into, or remove the \
         table `_synddb_outbox` to give them up. folder=`{}`", folder.display()
    )]
    OtherFolder {
        /// The folder that was given.
        folder: PathBuf,
    },
    /// The table of commits that wait is not as it was made.
    #[error(
        "something is on the table `_synddb_outbox`; drop that, then open the database again. name=`{name}`"
    )]
    Crowded {
        /// The index or trigger.
        name: String,
    },
    /// A file could not be used.
    #[error("cannot {doing} a file. path=`{}`", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The state of the database cannot be computed.
    #[error(transparent)]
    State(StateError),
    /// Rows could not be captured.
    #[error("cannot capture the transaction")]
    Record(#[source] RecordError),
    /// The agent did not start, or ended.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Not everything has come as far as asked.
    #[error(transparent)]
    Push(#[from] PushError),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error.into())
    }
}

impl From<StateError> for Error {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Sqlite(error) => Self::Sqlite(error),
            StateError::Schema(error) => Self::Schema(error),
            error @ StateError::NoRowid { .. } => Self::State(error),
        }
    }
}

impl From<RecordError> for Error {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Sqlite(error) => Self::Sqlite(error),
            RecordError::Schema(error) => Self::Schema(error),
            RecordError::State(error) => error.into(),
            RecordError::SchemaMoved => Self::Forbidden(Forbidden::Schema),
            RecordError::SchemaWritten => Self::Forbidden(Forbidden::SchemaTable),
            RecordError::TooLarge => Self::TooLarge,
            RecordError::NoTransaction => Self::RolledBack,
            error @ (RecordError::Taken | RecordError::NotBegun | RecordError::Unreadable { .. }) => {
                Self::Record(error)
            }
        }
    }
}
