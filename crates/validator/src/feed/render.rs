//! Messages as events: schema changes and rows by the names of their columns. Pure.
//!
//! ```text
//! message --open--> Rendering --next--> event, event, ... , done
//! ```
//!
//! What must stay true:
//!
//! - Where an event ends depends on nothing that a later release or another filter does otherwise: its place counts items of the commit, shown or not.
//! - An event has about [`EVENT_BYTES`], and one row at least.
//! - Of a commit in parts, what is held is one part, and one row that is cut between two.
//! - What cannot be read is an error, and never left out.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value as Json, json};
use synddb_protocol::id::{CommitNumber, Incarnation, PartIndex, Sequence, Timestamp};
use synddb_protocol::log::{Entry, VerifiedMessage};
use synddb_protocol::submission::{
    Changes, CommitKind, Content, ObjectKind, SchemaChange, SchemaRow, Snapshot, SnapshotPlace, StateClaim,
    TextEncoding,
};
use synddb_sqlite::changeset::{ChangesetError, Reader, Step, Table};
use synddb_sqlite::schema::{SchemaError, to_text};

use super::history::{At, History};
use super::place::Place;
use super::shape::Shape;

/// An event is closed when it has this many bytes.
const EVENT_BYTES: usize = 128 << 10;
/// Rows that are passed without a pause, in bytes.
const PASSED_BYTES: usize = 1 << 20;
/// Tables that the event of a snapshot names at most.
const TABLES_MAX: usize = 1000;

/// Why a message cannot be shown. The replica applied it, so that it is this file that is wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenderError {
    /// Its rows are no changeset.
    #[error("the rows of a commit cannot be read. commit=`{commit}`")]
    Rows {
        /// The commit.
        commit: CommitNumber,
        /// Why not.
        source: ChangesetError,
    },
    /// Nobody noted how the columns are called.
    #[error("the columns of a table are not known. commit=`{commit}` table=`{table}`")]
    Columns {
        /// The commit.
        commit: CommitNumber,
        /// The table.
        table: String,
    },
    /// A name or text is not in the encoding of the database.
    #[error("a schema change cannot be read. commit=`{commit}`")]
    Schema {
        /// The commit.
        commit: CommitNumber,
        /// Why not.
        source: SchemaError,
    },
}

/// What comes next of a message.
#[derive(Debug)]
pub(crate) enum Next {
    /// An event.
    Event(Event),
    /// Nothing yet; others may work.
    Pause,
    /// Nothing more.
    Done,
}

/// What is shown at a time.
#[derive(Debug)]
pub(crate) struct Event {
    /// What it is.
    pub(crate) name: &'static str,
    /// Up to where everything was shown with it.
    pub(crate) place: Place,
    /// JSON.
    pub(crate) data: Vec<u8>,
}

impl Event {
    /// As `text/event-stream` has it.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let head = format!("event: {}\nid: {}\ndata: ", self.name, self.place);
        [head.as_bytes(), &self.data, b"\n\n"].concat()
    }
}

/// Why a snapshot is where a reader begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Anew {
    /// It begins an incarnation: what is between it and the commit before is not told apart.
    Incarnation,
    /// It closes a gap of this replica.
    Gap,
}

/// One reader's way through messages.
pub(crate) struct Rendering {
    tables: Option<BTreeSet<String>>,
    /// Up to where everything was shown before.
    from: Place,
    /// The next commit of the message, by its place there.
    index: usize,
    commit: Option<Commit>,
}

/// A commit that is being shown.
struct Commit {
    incarnation: Incarnation,
    number: CommitNumber,
    kind: CommitKind,
    /// The message in which it begins, and its time.
    sequence: Sequence,
    timestamp: Timestamp,
    /// Schema changes and rows that were passed.
    items: u64,
    /// How many of them were shown before.
    before: u64,
    /// Whether anything of it was shown.
    is_shown: bool,
    /// Of the message: how many schema changes, and bytes of rows, were passed.
    schema_at: usize,
    rows_at: usize,
    /// Rows of parts that were not passed, where it comes in parts; and how many there have to be before it is worth another try.
    parts: Option<Vec<u8>>,
    enough: usize,
    table: Option<Table>,
}

impl Rendering {
    /// Shows what is behind `from`; of rows and schema changes only those of these tables, if any are named.
    pub(crate) const fn new(from: Place, tables: Option<BTreeSet<String>>) -> Self {
        Self { tables, from, index: 0, commit: None }
    }

    /// What is behind this place is shown, and nothing was yet.
    pub(crate) const fn begin(&mut self, from: Place) {
        self.from = from;
    }

    /// Whether a commit in parts is not whole yet.
    pub(crate) fn is_inside(&self) -> bool {
        self.commit.is_some()
    }

    /// The next message begins.
    pub(crate) fn open(&mut self, message: &VerifiedMessage) {
        self.index = 0;
        let Entry::Submission(submission) = message.entry() else { return };
        let Content::Part(part) = &submission.content else { return };
        match &mut self.commit {
            Some(commit) if part.index != PartIndex::FIRST => {
                let waiting = commit.parts.get_or_insert_default();
                waiting.drain(..commit.rows_at);
                waiting.extend_from_slice(&part.changes.rows);
                (commit.schema_at, commit.rows_at) = (0, 0);
            }
            // A group that was given up is followed by a snapshot.
            commit => *commit = None,
        }
    }

    /// What comes next of this message, which was opened. `anew` where it is a snapshot to begin anew with.
    pub(crate) fn next(
        &mut self,
        message: &VerifiedMessage,
        anew: Option<Anew>,
        history: &History,
    ) -> Result<Next, RenderError> {
        match (message.entry(), anew) {
            (Entry::Snapshot(snapshot), Some(anew)) if self.index == 0 => {
                (self.index, self.commit) = (1, None);
                Ok(Next::Event(begun(message, snapshot, anew, history)))
            }
            (Entry::Submission(submission), _) => {
                self.submission(message, submission.incarnation, &submission.content, history)
            }
            (Entry::Snapshot(_) | Entry::Inbound(_) | Entry::Status(_) | Entry::Epoch(_), _) => {
                Ok(Next::Done)
            }
        }
    }

    fn submission(
        &mut self,
        message: &VerifiedMessage,
        incarnation: Incarnation,
        content: &Content,
        history: &History,
    ) -> Result<Next, RenderError> {
        let sequence = message.header().sequence;
        let (number, kind, changes, claim, is_last) = match content {
            Content::Commits(commits) => {
                let commits = commits.as_slice();
                while self.commit.is_none()
                    && commits.get(self.index).is_some_and(|commit| self.was_shown(sequence, commit.number))
                {
                    self.index += 1;
                }
                let Some(commit) = commits.get(self.index) else { return Ok(Next::Done) };
                (commit.number, commit.kind, &commit.changes, commit.state, true)
            }
            Content::Part(part) => {
                let begins = part.index == PartIndex::FIRST;
                // Who begins in the middle of a commit is shown what follows it.
                if self.index > 0
                    || (self.commit.is_none() && (!begins || self.was_shown(sequence, part.number)))
                {
                    return Ok(Next::Done);
                }
                (part.number, part.kind, &part.changes, part.last, part.last.is_some())
            }
        };
        let before = match self.from {
            Place::Inside(at, commit, items) if (at, commit) == (sequence, number) => items,
            Place::Behind(_) | Place::BehindCommit(..) | Place::Inside(..) => 0,
        };
        let commit = self.commit.get_or_insert_with(|| Commit {
            incarnation,
            number,
            kind,
            sequence,
            timestamp: message.header().timestamp,
            items: 0,
            before,
            is_shown: before > 0,
            schema_at: 0,
            rows_at: 0,
            parts: matches!(content, Content::Part(_)).then(|| changes.rows.clone()),
            enough: 0,
            table: None,
        });
        let shown =
            commit.next(changes, claim, is_last.then_some(sequence), self.tables.as_ref(), history)?;
        let (next, is_passed) = shown;
        if is_passed {
            self.index += 1;
            if is_last {
                self.commit = None;
            }
        }
        // Where nothing of a commit is shown, the next one follows.
        Ok(match next {
            Some(event) => Next::Event(event),
            None => Next::Pause,
        })
    }

    fn was_shown(&self, sequence: Sequence, number: CommitNumber) -> bool {
        match self.from {
            Place::Behind(size) => sequence.get() <= size,
            Place::BehindCommit(at, commit) => sequence < at || (sequence == at && number <= commit),
            Place::Inside(at, commit, _) => sequence < at || (sequence == at && number < commit),
        }
    }
}

impl Commit {
    /// The next event, if anything is to be shown, and whether the commit, or this part of it, is passed. `end` is the message with its end.
    fn next(
        &mut self,
        changes: &Changes,
        claim: Option<StateClaim>,
        end: Option<Sequence>,
        tables: Option<&BTreeSet<String>>,
        history: &History,
    ) -> Result<(Option<Event>, bool), RenderError> {
        let at = At::commit(self.incarnation, self.number);
        if self.schema_at < changes.schema.len() {
            let shown = self.schema(&changes.schema, tables, history.encoding(at))?;
            return Ok((shown, false));
        }
        let (rows, end_of_rows) = self.rows(changes, end.is_some(), tables, history, at)?;
        let is_end = end.filter(|_| end_of_rows == Rows::Passed);
        let is_whole = is_end.is_some() && (tables.is_none() || self.is_shown || !rows.is_empty());
        if rows.is_empty() && !is_whole {
            return Ok((None, end_of_rows == Rows::Passed));
        }
        self.is_shown = true;
        let place = match is_end {
            Some(sequence) => Place::BehindCommit(sequence, self.number),
            None => Place::Inside(self.sequence, self.number, self.items),
        };
        let mut head = self.head();
        head["kind"] = match self.kind {
            CommitKind::Transaction => "transaction".into(),
            CommitKind::Reconcile => "reconcile".into(),
        };
        head["last"] = is_end.is_some().into();
        if is_end.is_some() {
            head["through"] = json!(is_end);
            head["state"] = json!(claim.map(|claim| claim.state));
            for (name, number) in
                [("user_version", changes.user_version), ("application_id", changes.application_id)]
            {
                if let Some(number) = number {
                    head[name] = number.into();
                }
            }
        }
        let mut data = head.to_string().into_bytes();
        data.pop();
        data.extend_from_slice(b",\"rows\":[");
        data.extend_from_slice(&rows);
        data.extend_from_slice(b"]}");
        Ok((Some(Event { name: "commit", place, data }), end_of_rows == Rows::Passed))
    }

    fn head(&self) -> Json {
        json!({
            "incarnation": self.incarnation,
            "commit": self.number,
            "sequence": self.sequence,
            "timestamp": self.timestamp,
        })
    }

    /// Whether the next item is to be shown, which it then was.
    const fn passes(&mut self) -> bool {
        self.items += 1;
        self.items > self.before
    }

    fn schema(
        &mut self,
        changes: &[SchemaChange],
        tables: Option<&BTreeSet<String>>,
        encoding: TextEncoding,
    ) -> Result<Option<Event>, RenderError> {
        let (mut shown, mut bytes) = (Vec::new(), 0);
        while let Some(change) = changes.get(self.schema_at)
            && bytes < EVENT_BYTES
        {
            let told = told(change, encoding)
                .map_err(|source| RenderError::Schema { commit: self.number, source })?;
            self.schema_at += 1;
            let is_of = |table: &str| tables.is_none_or(|tables| tables.contains(table));
            if self.passes() && told.tables.iter().flatten().any(|table| is_of(table)) {
                bytes += told.json.to_string().len();
                shown.push(told.json);
            }
        }
        if shown.is_empty() {
            return Ok(None);
        }
        self.is_shown = true;
        let mut data = self.head();
        data["changes"] = shown.into();
        let place = Place::Inside(self.sequence, self.number, self.items);
        Ok(Some(Event { name: "schema", place, data: data.to_string().into_bytes() }))
    }

    /// Rows as JSON, as many as one event has.
    fn rows(
        &mut self,
        changes: &Changes,
        is_last: bool,
        tables: Option<&BTreeSet<String>>,
        history: &History,
        at: At,
    ) -> Result<(Vec<u8>, Rows), RenderError> {
        let parts = self.parts.take();
        let rows = parts.as_deref().unwrap_or(&changes.rows);
        let read = self.read(rows, is_last, tables, history, at);
        self.parts = parts;
        read
    }

    fn read(
        &mut self,
        rows: &[u8],
        is_last: bool,
        tables: Option<&BTreeSet<String>>,
        history: &History,
        at: At,
    ) -> Result<(Vec<u8>, Rows), RenderError> {
        let commit = self.number;
        let mut out = Vec::new();
        // A row that is longer than a part is not read again from its begin with every part.
        if !is_last && rows.len() < self.enough {
            return Ok((out, Rows::Passed));
        }
        let is_of = |table: &str| tables.is_none_or(|tables| tables.contains(table));
        let columns = |table: &Table| {
            let known = history.columns(&table.name, at).filter(|known| known.names.len() == table.key.len());
            known.cloned().ok_or_else(|| RenderError::Columns { commit, table: table.name.clone() })
        };
        let begun_at = self.rows_at;
        let mut shape = match self.table.as_ref().filter(|table| is_of(&table.name)) {
            Some(table) => Some(Shape::of(table, &*columns(table)?)),
            None => None,
        };
        let mut reader = Reader::within(&rows[begun_at..], self.table.clone());
        loop {
            match reader.step() {
                Ok(Some(Step::Table(table))) => {
                    shape = if is_of(&table.name) { Some(Shape::of(table, &*columns(table)?)) } else { None };
                    self.table = Some(table.clone());
                }
                Ok(Some(Step::Row(row))) => {
                    if self.passes()
                        && let Some(shape) = &shape
                    {
                        shape.write(&mut out, &row);
                    }
                }
                Ok(None) => return Ok((out, Rows::Passed)),
                // The rest of it is in the next part.
                Err(ChangesetError::Truncated) if !is_last => {
                    self.enough = rows.len().saturating_sub(self.rows_at).saturating_mul(2);
                    return Ok((out, Rows::Passed));
                }
                Err(source) => return Err(RenderError::Rows { commit, source }),
            }
            self.rows_at = rows.len() - reader.source().len();
            let is_long = out.len() >= EVENT_BYTES || self.rows_at - begun_at >= PASSED_BYTES;
            if is_long && self.rows_at < rows.len() {
                return Ok((out, Rows::More));
            }
        }
    }
}

/// Whether rows of the message are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    Passed,
    More,
}

/// A schema change as it is told, and the tables that it is of.
struct Told {
    json: Json,
    tables: [Option<String>; 3],
}

fn told(change: &SchemaChange, encoding: TextEncoding) -> Result<Told, SchemaError> {
    let text = |bytes: &[u8]| to_text(bytes, encoding);
    let row = |action: &str, was: Option<&[u8]>, row: &SchemaRow, place: i64| -> Result<Told, SchemaError> {
        let (name, table) = (text(&row.name)?, text(&row.table)?);
        let sql = row.sql.as_deref().map(text).transpose()?;
        let was = was.map(text).transpose()?;
        let mut json = json!({
            "action": action, "object": object(row.kind), "name": name, "table": table, "sql": sql, "place": place,
        });
        if let Some(was) = &was {
            json["was"] = was.as_str().into();
        }
        let name = (row.kind == ObjectKind::Table).then_some(name);
        let was = was.filter(|_| row.kind == ObjectKind::Table);
        Ok(Told { json, tables: [name, Some(table), was] })
    };
    match change {
        SchemaChange::Drop { kind, name } => {
            let name = text(name)?;
            let json = json!({ "action": "drop", "object": object(*kind), "name": name });
            Ok(Told { json, tables: [Some(name), None, None] })
        }
        SchemaChange::Create { row: created, place } => row("create", None, created, *place),
        SchemaChange::Amend { name, row: after, place } => row("amend", Some(name), after, *place),
        SchemaChange::Rebuild { name, row: after, place } => row("rebuild", Some(name), after, *place),
    }
}

const fn object(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Table => "table",
        ObjectKind::Index => "index",
        ObjectKind::View => "view",
        ObjectKind::Trigger => "trigger",
    }
}

/// The event of a snapshot.
fn begun(message: &VerifiedMessage, snapshot: &Snapshot, why: Anew, history: &History) -> Event {
    let header = message.header();
    let (commit, predecessor) = match &snapshot.place {
        SnapshotPlace::Begins { predecessor } => (None, predecessor.as_ref()),
        SnapshotPlace::After { commit, .. } => (Some(*commit), None),
    };
    let at =
        commit.map_or(At::beginning(snapshot.incarnation), |commit| At::commit(snapshot.incarnation, commit));
    let data = json!({
        "incarnation": snapshot.incarnation,
        "commit": commit,
        "sequence": header.sequence,
        "timestamp": header.timestamp,
        "why": why,
        "state": snapshot.state,
        "encoding": snapshot.encoding,
        "predecessor": predecessor.map(|before| before.incarnation),
        "abandoned_through": predecessor.and_then(|before| before.abandoned_through),
        "tables": history.names(at).take(TABLES_MAX).collect::<Vec<_>>(),
    });
    let place = Place::Behind(header.sequence.get());
    Event { name: "snapshot", place, data: data.to_string().into_bytes() }
}
