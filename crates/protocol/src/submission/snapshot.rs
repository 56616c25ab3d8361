//! A snapshot: a whole database at a place in the stream, as a list of chunks. Body of type 2.

use crate::encoding::cbor::{MapKey, Reader, Writer};
use crate::encoding::frame::{self, Level};
use crate::encoding::{Canonical, DecodeError};
use crate::hash::{ChunkHash, CommitDigest, StateHash, sha256};
use crate::id::{CommitNumber, Incarnation, OutOfRange, PartIndex, StreamId};
use crate::limits::{BODY_BYTES_MAX, CHUNK_BYTES_MAX, CHUNK_STORED_MAX, PAGE_COUNT_MAX, SNAPSHOT_CHUNKS_MAX};
use crate::submission::TextEncoding;

/// The page size of a database file: a power of two from 512 to 65536 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageSize(u32);

impl PageSize {
    /// The page size in bytes.
    ///
    /// # Errors
    /// [`OutOfRange`] for any number that SQLite has no page size for.
    pub fn new(bytes: u64) -> Result<Self, OutOfRange> {
        match u32::try_from(bytes) {
            Ok(size @ 512..=65536) if size.is_power_of_two() => Ok(Self(size)),
            _ => Err(OutOfRange { what: "page size (a power of two)", min: 512, max: 65536, found: bytes }),
        }
    }

    /// The page size in bytes.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u64> for PageSize {
    type Error = OutOfRange;

    fn try_from(bytes: u64) -> Result<Self, OutOfRange> {
        Self::new(bytes)
    }
}

impl From<PageSize> for u64 {
    fn from(size: PageSize) -> u64 {
        size.0.into()
    }
}

/// A run of consecutive pages, compressed, stored under its own hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// SHA-256 of the chunk as stored.
    pub hash: ChunkHash,
    /// How many pages it holds.
    pub pages: u64,
    /// Its size as stored, in bytes.
    pub stored_bytes: u64,
}

impl Chunk {
    /// Compresses and names a run of whole pages. Returns the chunk and its bytes as stored.
    ///
    /// # Errors
    /// [`DecodeError::OverLimit`] when they are more than a chunk holds.
    pub fn seal(pages: &[u8], page_size: PageSize) -> Result<(Self, Vec<u8>), DecodeError> {
        over("pages of a chunk, in bytes", pages.len() as u64, CHUNK_BYTES_MAX as u64)?;
        let stored = frame::compress(pages, Level::Usual);
        let stored_bytes = stored.len() as u64;
        over("stored bytes of a chunk", stored_bytes, CHUNK_STORED_MAX as u64)?;
        let pages = pages.len() as u64 / u64::from(page_size.get());
        Ok((Self { hash: ChunkHash::of(&stored), pages, stored_bytes }, stored))
    }

    /// The pages in a chunk as stored. Its hash is compared before anything is decompressed.
    ///
    /// # Errors
    /// [`DecodeError`] when these are not the bytes that the chunk names, or do not hold its pages.
    pub fn open(&self, stored: &[u8], page_size: PageSize) -> Result<Vec<u8>, DecodeError> {
        const WHAT: &str = "chunk";
        if stored.len() as u64 != self.stored_bytes || ChunkHash::of(stored) != self.hash {
            return Err(DecodeError::Invalid { what: WHAT, why: "its bytes do not hash to its name" });
        }
        let pages = frame::decompress(WHAT, stored, CHUNK_BYTES_MAX)?;
        if self.pages.checked_mul(page_size.get().into()) != Some(pages.len() as u64) {
            return Err(DecodeError::Invalid { what: WHAT, why: "it holds another number of pages" });
        }
        Ok(pages)
    }

    /// Checks what no single field of chunks shows: that each may be opened, and how many pages they hold.
    pub(crate) fn check_all(chunks: &[Self], page_size: PageSize) -> Result<u64, DecodeError> {
        if chunks.is_empty() {
            return Err(DecodeError::Invalid {
                what: Snapshot::WHAT,
                why: "a database has at least one page",
            });
        }
        let mut pages = 0u64;
        for chunk in chunks {
            if chunk.pages == 0 {
                return Err(DecodeError::Invalid { what: "chunk", why: "it holds at least one page" });
            }
            let pages_max = CHUNK_BYTES_MAX as u64 / u64::from(page_size.get());
            over("pages of a chunk", chunk.pages, pages_max)?;
            over("stored bytes of a chunk", chunk.stored_bytes, CHUNK_STORED_MAX as u64)?;
            pages += chunk.pages;
        }
        over("pages of a snapshot", pages, PAGE_COUNT_MAX)?;
        Ok(pages)
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.array(3);
        writer.bytes(self.hash.as_bytes());
        writer.uint(self.pages);
        writer.uint(self.stored_bytes);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array_exact("chunk", 3)?;
        let hash = ChunkHash::from_bytes(reader.array_of("chunk hash")?);
        Ok(Self { hash, pages: reader.uint("pages")?, stored_bytes: reader.uint("stored bytes")? })
    }
}

/// The incarnation before the one that a snapshot begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predecessor {
    /// Which it was.
    pub incarnation: Incarnation,
    /// The commit that the log must expect next of it: all before has a place.
    pub next: CommitNumber,
    /// The part that the log must expect next, when the commit was coming in parts.
    pub next_part: Option<PartIndex>,
    /// Digest of the last thing the log has of it.
    pub last: CommitDigest,
    /// The last commit that the client gave a number and gives up; every number from the log's next
    /// one to this is declared abandoned. `None` when nothing is.
    pub abandoned_through: Option<CommitNumber>,
}

/// Where in the stream a snapshot stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotPlace {
    /// It begins its incarnation; the first commit names its digest as `prev`.
    Begins {
        /// The incarnation before, or `None` for the first one of a stream.
        predecessor: Option<Predecessor>,
    },
    /// It shows the database as it is after a commit of the running incarnation.
    After {
        /// The commit.
        commit: CommitNumber,
        /// Its digest.
        digest: CommitDigest,
    },
}

/// A whole database at a place in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The stream.
    pub stream: StreamId,
    /// The incarnation that it begins or stands in.
    pub incarnation: Incarnation,
    /// Where it stands.
    pub place: SnapshotPlace,
    /// How text stands in its pages.
    pub encoding: TextEncoding,
    /// The page size.
    pub page_size: PageSize,
    /// The state hash of the database it holds.
    pub state: StateHash,
    /// The chunks, in page order; together they hold the database from page 1 to its end.
    pub chunks: Vec<Chunk>,
}

impl Snapshot {
    /// The digest that the first commit names as `prev` when this snapshot begins an incarnation.
    pub fn digest(&self) -> CommitDigest {
        CommitDigest::from_bytes(sha256(&[&self.to_bytes()]))
    }

    /// Checks what no single field shows: chunk sizes and the page count.
    fn check(self) -> Result<Self, DecodeError> {
        Chunk::check_all(&self.chunks, self.page_size)?;
        Ok(self)
    }

    fn write_place(&self, writer: &mut Writer) {
        match &self.place {
            SnapshotPlace::Begins { predecessor: None } => writer.array(0),
            SnapshotPlace::Begins { predecessor: Some(predecessor) } => {
                writer.array(5);
                predecessor.incarnation.write(writer);
                writer.uint(predecessor.next);
                match predecessor.next_part {
                    Some(part) => writer.uint(part),
                    None => writer.null(),
                }
                writer.bytes(predecessor.last.as_bytes());
                match predecessor.abandoned_through {
                    Some(number) => writer.uint(number),
                    None => writer.null(),
                }
            }
            SnapshotPlace::After { commit, digest } => {
                writer.array(2);
                writer.uint(*commit);
                writer.bytes(digest.as_bytes());
            }
        }
    }

    fn read_place(reader: &mut Reader<'_>) -> Result<SnapshotPlace, DecodeError> {
        match reader.array("place", 5)? {
            0 => Ok(SnapshotPlace::Begins { predecessor: None }),
            2 => {
                let commit = reader.number("commit number")?;
                let digest = CommitDigest::from_bytes(reader.array_of("commit digest")?);
                Ok(SnapshotPlace::After { commit, digest })
            }
            5 => {
                let incarnation = Incarnation::read(reader)?;
                let next = reader.number("commit number")?;
                let next_part = optional(reader, "part", |reader| reader.number("part"))?;
                let last = CommitDigest::from_bytes(reader.array_of("commit digest")?);
                let abandoned_through =
                    optional(reader, "abandoned commits", |reader| reader.number("commit number"))?;
                let predecessor = Predecessor { incarnation, next, next_part, last, abandoned_through };
                Ok(SnapshotPlace::Begins { predecessor: Some(predecessor) })
            }
            _ => Err(DecodeError::Invalid { what: "place", why: "it has 0, 2 or 5 items" }),
        }
    }
}

/// A value, or `null`.
fn optional<'a, T>(
    reader: &mut Reader<'a>,
    what: &'static str,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    if reader.at_null() {
        return reader.null(what).map(|()| None);
    }
    read(reader).map(Some)
}

fn over(what: &'static str, found: u64, limit: u64) -> Result<(), DecodeError> {
    if found > limit {
        return Err(DecodeError::OverLimit { what, limit, found });
    }
    Ok(())
}

impl Canonical for Snapshot {
    const WHAT: &'static str = "snapshot";
    const BYTES_MAX: usize = BODY_BYTES_MAX;

    fn write(&self, writer: &mut Writer) {
        writer.map(7);
        writer.key(MapKey::Int(1));
        writer.bytes(self.stream.as_bytes());
        writer.key(MapKey::Int(2));
        self.incarnation.write(writer);
        writer.key(MapKey::Int(3));
        self.write_place(writer);
        writer.key(MapKey::Int(4));
        self.encoding.write(writer);
        writer.key(MapKey::Int(5));
        writer.uint(self.page_size);
        writer.key(MapKey::Int(6));
        writer.bytes(self.state.as_bytes());
        writer.key(MapKey::Int(7));
        writer.array(self.chunks.len());
        for chunk in &self.chunks {
            chunk.write(writer);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut fields = reader.fields(Self::WHAT, 7)?;
        let stream = fields.required(reader, MapKey::Int(1), |reader| reader.array_of("stream"))?;
        let incarnation = fields.required(reader, MapKey::Int(2), Incarnation::read)?;
        let place = fields.required(reader, MapKey::Int(3), Self::read_place)?;
        let encoding = fields.required(reader, MapKey::Int(4), TextEncoding::read)?;
        let page_size = fields.required(reader, MapKey::Int(5), |reader| reader.number("page size"))?;
        let state = fields.required(reader, MapKey::Int(6), |reader| reader.array_of("state hash"))?;
        let chunks = fields.required(reader, MapKey::Int(7), |reader| {
            let count = reader.array("chunks", SNAPSHOT_CHUNKS_MAX)?;
            (0..count).map(|_| Chunk::read(reader)).collect::<Result<Vec<_>, _>>()
        })?;
        fields.end(reader)?;
        let (stream, state) = (StreamId::from_bytes(stream), StateHash::from_bytes(state));
        Self { stream, incarnation, place, encoding, page_size, state, chunks }.check()
    }
}
