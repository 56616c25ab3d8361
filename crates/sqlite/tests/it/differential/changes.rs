//! Grammar of schema changes.

use synddb_sqlite::connection::quoted;

use super::model::ModelTable;
use super::schemas::{self, fresh_name};
use super::steps::{Context, Step};

/// Most tables of one database that the grammar makes.
const TABLES_MAX: usize = 22;

/// A table whose shape may change.
fn table(context: &mut Context<'_>) -> Option<ModelTable> {
    let tables: Vec<_> = context.model.plain().into_iter().filter(|table| !table.is_protected()).collect();
    if tables.is_empty() { None } else { Some((*context.random.pick(&tables)).clone()) }
}

/// Statements that drop what would break with the table.
fn drop_dependents(context: &Context<'_>, name: &str) -> Vec<String> {
    let dependents = context.model.dependents(name);
    dependents
        .iter()
        .filter(|object| {
            object.kind == "view"
                || !context.model.dependents(&object.table).is_empty()
                || object.table != name
        })
        .map(|object| format!("DROP {} IF EXISTS {}", object.kind, quoted(&object.name)))
        .collect()
}

pub(super) fn create_table(context: &mut Context<'_>) -> Option<Step> {
    if context.model.plain().len() >= TABLES_MAX {
        return drop_table(context);
    }
    let name = fresh_name(context.random, "");
    let made = schemas::table(context.random, &name, context.model);
    Some(Step::schema(made.feature, made.sql))
}

pub(super) fn create_table_as(context: &mut Context<'_>) -> Option<Step> {
    let from = table(context)?;
    if context.model.plain().len() >= TABLES_MAX {
        return None;
    }
    let name = quoted(&fresh_name(context.random, ""));
    Some(Step::schema(
        "CREATE TABLE AS",
        format!("CREATE TABLE {name} AS SELECT * FROM {} LIMIT 100", from.quoted()),
    ))
}

pub(super) fn drop_table(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context)?;
    let mut statements = drop_dependents(context, &table.name);
    statements.push(format!("DROP TABLE {}", table.quoted()));
    if context.model.plain().len() < 8 {
        let name = fresh_name(context.random, "");
        let made = schemas::table(context.random, &name, context.model);
        statements.push(made.sql);
    }
    Some(Step::several("DROP TABLE", statements, true))
}

pub(super) fn create_or_drop_index(context: &mut Context<'_>) -> Option<Step> {
    let indexes = context.model.of_kind("index");
    if !indexes.is_empty() && context.random.percent(20 + indexes.len() as u64 * 3) {
        let name = quoted(&context.random.pick(&indexes).name);
        return Some(Step::schema("DROP INDEX", format!("DROP INDEX {name}")));
    }
    let table = table(context)?;
    let made = schemas::index(context.random, &table);
    Some(Step::schema(made.feature, made.sql))
}

pub(super) fn create_or_drop_trigger_or_view(context: &mut Context<'_>) -> Option<Step> {
    let (triggers, views) = (context.model.of_kind("trigger"), context.model.of_kind("view"));
    if views.len() > 4 || (!views.is_empty() && context.random.percent(20)) {
        let name = quoted(&context.random.pick(&views).name);
        return Some(Step::schema("DROP VIEW", format!("DROP VIEW {name}")));
    }
    if triggers.len() > 6 || (triggers.len() > 1 && context.random.percent(20)) {
        let name = quoted(&context.random.pick(&triggers).name);
        return Some(Step::schema("DROP TRIGGER", format!("DROP TRIGGER {name}")));
    }
    let table = table(context)?;
    if context.random.percent(50) {
        let made = schemas::trigger(context.random, &table);
        return Some(Step::schema(made.feature, made.sql));
    }
    let made = schemas::view(context.random, &table);
    let feature = made.last()?.feature;
    Some(Step::several(feature, made.into_iter().map(|made| made.sql).collect(), true))
}

pub(super) fn add_column(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context)?;
    let made = schemas::added_column(context.random, &table);
    Some(Step::schema(made.feature, made.sql))
}

pub(super) fn rename_table(context: &mut Context<'_>) -> Option<Step> {
    let virtuals = context.model.of_module("");
    if !virtuals.is_empty() && context.random.percent(20) {
        let name = quoted(&context.random.pick(&virtuals).name);
        let to = quoted(&fresh_name(context.random, "search"));
        return Some(Step::schema("RENAME virtual table", format!("ALTER TABLE {name} RENAME TO {to}")));
    }
    let table = table(context)?;
    let aside = quoted(&fresh_name(context.random, ""));
    let rename = |from: &str, to: &str| format!("ALTER TABLE {from} RENAME TO {to}");
    let upper = table.name.to_ascii_uppercase();
    if upper != table.name && context.random.percent(15) {
        // The same name in other letters, which only the text tells apart. SQLite takes it for taken in one step.
        let statements = vec![rename(&table.quoted(), &aside), rename(&aside, &quoted(&upper))];
        return Some(Step::several("RENAME TABLE to upper case", statements, true));
    }
    Some(Step::schema("RENAME TABLE", rename(&table.quoted(), &aside)))
}

pub(super) fn rename_column(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context)?;
    let column = context.random.pick(&table.columns);
    // The first letter of a name says what values the column takes.
    let first = column.name.chars().next()?;
    let to = quoted(&format!("{first} {}", fresh_name(context.random, "")));
    let sql = format!("ALTER TABLE {} RENAME COLUMN {} TO {to}", table.quoted(), column.quoted());
    Some(Step::schema("RENAME COLUMN", sql))
}

pub(super) fn drop_column(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context)?;
    let free = |name: &str| {
        let objects = context.model.dependents(&table.name).len();
        let uses = |text: &str| text.matches(name).count();
        let indexed = context
            .model
            .of_kind("index")
            .iter()
            .any(|index| index.table == table.name && uses(&index.sql) > 0);
        objects == 0 && !indexed && uses(&table.sql) == 1
    };
    let candidates: Vec<_> =
        table.columns.iter().filter(|column| !column.in_key && free(&column.name)).collect();
    if candidates.is_empty() || table.columns.len() < 3 {
        return None;
    }
    let column = context.random.pick(&candidates).quoted();
    Some(Step::schema("DROP COLUMN", format!("ALTER TABLE {} DROP COLUMN {column}", table.quoted())))
}

/// The migration that SQLite's manual recommends: a new table, the rows, the old name.
pub(super) fn rebuild_table(context: &mut Context<'_>) -> Option<Step> {
    let table = table(context).filter(|table| table.columns.len() < 30)?;
    let columns = table.writable();
    let (old, new) = (table.quoted(), quoted(&format!("{}_new", table.name)));
    let key = columns
        .iter()
        .find(|column| column.in_key)
        .filter(|_| table.columns.iter().filter(|c| c.in_key).count() == 1);
    let parts: Vec<String> = columns
        .iter()
        .map(|column| {
            let primary = key.is_some_and(|key| key.name == column.name);
            let primary = if primary { " PRIMARY KEY" } else { "" };
            format!("{} {}{primary}", column.quoted(), column.declared)
        })
        .collect();
    let names: Vec<String> = columns.iter().map(|column| column.quoted()).collect();
    let names = names.join(", ");
    let extra = if context.random.percent(50) { ", added TEXT DEFAULT 'migrated'" } else { "" };
    let options = if key.is_some() && table.without_rowid() { " WITHOUT ROWID" } else { "" };
    let mut statements = drop_dependents(context, &table.name);
    statements.extend([
        format!("CREATE TABLE {new}({}{extra}){options}", parts.join(", ")),
        format!("INSERT OR IGNORE INTO {new}({names}) SELECT {names} FROM {old}"),
        format!("DROP TABLE {old}"),
        format!("ALTER TABLE {new} RENAME TO {old}"),
    ]);
    Some(Step::several("rebuild and rename", statements, true))
}

pub(super) fn replace_or_swap(context: &mut Context<'_>) -> Option<Step> {
    let one = table(context)?;
    if context.random.percent(50) {
        let mut statements = drop_dependents(context, &one.name);
        statements.push(format!("DROP TABLE {}", one.quoted()));
        let made = schemas::table(context.random, &one.name, context.model);
        statements.push(made.sql);
        if context.random.percent(60) {
            statements.push(format!("INSERT INTO {} DEFAULT VALUES", one.quoted()));
        }
        return Some(Step::several("DROP and CREATE of one name", statements, true));
    }
    let two = table(context).filter(|two| two.name != one.name)?;
    let (one, two) = (one.quoted(), two.quoted());
    let statements = vec![
        format!("ALTER TABLE {one} RENAME TO \"aside of two\""),
        format!("ALTER TABLE {two} RENAME TO {one}"),
        format!("ALTER TABLE \"aside of two\" RENAME TO {two}"),
    ];
    Some(Step::several("swap of names", statements, true))
}
