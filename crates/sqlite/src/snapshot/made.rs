//! What a snapshot is made of, as whoever takes the next one remembers it.
//!
//! ```text
//! "synddb/made/v1"  page size  encoding  runs  patches  places      head: 14 + 4 + 1 + 3 x 4 bytes
//! { hash 32  pages 4  stored bytes 4 } x runs
//! { hash 32  pages 4  stored bytes 4  places 4 } x patches
//! { first page, or 0  4  pages 4 } x places, those of the first patch first
//! { digest 16 } x pages of the runs
//! SHA-256 of all before
//! ```
//!
//! Numbers are big-endian. Nothing depends on it but bytes: who lost it takes a snapshot of which every chunk is new. A digest is half a SHA-256. Who
//! makes two pages with one digest, which takes 2^64 tries, makes a snapshot of their own database that nobody can restore.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};
use synddb_protocol::hash::{ChunkHash, StateHash};
use synddb_protocol::id::OutOfRange;
use synddb_protocol::limits::{PAGE_PLACES_MAX, SNAPSHOT_CHUNKS_MAX, SNAPSHOT_PATCHES_MAX};
use synddb_protocol::log::{PagePlaces, Patch};
use synddb_protocol::submission::{Chunk, PageSize, TextEncoding};

use super::image::{Image, check};

const MAGIC: &[u8; 14] = b"synddb/made/v1";

/// What a page of a snapshot is known by.
pub(super) type PageDigest = [u8; 16];

/// What a page of a snapshot is known by.
pub(super) fn digest(page: &[u8]) -> PageDigest {
    let whole = Sha256::digest(page);
    let mut half = [0; 16];
    half.copy_from_slice(&whole[..16]);
    half
}

/// What a snapshot is made of, and a digest of each of its pages: what the next one is compared with. Takes 16 bytes of memory a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// How text stands in its pages.
    pub encoding: TextEncoding,
    /// The page size.
    pub page_size: PageSize,
    /// Runs of pages, in page order; together they hold the database from page 1 to its end.
    pub runs: Vec<Chunk>,
    /// What is laid over them, in this order.
    pub patches: Vec<Patch>,
    pub(super) digests: Vec<PageDigest>,
}

/// Why what a snapshot is made of cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MadeError {
    /// The file system failed.
    #[error("cannot read what the last snapshot is made of")]
    Io(#[from] io::Error),
    /// These are not the bytes that were written.
    #[error(
        "what the last snapshot is made of is damaged; remove it, and the next one is stored whole. what=`{what}`"
    )]
    Damaged {
        /// What is wrong with them.
        what: &'static str,
    },
}

impl Made {
    /// What is restored from it, where the database has this state hash.
    pub fn image(&self, state: StateHash) -> Image<'_> {
        let Self { encoding, page_size, runs, patches, .. } = self;
        Image { encoding: *encoding, page_size: *page_size, state, runs, patches }
    }

    /// Writes it, with a checksum.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write(&self, to: impl Write) -> io::Result<()> {
        let mut to = Summed { inner: to, sum: Sha256::new() };
        let places = self.patches.iter().flat_map(|patch| &patch.places);
        to.put(MAGIC)?;
        to.put(&self.page_size.get().to_be_bytes())?;
        to.put(&[self.encoding.code()])?;
        for count in [self.runs.len(), self.patches.len(), places.clone().count()] {
            to.put_number(count as u64)?;
        }
        for run in &self.runs {
            to.put_chunk(run)?;
        }
        for patch in &self.patches {
            to.put_chunk(&patch.chunk)?;
            to.put_number(patch.places.len() as u64)?;
        }
        for place in places {
            to.put_number(place.first.unwrap_or(0).into())?;
            to.put_number(place.pages.into())?;
        }
        for digest in &self.digests {
            to.put(digest)?;
        }
        let sum = to.sum.finalize();
        to.inner.write_all(&sum)?;
        to.inner.flush()
    }

    /// Reads it. Takes no memory for what is only claimed: a list grows as it is read.
    ///
    /// # Errors
    /// [`MadeError`] when these are not the bytes that were written.
    pub fn read(from: impl Read) -> Result<Self, MadeError> {
        let mut from = Summed { inner: from, sum: Sha256::new() };
        if from.take::<14>()? != *MAGIC {
            return Err(damaged("it begins with something else"));
        }
        let page_size =
            PageSize::new(from.number()?.into()).map_err(|OutOfRange { what, .. }| damaged(what))?;
        let [code] = from.take()?;
        let encoding = [TextEncoding::Utf8, TextEncoding::Utf16Le, TextEncoding::Utf16Be]
            .into_iter()
            .find(|encoding| encoding.code() == code)
            .ok_or_else(|| damaged("no text encoding has this number"))?;
        let runs = from.count(SNAPSHOT_CHUNKS_MAX)?;
        let patches = from.count(SNAPSHOT_PATCHES_MAX)?;
        let mut places = from.count(PAGE_PLACES_MAX)?;
        let runs = (0..runs).map(|_| from.chunk()).collect::<Result<Vec<_>, _>>()?;
        let mut counted = Vec::new();
        for _ in 0..patches {
            let (chunk, here) = (from.chunk()?, from.number()?);
            places = places.checked_sub(here as usize).ok_or_else(|| damaged("patches have more places"))?;
            counted.push((chunk, here));
        }
        if places != 0 {
            return Err(damaged("patches have fewer places"));
        }
        let mut patches = Vec::new();
        for (chunk, places) in counted {
            let places = (0..places).map(|_| {
                let first = from.number()?;
                Ok(PagePlaces { first: (first != 0).then_some(first), pages: from.number()? })
            });
            patches.push(Patch { chunk, places: places.collect::<Result<_, MadeError>>()? });
        }
        let pages = check(&runs, &patches).map_err(damaged)?;
        within_runs(&runs, &patches)?;
        let digests = (0..pages).map(|_| from.take()).collect::<Result<Vec<_>, _>>()?;
        let sum: [u8; 32] = from.sum.clone().finalize().into();
        if from.take()? != sum {
            return Err(damaged("its checksum is another one"));
        }
        if from.inner.read(&mut [0])? != 0 {
            return Err(damaged("something follows it"));
        }
        Ok(Self { encoding, page_size, runs, patches, digests })
    }
}

/// No writer lays pages over two runs in one place, so that where one run is written anew whole places go.
fn within_runs(runs: &[Chunk], patches: &[Patch]) -> Result<(), MadeError> {
    let firsts = first_pages(runs);
    for place in patches.iter().flat_map(|patch| &patch.places) {
        let Some(first) = place.first else { continue };
        let last = u64::from(first) + u64::from(place.pages) - 1;
        let run = |page: u64| firsts.partition_point(|first| *first <= page);
        if run(first.into()) != run(last) {
            return Err(damaged("a patch lays pages over two runs at once"));
        }
    }
    Ok(())
}

/// The page that each run begins with.
pub(super) fn first_pages(runs: &[Chunk]) -> Vec<u64> {
    let mut next = 1;
    let begins = |run: &Chunk| {
        let first = next;
        next += run.pages;
        first
    };
    runs.iter().map(begins).collect()
}

const fn damaged(what: &'static str) -> MadeError {
    MadeError::Damaged { what }
}

/// What is written or read, and the checksum of it so far.
struct Summed<T> {
    inner: T,
    sum: Sha256,
}

impl<W: Write> Summed<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.inner.write_all(bytes)
    }

    fn put_number(&mut self, number: u64) -> io::Result<()> {
        let number = u32::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.put(&number.to_be_bytes())
    }

    fn put_chunk(&mut self, chunk: &Chunk) -> io::Result<()> {
        self.put(chunk.hash.as_bytes())?;
        self.put_number(chunk.pages)?;
        self.put_number(chunk.stored_bytes)
    }
}

impl<R: Read> Summed<R> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], MadeError> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(|error| {
            let ends = error.kind() == io::ErrorKind::UnexpectedEof;
            if ends { damaged("it ends too early") } else { error.into() }
        })?;
        self.sum.update(bytes);
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u32, MadeError> {
        self.take().map(u32::from_be_bytes)
    }

    fn count(&mut self, limit: usize) -> Result<usize, MadeError> {
        let found = self.number()? as usize;
        if found > limit { Err(damaged("a list is longer than a manifest's may be")) } else { Ok(found) }
    }

    fn chunk(&mut self) -> Result<Chunk, MadeError> {
        let hash = ChunkHash::from_bytes(self.take()?);
        Ok(Chunk { hash, pages: self.number()?.into(), stored_bytes: self.number()?.into() })
    }
}
