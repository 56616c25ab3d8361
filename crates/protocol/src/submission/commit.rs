//! Commits, and the submission that carries consecutive ones.

use crate::encoding::cbor::{MapKey, Reader, Writer, check_limit};
use crate::encoding::{Canonical, DecodeError};
use crate::hash::{CommitDigest, StateHash, sha256};
use crate::id::{CommitNumber, Incarnation, PartIndex, StreamId};
use crate::limits::{BODY_BYTES_MAX, SCHEMA_CHANGES_MAX, SUBMISSION_COMMITS_MAX};
use crate::submission::SchemaChange;

/// What one commit, or one part of it, did to the database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Schema changes in the order in which they apply.
    pub schema: Vec<SchemaChange>,
    /// Row changes in SQLite's changeset format; empty when no row changed.
    pub rows: Vec<u8>,
    /// The new `user_version`, if the commit changed it.
    pub user_version: Option<i32>,
    /// The new `application_id`, if the commit changed it.
    pub application_id: Option<i32>,
}

impl Canonical for Changes {
    const WHAT: &'static str = "changes";
    const BYTES_MAX: usize = BODY_BYTES_MAX;

    fn write(&self, writer: &mut Writer) {
        let present = [
            !self.schema.is_empty(),
            !self.rows.is_empty(),
            self.user_version.is_some(),
            self.application_id.is_some(),
        ];
        writer.map(present.into_iter().filter(|present| *present).count());
        if !self.schema.is_empty() {
            writer.key(MapKey::Int(1));
            writer.array(self.schema.len());
            for change in &self.schema {
                change.write(writer);
            }
        }
        if !self.rows.is_empty() {
            writer.key(MapKey::Int(2));
            writer.bytes(&self.rows);
        }
        if let Some(version) = self.user_version {
            writer.key(MapKey::Int(3));
            writer.int(version.into());
        }
        if let Some(id) = self.application_id {
            writer.key(MapKey::Int(4));
            writer.int(id.into());
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut fields = reader.fields(Self::WHAT, 4)?;
        let schema = fields.optional(reader, MapKey::Int(1), |reader| {
            let count = reader.array("schema changes", SCHEMA_CHANGES_MAX)?;
            not_empty("schema changes", count)?;
            (0..count).map(|_| SchemaChange::read(reader)).collect()
        })?;
        let rows = fields.optional(reader, MapKey::Int(2), |reader| {
            let rows = reader.bytes("rows", BODY_BYTES_MAX)?;
            not_empty("rows", rows.len())?;
            Ok(rows.to_vec())
        })?;
        let user_version = fields.optional(reader, MapKey::Int(3), |reader| reader.int32("user_version"))?;
        let application_id =
            fields.optional(reader, MapKey::Int(4), |reader| reader.int32("application_id"))?;
        fields.end(reader)?;
        let (schema, rows) = (schema.unwrap_or_default(), rows.unwrap_or_default());
        Ok(Self { schema, rows, user_version, application_id })
    }
}

/// An empty list has one encoding: its key is absent.
fn not_empty(what: &'static str, length: usize) -> Result<(), DecodeError> {
    if length == 0 {
        return Err(DecodeError::Invalid { what, why: "what is empty must be left out" });
    }
    Ok(())
}

/// How a commit came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommitKind {
    /// One transaction of the application, with its exact boundaries.
    Transaction,
    /// The difference between the last captured state and the live one. The state is exact; the
    /// transactions in between can no longer be told apart, and every reader can see that.
    Reconcile,
}

impl CommitKind {
    pub(crate) fn write(self, writer: &mut Writer) {
        writer.uint(match self {
            Self::Transaction => 0u8,
            Self::Reconcile => 1,
        });
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.uint("kind of commit")? {
            0 => Ok(Self::Transaction),
            1 => Ok(Self::Reconcile),
            _ => Err(DecodeError::Invalid { what: "kind of commit", why: "it is 0 or 1" }),
        }
    }
}

/// What a client says its database hashes to. It stands inside the digest chain, so that a stored
/// commit whose digest a client knows also shows the state hash that the client computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateClaim {
    /// From captured rows.
    pub state: StateHash,
    /// By a full scan of the application's own file, where the agent made one at this commit. A reader
    /// that finds it unlike `state` has proof that the capture missed something.
    pub scanned: Option<StateHash>,
}

impl StateClaim {
    fn write(claim: Option<&Self>, writer: &mut Writer) {
        let Some(claim) = claim else { return writer.null() };
        writer.array(1 + usize::from(claim.scanned.is_some()));
        writer.bytes(claim.state.as_bytes());
        if let Some(scanned) = &claim.scanned {
            writer.bytes(scanned.as_bytes());
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        const WHAT: &str = "state claim";
        if reader.at_null() {
            return reader.null(WHAT).map(|()| None);
        }
        let scanned = match reader.array(WHAT, 2)? {
            1 => false,
            2 => true,
            _ => return Err(DecodeError::Invalid { what: WHAT, why: "it has one or two hashes" }),
        };
        let state = StateHash::from_bytes(reader.array_of("state hash")?);
        let scanned =
            scanned.then(|| reader.array_of("scanned hash").map(StateHash::from_bytes)).transpose()?;
        Ok(Some(Self { state, scanned }))
    }
}

/// One whole commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its number in the incarnation.
    pub number: CommitNumber,
    /// Digest of what the client sent before it.
    pub prev: CommitDigest,
    /// How it came about.
    pub kind: CommitKind,
    /// What it did.
    pub changes: Changes,
    /// What the database hashes to after it, where the client says so: at least on the last commit of
    /// a submission.
    pub state: Option<StateClaim>,
}

impl Commit {
    /// The digest that the next commit names as `prev`.
    pub fn digest(&self) -> CommitDigest {
        CommitDigest::from_bytes(sha256(&[&self.to_bytes()]))
    }
}

impl Canonical for Commit {
    const WHAT: &'static str = "commit";
    const BYTES_MAX: usize = BODY_BYTES_MAX;

    fn write(&self, writer: &mut Writer) {
        writer.array(5);
        writer.uint(self.number);
        writer.bytes(self.prev.as_bytes());
        self.kind.write(writer);
        self.changes.write(writer);
        StateClaim::write(self.state.as_ref(), writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array_exact(Self::WHAT, 5)?;
        Ok(Self {
            number: reader.number("commit number")?,
            prev: CommitDigest::from_bytes(reader.array_of("prev")?),
            kind: CommitKind::read(reader)?,
            changes: Changes::read(reader)?,
            state: StateClaim::read(reader)?,
        })
    }
}

/// One part of a commit too large for one submission.
///
/// Parts are chained like commits, so the digest of the last part binds the whole group, and is the
/// digest of the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The number of the commit it belongs to.
    pub number: CommitNumber,
    /// Digest of what the client sent before it: the part before, or for the first part the commit before.
    pub prev: CommitDigest,
    /// How the commit came about.
    pub kind: CommitKind,
    /// Its place among the parts.
    pub index: PartIndex,
    /// What this part did.
    pub changes: Changes,
    /// On the last part, and only there: what the database hashes to after the whole commit.
    pub last: Option<StateClaim>,
}

impl Part {
    /// The digest that the next part, or the next commit, names as `prev`.
    pub fn digest(&self) -> CommitDigest {
        CommitDigest::from_bytes(sha256(&[&self.to_bytes()]))
    }
}

impl Canonical for Part {
    const WHAT: &'static str = "part";
    const BYTES_MAX: usize = BODY_BYTES_MAX;

    fn write(&self, writer: &mut Writer) {
        writer.array(6);
        writer.uint(self.number);
        writer.bytes(self.prev.as_bytes());
        self.kind.write(writer);
        self.changes.write(writer);
        writer.uint(self.index);
        StateClaim::write(self.last.as_ref(), writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array_exact(Self::WHAT, 6)?;
        let number = reader.number("commit number")?;
        let prev = CommitDigest::from_bytes(reader.array_of("prev")?);
        let kind = CommitKind::read(reader)?;
        let changes = Changes::read(reader)?;
        let index = reader.number("part")?;
        let last = StateClaim::read(reader)?;
        if index == PartIndex::FIRST && last.is_some() {
            let why = "a commit in one part is a whole commit";
            return Err(DecodeError::Invalid { what: Self::WHAT, why });
        }
        Ok(Self { number, prev, kind, index, changes, last })
    }
}

/// Commits that follow each other: one or more, numbers dense, each naming the one before, the last
/// one with a [`StateClaim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commits {
    commits: Vec<Commit>,
    digest: CommitDigest,
    state: StateHash,
}

impl Commits {
    /// Checks that the commits follow each other.
    ///
    /// # Errors
    /// [`DecodeError`] when there are none or too many, or one does not follow the one before it.
    pub fn new(commits: Vec<Commit>) -> Result<Self, DecodeError> {
        check_count(commits.len())?;
        let mut before: Option<(CommitNumber, CommitDigest)> = None;
        for commit in &commits {
            if let Some((number, digest)) = before {
                if number.next() != Some(commit.number) {
                    return Err(not_commits("their numbers must be dense"));
                }
                if commit.prev != digest {
                    return Err(not_commits("each must name the digest of the one before"));
                }
            }
            before = Some((commit.number, commit.digest()));
        }
        let (_, digest) = before.expect("the list is not empty");
        let Some(claim) = commits.last().and_then(|commit| commit.state) else {
            return Err(not_commits("the last one carries a state hash"));
        };
        Ok(Self { commits, digest, state: claim.state })
    }

    /// Links commits to a chain: the first one has this number and names `prev`, and the last one carries `claim`. Each is hashed once; what
    /// [`Self::new`] checks is true by construction.
    ///
    /// # Errors
    /// [`DecodeError`] when there are none or too many, or their numbers are used up.
    pub fn link(
        first: CommitNumber,
        prev: CommitDigest,
        changes: Vec<(CommitKind, Changes)>,
        claim: StateClaim,
    ) -> Result<Self, DecodeError> {
        check_count(changes.len())?;
        let last = changes.len() - 1;
        let (mut number, mut digest) = (Some(first), prev);
        let mut commits = Vec::with_capacity(changes.len());
        for (at, (kind, changes)) in changes.into_iter().enumerate() {
            let this = number.ok_or(not_commits("their numbers are used up"))?;
            let commit =
                Commit { number: this, prev: digest, kind, changes, state: (at == last).then_some(claim) };
            (number, digest) = (this.next(), commit.digest());
            commits.push(commit);
        }
        Ok(Self { commits, digest, state: claim.state })
    }

    /// The commits in order.
    pub fn as_slice(&self) -> &[Commit] {
        &self.commits
    }

    /// The first commit.
    pub fn first(&self) -> &Commit {
        self.commits.first().expect("the constructor refuses an empty list")
    }

    /// The last commit.
    pub fn last(&self) -> &Commit {
        self.commits.last().expect("the constructor refuses an empty list")
    }

    /// The digest of the last commit, which the next one names as `prev`.
    pub const fn digest(&self) -> CommitDigest {
        self.digest
    }

    /// The state hash after the last commit.
    pub const fn state(&self) -> StateHash {
        self.state
    }
}

fn check_count(commits: usize) -> Result<(), DecodeError> {
    if commits == 0 {
        return Err(not_commits("a submission has at least one"));
    }
    check_limit("commits", commits, SUBMISSION_COMMITS_MAX)
}

const fn not_commits(why: &'static str) -> DecodeError {
    DecodeError::Invalid { what: "commits", why }
}

/// What a submission carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Whole commits.
    Commits(Commits),
    /// One part of a huge commit.
    Part(Part),
}

/// Consecutive commits of one client, not ordered yet. The body of a message of type 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The stream it belongs to.
    pub stream: StreamId,
    /// The incarnation its numbers belong to.
    pub incarnation: Incarnation,
    /// The commits.
    pub content: Content,
}

impl Canonical for Submission {
    const WHAT: &'static str = "submission";
    const BYTES_MAX: usize = BODY_BYTES_MAX;

    fn write(&self, writer: &mut Writer) {
        writer.map(3);
        writer.key(MapKey::Int(1));
        writer.bytes(self.stream.as_bytes());
        writer.key(MapKey::Int(2));
        self.incarnation.write(writer);
        match &self.content {
            Content::Commits(commits) => {
                writer.key(MapKey::Int(3));
                writer.array(commits.as_slice().len());
                for commit in commits.as_slice() {
                    commit.write(writer);
                }
            }
            Content::Part(part) => {
                writer.key(MapKey::Int(4));
                part.write(writer);
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let UncheckedSubmission { stream, incarnation, content } = UncheckedSubmission::read(reader)?;
        let content = match content {
            UncheckedContent::Commits(commits) => Content::Commits(Commits::new(commits)?),
            UncheckedContent::Part(part) => Content::Part(part),
        };
        Ok(Self { stream, incarnation, content })
    }
}

impl Submission {
    /// Whether a reader takes these bytes, which must be those of a submission whose commits are known to follow each other: that alone is
    /// not looked at again.
    pub(crate) fn check_bytes(bytes: &[u8]) -> Result<(), DecodeError> {
        check_limit(Self::WHAT, bytes.len(), Self::BYTES_MAX)?;
        let mut reader = Reader::new(bytes);
        UncheckedSubmission::read(&mut reader)?;
        reader.end(Self::WHAT)
    }
}

/// A submission, while nobody has looked whether its commits follow each other.
struct UncheckedSubmission {
    stream: StreamId,
    incarnation: Incarnation,
    content: UncheckedContent,
}

enum UncheckedContent {
    Commits(Vec<Commit>),
    Part(Part),
}

impl UncheckedSubmission {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut fields = reader.fields(Submission::WHAT, 3)?;
        let stream = fields.required(reader, MapKey::Int(1), |reader| reader.array_of("stream"))?;
        let incarnation = fields.required(reader, MapKey::Int(2), Incarnation::read)?;
        let commits = fields.optional(reader, MapKey::Int(3), read_commits)?;
        let content = match commits {
            Some(commits) => UncheckedContent::Commits(commits),
            None => UncheckedContent::Part(fields.required(reader, MapKey::Int(4), Part::read)?),
        };
        fields.end(reader)?;
        Ok(Self { stream: StreamId::from_bytes(stream), incarnation, content })
    }
}

/// Reads the commits of a submission. Their schema changes are bounded together, because the shortest
/// one takes four bytes on the wire and a hundred in memory.
fn read_commits(reader: &mut Reader<'_>) -> Result<Vec<Commit>, DecodeError> {
    let count = reader.array("commits", SUBMISSION_COMMITS_MAX)?;
    let mut commits = Vec::new();
    let mut schema_changes = 0;
    for _ in 0..count {
        let commit = Commit::read(reader)?;
        schema_changes += commit.changes.schema.len();
        check_limit("schema changes of a submission", schema_changes, SCHEMA_CHANGES_MAX)?;
        commits.push(commit);
    }
    Ok(commits)
}
