//! Writing a snapshot after another one: only what changed in between.
//!
//! ```text
//! nothing in it changed                      the run stays, with the patches that lie over it
//! little changed, and little lay over it     the run stays, what changed goes into a patch
//! otherwise                                  the run is written anew, and nothing lies over it any more
//! ```
//!
//! Pages are compared as they go into a snapshot, cleaned, by a digest of each that the last snapshot left. So it does not matter who changed the file
//! since, or how. What was deleted is in no chunk that is written; a run that stays still holds what it held.

use synddb_protocol::log::{PagePlaces, Patch};
use synddb_protocol::submission::{PageSize, TextEncoding};

use super::SnapshotError;
use super::clean::{CHUNK_PAGES_BYTES_MAX, CleanPages};
use super::last::{Bounds, Last};
use super::made::{Made, PageDigest, digest};
use super::write::StoredChunk;
use crate::connection::Connection;

/// The largest share of a run that may lie in patches: one of so many pages. With more of it the run is written anew, so that whoever restores a
/// snapshot fetches little more than the database.
pub const PATCHED_SHARE: usize = 4;

/// Writes a snapshot of the database as one read transaction sees it: only the chunks that the last snapshot has not got.
///
/// Takes 20 bytes of memory a page, one run of pages and one patch, and nothing else that grows. The transaction must stand until the last chunk;
/// that it does is checked before each run.
///
/// ```
/// # use synddb_sqlite::{connection::Connection, rusqlite, snapshot::SuccessiveWriter};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("app.db");
/// # let sqlite = rusqlite::Connection::open(&path)?;
/// # sqlite.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES(1)")?;
/// let connection = Connection::open(&path)?;
/// let mut last = None;
/// for stored in [1, 0] {
///     connection.execute("BEGIN")?;
///     let mut writer = SuccessiveWriter::new(&connection, last)?;
///     let chunks = writer.by_ref().collect::<Result<Vec<_>, _>>()?;
///     connection.execute("COMMIT")?;
///     // Stored here, before anybody is told what the snapshot is made of. The second one is what the first one was.
///     assert_eq!(chunks.len(), stored);
///     last = writer.finish();
/// }
/// # Ok(())
/// # }
/// ```
pub struct SuccessiveWriter {
    pages: CleanPages,
    run_pages: u32,
    patch_pages: u32,
    bounds: Bounds,
    last: Last,
    /// What the snapshot is made of, so far. Of patches only the new ones; digests behind the next page are those of the last snapshot.
    made: Made,
    patch: Unsealed,
    /// How many places the new patches have that are sealed.
    places: usize,
    failed: bool,
}

/// A patch that is still filled.
#[derive(Default)]
struct Unsealed {
    pages: Vec<u8>,
    count: u32,
    places: Vec<PagePlaces>,
}

impl SuccessiveWriter {
    /// Walks the database, which must stand in a read transaction. All chunks of the last snapshot must still be stored; without one, or with one
    /// of another page size, every chunk is new.
    ///
    /// # Errors
    /// [`SnapshotError::NoTransaction`] outside of a transaction, [`SnapshotError::Damaged`] when the file is, [`SnapshotError::TooLarge`]
    /// when it does not fit a snapshot.
    pub fn new(connection: &Connection, last: Option<Made>) -> Result<Self, SnapshotError> {
        Self::within(connection, last, Bounds::of_manifest)
    }

    fn within(
        connection: &Connection,
        last: Option<Made>,
        bounds: impl FnOnce(u32) -> Bounds,
    ) -> Result<Self, SnapshotError> {
        let pages = CleanPages::new(connection)?;
        let run_pages = pages.run_pages()?;
        let (page_size, encoding) = (pages.page_size(), pages.encoding());
        let patch_pages = u32::try_from(CHUNK_PAGES_BYTES_MAX).unwrap_or(0) / page_size.get();
        let bounds = bounds(patch_pages);
        let mut made =
            Made { encoding, page_size, runs: Vec::new(), patches: Vec::new(), digests: Vec::new() };
        let last = last.filter(|last| (last.page_size, last.encoding) == (page_size, encoding));
        let last = last.map(|last| {
            made.digests = last.digests;
            Last::new(last.runs, last.patches, &bounds)
        });
        Ok(Self {
            pages,
            run_pages,
            patch_pages,
            bounds,
            last: last.unwrap_or_default(),
            made,
            patch: Unsealed::default(),
            places: 0,
            failed: false,
        })
    }

    /// The page size of the database.
    pub fn page_size(&self) -> PageSize {
        self.pages.page_size()
    }

    /// How many pages the snapshot has.
    pub fn pages(&self) -> u32 {
        self.pages.count()
    }

    /// The text encoding of the database.
    pub fn encoding(&self) -> TextEncoding {
        self.pages.encoding()
    }

    /// What the snapshot is made of; `None` before all chunks were taken, and when one failed. The next snapshot may be compared with it once all
    /// of them are stored.
    pub fn finish(self) -> Option<Made> {
        if self.failed || self.pages.next().is_some() || self.patch.count > 0 {
            return None;
        }
        let mut made = self.made;
        made.digests.truncate(self.pages.count() as usize);
        let mut patches = self.last.into_patches();
        patches.append(&mut made.patches);
        made.patches = patches;
        Some(made)
    }

    fn chunk(&mut self) -> Result<Option<StoredChunk>, SnapshotError> {
        while let Some(first) = self.pages.next() {
            let run = self.pages.run(self.run_pages)?;
            let stored = self.run(first, &run)?;
            if stored.is_some() {
                return Ok(stored);
            }
        }
        self.seal_patch()
    }

    /// Decides on a run, and returns a chunk when that makes one.
    fn run(&mut self, first: u32, run: &[u8]) -> Result<Option<StoredChunk>, SnapshotError> {
        let page_bytes = self.page_size().get() as usize;
        let (mut fresh, mut patched) = (Vec::new(), 0);
        for (page, bytes) in (first..).zip(run.chunks_exact(page_bytes)) {
            let is_fresh = self.differs(page, digest(bytes)) || self.last.is_melted(page);
            if is_fresh {
                fresh.push(page);
            }
            patched += usize::from(is_fresh || self.last.is_patched(page));
        }
        let pages = run.len() / page_bytes;
        let places = places(&fresh);
        let is_patch = patched * PATCHED_SHARE <= pages && self.has_room(&fresh, &places);
        let kept = self.last.run(first, pages).filter(|_| fresh.is_empty() || is_patch);
        let Some(chunk) = kept.and_then(|run| self.last.keep(run)) else {
            let stored = StoredChunk::seal(run, self.page_size())?;
            self.made.runs.push(stored.chunk);
            return Ok(Some(stored));
        };
        self.made.runs.push(chunk);
        let full = self.patch_pages - self.patch.count < u32::try_from(fresh.len()).unwrap_or(u32::MAX);
        let stored = if full { self.seal_patch()? } else { None };
        for page in fresh {
            let at = (page - first) as usize * page_bytes;
            self.patch.pages.extend_from_slice(&run[at..at + page_bytes]);
            self.patch.count += 1;
            self.last.lay_over(page);
        }
        self.patch.places.extend(places);
        Ok(stored)
    }

    /// Whether a page is another one than in the last snapshot. Remembers its digest for the next one.
    fn differs(&mut self, page: u32, digest: PageDigest) -> bool {
        match self.made.digests.get_mut(page as usize - 1) {
            Some(known) => std::mem::replace(known, digest) != digest,
            None => {
                self.made.digests.push(digest);
                true
            }
        }
    }

    /// Whether a manifest has room for these pages in patches.
    fn has_room(&self, fresh: &[u32], new: &[PagePlaces]) -> bool {
        let (patches, places) = self.last.counts();
        // The one that is filled, and one more when that is full.
        let patches = patches + self.made.patches.len() + 2;
        let places = places + self.places + self.patch.places.len() + new.len();
        patches <= self.bounds.patches
            && places <= self.bounds.places
            && fresh.len() <= self.patch_pages as usize
    }

    fn seal_patch(&mut self) -> Result<Option<StoredChunk>, SnapshotError> {
        let Unsealed { pages, count, places } = std::mem::take(&mut self.patch);
        if count == 0 {
            return Ok(None);
        }
        let stored = StoredChunk::seal(&pages, self.page_size())?;
        self.places += places.len();
        self.made.patches.push(Patch { chunk: stored.chunk, places });
        Ok(Some(stored))
    }
}

impl Iterator for SuccessiveWriter {
    type Item = Result<StoredChunk, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let chunk = self.chunk();
        self.failed = chunk.is_err();
        chunk.transpose()
    }
}

/// Pages of one run, in ascending order, as the places that they lie in.
fn places(pages: &[u32]) -> Vec<PagePlaces> {
    let mut places: Vec<PagePlaces> = Vec::new();
    for page in pages {
        match places.last_mut() {
            Some(PagePlaces { first: Some(first), pages }) if *first + *pages == *page => *pages += 1,
            _ => places.push(PagePlaces { first: Some(*page), pages: 1 }),
        }
    }
    places
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeMap;
    use std::error::Error;

    use super::*;
    use crate::compare::first_difference;
    use crate::snapshot::restore;
    use crate::state::RunningState;

    /// Bounds that are met at once. What is over them is written anew.
    #[test]
    fn no_snapshot_of_a_chain_is_over_a_bound() -> Result<(), Box<dyn Error>> {
        const BOUNDS: Bounds = Bounds { patches: 4, places: 40, large: 30 };
        let folder = tempfile::tempdir()?;
        let (path, target) = (folder.path().join("app.db"), folder.path().join("restored.db"));
        let application = rusqlite::Connection::open(&path)?;
        application.execute_batch(
            "PRAGMA synchronous = OFF; BEGIN; CREATE TABLE t(id INTEGER PRIMARY KEY, b);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
             INSERT INTO t SELECT i, randomblob(3000) FROM n; COMMIT",
        )?;
        let connection = Connection::open(&path)?;
        let (mut store, mut last) = (BTreeMap::new(), None);
        let (mut at_bound, mut patched) = (0, 0);
        for step in 0..40_u32 {
            // Few pages, here and there: none of these makes a quarter of a run.
            let few = [1, 3, 9, 17][step as usize % 4];
            for touched in 0..few {
                let id = (step * 997 + touched * 331) % 2000 + 1;
                application.execute("UPDATE t SET b = randomblob(3000) WHERE id = ?1", [id])?;
            }
            connection.execute("BEGIN")?;
            let mut writer = SuccessiveWriter::within(&connection, last.take(), |_| BOUNDS)?;
            let mut pages = 0;
            for stored in writer.by_ref() {
                let StoredChunk { chunk, bytes } = stored?;
                pages += chunk.pages;
                store.insert(chunk.hash, bytes);
            }
            let state = RunningState::scan(&connection)?.hash();
            connection.execute("COMMIT")?;
            let made = writer.finish().unwrap();
            let places: usize = made.patches.iter().map(|patch| patch.places.len()).sum();
            assert!(made.patches.len() <= BOUNDS.patches && places <= BOUNDS.places, "{step}: {places}");
            restore(&target, &made.image(state), |chunk| store.get(&chunk.hash).cloned().ok_or("none"))?;
            assert_eq!(first_difference(&path, &target)?, None);
            std::fs::remove_file(&target)?;
            at_bound += u32::from(step > 0 && pages >= 400);
            patched += u32::from(pages < 400);
            last = Some(made);
        }
        assert!(at_bound > 0 && patched > 0, "{at_bound} {patched}");
        Ok(())
    }
}
