//! The rows of a commit that came in parts, read back from the ledger.

use std::io::{self, BufRead, Read};

use synddb_sqlite::rusqlite::{self, OptionalExtension as _};

/// The rows of a commit that came in parts, one part in memory at a time.
pub(super) struct Parts<'s> {
    sqlite: &'s rusqlite::Connection,
    next: i64,
    part: Vec<u8>,
    position: usize,
}

impl<'s> Parts<'s> {
    pub(super) const fn of(sqlite: &'s rusqlite::Connection) -> Self {
        Self { sqlite, next: 0, part: Vec::new(), position: 0 }
    }
}

impl BufRead for Parts<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position >= self.part.len() {
            let sql = "SELECT rows FROM parts WHERE place = ?";
            let part = self.sqlite.query_row(sql, [self.next], |row| row.get(0)).optional();
            let Some(part) = part.map_err(io::Error::other)? else {
                // The end, unless this machine lost what is before others: that is no word of the log.
                let sql = "SELECT count(*) FROM parts WHERE place > ?";
                let behind: i64 =
                    self.sqlite.query_row(sql, [self.next], |row| row.get(0)).map_err(io::Error::other)?;
                if behind > 0 {
                    return Err(io::Error::other("the ledger lacks a part of a commit"));
                }
                return Ok(&[]);
            };
            (self.part, self.position, self.next) = (part, 0, self.next + 1);
        }
        Ok(self.part.get(self.position..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount;
    }
}

impl Read for Parts<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let amount = there.len().min(out.len());
        out[..amount].copy_from_slice(&there[..amount]);
        self.consume(amount);
        Ok(amount)
    }
}
