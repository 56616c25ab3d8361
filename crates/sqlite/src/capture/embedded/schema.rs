//! A transaction that changed the schema.
//!
//! Rows of a table that is new, or was rewritten, travel whole. Of a table that stayed only what changed travels, and that nothing else did is
//! proven: the rows that were there, with the changes that were recorded, must hash to what a scan finds. Where they do not (the table was
//! dropped and made again alike, or two tables swapped their names while rows were written) the table travels whole as well.

use synddb_protocol::state::{TableHash, Value};
use synddb_protocol::submission::{ObjectKind, SchemaChange};

use super::rows::{self, Effect, Lookups, Out};
use super::touched::Touched;
use super::{OUTBOX_TABLE, RecordError};
use crate::connection::Connection;
use crate::schema::{
    Layout, Object, Objects, SchemaDifference, SchemaError, TableFate, check_indexes, difference,
};
use crate::state::{RunningState, scan_table};

/// Captures the new schema and the rows of every table, and moves the state along.
pub(super) fn change(
    connection: &Connection,
    state: &mut RunningState,
    mut touched: Touched,
    lookups: &mut Lookups,
    out: &mut Out,
) -> Result<Vec<SchemaChange>, RecordError> {
    refuse_reserved(connection)?;
    let before = state.schema();
    let objects = Objects::read(connection)?;
    let layouts = state.layouts_of(&objects)?;
    check_indexes(&objects, Some(state.objects()), state.encoding())?;
    let SchemaDifference { mut changes, tables } =
        difference((state.objects(), state.layouts()), (&objects, &layouts));
    let renames: Vec<(String, String)> = tables.iter().filter_map(renamed).collect();
    state.rename_tables(&renames);
    state.set_schema(objects.clone(), layouts.clone());
    for fate in tables {
        let (name, kept) = match &fate {
            TableFate::New { name } => (name, None),
            TableFate::Kept { before: name, after, .. } => (after, before.layouts.get(name)),
        };
        let layout =
            layouts.get(name).ok_or(SchemaError::Damaged { what: "a table is not in its own schema" })?;
        let Some(kept) = kept else {
            *state.table(name) = rows::write_all(connection, layout, out)?;
            continue;
        };
        let mut rows = touched.remove(&kept.name).unwrap_or_default();
        if kept.name != *name {
            rows.append(touched.remove(name).unwrap_or_default());
        }
        if !rows.is_lost {
            let effects = rows::effects(connection, layout, rows, lookups)?;
            let before_rows = state.table(name).clone();
            if let Some(found) = proven(connection, layout, kept.columns.len(), before_rows, &effects)? {
                rows::write(out, layout, effects)?;
                *state.table(name) = found;
                continue;
            }
        }
        rebuild(&mut changes, &before.objects, &objects, (&kept.name, name))?;
        *state.table(name) = rows::write_all(connection, layout, out)?;
    }
    Ok(changes)
}

/// What the rows of a table hash to now, if they are those that there were with these effects, and no others. `had` is how many columns the
/// table had before, and `hash` what its rows hashed to.
fn proven(
    connection: &Connection,
    layout: &Layout,
    had: usize,
    mut hash: TableHash,
    effects: &[Effect],
) -> Result<Option<TableHash>, RecordError> {
    if had == layout.columns.len() {
        rows::account(&mut hash, layout, effects);
        let found = scan_table(connection, layout)?;
        return Ok((found == hash).then_some(found));
    }
    // What the table hashed to knows nothing of the columns that were added. So two things are proven: the columns that there were are as
    // expected, and the new ones hold their defaults, save where a row is one of the effects.
    let mut narrow = layout.clone();
    narrow.columns.truncate(had);
    rows::account(&mut hash, &narrow, effects);
    let added: Vec<Value<'_>> = layout.columns[had..].iter().map(|column| column.default.borrow()).collect();
    let (mut found, mut as_before, mut with_defaults) =
        (TableHash::default(), TableHash::default(), TableHash::default());
    rows::each(connection, layout, |rowid, columns| {
        found.add(rowid, columns.iter().copied());
        as_before.add(rowid, columns.iter().take(had).copied());
        with_defaults.add(rowid, columns.iter().take(had).chain(&added).copied());
        Ok(())
    })?;
    for effect in effects {
        effect.replace_added(&mut with_defaults, layout, &added);
    }
    Ok((as_before == hash && with_defaults == found).then_some(found))
}

fn renamed(fate: &TableFate) -> Option<(String, String)> {
    match fate {
        TableFate::Kept { before, after, .. } if before != after => Some((before.clone(), after.clone())),
        TableFate::Kept { .. } | TableFate::New { .. } => None,
    }
}

/// Has a table that stayed travel whole.
fn rebuild(
    changes: &mut Vec<SchemaChange>,
    before: &Objects,
    after: &Objects,
    (old, new): (&str, &str),
) -> Result<(), SchemaError> {
    let table = |objects: &Objects, name: &str| -> Result<Object, SchemaError> {
        let found = objects.tables().find(|table| table.name == name).cloned();
        found.ok_or(SchemaError::Damaged { what: "a table is not in its own schema" })
    };
    let (old, new) = (table(before, old)?, table(after, new)?);
    changes.retain(|change| {
        !matches!(change, SchemaChange::Amend { row, .. } if row.kind == ObjectKind::Table && row.name == new.row.name)
    });
    // Where they stand: after what is dropped and amended, before what is created.
    let at = changes
        .iter()
        .position(|change| matches!(change, SchemaChange::Create { .. }))
        .unwrap_or(changes.len());
    changes.insert(at, SchemaChange::Rebuild { name: old.row.name, row: new.row, place: new.place });
    Ok(())
}

/// Refuses names that are ours, save that of the table where captured changes wait.
fn refuse_reserved(connection: &Connection) -> Result<(), RecordError> {
    let sql =
        "SELECT name FROM main.sqlite_schema WHERE lower(substr(name, 1, 7)) = '_synddb' AND name <> ?1";
    let allowed = crate::schema::from_text(OUTBOX_TABLE, connection.encoding());
    connection.prepare(sql)?.query::<RecordError>(&[Value::Text(&allowed)], |row| match row.value(0) {
        Value::Text(name) => {
            let name = crate::schema::to_text(name, connection.encoding())?;
            Err(SchemaError::Reserved { name }.into())
        }
        Value::Null | Value::Integer(_) | Value::Real(_) | Value::Blob(_) => Ok(()),
    })
}
