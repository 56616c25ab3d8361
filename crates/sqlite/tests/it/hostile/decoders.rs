//! Everything that reads bytes of others, with the promises it keeps for all input.
//!
//! The fuzz targets run these without end, the tests in this folder run them over the kept inputs: none may panic, hang, or take more memory
//! than its line in `fuzz/Cargo.toml` says. What each takes is written beside it; what is not written there grows with nothing.

use std::io::{BufRead, BufReader};

use synddb_protocol::state::Value;
use synddb_sqlite::changeset::{self, ChangesetError, Reader, RowChange, Step, Table};
use synddb_sqlite::file::header::Header;
use synddb_sqlite::file::page::{Page, PageKind};
use synddb_sqlite::file::record;
use synddb_sqlite::file::wal::{FRAME_HEADER_BYTES, FrameHeader, HEADER_BYTES, WalHeader};
use synddb_sqlite::file::wal_index::{COPY_BYTES, HEAD_BYTES, WalIndex};

use super::images::{seal_index, seal_wal};
use super::{files, replica, restored};

/// Reads input as one kind of thing; says whether it was accepted.
pub(crate) type Decoder = fn(&[u8]) -> bool;

/// The decoders by the name of their fuzz target.
pub(crate) const DECODERS: [(&str, Decoder); 9] = [
    ("header", header),
    ("page", page),
    ("record", record),
    ("wal", wal),
    ("wal_index", wal_index),
    ("changeset", changeset),
    ("database", files::database),
    ("apply", replica::apply),
    ("restore", restored::restore),
];

/// The header of a database file.
fn header(bytes: &[u8]) -> bool {
    let Ok(header) = Header::read(bytes) else { return false };
    let page_size = header.page_size.get() as usize;
    assert!(page_size.is_power_of_two() && (512..=65_536).contains(&page_size));
    assert!(header.usable() >= 480 && header.usable() + usize::from(header.reserved) == page_size);
    true
}

/// A b-tree page: which page size, how many bytes are reserved, whether it is page 1, then the page. Memory: 4 bytes for each child, of which a
/// page of 64 KiB has 32768 at most.
fn page(bytes: &[u8]) -> bool {
    let [size, reserved, number, content @ ..] = bytes else { return false };
    let size = 512_usize << (size % 8);
    let mut content = content.to_vec();
    content.resize(size, 0);
    // Also more than SQLite allows: the reader of pages does not rely on the reader of headers.
    let usable = size - usize::from(*reserved) * if *number & 2 == 2 { 2 } else { 1 };
    let number = 1 + u32::from(number & 1);
    let Ok(page) = Page::read(number, &content, usable) else { return false };
    let mut accepted = page.children().is_ok_and(|children| {
        assert_eq!(children.len(), if page.kind().is_interior() { page.cells() + 1 } else { 0 });
        true
    });
    for at in 0..page.cells() {
        let Ok(cell) = page.cell(at) else {
            accepted = false;
            continue;
        };
        assert!(cell.local.len() <= cell.bytes.len() && cell.bytes.len() <= usable);
        assert!(cell.local.len() as u64 <= cell.payload);
        assert_eq!(cell.overflow.is_some(), cell.payload > cell.local.len() as u64);
    }
    assert!(page.cell(page.cells()).is_err());
    match page.check_cells() {
        Ok(Some((first, last))) => assert!(first <= last && page.kind().is_table()),
        Ok(None) => assert!(page.cells() == 0 || page.kind() != PageKind::TableLeaf),
        Err(_) => accepted = false,
    }
    accepted
}

/// A record. Memory: 24 bytes for each field, of which a record has as many as bytes in its header, 98307 at most.
fn record(bytes: &[u8]) -> bool {
    let Some(fields) = record::fields(bytes) else { return false };
    let again = encoded(&fields);
    assert_eq!(record::fields(&again).expect("what is written reads"), fields);
    true
}

/// A record of these fields, every number in its widest form.
pub(crate) fn encoded(fields: &[Value<'_>]) -> Vec<u8> {
    let (mut types, mut body) = (Vec::new(), Vec::new());
    for field in fields {
        match *field {
            Value::Null => varint(&mut types, 0),
            Value::Integer(value) => {
                varint(&mut types, 6);
                body.extend_from_slice(&value.to_be_bytes());
            }
            Value::Real(value) => {
                varint(&mut types, 7);
                body.extend_from_slice(&value.to_be_bytes());
            }
            Value::Blob(bytes) => {
                varint(&mut types, 12 + 2 * bytes.len() as u64);
                body.extend_from_slice(bytes);
            }
            Value::Text(bytes) => {
                varint(&mut types, 13 + 2 * bytes.len() as u64);
                body.extend_from_slice(bytes);
            }
        }
    }
    // The length counts itself.
    let mut length = types.len() + 1;
    while length - types.len() < varint_bytes(length) {
        length += 1;
    }
    let mut record = Vec::new();
    varint(&mut record, length as u64);
    record.extend(types);
    record.extend(body);
    record
}

fn varint_bytes(value: usize) -> usize {
    let mut bytes = Vec::new();
    varint(&mut bytes, value as u64);
    bytes.len()
}

/// SQLite's variable-length integer, of up to 63 bits.
fn varint(out: &mut Vec<u8>, value: u64) {
    let groups = (64 - value.leading_zeros()).div_ceil(7).max(1);
    for group in (0..groups).rev() {
        let low = u8::try_from(value >> (7 * group) & 0x7f).expect("seven bits");
        out.push(if group > 0 { low | 0x80 } else { low });
    }
}

/// A whole WAL: whether to put its checksums right first, then the file. Every frame is read that follows the one before it.
fn wal(bytes: &[u8]) -> bool {
    let [sealed, file @ ..] = bytes else { return false };
    let mut file = file.to_vec();
    let sealed = sealed & 1 == 1;
    if sealed {
        seal_wal(&mut file);
    }
    let Some(head) = file.first_chunk::<HEADER_BYTES>() else { return false };
    let Ok(header) = WalHeader::read(head) else { return false };
    let length = FRAME_HEADER_BYTES.saturating_add(header.page_size as usize);
    let mut checksum = header.checksum;
    for frame in file[HEADER_BYTES..].chunks_exact(length) {
        let head = frame.first_chunk::<FRAME_HEADER_BYTES>().expect("a frame is longer than its header");
        let read = FrameHeader::read(head);
        let right = read.salts == header.salts
            && FrameHeader::sum(frame, header.big_endian, checksum) == read.checksum;
        if !right {
            assert!(!sealed || !header.page_size.is_multiple_of(8), "what is sealed is whole");
            return false;
        }
        checksum = read.checksum;
    }
    true
}

/// The header of a wal-index: whether to put its checksums right first, then both copies.
fn wal_index(bytes: &[u8]) -> bool {
    let [sealed, file @ ..] = bytes else { return false };
    let mut head = [0; HEAD_BYTES];
    let length = file.len().min(HEAD_BYTES);
    head[..length].copy_from_slice(&file[..length]);
    if sealed & 1 == 1 {
        seal_index(&mut head);
    }
    let Some(index) = WalIndex::read(&head) else { return false };
    assert_eq!(head[..COPY_BYTES], head[COPY_BYTES..], "a torn header is no header");
    assert_eq!(WalIndex::read_copy(&head[..COPY_BYTES]), Some(index));
    assert_eq!(WalIndex::read_copy(&head[..COPY_BYTES - 1]), None);
    true
}

/// A changeset. Memory: one row, at most 32768 columns on both sides, and what of the input they hold.
fn changeset(bytes: &[u8]) -> bool {
    let whole = copied(bytes);
    let bits = copied(BufReader::with_capacity(3, bytes));
    match (whole, bits) {
        (Ok(whole), Ok(bits)) => {
            assert!(whole == bytes, "what was read is written the same");
            assert!(bits == bytes, "it does not matter how the bytes come");
            true
        }
        (Err(_), Err(_)) => false,
        (whole, bits) => panic!("it matters how the bytes come: {} {}", whole.is_ok(), bits.is_ok()),
    }
}

/// Reads a changeset to its end, and writes it again.
pub(crate) fn copied(source: impl BufRead) -> Result<Vec<u8>, ChangesetError> {
    let mut reader = Reader::new(source);
    let mut copy = Vec::new();
    let mut table = Table { name: String::new(), key: Vec::new() };
    while let Some(step) = reader.step()? {
        match step {
            Step::Table(next) => {
                table = next.clone();
                changeset::write_table(&mut copy, &table);
            }
            Step::Row(RowChange::Insert { new }) => changeset::write_insert(&mut copy, &new),
            Step::Row(RowChange::Delete { old }) => changeset::write_delete(&mut copy, &old),
            Step::Row(RowChange::Update { old, new }) => {
                // What is absent is the same on both sides.
                let old: Vec<Value<'_>> = old.iter().map(|value| value.unwrap_or(Value::Null)).collect();
                let both = old.iter().zip(&new).zip(&table.key);
                let new: Vec<Value<'_>> = both
                    .map(|((old, new), key)| new.unwrap_or(if *key { *old } else { Value::Null }))
                    .collect();
                changeset::write_update(&mut copy, &table.key, &old, &new);
            }
        }
    }
    Ok(copy)
}
