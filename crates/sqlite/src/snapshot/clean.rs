//! The pages of one read transaction, cleaned, one after the other.

use synddb_protocol::limits::{CHUNK_BYTES_MAX, SNAPSHOT_CHUNKS_MAX};
use synddb_protocol::submission::{PageSize, TextEncoding};

use super::header::{FreeList, blank_page, normalise};
use super::marks::{Marks, Root, Use, walk};
use super::pages::{Geometry, TreePage};
use super::source::{ReadPage as _, Source, pragma};
use super::{SnapshotError, damaged};
use crate::connection::Connection;
use crate::schema::{Object, SchemaError, is_outside};

/// Gives each page as it goes into a snapshot.
///
/// Equal files give equal pages. Takes two bytes of memory a page. The transaction must stand until the last page; that it does is checked before
/// each run.
pub(super) struct CleanPages {
    source: Source,
    geometry: Geometry,
    encoding: TextEncoding,
    marks: Marks,
    free: FreeList,
    /// Free pages that came before the next page.
    free_before: u32,
    /// The next page.
    next: u32,
    is_blank: bool,
}

impl CleanPages {
    /// Walks the database, which must stand in a read transaction.
    pub(super) fn new(connection: &Connection) -> Result<Self, SnapshotError> {
        let found = pragma(connection, "page_size")?;
        let page_size = u64::try_from(found).ok().and_then(|size| PageSize::new(size).ok());
        let page_size = page_size.ok_or_else(|| damaged(1, "the file has no page size"))?;
        let mut source = Source::new(connection, page_size.get() as usize)?;
        let count = pragma(connection, "page_count")?;
        let is_blank = count == 0;
        // A number of pages is only a claim: what no file holds, nothing uses.
        let pages = count.min(pages_there(connection, page_size)).max(1);
        let pages = u32::try_from(pages)
            .map_err(|_| SnapshotError::TooLarge { pages: count, page_size: page_size.get() })?;
        let geometry = if is_blank {
            Geometry { page_size, usable: page_size.get() as usize, pages, auto_vacuum: false }
        } else {
            let mut page_one = Vec::new();
            source.read(1, &mut page_one)?;
            Geometry::read(&page_one, pages).map_err(|what| damaged(1, what))?
        };
        // Before the walk, which takes as long as the database is large.
        run_pages(&geometry)?;
        let roots = roots(connection)?;
        let marks = if is_blank { Marks::blank() } else { walk(&mut source, geometry, &roots)? };
        let mut pages = Self {
            source,
            geometry,
            encoding: connection.encoding(),
            marks,
            free: FreeList::default(),
            free_before: 0,
            next: 1,
            is_blank,
        };
        pages.free = pages.free_list();
        Ok(pages)
    }

    /// The page size of the database.
    pub(super) const fn page_size(&self) -> PageSize {
        self.geometry.page_size
    }

    /// How many pages there are.
    pub(super) const fn count(&self) -> u32 {
        self.geometry.pages
    }

    /// The text encoding of the database.
    pub(super) const fn encoding(&self) -> TextEncoding {
        self.encoding
    }

    /// How many pages a run has, unless it is the last.
    pub(super) fn run_pages(&self) -> Result<u32, SnapshotError> {
        run_pages(&self.geometry)
    }

    /// The page that the next run begins with, or `None` behind the last one.
    pub(super) fn next(&self) -> Option<u32> {
        (self.next <= self.geometry.pages).then_some(self.next)
    }

    /// The next pages, at most so many.
    pub(super) fn run(&mut self, pages_max: u32) -> Result<Vec<u8>, SnapshotError> {
        self.source.check()?;
        let count = pages_max.min(self.geometry.pages - self.next + 1);
        let mut run = Vec::with_capacity(count as usize * self.geometry.page_bytes());
        for _ in 0..count {
            run.extend_from_slice(&self.page(self.next)?);
            self.next += 1;
        }
        Ok(run)
    }

    /// A page as it goes into the snapshot: only what is in use.
    fn page(&mut self, page: u32) -> Result<Vec<u8>, SnapshotError> {
        let nothing = || vec![0; self.geometry.page_bytes()];
        if page == self.geometry.lock_page() {
            return Ok(nothing());
        }
        if self.geometry.is_pointer_map(page) {
            return self.pointer_map(page);
        }
        let mut bytes = nothing();
        match self.marks.of(page) {
            Use::Free => return Ok(self.free_page(page)),
            Use::Overflow(length) => {
                let mut found = Vec::new();
                self.source.read(page, &mut found)?;
                let end = 4 + usize::from(length);
                bytes[..end].copy_from_slice(&found[..end]);
            }
            Use::Emptied => {
                let mut found = Vec::new();
                self.source.read(page, &mut found)?;
                let tree =
                    TreePage::read(&found, page, &self.geometry).map_err(|what| damaged(page, what))?;
                bytes[0] = if tree.is_table { 13 } else { 10 };
                // The content area begins at the end of what is usable; 65536 is written as 0.
                let content = u16::try_from(self.geometry.usable).unwrap_or(0);
                bytes[5..7].copy_from_slice(&content.to_be_bytes());
            }
            Use::Tree => {
                let mut found = Vec::new();
                if self.is_blank {
                    found = blank_page(&self.geometry);
                } else {
                    self.source.read(page, &mut found)?;
                }
                bytes = TreePage::read(&found, page, &self.geometry)
                    .and_then(|tree| tree.clean())
                    .map_err(|what| damaged(page, what))?;
            }
        }
        if page == 1 {
            normalise(&mut bytes, &self.geometry, self.encoding, self.free);
        }
        Ok(bytes)
    }

    fn is_free(&self, page: u32) -> bool {
        self.geometry.can_hold_content(page) && self.marks.of(page) == Use::Free
    }

    fn free_list(&self) -> FreeList {
        let mut list = FreeList::default();
        for page in (2..=self.geometry.pages).filter(|page| self.is_free(*page)) {
            if list.first == 0 {
                list.first = page;
            }
            list.pages += 1;
        }
        list
    }

    /// A free page of a list made anew: in the order of the file, every trunk followed by its leaves.
    ///
    /// A trunk has at most the entries that SQLite itself gives one; it leaves the last six unused since versions before 3.6.0
    /// misread them (SQLite file format, section 1.5).
    fn free_page(&mut self, page: u32) -> Vec<u8> {
        let mut bytes = vec![0; self.geometry.page_bytes()];
        let leaves_max = self.geometry.usable / 4 - 8;
        let place = self.free_before as usize % (leaves_max + 1);
        self.free_before += 1;
        if place != 0 {
            return bytes;
        }
        let behind = (page..self.geometry.pages).map(|page| page + 1);
        let mut behind = behind.filter(|page| self.is_free(*page));
        let leaves: Vec<u32> = behind.by_ref().take(leaves_max).collect();
        let next = behind.next().unwrap_or(0);
        let count = u32::try_from(leaves.len()).unwrap_or(0);
        for (at, value) in [next, count].into_iter().chain(leaves).enumerate() {
            bytes[4 * at..4 * at + 4].copy_from_slice(&value.to_be_bytes());
        }
        bytes
    }

    /// A pointer map page: entries of pages that exist, free ones as free.
    fn pointer_map(&mut self, map: u32) -> Result<Vec<u8>, SnapshotError> {
        const FREE_PAGE: u8 = 2;
        let mut found = Vec::new();
        self.source.read(map, &mut found)?;
        let mut bytes = vec![0; self.geometry.page_bytes()];
        let entries = u32::try_from(self.geometry.map_entries()).unwrap_or(0);
        let last = map.saturating_add(entries).min(self.geometry.pages);
        for (at, page) in (map..last).map(|page| page + 1).enumerate() {
            if !self.geometry.can_hold_content(page) {
                continue;
            }
            if self.marks.of(page) == Use::Free {
                bytes[5 * at] = FREE_PAGE;
            } else {
                bytes[5 * at..5 * at + 5].copy_from_slice(&found[5 * at..5 * at + 5]);
            }
        }
        Ok(bytes)
    }
}

/// Sizes of a run, before compression. The smallest with which the database fits the chunk list counts: small runs are found
/// again in the next snapshot more often.
const RUN_BYTES: [usize; 3] = [2 << 20, 4 << 20, CHUNK_PAGES_BYTES_MAX];

/// Pages of one chunk together, in bytes: leaves room for the frame around what cannot be compressed.
pub(super) const CHUNK_PAGES_BYTES_MAX: usize = CHUNK_BYTES_MAX - (64 << 10);

/// How many pages a run has.
fn run_pages(geometry: &Geometry) -> Result<u32, SnapshotError> {
    let page_size = geometry.page_size.get();
    RUN_BYTES
        .iter()
        .map(|bytes| bytes / page_size as usize)
        .find(|run| (geometry.pages as usize).div_ceil(*run) <= SNAPSHOT_CHUNKS_MAX)
        .and_then(|run| u32::try_from(run).ok())
        .ok_or(SnapshotError::TooLarge { pages: geometry.pages.into(), page_size })
}

/// How many pages database file and WAL have room for, at most.
fn pages_there(connection: &Connection, page_size: PageSize) -> i64 {
    let Some(path) = connection.sqlite().path().filter(|path| !path.is_empty()) else { return i64::MAX };
    let bytes = |path: &str| std::fs::metadata(path).map_or(0, |found| found.len());
    let page_bytes = u64::from(page_size.get());
    // First the WAL: what is copied back in between then counts twice, and not never.
    let frames = bytes(&format!("{path}-wal")) / page_bytes;
    i64::try_from(frames + bytes(path).div_ceil(page_bytes)).unwrap_or(i64::MAX)
}

/// The root pages of all tables and indexes.
pub(super) fn roots(connection: &Connection) -> Result<Vec<Root>, SnapshotError> {
    let mut roots = Vec::new();
    let sql = "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema";
    connection.prepare(sql)?.query::<SchemaError>(&[], |row| {
        let object = Object::from_columns(0, &row.values(), connection.encoding())?;
        if object.root != 0 {
            let outside = is_outside(&object.name) || is_outside(&object.table);
            roots.push(Root { page: object.root, outside });
        }
        Ok(())
    })?;
    Ok(roots)
}
