//! What the grammars know of the database: read from it again whenever it may have changed, so that rolled-back and failed schema
//! changes need no bookkeeping.

use synddb_sqlite::connection::quoted;

use super::random::Random;
use super::setup::Local;
use super::values::{Class, Ground, any, of_class};

/// What a statement came to.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    /// SQLite's message, when it failed.
    pub(super) error: Option<String>,
    /// Whether a transaction is open after it.
    pub(super) in_transaction: bool,
}

/// A connection of the application, in this process or in another.
pub(super) trait Writer {
    /// Runs statements that return nothing of interest.
    fn run(&mut self, sql: &str) -> Outcome;
    /// Runs one query and returns every value as text.
    fn query(&mut self, sql: &str) -> Vec<Vec<String>>;
    /// Kills the process of the connection, if it is not this one. Whatever is open is lost.
    fn kill(&mut self) {}
    /// The connection, if it is this process's.
    fn local(&self) -> Option<&Local> {
        None
    }
}

#[derive(Debug, Clone)]
pub(super) struct ModelColumn {
    pub(super) name: String,
    pub(super) declared: String,
    pub(super) not_null: bool,
    pub(super) in_key: bool,
    /// Nonzero for generated columns and for hidden columns of virtual tables.
    pub(super) hidden: bool,
    /// The table and column that a foreign key refers to.
    pub(super) refers_to: Option<(String, String)>,
}

#[derive(Debug, Clone)]
pub(super) struct ModelTable {
    pub(super) name: String,
    pub(super) sql: String,
    pub(super) columns: Vec<ModelColumn>,
}

/// An index, view or trigger.
#[derive(Debug, Clone)]
pub(super) struct ModelObject {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) table: String,
    pub(super) sql: String,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    tables: Vec<ModelTable>,
    pub(super) objects: Vec<ModelObject>,
}

impl Model {
    pub(super) fn read(writer: &mut dyn Writer) -> Self {
        let mut model = Self::default();
        let columns = "SELECT m.name, m.sql, x.name, x.type, x.\"notnull\", x.pk, x.hidden \
                       FROM sqlite_schema m, pragma_table_xinfo(m.name) x \
                       WHERE m.type = 'table' AND substr(m.name, 1, 7) <> 'sqlite_' ORDER BY m.rowid, x.cid";
        for row in writer.query(columns) {
            if model.tables.last().is_none_or(|table| table.name != row[0]) {
                let (name, sql) = (row[0].clone(), row[1].clone());
                model.tables.push(ModelTable { name, sql, columns: Vec::new() });
            }
            model.tables.last_mut().unwrap().columns.push(ModelColumn {
                name: row[2].clone(),
                declared: row[3].to_ascii_uppercase(),
                not_null: row[4] != "0",
                in_key: row[5] != "0",
                hidden: row[6] != "0",
                refers_to: None,
            });
        }
        let keys = "SELECT m.name, f.\"from\", f.\"table\", f.\"to\" \
                    FROM sqlite_schema m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table'";
        for row in writer.query(keys) {
            let table = model.tables.iter_mut().find(|table| table.name == row[0]);
            let column =
                table.and_then(|table| table.columns.iter_mut().find(|column| column.name == row[1]));
            if let Some(column) = column {
                column.refers_to = Some((row[2].clone(), row[3].clone()));
            }
        }
        let objects =
            "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE type <> 'table' AND sql IS NOT NULL";
        for row in writer.query(objects) {
            let [kind, name, table, sql] = <[String; 4]>::try_from(row).unwrap();
            model.objects.push(ModelObject { kind, name, table, sql });
        }
        model
    }

    /// Tables that applications write as they like: no virtual ones, and none that belongs to one.
    pub(super) fn plain(&self) -> Vec<&ModelTable> {
        let shadow = |table: &ModelTable| {
            let owner = |owner: &&ModelTable| table.name.starts_with(&format!("{}_", owner.name));
            self.tables.iter().filter(|table| table.module().is_some()).any(|table| owner(&table))
        };
        self.tables.iter().filter(|table| table.module().is_none() && !shadow(table)).collect()
    }

    /// Virtual tables of this module.
    pub(super) fn of_module(&self, module: &str) -> Vec<&ModelTable> {
        self.tables
            .iter()
            .filter(|table| table.module().is_some_and(|name| name.starts_with(module)))
            .collect()
    }

    /// Objects of this kind.
    pub(super) fn of_kind(&self, kind: &str) -> Vec<&ModelObject> {
        self.objects.iter().filter(|object| object.kind == kind).collect()
    }

    /// Views and triggers that name this table or view, in an order in which they can be dropped.
    pub(super) fn dependents(&self, name: &str) -> Vec<&ModelObject> {
        let named = quoted(name);
        let uses = |object: &&ModelObject| object.name != name && object.sql.contains(&named);
        let mut found: Vec<_> = self.of_kind("trigger").into_iter().filter(uses).collect();
        found.extend(self.of_kind("view").into_iter().filter(uses));
        found
    }
}

impl ModelTable {
    pub(super) fn module(&self) -> Option<&str> {
        self.sql.starts_with("CREATE VIRTUAL").then(|| {
            let using = self.sql.find(" USING ").map_or(0, |at| at + 7);
            self.sql[using..].split('(').next().unwrap_or_default().trim()
        })
    }

    pub(super) fn quoted(&self) -> String {
        quoted(&self.name)
    }

    pub(super) fn without_rowid(&self) -> bool {
        self.sql.contains("WITHOUT ROWID")
    }

    pub(super) fn strict(&self) -> bool {
        self.sql.contains("STRICT")
    }

    /// Tables that triggers of many others write: they stay, so that most statements work.
    pub(super) fn is_protected(&self) -> bool {
        self.name.starts_with("audit")
            || self.name.starts_with("parent")
            || self.name == "recursive"
            || self.name.starts_with("document")
    }

    /// Columns that a statement may give values for.
    pub(super) fn writable(&self) -> Vec<&ModelColumn> {
        self.columns.iter().filter(|column| !column.hidden).collect()
    }

    /// The column that is the rowid, or is likely to be.
    pub(super) fn integer_key(&self) -> Option<&ModelColumn> {
        let mut keys = self.columns.iter().filter(|column| column.in_key);
        let first = keys.next()?;
        (keys.next().is_none() && first.declared == "INTEGER" && !self.without_rowid()).then_some(first)
    }

    /// A condition that some of the rows meet.
    pub(super) fn condition(&self, random: &mut Random) -> String {
        let name = self.quoted();
        if self.without_rowid() || random.percent(25) {
            let keys: Vec<&ModelColumn> = self.columns.iter().filter(|column| column.in_key).collect();
            let column = match keys.first() {
                Some(key) if random.percent(80) => quoted(&key.name),
                _ => quoted(&random.pick(&self.columns).name),
            };
            let (count, skip) = (random.range(1, 12), random.below(60));
            return format!("{column} IN (SELECT {column} FROM {name} LIMIT {count} OFFSET {skip})");
        }
        match random.below(6) {
            0 => format!("rowid % {} = {}", random.range(2, 40), random.below(3)),
            1 => {
                let first = random.below(3000);
                format!("rowid BETWEEN {first} AND {}", first + random.below(400))
            }
            2 => format!("rowid > (SELECT max(rowid) - {} FROM {name})", random.below(30)),
            3 => format!("rowid < (SELECT min(rowid) + {} FROM {name})", random.below(30)),
            _ => {
                let skip = random.below(80);
                format!("rowid = (SELECT rowid FROM {name} LIMIT 1 OFFSET {skip})")
            }
        }
    }
}

impl ModelColumn {
    pub(super) fn quoted(&self) -> String {
        quoted(&self.name)
    }

    /// Whether another row must not hold the same value. The grammar of schemas names such columns so.
    pub(super) fn is_unique(&self) -> bool {
        self.name.starts_with('u') || self.in_key
    }

    /// The class that a strict table asks for, or that the type suggests.
    pub(super) fn class(&self) -> Option<Class> {
        match self.declared.as_str() {
            "INT" | "INTEGER" => Some(Class::Integer),
            "REAL" => Some(Class::Real),
            "TEXT" => Some(Class::Text),
            "BLOB" => Some(Class::Blob),
            _ => None,
        }
    }

    /// A value for the column, most often one that is accepted.
    pub(super) fn value(&self, random: &mut Random, ground: Ground, table: &ModelTable) -> String {
        if let Some((parent, column)) = &self.refers_to {
            let column = if column.is_empty() { "rowid".to_owned() } else { quoted(column) };
            let skip = random.below(30);
            return format!("(SELECT {column} FROM {} ORDER BY 1 LIMIT 1 OFFSET {skip})", quoted(parent));
        }
        if self.is_unique() {
            return self.distinct(random, ground, table);
        }
        if !self.not_null && random.percent(8) {
            return "NULL".to_owned();
        }
        let value = match self.class() {
            Some(class) if table.strict() || random.percent(70) => of_class(random, ground, class),
            _ => any(random, ground),
        };
        if self.not_null && value == "NULL" { "0".to_owned() } else { value }
    }

    fn distinct(&self, random: &mut Random, ground: Ground, table: &ModelTable) -> String {
        let number = if random.percent(70) { random.below(1_000_000) } else { random.below(300) };
        if !self.not_null && !self.in_key && random.percent(10) {
            return "NULL".to_owned();
        }
        match self.class() {
            Some(Class::Integer) if table.integer_key().is_some_and(|key| key.name == self.name) => {
                match random.below(20) {
                    0..=9 => "NULL".to_owned(),
                    10 => format!("-{number}"),
                    _ => number.to_string(),
                }
            }
            Some(Class::Integer) => number.to_string(),
            Some(Class::Real) => format!("{number}.5"),
            Some(Class::Blob) => format!("CAST('{number}' AS BLOB)"),
            _ if self.in_key && !self.not_null && !table.without_rowid() && random.percent(12) => {
                "NULL".to_owned()
            }
            Some(Class::Text) if random.percent(10) => {
                let length = super::values::length(random, ground).min(2000);
                format!("printf('%.*c{number}', {length}, 'k')")
            }
            Some(Class::Text) => format!("'{}{number}'", random.pick(&["k", "K", "key "])),
            _ if random.percent(50) => format!("'K{number}'"),
            _ => number.to_string(),
        }
    }

    /// The same as a function of the row number `i`, for statements that write many rows.
    pub(super) fn series(&self, random: &mut Random, table: &ModelTable) -> String {
        if self.refers_to.is_some() {
            return "NULL".to_owned();
        }
        let base = random.below(1_000_000) * 1000;
        if self.is_unique() {
            return match self.class() {
                Some(Class::Integer) if table.integer_key().is_some() && self.in_key => "NULL".to_owned(),
                Some(Class::Text) => format!("'s' || ({base} + i * 7 % 1000003)"),
                Some(Class::Real) => format!("({base} + i) * 0.5"),
                Some(Class::Blob) => format!("CAST({base} + i AS BLOB)"),
                _ => format!("{base} + i"),
            };
        }
        let width = random.weighted(&[(6, 3), (4, 12), (2, 40), (1, 300)]);
        match self.class() {
            Some(Class::Integer) => format!("i * {}", random.range(1, 100_000)),
            Some(Class::Real) => format!("i / {}.0", random.range(1, 9)),
            Some(Class::Text) => format!("printf('%0*d', {width}, i)"),
            Some(Class::Blob) => format!("zeroblob(i % {width})"),
            _ if table.strict() => "i".to_owned(),
            _ => format!("CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN i WHEN 2 THEN i * 0.5 WHEN 3 THEN zeroblob(i % {width}) ELSE 't' || i END"),
        }
        .replace("NULL", if self.not_null { "''" } else { "NULL" })
    }
}
