//! What a statement exercises by the tables that it names.

use std::collections::BTreeSet;

use synddb_sqlite::connection::quoted;

use super::model::{Model, ModelTable};

/// Adds what the tables and indexes exercise that `sql` names.
pub(super) fn exercised(model: &Model, sql: &str, features: &mut BTreeSet<&'static str>) {
    for table in model.plain() {
        if !sql.contains(&table.quoted()) {
            continue;
        }
        features.extend(of_table(table));
        for object in model.objects.iter().filter(|object| object.table == table.name) {
            features.extend(of_object(&object.kind, &object.sql));
        }
        let refers = |other: &&ModelTable| {
            let parents = |column: &super::model::ModelColumn| {
                column.refers_to.as_ref().is_some_and(|(parent, _)| *parent == table.name)
            };
            other.columns.iter().any(parents)
        };
        if model.plain().iter().any(refers) {
            features.insert("rows: referred to by foreign keys");
        }
    }
    for table in model.of_module("") {
        if sql.contains(&quoted(&table.name)) {
            let rtree = table.module().is_some_and(|module| module.starts_with("rtree"));
            features.insert(if rtree { "rows: R-Tree" } else { "rows: full-text search" });
        }
    }
}

fn of_table(table: &ModelTable) -> Vec<&'static str> {
    let keys = table.columns.iter().filter(|column| column.in_key).count();
    let mut features = Vec::new();
    let mut add = |is: bool, feature| {
        if is {
            features.push(feature);
        }
    };
    let sql = table.sql.as_str();
    add(keys == 0, "rows: no key");
    add(table.integer_key().is_some(), "rows: INTEGER PRIMARY KEY");
    add(keys == 1 && table.integer_key().is_none() && !table.without_rowid(), "rows: other single key");
    add(keys > 1, "rows: composite key");
    add(table.without_rowid(), "rows: WITHOUT ROWID");
    add(table.strict(), "rows: STRICT");
    add(sql.contains("AUTOINCREMENT"), "rows: AUTOINCREMENT");
    add(sql.contains("COLLATE"), "rows: collated columns");
    add(sql.contains("UNIQUE"), "rows: UNIQUE columns");
    add(sql.contains(" AS ("), "rows: generated columns");
    add(sql.contains("DEFAULT"), "rows: defaults");
    add(sql.contains("REFERENCES"), "rows: foreign keys");
    add(table.columns.len() > 60, "rows: wide table");
    features
}

fn of_object(kind: &str, sql: &str) -> Option<&'static str> {
    match kind {
        "trigger" => Some("rows: triggers"),
        "index" if sql.contains(" WHERE ") => Some("rows: partial index"),
        "index" if sql.contains("length(") => Some("rows: expression index"),
        "index" if sql.contains(" DESC") => Some("rows: descending index"),
        "index" if sql.contains("COLLATE") => Some("rows: collated index"),
        "index" => Some("rows: index"),
        _ => None,
    }
}
