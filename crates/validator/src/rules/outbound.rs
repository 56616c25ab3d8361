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
use synddb_sqlite::rules::CommitView;
use synddb_sqlite::rusqlite::{self, Connection, OptionalExtension as _, Row, params};

use super::messages::{Came, ROWS_MAX};

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

/// What a commit did to outbound messages.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// Rows that came, and whether it was with the first state of all: what is known of them from before stands then.
    came: Vec<(SeenMessage, bool)>,
    /// Ids whose row was changed or deleted.
    rewritten: Vec<(u64, Sequence)>,
    /// The message that dropped or replaced the table.
    dropped: Option<Sequence>,
}

impl Outbound {
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

    /// Looks at what a commit, or a state that takes the place of another one, did. `told` is what the rule over the table found of it, and
    /// `inbox_consumed` how many inbound messages are acknowledged behind it. A row that is no message is refused, and blocks nothing else.
    pub(super) fn look(
        &mut self,
        view: &CommitView<'_>,
        came: Came,
        sequence: Sequence,
        told: Option<&str>,
        inbox_consumed: u64,
    ) {
        let Some(changes) = view.table(OUTBOUND) else { return };
        let columns = changes.columns();
        if changes.is_replaced() && came != Came::First {
            self.dropped = self.dropped.or(Some(sequence));
        }
        changes.before(|row| {
            if let Some(nonce) = id_of(row, &columns).filter(|_| self.rewritten.len() < ROWS_MAX) {
                self.rewritten.push((nonce, sequence));
            }
        });
        let places = OutboundColumns::of(&columns);
        changes.changed(|row| {
            let Some(nonce) = id_of(row, &columns).filter(|_| self.came.len() < ROWS_MAX) else { return };
            let read = places.as_ref().map(|places| OutboundRow::read(row, places, view.encoding()));
            let refuse = |detail: String| SeenMessage {
                nonce,
                sequence,
                fields: None,
                refused: Some((sequence, detail)),
            };
            let seen = match (came, told, read) {
                (Came::First | Came::Snapshot, _, _) => {
                    refuse("a snapshot brought it, and not a commit".to_owned())
                }
                (Came::Commit, Some(told), _) => refuse(told.to_owned()),
                (Came::Commit, None, None) => {
                    refuse("the table has not the columns that `synddb init-messages` gives it".to_owned())
                }
                (Came::Commit, None, Some(Err(error))) => refuse(error.to_string()),
                (Came::Commit, None, Some(Ok(read))) => {
                    let fields = OutboundFields::of(&read.message(StreamId::from_bytes([0; 32]), inbox_consumed));
                    SeenMessage { nonce, sequence, fields: Some(fields), refused: None }
                }
            };
            self.came.push((seen, came == Came::First));
        });
    }

    /// Writes it down, in the transaction that is open. What a nonce said first stands.
    pub(super) fn write(&mut self, sqlite: &Connection) -> rusqlite::Result<()> {
        if let Some(sequence) = self.dropped.take() {
            let sql = "UPDATE main._synddb_outbound SET refused_at = coalesce(refused_at, ?1), refused = coalesce(refused, 'the table was dropped')";
            sqlite.execute(sql, params![stored(sequence)])?;
        }
        for (nonce, sequence) in std::mem::take(&mut self.rewritten) {
            let sql = "UPDATE main._synddb_outbound SET refused_at = coalesce(refused_at, ?2),
                         refused = coalesce(refused, 'the row was changed or deleted') WHERE nonce = ?1";
            sqlite.prepare_cached(sql)?.execute(params![nonce.cast_signed(), stored(sequence)])?;
        }
        for (seen, is_first) in std::mem::take(&mut self.came) {
            let sql = if is_first {
                "INSERT INTO main._synddb_outbound(nonce, sequence, fields, refused_at, refused) VALUES(?1, ?2, ?3, ?4, ?5) ON CONFLICT(nonce) DO NOTHING"
            } else {
                "INSERT INTO main._synddb_outbound(nonce, sequence, fields, refused_at, refused) VALUES(?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT(nonce) DO UPDATE SET refused_at = coalesce(refused_at, ?2), refused = coalesce(refused, 'another row came under its id')"
            };
            let fields = seen.fields.as_ref().and_then(|fields| serde_json::to_string(fields).ok());
            let (refused_at, refused) = seen.refused.unzip();
            let (sequence, at) = (stored(seen.sequence), refused_at.map(stored));
            sqlite.prepare_cached(sql)?.execute(params![seen.nonce.cast_signed(), sequence, fields, at, refused])?;
        }
        Ok(())
    }

    /// Copies what was seen into a file that takes the place of another one.
    pub(super) fn copy(from: &Connection, to: &Connection) -> rusqlite::Result<()> {
        if !has_table(from, "_synddb_outbound")? {
            return Ok(());
        }
        Self::create(to)?;
        let mut read =
            from.prepare("SELECT nonce, sequence, fields, refused_at, refused FROM main._synddb_outbound")?;
        let mut rows = read.query([])?;
        let mut write =
            to.prepare("INSERT OR REPLACE INTO main._synddb_outbound VALUES(?1, ?2, ?3, ?4, ?5)")?;
        while let Some(row) = rows.next()? {
            let (nonce, sequence): (i64, i64) = (row.get(0)?, row.get(1)?);
            let (fields, at, refused): (Option<String>, Option<i64>, Option<String>) =
                (row.get(2)?, row.get(3)?, row.get(4)?);
            write.execute(params![nonce, sequence, fields, at, refused])?;
        }
        Ok(())
    }
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
    let rows = statement.query_map(params![i64::try_from(from).unwrap_or(i64::MAX), through, count_max], read)?;
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
