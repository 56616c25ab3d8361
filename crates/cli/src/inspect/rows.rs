//! Schema and row changes, as SQL.

use synddb_protocol::chain;
use synddb_protocol::id::PartIndex;
use synddb_protocol::submission::{ObjectKind, SchemaChange, SchemaRow};
use synddb_sqlite::as_sql::{shown, statement};
use synddb_sqlite::changeset::{Reader, Step, Table};

use super::{Screen, Shown};
use crate::exit::CommandError;

/// Bytes of a schema object's SQL that are shown whatever the limit of a value is.
const SQL_BYTES: usize = 16 << 10;
/// Bytes of one statement that are shown whatever the limit of a value is: a table may have many columns.
const STATEMENT_BYTES: usize = 256 << 10;

impl Screen<'_> {
    /// The changes of the schema.
    pub(super) fn schema(&self, changes: &[SchemaChange]) -> Result<(), CommandError> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        for change in changes.iter().take(limit) {
            self.show(self.schema_change(change))?;
        }
        self.more("schema changes", changes.len().saturating_sub(limit) as u64)
    }

    fn schema_change(&self, change: &SchemaChange) -> Shown {
        let (what, was, row) = match change {
            SchemaChange::Drop { kind, name } => {
                let name = shown(&within(&text(name, Form::Utf8), self.name_bytes()));
                return Shown::Schema {
                    change: "drop".to_owned(),
                    kind: kind_text(*kind).to_owned(),
                    name,
                    was: None,
                    sql: None,
                };
            }
            SchemaChange::Create { row, .. } => ("create", None, row),
            SchemaChange::Amend { name, row, .. } => ("amend", Some(name), row),
            SchemaChange::Rebuild { name, row, .. } => ("rebuild", Some(name), row),
        };
        let SchemaRow { kind, name, sql, .. } = row;
        let form = Form::of(sql.as_deref());
        let named = |name: &[u8]| shown(&within(&text(name, form), self.name_bytes()));
        let sql = sql.as_ref().map(|sql| {
            let sql = within(&text(sql, form), self.value_bytes.max(SQL_BYTES));
            // A line break is what people write in a schema.
            sql.split('\n').map(shown).collect::<Vec<_>>().join("\n")
        });
        let was = was.filter(|was| *was != name).map(|was| named(was));
        Shown::Schema {
            change: what.to_owned(),
            kind: kind_text(*kind).to_owned(),
            name: named(name),
            was,
            sql,
        }
    }

    fn name_bytes(&self) -> usize {
        self.value_bytes.max(200)
    }

    /// The row changes of a commit, or of one part of it.
    pub(super) fn rows(&mut self, rows: &[u8], part: Option<PartIndex>) -> Result<(), CommandError> {
        if rows.is_empty() {
            return Ok(());
        }
        if part.is_some_and(|part| part != PartIndex::FIRST) {
            let text = "the rows of this part begin inside the changes of an earlier part, so they cannot be told apart here; \
                        `verify --full` applies them";
            return self.show(Shown::Note { text: text.to_owned() });
        }
        let mut reader = Reader::new(rows);
        let mut table: Option<Table> = None;
        let mut more = 0;
        let trouble = loop {
            let change = match reader.step() {
                Ok(None) => break None,
                Ok(Some(Step::Table(next))) => {
                    table = Some(next.clone());
                    continue;
                }
                Ok(Some(Step::Row(change))) => change,
                Err(error) => break Some(error),
            };
            // A change follows its table, which the reader has seen to.
            let Some(table) = &table else { continue };
            if self.rows == 0 {
                more += 1;
                continue;
            }
            self.rows -= 1;
            let sql = statement(table, &change, self.value_bytes);
            let sql = within(&sql, STATEMENT_BYTES.max(self.value_bytes.saturating_mul(3)));
            self.show(Shown::Row { sql })?;
        };
        self.more("rows", more)?;
        match (trouble, part) {
            (None, _) => Ok(()),
            (Some(_), Some(_)) => {
                let text = "the last change goes on in the next part".to_owned();
                self.show(Shown::Note { text })
            }
            (Some(error), None) => {
                let text = format!("what follows is no row change: {}", chain(&error));
                self.show(Shown::Note { text })
            }
        }
    }
}

/// How the bytes of a schema stand in their file.
#[derive(Clone, Copy)]
enum Form {
    Utf8,
    Utf16Le,
    Utf16Be,
}

impl Form {
    /// By the SQL beside it, whose first character is an ASCII one.
    const fn of(sql: Option<&[u8]>) -> Self {
        match sql {
            Some([_, 0, ..]) => Self::Utf16Le,
            Some([0, _, ..]) => Self::Utf16Be,
            Some(_) | None => Self::Utf8,
        }
    }
}

/// Bytes as text, with a mark in place of what is none.
fn text(bytes: &[u8], form: Form) -> String {
    let units = |of: fn([u8; 2]) -> u16| -> String {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| of([pair[0], pair[1]])).collect();
        String::from_utf16_lossy(&units)
    };
    match form {
        Form::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
        Form::Utf16Le => units(u16::from_le_bytes),
        Form::Utf16Be => units(u16::from_be_bytes),
    }
}

/// The first bytes of a text; says how many more there are.
fn within(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{} ... and {} bytes more", &text[..end], text.len() - end)
}

const fn kind_text(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Table => "table",
        ObjectKind::Index => "index",
        ObjectKind::View => "view",
        ObjectKind::Trigger => "trigger",
    }
}
