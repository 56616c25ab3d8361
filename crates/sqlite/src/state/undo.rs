//! Save points: changes of a running state that can be taken back.
//!
//! A save point keeps a copy of each table from before its first change, so that it costs what was touched, not what there is.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::{Rows, RunningState, Schema};

/// What a running state was at a save point, as far as it changed since.
#[derive(Debug, Clone)]
pub(super) struct Saved {
    user_version: i32,
    application_id: i32,
    schema: Arc<Schema>,
    /// The tables that changed since; `None` where there was none of the name.
    tables: BTreeMap<String, Option<Rows>>,
}

impl RunningState {
    /// Sets a save point inside the ones that are set already.
    pub(crate) fn save(&mut self) {
        self.serial += 1;
        self.saved.push(Saved {
            user_version: self.user_version,
            application_id: self.application_id,
            schema: Arc::clone(&self.schema),
            tables: BTreeMap::new(),
        });
    }

    /// Forgets the innermost save point. Its changes belong to the one around it.
    pub(crate) fn release(&mut self) {
        let Some(inner) = self.saved.pop() else { return };
        self.serial += 1;
        if let Some(outer) = self.saved.last_mut() {
            for (name, rows) in inner.tables {
                outer.tables.entry(name).or_insert(rows);
            }
        }
    }

    /// Takes back everything since the innermost save point, and forgets it.
    pub(crate) fn restore(&mut self) {
        let Some(saved) = self.saved.pop() else { return };
        self.serial += 1;
        let same_schema = Arc::ptr_eq(&self.schema, &saved.schema);
        let same_header =
            self.user_version == saved.user_version && self.application_id == saved.application_id;
        if !same_schema || !same_header {
            self.head.take();
        }
        self.user_version = saved.user_version;
        self.application_id = saved.application_id;
        self.schema = saved.schema;
        for (name, rows) in saved.tables {
            match rows {
                Some(rows) => self.tables.insert(name, rows),
                None => self.tables.remove(&name),
            };
        }
    }

    /// How many save points are set.
    pub(crate) fn depth(&self) -> usize {
        self.saved.len()
    }

    /// Keeps a copy of the table as it is, if the innermost save point has none. Comes before every change of it.
    pub(super) fn see(&mut self, table: &str) {
        let Some(saved) = self.saved.last_mut() else { return };
        let rows = self.tables.get(table);
        // The number spares a row of a table that was seen already the search among the copies.
        if rows.is_some_and(|rows| rows.seen == self.serial) {
            return;
        }
        if let Entry::Vacant(entry) = saved.tables.entry(table.to_owned()) {
            entry.insert(rows.cloned());
        }
    }
}
