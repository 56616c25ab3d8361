//! The database header of a snapshot (SQLite file format, section 1.3): what varies for no reason is made the same everywhere.

use synddb_protocol::submission::TextEncoding;

use super::pages::{DATABASE_HEADER, Geometry, MAGIC, u32_at};

/// The free list of a snapshot.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FreeList {
    /// Its first trunk page, or 0.
    pub(super) first: u32,
    /// How many pages are free.
    pub(super) pages: u32,
}

/// Page 1 of a database in which nothing was ever written, whose file is still empty.
pub(super) fn blank_page(geometry: &Geometry) -> Vec<u8> {
    let mut page = vec![0; geometry.page_bytes()];
    page[..16].copy_from_slice(MAGIC);
    let size = u16::try_from(geometry.page_bytes()).unwrap_or(1);
    page[16..18].copy_from_slice(&size.to_be_bytes());
    page[21..24].copy_from_slice(&[64, 32, 32]);
    page[DATABASE_HEADER] = 13;
    let content = u16::try_from(geometry.usable).unwrap_or(0);
    page[DATABASE_HEADER + 5..DATABASE_HEADER + 7].copy_from_slice(&content.to_be_bytes());
    page
}

/// Makes the header that of a snapshot.
///
/// Kept: page size, reserved bytes, schema cookie and format, cache size, auto-vacuum, `user_version`, `application_id`.
pub(super) fn normalise(page: &mut [u8], geometry: &Geometry, encoding: TextEncoding, free: FreeList) {
    let mut set = |at: usize, value: u32| page[at..at + 4].copy_from_slice(&value.to_be_bytes());
    // The change counter, and the one for which page count and SQLite version are right.
    set(24, 1);
    set(92, 1);
    set(28, geometry.pages);
    set(32, free.first);
    set(36, free.pages);
    // A file without a schema may not say it yet.
    set(56, encoding.code().into());
    set(96, 0);
    page[72..92].fill(0);
    // Rollback journal and not WAL: the restored file stands alone.
    page[18..20].fill(1);
}

/// Checks that a restored page 1 is one that [`normalise`] wrote, for so many pages in this encoding.
pub(super) fn check(page: &[u8], pages: u32, encoding: TextEncoding) -> Result<(), &'static str> {
    let is = |at, value: u32| u32_at(page, at) == Ok(value);
    if page.get(18..20) != Some(&[1, 1]) || !is(24, 1) || !is(92, 1) {
        return Err("the header is not that of a snapshot");
    }
    if !is(28, pages) {
        return Err("the header states another number of pages");
    }
    if !is(56, encoding.code().into()) {
        return Err("the header states another text encoding");
    }
    Ok(())
}
