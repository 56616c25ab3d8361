//! Compression: exactly one zstd frame that states its content size, opened within a bound.
//!
//! RFC 8878. A frame that names a dictionary, carries a checksum, leaves its content size open, is followed by
//! anything, or claims more than the bound is refused before memory is taken for its content. Its head has one
//! form for one content: no bit of it is free. Which of the many sequences of blocks for one content a writer chose
//! does not matter: what is signed is the body as stored.

use std::cell::RefCell;

use zstd::zstd_safe::{self, DCtx};

use super::cbor::{DecodeError, check_limit};

/// A compression level of zstd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// For many submissions, on the application's machine. Level 1 takes half the time of level 3, and what row changes become is as large
    /// for numbers and a few percent larger for texts.
    Fast = 1,
    /// For batches, chunks and single bodies: what is read more often than it is written.
    Usual = 3,
}

impl Level {
    /// The window of a content that is larger than it: zstd's for this level, as a power of two.
    const fn window(self) -> u8 {
        match self {
            Self::Fast => 19,
            Self::Usual => 21,
        }
    }
}

/// First bytes of a zstd frame; a skippable frame has others.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

thread_local! {
    /// What opening takes beside the content, 160 KiB: making it anew takes ten times as long as opening a small body. It keeps nothing of one frame for
    /// the next, so which thread opens what cannot be seen.
    static OPENING: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// Compresses `content` into one frame that states its content size.
pub(crate) fn compress(content: &[u8], level: Level) -> Vec<u8> {
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(content.len()));
    zstd_safe::compress(&mut frame, content, level as i32).expect("the buffer has the size zstd asks for");
    frame
}

/// The content of `frame`, which must be one frame of at most `limit` bytes of content.
pub(crate) fn decompress(what: &'static str, frame: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let refuse = |why| DecodeError::Compression { what, why };
    let size = usize::try_from(content_size(what, frame)?).unwrap_or(usize::MAX);
    check_limit(what, size, limit)?;
    let mut content = Vec::with_capacity(size);
    match OPENING.with_borrow_mut(|context| context.decompress(&mut content, frame)) {
        Ok(length) if length == size => Ok(content),
        Ok(_) => Err(refuse("the frame holds less than it states")),
        Err(_) => Err(refuse("the frame is damaged")),
    }
}

/// The same for what only a writer of this system makes, at one level: then the window has one size as well.
pub(crate) fn decompress_at(
    what: &'static str,
    frame: &[u8],
    limit: usize,
    level: Level,
) -> Result<Vec<u8>, DecodeError> {
    match window(frame) {
        Some(window) if window != level.window() => {
            Err(DecodeError::Compression { what, why: "its window is not the one of its writer" })
        }
        Some(_) | None => decompress(what, frame, limit),
    }
}

/// The size that `frame`, which must be exactly one frame, states for its content.
pub(crate) fn content_size(what: &'static str, frame: &[u8]) -> Result<u64, DecodeError> {
    let refuse = |why| DecodeError::Compression { what, why };
    if !frame.starts_with(&MAGIC) {
        return Err(refuse("it is not a zstd frame"));
    }
    if zstd_safe::find_frame_compressed_size(frame) != Ok(frame.len()) {
        return Err(refuse("it is not exactly one whole frame"));
    }
    let size = match zstd_safe::get_frame_content_size(frame) {
        Ok(Some(size)) => size,
        Ok(None) | Err(_) => return Err(refuse("the frame does not state its content size")),
    };
    check_head(frame, size).map_err(refuse)?;
    Ok(size)
}

/// In the first byte of a head: the content is its own window.
const SINGLE_SEGMENT: u8 = 0x20;
/// In the first byte of a head: one bit that means nothing, one that is reserved, the checksum's, and two of a dictionary.
const ABSENT: u8 = 0x1f;

/// The window that the head of a frame names, as a power of two; `None` when it is the content itself.
fn window(frame: &[u8]) -> Option<u8> {
    match frame.get(MAGIC.len()..) {
        Some([first, window, ..]) if first & SINGLE_SEGMENT == 0 => Some((window >> 3) + 10),
        _ => None,
    }
}

/// Refuses a head (RFC 8878, section 3.1.1.1) other than the one that zstd writes for a content of this size: what nobody looks at
/// must not be free to change.
fn check_head(frame: &[u8], size: u64) -> Result<(), &'static str> {
    let head = frame.get(MAGIC.len()..).unwrap_or_default();
    let Some(first) = head.first() else { return Err("it is not a zstd frame") };
    if first & ABSENT != 0 {
        return Err("the frame has a checksum, a dictionary, or a bit that is not in use");
    }
    let shortest = match size {
        0..256 => 0,
        256..65_792 => 1,
        65_792..0xffff_ffff => 2,
        _ => 3,
    };
    if first >> 6 != shortest {
        return Err("the frame states its content size in more bytes than needed");
    }
    let Some(window) = window(frame) else { return Ok(()) };
    let mantissa = head.get(1).map_or(0, |descriptor| descriptor & 7);
    if mantissa != 0 || size.checked_shr(window.into()).is_none_or(|windows| windows == 0) {
        return Err("the frame has another window than zstd writes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_returns_and_is_bounded() {
        for content in [&b""[..], b"one", &[7; 100_000]] {
            let frame = compress(content, Level::Fast);
            assert_eq!(decompress("test", &frame, content.len()).unwrap(), content);
            if !content.is_empty() {
                let bomb = decompress("test", &frame, content.len() - 1);
                assert!(matches!(bomb, Err(DecodeError::OverLimit { .. })));
            }
        }
    }

    #[test]
    fn anything_but_one_frame_is_refused() {
        let frame = compress(b"content", Level::Usual);
        let twice = [frame.clone(), frame.clone()].concat();
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0][..], &frame].concat();
        let trailing = [&frame[..], &[0]].concat();
        let cut = frame[..frame.len() - 1].to_vec();
        for bytes in [twice, skippable, trailing, cut, Vec::new()] {
            assert!(matches!(decompress("test", &bytes, 100), Err(DecodeError::Compression { .. })));
        }
    }

    #[test]
    fn no_bit_of_a_head_is_free() {
        for (length, level) in [
            (0, Level::Usual),
            (255, Level::Usual),
            (256, Level::Fast),
            (65_791, Level::Usual),
            (65_792, Level::Usual),
            (600_000, Level::Fast),
            (3_000_000, Level::Usual),
        ] {
            let content = vec![7; length];
            let frame = compress(&content, level);
            assert_eq!(decompress_at("test", &frame, length, level).unwrap(), content, "{length}");
            let stated = [1, 2, 4, 8][usize::from(frame[4] >> 6)];
            let head = MAGIC.len() + 1 + usize::from(window(&frame).is_some()) + stated;
            for bit in 0..8 * head {
                let mut flipped = frame.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let opened = decompress_at("test", &flipped, length, level);
                assert!(opened.is_err(), "{length}: bit {bit} of the head");
            }
        }
    }

    #[test]
    fn a_checksum_is_refused() {
        let mut frame = Vec::with_capacity(100);
        let mut context = zstd_safe::CCtx::create();
        context.set_parameter(zstd_safe::CParameter::ChecksumFlag(true)).unwrap();
        context.compress2(&mut frame, b"content").unwrap();
        assert!(matches!(decompress("test", &frame, 100), Err(DecodeError::Compression { .. })));
    }
}
