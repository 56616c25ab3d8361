//! How a table lays out its rows: what identifies one, and how a stored record becomes column values.
//!
//! STORED generated columns are columns whose values are compared and never set; VIRTUAL ones hold nothing and only decide what indexes mean.
//!
//! Everything is asked of SQLite, which is given the table's own text in a scratch database: no SQL is parsed here, and what
//! SQLite makes of a default or a type is what counts.

use rusqlite::OptionalExtension as _;
use synddb_protocol::state::Value;
use synddb_protocol::submission::{ObjectKind, TextEncoding};

use super::{Object, Objects, SchemaError};
use crate::connection::{Connection, SqliteError, quoted};
use crate::value::OwnedValue;

/// Most columns of a result (`SQLITE_MAX_COLUMN`), and so of a table.
pub(super) const COLUMNS_MAX: usize = 2000;

/// What a column does to the values put into it (SQLite, "Datatypes", section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// Reals: an integer in the file is read as a real.
    Real,
    /// Any other: what is in the file is what is read.
    AsStored,
}

/// A column whose values are stored: every one but virtual generated columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What reading does to an integer.
    pub affinity: Affinity,
    /// What a record that is too short to hold the column means: the default, after affinity.
    pub default: OwnedValue,
    /// Whether SQLite computes the values (STORED generated columns), so that no statement may give them.
    pub generated: bool,
}

/// What tells the rows of a table apart, and stays the same on every copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The rowid, under this name, which no column takes.
    Rowid {
        /// `_rowid_`, `rowid` or `oid`.
        name: &'static str,
    },
    /// An INTEGER PRIMARY KEY, which is the rowid.
    IntegerKey {
        /// Its place among the columns.
        column: usize,
    },
    /// The primary key of a WITHOUT ROWID table.
    Key {
        /// The places of its columns among the columns, in the order of the key.
        columns: Vec<usize>,
    },
}

/// How a table lays out its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The table's name.
    pub name: String,
    /// What identifies a row.
    pub identity: Identity,
    /// The stored columns in schema order.
    pub columns: Vec<Column>,
    /// The order of a stored record: for each of its fields, the place among the columns.
    pub record: Vec<usize>,
    /// What else must stay the same for stored rows and indexes to stay right: collations, UNIQUE constraints, and what
    /// generated columns compute.
    derived: Derived,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Derived {
    /// Of each stored column.
    collations: Vec<String>,
    /// What each UNIQUE constraint orders by.
    unique: Vec<String>,
    /// What SQLite runs for each generated column.
    generated: Vec<String>,
    /// Name, affinity and collation of every column, also of virtual ones: what an index text refers to.
    indexed: Vec<[String; 3]>,
}

impl Layout {
    /// Asks SQLite how this table lays out its rows.
    ///
    /// # Errors
    /// [`SchemaError`] when SQLite does not take the text, or the rowid cannot be named.
    pub fn of(table: &Object, encoding: TextEncoding) -> Result<Self, SchemaError> {
        Scratch { connection: scratch(table, encoding)?, name: &table.name }.layout()
    }

    /// Whether rows stored under `before` mean under this layout what an ADD COLUMN or RENAME makes of them, so that nothing
    /// but the text has to change.
    pub fn keeps_rows_of(&self, before: &Self) -> bool {
        let same_identity = match (&self.identity, &before.identity) {
            (Identity::Rowid { .. }, Identity::Rowid { .. }) => true,
            (Identity::IntegerKey { column: one }, Identity::IntegerKey { column: two }) => one == two,
            (Identity::Key { columns: one }, Identity::Key { columns: two }) => one == two,
            (Identity::Rowid { .. } | Identity::IntegerKey { .. } | Identity::Key { .. }, _) => false,
        };
        let same_column = |(new, old): (&Column, &Column)| {
            new.affinity == old.affinity && new.default == old.default && new.generated == old.generated
        };
        same_identity
            && self.columns.len() >= before.columns.len()
            && self.columns.iter().zip(&before.columns).all(same_column)
            && self.record.starts_with(&before.record)
            && self.derived.collations.starts_with(&before.derived.collations)
            && self.derived.unique == before.derived.unique
            && self.derived.generated.starts_with(&before.derived.generated)
    }

    /// Whether every column of `before` is a column of this layout that an index text names and compares alike, so that an index whose
    /// text stayed the same still holds the same.
    pub fn keeps_indexes_of(&self, before: &Self) -> bool {
        self.derived.indexed.starts_with(&before.derived.indexed)
    }

    /// Whether a row is identified by a rowid that is no column.
    pub fn has_hidden_rowid(&self) -> bool {
        matches!(self.identity, Identity::Rowid { .. })
    }

    /// Whether the table is a b-tree of rowids: every table that is not WITHOUT ROWID.
    pub fn is_rowid_table(&self) -> bool {
        !matches!(self.identity, Identity::Key { .. })
    }
}

/// Asks SQLite whether it can make the indexes without the application's functions and collations: a replica will have to.
/// Those that `before` has with the same text were asked about then.
///
/// # Errors
/// [`SchemaError::Foreign`] names the first one that it cannot make.
pub fn check_indexes(
    objects: &Objects,
    before: Option<&Objects>,
    encoding: TextEncoding,
) -> Result<(), SchemaError> {
    let known = |index: &Object| {
        let before = before.and_then(|before| before.get(index.row.kind, &index.row.name));
        before.is_some_and(|before| before.row == index.row)
    };
    let indexes = objects.iter().filter(|object| object.row.kind == ObjectKind::Index && !known(object));
    for index in indexes {
        let (Some(sql), Some(table)) = (&index.sql, objects.get(ObjectKind::Table, &index.row.table)) else {
            continue;
        };
        let foreign = |source| SchemaError::Foreign { name: index.name.clone(), source };
        let scratch = scratch(table, encoding)?;
        make(&scratch, sql).map_err(foreign)?;
    }
    Ok(())
}

/// A database in memory with this table, which has no rows.
fn scratch(table: &Object, encoding: TextEncoding) -> Result<Connection, SchemaError> {
    let foreign = |source| SchemaError::Foreign { name: table.name.clone(), source };
    let scratch = Connection::in_memory(encoding)?;
    if table.name.eq_ignore_ascii_case("sqlite_sequence") {
        scratch.execute("CREATE TABLE a(a INTEGER PRIMARY KEY AUTOINCREMENT); DROP TABLE a")?;
    } else {
        // A table may be called `sqlite_...` only by SQLite itself, and the one such table is above.
        make(&scratch, table.sql.as_deref().unwrap_or_default()).map_err(foreign)?;
    }
    Ok(scratch)
}

/// Runs the text of a table or an index. One statement only: what stands behind it is no part of the object.
///
/// The text may be a stranger's, so that it may make one thing in this database and do nothing else: a query in it (`CREATE TABLE ... AS`, which
/// SQLite never keeps as a text) could run for ever.
fn make(scratch: &Connection, sql: &str) -> Result<(), SqliteError> {
    scratch.while_only_making(|| scratch.prepare(sql)?.execute(&[]).map(drop))
}

/// A database in memory that holds one table without rows.
struct Scratch<'t> {
    connection: Connection,
    name: &'t str,
}

/// A row of `PRAGMA table_xinfo`.
struct Info {
    name: String,
    declared: String,
    has_default: bool,
    key: i64,
    hidden: i64,
}

impl Scratch<'_> {
    fn layout(&self) -> Result<Layout, SchemaError> {
        let infos = self.infos()?;
        let without_rowid = self.is_without_rowid()?;
        let strict = self.is_strict()?;
        let stored: Vec<&Info> = infos.iter().filter(|info| info.hidden != VIRTUAL).collect();
        let mut key: Vec<(i64, usize)> = stored
            .iter()
            .enumerate()
            .filter(|(_, info)| info.key > 0)
            .map(|(at, info)| (info.key, at))
            .collect();
        key.sort_unstable();
        let key: Vec<usize> = key.into_iter().map(|(_, at)| at).collect();
        let identity = if without_rowid {
            Identity::Key { columns: key.clone() }
        } else if let Some(column) = self.integer_key(&stored, &key)? {
            Identity::IntegerKey { column }
        } else {
            Identity::Rowid { name: self.rowid_name(&infos)? }
        };
        let (record, key_fields) =
            if without_rowid { self.keyed_record(&infos)? } else { ((0..stored.len()).collect(), 0) };
        // It could be written, and never be read again.
        if matches!(identity, Identity::Rowid { .. }) && stored.len() >= COLUMNS_MAX {
            return Err(SchemaError::TooWide { name: self.name.to_owned() });
        }
        let derived = self.derived(&infos, strict)?;
        let defaults = self.defaults(&stored, &record, key_fields)?;
        let columns = stored
            .iter()
            .zip(defaults)
            .map(|(info, default)| Column {
                name: info.name.clone(),
                affinity: affinity(&info.declared, strict),
                default,
                generated: info.hidden == STORED,
            })
            .collect();
        Ok(Layout { name: self.name.to_owned(), identity, columns, record, derived })
    }

    /// The order of a record of a WITHOUT ROWID table, and how many of its fields are the key. A column that the key names twice under
    /// different collations is there twice.
    fn keyed_record(&self, infos: &[Info]) -> Result<(Vec<usize>, usize), SchemaError> {
        let mut places = Vec::new();
        let mut stored = 0;
        for info in infos {
            places.push(stored);
            stored += usize::from(info.hidden != VIRTUAL);
        }
        let sql = "SELECT x.cid, x.key FROM pragma_index_list(?1) l, pragma_index_xinfo(l.name) x \
                   WHERE l.origin = 'pk' ORDER BY x.seqno";
        let mut statement = self.connection.sqlite().prepare(sql).map_err(SqliteError::from)?;
        let mut rows = statement.query([self.name]).map_err(SqliteError::from)?;
        let (mut record, mut key_fields) = (Vec::new(), 0);
        while let Some(row) = rows.next().map_err(SqliteError::from)? {
            let column: usize =
                row.get::<_, i64>(0).ok().and_then(|at| at.try_into().ok()).unwrap_or(usize::MAX);
            let place = places.get(column).copied();
            record.push(place.ok_or(SchemaError::Damaged { what: "a key names no column" })?);
            key_fields += usize::from(row.get::<_, bool>(1).map_err(SqliteError::from)?);
        }
        Ok((record, key_fields))
    }

    fn infos(&self) -> Result<Vec<Info>, SqliteError> {
        let mut statement = self.connection.sqlite().prepare("SELECT * FROM pragma_table_xinfo(?1)")?;
        let infos = statement.query_map([self.name], |row| {
            Ok(Info {
                name: row.get(1)?,
                declared: row.get(2)?,
                has_default: row.get::<_, Option<String>>(4)?.is_some(),
                key: row.get(5)?,
                hidden: row.get(6)?,
            })
        })?;
        Ok(infos.collect::<Result<_, _>>()?)
    }

    fn is_without_rowid(&self) -> Result<bool, SchemaError> {
        self.table_list("wr")
    }

    fn is_strict(&self) -> Result<bool, SchemaError> {
        self.table_list("strict")
    }

    fn table_list(&self, column: &str) -> Result<bool, SchemaError> {
        let sql = format!(
            "SELECT {column} FROM pragma_table_list WHERE schema = 'main' AND name = ?1 COLLATE NOCASE"
        );
        let found = self.connection.sqlite().query_row(&sql, [self.name], |row| row.get(0)).optional();
        found
            .map_err(SqliteError::from)?
            .ok_or(SchemaError::Damaged { what: "a text makes another table than it is stored for" })
    }

    /// The column that is the rowid, if there is one. A lone key column declared INTEGER is it, unless its text says `DESC` in a
    /// way that SQLite takes literally, so SQLite is asked: only an alias of the rowid has no index of its own.
    fn integer_key(&self, stored: &[&Info], key: &[usize]) -> Result<Option<usize>, SqliteError> {
        let [column] = *key else { return Ok(None) };
        if !stored[column].declared.eq_ignore_ascii_case("INTEGER") {
            return Ok(None);
        }
        let sql = "SELECT count(*) FROM pragma_index_list(?1) WHERE origin = 'pk'";
        let indexes: i64 = self.connection.sqlite().query_row(sql, [self.name], |row| row.get(0))?;
        Ok((indexes == 0).then_some(column))
    }

    fn rowid_name(&self, infos: &[Info]) -> Result<&'static str, SchemaError> {
        ["_rowid_", "rowid", "oid"]
            .into_iter()
            .find(|name| !infos.iter().any(|info| info.name.eq_ignore_ascii_case(name)))
            .ok_or_else(|| SchemaError::HiddenRowid { name: self.name.to_owned() })
    }

    fn derived(&self, infos: &[Info], strict: bool) -> Result<Derived, SqliteError> {
        let sqlite = self.connection.sqlite();
        let mut collations = Vec::new();
        let mut generated = Vec::new();
        let mut indexed = Vec::new();
        for info in infos {
            let (_, collation, ..) = sqlite.column_metadata(None, self.name, &info.name)?;
            let collation = collation.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let affinity = if strict { info.declared.as_str() } else { affinity_name(&info.declared) };
            indexed.push([info.name.clone(), affinity.to_owned(), collation.clone()]);
            if info.hidden != VIRTUAL {
                collations.push(collation);
            }
            if matches!(info.hidden, VIRTUAL | STORED) {
                generated.push(self.program(&info.name)?);
            }
        }
        let sql = "SELECT l.origin || ':' || group_concat(x.cid || ' ' || x.coll || ' ' || x.desc) \
                   FROM pragma_index_list(?1) l, pragma_index_xinfo(l.name) x GROUP BY l.seq ORDER BY l.seq";
        let mut statement = sqlite.prepare(sql)?;
        let unique = statement.query_map([self.name], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(Derived { collations, unique, generated, indexed })
    }

    /// What SQLite runs to compute a generated column: the same text may mean something else after another change, and two texts
    /// may mean the same.
    fn program(&self, column: &str) -> Result<String, SqliteError> {
        let sql = format!("EXPLAIN SELECT {} FROM {} NOT INDEXED", quoted(column), quoted(self.name));
        let mut statement = self.connection.sqlite().prepare(&sql)?;
        let mut rows = statement.query([])?;
        let mut program = String::new();
        while let Some(row) = rows.next()? {
            let step: String = row.get(1)?;
            if matches!(step.as_str(), "Init" | "OpenRead" | "Transaction" | "Goto") {
                continue;
            }
            program.push_str(&step);
            for column in 2..=6 {
                program.push_str(&format!(" {:?}", row.get_ref(column)?));
            }
            program.push('\n');
        }
        Ok(program)
    }

    /// The default of every stored column, as SQLite reads it out of a record that is too short: a table with a record of
    /// only the first columns is given this table's text.
    fn defaults(
        &self,
        stored: &[&Info],
        record: &[usize],
        key_fields: usize,
    ) -> Result<Vec<OwnedValue>, SqliteError> {
        let mut defaults = vec![OwnedValue::NULL; stored.len()];
        let without_rowid = key_fields > 0;
        let present = if without_rowid { key_fields } else { 1 };
        let late: Vec<usize> =
            record.iter().copied().skip(present).filter(|at| stored[*at].has_default).collect();
        if late.is_empty() {
            return Ok(defaults);
        }
        let names: Vec<String> = (0..present).map(|at| format!("c{at}")).collect();
        let zeros: Vec<&str> = (0..present).map(|_| "0").collect();
        let suffix = if without_rowid {
            format!(", PRIMARY KEY({})) WITHOUT ROWID", names.join(", "))
        } else {
            ")".to_owned()
        };
        let short = Connection::in_memory(self.connection.encoding())?;
        short.execute(&format!(
            "CREATE TABLE t({}{suffix}; INSERT INTO t VALUES({})",
            names.join(", "),
            zeros.join(", ")
        ))?;
        let sql: String = self.connection.sqlite().query_row(
            "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE",
            [self.name],
            |row| row.get(0),
        )?;
        short.execute("PRAGMA writable_schema = ON")?;
        let update = "UPDATE sqlite_schema SET name = ?1, tbl_name = ?1, sql = ?2";
        short.sqlite().execute(update, [self.name, &sql])?;
        short.execute("PRAGMA writable_schema = RESET")?;
        let columns: Vec<String> = late.iter().map(|at| quoted(&stored[*at].name)).collect();
        let select = format!("SELECT {} FROM {} NOT INDEXED", columns.join(", "), quoted(self.name));
        short.prepare(&select)?.query::<SqliteError>(&[], |row| {
            for (at, value) in late.iter().zip(row.values()) {
                defaults[*at] = value.into();
            }
            Ok(())
        })?;
        Ok(defaults)
    }
}

/// `hidden` of a virtual generated column.
const VIRTUAL: i64 = 2;
/// `hidden` of a stored generated column.
const STORED: i64 = 3;

/// What reading a column of this declared type does.
fn affinity(declared: &str, strict: bool) -> Affinity {
    let real = if strict { declared.eq_ignore_ascii_case("REAL") } else { affinity_name(declared) == "REAL" };
    if real { Affinity::Real } else { Affinity::AsStored }
}

/// The affinity of a declared type outside of STRICT tables (SQLite, "Datatypes", section 3.1).
fn affinity_name(declared: &str) -> &'static str {
    let declared = declared.to_ascii_uppercase();
    let has = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
    if has(&["INT"]) {
        "INTEGER"
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        "TEXT"
    } else if has(&["BLOB"]) || declared.is_empty() {
        "BLOB"
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        "REAL"
    } else {
        "NUMERIC"
    }
}

impl Column {
    /// A field of a stored record as reading it gives it.
    pub fn read<'v>(&self, stored: Value<'v>) -> Value<'v> {
        match (self.affinity, stored) {
            #[expect(
                clippy::cast_precision_loss,
                reason = "SQLite stores a real as an integer only when nothing is lost"
            )]
            (Affinity::Real, Value::Integer(value)) => Value::Real(value as f64),
            (_, value) => value,
        }
    }
}
