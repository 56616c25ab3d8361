//! A row of `outbound_messages`, read once and for all: what it says, or why it is no message.
//!
//! Sequencer and validator read the same row in different places, one of a changeset and one of a replica, and must come to the same message. Knows
//! nothing of who signs it, and of what came before it.

use synddb_protocol::Uint256;
use synddb_protocol::hash::PayloadHash;
use synddb_protocol::id::{Address, StreamId};
use synddb_protocol::log::OutboundMessage;
use synddb_protocol::state::Value;
use synddb_protocol::submission::TextEncoding;

use crate::schema::to_text;

/// Longest call data of a message, in bytes: a bridge executes none with longer ones.
pub const PAYLOAD_BYTES_MAX: usize = 65_536;
/// Most gas of a message: a bridge executes none with more.
pub const GAS_LIMIT_MAX: u64 = 10_000_000;
/// The deadline of a message that never expires: no chain has a later second.
pub const DEADLINE_NEVER: u64 = u64::MAX;

/// The columns of which a message is made.
const NAMES: [&str; 8] = ["id", "target", "value", "token", "amount", "payload", "gas_limit", "deadline"];

/// Where the columns of a message stand in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboundColumns([usize; NAMES.len()]);

impl OutboundColumns {
    /// As [`super::SCHEMA`] makes the table.
    pub const AS_MADE: Self = Self([0, 1, 2, 3, 4, 5, 6, 7]);
    /// How many columns the table has that [`super::SCHEMA`] makes.
    pub const MADE: usize = 10;

    /// By the names of a table's columns; `None` where one is missing.
    pub fn of(names: &[&str]) -> Option<Self> {
        let mut places = [0; NAMES.len()];
        for (place, wanted) in places.iter_mut().zip(NAMES) {
            *place = names.iter().position(|name| name.eq_ignore_ascii_case(wanted))?;
        }
        Some(Self(places))
    }
}

/// A row that asks the bridge to act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundRow {
    /// Its id.
    pub nonce: u64,
    /// Who is called.
    pub target: Address,
    /// Native currency to send, in wei.
    pub value: Uint256,
    /// The token to send; `None` for none.
    pub token: Option<Address>,
    /// How much of it.
    pub amount: Uint256,
    /// What the target is called with.
    pub payload: Vec<u8>,
    /// The gas that the call may use.
    pub gas_limit: u64,
    /// The last second, since 1970, in which it may be executed; `None` for never.
    pub deadline: Option<u64>,
}

/// A row that is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotOutbound {
    /// A column does not hold what the table's checks ask for.
    #[error(
        "the column `{column}` does not hold {wanted}; make the table by `synddb init-messages`, which refuses such rows"
    )]
    Column {
        /// The column.
        column: &'static str,
        /// What it should hold.
        wanted: &'static str,
    },
    /// It sends an amount of nothing.
    #[error("an amount is sent without a token; name the token, or leave the amount out")]
    AmountWithoutToken,
}

impl OutboundRow {
    /// Reads a row. What the table's checks refuse is refused here as well: a validator believes none of them.
    ///
    /// # Errors
    /// [`NotOutbound`].
    pub fn read(
        row: &[Value<'_>],
        columns: &OutboundColumns,
        encoding: TextEncoding,
    ) -> Result<Self, NotOutbound> {
        let [id, target, value, token, amount, payload, gas_limit, deadline] =
            columns.0.map(|place| row.get(place).copied().unwrap_or(Value::Null));
        let read = Self {
            nonce: positive(id)
                .ok_or(NotOutbound::Column { column: "id", wanted: "an integer of 1 or more" })?,
            target: address("target", target, encoding)?,
            value: number("value", value, encoding)?,
            token: if token == Value::Null { None } else { Some(address("token", token, encoding)?) },
            amount: number("amount", amount, encoding)?,
            payload: match payload {
                Value::Blob(bytes) if bytes.len() <= PAYLOAD_BYTES_MAX => bytes.to_vec(),
                Value::Null | Value::Integer(_) | Value::Real(_) | Value::Text(_) | Value::Blob(_) => {
                    return Err(NotOutbound::Column {
                        column: "payload",
                        wanted: "a blob of 65536 bytes at most",
                    });
                }
            },
            gas_limit: integer(gas_limit).filter(|gas| *gas <= GAS_LIMIT_MAX).ok_or(NotOutbound::Column {
                column: "gas_limit",
                wanted: "an integer from 0 to 10000000",
            })?,
            deadline: if deadline == Value::Null {
                None
            } else {
                let wanted = "an integer of seconds, or NULL";
                Some(positive(deadline).ok_or(NotOutbound::Column { column: "deadline", wanted })?)
            },
        };
        if read.token.is_none() && read.amount != Uint256::ZERO {
            return Err(NotOutbound::AmountWithoutToken);
        }
        Ok(read)
    }

    /// What is signed of it, where the application had acknowledged so many inbound messages when it wrote the row.
    pub fn message(&self, stream: StreamId, inbox_consumed: u64) -> OutboundMessage {
        OutboundMessage {
            stream,
            nonce: self.nonce,
            target: self.target,
            value: self.value,
            token: self.token.unwrap_or(Address::ZERO),
            amount: self.amount,
            payload_hash: PayloadHash::of(&self.payload),
            gas_limit: self.gas_limit,
            deadline: self.deadline.unwrap_or(DEADLINE_NEVER),
            inbox_consumed,
        }
    }
}

fn integer(value: Value<'_>) -> Option<u64> {
    if let Value::Integer(value) = value { u64::try_from(value).ok() } else { None }
}

fn positive(value: Value<'_>) -> Option<u64> {
    integer(value).filter(|value| *value > 0)
}

fn text(value: Value<'_>, encoding: TextEncoding) -> Option<String> {
    if let Value::Text(bytes) = value { to_text(bytes, encoding).ok() } else { None }
}

fn address(column: &'static str, value: Value<'_>, encoding: TextEncoding) -> Result<Address, NotOutbound> {
    let lower = |text: &String| !text.bytes().any(|byte| byte.is_ascii_uppercase());
    let read = text(value, encoding).filter(lower).and_then(|text| text.parse().ok());
    read.ok_or(NotOutbound::Column { column, wanted: "0x and 40 hex digits in lower case" })
}

fn number(column: &'static str, value: Value<'_>, encoding: TextEncoding) -> Result<Uint256, NotOutbound> {
    let read = text(value, encoding).and_then(|text| text.parse().ok());
    read.ok_or(NotOutbound::Column { column, wanted: "a decimal number below 2^256, as text" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Connection;
    use crate::messages;

    const TARGET: &[u8] = b"0x00000000000000000000000000000000000000aa";

    fn row() -> Vec<Value<'static>> {
        let (target, none) = (Value::Text(TARGET), Value::Null);
        let zero = Value::Text(b"0");
        let (key, made) = (Value::Null, Value::Integer(1));
        vec![
            Value::Integer(7),
            target,
            zero,
            none,
            zero,
            Value::Blob(b"\x01"),
            Value::Integer(200_000),
            none,
            key,
            made,
        ]
    }

    fn read(at: usize, value: Value<'static>) -> Result<OutboundRow, NotOutbound> {
        let mut row = row();
        row[at] = value;
        OutboundRow::read(&row, &OutboundColumns::AS_MADE, TextEncoding::Utf8)
    }

    #[test]
    fn the_columns_stand_where_the_schema_has_them() {
        let made = Connection::over(rusqlite::Connection::open_in_memory().unwrap()).unwrap();
        messages::create(&made).unwrap();
        let mut statement =
            made.sqlite().prepare("SELECT name FROM pragma_table_xinfo('outbound_messages')").unwrap();
        let names: Vec<String> =
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(
            (OutboundColumns::of(&names), names.len()),
            (Some(OutboundColumns::AS_MADE), OutboundColumns::MADE)
        );
        assert_eq!(OutboundColumns::of(&names[1..]), None);
    }

    #[test]
    fn a_row_is_read_or_refused_by_its_column() {
        let message = read(0, Value::Integer(7)).unwrap().message(StreamId::from_bytes([1; 32]), 3);
        assert_eq!((message.nonce, message.deadline, message.inbox_consumed), (7, DEADLINE_NEVER, 3));
        assert_eq!((message.token, message.payload_hash), (Address::ZERO, PayloadHash::of(b"\x01")));
        assert_eq!(read(7, Value::Integer(9)).unwrap().deadline, Some(9));
        let too_long: &'static [u8] = vec![0; PAYLOAD_BYTES_MAX + 1].leak();
        for (at, wrong, column) in [
            (0, Value::Integer(0), "id"),
            (0, Value::Text(b"7"), "id"),
            (1, Value::Text(b"0x00000000000000000000000000000000000000AA"), "target"),
            (1, Value::Text(b"00000000000000000000000000000000000000aa"), "target"),
            (1, Value::Blob(TARGET), "target"),
            (2, Value::Text(b"01"), "value"),
            (2, Value::Integer(1), "value"),
            (3, Value::Text(b""), "token"),
            (4, Value::Text(b"-1"), "amount"),
            (5, Value::Text(b""), "payload"),
            (5, Value::Blob(too_long), "payload"),
            (6, Value::Integer(10_000_001), "gas_limit"),
            (6, Value::Integer(-1), "gas_limit"),
            (7, Value::Integer(0), "deadline"),
            (7, Value::Real(1.0), "deadline"),
        ] {
            let found = read(at, wrong).unwrap_err();
            assert!(matches!(found, NotOutbound::Column { column: named, .. } if named == column), "{found}");
        }
        assert_eq!(read(4, Value::Text(b"1")), Err(NotOutbound::AmountWithoutToken));
        let utf16: Vec<u8> = TARGET.iter().flat_map(|byte| [*byte, 0]).collect();
        let mut row = row();
        row[1] = Value::Text(&utf16);
        row[2] = Value::Text(b"0\0");
        row[4] = Value::Text(b"0\0");
        assert!(OutboundRow::read(&row, &OutboundColumns::AS_MADE, TextEncoding::Utf16Le).is_ok());
    }
}
