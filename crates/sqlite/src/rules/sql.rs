//! Rules in SQL: compiled once for a schema, stepped for each commit that touches their tables.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::ffi;
use synddb_protocol::state::Value;
use synddb_protocol::submission::{ObjectKind, TextEncoding};

use super::difference::spool;
use super::gathered::{Gathered, Set};
use super::guard::{Clock, Columns, Compiling, Over, ROWIDS};
use super::judge::CommitView;
use super::view;
use super::words::has_word;
use super::{Bounds, Finding, RuleText, Why};
use crate::apply::ApplyError;
use crate::connection::{Connection, SqliteError};
use crate::query::Cell;
use crate::schema::{Identity, Layout, to_text};
use crate::state::RunningState;
use crate::statement::Statement;

/// Other names of views, and the tables whose new rows they show.
const ALIASES: [(&str, &str); 2] = [("inbound", "inbound_messages"), ("outbound", "outbound_messages")];

/// Table-valued functions of a rule: they only take JSON apart.
const JSON: [&str; 2] = ["json_each", "json_tree"];

/// Why a rule cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}. rule=`{rule}`")]
pub struct RuleProblem {
    /// The rule.
    pub rule: String,
    /// What is wrong, and how to mend it.
    pub what: String,
}

/// The rules over one database.
pub struct Rules {
    texts: Vec<RuleText>,
    bounds: Bounds,
    /// What they are compiled to, and for which schema.
    compiled: Option<(u64, Vec<Compiled>)>,
    /// By their names: what they read when they were compiled last.
    meant: BTreeMap<String, Meaning>,
    /// Whether that is new since somebody asked.
    is_meant_anew: bool,
    /// Rules that have turned into other ones with the last schema, and into what.
    turned: Vec<(String, String)>,
}

/// What a rule read when it was compiled last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meaning {
    /// Each column by its table and name, in lower case, and how often; `None` where it never compiled.
    pub reads: Option<Vec<(String, String, u32)>>,
    /// Whether it does not compile now.
    pub is_broken: bool,
}

/// One rule for one schema.
struct Compiled {
    /// The places of its tables among those that are watched.
    tables: Vec<usize>,
    /// Whether it looks at what was there before.
    looks_back: bool,
    /// The views of rows that it reads, where it reads nothing else: without a row in them it says the same each time.
    reads: Option<Vec<(usize, Set)>>,
    /// Whether it was seen to answer nothing where there was no row in them.
    is_silent: bool,
    /// What it reads, until that is compared with what it read before.
    columns_read: Columns,
    /// Those of its answer.
    columns: Vec<String>,
    statement: Result<Statement, String>,
}

impl Rules {
    /// These rules. Nothing is compiled yet.
    pub const fn new(texts: Vec<RuleText>, bounds: Bounds) -> Self {
        Self {
            texts,
            bounds,
            compiled: None,
            meant: BTreeMap::new(),
            is_meant_anew: false,
            turned: Vec::new(),
        }
    }

    /// The tables that they look at.
    pub fn tables(&self) -> BTreeSet<String> {
        self.texts.iter().flat_map(|text| text.tables.iter().cloned()).collect()
    }

    /// What they mean, by their names: for the same rules over this state later, or over one that takes its place.
    pub const fn meant(&self) -> &BTreeMap<String, Meaning> {
        &self.meant
    }

    /// Whether what they mean is other than when this was asked last.
    pub const fn take_is_meant_anew(&mut self) -> bool {
        std::mem::replace(&mut self.is_meant_anew, false)
    }

    /// They meant this before.
    pub fn mean(&mut self, meant: BTreeMap<String, Meaning>) {
        self.meant = meant;
    }

    /// Rules that are not what they were before the schema that they were compiled for last. Each is told once.
    pub fn take_turned(&mut self) -> Vec<Finding> {
        let turned = std::mem::take(&mut self.turned).into_iter();
        let finding = |(rule, why)| Finding {
            rule,
            why: Why::Unevaluated(why),
            columns: Vec::new(),
            rows: Vec::new(),
            more: false,
        };
        turned.map(finding).collect()
    }

    /// Other bounds from here on.
    pub const fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// What is wrong with rules over a database that nothing is applied to. What they read there is what they mean from here on.
    ///
    /// # Errors
    /// [`ApplyError`] when the database cannot be read.
    pub fn problems(&mut self, connection: &Connection) -> Result<Vec<RuleProblem>, ApplyError> {
        let state = RunningState::of_schema(connection)?;
        let gathered = Gathered::new(self.tables(), &std::env::temp_dir());
        self.compiled = None;
        let compiled = self.compile(connection, &state, &gathered)?;
        let problems = self.texts.iter().zip(compiled).filter_map(|(text, compiled)| {
            compiled.statement.err().map(|what| RuleProblem { rule: text.name.clone(), what })
        });
        Ok(problems.collect())
    }

    /// Evaluates every rule whose tables the commit touched; where a state takes the place of another one, also what cannot be evaluated at all.
    ///
    /// # Errors
    /// [`ApplyError`] when the machine fails.
    pub fn check(&mut self, view: &CommitView<'_>) -> Result<Vec<Finding>, ApplyError> {
        if self.texts.is_empty() {
            return Ok(Vec::new());
        }
        let schema = {
            let inner = view.gathered.lock();
            // Whatever a schema changes: what a rule reads by a name may be of a table that nobody watches.
            let is_same = self.compiled.as_ref().is_some_and(|(compiled, _)| *compiled == inner.schema());
            if is_same && !view.is_difference() && !inner.tables().iter().any(|table| table.touched) {
                return Ok(Vec::new());
            }
            inner.schema()
        };
        if self.compiled.as_ref().is_none_or(|(compiled, _)| *compiled != schema) {
            // Statements go before the views that they read.
            self.compiled = None;
            let compiled = self.compile(view.connection, view.state, view.gathered)?;
            self.compiled = Some((schema, compiled));
        }
        let mut found = self.take_turned();
        // One that cannot be evaluated any more has said so; any other one is evaluated as well.
        let turned: BTreeSet<String> = found.iter().map(|finding| finding.rule.clone()).collect();
        let Some((_, compiled)) = &mut self.compiled else { return Ok(found) };
        Clock::bound(view.connection, self.bounds, |clock| {
            let rules = self.texts.iter().zip(compiled);
            let is_told = |name: &str, rule: &Compiled| rule.statement.is_err() && turned.contains(name);
            for (text, rule) in rules.filter(|(text, rule)| !is_told(&text.name, rule)) {
                found.extend(rule.evaluate(&text.name, view, self.bounds, clock)?);
            }
            Ok(found)
        })
    }

    /// Compiles all of them, over the tables that the schema has.
    fn compile(
        &mut self,
        connection: &Connection,
        state: &RunningState,
        gathered: &Gathered,
    ) -> Result<Vec<Compiled>, ApplyError> {
        let mut compiling = Compiling::default();
        let mut objects = BTreeSet::new();
        for object in state.objects().iter() {
            let name = to_text(&object.row.name, connection.encoding())?.to_ascii_lowercase();
            match object.row.kind {
                ObjectKind::View => _ = compiling.views.insert(name.clone()),
                ObjectKind::Table if object.is_virtual() => _ = compiling.virtuals.insert(name.clone()),
                ObjectKind::Table | ObjectKind::Index | ObjectKind::Trigger => {}
            }
            if matches!(object.row.kind, ObjectKind::Table | ObjectKind::View) {
                objects.insert(name);
            }
        }
        let mut modules =
            connection.sqlite().prepare("SELECT name FROM pragma_module_list").map_err(SqliteError::from)?;
        let modules = modules.query_map([], |row| row.get::<_, String>(0)).map_err(SqliteError::from)?;
        for module in modules {
            compiling.virtuals.insert(module.map_err(SqliteError::from)?.to_ascii_lowercase());
        }
        for json in JSON {
            compiling.virtuals.remove(json);
        }
        for layout in state.layouts().values() {
            compiling.rowids.extend(not_rowid(layout).map(|why| (layout.name.to_ascii_lowercase(), why)));
        }
        // What each view shows: the table that it is of, and whether it looks back.
        let mut views = BTreeMap::new();
        let tables: Vec<String> = gathered.lock().tables().iter().map(|table| table.name.clone()).collect();
        for (at, table) in tables.iter().enumerate() {
            let layout = state.layouts().values().find(|layout| layout.name.eq_ignore_ascii_case(table));
            let named = Set::ALL.map(|set| (format!("{}{table}", set.prefix()), set));
            let alias = ALIASES.iter().find(|(_, of)| table.eq_ignore_ascii_case(of));
            let alias = alias.map(|(alias, _)| ((*alias).to_owned(), Set::Changed));
            let not_rowid = layout.and_then(not_rowid);
            for (name, set) in named.into_iter().chain(alias) {
                if let Some(why) = not_rowid {
                    compiling.rowids.insert(name.to_ascii_lowercase(), why);
                }
                if let Some(layout) = layout {
                    view::register(connection, &name, gathered, (at, set), layout)?;
                }
                compiling.rows.insert(name.to_ascii_lowercase());
                views.insert(name.to_ascii_lowercase(), (at, set));
            }
        }
        let compiled = self.texts.iter().map(|text| {
            let of = gathered.lock();
            let places: Vec<usize> = text.tables.iter().filter_map(|table| of.find(table)).collect();
            drop(of);
            let missing = text.tables.iter().find(|table| {
                !state.layouts().values().any(|layout| layout.name.eq_ignore_ascii_case(table))
            });
            let mut rule = Compiled {
                tables: places,
                looks_back: false,
                reads: None,
                is_silent: false,
                columns_read: Columns::new(),
                columns: Vec::new(),
                statement: Err(String::new()),
            };
            if let Some(missing) = missing {
                rule.statement =
                    Err(format!("there is no table `{missing}`; is it in `tables` by the name that it has?"));
                return rule;
            }
            compile_one(connection, text, &mut compiling, (&views, &objects), &mut rule);
            rule
        });
        let mut compiled: Vec<Compiled> = compiled.collect();
        for (at, rule) in compiled.iter_mut().enumerate() {
            self.note_meaning(at, rule);
        }
        Ok(compiled)
    }

    /// Compares what a rule reads with what it read for the schema before.
    fn note_meaning(&mut self, at: usize, rule: &mut Compiled) {
        let name = &self.texts[at].name;
        let reads = std::mem::take(&mut rule.columns_read).into_iter();
        let reads: Vec<_> = reads.map(|((table, column), times)| (table, column, times)).collect();
        let before = self.meant.get(name).cloned();
        let (read, was_broken) =
            before.as_ref().map_or((None, true), |before| (before.reads.clone(), before.is_broken));
        let (meaning, turned) = match &rule.statement {
            Ok(_) => {
                let turned = read.and_then(|read| another(&read, &reads));
                (Meaning { reads: Some(reads), is_broken: false }, turned)
            }
            Err(why) => (Meaning { reads: read, is_broken: true }, (!was_broken).then(|| why.clone())),
        };
        self.turned.extend(turned.map(|why| (name.clone(), why)));
        if before.as_ref() != Some(&meaning) {
            self.is_meant_anew = true;
            self.meant.insert(name.clone(), meaning);
        }
    }
}

impl Compiled {
    /// What the rule finds of a commit.
    fn evaluate(
        &mut self,
        name: &str,
        view: &CommitView<'_>,
        bounds: Bounds,
        clock: &Clock,
    ) -> Result<Option<Finding>, ApplyError> {
        let (is_replaced, is_bare) = {
            let inner = view.gathered.lock();
            let tables = || self.tables.iter().map(|at| &inner.tables()[*at]);
            // Of a commit, what touches none of its tables is no news. Whoever looks at a whole state is told what can never be evaluated.
            let is_never = view.is_difference() && self.statement.is_err();
            if !is_never && !tables().any(|table| table.touched) {
                return Ok(None);
            }
            let is_bare = |reads: &Vec<(usize, Set)>| {
                reads.iter().all(|(at, set)| inner.tables()[*at].count(*set) == 0)
            };
            let is_bare = self.reads.as_ref().is_some_and(|reads| !reads.is_empty() && is_bare(reads));
            (tables().any(|table| table.replaced), is_bare)
        };
        let rule = || name.to_owned();
        let only = |why| {
            let (columns, rows) = (Vec::new(), Vec::new());
            Ok(Some(Finding { rule: rule(), why, columns, rows, more: false }))
        };
        let statement = match &mut self.statement {
            Ok(statement) => statement,
            Err(why) => return only(Why::Unevaluated(why.clone())),
        };
        if is_replaced && self.looks_back {
            let why = "a table that it looks back at was dropped or replaced: what it held is not known";
            return only(Why::Unevaluated(why.to_owned()));
        }
        if is_bare && self.is_silent {
            return Ok(None);
        }
        clock.begin(statement);
        let error = match step(statement, bounds, view.connection.encoding()) {
            Ok((rows, _)) if rows.is_empty() => {
                self.is_silent |= is_bare;
                return Ok(None);
            }
            Ok((rows, more)) => {
                let columns = self.columns.clone();
                return Ok(Some(Finding { rule: rule(), why: Why::Rows, columns, rows, more }));
            }
            Err(error) => error,
        };
        if let Some(over) = clock.over().filter(|_| error.primary() == ffi::SQLITE_INTERRUPT) {
            return only(match over {
                Over::Steps => Why::TooManySteps,
                Over::Time => Why::TookTooLong,
            });
        }
        if let Some(error) = view.gathered.lock().take_failure() {
            return Err(spool(&error).into());
        }
        if is_of_rule(&error) {
            return only(Why::Unevaluated(error.message().to_owned()));
        }
        Err(error.into())
    }
}

/// Says in which column what a query reads differs from what it read: a name in it may be another column's now, as where a subquery's own table gets a column
/// of the name of one around it, or a table one of the name of a result.
fn another(before: &[(String, String, u32)], now: &[(String, String, u32)]) -> Option<String> {
    let gone = before.iter().find(|read| !now.contains(read));
    let came = now.iter().find(|read| !before.contains(read));
    let (table, column, _) = gone.or(came)?;
    Some(format!(
        "the schema has changed, and it reads `{table}.{column}` more or less often than before: a name in it may be another column now, or it has a `*`; look what it says, \
         and write columns with their tables"
    ))
}

/// Why `rowid` is not the rowid of this table's rows, where it is not.
fn not_rowid(layout: &Layout) -> Option<&'static str> {
    let named = |name: &str| ROWIDS.iter().any(|rowid| name.eq_ignore_ascii_case(rowid));
    let column = layout.columns.iter().position(|column| named(&column.name));
    match (&layout.identity, column) {
        (Identity::Key { .. }, None) => Some("is WITHOUT ROWID; join it by its key"),
        (Identity::IntegerKey { column: key }, Some(column)) if *key == column => None,
        (_, Some(_)) => Some(
            "has a column of its own that is called as the rowid is; a rule could not tell the two apart",
        ),
        (Identity::Rowid { .. } | Identity::IntegerKey { .. }, None) => None,
    }
}

/// Compiles one rule, and finds out whether it is one.
fn compile_one(
    connection: &Connection,
    text: &RuleText,
    compiling: &mut Compiling,
    (views, objects): (&BTreeMap<String, (usize, Set)>, &BTreeSet<String>),
    rule: &mut Compiled,
) {
    let compiled = compiling.compile(connection, || {
        let prepared = match connection.sqlite().prepare(&text.sql) {
            Ok(prepared) => prepared,
            Err(rusqlite::Error::MultipleStatement) => {
                return Err("it is several statements; make it one query".to_owned());
            }
            Err(error) => return Err(SqliteError::from(error).message().to_owned()),
        };
        if prepared.column_count() == 0 || !prepared.readonly() {
            return Err("it answers no rows; make it a query of which every row is a violation".to_owned());
        }
        if prepared.parameter_count() > 0 {
            return Err("it has parameters, and nobody gives them".to_owned());
        }
        let columns: Vec<String> = prepared.column_names().map(str::to_owned).collect();
        drop(prepared);
        let statement = connection.prepare(&text.sql).map_err(|error| error.message().to_owned())?;
        Ok((columns, statement))
    });
    // Of columns that are joined so SQLite tells nobody.
    let joined = ["NATURAL", "USING"].into_iter().find(|word| has_word(&text.sql, word)).map(|word| {
        format!("it joins by {word}, which means other columns when a table gets one; join by ON, and name columns with their tables")
    });
    let refused = compiling.refused.take().or(joined);
    rule.columns_read = std::mem::take(&mut compiling.columns);
    // A view of rows that has the name of a table of the application's would be that table.
    let shadowed = compiling.read.iter().find(|name| views.contains_key(*name) && objects.contains(*name));
    let shadowed = shadowed.map(|name| format!("the database has a table or view `{name}` of its own, which hides the rows that changed; rename it"));
    let unwatched = compiling.read.iter().find_map(|name| {
        let (at, _) = views.get(name)?;
        (!rule.tables.contains(at))
            .then(|| format!("it reads `{name}`, and the table is not in its `tables`; add it"))
    });
    rule.looks_back = compiling
        .read
        .iter()
        .any(|name| views.get(name).is_some_and(|(_, set)| matches!(set, Set::Removed | Set::Before)));
    let problem = shadowed.or(refused).or(unwatched);
    // What takes JSON apart reads nothing that is not in the query.
    let read = compiling.read.iter().filter(|name| !JSON.contains(&name.as_str()));
    rule.reads = read.map(|name| views.get(name).copied()).collect();
    match (compiled, problem) {
        (_, Some(problem)) | (Err(problem), None) => rule.statement = Err(problem),
        (Ok((columns, statement)), None) => (rule.columns, rule.statement) = (columns, Ok(statement)),
    }
}

/// Runs a rule: the rows of its answer that are kept, and whether there are more.
fn step(
    statement: &mut Statement,
    bounds: Bounds,
    encoding: TextEncoding,
) -> Result<(Vec<Vec<Cell>>, bool), SqliteError> {
    let (mut rows, mut left) = (Vec::new(), bounds.bytes);
    let mut stepping = statement.rows();
    while let Some(row) = stepping.next_row()? {
        let size: usize = row.values().iter().map(size).sum();
        if rows.len() == bounds.rows || size > left {
            // The first one is kept whatever it takes: without it nobody knows what is wrong.
            if rows.is_empty() {
                rows.push(
                    row.values().iter().map(|value| Cell::of(cut(*value, bounds.bytes), encoding)).collect(),
                );
            }
            return Ok((rows, true));
        }
        left -= size;
        rows.push(row.values().iter().map(|value| Cell::of(*value, encoding)).collect());
    }
    Ok((rows, false))
}

const fn size(value: &Value<'_>) -> usize {
    match value {
        Value::Null | Value::Integer(_) | Value::Real(_) => 16,
        Value::Text(bytes) | Value::Blob(bytes) => 16 + bytes.len(),
    }
}

/// The beginning of a value that is too long to be kept.
fn cut(value: Value<'_>, most: usize) -> Value<'_> {
    let most = most / 16;
    match value {
        Value::Text(bytes) if bytes.len() > most => Value::Text(&bytes[..most & !3]),
        Value::Blob(bytes) if bytes.len() > most => Value::Blob(&bytes[..most]),
        Value::Null | Value::Integer(_) | Value::Real(_) | Value::Text(_) | Value::Blob(_) => value,
    }
}

/// Whether the rule or the data that it meets is to blame, and not the machine or the file.
fn is_of_rule(error: &SqliteError) -> bool {
    matches!(
        error.primary(),
        ffi::SQLITE_ERROR
            | ffi::SQLITE_MISMATCH
            | ffi::SQLITE_RANGE
            | ffi::SQLITE_TOOBIG
            | ffi::SQLITE_AUTH
            | ffi::SQLITE_CONSTRAINT
            | ffi::SQLITE_SCHEMA
    )
}
