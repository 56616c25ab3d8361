//! What a snapshot is restored from: its chunks, and where their pages lie.
//!
//! Two kinds of signed list give an image: the client's [`Snapshot`], which is all runs, and a replica's [`Manifest`], which may have patches. It may be
//! anybody's, so that nothing of it is used before [`Image::check`].

use synddb_protocol::hash::StateHash;
use synddb_protocol::limits::{PAGE_PLACES_MAX, SNAPSHOT_CHUNKS_MAX, SNAPSHOT_PATCHES_MAX};
use synddb_protocol::log::{Manifest, Patch};
use synddb_protocol::submission::{Chunk, PageSize, Snapshot, TextEncoding};

/// A database in chunks: runs of pages from page 1 to its end, and patches that are laid over them, later ones over earlier ones.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// How text stands in its pages.
    pub encoding: TextEncoding,
    /// The page size.
    pub page_size: PageSize,
    /// The state hash that the database must have.
    pub state: StateHash,
    /// Runs of pages, in page order.
    pub runs: &'a [Chunk],
    /// What is laid over them, in this order.
    pub patches: &'a [Patch],
}

impl<'a> Image<'a> {
    /// What a client's snapshot is made of.
    pub fn of_snapshot(snapshot: &'a Snapshot) -> Self {
        Self {
            encoding: snapshot.encoding,
            page_size: snapshot.page_size,
            state: snapshot.state,
            runs: &snapshot.chunks,
            patches: &[],
        }
    }

    /// What a replica's snapshot is made of; `None` when its checkpoint is before the first snapshot of the stream, so that it claims no state.
    pub fn of_manifest(manifest: &'a Manifest) -> Option<Self> {
        Some(Self {
            encoding: manifest.encoding,
            page_size: manifest.page_size,
            state: manifest.state()?,
            runs: &manifest.runs,
            patches: &manifest.patches,
        })
    }

    /// Every chunk, in the order in which [`restore`](super::restore) asks for them.
    pub fn chunks(&self) -> impl Iterator<Item = &'a Chunk> + use<'a> {
        self.runs.iter().chain(self.patches.iter().map(|patch| &patch.chunk))
    }

    /// How many pages the database has, when it may have them and every patch lies inside.
    pub(super) fn check(&self) -> Result<u32, &'static str> {
        check(self.runs, self.patches)
    }
}

/// How many pages the runs hold, when they may and every patch lies inside.
pub(super) fn check(runs: &[Chunk], patches: &[Patch]) -> Result<u32, &'static str> {
    if runs.len() > SNAPSHOT_CHUNKS_MAX {
        return Err("it lists too many chunks");
    }
    if patches.len() > SNAPSHOT_PATCHES_MAX {
        return Err("it lists too many patches");
    }
    if patches.iter().map(|patch| patch.places.len()).sum::<usize>() > PAGE_PLACES_MAX {
        return Err("its patches lay pages in too many places");
    }
    let mut pages = 0u32;
    for chunk in runs {
        let more = u32::try_from(chunk.pages).ok().filter(|pages| *pages > 0);
        pages = more
            .and_then(|more| pages.checked_add(more))
            .ok_or("its chunks hold no number of pages that a database has")?;
    }
    if pages == 0 {
        return Err("a database has at least one page");
    }
    for patch in patches {
        let mut held = 0;
        for place in &patch.places {
            held += u64::from(place.pages);
            let behind = place.first.map_or(0, |first| u64::from(first) + u64::from(place.pages));
            if place.pages == 0 || place.first == Some(0) || behind > u64::from(pages) + 1 {
                return Err("a patch lays pages where none are");
            }
        }
        if held == 0 || held != patch.chunk.pages {
            return Err("a patch has another number of pages than places");
        }
    }
    Ok(pages)
}
