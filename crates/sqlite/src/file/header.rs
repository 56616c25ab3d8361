//! The first 100 bytes of a database file (file format, section 1.3).

use synddb_protocol::submission::{PageSize, TextEncoding};

use super::{Damaged, u32_at};

/// How many bytes of page 1 come before its b-tree page.
pub const HEADER_BYTES: usize = 100;

/// What the header says and a reader of pages needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Size of a page.
    pub page_size: PageSize,
    /// Bytes of each page that belong to an extension.
    pub reserved: u8,
    /// How text is stored.
    pub encoding: TextEncoding,
    /// `PRAGMA user_version`.
    pub user_version: i32,
    /// `PRAGMA application_id`.
    pub application_id: i32,
}

impl Header {
    /// Reads the header from page 1.
    ///
    /// # Errors
    /// [`Damaged`] when it is no SQLite database.
    pub fn read(page: &[u8]) -> Result<Self, Damaged> {
        let damaged = |what| Damaged::new(what, 1);
        let Some(header) = page.first_chunk::<HEADER_BYTES>() else {
            return Err(damaged("the header is cut off"));
        };
        if !header.starts_with(b"SQLite format 3\0") {
            return Err(damaged("the file does not start as an SQLite database does"));
        }
        let size = u64::from(u16::from_be_bytes([header[16], header[17]]));
        let page_size =
            PageSize::new(if size == 1 { 65_536 } else { size }).map_err(|_| damaged("page size"))?;
        let reserved = header[20];
        if page_size.get() - u32::from(reserved) < 480 {
            return Err(damaged("more bytes of a page are reserved than SQLite allows"));
        }
        let encoding = match u32_at(header, 56) {
            // An empty database that nobody has written text to yet.
            Some(0 | 1) => TextEncoding::Utf8,
            Some(2) => TextEncoding::Utf16Le,
            Some(3) => TextEncoding::Utf16Be,
            _ => return Err(damaged("text encoding")),
        };
        let signed = |at| u32_at(header, at).unwrap_or(0).cast_signed();
        Ok(Self { page_size, reserved, encoding, user_version: signed(60), application_id: signed(68) })
    }

    /// Bytes of a page that SQLite uses.
    pub fn usable(&self) -> usize {
        (self.page_size.get() - u32::from(self.reserved)) as usize
    }
}
