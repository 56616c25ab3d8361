//! The difference between two schemas: what a replica has to do, and what became of each table's rows.

use std::collections::{BTreeMap, HashMap};

use synddb_protocol::submission::{ObjectKind, SchemaChange};

use super::objects::rank;
use super::{Layout, Object, Objects};

/// What became of a table that stores rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableFate {
    /// It is the same table, perhaps under another name, and its stored rows mean what they meant.
    Kept {
        /// Its name before.
        before: String,
        /// Its name after.
        after: String,
        /// Whether a row now has other columns, or other values where its record is too short: its hash changes.
        rehashed: bool,
    },
    /// All its rows are new: the table is, or was rewritten.
    New {
        /// Its name.
        name: String,
    },
}

/// The difference between two schemas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaDifference {
    /// What a replica has to do, in order.
    pub changes: Vec<SchemaChange>,
    /// Every table of the new schema.
    pub tables: Vec<TableFate>,
}

/// Compares two schemas. `before` and `after` lay out the tables of each, by name.
///
/// Objects are told apart by kind and name; root pages move and are reused, so that one root under two names is only a hint of a
/// rename, and believed when the rows still fit.
pub fn difference(
    old: (&Objects, &BTreeMap<String, Layout>),
    new: (&Objects, &BTreeMap<String, Layout>),
) -> SchemaDifference {
    let comparison =
        Comparison { old: old.0, new: new.0, before: old.1, after: new.1, renames: renames(old, new) };
    comparison.difference()
}

/// New names of renamed tables, by old name.
type Renames = HashMap<Vec<u8>, Vec<u8>>;

fn renames(
    old: (&Objects, &BTreeMap<String, Layout>),
    new: (&Objects, &BTreeMap<String, Layout>),
) -> Renames {
    let gone = old.0.tables().filter(|table| new.0.get(ObjectKind::Table, &table.row.name).is_none());
    let roots: HashMap<u32, &Object> = gone.map(|table| (table.root, table)).collect();
    let come = new.0.tables().filter(|table| old.0.get(ObjectKind::Table, &table.row.name).is_none());
    come.filter_map(|table| {
        let before = roots.get(&table.root)?;
        let keeps = new.1.get(&table.name)?.keeps_rows_of(old.1.get(&before.name)?);
        keeps.then(|| (before.row.name.clone(), table.row.name.clone()))
    })
    .collect()
}

struct Comparison<'c> {
    old: &'c Objects,
    new: &'c Objects,
    before: &'c BTreeMap<String, Layout>,
    after: &'c BTreeMap<String, Layout>,
    renames: Renames,
}

impl Comparison<'_> {
    fn difference(&self) -> SchemaDifference {
        let mut drops = Vec::new();
        let mut amends = Vec::new();
        let mut rebuilds = Vec::new();
        let mut kept: HashMap<(ObjectKind, Vec<u8>), &Object> = HashMap::new();
        for object in self.old.iter() {
            match self.successor(object) {
                Some(successor) => {
                    kept.insert((successor.row.kind, successor.row.name.clone()), object);
                }
                None => drops.push(object),
            }
        }
        let mut creates = Vec::new();
        let mut tables = Vec::new();
        for object in self.new.iter() {
            let before = kept.get(&(object.row.kind, object.row.name.clone())).copied();
            let rebuilt =
                before.is_some_and(|before| object.stores_rows() && !self.keeps_rows(before, object));
            match before {
                None => creates.push(object),
                Some(before) if rebuilt => rebuilds.push((before, object)),
                Some(before) if before.row != object.row || before.place != object.place => {
                    amends.push((before, object));
                }
                Some(_) => {}
            }
            if object.stores_rows() {
                tables.push(self.fate(before.filter(|_| !rebuilt), object));
            }
        }
        drops.sort_by_key(|object| std::cmp::Reverse(rank(object.row.kind)));
        creates.sort_by_key(|object| (rank(object.row.kind), object.place));
        let mut changes = Vec::new();
        changes.extend(
            drops
                .into_iter()
                .map(|object| SchemaChange::Drop { kind: object.row.kind, name: object.row.name.clone() }),
        );
        changes.extend(amends.into_iter().map(|(before, object)| SchemaChange::Amend {
            name: before.row.name.clone(),
            row: object.row.clone(),
            place: object.place,
        }));
        changes.extend(rebuilds.into_iter().map(|(before, object)| SchemaChange::Rebuild {
            name: before.row.name.clone(),
            row: object.row.clone(),
            place: object.place,
        }));
        changes.extend(
            creates
                .into_iter()
                .map(|object| SchemaChange::Create { row: object.row.clone(), place: object.place }),
        );
        SchemaDifference { changes, tables }
    }

    /// The same object in the new schema.
    fn successor(&self, object: &Object) -> Option<&Object> {
        let kind = object.row.kind;
        let successor = if kind == ObjectKind::Table && self.renames.contains_key(&object.row.name) {
            self.new.get(kind, self.renames.get(&object.row.name)?)
        } else if let Some(name) = self.automatic_name(object) {
            self.new.get(kind, &name)
        } else {
            self.new.get(kind, &object.row.name)
        }?;
        // A virtual table has no rows of its own to keep, and none to give to a table that has.
        (successor.is_virtual() == object.is_virtual()).then_some(successor)
    }

    /// The new name of an index that SQLite made by itself for a table that was renamed: its number stays.
    fn automatic_name(&self, object: &Object) -> Option<Vec<u8>> {
        let table = self.renames.get(&object.row.table)?;
        if object.row.kind != ObjectKind::Index || object.row.sql.is_some() {
            return None;
        }
        let number = object.name.strip_prefix("sqlite_autoindex_")?.strip_prefix(object.table.as_str())?;
        let same = |index: &&Object| {
            index.row.table == *table && index.row.sql.is_none() && {
                let rest = index.name.strip_prefix("sqlite_autoindex_");
                rest.and_then(|rest| rest.strip_prefix(index.table.as_str())) == Some(number)
            }
        };
        let indexes = self.new.iter().filter(|object| object.row.kind == ObjectKind::Index);
        indexes.into_iter().find(same).map(|index| index.row.name.clone())
    }

    fn keeps_rows(&self, before: &Object, after: &Object) -> bool {
        match (self.before.get(&before.name), self.after.get(&after.name)) {
            (Some(old), Some(new)) => new.keeps_rows_of(old),
            _ => false,
        }
    }

    fn fate(&self, before: Option<&Object>, after: &Object) -> TableFate {
        let Some(before) = before else { return TableFate::New { name: after.name.clone() } };
        let columns = |layouts: &BTreeMap<String, Layout>, name: &str| {
            layouts.get(name).map_or(0, |layout| layout.columns.len())
        };
        let rehashed = columns(self.before, &before.name) != columns(self.after, &after.name);
        TableFate::Kept { before: before.name.clone(), after: after.name.clone(), rehashed }
    }
}
