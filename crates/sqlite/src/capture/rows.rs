//! Which rows a commit changed: the rows on the changed pages of a tree before, against those after.
//!
//! In a table of rowids both sides are in the order of rowids, so they are merged page by page. In a WITHOUT ROWID table the order
//! is the business of collations, so cells of equal bytes cancel and the rest is for the caller to join.

use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;

use super::CaptureError;
use super::map::{Label, PageMap, Relabel, Role, TreeId};
use super::marks::Marks;
use super::probes::planted::{Bug, planted};
use super::tree::{ChangedPages, Tree};
use super::view::{CommitView, PageBytes, Side};
use crate::file::Damaged;
use crate::file::page::Cell;

/// Takes the rows that may have changed, as payloads.
pub(super) trait RowVisitor {
    /// What can go wrong.
    type Error: From<CaptureError>;
    /// A row that was there before, after, or both. The rowid is 0 in a WITHOUT ROWID table, whose rows come
    /// one-sided, those from before first.
    fn row(&mut self, rowid: i64, before: Option<&[u8]>, after: Option<&[u8]>) -> Result<(), Self::Error>;
}

/// What finding rows needs to know of the commit.
pub(super) struct Join<'j> {
    pub(super) view: &'j CommitView<'j>,
    pub(super) map: &'j PageMap,
    pub(super) marks: &'j Marks,
    pub(super) relabel: &'j mut Relabel,
}

impl Join<'_> {
    /// Shows every row that changed to `visitor`, and labels the overflow pages of rows that came and went.
    pub(super) fn rows<V: RowVisitor>(
        &mut self,
        tree: Tree,
        pages: ChangedPages,
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        if tree.has_rowids {
            self.by_rowid(tree.id, pages, visitor)
        } else if pages.before.is_empty() {
            self.all_new(tree.id, &pages.after, visitor)
        } else {
            self.by_bytes(tree.id, &pages, visitor)
        }
    }

    fn by_rowid<V: RowVisitor>(
        &mut self,
        tree: TreeId,
        pages: ChangedPages,
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        let mut before = Cursor::open(self.view, Side::Before, pages.before)?;
        let mut after = Cursor::open(self.view, Side::After, pages.after)?;
        // Between which bytes the page that both stand on is not what it was.
        let mut difference = None;
        loop {
            let same = self.same_cells(&before, &after, &mut difference)?;
            if same > 0 {
                before.advance(self.view, same)?;
                after.advance(self.view, same)?;
                continue;
            }
            let Some(old) = before.cell(self.view)? else { return self.rest_new(tree, after, visitor) };
            match after.cell(self.view)? {
                Some(new) if old.rowid == new.rowid => {
                    if self.is_same(&old, &new) {
                        self.adopt(tree, &new, after.page());
                    } else {
                        let old = self.gone(&old)?;
                        let payload = self.come(tree, &new, after.page())?;
                        visitor.row(new.rowid, Some(&old), Some(&payload))?;
                    }
                    before.advance(self.view, 1)?;
                    after.advance(self.view, 1)?;
                }
                Some(new) if new.rowid < old.rowid => {
                    let payload = self.come(tree, &new, after.page())?;
                    visitor.row(new.rowid, None, Some(&payload))?;
                    after.advance(self.view, 1)?;
                }
                Some(_) | None => {
                    let payload = self.gone(&old)?;
                    visitor.row(old.rowid, Some(&payload), None)?;
                    before.advance(self.view, 1)?;
                }
            }
        }
    }

    /// Nothing of before is left, so the rest is new: most of it where rows are added at the end.
    fn rest_new<V: RowVisitor>(
        &mut self,
        tree: TreeId,
        mut after: Cursor,
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        while let Some(leaf) = &after.leaf {
            let page = self.view.page(leaf.page, &leaf.bytes).map_err(CaptureError::from)?;
            for at in after.at..leaf.cells {
                let cell = page.cell(at).map_err(CaptureError::from)?;
                let payload = self.come(tree, &cell, leaf.page)?;
                visitor.row(cell.rowid, None, Some(&payload))?;
            }
            after.next_leaf(self.view)?;
        }
        Ok(())
    }

    /// How many cells from here on stayed where they are on one page, as can be told without comparing them. Most commits change few rows of a
    /// page, and reading the others twice would be most of the work.
    fn same_cells(
        &self,
        before: &Cursor,
        after: &Cursor,
        known: &mut Option<(u32, Range<usize>)>,
    ) -> Result<usize, CaptureError> {
        let (Some(old), Some(new)) = (&before.leaf, &after.leaf) else { return Ok(0) };
        // Where overflow pages were written, equal cells may hold other rows.
        if old.page != new.page || self.marks.has_dirty_heads() {
            return Ok(0);
        }
        let (was, is) = (self.view.page(old.page, &old.bytes)?, self.view.page(new.page, &new.bytes)?);
        // Pointers to cells move when rows come and go.
        let from = was.cells_start().max(is.cells_start());
        let known = match known {
            Some(known) if known.0 == new.page => known,
            _ => known.insert((new.page, self.view.difference(&old.bytes, &new.bytes, from))),
        };
        let Range { start, end } = known.1;
        let is_before = |at: usize, place: usize| {
            place >= from && is.cell(at).is_ok_and(|cell| place + cell.bytes.len() <= start)
        };
        let stayed = |at: usize, place: usize| place >= end || place < start && is_before(at, place);
        let places = was.places(before.at).zip(is.places(after.at));
        let mut same = 0;
        for (old, new) in places {
            if old != new || !stayed(after.at + same, new) {
                break;
            }
            same += 1;
        }
        Ok(same)
    }

    /// Nothing was there before, so rows need no order.
    fn all_new<V: RowVisitor>(
        &mut self,
        tree: TreeId,
        pages: &[u32],
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        for number in pages {
            let bytes = self.view.bytes(Side::After, *number)?;
            let page = self.view.page(*number, &bytes).map_err(CaptureError::from)?;
            bytes.check_cells(&page).map_err(CaptureError::from)?;
            for at in 0..page.cells() {
                let cell = page.cell(at).map_err(CaptureError::from)?;
                let payload = self.come(tree, &cell, *number)?;
                visitor.row(0, None, Some(&payload))?;
            }
        }
        Ok(())
    }

    fn by_bytes<V: RowVisitor>(
        &mut self,
        tree: TreeId,
        pages: &ChangedPages,
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        let (before, after) =
            (load(self.view, Side::Before, &pages.before)?, load(self.view, Side::After, &pages.after)?);
        let (old, new) = (cells(self.view, &before)?, cells(self.view, &after)?);
        let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
        let mut gone = Vec::new();
        let mut come = Vec::new();
        loop {
            match (olds.peek(), news.peek()) {
                (None, None) => break,
                (Some((_, old)), Some((page, new))) if old.bytes == new.bytes => {
                    if self.is_same(old, new) {
                        self.adopt(tree, new, *page);
                    } else {
                        gone.push(*old);
                        come.push((*page, *new));
                    }
                    olds.next();
                    news.next();
                }
                (Some((_, old)), new) if new.is_none_or(|(_, new)| old.bytes < new.bytes) => {
                    gone.push(*old);
                    olds.next();
                }
                (_, Some((page, new))) => {
                    come.push((*page, *new));
                    news.next();
                }
                (Some(_), None) => break,
            }
        }
        for cell in &gone {
            let payload = self.gone(cell)?;
            visitor.row(0, Some(&payload), None)?;
        }
        for (page, cell) in &come {
            let payload = self.come(tree, cell, *page)?;
            visitor.row(0, None, Some(&payload))?;
        }
        Ok(())
    }

    /// Whether two cells hold one row: their bytes are equal, and so are the overflow pages that both lead to.
    fn is_same(&self, old: &Cell<'_>, new: &Cell<'_>) -> bool {
        let spilled = new.overflow.is_some_and(|head| self.marks.is_dirty_head(head));
        old.bytes == new.bytes && (!spilled || planted(Bug::TrustEqualCells))
    }

    /// The payload of a row that is gone; its overflow pages are no longer its own.
    fn gone<'c>(&mut self, cell: &Cell<'c>) -> Result<Cow<'c, [u8]>, CaptureError> {
        let (payload, chain) = self.view.payload(Side::Before, cell)?;
        for page in chain {
            // One that already belongs to something else was never labelled for this row, or was given up before.
            self.relabel.clear(page);
        }
        Ok(payload)
    }

    /// The payload of a row that came; its overflow pages are its own now.
    fn come<'c>(&mut self, tree: TreeId, cell: &Cell<'c>, page: u32) -> Result<Cow<'c, [u8]>, CaptureError> {
        let (payload, chain) = self.view.payload(Side::After, cell)?;
        let mut parent = page;
        for page in chain {
            self.relabel.set(page, Label { role: Role::Overflow, tree, parent });
            parent = page;
        }
        Ok(payload)
    }

    /// A row that stayed may be on another page now.
    fn adopt(&mut self, tree: TreeId, cell: &Cell<'_>, page: u32) {
        if let Some(head) = cell.overflow
            && !planted(Bug::KeepOldOwners)
            && self.map.get(head).is_none_or(|label| label.parent != page)
        {
            self.relabel.set(head, Label { role: Role::Overflow, tree, parent: page });
        }
    }
}

type Loaded = Vec<(u32, Rc<PageBytes>)>;

fn load(view: &CommitView<'_>, side: Side, pages: &[u32]) -> Result<Loaded, CaptureError> {
    pages.iter().map(|page| Ok((*page, view.bytes(side, *page)?))).collect()
}

/// Every cell of these pages with its page, by their bytes.
fn cells<'l>(view: &CommitView<'_>, loaded: &'l Loaded) -> Result<Vec<(u32, Cell<'l>)>, CaptureError> {
    let mut cells = Vec::new();
    for (number, bytes) in loaded {
        let page = view.page(*number, bytes)?;
        bytes.check_cells(&page)?;
        for at in 0..page.cells() {
            cells.push((*number, page.cell(at)?));
        }
    }
    cells.sort_unstable_by(|(_, one), (_, two)| one.bytes.cmp(two.bytes));
    Ok(cells)
}

/// A leaf in memory.
struct Leaf {
    page: u32,
    bytes: Rc<PageBytes>,
    cells: usize,
}

/// Goes through the cells of leaves of one tree in the order of their rowids, with one leaf in memory.
struct Cursor {
    side: Side,
    /// The leaves that are still to come, last one first.
    pages: Vec<u32>,
    leaf: Option<Leaf>,
    at: usize,
}

impl Cursor {
    fn open(view: &CommitView<'_>, side: Side, pages: Vec<u32>) -> Result<Self, CaptureError> {
        let mut keyed = Vec::with_capacity(pages.len());
        for page in pages {
            let bytes = view.bytes(side, page)?;
            // A leaf without cells is the root of an empty table.
            if let Some((first, last)) = bytes.check_cells(&view.page(page, &bytes)?)? {
                keyed.push((first, last, page));
            }
        }
        keyed.sort_unstable_by(|one, two| two.cmp(one));
        if let Some(pair) = keyed.windows(2).find(|pair| pair[1].1 >= pair[0].0) {
            return Err(Damaged::new("the rows of a table are out of order", pair[0].2).into());
        }
        let pages = keyed.into_iter().map(|(.., page)| page).collect();
        let mut cursor = Self { side, pages, leaf: None, at: 0 };
        cursor.next_leaf(view)?;
        Ok(cursor)
    }

    fn next_leaf(&mut self, view: &CommitView<'_>) -> Result<(), CaptureError> {
        self.at = 0;
        self.leaf = None;
        if let Some(page) = self.pages.pop() {
            let bytes = view.bytes(self.side, page)?;
            let cells = view.page(page, &bytes)?.cells();
            self.leaf = Some(Leaf { page, bytes, cells });
        }
        Ok(())
    }

    /// The cell it stands on.
    fn cell(&self, view: &CommitView<'_>) -> Result<Option<Cell<'_>>, CaptureError> {
        let Some(leaf) = &self.leaf else { return Ok(None) };
        Ok(Some(view.page(leaf.page, &leaf.bytes)?.cell(self.at)?))
    }

    /// The leaf it stands on; 0 behind the last one.
    fn page(&self) -> u32 {
        self.leaf.as_ref().map_or(0, |leaf| leaf.page)
    }

    fn advance(&mut self, view: &CommitView<'_>, cells: usize) -> Result<(), CaptureError> {
        self.at += cells;
        let is_passed = self.leaf.as_ref().is_some_and(|leaf| self.at >= leaf.cells);
        if is_passed { self.next_leaf(view) } else { Ok(()) }
    }
}
