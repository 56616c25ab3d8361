//! What one commit did to the trees, so that a test can tell which ways through capture it has taken.
//!
//! Told from what capture itself found out: the labels of pages before the commit, and what becomes of them. Without the feature
//! `probes` the types here are empty, and every call is nothing.

#[cfg(feature = "probes")]
pub use recorded::{Footprint, TableRows};
pub(in crate::capture) use recorded::{Footprints, Step};

/// What the feature records.
#[cfg(feature = "probes")]
mod recorded {
    use std::collections::VecDeque;

    use rustc_hash::{FxHashMap, FxHashSet};

    use crate::capture::map::{Label, PageMap, Relabel, Role, TreeId};
    use crate::capture::tree::Tree;
    use crate::schema::{Identity, Layout};

    /// Most footprints that are kept; of more, the oldest go.
    const FOOTPRINTS_MAX: usize = 1 << 16;

    /// How many rows of tables of each kind a commit changed.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct TableRows {
        /// In tables with a hidden rowid.
        pub rowid: u64,
        /// In tables whose INTEGER PRIMARY KEY is the rowid.
        pub integer_key: u64,
        /// In WITHOUT ROWID tables.
        pub without_rowid: u64,
    }

    /// What one captured commit did to the trees of the captured tables.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct Footprint {
        /// Objects came, went or changed.
        pub schema_changed: bool,
        /// A page of an overflow chain was written, came or went.
        pub overflow: bool,
        /// B-tree pages that joined a tree: roots of new tables, splits, growth, and the new place of a page that moved.
        pub pages_gained: u32,
        /// B-tree pages that a tree gave up: merged, freed, moved, or dropped with their table.
        pub pages_lost: u32,
        /// Tables that stayed and have another root page.
        pub roots_moved: u32,
        /// How many rows changed.
        pub rows: TableRows,
        /// `user_version` or `application_id` changed.
        pub header_changed: bool,
        /// Frames that the cache spilled before the commit: those before the last run of ascending pages, which is what SQLite
        /// writes at COMMIT itself.
        pub spilled_frames: u32,
        /// Frames of pages that have a later frame in the same commit. SQLite writes a spilled page again in its place, save the
        /// last page of a commit, so this is 0 or 1; before version 3.11 it was more.
        pub repeated_frames: u32,
        /// How many pages the database had before the commit, as far as they are known.
        pub pages_before: u32,
        /// How many pages it has after it.
        pub pages_after: u32,
    }

    /// The footprints that nobody has asked for yet.
    #[derive(Debug)]
    pub(in crate::capture) struct Footprints(VecDeque<Footprint>);

    impl Footprints {
        /// None yet.
        pub(in crate::capture) fn new() -> Self {
            Self(VecDeque::new())
        }

        /// Gives out what was recorded, oldest first.
        pub(in crate::capture) fn drain(&mut self) -> Vec<Footprint> {
            self.0.drain(..).collect()
        }

        /// A commit was captured.
        pub(in crate::capture) fn push(&mut self, step: Step) {
            if self.0.len() >= FOOTPRINTS_MAX {
                self.0.pop_front();
            }
            self.0.push_back(step.0);
        }
    }

    /// The footprint of the commit that is being captured.
    #[derive(Debug, Clone, Copy)]
    pub(in crate::capture) struct Step(Footprint);

    impl Step {
        /// A commit wrote these frames, the last of each page, from behind `frame_before` on.
        pub(in crate::capture) fn begin(
            frames: &FxHashMap<u32, u32>,
            frame_before: u32,
            pages: (u32, u32),
        ) -> Self {
            let mut order: Vec<(u32, u32)> = frames.iter().map(|(page, frame)| (*frame, *page)).collect();
            order.sort_unstable();
            let mut falls = order.windows(2).filter(|pair| pair[1].1 < pair[0].1);
            let last = order.last().map_or(frame_before, |(frame, _)| *frame);
            let spilled = falls.next_back().map_or(0, |pair| pair[0].0 - frame_before);
            let distinct = u32::try_from(frames.len()).unwrap_or(u32::MAX);
            Self(Footprint {
                spilled_frames: spilled,
                repeated_frames: (last - frame_before).saturating_sub(distinct),
                pages_before: pages.0,
                pages_after: pages.1,
                ..Footprint::default()
            })
        }

        /// Objects came, went or changed.
        pub(in crate::capture) fn schema_changed(&mut self, changed: bool) {
            self.0.schema_changed = changed;
        }

        /// The tree of a table was compared, and so many of its rows changed.
        pub(in crate::capture) fn table(&mut self, tree: Tree, layout: &Layout, count: u64) {
            self.0.roots_moved += u32::from(tree.root_before.is_some_and(|root| root != tree.root_after));
            match layout.identity {
                Identity::Rowid { .. } => self.0.rows.rowid += count,
                Identity::IntegerKey { .. } => self.0.rows.integer_key += count,
                Identity::Key { .. } => self.0.rows.without_rowid += count,
            }
        }

        /// `user_version` or `application_id` changed.
        pub(in crate::capture) fn header_changed(&mut self, changed: bool) {
            self.0.header_changed = changed;
        }

        /// What becomes of the labels, before they are changed. `before` and `after` say which trees were, and are, alive.
        pub(in crate::capture) fn labels(
            &mut self,
            map: &PageMap,
            relabel: &Relabel,
            written: impl Iterator<Item = u32>,
            before: impl Fn(TreeId) -> bool,
            after: impl Fn(TreeId) -> bool,
        ) {
            let old = |page: u32| map.get(page).filter(|label| before(label.tree));
            let is_chain = |label: Label| label.role == Role::Overflow;
            self.0.overflow |= written.into_iter().filter_map(old).any(is_chain);
            let (mut gained, mut lost) = (FxHashSet::default(), FxHashSet::default());
            for (page, label) in relabel.sets() {
                let stays =
                    old(page).is_some_and(|old| old.tree == label.tree && is_chain(old) == is_chain(label));
                if !stays && is_chain(label) {
                    self.0.overflow = true;
                } else if !stays {
                    gained.insert(page);
                }
            }
            for (page, label) in relabel.clears().filter_map(|page| Some((page, old(page)?))) {
                if is_chain(label) {
                    self.0.overflow = true;
                } else {
                    lost.insert(page);
                }
            }
            for (page, label) in map.labels().filter(|(_, label)| before(label.tree) && !after(label.tree)) {
                if is_chain(label) {
                    self.0.overflow = true;
                } else {
                    lost.insert(page);
                }
            }
            self.0.pages_gained = u32::try_from(gained.len()).unwrap_or(u32::MAX);
            self.0.pages_lost = u32::try_from(lost.len()).unwrap_or(u32::MAX);
        }
    }
}

/// The same without the feature: nothing.
#[cfg(not(feature = "probes"))]
mod recorded {
    use rustc_hash::FxHashMap;

    use crate::capture::map::{PageMap, Relabel, TreeId};
    use crate::capture::tree::Tree;
    use crate::schema::Layout;

    #[derive(Debug)]
    pub(in crate::capture) struct Footprints;

    impl Footprints {
        pub(in crate::capture) fn new() -> Self {
            Self
        }

        pub(in crate::capture) fn push(&mut self, _: Step) {}
    }

    #[derive(Debug, Clone, Copy)]
    pub(in crate::capture) struct Step;

    impl Step {
        pub(in crate::capture) fn begin(_: &FxHashMap<u32, u32>, _: u32, _: (u32, u32)) -> Self {
            Self
        }

        pub(in crate::capture) fn schema_changed(&mut self, _: bool) {}

        pub(in crate::capture) fn table(&mut self, _: Tree, _: &Layout, _: u64) {}

        pub(in crate::capture) fn header_changed(&mut self, _: bool) {}

        pub(in crate::capture) fn labels(
            &mut self,
            _: &PageMap,
            _: &Relabel,
            _: impl Iterator<Item = u32>,
            _: impl Fn(TreeId) -> bool,
            _: impl Fn(TreeId) -> bool,
        ) {
        }
    }
}
