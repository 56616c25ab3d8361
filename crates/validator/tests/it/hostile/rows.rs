//! Changesets that no application commits.

use synddb_protocol::id::PartIndex;
use synddb_protocol::log::Entry;
use synddb_protocol::state::Value;
use synddb_protocol::submission::{Changes, CommitKind, Content, Part, Submission};
use synddb_sqlite::changeset::{Table, write_delete, write_insert, write_table, write_update};

use super::stage::Stage;
use crate::log::STREAM;

fn rows(table: &str, key: &[bool], write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write_table(&mut out, &Table { name: table.to_owned(), key: key.to_vec() });
    write(&mut out);
    out
}

fn insert(table: &str, key: &[bool], new: &[Value<'_>]) -> Vec<u8> {
    rows(table, key, |out| write_insert(out, new))
}

const SHAPE: &str = "diverged: Submission NotApplicable Divergence Shape";
const VALUE: &str = "diverged: Submission NotApplicable Divergence Value";
const EXISTS: &str = "diverged: Submission NotApplicable Divergence Exists";
const MISSING: &str = "diverged: Submission NotApplicable Divergence Missing";
const ALTERED: &str = "diverged: Submission NotApplicable Divergence Altered";
const INVALID: &str = "diverged: Submission NotApplicable Changeset Invalid";
const TRUNCATED: &str = "diverged: Submission NotApplicable Changeset Truncated";

fn lies() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    use Value::{Blob, Integer, Null, Real, Text};
    let t = [true, false, false];
    let schema = [true, false, false, false, false, false];
    let row = |out: &mut Vec<u8>| write_delete(out, &[Integer(1), Blob(b"x")]);
    let object =
        [Integer(99), Text(b"table"), Text(b"x"), Text(b"x"), Integer(2), Text(b"CREATE TABLE x(a)")];
    let valid = insert("t", &t, &[Integer(50), Text(b"x"), Null]);
    let mut endless = valid.clone();
    endless.truncate(valid.len() - 3);
    let mut huge = rows("t", &t, |_| {});
    huge.extend([0x12, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    let mut columns = vec![b'T', 0xff, 0xff, 0xff, 0x7f];
    columns.extend([1; 100]);
    vec![
        ("the position", rows("_synddb_position", &[true, false], row), SHAPE),
        ("the position in capitals", rows("_SYNDDB_POSITION", &[true, false], row), SHAPE),
        ("the schema", insert("sqlite_schema", &schema, &object), SHAPE),
        ("the schema by its old name", insert("sqlite_master", &schema, &object), SHAPE),
        (
            "statistics",
            insert("sqlite_stat1", &[true, false, false, false], &[Integer(1), Text(b"t"), Null, Text(b"1")]),
            SHAPE,
        ),
        ("an index", insert("ta", &t, &[Integer(50), Text(b"x"), Null]), SHAPE),
        ("nothing", insert("nothing", &t, &[Integer(50), Text(b"x"), Null]), SHAPE),
        ("a name with another case", insert("T", &t, &[Integer(50), Text(b"x"), Null]), SHAPE),
        ("a name with a quote", insert("t\" UNION SELECT 1 --", &t, &[Integer(50), Text(b"x"), Null]), SHAPE),
        ("a column too few", insert("t", &t[..2], &[Integer(50), Text(b"x")]), SHAPE),
        (
            "a column too many",
            insert("t", &[true, false, false, false], &[Integer(50), Text(b"x"), Null, Null]),
            SHAPE,
        ),
        ("another key", insert("t", &[false, true, false], &[Integer(50), Text(b"x"), Null]), SHAPE),
        ("no key", insert("t", &[false; 3], &[Integer(50), Text(b"x"), Null]), INVALID),
        ("a text for a rowid", insert("t", &t, &[Text(b"50"), Text(b"x"), Null]), SHAPE),
        ("nothing for a rowid", insert("t", &t, &[Null, Text(b"x"), Null]), SHAPE),
        ("a real for a rowid", insert("t", &t, &[Real(50.0), Text(b"x"), Null]), SHAPE),
        ("a number where a text is stored", insert("t", &t, &[Integer(50), Integer(5), Null]), ALTERED),
        ("no number", insert("t", &t, &[Integer(50), Null, Real(f64::NAN)]), INVALID),
        ("a key that is there", insert("t", &t, &[Integer(1), Text(b"x"), Null]), EXISTS),
        ("a key that is there twice", [valid.clone(), valid.clone()].concat(), EXISTS),
        (
            "what is unique is there",
            insert("r", &[true, false, false, false], &[Integer(9), Text(b"p"), Real(1.5), Text(b"p1.5")]),
            "diverged: Submission NotApplicable Divergence Refused",
        ),
        (
            "a row that is not there",
            rows("t", &t, |out| write_delete(out, &[Integer(77), Null, Null])),
            MISSING,
        ),
        (
            "a row that was otherwise",
            rows("t", &t, |out| write_delete(out, &[Integer(1), Text(b"other"), Null])),
            VALUE,
        ),
        (
            "a change of nothing that is there",
            rows("t", &t, |out| {
                write_update(out, &t, &[Integer(77), Text(b"a"), Null], &[Integer(77), Text(b"b"), Null])
            }),
            MISSING,
        ),
        (
            "another computed value",
            insert("r", &[true, false, false, false], &[Integer(9), Text(b"q"), Real(1.5), Text(b"lie")]),
            "taken",
        ),
        (
            "the least sequence",
            insert("sqlite_sequence", &t, &[Integer(9), Text(b"s"), Integer(i64::MIN)]),
            "taken",
        ),
        (
            "a sequence that is a blob",
            insert("sqlite_sequence", &t, &[Integer(9), Blob(b"s"), Blob(b"x")]),
            "taken",
        ),
        (
            "a sequence of a table that is not there",
            insert("sqlite_sequence", &t, &[Integer(9), Text(b"nothing"), Null]),
            "taken",
        ),
        (
            "a sequence whose rowid is none",
            insert("sqlite_sequence", &t, &[Text(b"x"), Text(b"s"), Integer(1)]),
            SHAPE,
        ),
        ("an end in a value", endless, TRUNCATED),
        ("a length beyond everything", huge, INVALID),
        ("columns beyond everything", columns, INVALID),
        ("no table first", vec![0x12, 0, 5, 5, 5], INVALID),
        ("noise", vec![0xff; 64], INVALID),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_nobody_commits_are_refused() {
    let mut stage = Stage::new().await;
    let mut wrong = Vec::new();
    for (name, rows, expected) in lies() {
        let found = stage.commit(&Changes { rows, ..Changes::default() }).await;
        println!("{name:<52} {found}");
        if found != expected {
            wrong.push(format!("{name}: expected `{expected}`, found `{found}`"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Parts of a commit, of which none is the last.
fn parts(stage: &Stage, count: usize, bytes: usize) -> Vec<Entry> {
    let client = stage.tip().client().unwrap();
    let (mut prev, mut index, mut parts) = (client.last, PartIndex::FIRST, Vec::new());
    for _ in 0..count {
        let changes = Changes { rows: vec![7; bytes], ..Changes::default() };
        let part =
            Part { number: client.next, prev, kind: CommitKind::Transaction, index, changes, last: None };
        (prev, index) = (part.digest(), index.next().unwrap());
        let content = Content::Part(part);
        parts.push(Entry::Submission(Submission {
            stream: STREAM,
            incarnation: client.incarnation,
            content,
        }));
    }
    parts
}

/// Forty parts of one megabyte, each of which takes a few bytes of a batch.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_never_ends_is_no_commit() {
    let stage = Stage::new().await;
    let told = stage.told(&stage.signed(&parts(&stage, 40, 1 << 20), &[])).await;
    assert_eq!(told.what, "nothing of it");
}
