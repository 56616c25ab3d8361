//! What is known of the database at the position: its pages, what each of them is, its schema and its state.
//!
//! [`Database::capture`] moves all of it across one commit, and hands over what changed.

use std::collections::BTreeMap;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use synddb_protocol::state::Value;
use synddb_protocol::submission::TextEncoding;

use super::frames::CommitFrames;
use super::map::{PageMap, Relabel, TreeId};
use super::marks::Marks;
use super::out::Out;
use super::probes::planted::{Bug, planted};
use super::probes::{Footprints, Step};
use super::rows::{Join, RowVisitor};
use super::table::{TableWriter, accumulate, columns};
use super::tally::{Counting, Tally, apart};
use super::tree::{Tree, changed_pages};
use super::view::{CommitView, Pages, Side};
use super::{CaptureError, CommittedState, PollError, Sink, WalPosition};
use crate::connection::Connection;
use crate::file::header::Header;
use crate::file::{Damaged, record};
use crate::schema::{
    Layout, Object, Objects, SchemaDifference, SchemaError, TableFate, check_indexes, difference,
};
use crate::state::RunningState;
use crate::state::hashing::Combine;

/// A table whose rows are captured.
#[derive(Debug, Clone)]
struct Captured {
    root: u32,
    layout: Rc<Layout>,
}

/// The database at the position.
pub(super) struct Database {
    pub(super) pages: Pages,
    map: PageMap,
    /// Rows of `sqlite_schema` by rowid.
    schema: BTreeMap<i64, Object>,
    tables: Rc<BTreeMap<TreeId, Captured>>,
    next_tree: TreeId,
    /// The state at the position, save what `tally` has of it.
    pub(super) state: RunningState,
    tally: Tally,
    /// Room for the row changes of a commit.
    rows: Vec<u8>,
    pub(super) footprints: Footprints,
}

/// A tree to compare, and what its rows are.
struct Job {
    tree: Tree,
    layout: Rc<Layout>,
    /// Whether the table is hashed as a whole after the commit.
    rehashed: bool,
}

impl Database {
    /// Walks the whole database, and then has SQLite scan it on a connection that stands where `pages` stands: SQLite reads a page again for
    /// every pointer to it, so that no two may lead to one.
    pub(super) fn walk(pages: Pages, connection: &Connection) -> Result<Self, CaptureError> {
        let state = RunningState::of_schema(connection)?;
        let mut database = Self::walk_with(pages, connection.encoding(), |_| Ok(state), false)?;
        database.state.scan_rows(connection)?;
        Ok(database)
    }

    /// Walks a database where no connection can stand any more, and computes its state from the pages alone.
    pub(super) fn walk_alone(pages: Pages, header: &Header) -> Result<Self, CaptureError> {
        let Header { encoding, user_version, application_id, .. } = *header;
        let of = |objects| Ok(RunningState::of_objects(objects, encoding, user_version, application_id)?);
        Self::walk_with(pages, encoding, of, true)
    }

    fn walk_with(
        pages: Pages,
        encoding: TextEncoding,
        state_of: impl FnOnce(Objects) -> Result<RunningState, CaptureError>,
        hashing: bool,
    ) -> Result<Self, CaptureError> {
        let mut map = PageMap::default();
        let mut schema = BTreeMap::new();
        let nothing = FxHashMap::default();
        let view = CommitView::new(&pages, &nothing);
        let mut reader = SchemaReader { places: &mut schema, encoding, is_changed: false };
        let tree = Tree { id: TreeId::SCHEMA, has_rowids: true, root_before: None, root_after: 1 };
        walk_tree(tree, &view, &mut map, &mut reader)?;
        let objects = Objects::new(schema.values().cloned());
        let mut state = state_of(objects.clone())?;
        check_indexes(state.objects(), None, encoding)?;
        let mut tables = BTreeMap::new();
        let mut next_tree = TreeId(TreeId::SCHEMA.0 + 1);
        for object in objects.tables() {
            let layout = state.layout(&object.name);
            let layout = layout.ok_or(SchemaError::Damaged { what: "two reads of one schema differ" })?;
            let table = Captured { root: object.root, layout: Rc::new(layout.clone()) };
            let tree = table.tree(next_tree, None);
            if hashing {
                let mut hasher = Hasher { layout: &table.layout, state: &mut state };
                walk_tree(tree, &view, &mut map, &mut hasher)?;
            } else {
                walk_tree(tree, &view, &mut map, &mut Labels)?;
            }
            tables.insert(next_tree, table);
            next_tree = TreeId(next_tree.0 + 1);
        }
        let (tables, footprints) = (Rc::new(tables), Footprints::new());
        let (tally, rows) = (Tally::default(), Vec::new());
        Ok(Self { pages, map, schema, tables, next_tree, state, tally, rows, footprints })
    }

    /// The state at the position, between two commits.
    pub(super) fn settled(&mut self) -> &RunningState {
        self.tally.settle(&mut self.state);
        &self.state
    }

    /// Captures the commit that stands behind a position. Returns how many rows changed.
    pub(super) fn capture<S: Sink>(
        &mut self,
        position: WalPosition,
        CommitFrames { frames, end, .. }: CommitFrames,
        sink: &mut S,
    ) -> Result<u64, PollError<S::Error>> {
        let mut step = Step::begin(&frames, position.frame, (position.pages, end.pages));
        let view = CommitView::new(&self.pages, &frames);
        // First of all: under another page size or encoding nothing else means what it seems to.
        let header = if view.wrote(1) { Some(self.read_header(&view)?) } else { None };
        let tables = Rc::clone(&self.tables);
        let alive = |tree| tree == TreeId::SCHEMA || tables.contains_key(&tree);
        let marks = Marks::of(&view, &self.map, alive)?;
        let mut relabel = Relabel::default();
        let mut plan = Plan { tables: Rc::clone(&self.tables), next_tree: self.next_tree, jobs: Vec::new() };
        let changes = if marks.touches(TreeId::SCHEMA) {
            let tree = Tree { id: TreeId::SCHEMA, has_rowids: true, root_before: Some(1), root_after: 1 };
            let pages = changed_pages(tree, &view, &self.map, &marks, &mut relabel)?;
            let mut join = Join { view: &view, map: &self.map, marks: &marks, relabel: &mut relabel };
            let encoding = self.state.encoding();
            let mut reader = SchemaReader { places: &mut self.schema, encoding, is_changed: false };
            join.rows(tree, pages, &mut reader)?;
            // Page 1, on which the tree begins, is written by every commit after which the file is longer.
            if reader.is_changed {
                apart(sink, &mut self.tally, &mut self.state)?;
                self.tally.settle(&mut self.state);
                plan.change_schema(&self.schema, &mut self.state)?
            } else {
                Vec::new()
            }
        } else {
            Vec::new()
        };
        plan.touched(&marks);
        step.schema_changed(!changes.is_empty());
        let mut out = Out::new(sink, changes, &mut self.rows);
        for job in &plan.jobs {
            let pages = changed_pages(job.tree, &view, &self.map, &marks, &mut relabel)?;
            let counting =
                (!job.rehashed).then(|| Counting::new(&mut self.tally, &mut self.state, &job.layout.name));
            let count = out.count();
            let mut writer = TableWriter::new(&job.layout, &mut out, counting);
            let mut join = Join { view: &view, map: &self.map, marks: &marks, relabel: &mut relabel };
            join.rows(job.tree, pages, &mut writer)?;
            writer.finish()?;
            step.table(job.tree, &job.layout, out.count() - count);
            if job.rehashed {
                rehash(job, &view, &mut self.state)?;
            }
        }
        if let Some(header) = header {
            step.header_changed(note_header(&mut self.state, &header, &mut out));
        }
        self.tally.end_commit();
        let rows = out.finish(&mut CommittedState::open(&mut self.tally, &mut self.state))?;
        let alive_after = |tree| tree == TreeId::SCHEMA || plan.tables.contains_key(&tree);
        step.labels(&self.map, &relabel, frames.keys().copied(), alive, alive_after);
        self.footprints.push(step);
        relabel.apply(&mut self.map, end.pages);
        (self.tables, self.next_tree) = (plan.tables, plan.next_tree);
        self.pages.advance(frames);
        Ok(rows)
    }

    /// The header after the commit, which must still lay out pages and text as before.
    fn read_header(&self, view: &CommitView<'_>) -> Result<Header, CaptureError> {
        let side = if planted(Bug::ReadHeaderBefore) { Side::Before } else { Side::After };
        let header = Header::read(&view.bytes(side, 1)?)?;
        if header.usable() != self.pages.usable() && !planted(Bug::IgnoreReservedBytes) {
            return Err(CaptureError::PageSizeChanged);
        }
        if header.encoding != self.state.encoding() {
            return Err(CaptureError::EncodingChanged);
        }
        Ok(header)
    }
}

/// Takes what the header says now, and says whether that is something else.
fn note_header<S: Sink>(state: &mut RunningState, header: &Header, out: &mut Out<'_, S>) -> bool {
    let user_version = (header.user_version != state.user_version()).then_some(header.user_version);
    let application_id = (header.application_id != state.application_id()).then_some(header.application_id);
    state.set_user_version(header.user_version);
    state.set_application_id(header.application_id);
    out.set_header(user_version, application_id);
    user_version.is_some() || application_id.is_some()
}

impl Captured {
    fn tree(&self, id: TreeId, root_before: Option<u32>) -> Tree {
        Tree { id, has_rowids: self.layout.is_rowid_table(), root_before, root_after: self.root }
    }
}

/// What a commit makes of the captured tables, and which of their trees have to be compared.
struct Plan {
    tables: Rc<BTreeMap<TreeId, Captured>>,
    next_tree: TreeId,
    jobs: Vec<Job>,
}

impl Plan {
    /// Takes the schema after the commit, and plans the trees that are new, moved, or mean something else now.
    fn change_schema(
        &mut self,
        rows: &BTreeMap<i64, Object>,
        state: &mut RunningState,
    ) -> Result<Vec<synddb_protocol::submission::SchemaChange>, CaptureError> {
        let objects = Objects::new(rows.values().cloned());
        let layouts = state.layouts_of(&objects)?;
        check_indexes(&objects, Some(state.objects()), state.encoding())?;
        let SchemaDifference { changes, tables } =
            difference((state.objects(), state.layouts()), (&objects, &layouts));
        let mut before: FxHashMap<String, (TreeId, u32)> =
            self.tables.iter().map(|(id, table)| (table.layout.name.clone(), (*id, table.root))).collect();
        let mut after = BTreeMap::new();
        let mut renames = Vec::new();
        let mut fresh = Vec::new();
        for fate in tables {
            let (name, kept) = match &fate {
                TableFate::New { name } => (name, None),
                TableFate::Kept { before: name, after: now, rehashed } => {
                    if name != now {
                        renames.push((name.clone(), now.clone()));
                    }
                    let known = before.remove(name);
                    let known = known.filter(|_| name == now || !planted(Bug::DoubleRenamedTables));
                    (now, known.map(|kept| (kept, *rehashed)))
                }
            };
            let mut table = captured(&objects, &layouts, name)?;
            let (id, root_before, rehashed) = match kept {
                Some(((id, root), rehashed)) => {
                    if planted(Bug::LookAtOldRoots) {
                        table.root = root;
                    }
                    (id, Some(root), rehashed)
                }
                None => {
                    fresh.push(name.clone());
                    (self.take_id(), None, false)
                }
            };
            if rehashed || root_before != Some(table.root) {
                self.jobs.push(Job {
                    tree: table.tree(id, root_before),
                    layout: Rc::clone(&table.layout),
                    rehashed,
                });
            }
            after.insert(id, table);
        }
        self.tables = Rc::new(after);
        state.rename_tables(&renames);
        state.set_schema(objects, layouts);
        fresh.iter().for_each(|name| state.clear_table(name));
        Ok(changes)
    }

    /// Plans the trees that the commit wrote to.
    fn touched(&mut self, marks: &Marks) {
        for id in marks.trees() {
            let planned = self.jobs.iter().any(|job| job.tree.id == id);
            let left_out =
                |table: &&Captured| planted(Bug::LeaveOutSequence) && table.layout.name == "sqlite_sequence";
            if let Some(table) = self.tables.get(&id).filter(|table| !planned && !left_out(table)) {
                let tree = table.tree(id, Some(table.root));
                self.jobs.push(Job { tree, layout: Rc::clone(&table.layout), rehashed: false });
            }
        }
    }

    fn take_id(&mut self) -> TreeId {
        let id = self.next_tree;
        self.next_tree = TreeId(id.0 + 1);
        id
    }
}

fn captured(
    objects: &Objects,
    layouts: &BTreeMap<String, Layout>,
    name: &str,
) -> Result<Captured, CaptureError> {
    let object = objects.tables().find(|object| object.name == name);
    let (Some(object), Some(layout)) = (object, layouts.get(name)) else {
        return Err(SchemaError::Damaged { what: "a table is not in its own schema" }.into());
    };
    Ok(Captured { root: object.root, layout: Rc::new(layout.clone()) })
}

/// Hashes a table anew, from all its rows after the commit.
fn rehash(job: &Job, view: &CommitView<'_>, state: &mut RunningState) -> Result<(), CaptureError> {
    state.clear_table(&job.layout.name);
    let mut hasher = Hasher { layout: &job.layout, state };
    walk_tree(Tree { root_before: None, ..job.tree }, view, &mut PageMap::default(), &mut hasher)
}

/// Adds rows to what their table hashes to.
struct Hasher<'h> {
    layout: &'h Layout,
    state: &'h mut RunningState,
}

impl RowVisitor for Hasher<'_> {
    type Error = CaptureError;

    fn row(&mut self, rowid: i64, _: Option<&[u8]>, after: Option<&[u8]>) -> Result<(), CaptureError> {
        if let Some(payload) = after {
            let columns = columns(self.layout, rowid, payload, Vec::new())?;
            let hash = self.state.table(&self.layout.name);
            accumulate(hash, self.layout, rowid, &columns, Combine::Add);
        }
        Ok(())
    }
}

/// Shows every row of a tree after a commit to `visitor`, and labels its pages in `map`, which knows nothing of the tree yet.
fn walk_tree<V: RowVisitor<Error = CaptureError>>(
    tree: Tree,
    view: &CommitView<'_>,
    map: &mut PageMap,
    visitor: &mut V,
) -> Result<(), CaptureError> {
    let (marks, mut relabel) = (Marks::default(), Relabel::default());
    let pages = changed_pages(tree, view, map, &marks, &mut relabel)?;
    Join { view, map, marks: &marks, relabel: &mut relabel }.rows(tree, pages, visitor)?;
    relabel.claim(map)?;
    Ok(())
}

/// Takes rows only to have their pages labelled.
struct Labels;

impl RowVisitor for Labels {
    type Error = CaptureError;

    fn row(&mut self, _: i64, _: Option<&[u8]>, _: Option<&[u8]>) -> Result<(), CaptureError> {
        Ok(())
    }
}

/// Keeps the rows of `sqlite_schema`.
struct SchemaReader<'r> {
    places: &'r mut BTreeMap<i64, Object>,
    encoding: TextEncoding,
    /// Whether there was any that came, went or changed.
    is_changed: bool,
}

impl RowVisitor for SchemaReader<'_> {
    type Error = CaptureError;

    fn row(&mut self, rowid: i64, _: Option<&[u8]>, after: Option<&[u8]>) -> Result<(), CaptureError> {
        self.is_changed = true;
        let Some(payload) = after else {
            self.places.remove(&rowid);
            return Ok(());
        };
        let columns: Vec<Value<'_>> = record::fields(payload).ok_or(Damaged::new("a row is no record", 1))?;
        let object = Object::from_columns(rowid, &columns, self.encoding)?;
        if object.name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("_synddb")) {
            return Err(SchemaError::Reserved { name: object.name }.into());
        }
        self.places.insert(rowid, object);
        Ok(())
    }
}
