//! Snapshots one after the other: each is the database as it was, from chunks of which few are new.

use std::collections::BTreeSet;

use synddb_sqlite::snapshot::{Made, SuccessiveWriter};

use super::*;
use crate::apply_random::Random;

/// Steps of one chain, each a snapshot.
const STEPS: usize = 24;
/// Seeds of an ordinary run. `SYNDDB_RANDOM_SEEDS` asks for more.
const SEEDS: u64 = 4;

/// A database, the store of all its chunks, and what its last snapshot is made of.
pub(super) struct Chain {
    pub(super) folder: TempDir,
    pub(super) source: PathBuf,
    pub(super) store: Chunks,
    pub(super) last: Option<Made>,
}

/// A snapshot of a chain.
pub(super) struct Taken {
    /// The chunks that were not there before.
    pub(super) new: Vec<StoredChunk>,
    pub(super) state: StateHash,
}

impl Taken {
    pub(super) fn bytes(&self) -> u64 {
        self.new.iter().map(|stored| stored.chunk.stored_bytes).sum()
    }

    pub(super) fn pages(&self) -> u64 {
        self.new.iter().map(|stored| stored.chunk.pages).sum()
    }
}

impl Chain {
    pub(super) fn new(sql: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source.db");
        make(&source, sql);
        Self { folder, source, store: Chunks::new(), last: None }
    }

    /// What the last snapshot is made of.
    pub(super) fn made(&self) -> &Made {
        self.last.as_ref().unwrap()
    }

    /// Takes the next snapshot. What it is made of goes through its file.
    pub(super) fn take(&mut self) -> Taken {
        let connection = begin(&self.source);
        let mut writer = SuccessiveWriter::new(&connection, self.last.take()).unwrap();
        let new: Vec<_> = writer.by_ref().map(Result::unwrap).collect();
        let made = writer.finish().unwrap();
        let state = RunningState::scan(&connection).unwrap().hash();
        for StoredChunk { chunk, bytes } in &new {
            assert!(bytes.len() <= CHUNK_STORED_MAX && bytes.len() as u64 == chunk.stored_bytes);
            self.store.insert(chunk.hash, bytes.clone());
        }
        let mut written = Vec::new();
        made.write(&mut written).unwrap();
        assert_eq!(Made::read(written.as_slice()).unwrap(), made);
        self.last = Some(made);
        Taken { new, state }
    }

    /// Restores the last snapshot from the store.
    pub(super) fn restore(&self, taken: &Taken) -> PathBuf {
        let target = self.folder.path().join("restored.db");
        let fetch = |chunk: &Chunk| self.store.get(&chunk.hash).cloned().ok_or("no such chunk");
        let state = restore(&target, &self.made().image(taken.state), fetch).unwrap();
        assert_eq!(state.hash(), taken.state);
        target
    }

    /// Restores the last snapshot, and compares it with the database.
    pub(super) fn assert_returns(&self, taken: &Taken) {
        let target = self.restore(taken);
        assert_eq!(first_difference(&self.source, &target).unwrap(), None);
        fs::remove_file(target).unwrap();
    }

    /// Writes, takes a snapshot and restores it.
    pub(super) fn step(&mut self, sql: &str) -> Taken {
        make(&self.source, sql);
        let taken = self.take();
        self.assert_returns(&taken);
        taken
    }

    /// Whatever names itself a secret in the new chunks is one that the database still has. Returns how many such there are.
    fn assert_nothing_deleted(&self, taken: &Taken) -> usize {
        let page_size = self.made().page_size;
        let live = secrets(&open(&self.source));
        let mut seen = 0;
        for StoredChunk { chunk, bytes } in &taken.new {
            for secret in secrets_in(&chunk.open(bytes, page_size).unwrap(), page_size) {
                assert!(live.contains(&secret), "a deleted row is in a new chunk");
                seen += 1;
            }
        }
        seen
    }

    /// How many deleted secrets the file still has, where nobody looks.
    fn deleted(&self) -> usize {
        let live = secrets(&open(&self.source));
        let file = fs::read(&self.source).unwrap();
        secrets_in(&file, self.made().page_size).iter().filter(|secret| !live.contains(*secret)).count()
    }
}

/// The secrets in pages. What is cut by the end of a cell is followed by something else.
fn secrets_in(pages: &[u8], page_size: PageSize) -> Vec<Vec<u8>> {
    let windows = |page| <[u8]>::windows(page, SECRET + 16);
    let found = pages.chunks_exact(page_size.get() as usize).flat_map(windows);
    let found = found.filter(|found| found.starts_with(b"SECRET"));
    let numbers = found.map(|found| &found[SECRET..]);
    numbers.filter(|number| number.iter().all(u8::is_ascii_hexdigit)).map(<[u8]>::to_vec).collect()
}

const SECRET: usize = b"SECRET".len();

fn secrets(connection: &rusqlite::Connection) -> BTreeSet<Vec<u8>> {
    let mut all = BTreeSet::new();
    for table in ["t", "w", "u"] {
        let Ok(mut rows) = connection.prepare(&format!("SELECT s FROM {table}")) else { continue };
        let rows = rows.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        all.extend(rows.map(|row| row.unwrap()[SECRET..].to_vec()));
    }
    all
}

/// A new secret for each row.
const NEW: &str = "CAST('SECRET' || hex(randomblob(8)) AS BLOB)";

fn setup(seed: u64) -> String {
    let page_size = [4096, 512, 1024, 65536][usize::try_from(seed % 4).unwrap()];
    let auto_vacuum = ["NONE", "INCREMENTAL", "FULL"][usize::try_from(seed % 3).unwrap()];
    let encoding = ["UTF-8", "UTF-16le"][usize::try_from(seed / 2 % 2).unwrap()];
    format!(
        "PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {auto_vacuum}; PRAGMA encoding = '{encoding}';
         PRAGMA secure_delete = OFF; BEGIN;
         CREATE TABLE t(id INTEGER PRIMARY KEY, s, b); CREATE INDEX ts ON t(s);
         CREATE TABLE w(k PRIMARY KEY, s, b) WITHOUT ROWID;
         CREATE TABLE u(s, b);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)
         INSERT INTO t SELECT i, {NEW}, randomblob(3000) FROM n;
         INSERT INTO w SELECT id, {NEW}, randomblob(700) FROM t WHERE id % 2;
         INSERT INTO u SELECT {NEW}, randomblob(200000) FROM t WHERE id < 8; COMMIT"
    )
}

/// Something that an application does.
fn act(random: &mut Random, step: usize) -> String {
    let (some, row) = (random.next(40) + 1, random.next(1600));
    match random.next(14) {
        0..3 => format!("UPDATE t SET s = {NEW}, b = randomblob(3000) WHERE id % 997 < {some} / 8"),
        3 => format!("UPDATE t SET s = {NEW} WHERE id BETWEEN {row} AND {row} + {some} * 20"),
        4 => format!("DELETE FROM t WHERE id BETWEEN {row} AND {row} + {some} * 5"),
        5 => format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {some} * 8)
             INSERT OR REPLACE INTO t SELECT {row} + i, {NEW}, randomblob(i * 20) FROM n"
        ),
        6 => format!("INSERT INTO u VALUES({NEW}, randomblob({some} * 30000))"),
        7 => "DELETE FROM u WHERE rowid = (SELECT min(rowid) FROM u)".to_owned(),
        8 => format!("UPDATE w SET s = {NEW}, b = randomblob({some} * 100) WHERE k % 101 = {some}"),
        9 => format!("DELETE FROM w WHERE k BETWEEN {row} AND {row} + 60"),
        10 => format!(
            "INSERT OR REPLACE INTO w SELECT id, {NEW}, randomblob(900) FROM t WHERE id % 37 = {some}"
        ),
        11 => format!("CREATE TABLE IF NOT EXISTS n{some}(s); PRAGMA user_version = {step}"),
        12 => "DROP INDEX IF EXISTS wb; CREATE INDEX wb ON w(s)".to_owned(),
        _ => match random.next(5) {
            0 => "VACUUM".to_owned(),
            1 => "DELETE FROM t WHERE id % 2; VACUUM".to_owned(),
            2 => "DELETE FROM u; PRAGMA incremental_vacuum".to_owned(),
            3 => "PRAGMA incremental_vacuum(50)".to_owned(),
            _ => format!("PRAGMA page_size = {}; VACUUM", 1024 << random.next(3)),
        },
    }
}

#[test]
fn every_snapshot_of_a_chain_is_the_database() {
    let seeds = std::env::var("SYNDDB_RANDOM_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let (mut patched, mut small, mut nowhere, mut secrets, mut deleted) = (0, 0, 0, 0, 0);
    for seed in 0..seeds {
        let mut random = Random(seed);
        let mut chain = Chain::new(&setup(seed));
        let whole = chain.take();
        chain.assert_returns(&whole);
        for step in 0..STEPS {
            let acts = (0..=random.next(3)).map(|_| act(&mut random, step));
            let sql = acts.collect::<Vec<_>>().join("; ");
            let taken = chain.step(&format!("PRAGMA secure_delete = OFF; {sql}"));
            secrets += chain.assert_nothing_deleted(&taken);
            patched += usize::from(!chain.made().patches.is_empty());
            small += usize::from(taken.bytes() * 4 < whole.bytes());
            let mut places = chain.made().patches.iter().flat_map(|patch| &patch.places);
            nowhere += usize::from(places.any(|place| place.first.is_none()));
        }
        deleted += chain.deleted();
    }
    // Otherwise the chains would show nothing.
    assert!(patched > 0 && small > 0 && nowhere > 0, "{patched} {small} {nowhere}");
    assert!(secrets > 0 && deleted > 0, "{secrets} {deleted}");
}
