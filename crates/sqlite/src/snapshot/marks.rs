//! What each page of a file is used for, found by walking every b-tree from its root.
//!
//! What no tree reaches is free, whatever the file's own free list says: that is the one definition under which no deleted row
//! can slip into a snapshot, and it needs no trust in the list. Takes two bytes of memory a page.

use super::pages::{Geometry, Overflow, TreePage, u32_at};
use super::source::ReadPage;
use super::{SnapshotError, damaged};

/// What a page is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Nothing.
    Free,
    /// A page of a b-tree.
    Tree,
    /// The root of a table or index whose content is left out.
    Emptied,
    /// A page of an overflow chain, which holds so many bytes of payload.
    Overflow(u16),
}

/// The uses of all pages, packed: payload of an overflow page is at most 65532 bytes.
#[derive(Debug)]
pub(super) struct Marks(Vec<u16>);

const FREE: u16 = 0;
const TREE: u16 = u16::MAX;
const EMPTIED: u16 = u16::MAX - 1;

impl Marks {
    fn new(pages: u32) -> Self {
        Self(vec![FREE; pages as usize])
    }

    /// The uses of the one page of a database in which nothing was ever written.
    pub(super) fn blank() -> Self {
        Self(vec![TREE])
    }

    /// What a page is used for. Pages are counted from 1.
    pub(super) fn of(&self, page: u32) -> Use {
        match self.0.get((page as usize).wrapping_sub(1)).copied() {
            None | Some(FREE) => Use::Free,
            Some(TREE) => Use::Tree,
            Some(EMPTIED) => Use::Emptied,
            Some(bytes) => Use::Overflow(bytes),
        }
    }

    fn set(&mut self, page: u32, mark: u16) {
        if let Some(place) = self.0.get_mut((page as usize).wrapping_sub(1)) {
            *place = mark;
        }
    }
}

/// A root page, and whether what hangs from it is part of the snapshot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Root {
    /// The page.
    pub(super) page: u32,
    /// Whether it is left out.
    pub(super) outside: bool,
}

/// Walks the schema's own tree and all that hangs from `roots`.
pub(super) fn walk(
    source: &mut impl ReadPage,
    geometry: Geometry,
    roots: &[Root],
) -> Result<Marks, SnapshotError> {
    let mut walk = Walk { source, geometry, marks: Marks::new(geometry.pages) };
    walk.marks.set(1, TREE);
    walk.tree(1)?;
    for root in roots {
        // Claimed from page 1, where the schema begins that names it.
        walk.claim(1, root.page, if root.outside { EMPTIED } else { TREE })?;
        if !root.outside {
            walk.tree(root.page)?;
        }
    }
    Ok(walk.marks)
}

struct Walk<'s, S> {
    source: &'s mut S,
    geometry: Geometry,
    marks: Marks,
}

impl<S: ReadPage> Walk<'_, S> {
    /// Marks all pages of a tree whose root is claimed. Ends in any file: a page is read only once it was claimed, and claimed
    /// only once.
    fn tree(&mut self, root: u32) -> Result<(), SnapshotError> {
        let mut bytes = Vec::new();
        let mut todo = vec![root];
        let mut is_table = None;
        while let Some(page) = todo.pop() {
            self.source.read(page, &mut bytes)?;
            let tree = TreePage::read(&bytes, page, &self.geometry).map_err(|what| damaged(page, what))?;
            if *is_table.get_or_insert(tree.is_table) != tree.is_table {
                return Err(damaged(page, "a table and an index share a page"));
            }
            let first_child = todo.len();
            // Where cells overlap, reading them all takes longer than the page is large.
            let mut free = self.geometry.usable;
            for cell in tree.cells() {
                let cell = cell.map_err(|what| damaged(page, what))?;
                let left = free.checked_sub(cell.end - cell.start);
                free = left.ok_or_else(|| damaged(page, "the cells of a page overlap"))?;
                if let Some(overflow) = cell.overflow {
                    self.chain(page, overflow)?;
                }
                if let Some(child) = cell.child {
                    self.claim(page, child, TREE)?;
                    todo.push(child);
                }
            }
            if let Some(child) = tree.right_child().map_err(|what| damaged(page, what))? {
                self.claim(page, child, TREE)?;
                todo.push(child);
            }
            // From left to right, as a file that was written in order lies on disk.
            todo[first_child..].reverse();
        }
        Ok(())
    }

    fn chain(&mut self, leaf: u32, overflow: Overflow) -> Result<(), SnapshotError> {
        let mut bytes = Vec::new();
        let (mut from, mut page, mut left) = (leaf, overflow.first, overflow.bytes);
        while left > 0 {
            let here = left.min(self.geometry.overflow_bytes());
            let mark = u16::try_from(here).map_err(|_| damaged(page, "the page is too large"))?;
            self.claim(from, page, mark)?;
            self.source.read(page, &mut bytes)?;
            left -= here;
            from = page;
            page = u32_at(&bytes, 0).map_err(|what| damaged(from, what))?;
        }
        if page != 0 {
            return Err(damaged(from, "an overflow chain is longer than its payload"));
        }
        Ok(())
    }

    /// Takes a page that `from` names.
    fn claim(&mut self, from: u32, page: u32, mark: u16) -> Result<(), SnapshotError> {
        if !self.geometry.can_hold_content(page) {
            return Err(damaged(from, "it names a page that can hold no content"));
        }
        if self.marks.of(page) != Use::Free {
            return Err(damaged(page, "two places name the page"));
        }
        self.marks.set(page, mark);
        Ok(())
    }
}
