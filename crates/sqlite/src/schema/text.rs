//! Text of the schema, between the bytes that a file stores and the UTF-8 that statements are written in.

use synddb_protocol::submission::TextEncoding;

use super::SchemaError;

/// The text that the bytes hold.
///
/// # Errors
/// [`SchemaError::Damaged`] when they are no text in this encoding, which SQLite's own names and SQL always are.
pub fn to_text(bytes: &[u8], encoding: TextEncoding) -> Result<String, SchemaError> {
    const DAMAGED: SchemaError =
        SchemaError::Damaged { what: "a name or text is not in the database's encoding" };
    let unit = match encoding {
        TextEncoding::Utf8 => return String::from_utf8(bytes.to_vec()).map_err(|_| DAMAGED),
        TextEncoding::Utf16Le => u16::from_le_bytes,
        TextEncoding::Utf16Be => u16::from_be_bytes,
    };
    if !bytes.len().is_multiple_of(2) {
        return Err(DAMAGED);
    }
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
    String::from_utf16(&units).map_err(|_| DAMAGED)
}

/// The bytes that hold the text.
pub fn from_text(text: &str, encoding: TextEncoding) -> Vec<u8> {
    match encoding {
        TextEncoding::Utf8 => text.as_bytes().to_vec(),
        TextEncoding::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        TextEncoding::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_every_encoding() {
        for encoding in [TextEncoding::Utf8, TextEncoding::Utf16Le, TextEncoding::Utf16Be] {
            let text = "CREATE TABLE \"né𝄞\"(a)";
            assert_eq!(to_text(&from_text(text, encoding), encoding).unwrap(), text);
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        assert!(to_text(&[0xff], TextEncoding::Utf8).is_err());
        assert!(to_text(&[0x41], TextEncoding::Utf16Le).is_err());
        assert!(to_text(&[0x00, 0xd8], TextEncoding::Utf16Le).is_err());
    }
}
