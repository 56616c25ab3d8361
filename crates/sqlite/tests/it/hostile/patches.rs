//! Damage that an input asks for, done to files that SQLite wrote: from there most inputs reach the code behind the checks of headers
//! and checksums.

use super::images::Image;

/// Most patches of one input.
const PATCHES_MAX: usize = 256;
/// Bytes of an input that make one patch.
const PATCH_BYTES: usize = 7;

/// What a patch writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The database file before anybody opens it.
    Database,
    /// The frames that are there when the follower attaches.
    Attached,
    /// The frames that come afterwards.
    Tail,
    /// The database file behind the follower's back.
    Behind,
}

/// One change of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patch {
    pub(crate) place: Place,
    kind: u8,
    page: u16,
    offset: u16,
    value: u8,
}

/// The patches that these bytes ask for.
pub(crate) fn patches(bytes: &[u8]) -> Vec<Patch> {
    let patch = |bytes: &[u8]| Patch {
        place: [Place::Database, Place::Attached, Place::Tail, Place::Behind][usize::from(bytes[0] & 3)],
        kind: bytes[0] >> 2,
        page: u16::from_be_bytes([bytes[1], bytes[2]]),
        offset: u16::from_be_bytes([bytes[3], bytes[4]]),
        value: bytes[5] ^ bytes[6].rotate_left(4),
    };
    bytes.chunks_exact(PATCH_BYTES).take(PATCHES_MAX).map(patch).collect()
}

impl Patch {
    /// Changes the page that it means, among pages that lie one after the other. Before each page stand `head` bytes, of which the first
    /// eight can be changed too.
    pub(crate) fn apply(&self, pages: &mut Vec<u8>, head: usize, page_size: usize) {
        let stride = head + page_size;
        let count = pages.len() / stride;
        if count == 0 {
            return;
        }
        let start = usize::from(self.page) % count * stride;
        let reach = head.min(8) + page_size;
        let within = usize::from(self.offset) % reach;
        let at = start + if within < head.min(8) { within } else { within - head.min(8) + head };
        let value = u32::from(self.value);
        match self.kind % 6 {
            0 => pages[at] = self.value,
            1 => put(pages, at, &u16::try_from(value).unwrap_or(0).to_be_bytes()),
            // A number of a page.
            2 => put(pages, at, &value.to_be_bytes()),
            3 => put(pages, at, &(u32::MAX - value).to_be_bytes()),
            4 => pages.truncate(start),
            _ => {
                let from = usize::from(self.value) % count * stride + head;
                pages.copy_within(from..from + page_size, start + head);
            }
        }
    }
}

fn put(pages: &mut [u8], at: usize, bytes: &[u8]) {
    for (place, byte) in pages.iter_mut().skip(at).zip(bytes) {
        *place = *byte;
    }
}

/// The image that an input begins with, what else its first byte says, and the rest of the input.
pub(crate) fn image(bytes: &[u8]) -> Option<(&'static Image, usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let images = super::images::images();
    let first = usize::from(*first);
    Some((&images[first % images.len()], first / images.len(), rest))
}
