//! What a writer writes: schemas, first rows, and one transaction after the other.
//!
//! What must stay true: the same order gives the same transactions in the same sequence, followed or not, so that ratios compare like
//! with like; and every transaction changes something, so that commits can be counted.

use serde::{Deserialize, Serialize};

use super::library::{Connection, Statement};
use crate::bench::BenchError;

/// What a writer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::bench) enum Workload {
    /// One INSERT of an integer and a 40-byte text a transaction.
    Row,
    /// 100 such rows a transaction.
    Rows,
    /// An order book: an order is inserted, another one is filled, a trade is inserted, two balances change.
    Orders,
    /// The same with four indexes.
    OrdersIndexed,
    /// 500,000 rows a transaction, each an integer and a text of so many bytes.
    Giant {
        /// The length of the text.
        text_bytes: usize,
    },
    /// A database of about so many bytes of 400-byte rows is there before the writer is ready; then as `row`.
    Filled {
        /// The size of the database.
        bytes: u64,
    },
}

/// Length of a text, in bytes.
const TEXT_BYTES: usize = 40;

/// Rows of a transaction of `rows`.
const ROWS: u64 = 100;

/// Rows of a transaction of `giant`.
const GIANT_ROWS: u64 = 500_000;

/// Length of the texts of a filled database, in bytes.
const FILLED_TEXT_BYTES: u64 = 400;

/// Bytes of the file that one row of a filled database takes.
const FILLED_ROW_BYTES: u64 = 412;

/// Rows that are filled in by one transaction.
const FILLED_ROWS: u64 = 100_000;

/// Accounts of the order book.
const ACCOUNTS: u64 = 1_000;

/// Orders that are open at any time.
const OPEN_ORDERS: u64 = 10_000;

const ENTRIES: &str =
    "CREATE TABLE entries (id INTEGER PRIMARY KEY, number INTEGER NOT NULL, text TEXT NOT NULL);";

const BOOK: &str = "
CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, account INTEGER NOT NULL, side TEXT NOT NULL, price INTEGER NOT NULL,
                     quantity INTEGER NOT NULL, filled INTEGER NOT NULL, status TEXT NOT NULL);
CREATE TABLE trades (id INTEGER PRIMARY KEY, taker INTEGER NOT NULL, maker INTEGER NOT NULL, price INTEGER NOT NULL,
                     quantity INTEGER NOT NULL);";

const BOOK_INDEXES: &str = "
CREATE INDEX orders_by_account ON orders (account);
CREATE INDEX orders_by_price ON orders (status, price);
CREATE INDEX trades_by_taker ON trades (taker);
CREATE INDEX trades_by_maker ON trades (maker);";

const INSERT_ENTRY: &str = "INSERT INTO entries (number, text) VALUES (?1, ?2)";

impl Workload {
    /// Its tables, each with its columns besides the rowid.
    pub(super) const fn tables(self) -> &'static [(&'static str, &'static [&'static str])] {
        match self {
            Self::Row | Self::Rows | Self::Giant { .. } | Self::Filled { .. } => {
                &[("entries", &["number", "text"])]
            }
            Self::Orders | Self::OrdersIndexed => &[
                ("accounts", &["balance"]),
                ("orders", &["account", "side", "price", "quantity", "filled", "status"]),
                ("trades", &["taker", "maker", "price", "quantity"]),
            ],
        }
    }

    /// Whether a transaction is one statement, which commits by itself.
    pub(super) const fn is_one_statement(self) -> bool {
        matches!(self, Self::Row | Self::Filled { .. })
    }

    /// Rows that one transaction changes.
    pub(super) const fn rows(self) -> u64 {
        match self {
            Self::Row | Self::Filled { .. } => 1,
            Self::Rows => ROWS,
            Self::Orders | Self::OrdersIndexed => 5,
            Self::Giant { .. } => GIANT_ROWS,
        }
    }

    /// Makes its tables and first rows. `go_on` says whether that is still wanted.
    pub(super) fn make(self, connection: &Connection, go_on: impl Fn() -> bool) -> Result<(), BenchError> {
        match self {
            Self::Row | Self::Rows | Self::Giant { .. } => connection.exec("make a table", ENTRIES),
            Self::Filled { bytes } => {
                connection.exec("make a table", ENTRIES)?;
                fill(connection, bytes, go_on)
            }
            Self::Orders => make_book(connection, ""),
            Self::OrdersIndexed => make_book(connection, BOOK_INDEXES),
        }
    }
}

/// Grows a database to about so many bytes.
fn fill(connection: &Connection, bytes: u64, go_on: impl Fn() -> bool) -> Result<(), BenchError> {
    let mut insert = connection.prepare(
        "fill the database",
        &format!(
            "INSERT INTO entries (number, text) WITH RECURSIVE upto (n) AS
               (SELECT 1 UNION ALL SELECT n + 1 FROM upto WHERE n < ?1)
             SELECT n, hex(randomblob({})) FROM upto",
            FILLED_TEXT_BYTES / 2
        ),
    )?;
    let mut left = bytes / FILLED_ROW_BYTES;
    while left > 0 && go_on() {
        let rows = left.min(FILLED_ROWS);
        insert.integer(1, signed(rows))?;
        insert.run()?;
        left -= rows;
    }
    drop(insert);
    // The WAL of an application that was started before measuring is as small as its last checkpoint left it.
    connection.exec("checkpoint", "PRAGMA wal_checkpoint(TRUNCATE)")
}

/// An order book with its accounts and open orders.
fn make_book(connection: &Connection, indexes: &str) -> Result<(), BenchError> {
    connection.exec("make the tables", BOOK)?;
    connection.exec("make the indexes", indexes)?;
    connection.exec(
        "fill the order book",
        &format!(
            "BEGIN;
             WITH RECURSIVE upto (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM upto WHERE n < {ACCOUNTS})
             INSERT INTO accounts SELECT n, 1000000 FROM upto;
             WITH RECURSIVE upto (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM upto WHERE n < {OPEN_ORDERS})
             INSERT INTO orders SELECT n, 1 + n % {ACCOUNTS}, 'buy', 10000 + n % 500, 1 + n % 100, 0, 'open' FROM upto;
             COMMIT;"
        ),
    )
}

/// The statements of a workload, and where it is.
pub(super) struct Application<'connection> {
    workload: Workload,
    chance: Chance,
    text: String,
    entry: Option<Statement<'connection>>,
    book: Option<Book<'connection>>,
}

impl<'connection> Application<'connection> {
    /// Prepares what the transactions of a workload need. Its tables are there.
    pub(super) fn new(workload: Workload, connection: &'connection Connection) -> Result<Self, BenchError> {
        let is_book = matches!(workload, Workload::Orders | Workload::OrdersIndexed);
        let entry = (!is_book).then(|| connection.prepare("insert a row", INSERT_ENTRY)).transpose()?;
        let book = is_book.then(|| Book::new(connection)).transpose()?;
        Ok(Self { workload, chance: Chance(SEED), text: String::new(), entry, book })
    }

    /// The statements of the next transaction, without its BEGIN and COMMIT.
    pub(super) fn statements(&mut self) -> Result<(), BenchError> {
        if let Some(book) = &mut self.book {
            return book.trade(&mut self.chance);
        }
        let Some(entry) = &mut self.entry else { return Ok(()) };
        let bytes = if let Workload::Giant { text_bytes } = self.workload { text_bytes } else { TEXT_BYTES };
        for _ in 0..self.workload.rows() {
            let number = self.chance.next();
            self.chance.text(&mut self.text, bytes);
            entry.integer(1, signed(number >> 1))?;
            entry.text(2, &self.text)?;
            entry.run()?;
        }
        Ok(())
    }
}

/// The statements of the order book.
struct Book<'connection> {
    place: Statement<'connection>,
    fill: Statement<'connection>,
    trade: Statement<'connection>,
    pay: Statement<'connection>,
    /// The orders that are open, by their numbers.
    open: Vec<u64>,
    last: u64,
}

impl<'connection> Book<'connection> {
    fn new(connection: &'connection Connection) -> Result<Self, BenchError> {
        let place = "INSERT INTO orders (account, side, price, quantity, filled, status) VALUES (?1, ?2, ?3, ?4, 0, 'open')";
        let fill = "UPDATE orders SET filled = quantity, status = 'filled' WHERE id = ?1";
        let trade = "INSERT INTO trades (taker, maker, price, quantity) VALUES (?1, ?2, ?3, ?4)";
        let pay = "UPDATE accounts SET balance = balance + ?2 WHERE id = ?1";
        Ok(Self {
            place: connection.prepare("place an order", place)?,
            fill: connection.prepare("fill an order", fill)?,
            trade: connection.prepare("insert a trade", trade)?,
            pay: connection.prepare("change a balance", pay)?,
            open: (1..=OPEN_ORDERS).collect(),
            last: OPEN_ORDERS,
        })
    }

    /// A new order meets an open one, which it fills, and stays open itself.
    fn trade(&mut self, chance: &mut Chance) -> Result<(), BenchError> {
        let taker = 1 + chance.below(ACCOUNTS);
        let maker = 1 + (taker + chance.below(ACCOUNTS - 1)) % ACCOUNTS;
        let (price, quantity) = (10_000 + chance.below(500), 1 + chance.below(100));
        self.place.integer(1, signed(taker))?;
        self.place.text(2, if chance.below(2) == 0 { "buy" } else { "sell" })?;
        self.place.integer(3, signed(price))?;
        self.place.integer(4, signed(quantity))?;
        self.place.run()?;
        self.last += 1;
        let at = usize::try_from(chance.below(OPEN_ORDERS)).unwrap_or_default();
        let filled = std::mem::replace(&mut self.open[at], self.last);
        self.fill.integer(1, signed(filled))?;
        self.fill.run()?;
        for (parameter, value) in [(1, self.last), (2, filled), (3, price), (4, quantity)] {
            self.trade.integer(parameter, signed(value))?;
        }
        self.trade.run()?;
        for (account, change) in [(taker, -signed(price * quantity)), (maker, signed(price * quantity))] {
            self.pay.integer(1, signed(account))?;
            self.pay.integer(2, change)?;
            self.pay.run()?;
        }
        Ok(())
    }
}

/// Where chance begins: the same in every run.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Numbers that look drawn by chance and are the same in every run: Marsaglia's xorshift64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A text of so many bytes: it does not compress to nothing, and costs the writer next to nothing.
    fn text(&mut self, text: &mut String, bytes: usize) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        text.clear();
        while text.len() < bytes {
            let mut number = self.next();
            for _ in 0..16.min(bytes - text.len()) {
                text.push(char::from(DIGITS[(number & 15) as usize]));
                number >>= 4;
            }
        }
    }
}

/// A number that is never as large as SQLite's integers.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_their_length_and_do_not_repeat() {
        let (mut chance, mut text, mut other) = (Chance(SEED), String::new(), String::new());
        for bytes in [0, 1, 16, 40, 400] {
            chance.text(&mut text, bytes);
            assert_eq!(text.len(), bytes);
            chance.text(&mut other, bytes);
            assert!(bytes < 16 || text != other, "{text}");
        }
    }

    #[test]
    fn two_writers_draw_the_same() {
        let drawn = || {
            let mut chance = Chance(SEED);
            (0..100).map(|_| chance.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(), drawn());
        assert!(drawn().iter().any(|number| *number > 500) && drawn().iter().any(|number| *number < 500));
    }
}
