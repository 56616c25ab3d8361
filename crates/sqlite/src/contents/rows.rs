//! Rows into runs and lists.

use synddb_protocol::contents::{
    Cut, Found, KEY_BYTES_MAX, Key, LISTED_MAX, ListedRow, RUNS_MAX, Rows, RowsQuery, Run, VALUES_MAX,
};
use synddb_protocol::state::{TableHash, Value};

use super::ContentsError;
use super::table::{Bound, Table};
use super::values::{length, scalar, shown};
use crate::connection::{Connection, SqliteError};
use crate::state::StateError;

/// Answers a query about a table.
pub(super) fn answer(
    connection: &Connection,
    table: &Table<'_>,
    query: &RowsQuery,
) -> Result<Rows, ContentsError> {
    let encoding = connection.encoding();
    let bound = |key: &Option<Key>| key.as_ref().map(|key| table.bound(key, encoding)).transpose();
    let (after, through) = (bound(&query.after)?, bound(&query.through)?);
    let reading = Reading { connection, table, after, through, last: query.through.as_ref() };
    let found = match &query.cut {
        Cut::Freely => reading.freely()?,
        Cut::At(keys) => reading.at(keys)?,
        Cut::Listed => reading.listed()?,
    };
    Ok(Rows { columns: table.columns.clone(), key: table.key.clone(), found })
}

/// A run that is asked about.
struct Reading<'r> {
    connection: &'r Connection,
    table: &'r Table<'r>,
    after: Option<Bound>,
    through: Option<Bound>,
    /// `through`, as it was asked.
    last: Option<&'r Key>,
}

/// Why no further row is looked at.
enum Stop {
    Enough,
    Failed(ContentsError),
}

impl From<ContentsError> for Stop {
    fn from(error: ContentsError) -> Self {
        Self::Failed(error)
    }
}

impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<SqliteError> for Stop {
    fn from(error: SqliteError) -> Self {
        Self::Failed(error.into())
    }
}

impl Reading<'_> {
    /// In one pass: rows go into runs of so many, and when there are too many runs each takes in the next one.
    fn freely(&self) -> Result<Found, ContentsError> {
        let most = self.listed_max();
        let mut runs = Runs::default();
        let mut listed = Vec::new();
        let mut rows = 0_usize;
        self.table.each::<ContentsError>(
            self.connection,
            self.after.as_ref(),
            self.through.as_ref(),
            |values| {
                if rows < most {
                    listed.push(self.row(values)?);
                } else if rows == most {
                    listed = Vec::new();
                }
                rows += 1;
                runs.add(self, values)
            },
        )?;
        if rows <= most {
            return Ok(Found::Listed { rows: listed, more: false });
        }
        Ok(Found::Runs(runs.end(self.last)))
    }

    /// One run for each key, and one behind the last.
    fn at(&self, keys: &[Key]) -> Result<Found, ContentsError> {
        if keys.len() >= RUNS_MAX {
            return Err(ContentsError::TooLarge { what: "runs", limit: RUNS_MAX });
        }
        let encoding = self.connection.encoding();
        let mut after = self.after.clone();
        let mut runs = Vec::with_capacity(keys.len() + 1);
        for key in keys {
            let through = self.table.bound(key, encoding)?;
            runs.push(self.run(after.as_ref(), Some(&through), Some(key))?);
            after = Some(through);
        }
        runs.push(self.run(after.as_ref(), self.through.as_ref(), self.last)?);
        Ok(Found::Runs(runs))
    }

    fn run(
        &self,
        after: Option<&Bound>,
        through: Option<&Bound>,
        end: Option<&Key>,
    ) -> Result<Run, ContentsError> {
        let (rows, hash) = self.table.fold_between(self.connection, after, through)?;
        Ok(Run { through: end.cloned(), rows, digest: hash.digest() })
    }

    fn listed(&self) -> Result<Found, ContentsError> {
        let most = self.listed_max();
        let mut rows = Vec::new();
        let ended =
            self.table.each::<Stop>(self.connection, self.after.as_ref(), self.through.as_ref(), |values| {
                if rows.len() == most {
                    return Err(Stop::Enough);
                }
                rows.push(self.row(values)?);
                Ok(())
            });
        match ended {
            Ok(()) => Ok(Found::Listed { rows, more: false }),
            Err(Stop::Enough) => Ok(Found::Listed { rows, more: true }),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// How many rows are listed at most; the same for every database with this schema.
    fn listed_max(&self) -> usize {
        (VALUES_MAX / self.table.columns.len().max(1)).clamp(1, LISTED_MAX)
    }

    fn row(&self, values: &[Value<'_>]) -> Result<ListedRow, StateError> {
        let mut alone = TableHash::default();
        self.table.add(&mut alone, values)?;
        let encoding = self.connection.encoding();
        let values = values.iter().map(|value| shown(*value, encoding)).collect();
        Ok(ListedRow { digest: alone.digest(), values })
    }
}

/// Runs of about equal length, while rows come.
struct Runs {
    runs: Vec<(Key, u64, TableHash)>,
    /// The run that grows.
    rows: u64,
    hash: TableHash,
    /// How many rows a run has.
    length: u64,
}

impl Default for Runs {
    fn default() -> Self {
        Self { runs: Vec::new(), rows: 0, hash: TableHash::default(), length: 1 }
    }
}

impl Runs {
    fn add(&mut self, reading: &Reading<'_>, values: &[Value<'_>]) -> Result<(), ContentsError> {
        let table = reading.table;
        table.add(&mut self.hash, values)?;
        self.rows += 1;
        if self.rows < self.length {
            return Ok(());
        }
        let key = table.key_of(values);
        let bytes: usize = key.iter().map(|value| length(*value)).sum();
        // Where this row's key cannot be one that a run ends at, another row's will be.
        if bytes > KEY_BYTES_MAX || key.contains(&Value::Null) {
            return Ok(());
        }
        let encoding = reading.connection.encoding();
        let key = key.into_iter().map(|value| scalar(value, encoding)).collect();
        self.runs.push((key, std::mem::take(&mut self.rows), std::mem::take(&mut self.hash)));
        if self.runs.len() == RUNS_MAX - 1 {
            self.halve();
        }
        Ok(())
    }

    /// Each run takes in the next one.
    fn halve(&mut self) {
        let mut halved = Vec::with_capacity(self.runs.len() / 2 + 1);
        let mut runs = std::mem::take(&mut self.runs).into_iter();
        while let Some((key, rows, mut hash)) = runs.next() {
            match runs.next() {
                Some((end, more, others)) => {
                    hash.merge(&others);
                    halved.push((end, rows + more, hash));
                }
                None => halved.push((key, rows, hash)),
            }
        }
        self.runs = halved;
        self.length *= 2;
    }

    /// The runs, with what is left behind the last key.
    fn end(self, last: Option<&Key>) -> Vec<Run> {
        let run = |through, rows, hash: &TableHash| Run { through, rows, digest: hash.digest() };
        let mut runs: Vec<Run> =
            self.runs.into_iter().map(|(key, rows, hash)| run(Some(key), rows, &hash)).collect();
        runs.push(run(last.cloned(), self.rows, &self.hash));
        runs
    }
}
