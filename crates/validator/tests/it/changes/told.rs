//! What an event says.

use serde_json::{Value, json};
use synddb_validator::Event as Happened;

use super::listening;
use super::reader::{Event, Events};
use crate::log::Log;
use crate::running::Running;

const SETUP: &str =
    "CREATE TABLE t(id INTEGER PRIMARY KEY, v, twice AS (v || v) STORED, never AS (v) VIRTUAL)";

fn commit(event: &Event) -> Value {
    assert_eq!(event.name, "commit");
    event.data["rows"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_told_by_the_names_of_their_columns_and_schema_changes_for_themselves() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES('a'), (x'00ff'), (9007199254740993), (CAST(x'ff' AS TEXT))");
    log.run("UPDATE t SET v = 'b' WHERE id = 1; ");
    log.run("BEGIN; ALTER TABLE t ADD COLUMN more DEFAULT 7; CREATE TABLE h(a, b); INSERT INTO h VALUES(1.5, NULL); PRAGMA user_version = 3; COMMIT");
    log.run("ALTER TABLE t RENAME COLUMN v TO w");
    log.run("UPDATE t SET w = NULL WHERE id = 1; DELETE FROM h");
    log.publish().await;
    let mut running = Running::start(listening(&log));
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    let url = running.url("/changes?from=1").await;
    let mut events = Events::open(&url, None).await;
    let last = log.last().get();
    let events =
        events.until(|event| event.id.as_ref().is_some_and(|id| id.starts_with(&last.to_string()))).await;
    let [snapshot, inserted, updated, schema, with_it, renamed, nothing, set_null, deleted] = &events[..]
    else {
        panic!("{events:#?}");
    };
    assert_eq!((snapshot.name.as_str(), snapshot.id.as_deref()), ("snapshot", Some("2")));
    assert_eq!((&snapshot.data["why"], &snapshot.data["tables"]), (&json!("incarnation"), &json!(["t"])));
    assert_eq!(snapshot.data["predecessor"], Value::Null);
    let insert = |id: u64, v: Value, twice: Value| {
        json!({
            "table": "t", "key": ["id"], "generated": ["twice"], "op": "insert",
            "before": null, "after": {"id": id, "v": v, "twice": twice},
        })
    };
    let big = json!({"integer": "9007199254740993"});
    assert_eq!(
        commit(inserted),
        json!([
            insert(1, json!("a"), json!("aa")),
            insert(2, json!({"blob": "00ff"}), json!({"text": "00ff00ff"})),
            insert(3, big, json!("90071992547409939007199254740993")),
            insert(4, json!({"text": "ff"}), json!({"text": "ffff"})),
        ])
    );
    assert_eq!(inserted.id.as_deref(), Some("3-1"));
    let head = json!({
        "incarnation": log.tip.client().unwrap().incarnation, "commit": 1, "sequence": 3, "through": 3,
        "timestamp": 1_767_225_600_003_u64, "kind": "transaction", "last": true,
        "state": inserted.data["state"], "rows": inserted.data["rows"],
    });
    assert_eq!(inserted.data, head);
    assert_eq!(
        commit(updated),
        json!([{
            "table": "t", "key": ["id"], "generated": ["twice"], "op": "update",
            "before": {"id": 1, "v": "a", "twice": "aa"}, "after": {"id": 1, "v": "b", "twice": "bb"},
        }])
    );
    assert_eq!((schema.name.as_str(), schema.id.as_deref()), ("schema", Some("5-3-2")));
    let changes = schema.data["changes"].as_array().unwrap();
    assert_eq!((&changes[0]["action"], &changes[0]["was"]), (&json!("amend"), &json!("t")));
    let create = json!({
        "action": "create", "object": "table", "name": "h", "table": "h", "sql": "CREATE TABLE h(a, b)", "place": 2,
    });
    assert_eq!(changes[1], create);
    assert_eq!(
        commit(with_it),
        json!([{
            "table": "h", "key": ["_rowid_"], "op": "insert",
            "before": null, "after": {"_rowid_": 1, "a": 1.5, "b": null},
        }])
    );
    assert_eq!((with_it.data["user_version"].as_u64(), with_it.id.as_deref()), (Some(3), Some("5-3")));
    assert_eq!((renamed.name.as_str(), commit(nothing)), ("schema", json!([])));
    // By the names of then.
    assert_eq!(
        commit(set_null),
        json!([{
            "table": "t", "key": ["id"], "generated": ["twice"], "op": "update",
            "before": {"id": 1, "w": "b", "twice": "bb"}, "after": {"id": 1, "w": null, "twice": null},
        }])
    );
    assert_eq!(
        commit(deleted),
        json!([{"table": "h", "key": ["_rowid_"], "op": "delete", "before": {"_rowid_": 1, "a": 1.5, "b": null}, "after": null}])
    );
    assert_eq!(deleted.data["state"], json!(log.state()));
    // What ends at a message ends there, though it has been shown more of the log in one batch.
    let mut few = Events::open(&running.url("/changes?from=3&through=4").await, None).await;
    let few = few.until(|event| event.name == "ended").await;
    let ids: Vec<_> = few.iter().map(|event| event.id.as_deref()).collect();
    assert_eq!(ids, [Some("3-1"), Some("4-2"), None]);
    assert_eq!(few[2].data, json!({"why": "through", "after": "4-2"}));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_names_tables_is_shown_those_and_told_how_far_all_are() {
    let mut log = Log::begin("CREATE TABLE a(x); CREATE TABLE b(x); CREATE TABLE c(x)").await;
    log.run("INSERT INTO a VALUES(1); INSERT INTO b VALUES(1); INSERT INTO c VALUES(1)");
    log.run("BEGIN; INSERT INTO a VALUES(2); INSERT INTO b VALUES(2); COMMIT; CREATE INDEX ax ON a(x); CREATE INDEX bx ON b(x)");
    log.publish().await;
    let mut running = Running::start(listening(&log));
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    let url = running.url("/changes?from=3&tables=a,c").await;
    let mut events = Events::open(&url, None).await;
    // What the last one is, is not of these tables.
    log.run("INSERT INTO c VALUES(2)");
    log.publish().await;
    let events = events.until(|event| event.id.as_deref() == Some("9-7")).await;
    let shown: Vec<(String, Vec<&str>)> = events
        .iter()
        .map(|event| {
            let rows = event.data["rows"].as_array().into_iter().flatten();
            (
                format!("{} {}", event.name, event.id.as_deref().unwrap()),
                rows.map(|row| row["table"].as_str().unwrap()).collect(),
            )
        })
        .collect();
    let expected: [(&str, &[&str]); 6] = [
        ("commit 3-1", &["a"]),
        ("commit 5-3", &["c"]),
        ("commit 6-4", &["a"]),
        ("schema 7-5-1", &[]),
        ("commit 7-5", &[]),
        ("commit 9-7", &["c"]),
    ];
    let expected: Vec<(String, Vec<&str>)> =
        expected.into_iter().map(|(id, rows)| (id.to_owned(), rows.to_vec())).collect();
    assert_eq!(shown, expected);
    running.stop().await.unwrap();
}
