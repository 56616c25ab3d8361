//! The first row in which two tables differ.
//!
//! The first side cuts its rows into runs, the second one says what it has in the same runs, and the first run that differs is cut again,
//! until its rows are listed. Neither is believed: a run has fewer rows than the one that it is cut from, or it ends here.

use synddb_protocol::contents::{Cut, Found, Key, ListedRow, RUNS_MAX, Rows, RowsQuery, Run, Scalar};
use synddb_protocol::id::Sequence;
use synddb_protocol::submission::TextEncoding;
use synddb_sqlite::compare::{Difference, RowIdentity, Side as Which};
use synddb_sqlite::contents::owned;

use super::found::DifferingRow;
use super::remote::Attempt;
use super::side::Side;
use super::words::in_words;
use crate::output::printable;

/// Most times that rows are cut: each leaves a few hundredths of them.
const ROUNDS_MAX: usize = 12;

/// Two sides that stand at one message.
pub(super) struct Pair<'s> {
    pub(super) one: &'s Side,
    pub(super) other: &'s Side,
    pub(super) at: [Option<Sequence>; 2],
    pub(super) encoding: TextEncoding,
}

/// A difference, in words and for programs.
pub(super) struct Differs {
    pub(super) words: String,
    pub(super) row: Option<DifferingRow>,
}

impl Pair<'_> {
    /// The first row in which a table differs.
    pub(super) async fn first_row(&self, table: &str) -> Result<Differs, Attempt> {
        let mut query = RowsQuery { table: table.to_owned(), after: None, through: None, cut: Cut::Freely };
        let mut before = u64::MAX;
        for _ in 0..ROUNDS_MAX {
            query.cut = Cut::Freely;
            let Rows { columns, key, found } = self.ask(self.one, &query).await?;
            let runs = match found {
                Found::Listed { rows, more: false } => {
                    query.cut = Cut::Listed;
                    let listed = List { columns, key, rows, more: false };
                    return self.first_listed(&query, listed).await;
                }
                Found::Listed { .. } => {
                    return Err(self.one.contradicts("it lists rows and keeps some back").into());
                }
                Found::Runs(runs) => runs,
            };
            let keys = self.keys(&runs, query.through.as_ref())?;
            if keys.is_empty() {
                let table = printable(table);
                let words =
                    format!("table {table}: its rows differ, and their keys are too long to say in which");
                return Ok(Differs { words, row: None });
            }
            query.cut = Cut::At(keys);
            let Found::Runs(others) = self.ask(self.other, &query).await?.found else {
                return Err(self.other.contradicts("it lists rows where it was asked for runs").into());
            };
            let ends = |runs: &[Run]| runs.iter().map(|run| run.through.clone()).collect::<Vec<_>>();
            if ends(&runs) != ends(&others) {
                return Err(self.other.contradicts("it tells of other runs than were asked for").into());
            }
            let differ = runs.iter().zip(&others).position(|(run, other)| run != other);
            let differ = differ.ok_or_else(|| self.contradicts())?;
            if runs[differ].rows >= before {
                return Err(self.one.contradicts("a part has as many rows as the whole").into());
            }
            before = runs[differ].rows;
            if let Some(last) = differ.checked_sub(1) {
                query.after.clone_from(&runs[last].through);
            }
            query.through.clone_from(&runs[differ].through);
        }
        Err(self.one.contradicts("its rows become no fewer").into())
    }

    fn contradicts(&self) -> Attempt {
        self.other.contradicts("what differs as a whole does not differ in its parts").into()
    }

    async fn ask(&self, side: &Side, query: &RowsQuery) -> Result<Rows, Attempt> {
        let told = side.rows(query).await?;
        self.check(told.at.map(|at| at.sequence))?;
        Ok(told.found)
    }

    /// Whether an answer is of the message that both stand at.
    pub(super) fn check(&self, at: Option<Sequence>) -> Result<(), Attempt> {
        if self.at.contains(&at) {
            Ok(())
        } else {
            Err(Attempt::Moved("a replica went on meanwhile".to_owned()))
        }
    }

    /// The keys that runs end at, all but the last.
    fn keys(&self, runs: &[Run], through: Option<&Key>) -> Result<Vec<Key>, Attempt> {
        let refuse = || Attempt::from(self.one.contradicts("its runs do not make up what was asked for"));
        let (last, others) = runs.split_last().ok_or_else(refuse)?;
        if runs.len() > RUNS_MAX || last.through.as_ref() != through {
            return Err(refuse());
        }
        others.iter().map(|run| run.through.clone().ok_or_else(refuse)).collect()
    }

    async fn first_listed(&self, query: &RowsQuery, list: List) -> Result<Differs, Attempt> {
        let Rows { columns, key, found } = self.ask(self.other, query).await?;
        let Found::Listed { rows, more } = found else {
            return Err(self.other.contradicts("it cuts rows that it was asked to list").into());
        };
        let other = List { columns, key, rows, more };
        if !list.is_whole() || !other.is_whole() || list.columns != other.columns || list.key != other.key {
            return Err(self.other.contradicts("its rows have other columns").into());
        }
        let pairs = list.rows.iter().zip(&other.rows);
        let same = pairs.take_while(|(row, other)| row.digest == other.digest).count();
        let only = |list: &List, row, which| self.only(&query.table, list, row, which);
        match (list.rows.get(same), other.rows.get(same)) {
            (None, None) => Err(self.contradicts()),
            (Some(row), None) if !other.more => Ok(only(&list, row, Which::First)),
            (Some(_), None) => Err(self.other.contradicts("it lists fewer rows than it could").into()),
            (None, Some(row)) => Ok(only(&other, row, Which::Second)),
            (Some(row), Some(found)) if list.key_of(row) == other.key_of(found) => {
                self.value(&query.table, &list, row, found).ok_or_else(|| self.contradicts())
            }
            (Some(row), Some(found)) => {
                let has =
                    |list: &List, key: &[Scalar]| list.rows[same..].iter().any(|row| list.key_of(row) == key);
                let (is_further_on, is_more) =
                    (has(&other, &list.key_of(row)), !has(&list, &other.key_of(found)));
                Ok(match is_further_on || (other.more && is_more) {
                    true => only(&other, found, Which::Second),
                    false => only(&list, row, Which::First),
                })
            }
        }
    }

    fn identity(&self, list: &List, row: &ListedRow) -> RowIdentity {
        let columns = list
            .key
            .iter()
            .map(|at| (list.columns[*at].clone(), owned(&row.values[*at].value, self.encoding)));
        RowIdentity { columns: columns.collect(), encoding: self.encoding }
    }

    fn only(&self, table: &str, list: &List, row: &ListedRow, only_in: Which) -> Differs {
        let identity = self.identity(list, row);
        let words = in_words(Difference::Row { table: table.to_owned(), identity, only_in });
        let found = DifferingRow {
            table: table.to_owned(),
            key: list.named_key(row),
            column: None,
            one: None,
            other: None,
            only_in: Some(only_in.to_string()),
        };
        Differs { words, row: Some(found) }
    }

    fn value(&self, table: &str, list: &List, row: &ListedRow, found: &ListedRow) -> Option<Differs> {
        let at = (0..list.columns.len()).find(|at| row.values[*at] != found.values[*at])?;
        let (one, other) = (&row.values[at], &found.values[at]);
        let difference = Difference::Value {
            table: table.to_owned(),
            identity: self.identity(list, row),
            column: list.columns[at].clone(),
            first: owned(&one.value, self.encoding),
            second: owned(&other.value, self.encoding),
        };
        let bytes = [one, other].map(|shown| shown.whole.map(|whole| whole.bytes.to_string()));
        let whole = match bytes {
            [None, None] => String::new(),
            [one, other] => {
                let length = |bytes: Option<String>| bytes.unwrap_or_else(|| "what is shown".to_owned());
                format!("; whole: {} against {} bytes", length(one), length(other))
            }
        };
        let found = DifferingRow {
            table: table.to_owned(),
            key: list.named_key(row),
            column: Some(list.columns[at].clone()),
            one: Some(one.value.clone()),
            other: Some(other.value.clone()),
            only_in: None,
        };
        Some(Differs { words: format!("{}{whole}", in_words(difference)), row: Some(found) })
    }
}

/// Rows that a side listed.
struct List {
    columns: Vec<String>,
    key: Vec<usize>,
    rows: Vec<ListedRow>,
    more: bool,
}

impl List {
    fn is_whole(&self) -> bool {
        !self.key.is_empty()
            && self.key.iter().all(|at| *at < self.columns.len())
            && self.rows.iter().all(|row| row.values.len() == self.columns.len())
    }

    fn key_of(&self, row: &ListedRow) -> Vec<Scalar> {
        self.key.iter().map(|at| row.values[*at].value.clone()).collect()
    }

    fn named_key(&self, row: &ListedRow) -> Vec<(String, Scalar)> {
        self.key.iter().map(|at| (self.columns[*at].clone(), row.values[*at].value.clone())).collect()
    }
}
