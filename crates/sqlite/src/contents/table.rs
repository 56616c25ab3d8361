//! How a table's rows are read in the order of their identity.
//!
//! A run between two keys of several columns is read in segments, each of which fixes a beginning of the key and bounds the next column, so
//! that SQLite finds each by the key whatever directions and collations it has. What a key is before or behind is SQLite's to say, in the
//! words of the table: nothing is compared here.

use synddb_protocol::contents::Key;
use synddb_protocol::state::{TableHash, Value};
use synddb_protocol::submission::TextEncoding;

use super::ContentsError;
use super::values::owned;
use crate::connection::{Connection, SqliteError, quoted};
use crate::schema::{Identity, Layout};
use crate::state::{StateError, element};
use crate::value::OwnedValue;

/// A table that is read.
pub(super) struct Table<'l> {
    pub(super) layout: &'l Layout,
    /// The names of the columns that are read.
    pub(super) columns: Vec<String>,
    /// The places among them of what identifies a row.
    pub(super) key: Vec<usize>,
    /// What orders the rows.
    terms: Vec<Term>,
}

/// A column that orders the rows.
struct Term {
    /// Its place among the columns that are read.
    column: usize,
    /// How SQL says it, with its collation.
    sql: String,
    /// The collation alone, in quotes.
    collation: String,
    descending: bool,
}

/// A part of a run that one statement reads.
struct Segment {
    conditions: Vec<String>,
    values: Vec<OwnedValue>,
}

impl Segment {
    fn and(&mut self, term: &Term, operator: &str, value: &OwnedValue) {
        self.values.push(value.clone());
        self.conditions.push(format!("{} {operator} ?{}", term.sql, self.values.len()));
    }

    fn fixed(terms: &[Term], key: &[OwnedValue]) -> Self {
        let mut segment = Self { conditions: Vec::new(), values: Vec::new() };
        for (term, value) in terms.iter().zip(key) {
            segment.and(term, "=", value);
        }
        segment
    }
}

impl Term {
    const fn behind(&self) -> &'static str {
        if self.descending { "<" } else { ">" }
    }

    const fn before(&self, or_at: bool) -> &'static str {
        match (self.descending, or_at) {
            (true, false) => ">",
            (true, true) => ">=",
            (false, false) => "<",
            (false, true) => "<=",
        }
    }
}

/// A key as its table stores it.
pub(super) type Bound = Vec<OwnedValue>;

impl<'l> Table<'l> {
    pub(super) fn of(connection: &Connection, layout: &'l Layout) -> Result<Self, ContentsError> {
        let mut columns: Vec<String> = layout.columns.iter().map(|column| column.name.clone()).collect();
        let by_rowid = |column, name: &str| Term {
            column,
            sql: format!("t.{}", quoted(name)),
            collation: "BINARY".to_owned(),
            descending: false,
        };
        let (key, terms) = match &layout.identity {
            Identity::Rowid { name } => {
                columns.insert(0, (*name).to_owned());
                (vec![0], vec![by_rowid(0, name)])
            }
            Identity::IntegerKey { column } => (vec![*column], vec![by_rowid(*column, &columns[*column])]),
            Identity::Key { columns: key } => (key.clone(), key_terms(connection, layout)?),
        };
        Ok(Self { layout, columns, key, terms })
    }

    /// The values of a row that order it.
    pub(super) fn key_of<'v>(&self, values: &[Value<'v>]) -> Vec<Value<'v>> {
        self.terms.iter().map(|term| values[term.column]).collect()
    }

    /// A key that somebody named, if it can be one of this table.
    pub(super) fn bound(&self, key: &Key, encoding: TextEncoding) -> Result<Bound, ContentsError> {
        let bound: Bound = key.iter().map(|value| owned(value, encoding)).collect();
        if bound.len() != self.terms.len() || bound.contains(&OwnedValue::NULL) {
            return Err(ContentsError::Key { columns: self.terms.len() });
        }
        Ok(bound)
    }

    /// Every row, accumulated.
    pub(super) fn fold(&self, connection: &Connection) -> Result<(u64, TableHash), ContentsError> {
        self.fold_between(connection, None, None)
    }

    /// The rows behind a key and through another, accumulated.
    pub(super) fn fold_between(
        &self,
        connection: &Connection,
        after: Option<&Bound>,
        through: Option<&Bound>,
    ) -> Result<(u64, TableHash), ContentsError> {
        let (mut rows, mut hash) = (0, TableHash::default());
        self.each::<ContentsError>(connection, after, through, |values| {
            self.add(&mut hash, values)?;
            rows += 1;
            Ok(())
        })?;
        Ok((rows, hash))
    }

    /// Adds a row.
    pub(super) fn add(&self, hash: &mut TableHash, values: &[Value<'_>]) -> Result<(), StateError> {
        let (rowid, columns) = element(self.layout, values)
            .ok_or_else(|| StateError::NoRowid { table: self.layout.name.clone() })?;
        hash.add(rowid, columns.iter().copied());
        Ok(())
    }

    /// Shows the rows behind a key and through another, in their order.
    pub(super) fn each<E: From<ContentsError> + From<SqliteError>>(
        &self,
        connection: &Connection,
        after: Option<&Bound>,
        through: Option<&Bound>,
        mut each: impl FnMut(&[Value<'_>]) -> Result<(), E>,
    ) -> Result<(), E> {
        let columns: Vec<String> = self.columns.iter().map(|name| format!("t.{}", quoted(name))).collect();
        let order: Vec<String> = self
            .terms
            .iter()
            .map(|term| if term.descending { format!("{} DESC", term.sql) } else { term.sql.clone() })
            .collect();
        // An index may hold other values than its table only when the file is damaged, and then the table is what counts.
        let (columns, name, order) = (columns.join(", "), quoted(&self.layout.name), order.join(", "));
        for segment in self.segments(connection, after, through)? {
            let conditions = match segment.conditions.as_slice() {
                [] => String::new(),
                conditions => format!(" WHERE {}", conditions.join(" AND ")),
            };
            let sql =
                format!("SELECT {columns} FROM main.{name} AS t NOT INDEXED{conditions} ORDER BY {order}");
            let values: Vec<Value<'_>> = segment.values.iter().map(OwnedValue::borrow).collect();
            connection.prepare(&sql)?.query::<E>(&values, |row| each(&row.values()))?;
        }
        Ok(())
    }

    /// The segments of a run, in order: what shares most with `after` first, what shares most with `through` last.
    fn segments(
        &self,
        connection: &Connection,
        after: Option<&Bound>,
        through: Option<&Bound>,
    ) -> Result<Vec<Segment>, ContentsError> {
        let count = self.terms.len();
        let shared = match (after, through) {
            (Some(after), Some(through)) => match self.shared(connection, after, through)? {
                Some(shared) => shared,
                None => return Ok(Vec::new()),
            },
            (Some(_), None) | (None, _) => 0,
        };
        let mut segments = Vec::new();
        if let Some(after) = after {
            for at in (shared + 1..count).rev() {
                let mut segment = Segment::fixed(&self.terms[..at], after);
                segment.and(&self.terms[at], self.terms[at].behind(), &after[at]);
                segments.push(segment);
            }
        }
        let term = &self.terms[shared];
        let mut middle = Segment::fixed(&self.terms[..shared], after.or(through).map_or(&[], Vec::as_slice));
        if let Some(after) = after {
            middle.and(term, term.behind(), &after[shared]);
        }
        if let Some(through) = through {
            middle.and(term, term.before(shared + 1 == count), &through[shared]);
        }
        segments.push(middle);
        if let Some(through) = through {
            for at in shared + 1..count {
                let mut segment = Segment::fixed(&self.terms[..at], through);
                segment.and(&self.terms[at], self.terms[at].before(at + 1 == count), &through[at]);
                segments.push(segment);
            }
        }
        Ok(segments)
    }

    /// With how many columns two keys begin alike; `None` when no row is behind the first and before or at the second.
    fn shared(
        &self,
        connection: &Connection,
        after: &Bound,
        through: &Bound,
    ) -> Result<Option<usize>, ContentsError> {
        for (at, term) in self.terms.iter().enumerate() {
            let (collation, before) = (&term.collation, term.before(false));
            let sql = format!("SELECT ?1 = ?2 COLLATE {collation}, ?1 {before} ?2 COLLATE {collation}");
            let (mut alike, mut in_order) = (false, false);
            connection.prepare(&sql)?.query::<ContentsError>(
                &[after[at].borrow(), through[at].borrow()],
                |row| {
                    (alike, in_order) =
                        (row.value(0) == Value::Integer(1), row.value(1) == Value::Integer(1));
                    Ok(())
                },
            )?;
            if !alike {
                return Ok(in_order.then_some(at));
            }
        }
        Ok(None)
    }
}

/// The key of a WITHOUT ROWID table as it orders the table's rows.
fn key_terms(connection: &Connection, layout: &Layout) -> Result<Vec<Term>, ContentsError> {
    let sql = "SELECT x.name, x.coll, x.\"desc\" FROM pragma_index_list(?1) l, pragma_index_xinfo(l.name) x \
               WHERE l.origin = 'pk' AND x.key ORDER BY x.seqno";
    let mut statement = connection.sqlite().prepare(sql).map_err(SqliteError::from)?;
    let found = statement.query_map([&layout.name], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?))
    });
    let found: Vec<_> =
        found.and_then(|rows| rows.collect::<rusqlite::Result<_>>()).map_err(SqliteError::from)?;
    let mut terms = Vec::with_capacity(found.len());
    for (name, collation, descending) in found {
        let column = layout.columns.iter().position(|column| column.name == name);
        let column = column.ok_or(StateError::Schema(crate::schema::SchemaError::Damaged {
            what: "a key names no column",
        }))?;
        let collation = quoted(&collation);
        terms.push(Term {
            column,
            sql: format!("t.{} COLLATE {collation}", quoted(&name)),
            collation,
            descending,
        });
    }
    if terms.is_empty() {
        let what = "a table without rowid has no key";
        return Err(StateError::Schema(crate::schema::SchemaError::Damaged { what }).into());
    }
    Ok(terms)
}
