//! The tables that commits have touched, each with its statements, so that they are compiled once.

use std::collections::HashMap;

use super::stand_in::StandIns;
use super::table::{Table, Writes, identity};
use super::{ApplyError, Divergence};
use crate::changeset;
use crate::connection::Connection;
use crate::schema::Layout;
use crate::state::RunningState;

/// Most tables whose statements are kept.
const TABLES_MAX: usize = 256;

/// The tables that commits have touched.
#[derive(Default)]
pub(super) struct Tables {
    by_name: HashMap<String, usize>,
    tables: Vec<Table>,
}

impl Tables {
    /// Forgets all statements: the schema changes.
    pub(super) fn clear(&mut self) {
        self.by_name.clear();
        self.tables.clear();
    }

    /// Makes room, before a commit.
    pub(super) fn limit(&mut self) {
        if self.tables.len() > TABLES_MAX {
            self.clear();
        }
    }

    /// The table that rows of a changeset are for.
    ///
    /// # Errors
    /// [`ApplyError::Divergence`] when there is none, or its rows have another form.
    pub(super) fn open(
        &mut self,
        connection: &Connection,
        state: &RunningState,
        named: &changeset::Table,
        stand_ins: &mut StandIns,
    ) -> Result<usize, ApplyError> {
        let shape = |why| Divergence::Shape { table: named.name.clone(), why };
        let layout = state.layout(&named.name).ok_or_else(|| shape("there is no such table"))?;
        check_key(layout, &named.key).map_err(shape)?;
        if let Some(at) = self.by_name.get(&named.name) {
            return Ok(*at);
        }
        let writes = Writes::of(connection, state, layout, stand_ins)?;
        self.tables.push(Table::new(connection, layout, writes)?);
        self.by_name.insert(named.name.clone(), self.tables.len() - 1);
        Ok(self.tables.len() - 1)
    }

    /// A table that was opened in this commit.
    pub(super) fn get(&mut self, at: usize) -> &mut Table {
        &mut self.tables[at]
    }
}

/// Whether the flags of a changeset say what the layout says.
fn check_key(layout: &Layout, key: &[bool]) -> Result<(), &'static str> {
    let hidden = usize::from(layout.has_hidden_rowid());
    if key.len() != layout.columns.len() + hidden {
        return Err("a row has another number of values");
    }
    let identity = identity(layout);
    if key.iter().enumerate().any(|(at, part)| *part != identity.contains(&at)) {
        return Err("a row has another identity");
    }
    Ok(())
}
