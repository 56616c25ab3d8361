//! Snapshots whose pages are made to harm.

use std::path::PathBuf;

use synddb_protocol::submission::{Chunk, PageSize};
use synddb_sqlite::rusqlite;

use super::stage::Stage;

const PAGE: usize = 512;

/// A database as a snapshot holds one, of pages of 512 bytes.
struct Image {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Image {
    fn new(sql: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.db");
        let sqlite = rusqlite::Connection::open(&path).unwrap();
        sqlite.execute_batch(&format!("PRAGMA page_size = {PAGE}; {sql}")).unwrap();
        sqlite.close().unwrap();
        Self { _folder: folder, path }
    }

    /// The pages, with what a snapshot's header says besides.
    fn pages(&self) -> Vec<u8> {
        let mut pages = std::fs::read(&self.path).unwrap();
        pages[24..28].copy_from_slice(&1_u32.to_be_bytes());
        pages[92..96].copy_from_slice(&1_u32.to_be_bytes());
        pages
    }

    /// Where the tree of a table or an index begins.
    fn root(&self, name: &str) -> usize {
        let sqlite = rusqlite::Connection::open(&self.path).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        sqlite.query_row(sql, [name], |row| row.get::<_, i64>(0)).unwrap().try_into().unwrap()
    }
}

/// A table of a few hundred rows on two levels of pages, and some pages that are free.
const CONTENT: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, a); CREATE TABLE gone(a);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) INSERT INTO t SELECT i, hex(zeroblob(20)) FROM n;
    INSERT INTO gone SELECT a FROM t; DROP TABLE gone; CREATE TABLE u(x UNIQUE); INSERT INTO u VALUES(1), (2)";

/// Changes rows of `sqlite_schema`.
fn rewritten(sql: &str) -> Vec<u8> {
    let image = Image::new(CONTENT);
    let sqlite = rusqlite::Connection::open(&image.path).unwrap();
    sqlite.execute_batch(&format!("PRAGMA writable_schema = ON; {sql}")).unwrap();
    sqlite.close().unwrap();
    image.pages()
}

fn patched(edit: impl FnOnce(&Image, &mut Vec<u8>)) -> Vec<u8> {
    let image = Image::new(CONTENT);
    let mut pages = image.pages();
    edit(&image, &mut pages);
    pages
}

/// What an interior page points to last.
fn right_most(pages: &mut [u8], page: usize, to: usize) {
    let at = (page - 1) * PAGE + 8;
    pages[at..at + 4].copy_from_slice(&u32::try_from(to).unwrap().to_be_bytes());
}

const SNAPSHOT: &str = "diverged: Snapshot";

fn lies() -> Vec<(&'static str, Vec<u8>, bool)> {
    let triggers = "CREATE TABLE t(a); CREATE TABLE _synddb_position(id INTEGER PRIMARY KEY, checkpoint); INSERT INTO _synddb_position VALUES(0, x'00');
        CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM _synddb_position; END;
        CREATE TRIGGER h AFTER UPDATE ON _synddb_position BEGIN DELETE FROM t; END; INSERT INTO t VALUES(1)";
    let header = |at: usize, value: u8| patched(move |_, pages| pages[at] = value);
    vec![
        ("as it is", patched(|_, _| {}), true),
        ("a position and triggers on it", Image::new(triggers).pages(), true),
        (
            "a table of ours as an index",
            Image::new("CREATE TABLE t(a); CREATE INDEX _synddb_position ON t(a)").pages(),
            true,
        ),
        (
            "a view in place of the position",
            Image::new("CREATE TABLE t(a); CREATE VIEW _synddb_position AS SELECT 1").pages(),
            true,
        ),
        (
            "views of each other",
            Image::new(
                "CREATE TABLE t(a); CREATE VIEW x AS SELECT * FROM y; CREATE VIEW y AS SELECT * FROM x",
            )
            .pages(),
            true,
        ),
        (
            "a page that leads to itself",
            patched(|image, pages| {
                let root = image.root("t");
                right_most(pages, root, root);
            }),
            false,
        ),
        (
            "a page that leads to the first one",
            patched(|image, pages| right_most(pages, image.root("t"), 1)),
            false,
        ),
        (
            "a page that leads nowhere",
            patched(|image, pages| right_most(pages, image.root("t"), 1_000_000)),
            false,
        ),
        (
            "a free page that leads to itself",
            patched(|_, pages| {
                let trunk = u32::from_be_bytes(pages[32..36].try_into().unwrap());
                let at = (trunk as usize - 1) * PAGE;
                pages[at..at + 4].copy_from_slice(&trunk.to_be_bytes());
            }),
            false,
        ),
        ("more free pages than pages", patched(|_, pages| pages[36..40].fill(0xff)), false),
        (
            "a free page that is in use",
            patched(|image, pages| {
                pages[32..36].copy_from_slice(&u32::try_from(image.root("t")).unwrap().to_be_bytes());
            }),
            false,
        ),
        (
            "two tables on one tree",
            rewritten(
                "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 't') WHERE name = 'u'",
            ),
            false,
        ),
        (
            "a table on the schema's tree",
            rewritten("UPDATE sqlite_schema SET rootpage = 1 WHERE name = 't'"),
            false,
        ),
        (
            "a table beyond the end",
            rewritten("UPDATE sqlite_schema SET rootpage = 4000000 WHERE name = 't'"),
            false,
        ),
        (
            "a table on a tree of minus one",
            rewritten("UPDATE sqlite_schema SET rootpage = -1 WHERE name = 't'"),
            false,
        ),
        (
            "a tree that is a text",
            rewritten("UPDATE sqlite_schema SET rootpage = 'x' WHERE name = 't'"),
            false,
        ),
        (
            "a table that is called an index",
            rewritten("UPDATE sqlite_schema SET type = 'index' WHERE name = 't'"),
            false,
        ),
        (
            "a kind that there is not",
            rewritten("UPDATE sqlite_schema SET type = 'thing' WHERE name = 't'"),
            false,
        ),
        (
            "a table of another name",
            rewritten("UPDATE sqlite_schema SET name = 'other' WHERE name = 't'"),
            false,
        ),
        (
            "an object without a name",
            rewritten("UPDATE sqlite_schema SET name = NULL WHERE name = 't'"),
            false,
        ),
        (
            "a table of a query",
            rewritten("UPDATE sqlite_schema SET sql = 'CREATE TABLE t AS SELECT 1' WHERE name = 't'"),
            false,
        ),
        (
            "a table of other columns",
            rewritten(
                "UPDATE sqlite_schema SET sql = 'CREATE TABLE t(a INTEGER PRIMARY KEY, b, c, d) WITHOUT ROWID' WHERE name = 't'",
            ),
            false,
        ),
        (
            "a table and more",
            rewritten("UPDATE sqlite_schema SET sql = sql || '; DROP TABLE u' WHERE name = 't'"),
            false,
        ),
        (
            "a view and more",
            rewritten(
                "INSERT INTO sqlite_schema VALUES('view', 'x', 'x', 0, 'CREATE VIEW x AS SELECT 1; DROP TABLE u')",
            ),
            false,
        ),
        (
            "an attached file",
            rewritten("UPDATE sqlite_schema SET sql = 'ATTACH ''x'' AS y' WHERE name = 't'"),
            false,
        ),
        (
            "an unknown function",
            rewritten(
                "UPDATE sqlite_schema SET sql = 'CREATE TABLE t(id INTEGER PRIMARY KEY, a CHECK (nothing(a)))' WHERE name = 't'",
            ),
            false,
        ),
        (
            "the schema twice",
            rewritten("INSERT INTO sqlite_schema SELECT * FROM sqlite_schema WHERE name = 't'"),
            false,
        ),
        ("in WAL mode", patched(|_, pages| pages[18..20].fill(2)), false),
        ("another page size", header(16, 16), false),
        ("almost all of it reserved", header(20, 200), false),
        ("another encoding", header(59, 2), false),
        ("another format of the schema", header(47, 9), false),
        ("more pages than there are", header(28, 9), false),
        ("no database", vec![0x5a; 4 * PAGE], false),
        ("nothing but zeros", vec![0; 4 * PAGE], false),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_are_made_to_harm_are_refused() {
    let mut stage = Stage::new().await;
    let mut wrong = Vec::new();
    for (name, pages, taken) in lies() {
        let found = stage.pages(PAGE as u64, &pages).await;
        println!("{name:<52} {found}");
        if taken != (found == "taken") || !taken && !found.starts_with(SNAPSHOT) {
            wrong.push(format!("{name}: found `{found}`"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_chunks_that_lie_are_refused() {
    let mut stage = Stage::new().await;
    let pages = patched(|_, _| {});
    let size = PageSize::new(PAGE as u64).unwrap();
    let sealed = |pages: &[u8]| Chunk::seal(pages, size).unwrap();
    let (whole, bytes) = sealed(&pages);
    let half = pages.len() / PAGE / 2 * PAGE;
    let (head, tail) = (sealed(&pages[..half]), sealed(&pages[half..]));
    let bomb = sealed(&vec![0; 8 << 20]);
    let stored = vec![(whole, bytes), head.clone(), tail.clone(), bomb.clone()];
    let (head, tail, bomb) = (head.0, tail.0, bomb.0);
    let mut wrong = Vec::new();
    for (name, listed, expected) in [
        ("in two chunks", vec![head, tail], "taken"),
        ("the same chunk twice", vec![whole, whole], "diverged: Snapshot Invalid"),
        ("in the other order", vec![tail, head], "diverged: Snapshot Invalid"),
        ("one of them", vec![head], "diverged: Snapshot Invalid"),
        ("and 8 MiB more", vec![whole, bomb], "diverged: Snapshot Invalid"),
        ("and 100 times 8 MiB more", [vec![whole], vec![bomb; 100]].concat(), "diverged: Snapshot Invalid"),
        (
            "more pages than it holds",
            vec![Chunk { pages: whole.pages + 1, ..whole }],
            "refused: ChunkDamaged",
        ),
        ("fewer pages than it holds", vec![Chunk { pages: 1, ..whole }], "refused: ChunkDamaged"),
        (
            "another size",
            vec![Chunk { stored_bytes: whole.stored_bytes + 1, ..whole }],
            "refused: ChunkDamaged",
        ),
    ] {
        let found = stage.snapshot(PAGE as u64, &listed, &stored).await;
        println!("{name:<52} {found}");
        if !found.starts_with(expected) {
            wrong.push(format!("{name}: expected `{expected}`, found `{found}`"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
