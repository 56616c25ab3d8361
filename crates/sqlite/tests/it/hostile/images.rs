//! Small databases of many kinds, as bytes, and the checksums of WALs and wal-indexes put right.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use synddb_sqlite::file::wal::{FRAME_HEADER_BYTES, HEADER_BYTES};
use synddb_sqlite::file::wal_index::{COPY_BYTES, HEAD_BYTES};
use synddb_sqlite::rusqlite::Connection;
use tempfile::TempDir;

/// The files of a database in WAL mode.
pub struct Image {
    pub page_size: usize,
    /// The database file.
    pub database: Vec<u8>,
    /// The WAL up to some commit.
    pub attached: Vec<u8>,
    /// The frames of the commits after it.
    pub tail: Vec<u8>,
}

/// What is in the database file.
const CONTENT: &str = "
    CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b);
    CREATE TABLE w(k TEXT, n, v, PRIMARY KEY(k, n)) WITHOUT ROWID;
    CREATE TABLE r(a UNIQUE, b REAL DEFAULT 1.5);
    CREATE INDEX ta ON t(a);
    CREATE VIEW v AS SELECT a FROM t;
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 24)
        INSERT INTO t SELECT i, 'row ' || i, zeroblob(SIZE / 40 * i) FROM n;
    INSERT INTO w SELECT 'key' || (id % 5), id, zeroblob(SIZE / 60 * id) FROM t;
    INSERT INTO r SELECT a, id FROM t;
    UPDATE t SET b = zeroblob(SIZE * 3) WHERE id = 7;
    CREATE TABLE gone AS SELECT * FROM t;
    DROP TABLE gone;
    PRAGMA user_version = 7;";

/// What stands in the WAL when the follower attaches.
const ATTACHED: [&str; 3] = [
    "UPDATE t SET a = 'changed' WHERE id % 3 = 0",
    "INSERT INTO w VALUES('key', 100, zeroblob(SIZE * 2))",
    "DELETE FROM t WHERE id IN (5, 6, 8)",
];

/// What comes afterwards.
const TAIL: [&str; 8] = [
    "INSERT INTO t VALUES(100, 'new', zeroblob(SIZE * 2)), (101, 'small', 1)",
    "UPDATE t SET b = zeroblob(SIZE) WHERE id = 100",
    "UPDATE w SET v = zeroblob(SIZE * 3) WHERE n % 4 = 0",
    "ALTER TABLE r ADD COLUMN c DEFAULT 'x'",
    "CREATE TABLE s(x, y, PRIMARY KEY(y)) WITHOUT ROWID; INSERT INTO s SELECT id, id FROM t",
    "DELETE FROM t WHERE id < 20",
    "INSERT INTO r(a, b) SELECT 'more ' || n, 2 FROM w",
    "DROP TABLE w",
];

/// Page size, encoding, auto-vacuum.
const KINDS: [(usize, &str, u8); 6] = [
    (512, "UTF-8", 0),
    (512, "UTF-16le", 0),
    (1024, "UTF-8", 1),
    (4096, "UTF-8", 0),
    (16_384, "UTF-16be", 0),
    (65_536, "UTF-8", 0),
];

/// The images, made once for a process. Equal in every process that has the same SQLite.
pub fn images() -> &'static [Image] {
    static IMAGES: OnceLock<Vec<Image>> = OnceLock::new();
    IMAGES.get_or_init(|| KINDS.iter().map(|kind| make(*kind)).collect())
}

fn make((page_size, encoding, auto_vacuum): (usize, &str, u8)) -> Image {
    let folder = folder();
    let path = folder.path().join("app.db");
    let connection = Connection::open(&path).expect("the folder is new");
    let run = |sql: &str| {
        let sql = sql.replace("SIZE", &page_size.to_string());
        connection.execute_batch(&sql).expect("the statements are right");
    };
    run(&format!(
        "PRAGMA page_size = {page_size}; PRAGMA encoding = '{encoding}'; PRAGMA auto_vacuum = {auto_vacuum}"
    ));
    run(CONTENT);
    run("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0");
    ATTACHED.into_iter().for_each(run);
    let attached = read(&beside(&path, "-wal"));
    TAIL.into_iter().for_each(run);
    let mut wal = read(&beside(&path, "-wal"));
    // SQLite draws the salts by lot.
    wal[16..24].copy_from_slice(b"saltsalt");
    seal_wal(&mut wal);
    let tail = wal.split_off(attached.len());
    Image { page_size, database: read(&path), attached: wal, tail }
}

/// A new folder, in memory where there is such a place.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder can be made")
}

/// The name of a file with these letters behind it.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("SQLite wrote it")
}

/// Gives a WAL the form and the checksums of a whole one, whatever its pages hold.
pub fn seal_wal(wal: &mut [u8]) {
    let Some((head, frames)) = wal.split_at_mut_checked(HEADER_BYTES) else { return };
    head[..4].copy_from_slice(&0x377f_0682_u32.to_be_bytes());
    let checksum = sum([0, 0], &head[..24]);
    put(head, 24, checksum);
    let salts = [head[16], head[17], head[18], head[19], head[20], head[21], head[22], head[23]];
    let page_size = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
    seal_frames(frames, page_size as usize, salts, checksum);
}

/// Gives frames the salts, and the checksums that run on from `checksum`, and returns the last.
pub fn seal_frames(frames: &mut [u8], page_size: usize, salts: [u8; 8], mut checksum: [u32; 2]) -> [u32; 2] {
    for frame in frames.chunks_exact_mut(FRAME_HEADER_BYTES.saturating_add(page_size)) {
        frame[8..16].copy_from_slice(&salts);
        checksum = sum(sum(checksum, &frame[..8]), &frame[FRAME_HEADER_BYTES..]);
        put(frame, 16, checksum);
    }
    checksum
}

/// Gives both copies of a wal-index's header the checksum of the first.
pub fn seal_index(head: &mut [u8; HEAD_BYTES]) {
    head[12] = 1;
    let [mut one, mut two] = [0_u32, 0];
    for pair in head[..COPY_BYTES - 8].chunks_exact(8) {
        one = one.wrapping_add(u32::from_ne_bytes([pair[0], pair[1], pair[2], pair[3]])).wrapping_add(two);
        two = two.wrapping_add(u32::from_ne_bytes([pair[4], pair[5], pair[6], pair[7]])).wrapping_add(one);
    }
    head[40..44].copy_from_slice(&one.to_ne_bytes());
    head[44..48].copy_from_slice(&two.to_ne_bytes());
    head.copy_within(..COPY_BYTES, COPY_BYTES);
}

/// The checksum of little-endian words, as the file format's section 4.2 says it.
fn sum([mut one, mut two]: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    for pair in bytes.chunks_exact(8) {
        one = one.wrapping_add(u32::from_le_bytes([pair[0], pair[1], pair[2], pair[3]])).wrapping_add(two);
        two = two.wrapping_add(u32::from_le_bytes([pair[4], pair[5], pair[6], pair[7]])).wrapping_add(one);
    }
    [one, two]
}

fn put(bytes: &mut [u8], at: usize, [one, two]: [u32; 2]) {
    bytes[at..at + 4].copy_from_slice(&one.to_be_bytes());
    bytes[at + 4..at + 8].copy_from_slice(&two.to_be_bytes());
}
