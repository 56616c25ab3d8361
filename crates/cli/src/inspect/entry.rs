//! What a message carries.

use synddb_protocol::hash::BodyHash;
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::{Body, Entry, Message};
use synddb_protocol::submission::{Commit, CommitKind, Content, Part, Snapshot, SnapshotPlace, StateClaim};

use super::shown::{CommitKindShown, encoding, hex_within};
use super::{InspectError, Screen, Shown};
use crate::exit::CommandError;
use synddb_sqlite::as_sql::shown;

impl Screen<'_> {
    /// The body of a message, whoever signed it.
    pub(super) fn body(&mut self, message: &Message) -> Result<(), CommandError> {
        let header = message.receipt.header();
        let is_signed = BodyHash::of(&message.body) == message.receipt.body_hash();
        self.show(Shown::Body { stored_bytes: message.body.len(), is_signed })?;
        let sequence = header.sequence;
        let body = Body::read(header.message_type, message.body.clone(), BODY_BYTES_MAX)
            .map_err(|source| InspectError::Body { sequence, source })?;
        match body.into_entry() {
            Entry::Submission(submission) => match submission.content {
                Content::Commits(commits) => {
                    let mut more = 0;
                    for commit in commits.as_slice() {
                        if self.commits == 0 {
                            more += 1;
                            continue;
                        }
                        self.commits -= 1;
                        self.commit(commit)?;
                    }
                    self.more("commits", more)
                }
                Content::Part(part) => self.part(&part),
            },
            Entry::Snapshot(snapshot) => self.snapshot(&snapshot),
            Entry::Inbound(inbound) => self.show(Shown::Inbound {
                chain_id: inbound.chain_id,
                bridge: inbound.bridge,
                nonce: inbound.nonce,
                block_number: inbound.block_number,
                transaction: inbound.transaction_hash,
                log_index: inbound.log_index,
                event: hex_within(&inbound.event, self.value_bytes),
                event_bytes: inbound.event.len(),
            }),
            Entry::Status(status) => {
                self.show(Shown::Status { level: status.level, reason: shown(&status.reason) })
            }
            Entry::Epoch(start) => self.show(Shown::EpochStart {
                record: start.record,
                protocol: start.versions.protocol,
                apply: start.versions.apply,
            }),
        }
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), CommandError> {
        let Commit { number, prev, kind, changes, state } = commit;
        self.show(Shown::Commit {
            number: *number,
            part: None,
            is_last: true,
            kind: CommitKindShown::of(*kind),
            prev: *prev,
            digest: commit.digest(),
            state: state.map(|claim| claim.state),
            scanned: state.and_then(|claim| claim.scanned),
            row_bytes: changes.rows.len(),
            user_version: changes.user_version,
            application_id: changes.application_id,
        })?;
        self.schema(&changes.schema)?;
        self.rows(&changes.rows, None)
    }

    fn part(&mut self, part: &Part) -> Result<(), CommandError> {
        let Part { number, prev, kind, index, changes, last } = part;
        self.show(Shown::Commit {
            number: *number,
            part: Some(*index),
            is_last: last.is_some(),
            kind: CommitKindShown::of(*kind),
            prev: *prev,
            digest: part.digest(),
            state: last.map(|StateClaim { state, .. }| state),
            scanned: last.and_then(|claim| claim.scanned),
            row_bytes: changes.rows.len(),
            user_version: changes.user_version,
            application_id: changes.application_id,
        })?;
        self.schema(&changes.schema)?;
        self.rows(&changes.rows, Some(*index))
    }

    fn snapshot(&self, snapshot: &Snapshot) -> Result<(), CommandError> {
        let place = match &snapshot.place {
            SnapshotPlace::Begins { predecessor: None } => "begins the first incarnation".to_owned(),
            SnapshotPlace::Begins { predecessor: Some(before) } => {
                let abandoned = before.abandoned_through.map_or_else(
                    || "nothing is abandoned".to_owned(),
                    |through| format!("commits {} to {through} are abandoned", before.next),
                );
                format!("begins an incarnation after number {}; {abandoned}", before.incarnation.counter)
            }
            SnapshotPlace::After { commit, digest } => format!("after commit {commit} with digest {digest}"),
        };
        let pages: u64 = snapshot.chunks.iter().map(|chunk| chunk.pages).sum();
        self.show(Shown::Snapshot {
            incarnation: snapshot.incarnation.counter,
            place,
            digest: snapshot.digest(),
            encoding: encoding(snapshot.encoding).to_owned(),
            page_size: snapshot.page_size.get(),
            pages,
            state: snapshot.state,
            chunks: snapshot.chunks.len(),
            stored_bytes: snapshot.chunks.iter().map(|chunk| chunk.stored_bytes).sum(),
        })?;
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        for chunk in snapshot.chunks.iter().take(limit) {
            let (hash, pages, stored_bytes) = (chunk.hash, chunk.pages, chunk.stored_bytes);
            self.show(Shown::Chunk { hash, pages, stored_bytes })?;
        }
        self.more("chunks", snapshot.chunks.len().saturating_sub(limit) as u64)
    }
}

impl CommitKindShown {
    const fn of(kind: CommitKind) -> Self {
        match kind {
            CommitKind::Transaction => Self::Transaction,
            CommitKind::Reconcile => Self::Reconcile,
        }
    }
}
