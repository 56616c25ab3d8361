//! What a view of rows says of a row is what its table says of it.

use synddb_protocol::submission::TextEncoding;

use super::{Judged, ints, rule};

#[test]
fn a_row_is_equal_to_itself_whatever_its_text_is() {
    // Half a pair, a byte order mark of either kind, an end in the middle, nothing, and what is no UTF-8.
    let texts =
        ["d800", "00d8", "feff0041", "fffe4100", "41000000", "00410000", "", "fffe", "feff", "80ff", "c3"];
    for encoding in [TextEncoding::Utf8, TextEncoding::Utf16Le, TextEncoding::Utf16Be] {
        for key in ["id INTEGER PRIMARY KEY, k TEXT", "k TEXT, id"] {
            let sql = "SELECT id FROM t WHERE NOT EXISTS
                           (SELECT 1 FROM changed_t AS c WHERE c.id = t.id AND c.k = t.k AND hex(c.k) = hex(t.k)
                            AND typeof(c.k) = 'text' AND length(c.k) = length(t.k))";
            let all = "SELECT count(*) AS n FROM changed_t";
            let mut judged = Judged::new(encoding, vec![rule("r", &["t"], sql), rule("n", &["t"], all)]);
            judged.commit(&format!("CREATE TABLE t({key})"));
            let rows: Vec<String> =
                (1..).zip(texts).map(|(id, hex)| format!("({id}, CAST(x'{hex}' AS TEXT))")).collect();
            let found = judged.commit(&format!("INSERT INTO t(id, k) VALUES{}", rows.join(", ")));
            let [all] = found.as_slice() else { panic!("{encoding:?}, {key}: {found:?}") };
            assert_eq!(ints(&all.rows), [[i64::try_from(texts.len()).unwrap()]]);
        }
    }
}

#[test]
fn values_compare_as_in_their_table_whatever_it_declares() {
    let types = [
        "",
        "INT",
        "TEXT",
        "BLOB",
        "REAL",
        "NUMERIC",
        "ANY",
        "VARCHAR(10)",
        "\"odd \"\" type\"",
        "HIDDEN",
        "INT HIDDEN",
        "FLOATING POINT",
        "DECIMAL(10, 5)",
        "[x y]",
        "DATE",
    ];
    let strict = ["INT", "INTEGER", "TEXT", "BLOB", "REAL", "ANY"];
    let declared = types.iter().map(|name| (*name, "")).chain(strict.iter().map(|name| (*name, "STRICT")));
    for (name, is_strict) in declared {
        for collation in ["", "COLLATE NOCASE", "COLLATE RTRIM"] {
            // Of every comparison, whether it says the same of the table and of the view.
            let comparisons =
                ["a < 10", "a = '10'", "a > '5'", "a = 'ABC'", "a = 'abc  '", "a IS 10.0", "a = x'3130'"];
            let said: Vec<String> =
                comparisons.iter().map(|term| format!("ifnull({term}, 'null')")).collect();
            let said = said.join(" || ");
            let sql = format!(
                "SELECT t.id, told, shown FROM (SELECT id, {said} AS told FROM t) AS t
                 JOIN (SELECT id, {said} AS shown FROM changed_t) AS c ON c.id = t.id WHERE told <> shown
                 UNION ALL SELECT id, 'all', 'columns' FROM (SELECT * FROM changed_t) WHERE a IS NOT a"
            );
            let count = "SELECT count(*) AS n FROM changed_t";
            let mut judged =
                Judged::new(TextEncoding::Utf8, vec![rule("r", &["t"], &sql), rule("n", &["t"], count)]);
            judged
                .commit(&format!("CREATE TABLE t(id INTEGER PRIMARY KEY, a {name} {collation}) {is_strict}"));
            let insert = "INSERT OR IGNORE INTO t VALUES(1, 5)";
            let more = ["'10'", "'abc'", "'abc '", "NULL", "x'3130'", "9.5", "10"];
            let statements: Vec<String> = std::iter::once(insert.to_owned())
                .chain(
                    // A STRICT table refuses some.
                    more.iter()
                        .enumerate()
                        .filter(|(_, value)| fits(is_strict, name, value))
                        .map(|(at, value)| format!("INSERT INTO t VALUES({}, {value})", at + 2)),
                )
                .filter(|statement| statement != insert || fits(is_strict, name, "5"))
                .collect();
            let found = judged.commit(&statements.join(";"));
            let [all] = found.as_slice() else { panic!("{name} {is_strict} {collation}: {found:?}") };
            assert_eq!(ints(&all.rows), [[i64::try_from(statements.len()).unwrap()]]);
        }
    }
}

fn fits(is_strict: &str, name: &str, value: &str) -> bool {
    if is_strict.is_empty() || value == "NULL" {
        return true;
    }
    match name {
        "ANY" => true,
        "TEXT" => !value.starts_with('x'),
        "BLOB" => value.starts_with('x'),
        "REAL" => matches!(value, "5" | "10" | "9.5" | "'10'"),
        _ => matches!(value, "5" | "10" | "'10'"),
    }
}

#[test]
fn a_row_is_found_by_its_rowid_whatever_it_is_asked_by() {
    for (table, rowid) in [
        ("t(id INTEGER PRIMARY KEY, v)", "id"),
        ("t(id INTEGER PRIMARY KEY, v)", "rowid"),
        ("t(id, v)", "rowid"),
    ] {
        // Few rows are looked through, and many are looked up.
        for rows in [3, 500] {
            for (asked, expected) in [
                ("2", 1),
                ("'2'", 1),
                ("2.0", 1),
                ("2.5", 0),
                ("NULL", 0),
                ("x'32'", 0),
                ("-9", 0),
                ("1 + 1", 1),
            ] {
                let sql = format!("SELECT count(*) AS n FROM changed_t WHERE {rowid} = {asked}");
                let list = format!("SELECT count(*) AS n FROM changed_t WHERE {rowid} IN (1, 2, '3', 7000)");
                let joined = format!(
                    "SELECT count(*) AS n FROM changed_t AS c JOIN before_t AS b ON b.{rowid} = c.{rowid} WHERE c.v = b.v + 1"
                );
                let rules = [("one", sql), ("some", list), ("joined", joined)];
                let rules = rules.iter().map(|(name, sql)| rule(name, &["t"], sql)).collect();
                let mut judged = Judged::new(TextEncoding::Utf8, rules);
                judged.commit(&format!("CREATE TABLE {table}"));
                judged.commit(&format!(
                    "INSERT INTO t WITH n(i) AS (SELECT {rows} UNION ALL SELECT i - 1 FROM n WHERE i > 1) SELECT i, i FROM n"
                ));
                // Of rows without a key that is told, the rowid is in the order of insertion.
                let found = judged.commit("UPDATE t SET v = v + 1");
                let found: Vec<_> = found.iter().map(|finding| ints(&finding.rows)[0][0]).collect();
                assert_eq!(found, [expected, 3, rows], "{table} {rowid} = {asked}");
            }
        }
    }
}

#[test]
fn what_a_row_is_and_was_is_joined_in_a_huge_commit() {
    for table in ["t(id INTEGER PRIMARY KEY, v)", "t(id, v)"] {
        let sql = "SELECT count(*) AS n, sum(c.v - b.v) AS more FROM changed_t AS c JOIN before_t AS b ON b.rowid = c.rowid";
        let gone = "SELECT count(*) AS n FROM before_t AS b
                    WHERE NOT EXISTS (SELECT 1 FROM changed_t AS c WHERE c.rowid = b.rowid)";
        let mut judged =
            Judged::new(TextEncoding::Utf8, vec![rule("joined", &["t"], sql), rule("gone", &["t"], gone)]);
        judged.commit(&format!("CREATE TABLE {table}"));
        judged.commit(
            "INSERT INTO t WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) SELECT i, 0 FROM n",
        );
        let found = judged.commit("UPDATE t SET v = v + 2; DELETE FROM t WHERE id > 59990");
        assert_eq!(ints(&found[0].rows), [[59_990, 2 * 59_990]], "{found:?}");
        assert_eq!(ints(&found[1].rows), [[10]]);
    }
}

#[test]
fn rows_are_joined_by_any_key_where_sqlite_may_make_an_index() {
    let sql = "WITH b AS MATERIALIZED (SELECT * FROM before_t)
               SELECT count(*) AS n, sum(c.v - b.v) AS more FROM changed_t AS c JOIN b ON b.k = c.k";
    let mut judged = Judged::new(TextEncoding::Utf8, vec![rule("joined", &["t"], sql)]);
    judged.commit("CREATE TABLE t(k TEXT PRIMARY KEY, v) WITHOUT ROWID");
    judged.commit(
        "INSERT INTO t WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) SELECT 'k' || i, 0 FROM n",
    );
    let found = judged.commit("UPDATE t SET v = v + 2");
    assert_eq!(ints(&found[0].rows), [[60_000, 120_000]], "{found:?}");
}

#[test]
fn a_rule_never_takes_for_a_rowid_what_is_none() {
    let join = "SELECT c.v FROM changed_t AS c JOIN before_t AS b ON b.rowid = c.rowid WHERE c.v < b.v";
    for (table, is_fit) in [
        ("t(id, v)", true),
        ("t(id INTEGER PRIMARY KEY, v)", true),
        ("t(rowid INTEGER PRIMARY KEY, v)", true),
        ("t(id INTEGER PRIMARY KEY, v, rowid)", false),
        ("t(id, v, RowId TEXT)", false),
        ("t(id PRIMARY KEY, v) WITHOUT ROWID", false),
    ] {
        let mut judged = Judged::new(TextEncoding::Utf8, vec![rule("sinks", &["t"], join)]);
        let found = judged.commit(&format!("CREATE TABLE {table}"));
        assert_eq!(found.is_empty(), is_fit, "{table} {found:?}");
    }
}
