//! Pages as they were before a commit, and as they are after it.
//!
//! A page is its newest frame among the frames that were captured, or else what the database file holds. The file holds nothing
//! newer: copying back stops at the held read transaction, which is never ahead of the position.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::ops::{Deref, Range};
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::CaptureError;
use super::files::Files;
use super::probes::planted::{Bug, planted};
use crate::file::Damaged;
use crate::file::page::{self, Page};
use crate::file::u32_at;

/// Where a page's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Frame(u32),
    Database(u32),
}

/// Longest payload of a row (`SQLITE_MAX_LENGTH`, at its highest).
const PAYLOAD_BYTES_MAX: u64 = i32::MAX as u64;
/// How often an overflow page may be read on one side of a commit.
const READS_MAX: u64 = 2;
/// Pages kept to be read again: the page after one commit is the page before the next one.
const CACHED_MAX: usize = 512;

/// The bytes of a page, and what was found out about them.
pub(super) struct PageBytes {
    bytes: Vec<u8>,
    /// What [`Page::check_cells`] found.
    rowids: OnceCell<Option<(i64, i64)>>,
    /// What [`Page::children`] found.
    children: OnceCell<Vec<u32>>,
}

impl Deref for PageBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl PageBytes {
    /// [`Page::check_cells`] of the page that these are, once.
    pub(super) fn check_cells(&self, page: &Page<'_>) -> Result<Option<(i64, i64)>, Damaged> {
        if let Some(rowids) = self.rowids.get() {
            return Ok(*rowids);
        }
        let rowids = page.check_cells()?;
        Ok(*self.rowids.get_or_init(|| rowids))
    }

    /// [`Page::children`] of the page that these are, once.
    pub(super) fn children(&self, page: &Page<'_>) -> Result<&[u32], Damaged> {
        if let Some(children) = self.children.get() {
            return Ok(children);
        }
        let children = page.children()?;
        Ok(self.children.get_or_init(|| children))
    }
}

/// Every page of the database at the position.
pub(super) struct Pages {
    pub(super) files: Files,
    /// Newest captured frame of each page, of the running generation only.
    frames: FxHashMap<u32, u32>,
    cache: RefCell<FxHashMap<Source, Rc<PageBytes>>>,
    /// Room for pages, given back by the cache: never more than it holds.
    spare: RefCell<Vec<Vec<u8>>>,
    usable: usize,
}

impl Pages {
    pub(super) fn new(files: Files, usable: usize) -> Self {
        Self {
            files,
            frames: FxHashMap::default(),
            cache: RefCell::default(),
            spare: RefCell::default(),
            usable,
        }
    }

    /// A new generation of the WAL began; the one before is complete in the database file.
    pub(super) fn forget_frames(&mut self) {
        self.frames.clear();
        self.files.forget_ahead();
        self.cache.borrow_mut().clear();
    }

    /// These frames are captured now.
    pub(super) fn advance(&mut self, frames: impl IntoIterator<Item = (u32, u32)>) {
        self.frames.extend(frames);
    }

    /// Bytes of a page that SQLite uses.
    pub(super) fn usable(&self) -> usize {
        self.usable
    }

    fn read(&self, source: Source) -> Result<Rc<PageBytes>, CaptureError> {
        if let Some(bytes) = self.cache.borrow().get(&source) {
            return Ok(Rc::clone(bytes));
        }
        let mut bytes = self.spare.borrow_mut().pop().unwrap_or_default();
        match source {
            Source::Frame(frame) => self.files.frame_page(frame, &mut bytes)?,
            Source::Database(page) => self.files.page(page, &mut bytes)?,
        }
        let bytes = Rc::new(PageBytes { bytes, rowids: OnceCell::new(), children: OnceCell::new() });
        let mut cache = self.cache.borrow_mut();
        if cache.len() >= CACHED_MAX {
            let unused = cache.drain().filter_map(|(_, page)| Some(Rc::into_inner(page)?.bytes));
            self.spare.borrow_mut().extend(unused);
        }
        cache.insert(source, Rc::clone(&bytes));
        Ok(bytes)
    }
}

/// Which side of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
}

/// The pages around one commit.
pub(super) struct CommitView<'p> {
    pages: &'p Pages,
    /// The last frame of each page in this commit.
    changed: &'p FxHashMap<u32, u32>,
    /// How many overflow pages may still be read, before and after; unknown until the first is.
    spill: [Cell<Option<u64>>; 2],
}

impl<'p> CommitView<'p> {
    pub(super) fn new(pages: &'p Pages, changed: &'p FxHashMap<u32, u32>) -> Self {
        Self { pages, changed, spill: [const { Cell::new(None) }; 2] }
    }

    /// Whether the commit wrote the page.
    pub(super) fn wrote(&self, page: u32) -> bool {
        self.changed.contains_key(&page)
    }

    /// The pages that the commit wrote.
    pub(super) fn written(&self) -> impl Iterator<Item = u32> {
        self.changed.keys().copied()
    }

    /// The bytes of a page.
    pub(super) fn bytes(&self, side: Side, page: u32) -> Result<Rc<PageBytes>, CaptureError> {
        if page == 0 {
            return Err(Damaged::new("a pointer to page 0", 0).into());
        }
        let changed = if side == Side::After { self.changed.get(&page) } else { None };
        let frame = changed.or_else(|| self.pages.frames.get(&page)).copied();
        let frame = frame.filter(|_| side == Side::After || !planted(Bug::ReadBehindWal));
        self.pages.read(frame.map_or(Source::Database(page), Source::Frame))
    }

    /// Between which bytes, from this one on, a page is not the same before and after.
    pub(super) fn difference(&self, before: &[u8], after: &[u8], from: usize) -> Range<usize> {
        let usable = self.pages.usable();
        difference(before.get(..usable).unwrap_or(before), after.get(..usable).unwrap_or(after), from)
    }

    /// A b-tree page of these bytes.
    pub(super) fn page<'b>(&self, number: u32, bytes: &'b [u8]) -> Result<Page<'b>, Damaged> {
        Page::read(number, bytes, self.pages.usable())
    }

    /// Counts an overflow page that is about to be read. Every one belongs to one row, and every row is read twice at most (a table that is
    /// hashed anew): where more are read than that, rows share them, and reading all could take as long as whoever made the file likes.
    fn spill(&self, side: Side, page: u32) -> Result<(), CaptureError> {
        let left = &self.spill[usize::from(side == Side::After)];
        let before = match left.get() {
            Some(before) => before,
            None => READS_MAX * self.pages_there()?,
        };
        let after = before.checked_sub(1);
        left.set(Some(after.ok_or(Damaged::new("rows share their overflow pages", page))?));
        Ok(())
    }

    /// How many pages there are, at most: not what a header claims, but what files hold.
    fn pages_there(&self) -> Result<u64, CaptureError> {
        let frames = self.pages.frames.len() + self.changed.len();
        Ok(self.pages.files.database_pages()? + frames as u64)
    }

    /// The whole payload of a cell, and the pages that it spills to.
    pub(super) fn payload<'c>(
        &self,
        side: Side,
        cell: &page::Cell<'c>,
    ) -> Result<(Cow<'c, [u8]>, Vec<u32>), CaptureError> {
        if cell.local.len() as u64 == cell.payload {
            return Ok((Cow::Borrowed(cell.local), Vec::new()));
        }
        let mut payload = cell.local.to_vec();
        let mut chain = Vec::new();
        let mut next = cell.overflow.unwrap_or(0);
        if cell.payload > PAYLOAD_BYTES_MAX {
            return Err(Damaged::new("a row is longer than SQLite allows", next).into());
        }
        // A page that was passed before: where the chain meets it again, it goes round for ever.
        let mut passed = 0;
        while (payload.len() as u64) < cell.payload {
            if next == passed {
                return Err(Damaged::new("the overflow pages of a row have no end", next).into());
            }
            self.spill(side, next)?;
            let bytes = self.bytes(side, next)?;
            let content = bytes.get(4..self.pages.usable());
            let content = content.ok_or(Damaged::new("the page is cut off", next))?;
            let missing = usize::try_from(cell.payload - payload.len() as u64).unwrap_or(usize::MAX);
            if planted(Bug::CutLastOverflowPage) && missing <= content.len() {
                payload.resize(payload.len() + missing, 0);
                break;
            }
            payload.extend_from_slice(&content[..missing.min(content.len())]);
            chain.push(next);
            if chain.len().is_power_of_two() {
                passed = next;
            }
            next = u32_at(&bytes, 0).unwrap_or(0);
        }
        Ok((Cow::Owned(payload), chain))
    }
}

/// Between which bytes, from this one on, two pages differ; all of them when they are not equally long.
fn difference(one: &[u8], other: &[u8], from: usize) -> Range<usize> {
    /// Bytes that are compared at once.
    const STEP: usize = 64;
    let (Some(a), Some(b)) = (one.get(from..), other.get(from..)) else { return 0..usize::MAX };
    if a.len() != b.len() {
        return 0..usize::MAX;
    }
    let same = |(one, other): &(&[u8], &[u8])| one == other;
    let steps = a.rchunks_exact(STEP).zip(b.rchunks_exact(STEP)).take_while(same).count();
    let end = a.len() - STEP * steps;
    let bytes = a[..end].iter().rev().zip(b[..end].iter().rev()).take_while(|(one, other)| one == other);
    let end = end - bytes.count();
    let (a, b) = (&a[..end], &b[..end]);
    let start = STEP * a.chunks_exact(STEP).zip(b.chunks_exact(STEP)).take_while(same).count();
    let bytes = a[start..].iter().zip(&b[start..]).take_while(|(one, other)| one == other);
    from + start + bytes.count()..from + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_found_to_the_byte() {
        let page: Vec<u8> = (0..=255).cycle().take(4096).collect();
        for at in [0, 1, 63, 64, 65, 2000, 4031, 4032, 4033, 4094, 4095] {
            let mut other = page.clone();
            other[at] ^= 1;
            assert_eq!(difference(&page, &other, 0), at..at + 1);
            assert_eq!(difference(&page, &other, at), at..at + 1);
            assert!(difference(&page, &other, at + 1).is_empty());
            other[4095] ^= 2;
            assert_eq!(difference(&page, &other, 0), at..4096);
        }
        assert!(difference(&page, &page, 0).is_empty());
        assert_eq!(difference(&page, &page[1..], 0), 0..usize::MAX);
        assert_eq!(difference(&page, &page, 4097), 0..usize::MAX);
    }
}
