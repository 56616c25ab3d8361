//! A consumer that knows nothing but the feed and SQL: it begins with an empty database, and every row that it is told of must be there, or must not be.

use serde_json::{Map, Value};
use synddb_sqlite::rusqlite::types::Value as Sql;
use synddb_sqlite::rusqlite::{Connection, params_from_iter};

use super::reader::Event;

/// The consumer.
pub(super) struct Consumer {
    pub(super) copy: Connection,
    /// Events of a commit that is not whole yet.
    pending: Vec<Event>,
    /// The place behind the last whole commit, and that of the last event.
    pub(super) whole: Option<String>,
    pub(super) last: Option<String>,
    /// The last incarnation and commit that was applied.
    pub(super) applied: Option<(u64, u64)>,
    pub(super) state: Option<String>,
}

impl Consumer {
    pub(super) fn new() -> Self {
        let copy = Connection::open_in_memory().unwrap();
        Self { copy, pending: Vec::new(), whole: None, last: None, applied: None, state: None }
    }

    /// Takes the next event: of one commit, of the next one, or of another incarnation.
    pub(super) fn take(&mut self, event: Event) {
        self.last = event.id.clone();
        match event.name.as_str() {
            "snapshot" => {
                assert!(self.pending.is_empty(), "a snapshot comes behind whole commits");
                self.whole = event.id;
            }
            "schema" | "commit" => {
                let place = (event.data["incarnation"]["counter"].as_u64().unwrap(), event.number("commit"));
                if let Some((incarnation, commit)) = self.applied {
                    let follows = place == (incarnation, commit + 1) || place == (incarnation + 1, 1);
                    assert!(follows, "{place:?} after {:?}", self.applied);
                }
                if let Some(first) = self.pending.first() {
                    assert_eq!(first.data["commit"], event.data["commit"], "a commit comes whole");
                }
                let is_last = event.name == "commit" && event.is_last();
                let id = event.id.clone();
                self.pending.push(event);
                if is_last {
                    self.apply();
                    self.applied = Some(place);
                    self.whole = id;
                }
            }
            other => panic!("{other}"),
        }
    }

    /// It is killed, and starts again from what it kept: whole commits.
    pub(super) fn restart(&mut self) -> Option<String> {
        self.pending.clear();
        self.last.clone_from(&self.whole);
        self.whole.clone()
    }

    fn apply(&mut self) {
        let events = std::mem::take(&mut self.pending);
        self.copy.execute_batch("BEGIN").unwrap();
        let schema = events.iter().filter(|event| event.name == "schema");
        for change in schema.flat_map(|event| event.data["changes"].as_array().unwrap()) {
            self.schema(change);
        }
        let commits = || events.iter().filter(|event| event.name == "commit");
        let rows: Vec<&Value> = commits().flat_map(|event| event.data["rows"].as_array().unwrap()).collect();
        for op in ["delete", "update", "insert"] {
            rows.iter()
                .filter(|row| row["op"] == op && row["table"] != "sqlite_sequence")
                .for_each(|row| self.row(row));
        }
        // SQLite keeps this one by itself.
        rows.iter().filter(|row| row["table"] == "sqlite_sequence").for_each(|row| self.sequence(row));
        self.copy.execute_batch("COMMIT").unwrap();
        if let Some(state) = commits().filter_map(|event| event.data["state"].as_str()).next_back() {
            self.state = Some(state.to_owned());
        }
    }

    fn schema(&self, change: &Value) {
        let text = |name: &str| change[name].as_str().unwrap_or_default().to_owned();
        let (action, object) = (text("action"), text("object"));
        let make = |sql: &str| self.copy.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        match (action.as_str(), object.as_str()) {
            ("drop", "table") => make(&format!("DROP TABLE {}", quoted(&text("name")))),
            // It makes this one by itself.
            ("create", "table") if text("name") == "sqlite_sequence" => {}
            ("create", "table") => make(&text("sql")),
            ("rebuild", "table") => {
                make(&format!("DROP TABLE {}", quoted(&text("was"))));
                make(&text("sql"));
            }
            ("amend", _) => {
                make("PRAGMA writable_schema = ON");
                self.copy
                    .execute(
                        "UPDATE sqlite_schema SET name = ?1, tbl_name = ?2, sql = ?3 WHERE type = ?4 AND name = ?5",
                        (text("name"), text("table"), change["sql"].as_str(), &object, text("was")),
                    )
                    .unwrap();
                make("PRAGMA writable_schema = RESET");
            }
            // Indexes, views and triggers are nothing that a consumer of rows needs.
            ("drop" | "create", _) => {}
            other => panic!("{other:?}"),
        }
    }

    fn row(&self, row: &Value) {
        let table = quoted(row["table"].as_str().unwrap());
        let before = row["before"].as_object();
        let generated: Vec<&str> =
            row["generated"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap()).collect();
        let is_key = |name: &str| row["key"].as_array().unwrap().iter().any(|key| key == name);
        let given = |after: &Map<String, Value>| -> Vec<(String, Value)> {
            let given = after.iter().filter(|(name, _)| !generated.contains(&name.as_str()));
            given.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        let (sql, values) = match (row["op"].as_str().unwrap(), row["after"].as_object()) {
            ("insert", Some(after)) => {
                let given = given(after);
                let names: Vec<String> = given.iter().map(|(name, _)| quoted(name)).collect();
                let places: Vec<&str> = given.iter().map(|(_, value)| place(value)).collect();
                let sql = format!("INSERT INTO {table}({}) VALUES({})", names.join(","), places.join(","));
                (sql, given)
            }
            ("update", Some(after)) => {
                let set: Vec<(String, Value)> =
                    given(after).into_iter().filter(|(name, _)| !is_key(name)).collect();
                let texts: Vec<String> =
                    set.iter().map(|(name, value)| format!("{} = {}", quoted(name), place(value))).collect();
                let (was, mut values) = (conditions(before.unwrap()), set);
                values.extend(was.1);
                (format!("UPDATE {table} SET {} WHERE {}", texts.join(","), was.0), values)
            }
            ("delete", None) => {
                let (conditions, values) = conditions(before.unwrap());
                (format!("DELETE FROM {table} WHERE {conditions}"), values)
            }
            other => panic!("{other:?}"),
        };
        let mut statement = self.copy.prepare(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let changed = statement.execute(params_from_iter(values.iter().map(|(_, value)| sql_of(value))));
        let changed = changed.unwrap_or_else(|error| panic!("{sql}: {row}: {error}"));
        assert_eq!(changed, 1, "exactly once: {row}");
    }

    fn sequence(&self, row: &Value) {
        let object = if row["after"].is_null() { &row["before"] } else { &row["after"] };
        let rowid = object["_rowid_"].as_i64().unwrap();
        match row["op"].as_str().unwrap() {
            "insert" => {
                let (name, seq) = (object["name"].as_str().unwrap(), object["seq"].as_i64().unwrap());
                self.copy.execute("DELETE FROM sqlite_sequence WHERE name = ?1", [name]).unwrap();
                let sql = "INSERT INTO sqlite_sequence(rowid, name, seq) VALUES(?1, ?2, ?3)";
                self.copy.execute(sql, (rowid, name, seq)).unwrap();
            }
            "update" => {
                let sql = "UPDATE sqlite_sequence SET seq = ?2 WHERE rowid = ?1";
                let seq = object["seq"].as_i64().unwrap();
                assert_eq!(self.copy.execute(sql, (rowid, seq)).unwrap(), 1, "{row}");
            }
            _ => {
                self.copy.execute("DELETE FROM sqlite_sequence WHERE rowid = ?1", [rowid]).unwrap();
            }
        }
    }
}

fn conditions(before: &Map<String, Value>) -> (String, Vec<(String, Value)>) {
    let texts: Vec<String> =
        before.iter().map(|(name, value)| format!("{} IS {}", quoted(name), place(value))).collect();
    (texts.join(" AND "), before.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// Text that is no UTF-8 is given as bytes.
fn place(value: &Value) -> &'static str {
    if value.get("text").is_some() { "CAST(? AS TEXT)" } else { "?" }
}

fn sql_of(value: &Value) -> Sql {
    match value {
        Value::Null => Sql::Null,
        Value::Number(number) => match number.as_i64() {
            Some(integer) => Sql::Integer(integer),
            None => Sql::Real(number.as_f64().unwrap()),
        },
        Value::String(text) => Sql::Text(text.clone()),
        Value::Object(form) => {
            let (name, text) = form.iter().next().unwrap();
            let text = text.as_str().unwrap_or_else(|| panic!("{form:?}"));
            match name.as_str() {
                "blob" | "text" => Sql::Blob(hex::decode(text).unwrap()),
                "integer" => Sql::Integer(text.parse().unwrap()),
                "real" => Sql::Real(text.parse().unwrap()),
                other => panic!("{other}"),
            }
        }
        other => panic!("{other}"),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Every row of every table, with its rowid where it has one, in an order that is the same for the same rows.
pub(super) fn rows(database: &Connection) -> Vec<String> {
    let list = |sql: &str| -> Vec<(String, bool)> {
        let mut statement = database.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    let mut all = Vec::new();
    let tables = list(
        "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table'
         AND name NOT LIKE '\\_synddb%' ESCAPE '\\' AND name <> 'sqlite_schema' ORDER BY name",
    );
    for (table, is_without_rowid) in tables {
        let columns = list(&format!("SELECT name, 0 FROM pragma_table_xinfo({})", quoted(&table)));
        let mut parts: Vec<String> =
            columns.iter().map(|(name, _)| format!("typeof({0}) || quote({0})", quoted(name))).collect();
        if !is_without_rowid {
            parts.push("_rowid_".to_owned());
        }
        let sql = format!("SELECT {} FROM {}", parts.join(" || ',' || "), quoted(&table));
        let mut statement = database.prepare(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let found = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let mut found: Vec<String> = found.map(|row| format!("{table}: {}", row.unwrap())).collect();
        found.sort_unstable();
        all.push(format!("{table} has {}", found.len()));
        all.extend(found);
    }
    all
}
