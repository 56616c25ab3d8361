//! What an application does to its database, and the mirror follows.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use super::processes::{Mirror, diff};
use super::programs::{finish, python, sql, start};

const MUSIC: &str = include_str!("../fixtures/music.sql");

/// Loads something, mirrors it while the shell runs each of `steps` as a process of its own, and compares.
fn mirrors(before: &str, steps: &[&str]) -> serde_json::Value {
    let folder = tempfile::tempdir().unwrap();
    sql(&folder.path().join("app.db"), before);
    let mirror = Mirror::start(folder.path());
    for step in steps {
        sql(&mirror.source, step);
    }
    mirror.stop()
}

fn commits(stopped: &serde_json::Value) -> u64 {
    stopped["commits"].as_u64().unwrap()
}

#[test]
fn a_database_that_nobody_writes_is_copied() {
    assert_eq!(commits(&mirrors(MUSIC, &[])), 0);
}

#[test]
fn a_database_that_is_made_while_it_is_followed_is_followed() {
    let stopped = mirrors("VACUUM;", &[MUSIC]);
    assert!(commits(&stopped) > 0);
}

#[test]
fn rows_of_every_kind_are_followed() {
    mirrors(
        MUSIC,
        &[
            "PRAGMA foreign_keys = ON;
             UPDATE track SET price = price * 2, name = name || '!' WHERE track_id % 50 = 1;
             UPDATE customer_name SET name = 'Somebody' WHERE customer_id = 9;
             UPDATE artist SET artist_id = artist_id + 1000 WHERE artist_id < 20;
             UPDATE play SET rowid = rowid + 100000 WHERE rowid % 3 = 0;
             UPDATE playlist_track SET playlist_id = 24 WHERE playlist_id = 3;",
            "PRAGMA foreign_keys = ON;
             DELETE FROM invoice_line WHERE track_id IN
                 (SELECT track_id FROM track JOIN album USING (album_id) WHERE artist_id % 40 = 7);
             DELETE FROM artist WHERE artist_id % 40 = 7;
             DELETE FROM invoice WHERE invoice_id > 700;
             DELETE FROM play WHERE device IS NULL OR typeof(device) = 'real';
             INSERT INTO play SELECT track_id, at + 1, NULL FROM play LIMIT 300;",
            "REPLACE INTO genre VALUES (1, 'Ambience'), (50, 'JAZZ');
             INSERT OR REPLACE INTO customer VALUES (1, 3, 'One', 'c2@example.org', x'');
             INSERT INTO format VALUES ('mp3', 'Layer 3', 0) ON CONFLICT DO NOTHING;
             INSERT INTO format VALUES ('ogg', 'Ogg', 0) ON CONFLICT (code) DO UPDATE SET name = excluded.name;",
            "UPDATE customer SET notes = CASE customer_id % 6
                 WHEN 0 THEN '' WHEN 1 THEN NULL WHEN 2 THEN 1 WHEN 3 THEN 1.0 WHEN 4 THEN '1' ELSE x'31' END;
             UPDATE album SET cover = randomblob(20000) WHERE album_id % 30 = 0;
             UPDATE album SET cover = NULL WHERE album_id % 30 = 1;
             UPDATE invoice SET total = -0.0 WHERE invoice_id = 5;
             UPDATE invoice SET total = 9e999 WHERE invoice_id = 6;",
            "INSERT INTO track_search (track_search) VALUES ('optimize');
             INSERT INTO track_search (track_search) VALUES ('rebuild');",
            "BEGIN; DELETE FROM invoice_line; ROLLBACK;
             BEGIN; SAVEPOINT a; DELETE FROM playlist; ROLLBACK TO a; INSERT INTO playlist VALUES (99, 'kept'); COMMIT;
             DELETE FROM audit; DELETE FROM invoice_line;",
        ],
    );
}

#[test]
fn schema_changes_are_followed() {
    mirrors(
        MUSIC,
        &[
            "ALTER TABLE artist ADD COLUMN rating REAL DEFAULT 7;
             ALTER TABLE track ADD COLUMN tag TEXT NOT NULL DEFAULT 'none';
             UPDATE artist SET rating = 1 WHERE artist_id < 5;
             INSERT INTO artist (name) VALUES ('New');",
            "ALTER TABLE artist RENAME COLUMN country TO origin;
             ALTER TABLE playlist RENAME TO list;
             INSERT INTO list VALUES (100, 'renamed'); INSERT INTO playlist_track VALUES (100, 1);",
            "ALTER TABLE artist DROP COLUMN founded;
             ALTER TABLE customer DROP COLUMN notes;
             DROP INDEX track_long; DROP TRIGGER invoice_total; DROP VIEW album_length;",
            "CREATE TABLE \"odd \"\" name\" (\"a b\", [c] INTEGER DEFAULT 3, PRIMARY KEY ([c] DESC));
             INSERT INTO \"odd \"\" name\" VALUES (1, 2), (x'00', 3);
             CREATE UNIQUE INDEX odd ON \"odd \"\" name\" (\"a b\");
             CREATE TABLE copy AS SELECT * FROM track WHERE track_id < 100;
             CREATE TABLE strict_one (id INTEGER PRIMARY KEY, v ANY, w TEXT) STRICT;
             INSERT INTO strict_one VALUES (1, '1', 'x'), (2, 1.0, NULL);
             CREATE TEMP TABLE unseen (a); INSERT INTO unseen VALUES (1);",
            "BEGIN;
             ALTER TABLE copy RENAME TO swap; ALTER TABLE play RENAME TO copy; ALTER TABLE swap RENAME TO play;
             INSERT INTO copy (track_id) VALUES (1);
             COMMIT;",
            "DROP TABLE track_search; DROP TABLE strict_one;
             CREATE VIRTUAL TABLE words USING fts5 (word, tokenize = 'trigram');
             INSERT INTO words SELECT name FROM genre;
             CREATE VIRTUAL TABLE area USING rtree (id, x0, x1);
             INSERT INTO area VALUES (1, 0, 1), (2, 5, 9); DELETE FROM area WHERE id = 1;",
            "PRAGMA user_version = -5; PRAGMA application_id = 77; REINDEX;
             CREATE TABLE numbered (id INTEGER PRIMARY KEY AUTOINCREMENT, v);
             INSERT INTO numbered VALUES (500, 1); DELETE FROM numbered; UPDATE sqlite_sequence SET seq = 9 WHERE name = 'audit';",
        ],
    );
}

/// What `ANALYZE` writes describes one file, so it stays there: `diff` takes no notice of it, and `.dump` would.
#[test]
fn statistics_stay_behind_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    sql(&folder.path().join("app.db"), &format!("{MUSIC} ANALYZE;"));
    let mut mirror = Mirror::start(folder.path());
    sql(
        &mirror.source,
        "DELETE FROM play; ANALYZE; DELETE FROM playlist; DROP TABLE sqlite_stat1; ANALYZE; DELETE FROM audit;",
    );
    mirror.end_input();
    mirror.stopped();
    assert_eq!(diff(&mirror.source, &mirror.target).0, 0);
    assert_eq!(
        sql(&mirror.target, "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'sqlite_stat%';").trim(),
        "0"
    );
}

#[test]
fn vacuum_is_followed() {
    mirrors(
        MUSIC,
        &[
            "DELETE FROM track WHERE track_id % 2; DELETE FROM play WHERE rowid % 3; CREATE TABLE keyless (a);
             INSERT INTO keyless SELECT track_id FROM track; DELETE FROM keyless WHERE rowid % 5 = 0;",
            "VACUUM;",
            "INSERT INTO keyless VALUES ('after'); PRAGMA auto_vacuum = FULL; VACUUM; DELETE FROM keyless WHERE rowid < 100;",
        ],
    );
}

#[test]
fn a_huge_transaction_is_followed() {
    let stopped = mirrors(
        "CREATE TABLE big (id INTEGER PRIMARY KEY, v TEXT, w BLOB); CREATE INDEX big_v ON big (v);",
        &[
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
             INSERT INTO big SELECT i, printf('row %d', i), randomblob(120) FROM n;",
            "UPDATE big SET v = v || '.'; ",
            "DELETE FROM big WHERE id % 2;",
        ],
    );
    assert_eq!((commits(&stopped), stopped["row_changes"].as_u64()), (3, Some(250_000)));
}

#[test]
fn databases_of_every_form_are_followed() {
    let forms = [
        "PRAGMA encoding = 'UTF-16le';",
        "PRAGMA encoding = 'UTF-16be'; PRAGMA page_size = 512;",
        "PRAGMA page_size = 65536;",
        "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA page_size = 1024;",
        "PRAGMA journal_mode = WAL;",
    ];
    for form in forms {
        mirrors(
            &format!("{form}\n{MUSIC}"),
            &[
                "UPDATE track SET name = name || char(0x1f600); DELETE FROM album WHERE album_id % 2;",
                "PRAGMA incremental_vacuum; INSERT INTO artist (name) VALUES ('é'), ('\u{10ffff}');",
            ],
        );
    }
}

#[test]
fn a_program_that_keeps_its_connection_is_followed() {
    let program = r"
import sqlite3, sys
sqlite = sqlite3.connect(sys.argv[1], timeout=60)
sqlite.execute('PRAGMA synchronous = NORMAL')
for number in range(500):
    with sqlite:
        sqlite.execute('INSERT INTO play VALUES (?, ?, ?)', (number, number / 3, bytes([number % 256])))
        if number % 10 == 0:
            sqlite.execute('UPDATE playlist SET name = ? WHERE playlist_id = 1', (str(number),))
";
    let folder = tempfile::tempdir().unwrap();
    sql(&folder.path().join("app.db"), MUSIC);
    let mirror = Mirror::start(folder.path());
    finish(start(python(program, [path(&mirror.source)]), ""));
    assert_eq!(commits(&mirror.stop()), 500);
}

/// Whoever looks into the copy, for however long, does not hold the mirror up.
#[test]
fn a_reader_of_the_copy_is_left_in_peace() {
    let program = "
import sqlite3, sys
sqlite = sqlite3.connect(sys.argv[1], isolation_level=None)
sqlite.execute('BEGIN')
before = sqlite.execute('SELECT count(*) FROM t').fetchone()
print('holding', flush=True)
sys.stdin.read()
assert sqlite.execute('SELECT count(*) FROM t').fetchone() == before
";
    let folder = tempfile::tempdir().unwrap();
    sql(&folder.path().join("app.db"), "CREATE TABLE t (a); INSERT INTO t VALUES (1);");
    let mirror = Mirror::start(folder.path());
    let mut reader = python(program, [path(&mirror.target)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut holding = String::new();
    BufReader::new(reader.stdout.as_mut().unwrap()).read_line(&mut holding).unwrap();
    assert_eq!(holding, "holding\n");
    sql(&mirror.source, "INSERT INTO t VALUES (2); CREATE TABLE u (a); INSERT INTO u SELECT * FROM t;");
    mirror.stop();
    drop(reader.stdin.take());
    finish(reader);
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
