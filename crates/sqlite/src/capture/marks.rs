//! What a commit touched, told from the labels of the pages that it wrote.

use std::collections::BTreeSet;

use rustc_hash::{FxHashMap, FxHashSet};

use super::CaptureError;
use super::map::{Label, PageMap, Role, TreeId};
use super::probes::planted::{Bug, planted};
use super::view::CommitView;
use crate::file::Damaged;

/// What a commit touched of the trees as they were before it.
#[derive(Default)]
pub(super) struct Marks {
    /// B-tree pages whose rows may be different now: written ones, and ones a payload of which was.
    dirty: FxHashSet<u32>,
    /// First overflow pages of payloads of which a page was written: the same cell may hold another row now.
    heads: FxHashSet<u32>,
    /// Children on the way from a root to something dirty, by parent.
    below: FxHashMap<u32, BTreeSet<u32>>,
    /// The trees that something dirty belongs to.
    trees: BTreeSet<TreeId>,
}

impl Marks {
    /// Marks what the commit touched, in the trees that are `alive`.
    pub(super) fn of(
        view: &CommitView<'_>,
        map: &PageMap,
        alive: impl Fn(TreeId) -> bool,
    ) -> Result<Self, CaptureError> {
        let mut marks = Self::default();
        let mut owners = Owners::default();
        for page in view.written() {
            let Some(label) = map.get(page).filter(|label| alive(label.tree)) else { continue };
            let page = match label.role {
                Role::Overflow if planted(Bug::SkipOverflowChains) => continue,
                Role::Overflow => {
                    let (head, owner) = owners.of(map, page, label)?;
                    marks.heads.insert(head);
                    owner
                }
                Role::Leaf | Role::Interior => page,
            };
            marks.mark(map, page, label.tree)?;
        }
        Ok(marks)
    }

    /// Whether rows on this b-tree page may be different now.
    pub(super) fn is_dirty(&self, page: u32) -> bool {
        self.dirty.contains(&page)
    }

    /// Whether the payload that spills to this page first may be different now.
    pub(super) fn is_dirty_head(&self, page: u32) -> bool {
        self.heads.contains(&page)
    }

    /// Whether any payload spills to a page that was written.
    pub(super) fn has_dirty_heads(&self) -> bool {
        !self.heads.is_empty()
    }

    /// Whether something dirty lies below this page.
    pub(super) fn leads_on(&self, page: u32) -> bool {
        self.below.contains_key(&page)
    }

    /// The children of a page that lead to something dirty, or are.
    pub(super) fn below(&self, page: u32) -> impl Iterator<Item = u32> {
        self.below.get(&page).into_iter().flatten().copied()
    }

    /// Whether anything of the tree is dirty.
    pub(super) fn touches(&self, tree: TreeId) -> bool {
        self.trees.contains(&tree)
    }

    /// The trees that something dirty belongs to.
    pub(super) fn trees(&self) -> impl Iterator<Item = TreeId> {
        self.trees.iter().copied()
    }

    /// The dirty pages of a tree.
    pub(super) fn dirty_of(&self, map: &PageMap, tree: TreeId) -> Vec<u32> {
        let of_tree = |page: &u32| map.get(*page).is_some_and(|label| label.tree == tree);
        self.dirty.iter().copied().filter(of_tree).collect()
    }

    fn mark(&mut self, map: &PageMap, page: u32, tree: TreeId) -> Result<(), CaptureError> {
        if !self.dirty.insert(page) {
            return Ok(());
        }
        self.trees.insert(tree);
        let mut child = page;
        loop {
            let label = map.get(child).ok_or(Damaged::new("the way to the root is lost", child))?;
            if label.parent == 0 {
                return Ok(());
            }
            // Where the way is marked already, the rest of it is too.
            let known = self.below.contains_key(&label.parent);
            self.below.entry(label.parent).or_default().insert(child);
            if known {
                return Ok(());
            }
            child = label.parent;
        }
    }
}

/// Where overflow pages belong, found once for a whole chain.
#[derive(Default)]
struct Owners {
    /// The first page of the chain and the b-tree page of its cell, by overflow page.
    known: FxHashMap<u32, (u32, u32)>,
}

impl Owners {
    /// The first page of the chain that an overflow page belongs to, and the b-tree page of its cell.
    fn of(&mut self, map: &PageMap, page: u32, label: Label) -> Result<(u32, u32), CaptureError> {
        let mut way = vec![page];
        let (mut head, mut parent) = (page, label.parent);
        // In a damaged file the labels of two rows may lead round for ever.
        let owner = loop {
            if let Some(owner) = self.known.get(&head) {
                break *owner;
            }
            match map.get(parent) {
                Some(next)
                    if next.role == Role::Overflow && next.tree == label.tree && way.len() < map.len() =>
                {
                    (head, parent) = (parent, next.parent);
                    way.push(head);
                }
                Some(next) if next.role != Role::Overflow && next.tree == label.tree => break (head, parent),
                _ => return Err(Damaged::new("the cell of an overflow page is lost", page).into()),
            }
        };
        self.known.extend(way.into_iter().map(|page| (page, owner)));
        Ok(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages of one chain, so many that going along it for each of them would take days.
    const CHAIN: u32 = 1_000_000;

    fn overflow(parent: u32) -> Label {
        Label { role: Role::Overflow, tree: TreeId::SCHEMA, parent }
    }

    #[test]
    fn the_owner_of_a_long_chain_is_found_once() {
        let mut map = PageMap::default();
        map.set(1, Label { role: Role::Leaf, tree: TreeId::SCHEMA, parent: 0 });
        (2..CHAIN).for_each(|page| map.set(page, overflow(page - 1)));
        let mut owners = Owners::default();
        for page in (2..CHAIN).rev() {
            assert_eq!(owners.of(&map, page, overflow(page - 1)).unwrap(), (2, 1));
        }
    }

    #[test]
    fn a_chain_that_leads_round_has_no_owner() {
        let mut map = PageMap::default();
        map.set(2, overflow(3));
        map.set(3, overflow(2));
        assert!(Owners::default().of(&map, 2, overflow(3)).is_err());
    }
}
