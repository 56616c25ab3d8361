//! What was deleted, and what is outside of what is replicated, is in no chunk.

use super::*;

const SECRET: &[u8] = b"SECRETSECRETSECRET";

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[test]
fn what_was_deleted_is_in_no_chunk() {
    let long = |word: &str| format!("replace(hex(zeroblob(1500)), '00', '{word}')");
    let secret = long("SECRETSECRETSECRET");
    let cases = [
        "DELETE FROM t WHERE secret",
        "UPDATE t SET a = 'x', b = NULL, c = NULL WHERE secret",
        "DROP TABLE t",
        "DELETE FROM t",
        "UPDATE t SET a = 'LIVE' || substr(a, 5), b = '', c = '' WHERE secret",
    ];
    for (case, setup) in cases.iter().flat_map(|case| {
        [
            "page_size = 512",
            "page_size = 4096",
            "journal_mode = WAL",
            "auto_vacuum = INCREMENTAL",
            "auto_vacuum = FULL",
        ]
        .map(|setup| (case, setup))
    }) {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source.db");
        let connection = open(&source);
        connection
            .execute_batch(&format!(
                "PRAGMA {setup}; PRAGMA secure_delete = OFF; PRAGMA wal_autocheckpoint = 0;
                 CREATE TABLE t(a, b, c, secret); CREATE INDEX ta ON t(a); CREATE INDEX tb ON t(b);
                 CREATE TABLE keep(a); INSERT INTO keep VALUES('LIVELIVELIVE');
                 CREATE TABLE w(a PRIMARY KEY) WITHOUT ROWID; INSERT INTO w SELECT a FROM keep;
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
                 INSERT INTO t SELECT iif(i % 2, 'SECRETSECRETSECRET' || i, 'LIVE' || i),
                    iif(i % 2, {secret}, 'b'), iif(i % 2, x'01' || 'SECRETSECRETSECRET', ''), i % 2 FROM n;
                 INSERT INTO w SELECT a FROM t WHERE secret;
                 DELETE FROM w WHERE a LIKE 'SECRET%';
                 {case};"
            ))
            .unwrap();
        let raw = fs::read(&source).unwrap();
        let wal = fs::read(folder.path().join("source.db-wal")).unwrap_or_default();
        assert!(holds(&raw, SECRET) || holds(&wal, SECRET), "the test hides nothing: {setup}, {case}");
        let (snapshot, chunks) = take(&source);
        let pages = opened(&snapshot, &chunks);
        assert!(!holds(&pages, SECRET), "{setup}, {case}");
        assert!(holds(&pages, b"LIVELIVELIVE"));
        assert_returns(folder.path(), &source);
    }
}

#[test]
fn the_tail_of_an_overflow_page_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    let connection = open(&source);
    // One chain becomes shorter in the pages of the other, with a length that leaves its last page a tail. In one transaction, since SQLite clears a page that was free before.
    let long = "replace(hex(zeroblob(2000)), '00', 'SECRETSECRETSECRET')";
    connection
        .execute_batch(&format!(
            "PRAGMA secure_delete = OFF; CREATE TABLE t(a); BEGIN; INSERT INTO t VALUES({long}); DELETE FROM t;
             INSERT INTO t VALUES(hex(zeroblob(4190))); COMMIT;"
        ))
        .unwrap();
    assert!(holds(&fs::read(&source).unwrap(), SECRET));
    let (snapshot, chunks) = take(&source);
    assert!(!holds(&opened(&snapshot, &chunks), SECRET));
    assert_returns(folder.path(), &source);
}

#[test]
fn reserved_bytes_are_empty() {
    const RESERVED: usize = 32;
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    make(&source, "PRAGMA page_size = 1024; PRAGMA user_version = 1");
    let mut bytes = fs::read(&source).unwrap();
    bytes[20] = 32;
    bytes[105..107].copy_from_slice(&(1024 - 32u16).to_be_bytes());
    fs::write(&source, bytes).unwrap();
    make(&source, &format!("BEGIN; {CONTENT} COMMIT"));
    let mut bytes = fs::read(&source).unwrap();
    for page in bytes.chunks_exact_mut(1024) {
        page[1024 - RESERVED..].copy_from_slice(b"SECRETSECRETSECRETSECRETSECRETSE");
    }
    fs::write(&source, bytes).unwrap();
    let (snapshot, chunks) = take(&source);
    assert!(!holds(&opened(&snapshot, &chunks), SECRET));
    assert_returns(folder.path(), &source);
}

#[test]
fn what_is_outside_is_left_out() {
    for auto_vacuum in ["NONE", "FULL", "INCREMENTAL"] {
        assert_left_out(auto_vacuum);
    }
}

fn assert_left_out(auto_vacuum: &str) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    make(
        &source,
        &format!("PRAGMA auto_vacuum = {auto_vacuum}; CREATE TABLE t(a, b); CREATE INDEX ta ON t(a);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         INSERT INTO t SELECT 'STATISTIC' || i, i FROM n; ANALYZE; DELETE FROM t;
         CREATE TABLE _synddb_x(a INTEGER PRIMARY KEY, b UNIQUE); INSERT INTO _synddb_x
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         SELECT i, 'SECRETSECRETSECRET' || i || zeroblob(5000 * (i = 9)) FROM n;
         CREATE TABLE _SYNDDB_W(a PRIMARY KEY) WITHOUT ROWID; INSERT INTO _synddb_w VALUES('SECRETSECRETSECRET');
         CREATE INDEX _synddb_i ON t(b); CREATE VIEW _synddb_v AS SELECT 1;
         CREATE TRIGGER _synddb_t AFTER INSERT ON t BEGIN SELECT 1; END;
         CREATE VIRTUAL TABLE _synddb_f USING fts5(x); INSERT INTO _synddb_f VALUES('SECRETSECRETSECRET');
         CREATE TABLE z(a); INSERT INTO z VALUES('LIVE'); INSERT INTO t VALUES('LIVE', 1);"),
    );
    let (snapshot, chunks) = take(&source);
    let pages = opened(&snapshot, &chunks);
    assert!(!holds(&pages, SECRET) && !holds(&pages, b"STATISTIC") && holds(&pages, b"LIVE"));
    let target = assert_returns(folder.path(), &source);
    let sql = "SELECT group_concat(name) FROM sqlite_schema";
    let left: String = open(&target).query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(left, "t,ta,z");
}
