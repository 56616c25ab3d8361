//! One b-tree page (file format, section 1.6).

use super::header::HEADER_BYTES;
use super::{Damaged, u16_at, u32_at, varint};

/// What a b-tree page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageKind {
    /// Keys and children of a table of rowids.
    TableInterior,
    /// Rows of a table of rowids.
    TableLeaf,
    /// Entries and children of an index, or of a WITHOUT ROWID table, whose rows they are.
    IndexInterior,
    /// Entries of an index, or rows of a WITHOUT ROWID table.
    IndexLeaf,
}

impl PageKind {
    /// Whether the page has children.
    pub fn is_interior(self) -> bool {
        matches!(self, Self::TableInterior | Self::IndexInterior)
    }

    /// Whether the page belongs to a table of rowids.
    pub fn is_table(self) -> bool {
        matches!(self, Self::TableInterior | Self::TableLeaf)
    }
}

/// Least bytes of a page that SQLite uses.
const USABLE_MIN: usize = 480;

/// A b-tree page, its header checked.
#[derive(Debug, Clone, Copy)]
pub struct Page<'p> {
    number: u32,
    /// The usable bytes.
    bytes: &'p [u8],
    /// Where its header starts: 100 on page 1.
    start: usize,
    kind: PageKind,
    cells: usize,
}

/// A cell that holds a payload: a row, or an entry of an index.
#[derive(Debug, Clone, Copy)]
pub struct Cell<'p> {
    /// The rowid, in a table of rowids; 0 elsewhere.
    pub rowid: i64,
    /// Length of the whole payload.
    pub payload: u64,
    /// The payload's bytes on this page.
    pub local: &'p [u8],
    /// The first page with the rest.
    pub overflow: Option<u32>,
    /// The cell as stored, without the pointer to a child: two cells of the same bytes hold the same row, as long as their
    /// overflow pages do.
    pub bytes: &'p [u8],
}

impl<'p> Page<'p> {
    /// Reads the header of the page. `bytes` is the whole page; `usable` bytes of it are SQLite's.
    ///
    /// # Errors
    /// [`Damaged`] when it is no b-tree page.
    pub fn read(number: u32, bytes: &'p [u8], usable: usize) -> Result<Self, Damaged> {
        let start = if number == 1 { HEADER_BYTES } else { 0 };
        let kind = match bytes.get(start) {
            Some(2) => PageKind::IndexInterior,
            Some(5) => PageKind::TableInterior,
            Some(10) => PageKind::IndexLeaf,
            Some(13) => PageKind::TableLeaf,
            _ => return Err(Damaged::new("a page of a tree has no such type", number)),
        };
        if usable < USABLE_MIN {
            return Err(Damaged::new("more bytes of a page are reserved than SQLite allows", number));
        }
        let bytes = bytes.get(..usable).ok_or(Damaged::new("the page is cut off", number))?;
        let cells = u16_at(bytes, start + 3).ok_or(Damaged::new("the page is cut off", number))?;
        let page = Self { number, bytes, start, kind, cells: cells.into() };
        if page.pointers() + 2 * page.cells > usable {
            return Err(Damaged::new("the page has more cells than fit", number));
        }
        Ok(page)
    }

    /// What the page holds.
    pub fn kind(&self) -> PageKind {
        self.kind
    }

    /// How many cells it has.
    pub fn cells(&self) -> usize {
        self.cells
    }

    /// The children of an interior page, from left to right. A leaf has none.
    ///
    /// # Errors
    /// [`Damaged`] when a pointer lies outside of the page.
    pub fn children(&self) -> Result<Vec<u32>, Damaged> {
        if !self.kind.is_interior() {
            return Ok(Vec::new());
        }
        let right = u32_at(self.bytes, self.start + 8);
        let left = (0..self.cells).map(|at| u32_at(self.bytes, self.cell_start(at)?));
        left.chain([right]).collect::<Option<_>>().ok_or(self.damaged("a pointer to a child lies outside"))
    }

    /// A cell that holds a payload. Only interior pages of tables of rowids have none.
    ///
    /// # Errors
    /// [`Damaged`] when it lies outside of the page.
    pub fn cell(&self, at: usize) -> Result<Cell<'p>, Damaged> {
        self.read_cell(at).ok_or(self.damaged("a cell lies outside"))
    }

    /// Checks what a reader of all cells relies on: that together they are no larger than the page, so that reading them takes no longer
    /// than the page is large, and that in a table of rowids these rise. Returns the first and the last rowid, if there are any.
    ///
    /// # Errors
    /// [`Damaged`] when it is not so.
    pub fn check_cells(&self) -> Result<Option<(i64, i64)>, Damaged> {
        let mut free = self.bytes.len();
        let mut rowids: Option<(i64, i64)> = None;
        for at in 0..self.cells {
            let cell = self.cell(at)?;
            let left = free.checked_sub(cell.bytes.len());
            free = left.ok_or(self.damaged("the cells of a page overlap"))?;
            if self.kind != PageKind::TableLeaf {
                continue;
            }
            match &mut rowids {
                Some((_, last)) if *last >= cell.rowid => {
                    return Err(self.damaged("the rows of a page are out of order"));
                }
                Some((_, last)) => *last = cell.rowid,
                None => rowids = Some((cell.rowid, cell.rowid)),
            }
        }
        Ok(rowids)
    }

    /// Behind the pointers to cells. SQLite puts no cell before it.
    pub fn cells_start(&self) -> usize {
        self.pointers() + 2 * self.cells
    }

    /// Where the cells from this one on begin.
    pub fn places(&self, from: usize) -> impl Iterator<Item = usize> + use<'p> {
        let pointers = self.bytes.get(self.pointers()..self.pointers() + 2 * self.cells).unwrap_or_default();
        let pointers = pointers.get(2 * from..).unwrap_or_default();
        pointers.chunks_exact(2).map(|place| u16::from_be_bytes([place[0], place[1]]).into())
    }

    fn read_cell(&self, at: usize) -> Option<Cell<'p>> {
        let start = self.cell_start(at)? + if self.kind == PageKind::IndexInterior { 4 } else { 0 };
        let bytes = self.bytes.get(start..)?;
        let (payload, mut head) = varint(bytes)?;
        let mut rowid = 0;
        if self.kind == PageKind::TableLeaf {
            let (value, length) = varint(bytes.get(head..)?)?;
            rowid = value.cast_signed();
            head += length;
        }
        let here = self.local(payload)?;
        let local = bytes.get(head..head + here)?;
        let spills = payload > here as u64;
        let overflow = if spills { Some(u32_at(bytes, head + here)?) } else { None };
        let end = head + here + if spills { 4 } else { 0 };
        Some(Cell { rowid, payload, local, overflow, bytes: bytes.get(..end)? })
    }

    /// How many bytes of a payload are on the page itself (file format, section 1.6, "overflow").
    fn local(&self, payload: u64) -> Option<usize> {
        let usable = self.bytes.len();
        let most = if self.kind.is_table() { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
        if payload <= most as u64 {
            return usize::try_from(payload).ok();
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let rest = usize::try_from((payload - least as u64) % (usable as u64 - 4)).ok()?;
        Some(if least + rest <= most { least + rest } else { least })
    }

    fn cell_start(&self, at: usize) -> Option<usize> {
        if at >= self.cells {
            return None;
        }
        u16_at(self.bytes, self.pointers() + 2 * at).map(usize::from)
    }

    /// Where the array of cell pointers starts.
    fn pointers(&self) -> usize {
        self.start + if self.kind.is_interior() { 12 } else { 8 }
    }

    fn damaged(&self, what: &'static str) -> Damaged {
        Damaged::new(what, self.number)
    }
}
