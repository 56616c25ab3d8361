//! The manifest: a snapshot of a replica at a stored checkpoint, signed by whoever took it.
//!
//! ```text
//! runs     [ 1 .. 512 ][ 513 .. 1024 ][ 1025 .. 1300 ]      every page once, in order
//! patches         [7]      [600, 601]           [1299]      laid over them, the first one first
//! ```
//!
//! A snapshot names the chunks of the one before wherever their pages are the same. Pages that changed here and there come as a patch, so that a
//! run of them need not be stored again for a few. Who signed it proves nothing of what it holds: the pages are whole only if they
//! hash to the state that the checkpoint claims, and the checkpoint counts only if the leader of its epoch signed it.

use crate::encoding::cbor::{MapKey, Reader, Writer, check_limit};
use crate::encoding::{Canonical as _, DecodeError};
use crate::hash::StateHash;
use crate::id::{KeyId, Sequence, StreamId};
use crate::limits::{MANIFEST_BYTES_MAX, PAGE_PLACES_MAX, SNAPSHOT_CHUNKS_MAX, SNAPSHOT_PATCHES_MAX};
use crate::log::SignedCheckpoint;
use crate::signing::{Envelope, Header, Kind, SignatureError, SigningKey, VerifyingKey};
use crate::submission::{Chunk, PageSize, TextEncoding};

/// Where consecutive pages of a patch lie in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PagePlaces {
    /// The page, counted from 1, that the first of them is. `None` when they are laid nowhere: what is stored of the patch has them, and this snapshot
    /// has them from elsewhere.
    pub first: Option<u32>,
    /// How many they are.
    pub pages: u32,
}

/// Pages from all over the database, laid over its runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// The pages as stored.
    pub chunk: Chunk,
    /// Where they lie, in the order in which the chunk has them.
    pub places: Vec<PagePlaces>,
}

/// What a manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The checkpoint at which the snapshot was taken, as it stands in the stored batch that it ends.
    pub checkpoint: SignedCheckpoint,
    /// How text stands in its pages.
    pub encoding: TextEncoding,
    /// The page size.
    pub page_size: PageSize,
    /// Runs of pages, in page order; together they hold the database from page 1 to its end.
    pub runs: Vec<Chunk>,
    /// What is laid over them, in this order.
    pub patches: Vec<Patch>,
}

impl Manifest {
    /// The stream.
    pub const fn stream(&self) -> StreamId {
        self.checkpoint.claim().stream
    }

    /// The last message that the snapshot contains.
    pub const fn sequence(&self) -> Sequence {
        self.checkpoint.claim().size
    }

    /// The state hash that the database must have; `None` for a checkpoint before the first snapshot, at which nothing can be taken.
    pub fn state(&self) -> Option<StateHash> {
        self.checkpoint.claim().client.as_ref().map(|client| client.state)
    }

    /// Every chunk that it names.
    pub fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.runs.iter().chain(self.patches.iter().map(|patch| &patch.chunk))
    }

    /// Signs it.
    ///
    /// # Errors
    /// [`DecodeError`] for a manifest that no reader would take: it contradicts itself, or is over a bound.
    pub fn sign(self, key: &SigningKey) -> Result<SignedManifest, DecodeError> {
        self.check()?;
        let claim = self.checkpoint.claim();
        let header =
            Header { stream: claim.stream, epoch: claim.epoch, sequence: Some(claim.size), message: None };
        let envelope = Envelope::sign(Kind::Manifest, header, self.payload(), key);
        let signed = SignedManifest { manifest: self, envelope };
        check_limit(Kind::Manifest.what(), signed.to_bytes().len(), MANIFEST_BYTES_MAX)?;
        Ok(signed)
    }

    fn payload(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.map(4 + usize::from(!self.patches.is_empty()));
        writer.key(MapKey::Int(1));
        self.checkpoint.write(&mut writer);
        writer.key(MapKey::Int(2));
        self.encoding.write(&mut writer);
        writer.key(MapKey::Int(3));
        writer.uint(self.page_size);
        writer.key(MapKey::Int(4));
        writer.array(self.runs.len());
        self.runs.iter().for_each(|run| run.write(&mut writer));
        if !self.patches.is_empty() {
            writer.key(MapKey::Int(5));
            writer.array(self.patches.len());
            self.patches.iter().for_each(|patch| patch.write(&mut writer));
        }
        writer.into_bytes()
    }

    fn from_payload(header: &Header, payload: &[u8]) -> Result<Self, DecodeError> {
        let what = Kind::Manifest.what();
        let reader = &mut Reader::new(payload);
        let mut fields = reader.fields(what, 5)?;
        let checkpoint = fields.required(reader, MapKey::Int(1), SignedCheckpoint::read)?;
        let encoding = fields.required(reader, MapKey::Int(2), TextEncoding::read)?;
        let page_size = fields.required(reader, MapKey::Int(3), |reader| reader.number("page size"))?;
        let runs = fields.required(reader, MapKey::Int(4), |reader| {
            let count = reader.array("runs", SNAPSHOT_CHUNKS_MAX)?;
            (0..count).map(|_| Chunk::read(reader)).collect::<Result<Vec<_>, _>>()
        })?;
        let mut places = 0;
        let patches = fields.optional(reader, MapKey::Int(5), |reader| {
            let count = reader.array("patches", SNAPSHOT_PATCHES_MAX)?;
            if count == 0 {
                return Err(DecodeError::Invalid { what, why: "no patch is written as none" });
            }
            (0..count).map(|_| Patch::read(reader, &mut places)).collect::<Result<Vec<_>, _>>()
        })?;
        fields.end(reader)?;
        reader.end(what)?;
        let manifest = Self { checkpoint, encoding, page_size, runs, patches: patches.unwrap_or_default() };
        let claim = manifest.checkpoint.claim();
        if (header.stream, header.epoch, header.sequence) != (claim.stream, claim.epoch, Some(claim.size)) {
            return Err(DecodeError::Invalid { what, why: "its checkpoint is of another place" });
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// Refuses what no single field shows.
    fn check(&self) -> Result<(), DecodeError> {
        let invalid = |why| Err(DecodeError::Invalid { what: Kind::Manifest.what(), why });
        match &self.checkpoint.claim().client {
            None => return invalid("its checkpoint is before the first snapshot of the stream"),
            Some(client) if client.group.is_some() => return invalid("a commit is coming in parts there"),
            Some(_) => {}
        }
        check_limit("runs", self.runs.len(), SNAPSHOT_CHUNKS_MAX)?;
        check_limit("patches", self.patches.len(), SNAPSHOT_PATCHES_MAX)?;
        let pages = Chunk::check_all(&self.runs, self.page_size)?;
        let mut places = 0;
        for patch in &self.patches {
            Chunk::check_all(std::slice::from_ref(&patch.chunk), self.page_size)?;
            places += patch.places.len();
            check_limit("places of pages", places, PAGE_PLACES_MAX)?;
            let mut held = 0;
            for place in &patch.places {
                held += u64::from(place.pages);
                let behind = place.first.map_or(0, |first| u64::from(first) + u64::from(place.pages));
                if place.pages == 0 || place.first == Some(0) || behind > pages + 1 {
                    return invalid("a patch lays pages where none are");
                }
            }
            if held != patch.chunk.pages {
                return invalid("a patch has another number of pages than places");
            }
        }
        Ok(())
    }
}

impl Patch {
    fn write(&self, writer: &mut Writer) {
        writer.array(2);
        self.chunk.write(writer);
        writer.array(self.places.len() * 2);
        for place in &self.places {
            writer.uint(place.first.unwrap_or(0));
            writer.uint(place.pages);
        }
    }

    /// `places` counts those of all patches.
    fn read(reader: &mut Reader<'_>, places: &mut usize) -> Result<Self, DecodeError> {
        reader.array_exact("patch", 2)?;
        let chunk = Chunk::read(reader)?;
        let numbers = reader.array("places of pages", PAGE_PLACES_MAX * 2)?;
        *places += numbers / 2;
        check_limit("places of pages", *places, PAGE_PLACES_MAX)?;
        if numbers % 2 != 0 {
            return Err(DecodeError::Invalid { what: "places of pages", why: "they are pairs" });
        }
        let number = |reader: &mut Reader<'_>| {
            let found = reader.uint("page")?;
            u32::try_from(found)
                .map_err(|_| DecodeError::Invalid { what: "page", why: "no page has this number" })
        };
        let places = (0..numbers / 2).map(|_| {
            let first = number(reader)?;
            Ok(PagePlaces { first: (first != 0).then_some(first), pages: number(reader)? })
        });
        Ok(Self { chunk, places: places.collect::<Result<_, DecodeError>>()? })
    }
}

/// A signed manifest, as it stands in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedManifest {
    manifest: Manifest,
    envelope: Envelope,
}

impl SignedManifest {
    /// Reads a manifest. Its signature is not checked by that.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not a canonical COSE_Sign1 of a manifest.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let what = Kind::Manifest.what();
        check_limit(what, bytes.len(), MANIFEST_BYTES_MAX)?;
        let mut reader = Reader::new(bytes);
        let envelope = Envelope::read(Kind::Manifest, &mut reader, MANIFEST_BYTES_MAX)?;
        reader.end(what)?;
        let manifest = Manifest::from_payload(envelope.header(), envelope.payload())?;
        Ok(Self { manifest, envelope })
    }

    /// The bytes to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.envelope.encode()
    }

    /// The name of the key that signed it.
    pub const fn key(&self) -> KeyId {
        self.envelope.key()
    }

    /// What it says. Whether the pages are what its checkpoint claims is seen when they are hashed, and at nothing else.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The public key of whoever took the snapshot.
    ///
    /// # Errors
    /// [`SignatureError::BadSignature`] when no key with the named address made the signature.
    pub fn recover(&self) -> Result<VerifyingKey, SignatureError> {
        self.envelope.recover()
    }
}
