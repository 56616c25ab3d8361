//! What a replica lacks because whoever runs it went on after a divergence, in the same file, for good.
//!
//! The table's name keeps it outside of the state hash and of every comparison with the application's database. A gap is open until a
//! later snapshot takes the replica's place; the file of that snapshot gets all rows before it does.

use synddb_protocol::http::Gap;
use synddb_protocol::id::Sequence;
use synddb_sqlite::connection::has_table;
use synddb_sqlite::rusqlite::{self, Connection, params};

/// Most gaps of one replica. Who comes so far rebuilds it.
pub(crate) const GAPS_MAX: u32 = 1000;

/// One gap, with what only its replica needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) gap: Gap,
    /// Only a snapshot behind this message closes the gap.
    pub(crate) after: Sequence,
}

/// All gaps of a replica, oldest first. At most the last one is open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Gaps(Vec<Kept>);

impl Gaps {
    /// What the file holds; nothing where there is no such table.
    pub(crate) fn read(sqlite: &Connection) -> rusqlite::Result<Self> {
        if !has_table(sqlite, "_synddb_gaps")? {
            return Ok(Self::default());
        }
        let sql = "SELECT report, from_sequence, after_sequence, to_sequence FROM main._synddb_gaps ORDER BY number LIMIT ?1";
        let mut statement = sqlite.prepare(sql)?;
        let rows = statement.query_map([GAPS_MAX], |row| {
            let to: Option<i64> = row.get(3)?;
            let gap = Gap {
                report: row.get(0)?,
                from: sequence(1, row.get(1)?)?,
                to: to.map(|to| sequence(3, to)).transpose()?,
            };
            Ok(Kept { gap, after: sequence(2, row.get(2)?)? })
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>().map(Self)
    }

    /// Writes all of them in the place of what the file holds, in the transaction that is open, or one for each.
    pub(crate) fn write(&self, sqlite: &Connection) -> rusqlite::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        sqlite.execute_batch(
            "CREATE TABLE IF NOT EXISTS main._synddb_gaps(
                 number INTEGER PRIMARY KEY,
                 report TEXT NOT NULL,
                 from_sequence INTEGER NOT NULL,
                 after_sequence INTEGER NOT NULL,
                 to_sequence INTEGER
             );
             DELETE FROM main._synddb_gaps",
        )?;
        let mut statement = sqlite.prepare("INSERT INTO main._synddb_gaps VALUES(NULL, ?1, ?2, ?3, ?4)")?;
        let number = |sequence: Sequence| sequence.get().cast_signed();
        for Kept { gap, after } in &self.0 {
            statement.execute(params![gap.report, number(gap.from), number(*after), gap.to.map(number)])?;
        }
        Ok(())
    }

    /// The gap that waits for a snapshot.
    pub(crate) fn open(&self) -> Option<&Kept> {
        self.0.last().filter(|kept| kept.gap.to.is_none())
    }

    /// Opens a gap, or goes on with the one that is open. `false` when there are too many.
    pub(crate) fn begin(&mut self, report: String, from: Sequence, after: Sequence) -> bool {
        let from = self.open().map_or(from, |open| open.gap.from.min(from));
        // A snapshot before what diverged first would lead to it again.
        let after = self.open().map_or(after, |open| open.after.max(after));
        if self.open().is_some() {
            self.0.pop();
        }
        if self.0.len() >= GAPS_MAX as usize {
            return false;
        }
        self.0.push(Kept { gap: Gap { report, from, to: None }, after });
        true
    }

    /// The same with the open gap closed by the snapshot in a message.
    pub(crate) fn closed(&self, snapshot: Sequence) -> Self {
        let mut closed = self.clone();
        if let Some(Kept { gap, .. }) = closed.0.last_mut().filter(|kept| kept.gap.to.is_none()) {
            gap.to = Some(snapshot);
        }
        closed
    }

    /// As everybody may know them.
    pub(crate) fn told(&self) -> Vec<Gap> {
        self.0.iter().map(|kept| kept.gap.clone()).collect()
    }
}

fn sequence(column: usize, number: i64) -> rusqlite::Result<Sequence> {
    let failed = || rusqlite::Error::IntegralValueOutOfRange(column, number);
    Sequence::new(u64::try_from(number).map_err(|_| failed())?).map_err(|_| failed())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn at(number: u64) -> Sequence {
        Sequence::new(number).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let sqlite = Connection::open_in_memory().unwrap();
        let mut gaps = Gaps::read(&sqlite).unwrap();
        assert_eq!(gaps, Gaps::default());
        assert!(gaps.begin("one".to_owned(), at(4), at(5)));
        gaps.write(&sqlite).unwrap();
        assert_eq!(Gaps::read(&sqlite).unwrap(), gaps);
        // Another report of what is open already: the same gap, and a later snapshot.
        assert!(gaps.begin("two".to_owned(), at(6), at(9)));
        let closed = gaps.closed(at(12));
        assert!(closed.open().is_none());
        closed.write(&sqlite).unwrap();
        let told = Gaps::read(&sqlite).unwrap().told();
        assert_eq!(told, [Gap { report: "two".to_owned(), from: at(4), to: Some(at(12)) }]);
    }
}
