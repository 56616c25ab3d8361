//! Grammar of row changes.

use synddb_sqlite::connection::quoted;

use super::model::{ModelColumn, ModelTable};
use super::steps::{Action, Context, Step};
use super::values::Class;

/// A table to change rows of.
fn table(context: &mut Context<'_>) -> Option<ModelTable> {
    let tables = context.model.plain();
    if tables.is_empty() { None } else { Some((*context.random.pick(&tables)).clone()) }
}

fn names(columns: &[&ModelColumn]) -> String {
    columns.iter().map(|column| column.quoted()).collect::<Vec<_>>().join(", ")
}

fn row(context: &mut Context<'_>, table: &ModelTable, columns: &[&ModelColumn]) -> String {
    let values: Vec<String> =
        columns.iter().map(|column| column.value(context.random, context.ground, table)).collect();
    format!("({})", values.join(", "))
}

fn insert_as(context: &mut Context<'_>, verb: &str, tail: &str, table: &ModelTable) -> String {
    let mut columns = table.writable();
    // Columns that are left out get their defaults.
    if context.random.percent(30) {
        let random = &mut *context.random;
        columns.retain(|column| column.in_key || column.not_null || random.percent(70));
    }
    if columns.is_empty() {
        columns = table.writable();
    }
    let rows: Vec<String> = (0..context.random.weighted(&[(5, 1), (3, 3), (1, 12)]))
        .map(|_| row(context, table, &columns))
        .collect();
    format!("{verb} INTO {}({}) VALUES {} {tail}", table.quoted(), names(&columns), rows.join(", "))
}

pub(super) fn insert(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context)?;
    let (feature, verb) = context.random.weighted(&[
        (12, ("INSERT", "INSERT")),
        (2, ("INSERT OR IGNORE", "INSERT OR IGNORE")),
        (1, ("INSERT OR FAIL", "INSERT OR FAIL")),
        (1, ("INSERT OR ROLLBACK", "INSERT OR ROLLBACK")),
    ]);
    Some(Step::rows(feature, insert_as(context, verb, "", &table)))
}

pub(super) fn replace(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context)?;
    let columns = table.writable();
    let (names, condition) = (names(&columns), table.condition(context.random));
    if context.random.percent(50) {
        return Some(Step::rows("REPLACE", insert_as(context, "REPLACE", "", &table)));
    }
    // Rows that are there already, written again with their own keys.
    let values: Vec<String> = columns
        .iter()
        .map(|column| {
            let keep = column.is_unique() || context.random.percent(50);
            if keep { column.quoted() } else { column.value(context.random, context.ground, &table) }
        })
        .collect();
    let name = table.quoted();
    let sql = format!(
        "REPLACE INTO {name}({names}) SELECT {} FROM {name} WHERE {condition} LIMIT 50",
        values.join(", ")
    );
    Some(Step::rows("REPLACE of rows", sql))
}

pub(super) fn upsert(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context)?;
    let set = context.random.pick(&table.writable()).quoted();
    let tail = match context.random.below(3) {
        0 => "ON CONFLICT DO NOTHING".to_owned(),
        _ => format!("ON CONFLICT DO UPDATE SET {set} = excluded.{set}"),
    };
    Some(Step::rows("UPSERT", insert_as(context, "INSERT", &tail, &table)))
}

/// Rows of which the last is there already, so that SQLite takes the first ones back, or keeps them, as the statement says.
pub(super) fn conflict(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context)?;
    let columns = table.writable();
    columns.iter().find(|column| column.is_unique())?;
    let fresh: Vec<String> = columns.iter().map(|column| column.series(context.random, &table)).collect();
    let (name, names) = (table.quoted(), names(&columns));
    let verb = context.random.weighted(&[(3, "INSERT"), (2, "INSERT OR FAIL"), (1, "INSERT OR ROLLBACK")]);
    let count = context.random.range(1, 60);
    let sql = format!(
        "{verb} INTO {name}({names}) WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT {count}) \
         SELECT {} FROM s UNION ALL SELECT * FROM (SELECT {names} FROM {name} LIMIT 1)",
        fresh.join(", ")
    );
    Some(Step::rows("conflict on the last row", sql))
}

pub(super) fn insert_default(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context)?;
    let bare = !table.without_rowid() && table.columns.iter().all(|column| !column.not_null);
    bare.then(|| {
        Step::rows("INSERT DEFAULT VALUES", format!("INSERT INTO {} DEFAULT VALUES", table.quoted()))
    })
}

pub(super) fn insert_series(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context)?;
    let columns = table.writable();
    // Wide tables and audit rows stay small, so that a run does.
    let most = if columns.len() > 20 || table.is_protected() { 60 } else { 3000 };
    let count = context.random.weighted(&[(6, 50), (4, 300), (1, 3000)]).min(most);
    let values: Vec<String> = columns.iter().map(|column| column.series(context.random, &table)).collect();
    let verb = context.random.pick(&["INSERT", "INSERT OR IGNORE", "INSERT OR REPLACE"]);
    let sql = format!(
        "{verb} INTO {}({}) WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT {count}) SELECT {} FROM s",
        table.quoted(),
        names(&columns),
        values.join(", ")
    );
    Some(Step::rows(if count >= 1000 { "INSERT thousands" } else { "INSERT series" }, sql))
}

/// More bytes of rows than one piece of a commit holds, or the end of such rows.
pub(super) fn insert_or_delete_huge(context: &mut Context<'_>) -> Option<Step> {
    let tables = context.model.plain();
    let fits = |table: &&&ModelTable| {
        !table.without_rowid()
            && !table.strict()
            && table.columns.len() < 10
            && table.columns.iter().all(|column| !column.hidden)
    };
    let table = tables.iter().find(fits)?;
    let columns = table.writable();
    let wide = columns.iter().find(|column| !column.is_unique() && column.refers_to.is_none())?;
    let name = table.quoted();
    if context.random.percent(60) {
        return Some(Step::rows(
            "DELETE huge",
            format!("DELETE FROM {name} WHERE length({}) > 99000", wide.quoted()),
        ));
    }
    let values: Vec<String> = columns
        .iter()
        .map(|column| {
            if column.name == wide.name {
                "zeroblob(100000 + i)".to_owned()
            } else {
                column.series(context.random, table)
            }
        })
        .collect();
    let sql = format!(
        "INSERT OR IGNORE INTO {name}({}) WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 50) SELECT {} FROM s",
        names(&columns),
        values.join(", ")
    );
    Some(Step::rows("INSERT huge", sql))
}

pub(super) fn double(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context)?;
    let mut columns = table.writable();
    let mut values: Vec<String> = Vec::new();
    columns.retain(|column| table.integer_key().is_none_or(|key| key.name != column.name));
    let suffix = context.random.below(1_000_000);
    for column in &columns {
        let name = column.quoted();
        values.push(match column.class() {
            Some(Class::Integer) if column.is_unique() => format!("abs({name} % 1000000) + {suffix}000"),
            Some(Class::Blob) if column.is_unique() => format!("CAST({name} || '{suffix}' AS BLOB)"),
            _ if column.is_unique() => format!("{name} || '+{suffix}'"),
            _ => name,
        });
    }
    let name = table.quoted();
    let verb = context.random.pick(&["INSERT", "INSERT OR IGNORE"]);
    let sql =
        format!("{verb} INTO {name}({}) SELECT {} FROM {name} LIMIT 250", names(&columns), values.join(", "));
    (!columns.is_empty()).then(|| Step::rows("INSERT SELECT doubling", sql))
}

/// A new value for a column, given or computed.
fn assigned(context: &mut Context<'_>, table: &ModelTable, column: &ModelColumn) -> String {
    let name = column.quoted();
    if context.random.percent(60) || column.refers_to.is_some() || column.in_key {
        return column.value(context.random, context.ground, table);
    }
    match column.class() {
        Some(Class::Integer) if table.strict() => format!("abs({name} % 1000) + 1"),
        Some(Class::Real) if table.strict() => format!("{name} * 0.5"),
        Some(Class::Blob) if table.strict() => format!("CAST(substr({name}, 2) AS BLOB)"),
        Some(Class::Text) | None => context
            .random
            .pick(&[
                format!("substr({name} || 'x', 1, 5000)"),
                format!("substr({name}, 2)"),
                format!("upper({name})"),
            ])
            .clone(),
        _ => context
            .random
            .pick(&[format!("-({name})"), format!("{name} + 1"), format!("{name} * 0.5")])
            .clone(),
    }
}

pub(super) fn update(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context)?;
    let mut columns = table.writable();
    columns.retain(|column| !column.is_unique());
    if columns.is_empty() {
        return None;
    }
    let column = (*context.random.pick(&columns)).clone();
    let mut set = format!("{} = {}", column.quoted(), assigned(context, &table, &column));
    let second = (*context.random.pick(&columns)).clone();
    if second.name != column.name && context.random.percent(40) {
        set.push_str(&format!(", {} = {}", second.quoted(), assigned(context, &table, &second)));
    }
    let condition = table.condition(context.random);
    let (feature, verb) = context.random.weighted(&[
        (8, ("UPDATE", "UPDATE")),
        (1, ("UPDATE OR REPLACE", "UPDATE OR REPLACE")),
        (1, ("UPDATE OR IGNORE", "UPDATE OR IGNORE")),
    ]);
    Some(Step::rows(feature, format!("{verb} {} SET {set} WHERE {condition}", table.quoted())))
}

/// Rows changed by what other rows hold.
pub(super) fn update_from(context: &mut Context<'_>) -> Option<Step> {
    let (table, from) = (table(context)?, table(context)?);
    let mut columns = table.writable();
    columns.retain(|column| !column.is_unique() && column.refers_to.is_none());
    let (name, column) = (table.quoted(), columns.first()?.quoted());
    let (source, value) = (from.quoted(), context.random.pick(&from.columns).quoted());
    let condition = table.condition(context.random);
    let sql = format!(
        "UPDATE OR IGNORE {name} SET {column} = coalesce(f.v, {column}) FROM (SELECT {value} AS v FROM {source} LIMIT 1) AS f \
         WHERE {condition}"
    );
    Some(Step::rows("UPDATE FROM", sql))
}

/// Tables and triggers of one connection only, which nobody else may see, and that write a table that everybody sees.
pub(super) fn temporary(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context).filter(|table| !table.without_rowid())?;
    let name = table.quoted();
    let condition = table.condition(context.random);
    let statements = vec![
        "CREATE TEMP TABLE IF NOT EXISTS \"seen for now\"(r)".to_owned(),
        format!(
            "CREATE TEMP TRIGGER \"trigger for now\" AFTER DELETE ON main.{name} BEGIN \
             INSERT INTO \"seen for now\" VALUES(old.rowid); INSERT INTO \"audit\"(what, n) VALUES('temporary', old.rowid); END"
        ),
        format!("DELETE FROM {name} WHERE {condition}"),
        "DROP TRIGGER temp.\"trigger for now\"".to_owned(),
        "DELETE FROM \"seen for now\"".to_owned(),
    ];
    Some(Step::several("TEMP table and trigger", statements, false))
}

pub(super) fn update_all(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context)?;
    let columns: Vec<_> = table.writable().into_iter().filter(|column| !column.is_unique()).collect();
    let column = columns.first()?.quoted();
    // A value written over itself dirties pages without changing a row.
    let value =
        if context.random.percent(40) { column.clone() } else { format!("substr({column} || 'z', 1, 300)") };
    let feature = if value == column { "UPDATE to the same" } else { "UPDATE all" };
    Some(Step::rows(feature, format!("UPDATE OR IGNORE {} SET {column} = {value}", table.quoted())))
}

pub(super) fn update_key(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context)?;
    let keys: Vec<&ModelColumn> = table.columns.iter().filter(|column| column.in_key).collect();
    let key = (*keys.first()?).clone();
    let (name, condition) = (key.quoted(), table.condition(context.random));
    let shift = context.random.range(1, 1_000_000);
    let value = match key.class() {
        Some(Class::Integer) => context
            .random
            .pick(&[format!("{name} + {shift}"), format!("-{name}"), format!("{name} * 3 + {shift}")])
            .clone(),
        Some(Class::Text) => context
            .random
            .pick(&[format!("{name} || '{shift}'"), format!("upper({name})"), format!("{name} || ' '")])
            .clone(),
        Some(Class::Blob) => format!("CAST({name} || x'01' AS BLOB)"),
        _ => format!("{name} || '~{shift}'"),
    };
    let verb = context.random.pick(&["UPDATE", "UPDATE OR REPLACE", "UPDATE OR IGNORE"]);
    Some(Step::rows(
        "UPDATE of key",
        format!("{verb} {} SET {name} = {value} WHERE {condition}", table.quoted()),
    ))
}

pub(super) fn update_rowid(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context).filter(|table| !table.without_rowid())?;
    let condition = table.condition(context.random);
    let value = match context.random.below(4) {
        0 => "-rowid".to_owned(),
        1 => format!("rowid + {}", context.random.range(10_000, 10_000_000_000)),
        _ => format!("rowid * 2 + {}", context.random.below(100_000)),
    };
    let verb = context.random.pick(&["UPDATE", "UPDATE OR REPLACE"]);
    Some(Step::rows(
        "UPDATE of rowid",
        format!("{verb} {} SET rowid = {value} WHERE {condition}", table.quoted()),
    ))
}

pub(super) fn swap_keys(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context)?;
    let (name, key) = (
        table.quoted(),
        match table.integer_key() {
            Some(key) => key.quoted(),
            None if !table.without_rowid() => "rowid".to_owned(),
            None => table.columns.iter().find(|column| column.in_key)?.quoted(),
        },
    );
    let at = |skip: u64| format!("(SELECT {key} FROM {name} ORDER BY {key} LIMIT 1 OFFSET {skip})");
    let (one, two) = (context.random.below(10), context.random.range(10, 40));
    // The smallest key of all stands in for the one that moves first.
    let aside = if table.integer_key().is_some() || key == "rowid" { "-9000000000000000000" } else { "''" };
    let largest = format!("(SELECT max({key}) FROM {name})");
    let statements = vec![
        format!("UPDATE {name} SET {key} = {aside} WHERE {key} = {}", at(one)),
        format!(
            "UPDATE {name} SET {key} = {largest} || '9' WHERE {key} = {} AND typeof({key}) = 'text'",
            at(two)
        ),
        format!("UPDATE OR IGNORE {name} SET {key} = {} WHERE {key} = {aside}", at(two)),
    ];
    let exact = vec![
        "DROP TABLE IF EXISTS temp.swapped".to_owned(),
        format!("CREATE TEMP TABLE swapped AS SELECT {} AS one, {} AS two", at(one), at(two)),
        format!("UPDATE {name} SET {key} = {aside} WHERE {key} = (SELECT one FROM temp.swapped)"),
        format!(
            "UPDATE {name} SET {key} = (SELECT one FROM temp.swapped) WHERE {key} = (SELECT two FROM temp.swapped)"
        ),
        format!("UPDATE {name} SET {key} = (SELECT two FROM temp.swapped) WHERE {key} = {aside}"),
        "DROP TABLE temp.swapped".to_owned(),
    ];
    let statements = if context.random.percent(70) { exact } else { statements };
    Some(Step::several("swap of keys", statements, false))
}

pub(super) fn delete(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context)?;
    let condition = table.condition(context.random);
    Some(Step::rows("DELETE", format!("DELETE FROM {} WHERE {condition}", table.quoted())))
}

pub(super) fn delete_all(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context).filter(|table| table.name != "parent")?;
    let name = table.quoted();
    if context.random.percent(50) {
        let keys: Vec<String> =
            table.columns.iter().filter(|column| column.in_key).map(ModelColumn::quoted).collect();
        let by = if keys.is_empty() { "rowid".to_owned() } else { keys.join(", ") };
        let sql = format!(
            "DELETE FROM {name} WHERE ({by}) IN (SELECT {by} FROM {name} LIMIT (SELECT count(*) * 9 / 10 FROM {name}))"
        );
        return Some(Step::rows("DELETE most", sql));
    }
    Some(Step::rows("DELETE all", format!("DELETE FROM {name}")))
}

pub(super) fn write_blob(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context).filter(|table| !table.without_rowid())?;
    let columns: Vec<_> = table.writable().into_iter().filter(|column| !column.is_unique()).collect();
    if columns.is_empty() {
        return None;
    }
    let column = context.random.pick(&columns);
    let bytes = (0..context.random.range(1, 3000))
        .map(|_| u8::try_from(context.random.below(256)).unwrap())
        .collect();
    let action = Action::Blob { table: table.name.clone(), column: column.name.clone(), bytes };
    Some(Step { feature: "incremental blob", actions: vec![action], ddl: false })
}

pub(super) fn insert_into_view(context: &mut Context<'_>) -> Option<Step> {
    let writable = |name: &str| context.model.of_kind("trigger").iter().any(|trigger| trigger.table == name);
    let views: Vec<_> =
        context.model.of_kind("view").into_iter().filter(|view| writable(&view.name)).collect();
    if views.is_empty() {
        return None;
    }
    let view = quoted(&context.random.pick(&views).name);
    let value = super::values::any(context.random, context.ground);
    Some(Step::rows(
        "INSERT into view",
        format!("INSERT INTO {view}(w, n) VALUES({value}, {})", context.random.below(100)),
    ))
}

pub(super) fn recurse(context: &mut Context<'_>) -> Option<Step> {
    let count = context.random.below(29);
    Some(Step::rows("recursive trigger", format!("INSERT INTO \"recursive\"(n) VALUES({count})")))
}

pub(super) fn change_parent(context: &mut Context<'_>) -> Option<Step> {
    let one = format!("(SELECT id FROM \"parent\" ORDER BY id LIMIT 1 OFFSET {})", context.random.below(12));
    let sql = match context.random.below(5) {
        0 => format!("DELETE FROM \"parent\" WHERE id = {one}"),
        1 => format!(
            "UPDATE \"parent\" SET id = id + {} WHERE id = {one}",
            context.random.range(1000, 100_000)
        ),
        2 => format!("UPDATE \"parent\" SET weight = weight + 1 WHERE id <= {one}"),
        _ => format!(
            "INSERT INTO \"parent\"(label, weight) VALUES('p', {}), ('q', 2)",
            context.random.below(9)
        ),
    };
    Some(Step::rows("parent of foreign keys", sql))
}

pub(super) fn change_sequence(context: &mut Context<'_>) -> Option<Step> {
    context.model.plain().iter().find(|table| table.sql.contains("AUTOINCREMENT"))?;
    let sql = match context.random.below(3) {
        0 => "DELETE FROM sqlite_sequence WHERE rowid % 2 = 0".to_owned(),
        1 => "INSERT INTO sqlite_sequence(name, seq) VALUES('unknown', 5)".to_owned(),
        _ => format!("UPDATE sqlite_sequence SET seq = seq + {}", context.random.below(100)),
    };
    Some(Step::rows("sqlite_sequence", sql))
}

/// Work that is partly undone inside its transaction.
pub(super) fn savepoint(context: &mut Context<'_>) -> Option<Step> {
    let makers = [insert, update, delete, insert_series, replace];
    let mut actions = vec![Action::Sql("SAVEPOINT s".to_owned())];
    for round in 0..context.random.range(1, 3) {
        let maker = context.random.pick(&makers);
        actions.extend(maker(context)?.actions);
        if round == 1 {
            actions.push(Action::Sql("SAVEPOINT inner".to_owned()));
        }
    }
    let back = context.random.percent(70);
    if back {
        actions.push(Action::Sql("ROLLBACK TO s".to_owned()));
        actions.extend(delete(context)?.actions);
    }
    actions.push(Action::Sql("RELEASE s".to_owned()));
    let feature = if back { "ROLLBACK TO savepoint" } else { "savepoint" };
    // A statement that fails with OR ROLLBACK takes the savepoints with it, and the rest of the step fails too.
    actions.retain(|action| !action.to_string().contains("OR ROLLBACK"));
    Some(Step { feature, actions, ddl: false })
}
