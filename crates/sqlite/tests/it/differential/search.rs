//! Grammar of virtual tables: full-text search and R-Tree, whose rows live in tables of their own.

use synddb_sqlite::connection::quoted;

use super::model::ModelTable;
use super::schemas;
use super::steps::{Context, Step};
use super::values::words;

/// Most virtual tables of one database.
const TABLES_MAX: usize = 3;

pub(super) fn change(context: &mut Context<'_>) -> Option<Step> {
    let tables = context.model.of_module("");
    if tables.is_empty() || (tables.len() < TABLES_MAX && context.random.percent(12)) {
        let made = schemas::virtual_table(context.random, context.ground);
        return Some(Step::schema(made.feature, made.sql));
    }
    let table = (*context.random.pick(&tables)).clone();
    if context.random.percent(2) {
        return Some(Step::schema("DROP virtual table", format!("DROP TABLE {}", table.quoted())));
    }
    Some(if table.module()?.starts_with("rtree") {
        boxes(context, &table)
    } else {
        documents(context, &table)
    })
}

fn documents(context: &mut Context<'_>, table: &ModelTable) -> Step {
    let name = table.quoted();
    let own_content = !table.sql.contains("content=");
    let (title, body) = (words(context.random), words(context.random));
    let row = context.random.below(60);
    match context.random.below(12) {
        0 if table.module() == Some("fts5") => special(context, table),
        1 | 2 if own_content => {
            Step::rows("FTS update", format!("UPDATE {name} SET body = '{body}' WHERE rowid % 60 = {row}"))
        }
        3 | 4 if own_content => {
            Step::rows("FTS delete", format!("DELETE FROM {name} WHERE rowid % 60 = {row}"))
        }
        3 if table.sql.contains("contentless_delete") => {
            Step::rows("FTS delete", format!("DELETE FROM {name} WHERE rowid = {row}"))
        }
        5 => {
            let count = context.random.weighted(&[(3, 30), (1, 400)]);
            let sql = format!(
                "INSERT INTO {name}(title, body) WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT {count}) \
                 SELECT '{title} ' || i, '{body} ' || (i * {row}) FROM s"
            );
            Step::rows("FTS insert many", sql)
        }
        6 | 7 if table.sql.contains("content='document'") => {
            // External content: the application keeps the index itself.
            let statements = vec![
                format!(
                    "INSERT INTO \"document\"(id, title, body) VALUES((SELECT coalesce(max(id), 0) + 1 FROM \"document\"), '{title}', '{body}')"
                ),
                format!(
                    "INSERT INTO {name}(rowid, title, body) SELECT id, title, body FROM \"document\" ORDER BY id DESC LIMIT 1"
                ),
            ];
            Step::several("FTS external insert", statements, false)
        }
        _ => Step::rows("FTS insert", format!("INSERT INTO {name}(title, body) VALUES('{title}', '{body}')")),
    }
}

fn special(context: &mut Context<'_>, table: &ModelTable) -> Step {
    let (name, column) = (table.quoted(), quoted(&table.name));
    let (feature, command) = context.random.weighted(&[
        (3, ("FTS optimize", "'optimize'")),
        (2, ("FTS rebuild", "'rebuild'")),
        (1, ("FTS delete-all", "'delete-all'")),
        (1, ("FTS integrity-check", "'integrity-check'")),
        (2, ("FTS merge", "'merge', 8")),
        (1, ("FTS automerge", "'automerge', 4")),
        (1, ("FTS pgsz", "'pgsz', 64")),
    ]);
    let has_content = !table.sql.contains("content=''");
    let fits = match feature {
        "FTS rebuild" => has_content,
        "FTS delete-all" => table.sql.contains("content="),
        // An external index may be behind its content, which this command would report.
        "FTS integrity-check" => !table.sql.contains("content="),
        _ => true,
    };
    let (feature, command) = if fits { (feature, command) } else { ("FTS optimize", "'optimize'") };
    let columns = if command.contains(',') { format!("{column}, rank") } else { column };
    Step::rows(feature, format!("INSERT INTO {name}({columns}) VALUES({command})"))
}

fn boxes(context: &mut Context<'_>, table: &ModelTable) -> Step {
    let name = table.quoted();
    let flat = !table.columns.iter().any(|column| column.name == "y0");
    let (x, id) = (context.random.below(1000), context.random.below(400));
    let rest = if flat { "" } else { ", 1, 2" };
    let columns = if flat { "x0, x1" } else { "x0, x1, y0, y1" };
    match context.random.below(10) {
        0 | 1 => Step::rows("R-Tree delete", format!("DELETE FROM {name} WHERE id % 20 = {}", id % 20)),
        2 | 3 => Step::rows(
            "R-Tree update",
            format!("UPDATE {name} SET x0 = x0 - 1, x1 = x1 + 1 WHERE id % 20 = {}", id % 20),
        ),
        4 => {
            let count = context.random.weighted(&[(3, 30), (1, 300)]);
            let sql = format!(
                "INSERT INTO {name}({columns}) WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT {count}) \
                 SELECT i, i + {x}{rest} FROM s"
            );
            Step::rows("R-Tree insert many", sql)
        }
        5 => Step::rows(
            "R-Tree replace",
            format!("REPLACE INTO {name}(id, {columns}) VALUES({id}, {x}, {x}{rest})"),
        ),
        _ => {
            Step::rows("R-Tree insert", format!("INSERT INTO {name}({columns}) VALUES({x}, {}{rest})", x + 5))
        }
    }
}
