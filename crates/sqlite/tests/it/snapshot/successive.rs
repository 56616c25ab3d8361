//! What a snapshot stores that follows another one, and what it is made of then.

use synddb_protocol::limits::PAGE_PLACES_MAX;
use synddb_protocol::log::{PagePlaces, Patch};
use synddb_sqlite::snapshot::{Made, MadeError, SuccessiveWriter};

use super::chain::Chain;
use super::*;

/// Rows of a page each: the row `id` is on a page of its own, in runs of 512 pages.
const PAGES: &str = "PRAGMA page_size = 4096; BEGIN; CREATE TABLE t(id INTEGER PRIMARY KEY, b);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
    INSERT INTO t SELECT i, randomblob(3000) FROM n; COMMIT";

fn touch(condition: &str) -> String {
    format!("UPDATE t SET b = randomblob(3000) WHERE {condition}")
}

#[test]
fn what_did_not_change_is_not_stored_again() {
    let mut chain = Chain::new(&format!("{PAGES}; PRAGMA journal_mode = WAL"));
    let first = chain.take();
    let (whole, _) = take(&chain.source);
    assert_eq!(chain.made().runs, whole.chunks, "the first one is a snapshot by itself");
    assert_eq!(chain.made().image(whole.state).chunks().count(), first.new.len());
    let made = chain.made().clone();
    for sql in
        ["", "PRAGMA wal_checkpoint(TRUNCATE)", "BEGIN; DELETE FROM t; ROLLBACK", "PRAGMA user_version = 0"]
    {
        assert!(chain.step(sql).new.is_empty(), "{sql}");
        assert_eq!(*chain.made(), made, "{sql}");
    }
}

#[test]
fn a_few_pages_are_a_patch_and_many_a_run() {
    let mut chain = Chain::new(PAGES);
    chain.take();
    let runs = chain.made().runs.clone();
    // Three pages in two runs.
    let taken = chain.step(&touch("id IN (5, 6, 900)"));
    assert_eq!((taken.new.len(), taken.pages()), (1, 3));
    assert_eq!(chain.made().runs, runs);
    let [patch] = &chain.made().patches[..] else { panic!("one patch") };
    let lengths: Vec<_> = patch.places.iter().map(|place| (place.first.is_some(), place.pages)).collect();
    assert_eq!(lengths, [(true, 2), (true, 1)]);
    // One of them again: its newer page lies over the older one.
    let taken = chain.step(&touch("id = 6"));
    assert_eq!((taken.pages(), chain.made().patches.len()), (1, 2));
    // All of the older patch again, which is of no use any more.
    chain.step(&touch("id IN (5, 900)"));
    assert_eq!(chain.made().patches.iter().map(|patch| patch.chunk.pages).collect::<Vec<_>>(), [1, 2]);
    // A quarter of a run is a patch, together with what lies there already. More is a run.
    let taken = chain.step(&touch("id BETWEEN 10 AND 135"));
    assert_eq!((taken.pages(), chain.made().runs == runs), (126, true), "126 and 5 and 6 are a quarter");
    let taken = chain.step(&touch("id = 400"));
    assert_eq!((taken.new.len(), taken.pages()), (1, 512));
    assert_eq!(chain.made().runs[1..], runs[1..]);
    assert_ne!(chain.made().runs[0], runs[0]);
    // Of the patches nothing is left but what lies over the other run.
    let left: Vec<_> = chain.made().patches.iter().map(|patch| &patch.places[..]).collect();
    assert!(matches!(
        left[..],
        [[PagePlaces { first: None, pages: 1 }, PagePlaces { first: Some(_), pages: 1 }]]
    ));
}

#[test]
fn what_grows_and_shrinks_keeps_the_runs_before() {
    let mut chain = Chain::new(PAGES);
    let whole = chain.take();
    let insert = "INSERT INTO t SELECT id + (SELECT max(id) FROM t), randomblob(3000) FROM t WHERE id <= 600";
    let taken = chain.step(insert);
    // The last run, those that are new, and a patch of what leads to them.
    assert!(taken.pages() < 600 + 512 && taken.new.len() == 4, "{} {}", taken.pages(), taken.new.len());
    let taken = chain.step("DELETE FROM t WHERE id > 2000; VACUUM");
    assert!(taken.pages() < 512 + 20, "{}", taken.pages());
    assert_eq!(chain.made().runs.len(), 4);
    let taken = chain.step("DELETE FROM t WHERE id > 100; VACUUM");
    assert!(taken.bytes() * 10 < whole.bytes());
    assert_eq!((chain.made().runs.len(), chain.made().patches.len()), (1, 0));
    chain.step("DELETE FROM t; VACUUM");
    chain.step(&format!("DROP TABLE t; {PAGES}"));
}

#[test]
fn small_patches_are_melted_into_one() {
    let mut chain = Chain::new(PAGES);
    chain.take();
    let mut most = 0;
    for step in 0..40 {
        let taken = chain.step(&touch(&format!("id = {}", 7 + step * 41)));
        most = most.max(chain.made().patches.len());
        // Sixteen small ones and the seventeenth; then one of all that they held.
        assert!(taken.pages() == 1 || taken.pages() == step + 1, "{step}: {}", taken.pages());
    }
    assert_eq!(most, 17);
}

#[test]
fn a_patch_of_which_little_counts_is_melted() {
    let mut chain = Chain::new(PAGES);
    chain.take();
    chain.step(&touch("id % 100 = 1"));
    let old = chain.made().patches[0].chunk;
    assert_eq!(old.pages, 20);
    // Eleven of its pages lie under newer ones; the next snapshot moves the other nine.
    chain.step(&touch("id % 100 = 1 AND id < 1100"));
    assert_eq!(chain.made().patches[0].chunk, old);
    let taken = chain.step("");
    assert_eq!(taken.pages(), 9);
    assert!(!chain.made().patches.iter().any(|patch| patch.chunk == old));
    assert!(chain.step("").new.is_empty());
}

#[test]
fn another_page_size_or_encoding_makes_everything_anew() {
    let mut chain = Chain::new(PAGES);
    chain.take();
    chain.step(&touch("id < 5"));
    let before = chain.made().clone();
    let taken = chain.step("PRAGMA page_size = 8192; VACUUM");
    assert_eq!(taken.new.len(), chain.made().runs.len());
    assert!(chain.made().patches.is_empty() && chain.made().page_size.get() == 8192);
    // What another database is made of only costs bytes.
    let mut other = Chain::new(&format!("PRAGMA encoding = 'UTF-16le'; {PAGES}"));
    other.last = Some(before.clone());
    let taken = other.take();
    other.assert_returns(&taken);
    assert_eq!(taken.new.len(), other.made().runs.len());
    let mut other = Chain::new("CREATE TABLE u(a); INSERT INTO u VALUES(1)");
    other.last = Some(before);
    let taken = other.take();
    other.assert_returns(&taken);
    assert_eq!((taken.new.len(), other.made().runs.len(), other.made().patches.len()), (1, 1, 0));
}

#[test]
fn nobody_is_told_before_the_last_chunk() {
    let mut chain = Chain::new(PAGES);
    chain.take();
    make(&chain.source, &touch("id % 50 = 1"));
    let connection = begin(&chain.source);
    let writer = SuccessiveWriter::new(&connection, chain.last.clone()).unwrap();
    assert!(writer.finish().is_none());
    let mut writer = SuccessiveWriter::new(&connection, None).unwrap();
    assert!(writer.next().unwrap().is_ok());
    assert!(writer.finish().is_none());
    // A patch that nobody took is not stored.
    let mut writer = SuccessiveWriter::new(&connection, chain.last.clone()).unwrap();
    assert!(writer.next().unwrap().is_ok() && writer.next().is_none());
    assert!(writer.finish().is_some());
    let mut writer = SuccessiveWriter::new(&connection, chain.last.clone()).unwrap();
    connection.execute("COMMIT").unwrap();
    assert!(matches!(SuccessiveWriter::new(&connection, None), Err(SnapshotError::NoTransaction)));
    assert!(matches!(writer.next(), Some(Err(SnapshotError::NoTransaction))));
    assert!(writer.next().is_none());
    assert!(writer.finish().is_none());
}

#[test]
fn what_it_is_made_of_is_read_as_it_was_written_or_refused() {
    let mut chain = Chain::new("CREATE TABLE t(a); INSERT INTO t VALUES(1)");
    chain.take();
    let mut made = chain.made().clone();
    let place = |first, pages| PagePlaces { first, pages };
    made.patches = vec![Patch {
        chunk: Chunk { pages: 3, ..made.runs[0] },
        places: vec![place(Some(2), 1), place(None, 2)],
    }];
    let write = |made: &Made| {
        let mut bytes = Vec::new();
        made.write(&mut bytes).unwrap();
        bytes
    };
    let bytes = write(&made);
    assert_eq!(Made::read(bytes.as_slice()).unwrap(), made);
    let damaged = |bytes: &[u8]| match Made::read(bytes) {
        Err(MadeError::Damaged { what }) => what,
        other => panic!("{other:?}"),
    };
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            damaged(&flipped);
        }
        damaged(&bytes[..at]);
    }
    assert_eq!(damaged(&[&bytes[..], &[0]].concat()), "something follows it");
    // Lists that whoever wrote them could not have had.
    let mut wrong = made.clone();
    wrong.patches[0].places[0] = place(Some(3), 1);
    assert_eq!(damaged(&write(&wrong)), "a patch lays pages where none are");
    let mut wrong = made.clone();
    wrong.runs = vec![Chunk { pages: 1, ..made.runs[0] }; 2];
    wrong.patches[0].places = vec![place(Some(1), 2), place(None, 1)];
    assert_eq!(damaged(&write(&wrong)), "a patch lays pages over two runs at once");
    let mut wrong = made;
    wrong.patches[0].places = vec![place(None, 1); PAGE_PLACES_MAX + 1];
    assert_eq!(damaged(&write(&wrong)), "a list is longer than a manifest's may be");
}

#[test]
fn patches_that_lie_are_not_restored() {
    let mut chain = Chain::new(PAGES);
    chain.take();
    chain.step(&touch("id IN (5, 6, 900)"));
    let taken = chain.step(&touch("id IN (6, 7)"));
    let target = chain.folder.path().join("wrong.db");
    let refused = |edit: &dyn Fn(&mut Vec<Patch>)| {
        let mut patches = chain.made().patches.clone();
        edit(&mut patches);
        let image = Image { patches: &patches, ..chain.made().image(taken.state) };
        let fetch = |chunk: &Chunk| chain.store.get(&chunk.hash).cloned().ok_or("no such chunk");
        let before = names(chain.folder.path());
        let error = restore(&target, &image, fetch).unwrap_err();
        assert_eq!(names(chain.folder.path()), before);
        error
    };
    type Edit = fn(&mut Vec<Patch>);
    let invalid: [Edit; 8] = [
        |patches| patches[0].places[0].first = Some(0),
        |patches| patches[0].places[0].first = Some(u32::MAX),
        |patches| patches[0].places[0].pages = 0,
        |patches| patches[0].places[0].pages = 1,
        |patches| patches[0].places.clear(),
        |patches| patches[0].places.push(PagePlaces { first: None, pages: 1 }),
        |patches| patches[0] = Patch { chunk: Chunk { pages: 0, ..patches[0].chunk }, places: Vec::new() },
        |patches| *patches = vec![patches[0].clone(); 4097],
    ];
    for edit in invalid {
        let error = refused(&edit);
        assert!(matches!(error, RestoreError::Invalid { .. }), "{error}");
    }
    // A chunk that holds another number of pages than its patch lays.
    let error = refused(&|patches| {
        patches[0].chunk.pages = 4;
        patches[0].places[0].pages = 3;
    });
    assert!(matches!(error, RestoreError::Chunk { .. }), "{error}");
    let error = refused(&|patches| patches[1].chunk.hash = ChunkHash::of(b"another"));
    assert!(matches!(error, RestoreError::Fetch { .. }), "{error}");
    // In another order, left out, or laid elsewhere: another state, or no database at all.
    let edits: [Edit; 4] = [
        |patches| patches.reverse(),
        |patches| drop(patches.pop()),
        |patches| patches[1].places[0].first = None,
        |patches| patches[1].places[0].first = Some(1),
    ];
    for edit in edits {
        let error = refused(&edit);
        assert!(matches!(error, RestoreError::State { .. } | RestoreError::Invalid { .. }), "{error}");
    }
    chain.assert_returns(&taken);
}
