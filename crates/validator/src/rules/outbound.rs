//! Outbound messages that were seen: what each said in the commit that brought it, and whether it is refused for ever.
//!
//! Written in the transaction that applies the commit, so what is here follows from the verified log alone. What a nonce said first stands: nothing that
//! comes later is taken in its place, and no snapshot brings any. Whoever signs reads from here ([`crate::endorse`]), never from the application's table.

use synddb_protocol::http::OutboundFields;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::OutboundMessage;
use synddb_protocol::state::Value;
use synddb_sqlite::connection::has_table;
use synddb_sqlite::messages::{OUTBOUND, OutboundColumns, OutboundRow};
use synddb_sqlite::rules::{CommitView, TableChanges};
use synddb_sqlite::rusqlite::{self, Connection, OptionalExtension as _, Row, params};

use super::messages::Came;

/// Why what no commit brought is never signed.
const BY_SNAPSHOT: &str = "a snapshot brought it, and no commit that was judged";
/// Why what cannot be signed as everybody else signs it is not.
const UNCOUNTED: &str = "how many inbound messages commits had acknowledged before it is not known, since nobody judged each of them; `synddb validator resync` does, and the next commit that acknowledges one says it again";
/// Why what is known and does not stand any more as it was is never signed.
const CHANGED_UNSEEN: &str = "the row was changed or deleted while nobody looked";
/// Why what is known and comes again is never signed.
const ANOTHER: &str = "another row came under its id";
/// The same, where nobody says which rows are as they were.
const ALTERED: &str = "the table was altered, which writes all of its rows anew";
/// Stands in place of a reason while all rows are compared.
const NOT_FOUND: &str = "not found yet";

/// A message that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenMessage {
    /// The row's id.
    pub(crate) nonce: u64,
    /// The log's message that brought the row.
    pub(crate) sequence: Sequence,
    /// What it says; `None` of a row that says nothing that can be signed.
    pub(crate) fields: Option<OutboundFields>,
    /// Why it is never signed, and by which message of the log.
    pub(crate) refused: Option<(Sequence, String)>,
}

impl SeenMessage {
    /// What is signed of it, if it may be signed.
    pub(crate) fn message(&self, stream: StreamId) -> Option<OutboundMessage> {
        let fields = self.fields.as_ref().filter(|_| self.refused.is_none())?;
        fields.message(stream, self.nonce).ok()
    }
}

/// How a look at the table comes about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looked<'l> {
    /// What came.
    pub(super) came: Came,
    /// The log's message that brought it.
    pub(super) at: Sequence,
    /// What the rule over the table found of it.
    pub(super) told: Option<&'l str>,
    /// How many inbound messages commits had acknowledged behind it, where that is known.
    pub(super) inbox_consumed: Option<u64>,
}

/// Makes the table in a file that has none.
pub(super) fn create(sqlite: &Connection) -> rusqlite::Result<()> {
    sqlite.execute_batch(
        "CREATE TABLE IF NOT EXISTS main._synddb_outbound(
             nonce INTEGER PRIMARY KEY,
             sequence INTEGER NOT NULL,
             fields TEXT,
             refused_at INTEGER,
             refused TEXT
         )",
    )
}

/// Looks at what a commit, or a state that takes the place of another one, did, and writes it down in the transaction that is open. A row that is no message
/// is refused, and blocks nothing else.
///
/// Row by row: nothing is kept in memory, and so no number of rows is too high. However many rows a commit touches, each of them is refused that was there
/// before, and none that it did not touch. One that alters the table touches all of them.
pub(super) fn look(sqlite: &Connection, view: &CommitView<'_>, looked: &Looked<'_>) -> rusqlite::Result<()> {
    let Looked { came, at, told, inbox_consumed } = *looked;
    let changes = view.table(OUTBOUND);
    if came == Came::First {
        return compare(sqlite, view, changes.as_ref(), at);
    }
    let Some(changes) = changes else { return Ok(()) };
    let columns = changes.columns();
    let again = if changes.is_altered() { ALTERED } else { ANOTHER };
    let mut written = Ok(());
    changes.before(|row| {
        if let (Ok(()), Some(nonce)) = (&written, id_of(row, &columns)) {
            written = refuse(sqlite, nonce, at, "the row was changed or deleted");
        }
    });
    each(view, &changes, |nonce, read| {
        let fields = match (came, told, inbox_consumed) {
            (Came::Snapshot | Came::First, _, _) => Err(BY_SNAPSHOT.to_owned()),
            (Came::Commit, Some(told), _) => Err(told.to_owned()),
            (Came::Commit, None, None) => read.and(Err(UNCOUNTED.to_owned())),
            (Came::Commit, None, Some(inbox_consumed)) => {
                read.map(|fields| OutboundFields { inbox_consumed, ..fields })
            }
        };
        if written.is_ok() {
            let (fields, refused) = match fields {
                Ok(fields) => (Some(fields), None),
                Err(detail) => (None, Some((at, detail))),
            };
            written = insert(sqlite, &SeenMessage { nonce, sequence: at, fields, refused }, again);
        }
    });
    written?;
    // Behind what came with it, which is refused as well.
    if changes.is_replaced() {
        refuse_all(sqlite, at, "the table was dropped or replaced")?;
    }
    Ok(())
}

/// Shows each row that came and has an id, with what it says, or why it is no message. What was acknowledged is counted by nobody here.
fn each(
    view: &CommitView<'_>,
    changes: &TableChanges<'_>,
    mut show: impl FnMut(u64, Result<OutboundFields, String>),
) {
    let columns = changes.columns();
    let places = OutboundColumns::of(&columns);
    changes.changed(|row| {
        let Some(nonce) = id_of(row, &columns) else { return };
        let read = match &places {
            Some(places) => {
                OutboundRow::read(row, places, view.encoding()).map_err(|error| error.to_string())
            }
            None => Err("the table has not the columns that `synddb init-messages` gives it".to_owned()),
        };
        show(nonce, read.map(|read| OutboundFields::of(&read.message(StreamId::from_bytes([0; 32]), 0))));
    });
}

/// All rows were looked at: what is known and stands otherwise, or not any more, was changed while nobody looked; what is not known came by no commit that
/// anybody saw. What is known is refused until its row is found as it was.
fn compare(
    sqlite: &Connection,
    view: &CommitView<'_>,
    changes: Option<&TableChanges<'_>>,
    at: Sequence,
) -> rusqlite::Result<()> {
    refuse_all(sqlite, at, NOT_FOUND)?;
    let mut written = Ok(());
    if let Some(changes) = changes {
        each(view, changes, |nonce, stands| {
            if written.is_ok() {
                written = compare_row(sqlite, nonce, stands.ok().as_ref(), at);
            }
        });
    }
    written?;
    let sql = "UPDATE main._synddb_outbound SET refused = ?2 WHERE refused = ?1";
    sqlite.execute(sql, [NOT_FOUND, CHANGED_UNSEEN]).map(drop)
}

fn compare_row(
    sqlite: &Connection,
    nonce: u64,
    stands: Option<&OutboundFields>,
    at: Sequence,
) -> rusqlite::Result<()> {
    let sql =
        "SELECT nonce, sequence, fields, refused_at, refused FROM main._synddb_outbound WHERE nonce = ?1";
    let known = sqlite.prepare_cached(sql)?.query_row([nonce.cast_signed()], read).optional()?;
    let Some(known) = known else {
        let refused = Some((at, BY_SNAPSHOT.to_owned()));
        return insert(sqlite, &SeenMessage { nonce, sequence: at, fields: None, refused }, ANOTHER);
    };
    let says = known.fields.map(|fields| OutboundFields { inbox_consumed: 0, ..fields });
    // Not again, for a second row of one id, which a table without a key may have: each of them has to be as it was.
    if known.refused.is_some_and(|(_, why)| why == NOT_FOUND) {
        let sql = "UPDATE main._synddb_outbound SET refused_at = NULL, refused = NULL WHERE nonce = ?1";
        sqlite.prepare_cached(sql)?.execute([nonce.cast_signed()])?;
    }
    if says.as_ref() == stands { Ok(()) } else { refuse(sqlite, nonce, at, CHANGED_UNSEEN) }
}

/// What was written down from a message of the log on, of a file that goes: never signed, since the state that held it was replaced.
pub(super) fn since(sqlite: &Connection, sequence: Sequence) -> rusqlite::Result<Vec<SeenMessage>> {
    let sql = "SELECT nonce, sequence, fields, refused_at, refused FROM main._synddb_outbound
               WHERE sequence >= ?1 OR refused_at >= ?1 ORDER BY nonce";
    let mut statement = sqlite.prepare(sql)?;
    let rows = statement.query_map([stored(sequence)], read)?;
    rows.collect()
}

/// Takes over what [`since`] told of an earlier file.
pub(super) fn take_over(sqlite: &Connection, since: &[SeenMessage]) -> rusqlite::Result<()> {
    for seen in since {
        insert(sqlite, seen, ANOTHER)?;
        let (at, why) = match &seen.refused {
            Some((at, why)) => (*at, why.as_str()),
            None => (seen.sequence, "a snapshot took the place of the state that held it"),
        };
        refuse(sqlite, seen.nonce, at, why)?;
    }
    Ok(())
}

/// Copies what was seen into a file that takes the place of another one.
pub(super) fn copy(from: &Connection, to: &Connection) -> rusqlite::Result<()> {
    if !has_table(from, "_synddb_outbound")? {
        return Ok(());
    }
    create(to)?;
    let mut read =
        from.prepare("SELECT nonce, sequence, fields, refused_at, refused FROM main._synddb_outbound")?;
    let mut rows = read.query([])?;
    let mut write = to.prepare("INSERT OR REPLACE INTO main._synddb_outbound VALUES(?1, ?2, ?3, ?4, ?5)")?;
    while let Some(row) = rows.next()? {
        let (nonce, sequence): (i64, i64) = (row.get(0)?, row.get(1)?);
        let (fields, at, refused): (Option<String>, Option<i64>, Option<String>) =
            (row.get(2)?, row.get(3)?, row.get(4)?);
        write.execute(params![nonce, sequence, fields, at, refused])?;
    }
    Ok(())
}

/// A row that came. One that comes under an id that is known refuses what is known, for the reason `again`.
fn insert(sqlite: &Connection, seen: &SeenMessage, again: &str) -> rusqlite::Result<()> {
    let sql = "INSERT INTO main._synddb_outbound(nonce, sequence, fields, refused_at, refused) VALUES(?1, ?2, ?3, ?4, ?5)
               ON CONFLICT(nonce) DO UPDATE SET refused_at = coalesce(refused_at, ?2), refused = coalesce(refused, ?6)";
    let fields = seen.fields.as_ref().map(serde_json::to_string).transpose();
    let fields = fields.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let (at, refused) = seen.refused.as_ref().map(|(at, refused)| (stored(*at), refused)).unzip();
    let values = params![seen.nonce.cast_signed(), stored(seen.sequence), fields, at, refused, again];
    sqlite.prepare_cached(sql)?.execute(values).map(drop)
}

/// Refuses what is known under an id.
fn refuse(sqlite: &Connection, nonce: u64, at: Sequence, why: &str) -> rusqlite::Result<()> {
    let sql =
        "UPDATE main._synddb_outbound SET refused_at = ?2, refused = ?3 WHERE nonce = ?1 AND refused IS NULL";
    sqlite.prepare_cached(sql)?.execute(params![nonce.cast_signed(), stored(at), why]).map(drop)
}

/// Refuses all that is known.
fn refuse_all(sqlite: &Connection, at: Sequence, why: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE main._synddb_outbound SET refused_at = ?1, refused = ?2 WHERE refused IS NULL";
    sqlite.execute(sql, params![stored(at), why]).map(drop)
}

/// Those from an id on, up to a message of the log, in their order.
pub(crate) fn seen(
    sqlite: &Connection,
    from: u64,
    through: Option<Sequence>,
    count_max: usize,
) -> rusqlite::Result<Vec<SeenMessage>> {
    if !has_table(sqlite, "_synddb_outbound")? {
        return Ok(Vec::new());
    }
    let sql = "SELECT nonce, sequence, fields, refused_at, refused FROM main._synddb_outbound
               WHERE nonce >= ?1 AND sequence <= ?2 ORDER BY nonce LIMIT ?3";
    let through = through.map_or(i64::MAX, stored);
    let count_max = i64::try_from(count_max).unwrap_or(i64::MAX);
    let mut statement = sqlite.prepare(sql)?;
    let rows =
        statement.query_map(params![i64::try_from(from).unwrap_or(i64::MAX), through, count_max], read)?;
    rows.collect()
}

/// The highest id that was seen; 0 for none.
pub(crate) fn last_seen(sqlite: &Connection) -> rusqlite::Result<u64> {
    if !has_table(sqlite, "_synddb_outbound")? {
        return Ok(0);
    }
    let last = sqlite
        .query_row("SELECT max(nonce) FROM main._synddb_outbound", [], |row| row.get::<_, Option<i64>>(0))
        .optional()?;
    Ok(last.flatten().unwrap_or_default().cast_unsigned())
}

fn read(row: &Row<'_>) -> rusqlite::Result<SeenMessage> {
    let (nonce, sequence): (i64, i64) = (row.get(0)?, row.get(1)?);
    let (fields, at, refused): (Option<String>, Option<i64>, Option<String>) =
        (row.get(2)?, row.get(3)?, row.get(4)?);
    let sequence = placed(sequence);
    Ok(SeenMessage {
        nonce: nonce.cast_unsigned(),
        sequence,
        fields: fields.and_then(|fields| serde_json::from_str(&fields).ok()),
        refused: refused.map(|refused| (at.map_or(sequence, placed), refused)),
    })
}

fn stored(sequence: Sequence) -> i64 {
    sequence.get().cast_signed()
}

fn placed(sequence: i64) -> Sequence {
    Sequence::new(sequence.cast_unsigned()).unwrap_or(Sequence::FIRST)
}

fn id_of(row: &[Value<'_>], columns: &[&str]) -> Option<u64> {
    let at = columns.iter().position(|name| name.eq_ignore_ascii_case("id"))?;
    match row.get(at) {
        Some(Value::Integer(id)) if *id > 0 => Some(id.cast_unsigned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeSet;
    use std::sync::atomic::AtomicBool;

    use synddb_sqlite::apply::ApplyError;
    use synddb_sqlite::connection::{Connection as Database, SqliteError};
    use synddb_sqlite::rules::{Judge, difference};

    use super::*;

    /// Far more than anybody keeps the ids of.
    const MANY: u64 = 100_003;

    struct Looking<'l>(&'l Connection, Looked<'l>);

    impl Judge for Looking<'_> {
        fn commit(&mut self, view: &CommitView<'_>, _: &Database) -> Result<(), ApplyError> {
            look(self.0, view, &self.1).map_err(|error| SqliteError::from(error).into())
        }
    }

    /// What the application has behind these statements, and so many messages before them.
    fn database(messages: u64, sql: &str) -> Database {
        let sqlite = Connection::open_in_memory().unwrap();
        let made = "CREATE TABLE outbound_messages(id INTEGER PRIMARY KEY, target, value, token, amount, payload, gas_limit, deadline);
             WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n)
             INSERT INTO outbound_messages SELECT id, '0x00000000000000000000000000000000000000aa', '5', NULL, '0', x'', 0, NULL FROM n";
        sqlite.execute_batch(&format!("{made} LIMIT {messages}; {sql}")).unwrap();
        Database::over(sqlite).unwrap()
    }

    /// Looks at what makes one of the other.
    fn shown(seen: &Connection, before: Option<&Database>, after: &Database, looked: Looked<'_>) {
        let folder = tempfile::tempdir().unwrap();
        let (watched, never) = (BTreeSet::from([OUTBOUND.to_owned()]), AtomicBool::new(false));
        difference(before, after, watched, folder.path(), &never, &mut Looking(seen, looked)).unwrap();
    }

    fn looked(came: Came, at: u64) -> Looked<'static> {
        Looked { came, at: Sequence::new(at).unwrap(), told: None, inbox_consumed: Some(0) }
    }

    /// Somebody who has seen so many messages come.
    fn seen_of(messages: &Database) -> Connection {
        let sqlite = Connection::open_in_memory().unwrap();
        create(&sqlite).unwrap();
        shown(&sqlite, None, messages, looked(Came::Commit, 2));
        assert_eq!(ids(&sqlite, true), [0; 0]);
        sqlite
    }

    /// The ids that are refused, or that are not.
    fn ids(seen: &Connection, refused: bool) -> Vec<u64> {
        let sql = "SELECT nonce FROM main._synddb_outbound WHERE (refused IS NOT NULL) = ?1 ORDER BY nonce";
        let mut statement = seen.prepare(sql).unwrap();
        let ids = statement.query_map([refused], |row| row.get::<_, i64>(0)).unwrap();
        ids.map(|id| id.unwrap().cast_unsigned()).collect()
    }

    #[test]
    fn a_first_look_compares_as_many_rows_as_there_are() {
        let seen = seen_of(&database(MANY, ""));
        let same = database(MANY, "");
        shown(&seen, None, &same, looked(Came::First, 3));
        assert_eq!(ids(&seen, true), [0; 0]);
        let other = database(
            MANY,
            "UPDATE outbound_messages SET value = '6' WHERE id = 7;
             DELETE FROM outbound_messages WHERE id IN (9, 100002);
             INSERT INTO outbound_messages SELECT 100004, target, value, token, amount, payload, gas_limit, deadline FROM outbound_messages WHERE id = 1",
        );
        shown(&seen, None, &other, looked(Came::First, 4));
        assert_eq!(ids(&seen, true), [7, 9, 100_002, 100_004]);
        // Nor is it forgotten.
        shown(&seen, None, &same, looked(Came::First, 5));
        assert_eq!(ids(&seen, true), [7, 9, 100_002, 100_004]);
        shown(&seen, None, &database(0, "DROP TABLE outbound_messages"), looked(Came::First, 6));
        assert_eq!(ids(&seen, false), [0; 0]);
    }

    #[test]
    fn a_second_row_of_one_id_does_not_hide_the_first() {
        for values in ["'5'), (1, '6'", "'6'), (1, '5'"] {
            let seen = seen_of(&database(1, ""));
            let several = format!(
                "DROP TABLE outbound_messages;
                 CREATE TABLE outbound_messages(id, value, target DEFAULT '0x00000000000000000000000000000000000000aa', token, amount DEFAULT '0', payload DEFAULT x'', gas_limit DEFAULT 0, deadline);
                 INSERT INTO outbound_messages(id, value) VALUES(1, {values})"
            );
            shown(&seen, None, &database(1, &several), looked(Came::First, 3));
            assert_eq!(ids(&seen, true), [1], "{values}");
        }
    }

    #[test]
    fn a_huge_commit_refuses_what_it_touched_and_nothing_that_came_before() {
        let before = database(5, "");
        let seen = seen_of(&before);
        let after = database(MANY, "UPDATE outbound_messages SET value = '6' WHERE id = 2");
        let told = Looked { told: Some("more than are looked at"), ..looked(Came::Commit, 3) };
        shown(&seen, Some(&before), &after, told);
        assert_eq!(ids(&seen, false), [1, 3, 4, 5]);
        // Every one that it changes, however many these are, and in whatever order they stand.
        let seen = seen_of(&database(MANY, ""));
        let changed = database(MANY, "UPDATE outbound_messages SET value = '6' WHERE id > 1 AND id <> 70000");
        shown(&seen, Some(&database(MANY, "")), &changed, looked(Came::Commit, 3));
        assert_eq!(ids(&seen, false), [1, 70_000]);
        let deleted = database(MANY, "DELETE FROM outbound_messages WHERE id <> 1");
        shown(&seen, Some(&database(MANY, "")), &deleted, looked(Came::Commit, 4));
        assert_eq!(ids(&seen, false), [1]);
    }

    #[test]
    fn what_is_acknowledged_and_counted_by_nobody_has_no_message_signed() {
        let seen = Connection::open_in_memory().unwrap();
        create(&seen).unwrap();
        let uncounted = Looked { inbox_consumed: None, ..looked(Came::Commit, 2) };
        shown(&seen, None, &database(1, ""), uncounted);
        let counted = Looked { inbox_consumed: Some(4), ..looked(Came::Commit, 3) };
        shown(&seen, Some(&database(1, "")), &database(2, ""), counted);
        assert_eq!((ids(&seen, true), ids(&seen, false)), (vec![1], vec![2]));
        let signed = super::seen(&seen, 2, None, 1).unwrap().remove(0).fields.unwrap();
        assert_eq!(signed.inbox_consumed, 4);
    }
}
