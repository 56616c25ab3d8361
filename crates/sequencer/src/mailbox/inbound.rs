//! What the ledger knows of inbound messages: what the bridge told, and whether the application is done with it.

use synddb_chain::follow::BridgeEvent;
use synddb_protocol::http::{Acknowledged, InboundMessage, Sent};
use synddb_protocol::id::{Sequence, Timestamp};
use synddb_protocol::log::{Inbound, MessageHeader};
use synddb_sqlite::rusqlite::{self, OptionalExtension as _, params};

use super::ledger::{Ledger, LedgerError};

/// An inbound message that the application has not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Oldest {
    pub(super) nonce: u64,
    /// Log time when it came.
    pub(super) since: Timestamp,
}

/// A row: message, in which of the log's it was acknowledged, and how.
type Written = (String, Option<i64>, Option<String>);

impl Ledger {
    /// An inbound message is stored.
    pub(super) fn deliver(&self, header: &MessageHeader, inbound: &Inbound) -> Result<(), LedgerError> {
        let sent = BridgeEvent::from_bytes(&inbound.event).map(|event| Sent {
            sender: event.sender,
            token: event.token,
            amount: event.amount.to_string(),
            data: format!("0x{}", hex::encode(&event.data)),
        });
        let message = InboundMessage {
            nonce: inbound.nonce.get(),
            sequence: header.sequence,
            timestamp: header.timestamp,
            chain_id: inbound.chain_id,
            bridge: inbound.bridge,
            block_number: inbound.block_number,
            block_hash: inbound.block_hash,
            transaction_hash: inbound.transaction_hash,
            log_index: inbound.log_index,
            sent,
            acknowledged: None,
        };
        let written = serde_json::to_string(&message).map_err(|_| self.damaged("an inbound message"))?;
        let sql = "INSERT INTO inbound VALUES (?, ?, ?, NULL, NULL)";
        let values = params![message.nonce.cast_signed(), message.timestamp.as_ms().cast_signed(), written];
        let insert = self.sqlite.prepare_cached(sql).and_then(|mut insert| insert.execute(values));
        self.done(insert).map(drop)
    }

    /// The application is done with an inbound message. What it said first stays.
    pub(super) fn acknowledge(
        &self,
        sequence: Sequence,
        nonce: u64,
        outcome: Option<&str>,
    ) -> Result<(), LedgerError> {
        let sql = "UPDATE inbound SET acknowledged = ?, outcome = ? WHERE nonce = ? AND acknowledged IS NULL";
        let values = params![sequence.get().cast_signed(), outcome, nonce.cast_signed()];
        let update = self.sqlite.prepare_cached(sql).and_then(|mut update| update.execute(values));
        self.done(update).map(drop)
    }

    /// What is known of inbound messages from one on, in their order: so many at most.
    pub(super) fn inbound_from(&self, from: u64, limit: usize) -> Result<Vec<InboundMessage>, LedgerError> {
        let Ok(from) = i64::try_from(from) else { return Ok(Vec::new()) };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql =
            "SELECT message, acknowledged, outcome FROM inbound WHERE nonce >= ? ORDER BY nonce LIMIT ?";
        let read = || -> rusqlite::Result<Vec<Written>> {
            let mut select = self.sqlite.prepare_cached(sql)?;
            let rows =
                select.query_map(params![from, limit], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect()
        };
        self.done(read())?.into_iter().map(|written| self.inbound_of(written)).collect()
    }

    /// What is known of one of them.
    pub(super) fn inbound(&self, nonce: u64) -> Result<Option<InboundMessage>, LedgerError> {
        Ok(self.inbound_from(nonce, 1)?.pop().filter(|message| message.nonce == nonce))
    }

    /// The block of the last one before a nonce.
    pub(super) fn block_before(&self, nonce: u64) -> Result<Option<u64>, LedgerError> {
        let sql =
            "SELECT message, acknowledged, outcome FROM inbound WHERE nonce < ? ORDER BY nonce DESC LIMIT 1";
        let read = self
            .sqlite
            .query_row(sql, [nonce.cast_signed()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        let last = self.done(read.optional())?.map(|written| self.inbound_of(written)).transpose()?;
        Ok(last.map(|last| last.block_number))
    }

    fn inbound_of(&self, (message, at, outcome): Written) -> Result<InboundMessage, LedgerError> {
        let message = serde_json::from_str::<InboundMessage>(&message);
        let mut message = message.map_err(|_| self.damaged("an inbound message"))?;
        let sequence = at.map(|at| self.sequence(at)).transpose()?;
        // Where a row behind it was seen, whoever keeps the order has acknowledged this one before.
        let (_, standing) = self.standing();
        let is_done = sequence.is_some() || message.nonce <= standing.consumed;
        message.acknowledged = is_done.then_some(Acknowledged { sequence, outcome });
        Ok(message)
    }

    /// The first inbound message that is not acknowledged. What was there when an incarnation began is passed: the state that it began with says what became of
    /// it, which validators look at, and nobody here does.
    pub(super) fn oldest(&self) -> Result<Option<Oldest>, LedgerError> {
        let (_, standing) = self.standing();
        let sql = "SELECT nonce, timestamp_ms FROM inbound WHERE nonce > ? ORDER BY nonce LIMIT 1";
        let known = standing.consumed.max(standing.passed).cast_signed();
        let oldest = self.sqlite.query_row(sql, [known], |row| {
            Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned()))
        });
        let Some((nonce, since)) = self.done(oldest.optional())? else { return Ok(None) };
        let since = Timestamp::from_ms(since).map_err(|_| self.damaged("log time"))?;
        Ok(Some(Oldest { nonce, since }))
    }
}
