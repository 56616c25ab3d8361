//! Grammar of transactions: which steps come, and how often.

use super::model::Model;
use super::random::Random;
use super::values::Ground;
use super::{changes, rows, search, upkeep};

/// One thing that an application does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// A statement.
    Sql(String),
    /// Bytes written into a blob in place. Connections in other processes leave it out.
    Blob { table: String, column: String, bytes: Vec<u8> },
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sql(sql) => write!(f, "{sql};"),
            Self::Blob { table, column, bytes } => {
                write!(f, "-- write {} bytes into a blob of {table}.{column}", bytes.len())
            }
        }
    }
}

/// Statements that belong together, made for one purpose.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// What it exercises.
    pub(super) feature: &'static str,
    pub(super) actions: Vec<Action>,
    /// Whether it changes the schema, or moves rows without changing them, neither of which a session records.
    pub(super) ddl: bool,
}

impl Step {
    pub(super) fn rows(feature: &'static str, sql: String) -> Self {
        Self { feature, actions: vec![Action::Sql(sql)], ddl: false }
    }

    pub(super) fn schema(feature: &'static str, sql: String) -> Self {
        Self { feature, actions: vec![Action::Sql(sql)], ddl: true }
    }

    /// Several statements with one purpose, some of which may change the schema.
    pub(super) fn several(feature: &'static str, statements: Vec<String>, ddl: bool) -> Self {
        Self { feature, actions: statements.into_iter().map(Action::Sql).collect(), ddl }
    }
}

/// What steps are made from.
pub(super) struct Context<'c> {
    pub(super) random: &'c mut Random,
    pub(super) model: &'c Model,
    pub(super) ground: Ground,
}

type Maker = fn(&mut Context<'_>) -> Option<Step>;

const INSIDE: [(u64, Maker); 36] = [
    (24, rows::insert),
    (5, rows::conflict),
    (4, rows::insert_default),
    (4, rows::insert_series),
    (1, rows::insert_or_delete_huge),
    (4, rows::double),
    (5, rows::replace),
    (5, rows::upsert),
    (18, rows::update),
    (5, rows::update_key),
    (3, rows::update_rowid),
    (3, rows::swap_keys),
    (3, rows::update_all),
    (3, rows::update_from),
    (2, rows::temporary),
    (12, rows::delete),
    (2, rows::delete_all),
    (10, rows::write_blob),
    (4, rows::insert_into_view),
    (2, rows::recurse),
    (4, rows::change_parent),
    (1, rows::change_sequence),
    (7, rows::savepoint),
    (3, changes::create_table),
    (1, changes::create_table_as),
    (2, changes::drop_table),
    (4, changes::create_or_drop_index),
    (3, changes::create_or_drop_trigger_or_view),
    (4, changes::add_column),
    (2, changes::rename_table),
    (2, changes::rename_column),
    (2, changes::drop_column),
    (2, changes::rebuild_table),
    (2, changes::replace_or_swap),
    (3, upkeep::change_header_or_statistics),
    (14, search::change),
];

const OUTSIDE: [(u64, Maker); 4] =
    [(3, upkeep::vacuum), (5, upkeep::incremental_vacuum), (12, upkeep::checkpoint), (1, upkeep::leave_wal)];

/// A step that may stand in a transaction.
pub(super) fn inside(context: &mut Context<'_>) -> Step {
    make(context, &INSIDE)
}

/// A step that stands alone.
pub(super) fn outside(context: &mut Context<'_>) -> Step {
    make(context, &OUTSIDE)
}

fn make(context: &mut Context<'_>, makers: &[(u64, Maker)]) -> Step {
    // A maker that finds nothing to work on leaves its turn to another.
    (0..20)
        .find_map(|_| {
            let maker = context.random.weighted(makers);
            maker(context)
        })
        .unwrap_or_else(|| Step::rows("nothing", "SELECT 1".to_owned()))
}
