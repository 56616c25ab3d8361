//! The text of keys: one for each key, and nothing else reads as one.

use proptest::prelude::*;
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::id::{Address, Epoch, Sequence, StreamId};
use synddb_storage::{Folder, Key, Kind};

fn any_key() -> impl Strategy<Value = Key> {
    let number = prop_oneof![1..=20u64, 1..=Sequence::MAX, Just(Sequence::MAX)];
    (0..5usize, any::<[u8; 32]>(), number, any::<[u8; 32]>()).prop_map(|(kind, stream, number, name)| {
        let stream = StreamId::from_bytes(stream);
        let sequence = Sequence::new(number).unwrap();
        let signer = Address::from_bytes(name[..20].try_into().unwrap());
        match Kind::ALL[kind] {
            Kind::Epoch => Key::Epoch { stream, epoch: Epoch::new(number).unwrap() },
            Kind::Batch => Key::Batch { stream, first: sequence },
            Kind::Snapshot => Key::Snapshot { stream, sequence, signer },
            Kind::Chunk => Key::Chunk { stream, hash: ChunkHash::from_bytes(name) },
            Kind::Endorsement => Key::Endorsement { stream, sequence, validator: signer },
        }
    })
}

/// A key's text with a few characters replaced, removed or inserted.
fn almost_a_key() -> impl Strategy<Value = String> {
    let edits =
        proptest::collection::vec((any::<prop::sample::Index>(), 0..3u8, "[0-9a-gA-F/.+#\u{e9} x]"), 1..4);
    (any_key(), edits).prop_map(|(key, edits)| {
        let mut text: Vec<char> = key.to_string().chars().collect();
        for (index, edit, character) in edits {
            let at = index.index(text.len());
            let character = character.chars().next().unwrap();
            match edit {
                0 => text[at] = character,
                1 => text.insert(at, character),
                _ => drop(text.remove(at)),
            }
        }
        text.into_iter().collect()
    })
}

proptest! {
    #[test]
    fn text_reads_back(key in any_key()) {
        prop_assert_eq!(key.to_string().parse::<Key>().unwrap(), key);
        prop_assert!(key >= key.folder().first_key());
        let folder = format!("{}/", key.folder());
        prop_assert!(key.to_string().starts_with(&folder));
    }

    #[test]
    fn what_reads_is_canonical(text in almost_a_key()) {
        if let Ok(key) = text.parse::<Key>() {
            prop_assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in ".{0,200}") {
        if let Ok(key) = text.parse::<Key>() {
            prop_assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn order_is_the_order_of_texts(a in any_key(), b in any_key()) {
        if a.folder() == b.folder() {
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }

    #[test]
    fn order_of_numbers_is_the_order_of_texts(a in 1..=Sequence::MAX, b in 1..=Sequence::MAX) {
        let text = |first| super::batch(first).to_string();
        prop_assert_eq!(a.cmp(&b), text(a).cmp(&text(b)));
    }
}

#[test]
fn the_layout_is_the_specified_one() {
    let stream = StreamId::from_bytes([0xab; 32]);
    let signer = Address::from_bytes([0xcd; 20]);
    let sequence = Sequence::new(17).unwrap();
    let keys = [
        (Key::Epoch { stream, epoch: Epoch::new(3).unwrap() }, "/epochs/000000000003.cbor".to_owned()),
        (Key::Batch { stream, first: sequence }, "/batches/000000000017.cbor.zst".to_owned()),
        (
            Key::Snapshot { stream, sequence, signer },
            format!("/snapshots/000000000017/{}.cbor", "cd".repeat(20)),
        ),
        (
            Key::Chunk { stream, hash: ChunkHash::from_bytes([0x01; 32]) },
            format!("/chunks/{}", "01".repeat(32)),
        ),
        (
            Key::Endorsement { stream, sequence, validator: signer },
            format!("/endorsements/000000000017/{}.cbor", "cd".repeat(20)),
        ),
    ];
    for (key, rest) in keys {
        assert_eq!(key.to_string(), format!("{}{rest}", "ab".repeat(32)));
    }
}

/// Writes a number as the specification does: `33,685,632`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

#[test]
fn the_specification_tells_the_bounds_of_the_code() {
    let specification = include_str!("../../../../spec/storage.md");
    let names = ["epoch record", "batch", "snapshot manifest", "chunk", "endorsement"];
    for (kind, name) in Kind::ALL.into_iter().zip(names) {
        let row = format!("| {name} | {} |", grouped(kind.size_max()));
        assert!(specification.contains(&row), "the specification lacks {row}");
    }
    let lease = format!("A lease has at most {} bytes", grouped(synddb_storage::LEASE_BYTES_MAX));
    assert!(specification.contains(&lease), "the specification lacks {lease}");
}

#[test]
fn nothing_else_is_a_key() {
    let s = "ab".repeat(32);
    let a = "cd".repeat(20);
    let wrong = [
        String::new(),
        "/".to_owned(),
        s.clone(),
        format!("{s}/"),
        format!("{s}/batches"),
        format!("{s}/batches/"),
        format!("{s}/batches/000000000000.cbor.zst"),
        format!("{s}/batches/00000000001.cbor.zst"),
        format!("{s}/batches/0000000000001.cbor.zst"),
        format!("{s}/batches/+00000000001.cbor.zst"),
        format!("{s}/batches/ 00000000001.cbor.zst"),
        format!("{s}/batches/000000000001.cbor"),
        format!("{s}/batches/000000000001.cbor.zst#1"),
        format!("{s}/batches/000000000001.cbor.zst/"),
        format!("{s}/batches/000000000001.CBOR.zst"),
        format!("{s}/batches//000000000001.cbor.zst"),
        format!("/{s}/batches/000000000001.cbor.zst"),
        format!("0x{s}/batches/000000000001.cbor.zst"),
        format!("{}/batches/000000000001.cbor.zst", s.to_uppercase()),
        format!("{}/batches/000000000001.cbor.zst", &s[2..]),
        format!("{s}/batch/000000000001.cbor.zst"),
        format!("{s}/epochs/000000000000.cbor"),
        format!("{s}/epochs/000000000001.cbor.zst"),
        format!("{s}/snapshots/000000000001.cbor"),
        format!("{s}/snapshots/000000000001/{a}"),
        format!("{s}/snapshots/000000000001/0x{a}.cbor"),
        format!("{s}/snapshots/000000000000/{a}.cbor"),
        format!("{s}/snapshots/000000000001/{a}.cbor/x"),
        format!("{s}/endorsements/000000000001/{}.cbor", a.to_uppercase()),
        format!("{s}/chunks/{}", &s[1..]),
        format!("{s}/chunks/{s}.zst"),
        format!("{s}/lease"),
        format!("{s}/batches/\u{0661}00000000001.cbor.zst"),
    ];
    for text in wrong {
        assert!(text.parse::<Key>().is_err(), "{text}");
    }
}

#[test]
fn an_error_repeats_no_more_than_needed() {
    let error = "x".repeat(1_000_000).parse::<Key>().unwrap_err();
    assert!(error.to_string().len() < 300);
}

#[test]
fn every_kind_has_a_bound_and_a_folder() {
    for kind in Kind::ALL {
        let folder = Folder { stream: super::STREAM, kind };
        assert!(kind.size_max() >= 1024);
        assert_eq!(folder.first_key().folder(), folder);
        assert_eq!(folder.first_key().size_max(), kind.size_max());
    }
}
