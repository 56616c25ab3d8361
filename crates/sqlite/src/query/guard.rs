//! What SQL of strangers may do: the doors that are closed before it is compiled.
//!
//! The authorizer knows what is allowed, and refuses everything else (SQLite, "Compile-Time Authorization Callbacks"). Virtual tables
//! are closed twice: their modules are taken away, so that no code of theirs runs when a statement names one, and their names are
//! refused.

#![allow(unsafe_code, reason = "modules are taken away by a function that rusqlite does not wrap")]

use std::collections::BTreeSet;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rusqlite::StatementStatus;
use rusqlite::config::DbConfig;
use rusqlite::ffi;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;

use super::{IsOver, Limits, PARAMETERS_MAX, deadline, functions};

/// Instructions of SQLite's machine between two looks at the clock. One of them may be a function call over a whole value.
const INSTRUCTIONS: i32 = 100;
/// Deepest expression, and most terms of a compound SELECT.
const DEPTH_MAX: i32 = 100;
/// Most columns of an answer or of a subquery.
const COLUMNS_MAX: i32 = 100;
/// Most arguments of a function.
const ARGUMENTS_MAX: i32 = 16;
/// Longest program of SQLite's machine, in instructions.
const PROGRAM_MAX: i32 = 25_000;
/// Largest program with its registers, in bytes. Each register can hold the largest value, and takes more than 100 bytes here together
/// with what computes it: with this many bytes a query holds some hundred such values at a time, and a join of six tables fits.
const PROGRAM_BYTES_MAX: usize = 64 << 10;
/// Most calls of functions in the text of a query: between two looks at the clock each may run once.
const CALLS_MAX: usize = 100;

/// Functions of a query: those of SQLite that compute a value in a time that grows with its length, and keep no more than one value.
/// Not among them: what loads code or reaches into modules, JSON that is gathered, patched or indented, whose memory or time nothing
/// bounds.
pub(crate) const FUNCTIONS: &[&str] = &[
    // Values.
    "abs",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "format",
    "glob",
    "hex",
    "if",
    "ifnull",
    "iif",
    "instr",
    "length",
    "like",
    "likelihood",
    "likely",
    "lower",
    "ltrim",
    "max",
    "min",
    "nullif",
    "octet_length",
    "printf",
    "quote",
    "replace",
    "round",
    "rtrim",
    "sign",
    "soundex",
    "substr",
    "substring",
    "subtype",
    "trim",
    "typeof",
    "unhex",
    "unicode",
    "unistr",
    "unistr_quote",
    "unlikely",
    "upper",
    "zeroblob",
    // Numbers.
    "ceil",
    "ceiling",
    "degrees",
    "floor",
    "mod",
    "pi",
    "radians",
    "sqrt",
    "trunc",
    // Groups and windows.
    "avg",
    "count",
    "cume_dist",
    "dense_rank",
    "first_value",
    "group_concat",
    "lag",
    "last_value",
    "lead",
    "nth_value",
    "ntile",
    "percent_rank",
    "rank",
    "row_number",
    "string_agg",
    "sum",
    "total",
    // JSON.
    "->",
    "->>",
    "json",
    "json_array",
    "json_array_insert",
    "json_array_length",
    "json_error_position",
    "json_extract",
    "json_insert",
    "json_object",
    "json_quote",
    "json_remove",
    "json_replace",
    "json_set",
    "json_type",
    "json_valid",
    "jsonb",
    "jsonb_array",
    "jsonb_array_insert",
    "jsonb_extract",
    "jsonb_insert",
    "jsonb_object",
    "jsonb_remove",
    "jsonb_replace",
    "jsonb_set",
];

/// More functions of a query: what they answer depends on the clock, on chance, on this SQLite, or on the machine's own mathematics. Two machines need not
/// agree.
pub(crate) const OWN_FUNCTIONS: &[&str] = &[
    // Chance.
    "random",
    "randomblob",
    // Mathematics.
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cos",
    "cosh",
    "exp",
    "ln",
    "log",
    "log10",
    "log2",
    "pow",
    "power",
    "sin",
    "sinh",
    "tan",
    "tanh",
    // Time.
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "datetime",
    "julianday",
    "strftime",
    "time",
    "timediff",
    "unixepoch",
    // SQLite itself.
    "sqlite_compileoption_get",
    "sqlite_compileoption_used",
    "sqlite_source_id",
    "sqlite_version",
];

/// Table-valued functions that only take JSON apart.
const TABLE_FUNCTIONS: [&str; 4] = ["json_each", "json_tree", "jsonb_each", "jsonb_tree"];

/// What the authorizer refused, in its words, first first. It speaks while SQLite compiles, and SQLite keeps only a code of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusals(Arc<Mutex<Vec<String>>>);

impl Refusals {
    /// The first one.
    pub(super) fn first(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).first().cloned()
    }

    fn add(&self, what: String) -> Authorization {
        let mut refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One statement can name many; the first is told.
        if refusals.is_empty() {
            refusals.push(what);
        }
        Authorization::Deny
    }
}

/// What holds for the whole connection, before anything is read.
pub(super) fn harden(sqlite: &rusqlite::Connection) -> rusqlite::Result<()> {
    for (option, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
        (DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE, false),
    ] {
        sqlite.set_db_config(option, on)?;
    }
    sqlite.execute_batch("PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0")
}

/// Closes everything that is not a bounded read. From here on the connection is for one statement of a stranger.
pub(super) fn close(
    sqlite: &mut rusqlite::Connection,
    limits: Limits,
    is_over: IsOver,
) -> rusqlite::Result<Refusals> {
    let names = closed_names(sqlite)?;
    // SAFETY: the connection is open and used by this thread alone; a null list keeps no module.
    let code = unsafe { ffi::sqlite3_drop_modules(sqlite.handle(), ptr::null_mut()) };
    if code != ffi::SQLITE_OK {
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
    }
    functions::replace_unbounded(sqlite)?;
    // What is sorted or kept for a moment stays in memory, which is bounded, and takes no disk. Nothing temporary is there yet.
    sqlite.execute_batch("PRAGMA temp_store = MEMORY")?;
    let bytes = i32::try_from(limits.value_bytes()).unwrap_or(i32::MAX);
    let pattern_bytes = i32::try_from(functions::PATTERN_BYTES_MAX).unwrap_or(i32::MAX);
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, bytes),
        (Limit::SQLITE_LIMIT_COLUMN, COLUMNS_MAX),
        (Limit::SQLITE_LIMIT_FUNCTION_ARG, ARGUMENTS_MAX),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, DEPTH_MAX),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, DEPTH_MAX),
        (Limit::SQLITE_LIMIT_VDBE_OP, PROGRAM_MAX),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, pattern_bytes),
        (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, i32::try_from(PARAMETERS_MAX).unwrap_or(i32::MAX)),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 0),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        sqlite.set_limit(limit, value)?;
    }
    let refusals = Refusals::default();
    let said = refusals.clone();
    let mut calls = 0;
    sqlite.authorizer(Some(move |context: AuthContext<'_>| judge(&context, &names, &mut calls, &said)))?;
    let end = deadline(limits);
    sqlite.progress_handler(INSTRUCTIONS, Some(move || Instant::now() >= end || is_over()))?;
    Ok(refusals)
}

/// Whether a program fits what one query may use.
pub(super) fn fits(statement: &rusqlite::Statement<'_>) -> bool {
    let bytes = statement.get_status(StatementStatus::MemUsed);
    usize::try_from(bytes).is_ok_and(|bytes| bytes <= PROGRAM_BYTES_MAX)
}

/// The names, in lower case, of virtual tables and of the modules that are tables by themselves.
fn closed_names(sqlite: &rusqlite::Connection) -> rusqlite::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for sql in [
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND ifnull(rootpage, 0) = 0",
        "SELECT name FROM pragma_module_list",
    ] {
        let mut statement = sqlite.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let rusqlite::types::ValueRef::Text(name) = row.get_ref(0)? {
                names.insert(String::from_utf8_lossy(name).to_ascii_lowercase());
            }
        }
    }
    for name in TABLE_FUNCTIONS {
        names.remove(name);
    }
    Ok(names)
}

/// Whether a statement may do this. What is not named here is refused.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "what is not allowed by name is refused, also what SQLite will add"
)]
fn judge(
    context: &AuthContext<'_>,
    closed: &BTreeSet<String>,
    calls: &mut usize,
    refusals: &Refusals,
) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Read { table_name, .. } => {
            let name = table_name.to_ascii_lowercase();
            if name.starts_with("_synddb") {
                refusals.add(format!("`{table_name}` belongs to the replica, not to the database"))
            } else if closed.contains(&name) || name.starts_with("pragma_") {
                refusals.add(format!("`{table_name}` is a virtual table, which a replica does not open"))
            } else {
                Authorization::Allow
            }
        }
        AuthAction::Function { function_name } => {
            *calls += 1;
            if *calls > CALLS_MAX {
                refusals.add(format!("this one calls more than {CALLS_MAX} functions"))
            } else if FUNCTIONS
                .iter()
                .chain(OWN_FUNCTIONS)
                .any(|allowed| function_name.eq_ignore_ascii_case(allowed))
            {
                Authorization::Allow
            } else {
                refusals.add(format!("the function `{function_name}` is not for queries"))
            }
        }
        _ => refusals.add("this one does something else".to_owned()),
    }
}
