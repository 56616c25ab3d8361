//! Commits, and the submission that carries consecutive ones.

use crate::encoding::cbor::{Key, Reader, Writer, check_limit};
use crate::encoding::{Canonical, DecodeError, frame};
use crate::hash::{CommitDigest, StateHash, sha256};
use crate::id::{CommitNumber, Incarnation, PartIndex, StreamId};
use crate::limits::{BODY_BYTES_MAX, BODY_COMPRESSED_MAX, SCHEMA_CHANGES_MAX, SUBMISSION_COMMITS_MAX};
use crate::submission::{SchemaChange, TextEncoding};

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
            writer.key(Key::Int(1));
            writer.array(self.schema.len());
            for change in &self.schema {
                change.write(writer);
            }
        }
        if !self.rows.is_empty() {
            writer.key(Key::Int(2));
            writer.bytes(&self.rows);
        }
        if let Some(version) = self.user_version {
            writer.key(Key::Int(3));
            writer.int(version.into());
        }
        if let Some(id) = self.application_id {
            writer.key(Key::Int(4));
            writer.int(id.into());
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut fields = reader.fields(Self::WHAT, 4)?;
        let schema = fields.optional(reader, Key::Int(1), |reader| {
            let count = reader.array("schema changes", SCHEMA_CHANGES_MAX)?;
            not_empty("schema changes", count)?;
            (0..count).map(|_| SchemaChange::read(reader)).collect()
        })?;
        let rows = fields.optional(reader, Key::Int(2), |reader| {
            let rows = reader.bytes("rows", BODY_BYTES_MAX)?;
            not_empty("rows", rows.len())?;
            Ok(rows.to_vec())
        })?;
        let user_version = fields.optional(reader, Key::Int(3), |reader| reader.int32("user_version"))?;
        let application_id = fields.optional(reader, Key::Int(4), |reader| reader.int32("application_id"))?;
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
        writer.array(4);
        writer.uint(self.number);
        writer.bytes(self.prev.as_bytes());
        self.kind.write(writer);
        self.changes.write(writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array_exact(Self::WHAT, 4)?;
        Ok(Self {
            number: reader.number("commit number")?,
            prev: CommitDigest::from_bytes(reader.array_of("prev")?),
            kind: CommitKind::read(reader)?,
            changes: Changes::read(reader)?,
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
    /// On the last part: the state hash after the whole commit.
    pub last: Option<StateHash>,
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
        match &self.last {
            Some(state) => writer.bytes(state.as_bytes()),
            None => writer.null(),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array_exact(Self::WHAT, 6)?;
        let number = reader.number("commit number")?;
        let prev = CommitDigest::from_bytes(reader.array_of("prev")?);
        let kind = CommitKind::read(reader)?;
        let changes = Changes::read(reader)?;
        let index = reader.number("part")?;
        let last = if reader.at_null() {
            reader.null("state hash")?;
            None
        } else {
            Some(StateHash::from_bytes(reader.array_of("state hash")?))
        };
        Ok(Self { number, prev, kind, index, changes, last })
    }
}

/// Commits that follow each other: one or more, numbers dense, each naming the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commits {
    commits: Vec<Commit>,
    digest: CommitDigest,
}

impl Commits {
    /// Checks that the commits follow each other.
    ///
    /// # Errors
    /// [`DecodeError`] when there are none or too many, or one does not follow the one before it.
    pub fn new(commits: Vec<Commit>) -> Result<Self, DecodeError> {
        const WHAT: &str = "commits";
        if commits.is_empty() {
            return Err(DecodeError::Invalid { what: WHAT, why: "a submission has at least one" });
        }
        check_limit(WHAT, commits.len(), SUBMISSION_COMMITS_MAX)?;
        let mut before: Option<(CommitNumber, CommitDigest)> = None;
        for commit in &commits {
            if let Some((number, digest)) = before {
                if number.next() != Some(commit.number) {
                    return Err(DecodeError::Invalid { what: WHAT, why: "their numbers must be dense" });
                }
                if commit.prev != digest {
                    let why = "each must name the digest of the one before";
                    return Err(DecodeError::Invalid { what: WHAT, why });
                }
            }
            before = Some((commit.number, commit.digest()));
        }
        let (_, digest) = before.expect("the list is not empty");
        Ok(Self { commits, digest })
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
}

/// What a submission carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Whole commits, and the state hash after the last of them.
    Commits {
        /// The commits.
        commits: Commits,
        /// The state hash after the last commit, from captured rows.
        state: StateHash,
    },
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
    /// How text stands in its rows.
    pub encoding: TextEncoding,
    /// The commits.
    pub content: Content,
    /// The state hash after the last commit by a full scan of the application's own file, where the
    /// agent made one there. A reader that finds it unlike the other state hash has proof of a fault.
    pub scanned: Option<StateHash>,
}

impl Submission {
    /// The bytes to send and to keep: canonical CBOR in one zstd frame.
    pub fn to_body(&self) -> Vec<u8> {
        frame::compress(&self.to_bytes())
    }

    /// Reads what [`Self::to_body`] wrote, or what a client sent.
    ///
    /// # Errors
    /// [`DecodeError`] when the body is over its limits or not canonical.
    pub fn from_body(body: &[u8]) -> Result<Self, DecodeError> {
        check_limit("submission body", body.len(), BODY_COMPRESSED_MAX)?;
        Self::from_bytes(&frame::decompress(Self::WHAT, body, BODY_BYTES_MAX)?)
    }
}

impl Canonical for Submission {
    const WHAT: &'static str = "submission";
    const BYTES_MAX: usize = BODY_BYTES_MAX;

    fn write(&self, writer: &mut Writer) {
        let content = match &self.content {
            Content::Commits { .. } => 2,
            Content::Part(_) => 1,
        };
        writer.map(3 + content + usize::from(self.scanned.is_some()));
        writer.key(Key::Int(1));
        writer.bytes(self.stream.as_bytes());
        writer.key(Key::Int(2));
        self.incarnation.write(writer);
        writer.key(Key::Int(3));
        self.encoding.write(writer);
        match &self.content {
            Content::Commits { commits, state } => {
                writer.key(Key::Int(4));
                writer.array(commits.as_slice().len());
                for commit in commits.as_slice() {
                    commit.write(writer);
                }
                writer.key(Key::Int(5));
                writer.bytes(state.as_bytes());
            }
            Content::Part(part) => {
                writer.key(Key::Int(6));
                part.write(writer);
            }
        }
        if let Some(scanned) = &self.scanned {
            writer.key(Key::Int(7));
            writer.bytes(scanned.as_bytes());
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut fields = reader.fields(Self::WHAT, 6)?;
        let stream = fields.required(reader, Key::Int(1), |reader| reader.array_of("stream"))?;
        let incarnation = fields.required(reader, Key::Int(2), Incarnation::read)?;
        let encoding = fields.required(reader, Key::Int(3), TextEncoding::read)?;
        let commits = fields.optional(reader, Key::Int(4), |reader| {
            let count = reader.array("commits", SUBMISSION_COMMITS_MAX)?;
            let commits: Result<_, _> = (0..count).map(|_| Commit::read(reader)).collect();
            Commits::new(commits?)
        })?;
        let content = match commits {
            Some(commits) => {
                let state = fields.required(reader, Key::Int(5), |reader| reader.array_of("state hash"))?;
                Content::Commits { commits, state: StateHash::from_bytes(state) }
            }
            None => Content::Part(fields.required(reader, Key::Int(6), Part::read)?),
        };
        let scanned = fields.optional(reader, Key::Int(7), |reader| reader.array_of("scanned hash"))?;
        fields.end(reader)?;
        let (stream, scanned) = (StreamId::from_bytes(stream), scanned.map(StateHash::from_bytes));
        if scanned.is_some() && matches!(&content, Content::Part(part) if part.last.is_none()) {
            let why = "a part that is not the last has no state to scan";
            return Err(DecodeError::Invalid { what: "scanned hash", why });
        }
        Ok(Self { stream, incarnation, encoding, content, scanned })
    }
}
