//! Runs of pages as they are stored: exactly one zstd frame that states its content size (RFC 8878), named by its hash.
//!
//! The form is that of every compressed body of the protocol. A frame is opened only after hash and stated size were checked,
//! so that no frame takes more memory than its chunk may.

use synddb_protocol::hash::ChunkHash;
use synddb_protocol::limits::{CHUNK_BYTES_MAX, CHUNK_STORED_MAX};
use synddb_protocol::submission::{Chunk, PageSize};
use zstd::zstd_safe;

/// The level of every writer of the protocol.
const LEVEL: i32 = 3;
/// First bytes of a zstd frame; a skippable frame has others.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Compresses and names a run of pages.
pub(super) fn seal(pages: &[u8], page_size: PageSize) -> Result<(Chunk, Vec<u8>), &'static str> {
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(pages.len()));
    zstd_safe::compress(&mut frame, pages, LEVEL).map_err(|_| "zstd cannot compress it")?;
    if frame.len() > CHUNK_STORED_MAX {
        return Err("it is larger than a chunk may be");
    }
    let pages = pages.len() as u64 / u64::from(page_size.get());
    Ok((Chunk { hash: ChunkHash::of(&frame), pages, stored_bytes: frame.len() as u64 }, frame))
}

/// The pages of a stored chunk.
pub(super) fn open(chunk: &Chunk, page_size: PageSize, stored: &[u8]) -> Result<Vec<u8>, &'static str> {
    let size = chunk.pages.checked_mul(page_size.get().into()).and_then(|size| usize::try_from(size).ok());
    let size = size.filter(|size| *size <= CHUNK_BYTES_MAX).ok_or("it claims more pages than a chunk has")?;
    if stored.len() > CHUNK_STORED_MAX || stored.len() as u64 != chunk.stored_bytes {
        return Err("it has another length");
    }
    if ChunkHash::of(stored) != chunk.hash {
        return Err("its bytes do not hash to its name");
    }
    if !stored.starts_with(&MAGIC) || zstd_safe::find_frame_compressed_size(stored) != Ok(stored.len()) {
        return Err("it is not exactly one zstd frame");
    }
    match zstd_safe::get_frame_content_size(stored) {
        Ok(Some(stated)) if stated == size as u64 => {}
        Ok(_) | Err(_) => return Err("it does not state the size of its pages"),
    }
    let mut pages = Vec::with_capacity(size);
    match zstd_safe::decompress(&mut pages, stored) {
        Ok(length) if length == size => Ok(pages),
        Ok(_) | Err(_) => Err("its frame is damaged"),
    }
}
