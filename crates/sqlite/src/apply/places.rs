//! The order of `sqlite_schema`: each object at the rowid it has in the application's database.
//!
//! Objects that are outside (statistics, the replica's own tables) make room.

use std::collections::{BTreeMap, BTreeSet};

use synddb_protocol::state::Value;

use super::ApplyError;
use super::alter::{list, no_place};
use super::schema::{unfit, word};
use crate::connection::Connection;
use crate::schema::{Object, Objects, is_outside};

/// Moves every object to its place. The schema is writable.
///
/// # Errors
/// [`ApplyError`] when a place is impossible.
pub(super) fn settle(connection: &Connection, expected: &Objects) -> Result<(), ApplyError> {
    let listed = list(connection)?;
    let moves = moves(&listed, expected)?;
    let Some(last) = listed.iter().chain(expected.iter()).max_by_key(|object| object.place) else {
        return Ok(());
    };
    let mut update = connection.prepare("UPDATE main.sqlite_schema SET rowid = ?2 WHERE rowid = ?1")?;
    // First all of them out of the way, past every place that is taken now or will be.
    let room = i64::try_from(2 * listed.len() + 1).unwrap_or(i64::MAX);
    let away = last.place.checked_add(room).ok_or_else(|| no_place(last))?;
    for (away, (from, _)) in (away..).zip(&moves) {
        update.execute(&[Value::Integer(*from), Value::Integer(away)])?;
    }
    for (away, (_, to)) in (away..).zip(&moves) {
        update.execute(&[Value::Integer(away), Value::Integer(*to)])?;
    }
    Ok(())
}

/// From where to where rows have to move.
fn moves(listed: &[Object], expected: &Objects) -> Result<BTreeMap<i64, i64>, ApplyError> {
    let mut taken = BTreeSet::new();
    for object in expected.iter() {
        if !taken.insert(object.place) {
            return Err(unfit(object, "another object has its place"));
        }
    }
    let outside = |object: &&Object| is_outside(&object.name) || is_outside(&object.table);
    let mut moves = BTreeMap::new();
    if listed.iter().filter(outside).any(|object| taken.contains(&object.place)) {
        // All of them move, so that each index stays behind its table.
        let last = listed.iter().chain(expected.iter()).map(|object| object.place).max().unwrap_or(0);
        let mut next = last;
        for object in listed.iter().filter(outside) {
            next = next.checked_add(1).ok_or_else(|| no_place(object))?;
            moves.insert(object.place, next);
        }
    }
    for object in listed.iter().filter(|object| !outside(object)) {
        let expected = expected.get(object.row.kind, &object.row.name);
        let expected = expected.ok_or_else(|| unfit(object, "the commit's schema does not have it"))?;
        if expected.place != object.place {
            moves.insert(object.place, expected.place);
        }
    }
    Ok(moves)
}

/// Compares the replica's schema with what it should be.
///
/// # Errors
/// [`ApplyError::Divergence`] of the first object that differs.
pub(super) fn check(found: &Objects, expected: &Objects) -> Result<(), ApplyError> {
    for object in expected.iter() {
        let Some(found) = found.get(object.row.kind, &object.row.name) else {
            return Err(unfit(object, "the replica does not have it"));
        };
        if found.row.sql != object.row.sql {
            return Err(unfit(object, "the replica has another text"));
        }
        if found.row.table != object.row.table {
            return Err(unfit(object, "it belongs to another table"));
        }
        if found.place != object.place {
            return Err(unfit(object, "it has another place"));
        }
    }
    let known: BTreeSet<_> =
        expected.iter().map(|object| (word(object.row.kind), &object.row.name)).collect();
    match found.iter().find(|object| !known.contains(&(word(object.row.kind), &object.row.name))) {
        Some(object) => Err(unfit(object, "the commit's schema does not have it")),
        None => Ok(()),
    }
}
