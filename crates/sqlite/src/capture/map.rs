//! What every page of the database is: which tree it belongs to, and what points to it.
//!
//! Only pages that hold rows of captured tables have a label. Everything else (indexes, free pages, pointer maps) has none, and is
//! found again when a tree takes it. Liveness is decided by what the roots reach, never by a page's own type byte.

/// A tree that holds rows: `sqlite_schema` or a table. Never used again for another table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TreeId(pub(super) u32);

impl TreeId {
    /// The tree of `sqlite_schema`, whose root is page 1.
    pub(super) const SCHEMA: Self = Self(1);
}

/// What a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A b-tree page without children.
    Leaf,
    /// A b-tree page with children.
    Interior,
    /// Part of a payload. Its parent is the page before it in the chain, or for the first one the b-tree page of the cell.
    Overflow,
}

/// What is known of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) role: Role,
    pub(super) tree: TreeId,
    /// 0 for a root.
    pub(super) parent: u32,
}

/// Labels by page number.
#[derive(Default)]
pub(super) struct PageMap {
    labels: Vec<Option<Label>>,
}

impl PageMap {
    pub(super) fn get(&self, page: u32) -> Option<Label> {
        self.labels.get(page as usize).copied().flatten()
    }

    pub(super) fn set(&mut self, page: u32, label: Label) {
        let at = page as usize;
        if at >= self.labels.len() {
            self.labels.resize(at + 1, None);
        }
        self.labels[at] = Some(label);
    }

    /// A bound for the length of any way through the map.
    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    pub(super) fn clear(&mut self, page: u32) {
        if let Some(label) = self.labels.get_mut(page as usize) {
            *label = None;
        }
    }

    /// Forgets every page behind the end of the database.
    pub(super) fn truncate(&mut self, pages: u32) {
        self.labels.truncate(pages as usize + 1);
    }
}

/// Label changes of one commit, made at its end: until then the map tells how things were before it.
#[derive(Default)]
pub(super) struct Relabel {
    cleared: Vec<u32>,
    set: Vec<(u32, Label)>,
}

impl Relabel {
    /// The page no longer is what it was.
    pub(super) fn clear(&mut self, page: u32) {
        self.cleared.push(page);
    }

    /// The page is this now.
    pub(super) fn set(&mut self, page: u32, label: Label) {
        self.set.push((page, label));
    }

    /// Makes the changes. What one tree gave up another may have taken, so all is cleared first.
    pub(super) fn apply(self, map: &mut PageMap, pages: u32) {
        for page in self.cleared {
            map.clear(page);
        }
        for (page, label) in self.set {
            map.set(page, label);
        }
        map.truncate(pages);
    }
}
