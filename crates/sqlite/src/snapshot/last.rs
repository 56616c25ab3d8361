//! What of the last snapshot the next one keeps.
//!
//! Each page of it is in its run, or in the last of the patches that was laid over it. The next snapshot keeps a run with what lies over it, or writes it
//! anew, whereupon nothing lies over it any more. A patch stays while anything of it counts.
//!
//! Whoever restores a snapshot fetches its patches whole, so that one of which little counts is **melted**: what counts of it goes into a
//! new patch. That a patch is half empty was paid for by those that emptied it, so melting at most doubles what is written.

use std::cmp::Reverse;
use std::iter;

use synddb_protocol::limits::{PAGE_PLACES_MAX, SNAPSHOT_PATCHES_MAX};
use synddb_protocol::log::{PagePlaces, Patch};
use synddb_protocol::submission::Chunk;

use super::made::first_pages;

/// How many small patches are kept before they are melted into one, since each is an object to fetch.
const SMALL_PATCHES_MAX: usize = 16;

/// How many patches and places a snapshot may have, and from how many pages on a patch is no small one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) patches: usize,
    pub(super) places: usize,
    pub(super) large: u64,
}

impl Bounds {
    /// Those of a manifest, for patches of at most so many pages.
    pub(super) fn of_manifest(patch_pages: u32) -> Self {
        Self {
            patches: SNAPSHOT_PATCHES_MAX,
            places: PAGE_PLACES_MAX,
            large: u64::from(patch_pages / LARGE_SHARE).max(1),
        }
    }
}

/// What share of the largest patch a patch has that is no small one.
const LARGE_SHARE: u32 = 4;

/// Where a page of the last snapshot is: in its run.
const RUN: u16 = 0;
/// In a patch that is melted, so that the page is written again.
const MELTED: u16 = u16::MAX;
/// In a patch of the snapshot that is being written.
const LATER: u16 = u16::MAX - 1;
// Otherwise: in the patch of this number, counted from 1.
const _: () = assert!(SNAPSHOT_PATCHES_MAX < LATER as usize);

struct Run {
    first: u64,
    chunk: Chunk,
    /// Whether it is written anew even if little of it changed.
    anew: bool,
    kept: bool,
}

/// What the last snapshot is made of, and what of it is kept. Takes two bytes of memory a page.
#[derive(Default)]
pub(super) struct Last {
    runs: Vec<Run>,
    /// `None` for one that is melted.
    patches: Vec<Option<Patch>>,
    /// By page, where it is.
    at: Vec<u16>,
    /// How many patches and how many places are kept, at most.
    counts: (usize, usize),
}

impl Last {
    /// Finds what may be kept.
    pub(super) fn new(runs: Vec<Chunk>, patches: Vec<Patch>, bounds: &Bounds) -> Self {
        let pages: u64 = runs.iter().map(|run| run.pages).sum();
        let firsts = first_pages(&runs);
        let run = |(first, chunk)| Run { first, chunk, anew: false, kept: false };
        let mut last = Self {
            runs: firsts.into_iter().zip(runs).map(run).collect(),
            patches: Vec::new(),
            at: vec![RUN; usize::try_from(pages).unwrap_or(0)],
            counts: (0, 0),
        };
        for (number, patch) in (1..LATER).zip(&patches) {
            for page in patch.places.iter().flat_map(pages_of) {
                last.put(page, number);
            }
        }
        last.patches = patches.into_iter().map(Some).collect();
        last.thin(bounds);
        last.melt(bounds);
        last.counts = last.count();
        last
    }

    /// The run of exactly these pages.
    pub(super) fn run(&self, first: u32, pages: usize) -> Option<usize> {
        let found = self.runs.binary_search_by_key(&u64::from(first), |run| run.first).ok()?;
        self.runs.get(found).filter(|run| run.chunk.pages == pages as u64 && !run.anew).map(|_| found)
    }

    /// Whether a page lies in a patch.
    pub(super) fn is_patched(&self, page: u32) -> bool {
        self.number(page) != RUN
    }

    /// Whether a page must be written again, though it did not change.
    pub(super) fn is_melted(&self, page: u32) -> bool {
        self.number(page) == MELTED
    }

    /// Keeps a run and what lies over it.
    pub(super) fn keep(&mut self, run: usize) -> Option<Chunk> {
        let run = self.runs.get_mut(run)?;
        run.kept = true;
        Some(run.chunk)
    }

    /// Lays a page of a new patch over a kept run.
    pub(super) fn lay_over(&mut self, page: u32) {
        self.put(page, LATER);
    }

    /// How many patches and how many places are kept, at most.
    pub(super) const fn counts(&self) -> (usize, usize) {
        self.counts
    }

    fn count(&self) -> (usize, usize) {
        let kept = self.patches.iter().flatten();
        (kept.clone().count(), kept.map(|patch| patch.places.len()).sum())
    }

    /// The patches of which anything counts.
    pub(super) fn into_patches(mut self) -> Vec<Patch> {
        let patches = std::mem::take(&mut self.patches);
        let numbered = (1..LATER).zip(patches);
        numbered.filter_map(|(number, patch)| self.rest_of(number, patch?)).collect()
    }

    /// A patch, with what no longer counts laid nowhere.
    fn rest_of(&self, number: u16, mut patch: Patch) -> Option<Patch> {
        let mut places: Vec<PagePlaces> = Vec::with_capacity(patch.places.len());
        for place in &patch.places {
            let counts = place.first.is_some_and(|first| self.is_kept(first))
                && pages_of(place).any(|page| self.number(page) == number);
            let first = place.first.filter(|_| counts);
            match places.last_mut() {
                Some(before) if before.first.is_none() && first.is_none() => before.pages += place.pages,
                _ => places.push(PagePlaces { first, pages: place.pages }),
            }
        }
        patch.places = places;
        patch.places.iter().any(|place| place.first.is_some()).then_some(patch)
    }

    /// Has runs written anew where there are so many patches or places that the next ones would soon find no room.
    fn thin(&mut self, bounds: &Bounds) {
        let (patches, places) = self.count();
        if patches > bounds.patches / 2 {
            // Of the oldest the least counts. Where no run is kept under it, a patch goes.
            let oldest = patches - bounds.patches / 4;
            let pages = self.patches.iter().flatten().take(oldest).flat_map(|patch| &patch.places);
            let firsts: Vec<u32> = pages.filter_map(|place| place.first).collect();
            for first in firsts {
                self.write_anew(first);
            }
        }
        if places > bounds.places / 2 {
            let mut counted = vec![0usize; self.runs.len()];
            for first in
                self.patches.iter().flatten().flat_map(|patch| &patch.places).filter_map(|place| place.first)
            {
                if let Some(count) = self.run_of(first).and_then(|run| counted.get_mut(run)) {
                    *count += 1;
                }
            }
            let mut order: Vec<usize> = (0..counted.len()).collect();
            order.sort_by_key(|run| Reverse(counted[*run]));
            let mut left = places;
            for run in order {
                if left <= bounds.places / 4 {
                    break;
                }
                left -= counted[run];
                self.runs[run].anew = true;
            }
        }
    }

    /// Melts patches of which less than half counts, and the small ones when there are many.
    fn melt(&mut self, bounds: &Bounds) {
        let mut counts = vec![0u64; self.patches.len()];
        for number in self.at.iter().filter(|number| **number != RUN) {
            if let Some(count) = counts.get_mut(usize::from(*number) - 1) {
                *count += 1;
            }
        }
        let is_empty = |patch: &Patch, counts: u64| counts * 2 < patch.chunk.pages;
        let mut melted: Vec<bool> = iter::zip(&self.patches, &counts)
            .map(|(patch, counts)| patch.as_ref().is_some_and(|patch| is_empty(patch, *counts)))
            .collect();
        let is_small =
            |patch: &Option<Patch>| patch.as_ref().is_some_and(|patch| patch.chunk.pages < bounds.large);
        let small =
            iter::zip(&self.patches, &melted).filter(|(patch, melted)| !**melted && is_small(patch)).count();
        if small > SMALL_PATCHES_MAX {
            iter::zip(&mut melted, &self.patches).for_each(|(melted, patch)| *melted |= is_small(patch));
        }
        for at in self.at.iter_mut().filter(|at| **at != RUN) {
            if melted.get(usize::from(*at) - 1) == Some(&true) {
                *at = MELTED;
            }
        }
        iter::zip(&mut self.patches, melted)
            .filter(|(_, melted)| *melted)
            .for_each(|(patch, _)| *patch = None);
    }

    fn write_anew(&mut self, page: u32) {
        if let Some(run) = self.run_of(page).and_then(|run| self.runs.get_mut(run)) {
            run.anew = true;
        }
    }

    fn is_kept(&self, page: u32) -> bool {
        self.run_of(page).and_then(|run| self.runs.get(run)).is_some_and(|run| run.kept)
    }

    fn run_of(&self, page: u32) -> Option<usize> {
        self.runs.partition_point(|run| run.first <= u64::from(page)).checked_sub(1)
    }

    fn number(&self, page: u32) -> u16 {
        self.at.get((page as usize).wrapping_sub(1)).copied().unwrap_or(RUN)
    }

    fn put(&mut self, page: u32, number: u16) {
        if let Some(at) = self.at.get_mut((page as usize).wrapping_sub(1)) {
            *at = number;
        }
    }
}

/// The pages that are laid somewhere.
fn pages_of(place: &PagePlaces) -> impl Iterator<Item = u32> + use<> {
    let first = place.first.unwrap_or(0);
    let pages = place.first.map_or(0, |_| place.pages);
    first..first.saturating_add(pages)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use synddb_protocol::hash::ChunkHash;

    use super::*;

    const RUN_PAGES: u64 = 100;

    fn chunk(pages: u64) -> Chunk {
        Chunk { hash: ChunkHash::from_bytes([0; 32]), pages, stored_bytes: 0 }
    }

    /// A patch of single pages.
    fn patch(pages: impl IntoIterator<Item = u32>) -> Patch {
        let places: Vec<_> =
            pages.into_iter().map(|page| PagePlaces { first: Some(page), pages: 1 }).collect();
        Patch { chunk: chunk(places.len() as u64), places }
    }

    fn last(runs: usize, patches: Vec<Patch>, bounds: Bounds) -> Last {
        Last::new(vec![chunk(RUN_PAGES); runs], patches, &bounds)
    }

    /// Which runs may be kept.
    fn usable(last: &Last) -> Vec<usize> {
        let first = |run: usize| u32::try_from(run * 100 + 1).unwrap();
        (0..last.runs.len()).filter(|run| last.run(first(*run), 100).is_some()).collect()
    }

    #[test]
    fn the_runs_with_most_places_are_written_anew_when_places_run_out() {
        let bounds = Bounds { patches: 100, places: 40, large: 1 };
        // Three places in the first run, twelve in the second, six in the third.
        let patches = || vec![patch([1, 3, 5]), patch(101..=112), patch(201..=206)];
        let found = last(3, patches(), bounds);
        assert_eq!(usable(&found), [0, 2]);
        // Not before half of them are there.
        assert_eq!(usable(&last(3, patches(), Bounds { places: 42, ..bounds })), [0, 1, 2]);
        // What lay over a run that is not kept lies nowhere, and a patch of nothing else goes.
        let mut found = found;
        found.keep(0);
        found.keep(2);
        let left: Vec<u64> = found.into_patches().iter().map(|patch| patch.chunk.pages).collect();
        assert_eq!(left, [3, 6]);
    }

    #[test]
    fn the_runs_below_the_oldest_patches_are_written_anew_when_patches_run_out() {
        let bounds = Bounds { patches: 8, places: 1000, large: 1 };
        // The oldest three lie over the first two runs, the others over the last one.
        let patches = vec![patch([1]), patch([101]), patch([2]), patch([201]), patch([202])];
        let found = last(3, patches.clone(), bounds);
        assert_eq!(usable(&found), [2]);
        assert_eq!(usable(&last(3, patches[1..].to_vec(), bounds)), [0, 1, 2]);
    }

    #[test]
    fn a_page_is_where_it_was_laid_last() {
        let bounds = Bounds { patches: 100, places: 100, large: 1 };
        let mut found = last(2, vec![patch([1, 2, 3]), patch([2, 150])], bounds);
        assert!(found.is_patched(2) && found.is_patched(150) && !found.is_patched(4));
        assert!((1..=200).all(|page| !found.is_melted(page)));
        for run in 0..2 {
            found.keep(run);
        }
        // A place of which nothing counts is laid nowhere, one beside the other as one.
        found.lay_over(3);
        let patches = found.into_patches();
        let place = |first, pages| PagePlaces { first, pages };
        assert_eq!(patches[0].places, [place(Some(1), 1), place(None, 2)]);
        assert_eq!(patches[1].places, [place(Some(2), 1), place(Some(150), 1)]);
    }
}
