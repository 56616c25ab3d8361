//! Damaged files are refused with an error, whatever is in them.

use super::*;

#[test]
fn a_damaged_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    make(&source, &format!("PRAGMA page_size = 1024; BEGIN; {CONTENT} COMMIT"));
    let good = fs::read(&source).unwrap();
    fs::write(&source, &good[..good.len() / 2]).unwrap();
    assert!(Connection::open(&source).is_err());
    fs::write(&source, "no database".repeat(1000)).unwrap();
    assert!(Connection::open(&source).is_err());
    // A tree in a circle, and a tree that takes another's page.
    let connection = open(&source.with_extension("x"));
    drop(connection);
    for number in [1, 2] {
        let mut bytes = good.clone();
        let interior = bytes.chunks_exact(1024).position(|page| page[0] == 5).unwrap();
        let to = if number == 1 { u32::try_from(interior + 1).unwrap() } else { 2 };
        bytes[interior * 1024 + 8..interior * 1024 + 12].copy_from_slice(&to.to_be_bytes());
        fs::write(&source, bytes).unwrap();
        let error = take_in(&begin(&source)).unwrap_err();
        assert!(matches!(error, SnapshotError::Damaged { .. }), "{error}");
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

#[test]
fn no_damage_makes_it_panic_or_hang() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    make(
        &source,
        &format!("PRAGMA page_size = 512; PRAGMA auto_vacuum = INCREMENTAL; BEGIN; {CONTENT}
            DELETE FROM t WHERE id > 60; DELETE FROM r WHERE a > 60; DELETE FROM w WHERE n > 60;
            DROP TABLE f; DROP TABLE g; UPDATE r SET b = zeroblob(3000) WHERE a = 7; COMMIT; PRAGMA incremental_vacuum"),
    );
    let good = fs::read(&source).unwrap();
    let (mut taken, mut restored) = (0, 0);
    let mut random = Random(0x5eed);
    for round in 0..400 {
        let mut bytes = good.clone();
        for _ in 0..=random.below(4) {
            // Mostly where a page says what is in it.
            let page = random.below(bytes.len() / 512) * 512;
            let at = page + if round % 2 == 0 { random.below(24) } else { random.below(512) };
            bytes[at] = random.below(256).to_le_bytes()[0];
        }
        fs::write(&source, &bytes).unwrap();
        let Ok(connection) = Connection::open(&source) else { continue };
        connection.execute("BEGIN").unwrap();
        if let Ok((snapshot, chunks)) = take_in(&connection) {
            taken += 1;
            let target = folder.path().join("restored.db");
            if put_back(&target, &snapshot, &chunks).is_ok() {
                restored += 1;
                fs::remove_file(target).unwrap();
            }
        }
    }
    assert!(taken > 50 && taken < 400 && restored > 20, "{taken} {restored}");
}

#[test]
fn a_restore_survives_any_pages() {
    let (folder, snapshot, chunks) = sample();
    let good = opened(&snapshot, &chunks);
    let mut random = Random(0xf00d);
    let mut restored = 0;
    for _ in 0..150 {
        let mut pages = good.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(pages.len() / 1024) * 1024 + random.below(24);
            pages[at] = random.below(256).to_le_bytes()[0];
        }
        let bytes = zstd::bulk::compress(&pages, 3).unwrap();
        let mut damaged = snapshot.clone();
        damaged.chunks[0].hash = ChunkHash::of(&bytes);
        damaged.chunks[0].stored_bytes = bytes.len() as u64;
        let target = folder.path().join("restored.db");
        if put_back(&target, &damaged, &Chunks::from([(damaged.chunks[0].hash, bytes)])).is_ok() {
            restored += 1;
            fs::remove_file(target).unwrap();
        }
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }
    assert!(restored < 75, "{restored}");
}
