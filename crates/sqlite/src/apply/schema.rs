//! What the schema changes of one commit come to: the schema they lead to, and the steps that get there.
//!
//! Decides only; nothing is done to the replica here. The steps do not follow the changes one by one: whatever the expected
//! schema has and the replica lacks in the end is made anew, so that an index that went with its table comes back by itself.

use std::collections::{BTreeMap, BTreeSet};

use synddb_protocol::submission::{ObjectKind, SchemaChange, SchemaRow, TextEncoding};

use super::{ApplyError, Divergence};
use crate::rules::gathered::{Inner, Table};
use crate::schema::{Layout, Object, Objects, SchemaError, is_outside, to_text};
use crate::state::RunningState;

/// The table that SQLite makes by itself, and that nothing else can make.
pub(super) const SEQUENCE: &str = "sqlite_sequence";

/// A table whose row of `sqlite_schema` changes while its rows stay.
#[derive(Debug)]
pub(super) struct Amended {
    /// Before.
    pub(super) old: Object,
    /// After.
    pub(super) new: Object,
}

/// What the schema changes of one commit come to.
#[derive(Debug)]
pub(super) struct Plan {
    /// The schema after the commit.
    pub(super) expected: Objects,
    /// The layouts after the commit.
    pub(super) layouts: BTreeMap<String, Layout>,
    /// Views, triggers and virtual tables whose rows go, for good or to come back in the end.
    pub(super) unlisted: Vec<(&'static str, Vec<u8>)>,
    /// Indexes with a text that go, for good or to be made anew.
    pub(super) indexes: Vec<String>,
    /// Tables that go, for good or to be made anew.
    pub(super) dropped: Vec<String>,
    /// Tables whose text or name changes.
    pub(super) amended: Vec<Amended>,
    /// Tables that are made.
    pub(super) created: Vec<Object>,
    /// Tables whose columns changed in number: their rows read otherwise.
    pub(super) rescanned: Vec<String>,
}

/// The changes, sorted out, before anything is concluded from them.
#[derive(Default)]
struct Sorted {
    /// Old and new objects of amends.
    amends: Vec<Amended>,
    /// Old and new objects of rebuilds.
    rebuilds: Vec<Amended>,
    drops: Vec<Object>,
    creates: Vec<Object>,
}

impl Plan {
    /// Works out what the changes come to.
    ///
    /// # Errors
    /// [`ApplyError`] when a change does not fit the schema, or makes one that cannot be replicated.
    pub(super) fn new(changes: &[SchemaChange], state: &RunningState) -> Result<Self, ApplyError> {
        let mut expected = state.objects().clone();
        let sorted = Sorted::new(changes, &mut expected, state.encoding())?;
        let mut plan = Self {
            expected,
            layouts: state.layouts().clone(),
            unlisted: Vec::new(),
            indexes: Vec::new(),
            dropped: Vec::new(),
            amended: Vec::new(),
            created: Vec::new(),
            rescanned: Vec::new(),
        };
        plan.unlisted = sorted.unlisted(state.objects());
        let redefined = plan.tables(&sorted, state)?;
        plan.indexes = sorted.indexes(state.objects(), &plan.dropped, &redefined);
        Ok(plan)
    }

    /// Tells what becomes of tables that are watched.
    pub(super) fn tell(&self, watched: &mut Inner) {
        watched.schema_changed();
        let mut mark = |name: &str, mark: fn(&mut Table)| {
            if let Some(at) = watched.find(name) {
                let table = watched.table_mut(at);
                table.touched = true;
                mark(table);
            }
        };
        for name in &self.dropped {
            mark(name, |table| table.replaced = true);
        }
        for table in &self.created {
            mark(&table.name, |_| ());
        }
        for Amended { old, new } in &self.amended {
            if old.name != new.name {
                mark(&old.name, |table| table.replaced = true);
                mark(&new.name, |table| (table.replaced, table.altered) = (true, true));
            } else if old.row.sql != new.row.sql {
                mark(&new.name, |table| table.altered = true);
            }
        }
    }

    /// Sorts out the tables that store rows, and returns those of which a column has another name.
    fn tables(&mut self, sorted: &Sorted, state: &RunningState) -> Result<BTreeSet<String>, ApplyError> {
        let encoding = state.encoding();
        let stored = |object: &&Object| object.stores_rows();
        for object in sorted.drops.iter().filter(stored) {
            self.dropped.push(object.name.clone());
        }
        self.dropped.extend(sorted.rebuilds.iter().map(|rebuilt| rebuilt.old.name.clone()));
        let gone = sorted.drops.iter().chain(sorted.rebuilds.iter().map(|rebuilt| &rebuilt.old));
        let amended: Vec<&Amended> = sorted.amends.iter().filter(|table| table.old.stores_rows()).collect();
        for object in gone.chain(amended.iter().map(|table| &table.old)).filter(stored) {
            self.layouts.remove(&object.name);
        }
        let rebuilt = sorted.rebuilds.iter().map(|rebuilt| &rebuilt.new);
        for object in sorted.creates.iter().filter(stored).chain(rebuilt) {
            self.layouts.insert(object.name.clone(), layout(object, encoding)?);
            self.created.push(object.clone());
        }
        let mut redefined = BTreeSet::new();
        for Amended { old, new } in amended {
            let before = state.layout(&old.name).ok_or_else(|| unfit(old, "the table has no layout"))?;
            let after = if old.row == new.row { before.clone() } else { layout(new, encoding)? };
            if !after.keeps_rows_of(before) {
                return Err(unfit(new, "stored rows would mean something else"));
            }
            if after.columns.len() != before.columns.len() {
                self.rescanned.push(new.name.clone());
            }
            if !after.keeps_indexes_of(before) {
                redefined.insert(old.name.clone());
            }
            self.layouts.insert(new.name.clone(), after);
            self.amended.push(Amended { old: old.clone(), new: new.clone() });
        }
        Ok(redefined)
    }
}

impl Sorted {
    /// Applies the changes to `expected`, all old objects out before any new one goes in: names may have been swapped.
    fn new(
        changes: &[SchemaChange],
        expected: &mut Objects,
        encoding: TextEncoding,
    ) -> Result<Self, ApplyError> {
        let mut sorted = Self::default();
        for change in changes {
            let (kind, name, row) = match change {
                SchemaChange::Drop { kind, name } => (*kind, name, None),
                SchemaChange::Amend { name, row, place } | SchemaChange::Rebuild { name, row, place } => {
                    (row.kind, name, Some((row, *place)))
                }
                SchemaChange::Create { row, place } => {
                    sorted.creates.push(object(row, *place, encoding)?);
                    continue;
                }
            };
            let Some(old) = expected.remove(kind, name) else {
                let name = to_text(name, encoding)?;
                return Err(Divergence::Schema { kind: word(kind), name, why: "it is not there" }.into());
            };
            let Some((row, place)) = row else {
                sorted.drops.push(old);
                continue;
            };
            let amended = Amended { new: object(row, place, encoding)?, old };
            let stores = (amended.old.stores_rows(), amended.new.stores_rows());
            if stores.0 != stores.1 {
                return Err(unfit(&amended.new, "a table that stores rows and one that does not"));
            }
            match change {
                SchemaChange::Rebuild { .. } if !stores.0 => {
                    return Err(unfit(&amended.new, "only what stores rows can be rebuilt"));
                }
                SchemaChange::Rebuild { .. } => sorted.rebuilds.push(amended),
                SchemaChange::Drop { .. } | SchemaChange::Create { .. } | SchemaChange::Amend { .. } => {
                    sorted.amends.push(amended);
                }
            }
        }
        let changed = sorted.amends.iter().chain(&sorted.rebuilds).map(|amended| &amended.new);
        for object in sorted.creates.iter().chain(changed) {
            if expected.get(object.row.kind, &object.row.name).is_some() {
                return Err(unfit(object, "it is there already"));
            }
            expected.insert(object.clone());
        }
        Ok(sorted)
    }

    /// The old rows to delete: what changed and has no tree, and every trigger of a table or view that changed, since a trigger
    /// cannot stand in a schema without its table.
    fn unlisted(&self, objects: &Objects) -> Vec<(&'static str, Vec<u8>)> {
        let changed = self.amends.iter().chain(&self.rebuilds).map(|amended| &amended.old);
        let mut unlisted = BTreeSet::new();
        let mut tables = BTreeSet::new();
        for object in changed.chain(&self.drops) {
            match object.row.kind {
                ObjectKind::Table | ObjectKind::View => {
                    tables.insert(object.name.to_ascii_lowercase());
                    if !object.stores_rows() {
                        unlisted.insert((word(object.row.kind), &object.row.name));
                    }
                }
                ObjectKind::Trigger => {
                    unlisted.insert((word(object.row.kind), &object.row.name));
                }
                ObjectKind::Index => {}
            }
        }
        for object in objects.iter().filter(|object| object.row.kind == ObjectKind::Trigger) {
            if tables.contains(&object.table.to_ascii_lowercase()) {
                unlisted.insert((word(object.row.kind), &object.row.name));
            }
        }
        unlisted.into_iter().map(|(kind, name)| (kind, name.clone())).collect()
    }

    /// The indexes to drop: those that go, those whose text changed, and those of tables in which a name may mean another column
    /// now. What goes with its table is left out.
    fn indexes(&self, objects: &Objects, dropped: &[String], renamed: &BTreeSet<String>) -> Vec<String> {
        let changed = self.amends.iter().filter(|index| index.old.row.sql != index.new.row.sql);
        let changed: BTreeSet<&[u8]> = changed
            .map(|index| &index.old)
            .chain(&self.drops)
            .filter(|object| object.row.kind == ObjectKind::Index)
            .map(|object| object.row.name.as_slice())
            .collect();
        objects
            .iter()
            .filter(|object| object.row.kind == ObjectKind::Index && object.sql.is_some())
            .filter(|index| changed.contains(index.row.name.as_slice()) || renamed.contains(&index.table))
            .filter(|index| !dropped.contains(&index.table))
            .map(|index| index.name.clone())
            .collect()
    }
}

/// The object of a change.
fn object(row: &SchemaRow, place: i64, encoding: TextEncoding) -> Result<Object, ApplyError> {
    let object = Object::new(row.clone(), place, 0, encoding)?;
    for name in [&object.name, &object.table] {
        if name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("_synddb")) {
            return Err(SchemaError::Reserved { name: object.name.clone() }.into());
        }
        if is_outside(name) {
            return Err(unfit(&object, "the statistics of a file are no part of what is replicated"));
        }
    }
    Ok(object)
}

/// The layout of a table that a commit brings. Its text goes to SQLite, so it has to be what SQLite writes for a table.
fn layout(table: &Object, encoding: TextEncoding) -> Result<Layout, ApplyError> {
    require(table, &["CREATE TABLE"])?;
    Ok(Layout::of(table, encoding)?)
}

/// Refuses a text that is about to be run and does not begin with one of these words.
pub(super) fn require(object: &Object, starts: &[&str]) -> Result<(), ApplyError> {
    let sql = object.sql.as_deref().unwrap_or_default();
    let begins = |start: &&str| {
        let words: Vec<&str> = start.split(' ').collect();
        let found: Vec<&str> = sql.split_ascii_whitespace().take(words.len()).collect();
        found.len() == words.len() && found.iter().zip(words).all(|(one, two)| one.eq_ignore_ascii_case(two))
    };
    if starts.iter().any(begins) {
        return Ok(());
    }
    Err(unfit(object, "its text is not what makes such an object"))
}

/// A divergence that concerns this object.
pub(super) fn unfit(object: &Object, why: &'static str) -> ApplyError {
    Divergence::Schema { kind: word(object.row.kind), name: object.name.clone(), why }.into()
}

/// The kind as `sqlite_schema` names it.
pub(super) fn word(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Table => "table",
        ObjectKind::Index => "index",
        ObjectKind::View => "view",
        ObjectKind::Trigger => "trigger",
    }
}
