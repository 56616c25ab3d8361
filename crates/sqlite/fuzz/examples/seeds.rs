//! Writes the first inputs of every fuzz target: `cargo run --manifest-path crates/sqlite/fuzz/Cargo.toml --example seeds -- DIR`.
//!
//! For each decoder there is something it accepts, so that the fuzzer does not start blind, and something it refuses. The bytes are those of
//! databases that SQLite writes.

use std::path::Path;

use synddb_protocol::Canonical as _;
use synddb_protocol::state::Value;
use synddb_protocol::submission::{Changes, ObjectKind, SchemaChange, SchemaRow};
use synddb_sqlite::changeset::{Table, write_delete, write_insert, write_table, write_update};
use synddb_sqlite_fuzz::images::{Image, images};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).ok_or("usage: seeds DIR")?;
    for (target, inputs) in seeds() {
        let folder = Path::new(&dir).join(target);
        std::fs::create_dir_all(&folder)?;
        for (number, input) in inputs.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), input)?;
        }
        std::fs::write(folder.join("cut"), &inputs[0][..1.min(inputs[0].len() - 1)])?;
    }
    Ok(())
}

fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let small: Vec<&Image> = images().iter().filter(|image| image.page_size <= 4096).collect();
    let records = [
        vec![5, 0, 1, 15, 9, 0xfe, b'x'],
        vec![
            9, 1, 2, 3, 4, 5, 6, 7, 12, 1, 0, 2, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0,
            6, 64, 9, 33, 251, 84, 68, 45, 24,
        ],
    ];
    let indexes = small.iter().map(|image| [&[1][..], &index(image), &index(image)].concat());
    // No damage at all, and one patch of every kind in every place.
    let damage: Vec<Vec<u8>> = (0..24_u8).map(|kind| vec![kind, kind, 0, 3, 0, 40 + kind, 2, 0]).collect();
    // Long ones too: libFuzzer begins with inputs as long as the longest.
    let many = (0..12_u8).map(|image| [vec![image], scattered(image, 16 + 4 * usize::from(image))].concat());
    // Commits that claim a size that no file has, for a follower and for a snapshot.
    let claims = [1_u8, 13].map(|first| {
        let patch = |frame| [1, 0, frame, 0, 4, 1, 0];
        [vec![first], (0..60).flat_map(patch).collect()].concat()
    });
    let whole = (18..24_u8).map(|image| vec![image]);
    let restored = (0..6_u8).map(|image| vec![image, 0]);
    let more = (0..6_u8).map(|image| [vec![image, 0], scattered(image, 32)].concat());
    let damaged = (0..24_u8).map(|kind| vec![kind, 0, kind << 2, 0, 3, 0, 40 + kind, 2, 0]);
    // The same as pages laid over honest ones, every second time where the input says.
    let laid = (0..24_u8).map(|kind| vec![kind, 2 | (kind & 1) << 2, kind << 2, 0, 3, 0, 40 + kind, 2, 0]);
    vec![
        ("header", small.iter().map(|image| image.database[..100].to_vec()).collect()),
        ("page", small.iter().flat_map(|image| pages(image)).collect()),
        ("record", records.to_vec()),
        ("wal", small.iter().take(2).map(|image| [&[1][..], &image.attached].concat()).collect()),
        ("wal_index", indexes.chain([vec![0; 97]]).collect()),
        ("changeset", vec![rows("t", 3), rows("w", 2)]),
        ("database", whole.chain(damage).chain(many).chain(claims).collect()),
        ("apply", commits()),
        ("restore", restored.chain(damaged).chain(more).chain(laid).collect()),
    ]
}

/// So many patches of small values, spread over the files.
fn scattered(seed: u8, patches: usize) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..patches).flat_map(|_| [next(), 0, next() % 64, next() % 4, next(), next() % 64, 0]).collect()
}

/// One page of every type.
fn pages(image: &Image) -> Vec<Vec<u8>> {
    let size = u8::try_from((image.page_size / 512).trailing_zeros()).unwrap_or(0);
    let mut seen = Vec::new();
    let mut pages = Vec::new();
    for (at, page) in image.database.chunks_exact(image.page_size).enumerate() {
        let kind = page[if at == 0 { 100 } else { 0 }];
        let first = u8::from(at == 0);
        if matches!(kind, 2 | 5 | 10 | 13) && !seen.contains(&(kind, first)) && image.page_size <= 1024 {
            seen.push((kind, first));
            pages.push([&[size, 0, 1 - first][..], page].concat());
        }
    }
    pages
}

/// A wal-index of the image's WAL.
fn index(image: &Image) -> [u8; 48] {
    let mut head = [0; 48];
    head[..4].copy_from_slice(&3_007_000_u32.to_ne_bytes());
    head[12] = 1;
    head[16..20].copy_from_slice(&7_u32.to_ne_bytes());
    head[20..24].copy_from_slice(&9_u32.to_ne_bytes());
    head[32..40].copy_from_slice(&image.attached[16..24]);
    head
}

/// Rows of one of the replica's tables: new ones, one that changes, one that goes.
fn rows(table: &str, columns: usize) -> Vec<u8> {
    let mut key = vec![false; 3];
    let start = if table == "t" {
        vec![Value::Integer(1), Value::Text(b"one")]
    } else {
        vec![Value::Text(b"a"), Value::Integer(1)]
    };
    key[..if table == "t" { 1 } else { 2 }].fill(true);
    let last = if table == "t" { Value::Null } else { Value::Text(b"x") };
    let old = [start[0], start[1], last];
    let new = [start[0], start[1], Value::Real(0.5)];
    let fresh = [
        if table == "t" { Value::Integer(77) } else { Value::Text(b"zz") },
        Value::Text(b"9"),
        Value::Blob(&[7; 40]),
    ];
    let mut out = Vec::new();
    write_table(&mut out, &Table { name: table.to_owned(), key: key.clone() });
    write_insert(&mut out, &fresh);
    write_update(&mut out, &key, &old, &new);
    if columns == 3 {
        write_delete(&mut out, &new);
    }
    out
}

/// Commits that fit the replica, with rows, with a schema, with both.
fn commits() -> Vec<Vec<u8>> {
    let row = |kind, name: &str, table: &str, sql: &str| SchemaRow {
        kind,
        name: name.into(),
        table: table.into(),
        sql: Some(sql.into()),
    };
    let create = |row| SchemaChange::Create { row, place: 40 };
    let table = create(row(ObjectKind::Table, "n", "n", "CREATE TABLE n(a, b DEFAULT 3)"));
    let keyed = create(row(ObjectKind::Table, "k", "k", "CREATE TABLE k(a PRIMARY KEY, b) WITHOUT ROWID"));
    let index =
        create(row(ObjectKind::Index, "i", "t", "CREATE INDEX i ON t(length(b)) WHERE b IS NOT NULL"));
    let view = create(row(ObjectKind::View, "u", "u", "CREATE VIEW u AS SELECT 1"));
    let drop = SchemaChange::Drop { kind: ObjectKind::Index, name: b"ta".to_vec() };
    let amended =
        row(ObjectKind::Table, "t", "t", "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b, c DEFAULT 'd')");
    let amend = SchemaChange::Amend { name: b"t".to_vec(), row: amended, place: 1 };
    let commit =
        |schema: Vec<SchemaChange>, rows: Vec<u8>| Changes { schema, rows, ..Changes::default() }.to_bytes();
    vec![
        commit(Vec::new(), rows("t", 3)),
        commit(Vec::new(), rows("w", 2)),
        commit(vec![table], Vec::new()),
        commit(vec![keyed], Vec::new()),
        commit(vec![index], rows("t", 2)),
        commit(vec![drop], Vec::new()),
        commit(vec![view], Vec::new()),
        commit(vec![amend], Vec::new()),
        Changes { user_version: Some(9), application_id: Some(-1), ..Changes::default() }.to_bytes(),
    ]
}
