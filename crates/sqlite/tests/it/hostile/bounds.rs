//! Files that are made to cost more than they are large.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use synddb_protocol::hash::StateHash;
use synddb_protocol::state::Value;
use synddb_protocol::submission::{Chunk, ObjectKind, PageSize, SchemaChange, SchemaRow, TextEncoding};
use synddb_sqlite::apply::{Applier, ApplyError, CommitChanges};
use synddb_sqlite::capture::{CaptureError, Follower, Options};
use synddb_sqlite::connection::Connection;
use synddb_sqlite::file::Damaged;
use synddb_sqlite::file::page::Page;
use synddb_sqlite::file::record;
use synddb_sqlite::rusqlite;
use synddb_sqlite::snapshot::{self, Image, RestoreError, SnapshotError, Writer};
use tempfile::TempDir;

use super::decoders::encoded;
use super::images::folder;
use super::restored;

/// Far more than any of these takes, and far less than what each would take without its bound.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs something that must come to an end by itself.
fn ends<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let (said, heard) = channel();
    std::thread::spawn(move || said.send(body()));
    heard.recv_timeout(DEADLINE).expect("it comes to an end")
}

/// A database file of pages of 512 bytes with these tables, of which the pages can be written one by one.
struct Forged {
    _folder: TempDir,
    path: PathBuf,
    bytes: Vec<u8>,
}

const PAGE: usize = 512;

impl Forged {
    fn new(sql: &str) -> Self {
        let folder = folder();
        let path = folder.path().join("app.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA page_size = 512; PRAGMA journal_mode = WAL").unwrap();
        connection.execute_batch(sql).unwrap();
        connection.close().unwrap();
        let bytes = fs::read(&path).unwrap();
        Self { _folder: folder, path, bytes }
    }

    /// Pages behind the last one, and the number of the first of them.
    fn grow(&mut self, pages: usize) -> u32 {
        let first = self.bytes.len() / PAGE + 1;
        self.bytes.resize(self.bytes.len() + pages * PAGE, 0);
        let count = u32::try_from(self.bytes.len() / PAGE).unwrap();
        self.bytes[28..32].copy_from_slice(&count.to_be_bytes());
        u32::try_from(first).unwrap()
    }

    fn page(&mut self, number: u32) -> &mut [u8] {
        let at = (number as usize - 1) * PAGE;
        &mut self.bytes[at..at + PAGE]
    }

    /// A chain of so many overflow pages.
    fn chain(&mut self, pages: usize) -> u32 {
        let first = self.grow(pages);
        for at in 0..u32::try_from(pages).unwrap() - 1 {
            self.page(first + at)[..4].copy_from_slice(&(first + at + 1).to_be_bytes());
        }
        first
    }

    /// Leaves of a table, each with as many rows as it has room for, all of which go on in one chain.
    fn leaves(&mut self, pages: usize, chain: u32, chain_pages: usize) -> u32 {
        let first = self.grow(pages);
        for at in 0..pages {
            let rows = u64::try_from(at).unwrap() * 100;
            fill(self.page(first + u32::try_from(at).unwrap()), rows, chain, chain_pages);
        }
        first
    }

    /// An interior page of a table over consecutive pages.
    fn interior(&mut self, number: u32, first: u32, pages: u32) {
        let page = self.page(number);
        page.fill(0);
        page[0] = 5;
        let cells = u16::try_from(pages - 1).unwrap();
        page[3..5].copy_from_slice(&cells.to_be_bytes());
        page[8..12].copy_from_slice(&(first + pages - 1).to_be_bytes());
        for at in 0..cells {
            let start = PAGE - 7 * (usize::from(at) + 1);
            page[12 + 2 * usize::from(at)..][..2]
                .copy_from_slice(&u16::try_from(start).unwrap().to_be_bytes());
            page[start..start + 4].copy_from_slice(&(first + u32::from(at)).to_be_bytes());
            page[start + 4..start + 7].copy_from_slice(&wide(u64::from(at) * 100 + 99));
        }
    }

    fn write(&self) -> &Path {
        fs::write(&self.path, &self.bytes).unwrap();
        &self.path
    }

    /// The root page of a table.
    fn root(&self, table: &str) -> u32 {
        let connection = rusqlite::Connection::open(&self.path).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        connection.query_row(sql, [table], |row| row.get(0)).unwrap()
    }

    fn attach(&self) -> CaptureError {
        let path = self.write().to_owned();
        ends(move || Follower::attach(&path, Options::default()).map(drop).unwrap_err())
    }
}

/// A variable-length integer in three bytes.
fn wide(value: u64) -> [u8; 3] {
    let low = |shift: u64| u8::try_from(value >> shift & 0x7f).unwrap();
    [low(14) | 0x80, low(7) | 0x80, low(0)]
}

/// Makes a page a leaf full of rows of one blob each, of which all but the start is in a chain.
fn fill(page: &mut [u8], first_row: u64, chain: u32, chain_pages: usize) {
    page.fill(0);
    let least = (PAGE - 12) * 32 / 255 - 23;
    // As long as the chain allows, and with as little as possible on the page itself.
    let payload = least + chain_pages * (PAGE - 4);
    let cell = 3 + 3 + least + 4;
    let rows = (PAGE - 8) / (cell + 2);
    page[0] = 13;
    page[3..5].copy_from_slice(&u16::try_from(rows).unwrap().to_be_bytes());
    for row in 0..rows {
        let start = PAGE - cell * (row + 1);
        page[8 + 2 * row..][..2].copy_from_slice(&u16::try_from(start).unwrap().to_be_bytes());
        page[start..start + 3].copy_from_slice(&wide(payload as u64));
        page[start + 3..start + 6].copy_from_slice(&wide(first_row + row as u64 + 1));
        // A record of one blob: the header's length, then its type in three bytes.
        page[start + 6] = 4;
        page[start + 7..start + 10].copy_from_slice(&wide(12 + 2 * (payload as u64 - 4)));
        page[start + 6 + least..][..4].copy_from_slice(&chain.to_be_bytes());
    }
}

fn damaged(error: &CaptureError) -> &'static str {
    match error {
        CaptureError::Damaged(Damaged { what, .. }) => what,
        other => panic!("{other}"),
    }
}

/// 500 rows over one chain of 0.76 MB: 340 MB of payload in a file of 0.8 MB.
fn shared_chain() -> Forged {
    let mut forged = Forged::new("CREATE TABLE t(a)");
    let root = forged.root("t");
    let chain = forged.chain(1500);
    let leaves = forged.leaves(50, chain, 1500);
    forged.interior(root, leaves, 50);
    forged
}

#[test]
fn rows_that_share_their_overflow_pages_are_found_before_they_cost_anything() {
    assert_eq!(damaged(&shared_chain().attach()), "rows share their overflow pages");
}

#[test]
fn a_snapshot_of_rows_that_share_their_overflow_pages_is_refused() {
    let forged = shared_chain();
    let path = forged.write().to_owned();
    let error = ends(move || {
        let connection = Connection::open(&path).unwrap();
        connection.execute("BEGIN").unwrap();
        Writer::new(&connection).map(drop).unwrap_err()
    });
    assert!(matches!(error, SnapshotError::Damaged { what: "two places name the page", .. }), "{error}");
}

#[test]
fn a_snapshot_to_restore_of_such_rows_is_refused_before_sqlite_reads_it() {
    let mut forged = shared_chain();
    // What a snapshot's header says besides.
    forged.bytes[18..20].fill(1);
    forged.bytes[24..28].copy_from_slice(&1_u32.to_be_bytes());
    forged.bytes[92..96].copy_from_slice(&1_u32.to_be_bytes());
    let page_size = PageSize::new(PAGE as u64).unwrap();
    let (chunk, stored) = Chunk::seal(&forged.bytes, page_size).unwrap();
    let nothing = StateHash::from_bytes([0; 32]);
    let manifest = restored::manifest(page_size, TextEncoding::Utf8, nothing, vec![chunk]);
    let error = ends(move || {
        let folder = folder();
        let fetch = |_: &Chunk| Ok::<_, String>(stored.clone());
        let image = Image::of_snapshot(&manifest);
        snapshot::restore(&folder.path().join("restored.db"), &image, fetch).map(drop).unwrap_err()
    });
    assert!(matches!(error, RestoreError::Invalid { what: "two places name the page" }), "{error}");
}

#[test]
fn tables_that_share_a_tree_are_found_before_each_is_read() {
    let tables: String = (0..200).map(|at| format!("CREATE TABLE t{at}(a);")).collect();
    let mut forged = Forged::new(&format!("{tables} INSERT INTO t0 VALUES(zeroblob(2000000))"));
    let connection = rusqlite::Connection::open(&forged.path).unwrap();
    connection.execute_batch("PRAGMA writable_schema = ON").unwrap();
    let sql = "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 't0')";
    connection.execute(sql, []).unwrap();
    connection.close().unwrap();
    forged.bytes = fs::read(&forged.path).unwrap();
    assert_eq!(damaged(&forged.attach()), "two pointers lead to one page");
}

/// A page of 64 KiB whose 20000 pointers all lead to one cell of 20000 bytes: 400 MB of rows.
fn overlapping() -> Vec<u8> {
    let mut page = vec![0; 65_536];
    page[0] = 10;
    page[3..5].copy_from_slice(&20_000_u16.to_be_bytes());
    for at in 0..20_000 {
        page[8 + 2 * at..][..2].copy_from_slice(&41_000_u16.to_be_bytes());
    }
    page[41_000..41_003].copy_from_slice(&wide(16_000));
    page
}

#[test]
fn cells_that_overlap_are_found_before_they_are_read() {
    let page = overlapping();
    let page = Page::read(2, &page, page.len()).unwrap();
    assert!(page.cell(19_999).is_ok(), "each is a cell by itself");
    assert_eq!(page.check_cells(), Err(Damaged { what: "the cells of a page overlap", page: 2 }));
}

#[test]
fn rows_out_of_order_are_found() {
    let mut forged = Forged::new("CREATE TABLE t(a); INSERT INTO t VALUES(1), (2)");
    let root = forged.root("t");
    let page = forged.page(root);
    let (one, two) = ([page[8], page[9]], [page[10], page[11]]);
    page[8..10].copy_from_slice(&two);
    page[10..12].copy_from_slice(&one);
    assert_eq!(damaged(&forged.attach()), "the rows of a page are out of order");
}

#[test]
fn a_header_longer_than_any_record_has_is_no_record() {
    // A type of one byte for each of a million fields that hold nothing.
    let mut payload = wide(1_000_003).to_vec();
    payload.resize(1_000_003, 0);
    assert_eq!(record::fields(&payload), None);
    let longest = vec![Value::Null; 32_767];
    assert_eq!(record::fields(&encoded(&longest)).unwrap().len(), 32_767);
}

#[test]
fn a_page_of_which_almost_nothing_is_used_is_no_page() {
    let page = [13; 512];
    assert!(Page::read(2, &page, 479).is_err());
    assert!(Page::read(2, &page, 0).is_err());
}

#[test]
fn a_text_that_asks_instead_of_making_is_not_run() {
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    let sql = format!("CREATE TABLE n AS {endless}");
    let error = ends(move || {
        let row = SchemaRow {
            kind: ObjectKind::Table,
            name: b"n".to_vec(),
            table: b"n".to_vec(),
            sql: Some(sql.into_bytes()),
        };
        let mut applier = Applier::over(Connection::in_memory(TextEncoding::Utf8).unwrap()).unwrap();
        applier.begin().unwrap();
        let schema = [SchemaChange::Create { row, place: 1 }];
        let rows: &[u8] = &[];
        let changes = CommitChanges { schema: &schema, rows, user_version: None, application_id: None };
        applier.apply(changes).unwrap_err()
    });
    assert!(matches!(error, ApplyError::Schema(_)), "{error}");
}
