//! Which pages of one tree a commit changed, on both sides.
//!
//! Rows move between leaves whenever a page splits or is merged, and freed pages are mostly not in the WAL, so rows are compared over
//! all pages that changed, appeared or died together. A page is alive when the new root reaches it.

use rustc_hash::{FxHashMap, FxHashSet};

use super::CaptureError;
use super::map::{Label, PageMap, Relabel, Role, TreeId};
use super::marks::Marks;
use super::probes::planted::{Bug, planted};
use super::view::{CommitView, Side};
use crate::file::Damaged;

/// A tree around a commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tree {
    pub(super) id: TreeId,
    /// Whether its rows have rowids, and stand on leaves only.
    pub(super) has_rowids: bool,
    /// Its root before, if it was there.
    pub(super) root_before: Option<u32>,
    /// Its root after.
    pub(super) root_after: u32,
}

/// The pages with rows that may be different: every other page holds the same rows before and after.
#[derive(Debug, Default)]
pub(super) struct ChangedPages {
    pub(super) before: Vec<u32>,
    pub(super) after: Vec<u32>,
}

/// Finds the changed pages of a tree, and says how its pages are to be labelled.
pub(super) fn changed_pages(
    tree: Tree,
    view: &CommitView<'_>,
    map: &PageMap,
    marks: &Marks,
    relabel: &mut Relabel,
) -> Result<ChangedPages, CaptureError> {
    let (alive, kept) = (FxHashSet::default(), FxHashMap::default());
    let mut search = Search { tree, view, map, marks, alive, kept, found: ChangedPages::default() };
    search.descend(relabel)?;
    search.look_back(relabel)?;
    Ok(search.found)
}

/// How many children of a page are the first and the last ones before and after. There are hundreds of them, and most commits change one.
#[derive(Debug, Clone, Copy, Default)]
struct Kept {
    first: usize,
    last: usize,
}

impl Kept {
    fn of(before: &[u32], after: &[u32]) -> Self {
        let first = before.iter().zip(after).take_while(|(before, after)| before == after).count();
        let (before, after) = (&before[first..], &after[first..]);
        let last = before.iter().rev().zip(after.iter().rev()).take_while(|(before, after)| before == after);
        Self { first, last: last.count() }
    }

    /// Whether a child is one of these.
    fn hold(self, children: &[u32], child: u32) -> bool {
        let last = children.len() - self.last;
        children[..self.first].contains(&child) || children[last..].contains(&child)
    }

    /// All other children.
    fn others(self, children: &[u32]) -> &[u32] {
        &children[self.first..children.len() - self.last]
    }
}

struct Search<'s> {
    tree: Tree,
    view: &'s CommitView<'s>,
    map: &'s PageMap,
    marks: &'s Marks,
    /// Pages that the new root reaches: visited ones, and children of visited changed ones that are not kept ones.
    alive: FxHashSet<u32>,
    /// What stayed of the children of changed pages.
    kept: FxHashMap<u32, Kept>,
    found: ChangedPages,
}

impl Search<'_> {
    /// The label of a b-tree page that belonged to the tree before.
    fn before(&self, page: u32) -> Option<Label> {
        self.map.get(page).filter(|label| label.tree == self.tree.id && label.role != Role::Overflow)
    }

    fn is_changed(&self, page: u32) -> bool {
        self.view.wrote(page) || self.marks.is_dirty(page)
    }

    /// From the new root down to everything that changed or is new in this tree.
    fn descend(&mut self, relabel: &mut Relabel) -> Result<(), CaptureError> {
        let mut visited = FxHashSet::default();
        let mut stack = vec![(self.tree.root_after, 0)];
        while let Some((page, parent)) = stack.pop() {
            if !visited.insert(page) {
                return Err(Damaged::new("two pointers lead to one page", page).into());
            }
            self.alive.insert(page);
            let before = self.before(page);
            match before {
                Some(label) if !self.is_changed(page) => {
                    self.adopt(page, label, parent, relabel);
                    stack.extend(self.marks.below(page).map(|child| (child, page)));
                }
                _ => self.open(page, parent, &mut stack, relabel)?,
            }
        }
        Ok(())
    }

    /// Reads a page that changed or is new here, and finds which of its children have to be read.
    fn open(
        &mut self,
        page: u32,
        parent: u32,
        stack: &mut Vec<(u32, u32)>,
        relabel: &mut Relabel,
    ) -> Result<(), CaptureError> {
        let bytes = self.view.bytes(Side::After, page)?;
        let content = self.view.page(page, &bytes)?;
        let kind = content.kind();
        if kind.is_table() != self.tree.has_rowids {
            return Err(Damaged::new("a page is in a tree of another kind", page).into());
        }
        let role = if kind.is_interior() { Role::Interior } else { Role::Leaf };
        relabel.set(page, Label { role, tree: self.tree.id, parent });
        if self.holds_rows(role) {
            self.found.after.push(page);
        }
        let children = bytes.children(&content)?;
        let left_out = usize::from(planted(Bug::SkipRightmostChild)).min(children.len());
        let children = &children[..children.len() - left_out];
        let kept = self.kept_children(page, children)?;
        self.kept.insert(page, kept);
        // Of those that stayed, only these have to be looked at; the labels of the others say that they hang here already.
        let marked = self.marks.below(page).filter(|child| kept.hold(children, *child));
        stack.extend(marked.map(|child| (child, page)));
        for child in kept.others(children) {
            self.alive.insert(*child);
            match self.before(*child) {
                Some(label) if !self.is_changed(*child) && !self.marks.leads_on(*child) => {
                    self.adopt(*child, label, page, relabel);
                }
                _ => stack.push((*child, page)),
            }
        }
        Ok(())
    }

    /// What stayed of the children of a page that was in this tree before.
    fn kept_children(&self, page: u32, after: &[u32]) -> Result<Kept, CaptureError> {
        if after.is_empty() || self.before(page).is_none_or(|label| label.role != Role::Interior) {
            return Ok(Kept::default());
        }
        let bytes = self.view.bytes(Side::Before, page)?;
        Ok(Kept::of(bytes.children(&self.view.page(page, &bytes)?)?, after))
    }

    /// An unchanged page may hang on another parent now.
    fn adopt(&self, page: u32, label: Label, parent: u32, relabel: &mut Relabel) {
        if label.parent != parent && !planted(Bug::KeepOldParents) {
            relabel.set(page, Label { parent, ..label });
        }
    }

    /// Everything of the old tree that changed or died.
    fn look_back(&mut self, relabel: &mut Relabel) -> Result<(), CaptureError> {
        let mut queue = self.marks.dirty_of(self.map, self.tree.id);
        queue.extend(self.tree.root_before.filter(|root| !self.alive.contains(root)));
        let mut seen = FxHashSet::default();
        while let Some(page) = queue.pop() {
            if !seen.insert(page) || planted(Bug::TrustPageType) && self.lost_its_type(page)? {
                continue;
            }
            let bytes = self.view.bytes(Side::Before, page)?;
            let content = self.view.page(page, &bytes)?;
            let role = if content.kind().is_interior() { Role::Interior } else { Role::Leaf };
            if self.holds_rows(role) {
                self.found.before.push(page);
            }
            if !self.alive.contains(&page) && !planted(Bug::KeepStaleLabels) {
                relabel.clear(page);
            }
            let children = bytes.children(&content)?;
            let kept = self.kept.get(&page).copied().unwrap_or_default();
            let gone = kept.others(children).iter().copied();
            let dead = gone.filter(|child| self.before(*child).is_some() && !self.alive.contains(child));
            if !planted(Bug::ForgetFreedPages) {
                queue.extend(dead);
            }
        }
        Ok(())
    }

    /// Whether the page is no page of a tree any more, for the planted fault that takes it for never having been one.
    fn lost_its_type(&self, page: u32) -> Result<bool, CaptureError> {
        let bytes = self.view.bytes(Side::After, page)?;
        Ok(self.view.page(page, &bytes).is_err())
    }

    /// A WITHOUT ROWID table has rows on interior pages too.
    fn holds_rows(&self, role: Role) -> bool {
        role == Role::Leaf || !self.tree.has_rowids && !planted(Bug::DropInteriorRows)
    }
}
