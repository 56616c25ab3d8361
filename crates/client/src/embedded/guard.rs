//! What a closure may not do: asked by SQLite when it compiles a statement ("Compile-Time Authorization Callbacks").
//!
//! What is refused dooms the transaction, also when the closure does not mind. A statement that was compiled before is not asked about again,
//! so nothing here is the only line: the recorder notices a schema that moved, and refuses every COMMIT that is not ours.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use synddb_sqlite::rusqlite;
use synddb_sqlite::rusqlite::hooks::{AuthAction, AuthContext, Authorization};

/// Pragmas that read, or that set what is captured or lasts for a transaction.
const PRAGMAS: &[&str] = &[
    "application_id",
    "collation_list",
    "compile_options",
    "data_version",
    "database_list",
    "defer_foreign_keys",
    "foreign_key_check",
    "foreign_key_list",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "module_list",
    "page_count",
    "pragma_list",
    "quick_check",
    "recursive_triggers",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];

/// Pragmas that may be asked, and not set.
const READ_ONLY_PRAGMAS: &[&str] =
    &["encoding", "foreign_keys", "journal_mode", "page_size", "schema_version", "synchronous"];

/// What no closure may do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The transaction begins and ends with the closure.
    #[error("the transaction is begun and ended around the closure; use SAVEPOINT inside of it")]
    Transaction,
    /// What is in another file is not captured.
    #[error("other databases cannot be attached or detached; open them by themselves")]
    Attach,
    /// A pragma that would change how the database is captured.
    #[error("this pragma is not for a transaction that is captured. pragma=`{name}`")]
    Pragma {
        /// Its name.
        name: String,
    },
    /// A name that SyndDB keeps for itself.
    #[error("names that begin with `_synddb` are reserved; take another one. name=`{name}`")]
    Reserved {
        /// The name.
        name: String,
    },
    /// The schema changes in `schema` only.
    #[error("`write` changes rows only; change the schema in `schema`")]
    Schema,
    /// `sqlite_schema` was written by hand.
    #[error("`sqlite_schema` is not written by hand; use CREATE, ALTER and DROP")]
    SchemaTable,
    /// Pages are written past all tables.
    #[error("pages cannot be written; change rows")]
    Pages,
    /// Something was to be changed in `read`.
    #[error("`read` changes nothing; use `write`")]
    ReadOnly,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mode {
    /// This library.
    Ours,
    /// A closure of `read`.
    Read,
    /// A closure of `write`.
    Write,
    /// A closure of `schema`.
    Schema,
}

#[derive(Default)]
struct Shared {
    mode: AtomicU8,
    forbidden: Mutex<Option<Forbidden>>,
    /// The names of the virtual tables, in small letters.
    virtual_tables: Mutex<BTreeSet<String>>,
}

/// Watches one connection.
#[derive(Clone)]
pub(super) struct Guard(Arc<Shared>);

impl Guard {
    /// Watches a connection from now on.
    pub(super) fn on(sqlite: &mut rusqlite::Connection) -> rusqlite::Result<Self> {
        let guard = Self(Arc::new(Shared::default()));
        let asked = guard.clone();
        sqlite.authorizer(Some(move |context: AuthContext<'_>| asked.judge(&context)))?;
        Ok(guard)
    }

    /// From now on this one speaks.
    pub(super) fn enter(&self, mode: Mode) {
        self.0.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// What was refused first since the last time this was asked.
    pub(super) fn take(&self) -> Option<Forbidden> {
        self.0.forbidden.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Takes note of the virtual tables that there are now.
    pub(super) fn know_virtual_tables(&self, sqlite: &rusqlite::Connection) -> rusqlite::Result<()> {
        let mut named = sqlite
            .prepare_cached("SELECT name FROM main.sqlite_schema WHERE type = 'table' AND rootpage = 0")?;
        let names = named.query_map([], |row| Ok(row.get::<_, String>(0)?.to_ascii_lowercase()))?;
        let names = names.collect::<rusqlite::Result<_>>()?;
        *self.0.virtual_tables.lock().unwrap_or_else(PoisonError::into_inner) = names;
        Ok(())
    }

    /// Whether an R-Tree may be compiling its statements: it does so when it is first read, also those that write. Nobody else can write these
    /// tables (`SQLITE_DBCONFIG_DEFENSIVE`), and whatever changes while it is read is taken back.
    #[allow(clippy::wildcard_enum_match_arm, reason = "these three are all that an R-Tree compiles")]
    fn is_of_rtree(&self, action: &AuthAction<'_>) -> bool {
        let table = match action {
            AuthAction::Insert { table_name }
            | AuthAction::Delete { table_name }
            | AuthAction::Update { table_name, .. } => table_name.to_ascii_lowercase(),
            _ => return false,
        };
        let known = self.0.virtual_tables.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = |end| table.strip_suffix(end).is_some_and(|name| known.contains(name));
        ["_node", "_parent", "_rowid"].into_iter().any(is_known)
    }

    fn mode(&self) -> Mode {
        let mode = self.0.mode.load(Ordering::SeqCst);
        [Mode::Read, Mode::Write, Mode::Schema]
            .into_iter()
            .find(|known| *known as u8 == mode)
            .unwrap_or(Mode::Ours)
    }

    fn judge(&self, context: &AuthContext<'_>) -> Authorization {
        let forbidden = match self.mode() {
            Mode::Ours => None,
            Mode::Read if self.is_of_rtree(&context.action) => None,
            Mode::Read => forbidden_to_read(&context.action),
            Mode::Write => forbidden_to_all(&context.action).or_else(|| forbidden_to_write(context)),
            Mode::Schema => forbidden_to_all(&context.action),
        };
        let Some(forbidden) = forbidden else { return Authorization::Allow };
        self.0.forbidden.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(forbidden);
        Authorization::Deny
    }
}

/// What nobody may do but this library.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "what has no name here is judged by what it does to rows and schema"
)]
fn forbidden_to_all(action: &AuthAction<'_>) -> Option<Forbidden> {
    match *action {
        AuthAction::Transaction { .. } => Some(Forbidden::Transaction),
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => Some(Forbidden::Attach),
        AuthAction::Pragma { pragma_name, pragma_value } => forbidden_pragma(pragma_name, pragma_value),
        AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. }
            if table_name.eq_ignore_ascii_case("sqlite_dbpage") =>
        {
            Some(Forbidden::Pages)
        }
        AuthAction::Insert { table_name: name }
        | AuthAction::Delete { table_name: name }
        | AuthAction::Update { table_name: name, .. }
        | AuthAction::CreateTable { table_name: name }
        | AuthAction::DropTable { table_name: name }
        | AuthAction::AlterTable { table_name: name, .. }
        | AuthAction::CreateVtable { table_name: name, .. }
        | AuthAction::CreateView { view_name: name } => reserved(name),
        AuthAction::CreateIndex { index_name: name, table_name }
        | AuthAction::CreateTrigger { trigger_name: name, table_name }
        | AuthAction::CreateTempIndex { index_name: name, table_name }
        | AuthAction::CreateTempTrigger { trigger_name: name, table_name } => {
            reserved(name).or_else(|| reserved(table_name))
        }
        _ => None,
    }
}

/// What `write` may not do: everything that changes the schema of the main database.
#[allow(clippy::wildcard_enum_match_arm, reason = "what has no name here leaves the schema as it is")]
fn forbidden_to_write(context: &AuthContext<'_>) -> Option<Forbidden> {
    match context.action {
        AuthAction::AlterTable { database_name, .. } if database_name.eq_ignore_ascii_case("temp") => None,
        AuthAction::CreateIndex { .. }
        | AuthAction::CreateTable { .. }
        | AuthAction::CreateTrigger { .. }
        | AuthAction::CreateView { .. }
        | AuthAction::CreateVtable { .. }
        | AuthAction::DropIndex { .. }
        | AuthAction::DropTable { .. }
        | AuthAction::DropTrigger { .. }
        | AuthAction::DropView { .. }
        | AuthAction::DropVtable { .. }
        | AuthAction::AlterTable { .. }
        | AuthAction::Analyze { .. } => {
            let is_temporary = context.database_name.is_some_and(|name| name.eq_ignore_ascii_case("temp"));
            (!is_temporary).then_some(Forbidden::Schema)
        }
        _ => None,
    }
}

/// What `read` may not do: everything but reading.
#[allow(clippy::wildcard_enum_match_arm, reason = "what is not named here may change something")]
fn forbidden_to_read(action: &AuthAction<'_>) -> Option<Forbidden> {
    match *action {
        AuthAction::Select
        | AuthAction::Recursive
        | AuthAction::Function { .. }
        | AuthAction::Read { .. } => None,
        AuthAction::Transaction { .. } => Some(Forbidden::Transaction),
        AuthAction::Pragma { pragma_name, pragma_value } => {
            // These take an argument that is no value to be set.
            let takes_argument =
                ["_list", "_info", "_xinfo", "_check"].iter().any(|end| pragma_name.ends_with(end));
            match pragma_value {
                Some(_) if !takes_argument => Some(Forbidden::ReadOnly),
                _ => forbidden_pragma(pragma_name, pragma_value),
            }
        }
        _ => Some(Forbidden::ReadOnly),
    }
}

fn forbidden_pragma(name: &str, value: Option<&str>) -> Option<Forbidden> {
    let is_among = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known));
    let is_allowed = is_among(PRAGMAS) || (value.is_none() && is_among(READ_ONLY_PRAGMAS));
    (!is_allowed).then(|| Forbidden::Pragma { name: name.to_owned() })
}

fn reserved(name: &str) -> Option<Forbidden> {
    let is_reserved = name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("_synddb"));
    is_reserved.then(|| Forbidden::Reserved { name: name.to_owned() })
}
