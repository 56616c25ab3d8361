//! Compression: exactly one zstd frame that states its content size, opened within a bound.
//!
//! RFC 8878. A frame that names a dictionary, leaves its content size open, is followed by anything,
//! or claims more than the bound is refused before memory is taken for its content. Which of the many
//! frames for one content a writer chose does not matter: what is signed is the body as stored.

use zstd::zstd_safe;

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

/// First bytes of a zstd frame; a skippable frame has others.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

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
    match zstd_safe::decompress(&mut content, frame) {
        Ok(length) if length == size => Ok(content),
        Ok(_) => Err(refuse("the frame holds less than it states")),
        Err(_) => Err(refuse("the frame is damaged")),
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
    match zstd_safe::get_frame_content_size(frame) {
        Ok(Some(size)) => Ok(size),
        Ok(None) | Err(_) => Err(refuse("the frame does not state its content size")),
    }
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
}
