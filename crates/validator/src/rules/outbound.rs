//! Outbound messages that were seen: what each said in the commit that brought it, and whether it is refused for ever.
//!
//! Written in the transaction that applies the commit, so what is here follows from the verified log alone. What a nonce said first stands: nothing that
//! comes later is taken in its place, and no snapshot brings any. Whoever signs reads from here ([`crate::endorse`]), never from the application's table.

use std::collections::BTreeMap;

use synddb_protocol::http::OutboundFields;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::OutboundMessage;
use synddb_protocol::state::Value;
use synddb_sqlite::connection::has_table;
use synddb_sqlite::messages::{OUTBOUND, OutboundColumns, OutboundRow};
use synddb_sqlite::rules::CommitView;
use synddb_sqlite::rusqlite::{self, Connection, OptionalExtension as _, Row, params};

use super::messages::{Came, ROWS_MAX};

/// Why what no commit brought is never signed.
const BY_SNAPSHOT: &str = "a snapshot brought it, and no commit that was judged";

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
    /// Rows that came.
    came: Vec<SeenMessage>,
    /// Ids whose row was changed or deleted.
    rewritten: Vec<(u64, Sequence)>,
    /// All rows that stand there, where somebody looked at all: what each says.
    standing: Option<(Sequence, BTreeMap<u64, Option<OutboundFields>>)>,
    /// The message that dropped or replaced the table, or did more to it than is kept.
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
        let Some(changes) = view.table(OUTBOUND) else {
            if came == Came::First {
                self.standing = Some((sequence, BTreeMap::new()));
            }
            return;
        };
        let columns = changes.columns();
        if changes.is_replaced() && came != Came::First {
            self.dropped = self.dropped.or(Some(sequence));
        }
        let mut is_too_much = false;
        changes.before(|row| {
            is_too_much |= self.rewritten.len() == ROWS_MAX;
            if let Some(nonce) = id_of(row, &columns).filter(|_| !is_too_much) {
                self.rewritten.push((nonce, sequence));
            }
        });
        let places = OutboundColumns::of(&columns);
        let mut standing = BTreeMap::new();
        changes.changed(|row| {
            is_too_much |= self.came.len().max(standing.len()) == ROWS_MAX;
            let Some(nonce) = id_of(row, &columns).filter(|_| !is_too_much) else { return };
            let read = match &places {
                Some(places) => {
                    OutboundRow::read(row, places, view.encoding()).map_err(|error| error.to_string())
                }
                None => Err("the table has not the columns that `synddb init-messages` gives it".to_owned()),
            };
            let fields = read
                .map(|read| OutboundFields::of(&read.message(StreamId::from_bytes([0; 32]), inbox_consumed)));
            if came == Came::First {
                standing.insert(nonce, fields.ok());
                return;
            }
            let fields = match (came, told) {
                (Came::Snapshot, _) => Err(BY_SNAPSHOT.to_owned()),
                (_, Some(told)) => Err(told.to_owned()),
                (_, None) => fields,
            };
            let (fields, refused) = match fields {
                Ok(fields) => (Some(fields), None),
                Err(detail) => (None, Some((sequence, detail))),
            };
            self.came.push(SeenMessage { nonce, sequence, fields, refused });
        });
        if came == Came::First {
            self.standing = Some((sequence, standing));
        }
        if is_too_much {
            self.dropped = self.dropped.or(Some(sequence));
        }
    }

    /// Writes it down, in the transaction that is open. What a nonce said first stands.
    pub(super) fn write(&mut self, sqlite: &Connection) -> rusqlite::Result<()> {
        if let Some((sequence, standing)) = self.standing.take() {
            compare(sqlite, sequence, standing)?;
        }
        for (nonce, sequence) in std::mem::take(&mut self.rewritten) {
            refuse(sqlite, Some(nonce), sequence, "the row was changed or deleted")?;
        }
        for seen in std::mem::take(&mut self.came) {
            insert(sqlite, &seen)?;
        }
        // Behind what came with it, which is refused as well.
        if let Some(sequence) = self.dropped.take() {
            refuse(sqlite, None, sequence, "the table was dropped, or more was done to it than is kept")?;
        }
        Ok(())
    }

    /// What was written down from a message of the log on, of a file that goes: never signed, since the state that held it was replaced.
    pub(super) fn since(sqlite: &Connection, sequence: Sequence) -> rusqlite::Result<Vec<SeenMessage>> {
        let sql = "SELECT nonce, sequence, fields, refused_at, refused FROM main._synddb_outbound
                   WHERE sequence >= ?1 OR refused_at >= ?1 ORDER BY nonce";
        let mut statement = sqlite.prepare(sql)?;
        let rows = statement.query_map([stored(sequence)], read)?;
        rows.collect()
    }

    /// Takes over what [`Self::since`] told of an earlier file.
    pub(super) fn take_over(sqlite: &Connection, since: &[SeenMessage]) -> rusqlite::Result<()> {
        for seen in since {
            insert(sqlite, seen)?;
            let (at, why) = match &seen.refused {
                Some((at, why)) => (*at, why.as_str()),
                None => (seen.sequence, "a snapshot took the place of the state that held it"),
            };
            refuse(sqlite, Some(seen.nonce), at, why)?;
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

/// A row that came. One that comes under an id that is known refuses what is known.
fn insert(sqlite: &Connection, seen: &SeenMessage) -> rusqlite::Result<()> {
    let sql = "INSERT INTO main._synddb_outbound(nonce, sequence, fields, refused_at, refused) VALUES(?1, ?2, ?3, ?4, ?5)
               ON CONFLICT(nonce) DO UPDATE SET refused_at = coalesce(refused_at, ?2), refused = coalesce(refused, 'another row came under its id')";
    let fields = seen.fields.as_ref().map(serde_json::to_string).transpose();
    let fields = fields.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let (at, refused) = seen.refused.as_ref().map(|(at, refused)| (stored(*at), refused)).unzip();
    let values = params![seen.nonce.cast_signed(), stored(seen.sequence), fields, at, refused];
    sqlite.prepare_cached(sql)?.execute(values).map(drop)
}

/// Refuses what is known under an id, or all of it.
fn refuse(sqlite: &Connection, nonce: Option<u64>, at: Sequence, why: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE main._synddb_outbound SET refused_at = coalesce(refused_at, ?2), refused = coalesce(refused, ?3)
               WHERE ?1 IS NULL OR nonce = ?1";
    let values = params![nonce.map(u64::cast_signed), stored(at), why];
    sqlite.prepare_cached(sql)?.execute(values).map(drop)
}

/// All rows were looked at: what is known and stands otherwise, or not any more, was changed while nobody looked; what is not known came by no commit that
/// anybody saw.
fn compare(
    sqlite: &Connection,
    at: Sequence,
    mut standing: BTreeMap<u64, Option<OutboundFields>>,
) -> rusqlite::Result<()> {
    let known: Vec<SeenMessage> = {
        let sql = "SELECT nonce, sequence, fields, refused_at, refused FROM main._synddb_outbound";
        let mut statement = sqlite.prepare(sql)?;
        statement.query_map([], read)?.collect::<rusqlite::Result<_>>()?
    };
    for known in known {
        let says = |fields: &OutboundFields| OutboundFields { inbox_consumed: 0, ..fields.clone() };
        let stands = standing.remove(&known.nonce).flatten();
        if known.fields.as_ref().map(says) != stands.as_ref().map(says) {
            refuse(sqlite, Some(known.nonce), at, "the row was changed or deleted while nobody looked")?;
        }
    }
    for nonce in standing.into_keys() {
        let refused = Some((at, BY_SNAPSHOT.to_owned()));
        insert(sqlite, &SeenMessage { nonce, sequence: at, fields: None, refused })?;
    }
    Ok(())
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
