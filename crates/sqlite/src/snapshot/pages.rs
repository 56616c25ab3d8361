//! What a snapshot has to know of a database file's pages (SQLite file format, sections 1.3 to 1.8).
//!
//! Every offset that a page names is checked before it is used: a damaged page is an error, whatever it holds. Knows nothing of
//! records and what they mean.

use synddb_protocol::submission::PageSize;

/// First bytes of every database file.
pub(super) const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Length of the database header, which stands before the b-tree header of page 1.
pub(super) const DATABASE_HEADER: usize = 100;
/// The byte that SQLite's file locks sit on; its page holds nothing.
#[cfg(not(feature = "probes"))]
const fn lock_byte() -> u32 {
    0x4000_0000
}

/// The byte that SQLite's file locks sit on, which a test may have moved.
#[cfg(feature = "probes")]
#[allow(
    unsafe_code,
    reason = "where the lock byte lies is asked by a call that rusqlite has no function for"
)]
fn lock_byte() -> u32 {
    use rusqlite::ffi;
    // SAFETY: with 0 this control changes nothing, and returns where the byte lies.
    let at = unsafe { ffi::sqlite3_test_control(ffi::SQLITE_TESTCTRL_PENDING_BYTE, 0_u32) };
    at.cast_unsigned()
}

/// Longest payload SQLite can write (`SQLITE_MAX_LENGTH`, at its highest).
const PAYLOAD_MAX: u64 = i32::MAX as u64;

const ENDS_EARLY: &str = "the page ends inside a field";

/// What is the same for every page of one file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    /// The page size.
    pub(super) page_size: PageSize,
    /// Bytes of a page that SQLite itself uses: all but the reserved ones at its end.
    pub(super) usable: usize,
    /// How many pages there are.
    pub(super) pages: u32,
    /// Whether the file has pointer map pages.
    pub(super) auto_vacuum: bool,
}

impl Geometry {
    /// Reads it from page 1, which is one page long.
    pub(super) fn read(page_one: &[u8], pages: u32) -> Result<Self, &'static str> {
        if !page_one.starts_with(MAGIC) {
            return Err("the header is not that of a database");
        }
        let size = match u16_at(page_one, 16)? {
            1 => 65_536,
            size => u64::from(size),
        };
        let page_size = PageSize::new(size).map_err(|_| "the header names no page size")?;
        if size != page_one.len() as u64 {
            return Err("the header names another page size");
        }
        let reserved = page_one.get(20).copied().map_or(0, usize::from);
        let usable = page_one.len().saturating_sub(reserved);
        if usable < 480 {
            return Err("the header reserves too much of a page");
        }
        Ok(Self { page_size, usable, pages, auto_vacuum: u32_at(page_one, 52)? != 0 })
    }

    /// The size of a page in bytes, to index it with.
    pub(super) fn page_bytes(&self) -> usize {
        self.page_size.get() as usize
    }

    /// The page that file locks sit on, in files that are so large.
    pub(super) fn lock_page(&self) -> u32 {
        lock_byte() / self.page_size.get() + 1
    }

    /// The bytes of payload that a full overflow page holds.
    pub(super) fn overflow_bytes(&self) -> usize {
        self.usable - 4
    }

    /// How many entries of 5 bytes a pointer map page holds.
    pub(super) fn map_entries(&self) -> usize {
        self.usable / 5
    }

    /// Whether the page holds the pointer map of the pages behind it.
    pub(super) fn is_pointer_map(&self, page: u32) -> bool {
        if !self.auto_vacuum || page < 2 {
            return false;
        }
        // The usable size is at most 65536, so that this always fits.
        let group = u32::try_from(self.map_entries()).unwrap_or(u32::MAX - 1) + 1;
        let map = (page - 2) / group * group + 2;
        let map = if map == self.lock_page() { map + 1 } else { map };
        map == page
    }

    /// Whether a b-tree or an overflow chain may use the page.
    pub(super) fn can_hold_content(&self, page: u32) -> bool {
        (2..=self.pages).contains(&page) && page != self.lock_page() && !self.is_pointer_map(page)
    }
}

/// The rest of a payload, in a chain of overflow pages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Overflow {
    /// The first page of the chain.
    pub(super) first: u32,
    /// How many bytes of payload are in it.
    pub(super) bytes: usize,
}

/// A cell of a b-tree page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    /// Where it begins in the page.
    pub(super) start: usize,
    /// Where it ends.
    pub(super) end: usize,
    /// The child page left of it, on an interior page.
    pub(super) child: Option<u32>,
    /// What of its payload is elsewhere.
    pub(super) overflow: Option<Overflow>,
}

/// A b-tree page.
#[derive(Debug, Clone, Copy)]
pub(super) struct TreePage<'p> {
    bytes: &'p [u8],
    usable: usize,
    /// Where the b-tree header begins.
    start: usize,
    /// Whether it belongs to a tree of rowids and not of keys.
    pub(super) is_table: bool,
    is_leaf: bool,
    cells: usize,
}

impl<'p> TreePage<'p> {
    /// Reads the header of a b-tree page, which is one page long.
    pub(super) fn read(bytes: &'p [u8], page: u32, geometry: &Geometry) -> Result<Self, &'static str> {
        let start = if page == 1 { DATABASE_HEADER } else { 0 };
        let (is_table, is_leaf) = match bytes.get(start) {
            Some(2) => (false, false),
            Some(5) => (true, false),
            Some(10) => (false, true),
            Some(13) => (true, true),
            _ => return Err("a page of a tree has no such type"),
        };
        let cells = usize::from(u16_at(bytes, start + 3)?);
        let read = Self { bytes, usable: geometry.usable, start, is_table, is_leaf, cells };
        if bytes.len() != geometry.page_bytes() || read.pointers_end() > read.usable {
            return Err("a page has more cells than it has room for");
        }
        Ok(read)
    }

    /// The last child, on an interior page.
    pub(super) fn right_child(&self) -> Result<Option<u32>, &'static str> {
        if self.is_leaf {
            return Ok(None);
        }
        u32_at(self.bytes, self.start + 8).map(Some)
    }

    /// The cells, in the order of their keys.
    pub(super) fn cells(&self) -> impl Iterator<Item = Result<Cell, &'static str>> + use<'p> {
        let page = *self;
        (0..page.cells).map(move |index| page.cell(index))
    }

    /// The page with nothing in it but what is in use: no byte between the cells, and of free blocks only their headers.
    pub(super) fn clean(&self) -> Result<Vec<u8>, &'static str> {
        let mut clean = vec![0; self.bytes.len()];
        clean[..self.pointers_end()].copy_from_slice(&self.bytes[..self.pointers_end()]);
        for cell in self.cells() {
            let cell = cell?;
            clean[cell.start..cell.end].copy_from_slice(&self.bytes[cell.start..cell.end]);
        }
        let mut block = usize::from(u16_at(self.bytes, self.start + 1)?);
        let mut free_from = self.pointers_end();
        while block != 0 {
            // SQLite keeps the blocks in order, so that the chain ends.
            if block < free_from || block + 4 > self.usable {
                return Err("the free blocks of a page are out of order");
            }
            let size = usize::from(u16_at(self.bytes, block + 2)?);
            if size < 4 || block + size > self.usable {
                return Err("a free block is larger than its page");
            }
            clean[block..block + 4].copy_from_slice(&self.bytes[block..block + 4]);
            free_from = block + size;
            block = usize::from(u16_at(self.bytes, block)?);
        }
        Ok(clean)
    }

    fn pointers_end(&self) -> usize {
        let header = if self.is_leaf { 8 } else { 12 };
        self.start + header + 2 * self.cells
    }

    fn cell(&self, index: usize) -> Result<Cell, &'static str> {
        let pointer = self.pointers_end() - 2 * self.cells + 2 * index;
        let start = usize::from(u16_at(self.bytes, pointer)?);
        if start < self.pointers_end() {
            return Err("a cell lies over the header of its page");
        }
        let mut at = start;
        let mut child = None;
        if !self.is_leaf {
            child = Some(u32_at(self.bytes, at)?);
            at += 4;
        }
        let mut overflow = None;
        if self.is_table && !self.is_leaf {
            at += self.varint(at)?.1;
        } else {
            let (payload, length) = self.varint(at)?;
            at += length;
            if self.is_table {
                at += self.varint(at)?.1;
            }
            let payload = usize::try_from(payload.min(PAYLOAD_MAX + 1)).unwrap_or(usize::MAX);
            if payload as u64 > PAYLOAD_MAX {
                return Err("a payload is longer than SQLite can write");
            }
            let local = self.local(payload);
            at += local;
            if local < payload {
                overflow = Some(Overflow { first: u32_at(self.bytes, at)?, bytes: payload - local });
                at += 4;
            }
        }
        if at > self.usable {
            return Err("a cell reaches over the end of its page");
        }
        Ok(Cell { start, end: at, child, overflow })
    }

    /// How much of a payload stands in the page itself (SQLite file format, section 1.6).
    fn local(&self, payload: usize) -> usize {
        let usable = self.usable;
        let most = if self.is_table { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
        if payload <= most {
            return payload;
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let fitting = least + (payload - least) % (usable - 4);
        if fitting <= most { fitting } else { least }
    }

    /// A variable-length integer and how many bytes it takes.
    fn varint(&self, at: usize) -> Result<(u64, usize), &'static str> {
        let mut value = 0u64;
        for length in 1..=9 {
            let byte = *self.bytes.get(at + length - 1).ok_or(ENDS_EARLY)?;
            if length == 9 {
                return Ok((value << 8 | u64::from(byte), 9));
            }
            value = value << 7 | u64::from(byte & 0x7f);
            if byte < 0x80 {
                return Ok((value, length));
            }
        }
        Err(ENDS_EARLY)
    }
}

/// A big-endian number of 2 bytes.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Result<u16, &'static str> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(ENDS_EARLY)?;
    Ok(u16::from_be_bytes(*field))
}

/// A big-endian number of 4 bytes.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Result<u32, &'static str> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(ENDS_EARLY)?;
    Ok(u32::from_be_bytes(*field))
}
