//! What every page of the database is: which tree it belongs to, and what points to it.
//!
//! Only pages that hold rows of captured tables have a label. Everything else (indexes, free pages, pointer maps) has none, and is
//! found again when a tree takes it. Liveness is decided by what the roots reach, never by a page's own type byte.

use crate::file::Damaged;

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

/// Labels of one run.
type Run = [Option<Label>; RUN_PAGES];

/// Pages whose labels lie together. A run takes memory once one of its pages has a label: what counts is the pages that are there, not the
/// number that somebody gave one of them.
const RUN_PAGES: usize = 1024;

/// Labels by page number.
#[derive(Default)]
pub(super) struct PageMap {
    runs: Vec<Option<Box<Run>>>,
}

impl PageMap {
    pub(super) fn get(&self, page: u32) -> Option<Label> {
        let (run, at) = place(page);
        self.runs.get(run)?.as_ref()?[at]
    }

    pub(super) fn set(&mut self, page: u32, label: Label) {
        let (run, at) = place(page);
        if run >= self.runs.len() {
            self.runs.resize_with(run + 1, || None);
        }
        self.runs[run].get_or_insert_with(|| Box::new([None; RUN_PAGES]))[at] = Some(label);
    }

    /// A bound for the length of any way through the map.
    pub(super) fn len(&self) -> usize {
        self.runs.len() * RUN_PAGES
    }

    pub(super) fn clear(&mut self, page: u32) {
        let (run, at) = place(page);
        if let Some(Some(run)) = self.runs.get_mut(run) {
            run[at] = None;
        }
    }

    /// Every page that has a label.
    #[cfg(feature = "probes")]
    pub(super) fn labels(&self) -> impl Iterator<Item = (u32, Label)> {
        let runs = (0..).step_by(RUN_PAGES).zip(&self.runs);
        runs.filter_map(|(first, run)| Some((first, run.as_ref()?))).flat_map(|(first, run)| {
            (first..).zip(run.iter()).filter_map(|(page, label)| Some((page, (*label)?)))
        })
    }

    /// Forgets every page behind the end of the database.
    pub(super) fn truncate(&mut self, pages: u32) {
        let (last, at) = place(pages);
        self.runs.truncate(last + 1);
        if let Some(Some(run)) = self.runs.get_mut(last) {
            run[at + 1..].fill(None);
        }
    }
}

/// The run of a page, and its place in it.
fn place(page: u32) -> (usize, usize) {
    (page as usize / RUN_PAGES, page as usize % RUN_PAGES)
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

    /// What pages are now.
    #[cfg(feature = "probes")]
    pub(super) fn sets(&self) -> impl Iterator<Item = (u32, Label)> {
        self.set.iter().copied()
    }

    /// Pages that no longer are what they were.
    #[cfg(feature = "probes")]
    pub(super) fn clears(&self) -> impl Iterator<Item = u32> {
        self.cleared.iter().copied()
    }

    /// Labels pages that nobody may have labelled yet: those of a tree that is walked as a whole.
    ///
    /// # Errors
    /// [`Damaged`] when another pointer leads to one of them already. Without this, reading every tree could take as long as all of them are
    /// large together, which a small file can make as much as it likes.
    pub(super) fn claim(self, map: &mut PageMap) -> Result<(), Damaged> {
        for (page, label) in self.set {
            if map.get(page).is_some() {
                return Err(Damaged::new("two pointers lead to one page", page));
            }
            map.set(page, label);
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn label(parent: u32) -> Label {
        Label { role: Role::Leaf, tree: TreeId::SCHEMA, parent }
    }

    #[test]
    fn a_page_takes_the_memory_of_its_run_whatever_its_number() {
        let mut map = PageMap::default();
        map.set(u32::MAX, label(1));
        map.set(7, label(2));
        assert_eq!((map.get(u32::MAX), map.get(7), map.get(8)), (Some(label(1)), Some(label(2)), None));
        assert_eq!(map.runs.iter().flatten().count(), 2);
    }

    #[test]
    fn what_lies_behind_the_end_is_forgotten() {
        let mut map = PageMap::default();
        let last = 3 * u32::try_from(RUN_PAGES).unwrap() + 5;
        [5, last, last + 1, last + 5000].into_iter().for_each(|page| map.set(page, label(page)));
        map.truncate(last);
        let found = [5, last, last + 1, last + 5000].map(|page| map.get(page).is_some());
        assert_eq!(found, [true, true, false, false]);
    }

    #[test]
    fn a_page_is_claimed_once() {
        let mut map = PageMap::default();
        let relabel = |page| Relabel { set: vec![(page, label(1))], ..Relabel::default() };
        relabel(4).claim(&mut map).unwrap();
        assert!(relabel(4).claim(&mut map).is_err());
        assert!(Relabel { set: vec![(5, label(1)); 2], ..Relabel::default() }.claim(&mut map).is_err());
    }
}
