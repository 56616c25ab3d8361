//! A text for a table in which its STORED generated columns are plain ones, made of what SQLite says about the table.
//!
//! No SQL is parsed. What the text means is asked of SQLite too: as a layout before it is used, and as columns and indexes when it stands
//! in the schema.
//!
//! Left out is what has nothing to do with how rows are stored: CHECK, REFERENCES, ON CONFLICT and AUTOINCREMENT.

use synddb_protocol::state::Value;

use crate::connection::{Connection, SqliteError, quoted};
use crate::schema::{Identity, Layout, Object, from_text};

/// The function that answers with the value of a VIRTUAL column, which it is given by its place among them.
pub(super) const GIVEN: &str = "_synddb_virtual";

/// What a text has in place of VIRTUAL columns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Virtual {
    /// Columns that ask [`GIVEN`].
    Given,
    /// Columns that are NULL: the same to whoever only looks at the schema.
    Null,
    /// No columns.
    LeftOut,
}

/// What SQLite says about a table's columns and the indexes on it, but for what computes a column.
pub(super) fn facts(connection: &Connection, table: &str) -> Result<Vec<String>, SqliteError> {
    let columns = "SELECT format('%w %w %d %d %d', name, type, \"notnull\", pk, hidden = 2) \
                   FROM pragma_table_xinfo(?1, 'main') ORDER BY cid";
    let indexes = "SELECT format('%w %d %s %d %d %d %w %d %w %d', l.name, l.\"unique\", l.origin, l.partial, \
                   x.seqno, x.cid, x.name, x.\"desc\", x.coll, x.key) \
                   FROM pragma_index_list(?1, 'main') l, pragma_index_xinfo(l.name, 'main') x \
                   ORDER BY l.name, x.seqno";
    let mut facts = Vec::new();
    for sql in [columns, indexes] {
        let mut statement = connection.sqlite().prepare(sql)?;
        for fact in statement.query_map([table], |row| row.get(0))? {
            facts.push(fact?);
        }
    }
    Ok(facts)
}

/// A table alone in a database in memory, to ask SQLite about it.
pub(super) struct Sketch {
    pub(super) connection: Connection,
    columns: Vec<Column>,
    keys: Vec<Key>,
    strict: bool,
}

/// A row of `PRAGMA table_xinfo`.
struct Column {
    name: String,
    declared: String,
    collation: String,
    not_null: bool,
    default: Option<String>,
    is_virtual: bool,
}

impl Column {
    /// The declared type as SQL writes it. A type may be any text if it is quoted; SQLite keeps it without the quotes.
    fn type_text(&self) -> String {
        let is_word = |word: &&str| self.declared.eq_ignore_ascii_case(word);
        if self.declared.is_empty() || STANDARD_TYPES.iter().any(is_word) {
            self.declared.clone()
        } else {
            quoted(&self.declared)
        }
    }
}

/// The types that SQLite knows by name; STRICT tables take only these, and no quotes.
const STANDARD_TYPES: [&str; 6] = ["ANY", "BLOB", "INT", "INTEGER", "REAL", "TEXT"];

/// A PRIMARY KEY or UNIQUE constraint that has an index.
struct Key {
    /// In the name that SQLite gave to its index.
    number: u64,
    primary: bool,
    terms: Vec<String>,
    descending: bool,
}

impl Sketch {
    /// Has SQLite read a table's own text.
    ///
    /// # Errors
    /// [`SqliteError`] when it does not take it.
    pub(super) fn of(replica: &Connection, table: &Object) -> Result<Self, SqliteError> {
        let connection = Connection::in_memory(replica.encoding())?;
        let text = table.sql.as_deref().unwrap_or_default();
        // One statement only: what stands behind it is no part of the table.
        connection.while_only_making(|| connection.prepare(text)?.execute(&[]).map(drop))?;
        let sqlite = connection.sqlite();
        let sql = "SELECT strict FROM pragma_table_list WHERE schema = 'main' AND name = ?1";
        let strict = sqlite.query_row(sql, [&table.name], |row| row.get(0))?;
        let (columns, keys) = (columns(&connection, &table.name)?, keys(&connection, &table.name)?);
        Ok(Self { connection, columns, keys, strict })
    }

    /// The names of the VIRTUAL columns, as SQL writes them.
    pub(super) fn virtuals(&self) -> Vec<String> {
        self.columns.iter().filter(|column| column.is_virtual).map(|column| quoted(&column.name)).collect()
    }

    /// The table with plain columns where it has STORED generated ones. Without VIRTUAL columns it has no UNIQUE constraints
    /// either: then it is there to hold one row.
    pub(super) fn text(&self, layout: &Layout, name: &str, virtuals: Virtual) -> String {
        let mut parts = Vec::new();
        let mut places = 0..;
        let mut stored = layout.columns.iter();
        let inline = self.inline_key(layout);
        for column in &self.columns {
            let mut part = format!(
                "{} {} COLLATE {}",
                quoted(&column.name),
                column.type_text(),
                quoted(&column.collation)
            );
            if column.not_null {
                part.push_str(" NOT NULL");
            }
            if column.is_virtual {
                let place = places.next().unwrap_or(0);
                match virtuals {
                    Virtual::Given => part.push_str(&format!(" AS ({}({place})) VIRTUAL", quoted(GIVEN))),
                    Virtual::Null => part.push_str(" AS (NULL) VIRTUAL"),
                    Virtual::LeftOut => continue,
                }
            } else {
                // A record may be too short for it. What is read for it here is a DEFAULT as this SQLite makes it, on both sides.
                let is_short = stored.next().is_some_and(|stored| stored.default.borrow() != Value::Null);
                if let Some(default) = column.default.as_deref().filter(|_| is_short) {
                    part.push_str(&self.default(default));
                }
            }
            if let Some((of, key)) = &inline
                && *of == column.name
                && (virtuals != Virtual::LeftOut || !layout.has_hidden_rowid())
            {
                part.push_str(key);
            }
            parts.push(part);
        }
        for key in &self.keys {
            let primary = key.primary && inline.is_none();
            if primary && (virtuals != Virtual::LeftOut || !layout.is_rowid_table()) {
                parts.push(format!("PRIMARY KEY({})", key.terms.join(", ")));
            } else if !key.primary && virtuals != Virtual::LeftOut {
                parts.push(format!("UNIQUE({})", key.terms.join(", ")));
            }
        }
        let mut options = Vec::new();
        if !layout.is_rowid_table() {
            options.push("WITHOUT ROWID");
        }
        if self.strict {
            options.push("STRICT");
        }
        format!("CREATE TABLE {}({}) {}", quoted(name), parts.join(", "), options.join(", "))
    }

    /// A key that must stand with its column: one that is the rowid, and one that would be if `DESC` stood elsewhere.
    fn inline_key(&self, layout: &Layout) -> Option<(String, &'static str)> {
        if let Identity::IntegerKey { column } = layout.identity {
            return Some((layout.columns[column].name.clone(), " PRIMARY KEY"));
        }
        let key = self.keys.iter().find(|key| key.primary && key.descending && key.terms.len() == 1)?;
        let column = self.columns.iter().find(|column| key.terms[0].starts_with(&quoted(&column.name)))?;
        let is_literal = layout.is_rowid_table() && column.declared.eq_ignore_ascii_case("INTEGER");
        is_literal.then(|| (column.name.clone(), " PRIMARY KEY DESC"))
    }

    /// A DEFAULT as SQL writes it: in parentheses, unless it is a word that SQLite then takes for a column.
    fn default(&self, text: &str) -> String {
        let clause = format!(" DEFAULT ({text})");
        let takes = self.connection.prepare(&format!("CREATE TABLE _synddb_default(a{clause})"));
        if takes.is_ok() { clause } else { format!(" DEFAULT {text}") }
    }

    /// Whether rows stored under the table's own text mean the same under the other.
    pub(super) fn means_the_same(&self, replica: &Connection, table: &Object, layout: &Layout) -> bool {
        let text = self.text(layout, &layout.name, Virtual::Null);
        let mut row = table.row.clone();
        row.sql = Some(from_text(&text, replica.encoding()));
        let other = Object::new(row, table.place, table.root, replica.encoding());
        let Ok(Ok(other)) = other.map(|other| Layout::of(&other, replica.encoding())) else { return false };
        let mut columns = layout.columns.clone();
        for column in &mut columns {
            column.generated = false;
        }
        other.identity == layout.identity
            && other.record == layout.record
            && other.columns == columns
            && other.keeps_indexes_of(layout)
            && layout.keeps_indexes_of(&other)
    }
}

fn columns(connection: &Connection, table: &str) -> Result<Vec<Column>, SqliteError> {
    let sqlite = connection.sqlite();
    let sql = "SELECT name, type, \"notnull\", dflt_value, hidden FROM pragma_table_xinfo(?1) ORDER BY cid";
    let mut statement = sqlite.prepare(sql)?;
    let found = statement.query_map([table], |row| {
        Ok(Column {
            name: row.get(0)?,
            declared: row.get(1)?,
            collation: String::new(),
            not_null: row.get(2)?,
            default: row.get(3)?,
            is_virtual: row.get::<_, i64>(4)? == 2,
        })
    })?;
    let mut columns = found.collect::<Result<Vec<_>, _>>()?;
    for column in &mut columns {
        let (_, collation, ..) = sqlite.column_metadata(None, table, &column.name)?;
        column.collation =
            collation.map_or_else(|| "BINARY".to_owned(), |name| name.to_string_lossy().into_owned());
    }
    Ok(columns)
}

/// The keys in the order in which SQLite numbered their indexes: made in this order, they get the same numbers.
fn keys(connection: &Connection, table: &str) -> Result<Vec<Key>, SqliteError> {
    let sql = "SELECT l.name, l.origin = 'pk', x.name, x.coll, x.\"desc\" \
               FROM pragma_index_list(?1) l, pragma_index_xinfo(l.name) x \
               WHERE x.key ORDER BY l.seq, x.seqno";
    let mut statement = connection.sqlite().prepare(sql)?;
    let mut rows = statement.query([table])?;
    let mut keys: Vec<Key> = Vec::new();
    while let Some(row) = rows.next()? {
        let index: String = row.get(0)?;
        let number = index.rsplit('_').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        let (primary, descending) = (row.get(1)?, row.get(4)?);
        let (column, collation): (String, String) = (row.get(2)?, row.get(3)?);
        let direction = if descending { " DESC" } else { "" };
        let term = format!("{} COLLATE {}{direction}", quoted(&column), quoted(&collation));
        match keys.last_mut().filter(|key| key.number == number) {
            Some(key) => key.terms.push(term),
            None => keys.push(Key { number, primary, terms: vec![term], descending }),
        }
    }
    keys.sort_by_key(|key| key.number);
    Ok(keys)
}
