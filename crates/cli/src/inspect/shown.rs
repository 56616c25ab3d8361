//! What is shown, piece by piece, and each piece as a sentence.

use std::fmt;

use serde::{Deserialize, Serialize};
use synddb_agent::{Evidence, Finding};
use synddb_protocol::hash::{
    BodyHash, ChainHash, ChunkHash, CommitDigest, EpochRecordHash, StateHash, TreeHash,
};
use synddb_protocol::id::{
    Address, CommitNumber, Epoch, InboundNonce, IncarnationCounter, KeyId, PartIndex, Sequence, StreamId,
    Timestamp,
};
use synddb_protocol::log::{
    Checkpoint, KeyProof, MessageType, OpenGroup, Receipt, SignedEpochRecord, StatusLevel,
};
use synddb_protocol::submission::TextEncoding;
use synddb_service::calendar::utc;

use super::endorsement::{EndorsementShown, RefusalShown};
use crate::output::{counted, printable};

/// Whether whoever looks trusts the key that signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// No key is given, so nobody is.
    NoKeys,
    /// The key is one of those given.
    Trusted,
    /// It is not, or the signature is not its.
    Untrusted,
}

/// Who signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The name of the key that the object names.
    pub key_id: KeyId,
    /// Whether the signature is that key's.
    pub is_valid: bool,
    /// Whether the key is trusted.
    pub trust: Trust,
}

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key_id, is_valid, trust } = self;
        let fits = if *is_valid { "a valid signature" } else { "NOT a signature of that key" };
        let trust = match trust {
            Trust::NoKeys => "trusted by nobody: no --sequencer-key is given",
            Trust::Trusted => "trusted",
            Trust::Untrusted => "NOT trusted: none of the keys given",
        };
        write!(f, "key id {key_id}, {fits}, {trust}")
    }
}

/// What a checkpoint says of the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The running incarnation.
    pub incarnation: IncarnationCounter,
    /// The commit that comes next.
    pub next_commit: CommitNumber,
    /// The part of it that comes next, where some came.
    pub next_part: Option<PartIndex>,
    /// The digest that the next one names.
    pub last: CommitDigest,
    /// The state hash after the last whole commit.
    pub state: StateHash,
}

/// How a commit came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitKindShown {
    /// As one transaction.
    Transaction,
    /// As what closes a gap.
    Reconcile,
}

/// A piece of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "object", rename_all = "snake_case")]
pub enum Shown {
    /// Where the object was found in a store.
    Found {
        /// Its key.
        key: String,
    },
    /// Evidence that an agent has kept; what it quotes follows.
    Evidence {
        /// What was found.
        finding: Finding,
        /// The same in words.
        detail: String,
        /// The stream.
        stream: StreamId,
        /// The name of the key.
        key_id: KeyId,
        /// The epoch.
        epoch: Epoch,
        /// The place.
        sequence: Sequence,
        /// Why it proves nothing by itself. Without it, it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unproven: Option<String>,
    },
    /// A batch; its checkpoint and its messages follow.
    Batch {
        /// Its first message.
        first: Sequence,
        /// Its last one.
        last: Sequence,
        /// How many it holds.
        messages: usize,
        /// Its size, in bytes.
        stored_bytes: usize,
    },
    /// A checkpoint.
    Checkpoint {
        /// Who signed it.
        #[serde(flatten)]
        signed: Signed,
        /// The stream.
        stream: StreamId,
        /// The signer's epoch.
        epoch: Epoch,
        /// Messages in the log.
        size: Sequence,
        /// The root of the log tree.
        root: TreeHash,
        /// Log time, in milliseconds.
        timestamp: Timestamp,
        /// The same in UTC.
        utc: String,
        /// The epoch of the last message.
        last_epoch: Epoch,
        /// The name of that epoch's key.
        last_key_id: KeyId,
        /// The client; `None` before the first snapshot.
        client: Option<Client>,
        /// Bridge events in the log.
        inbound: u64,
        /// Those of them that the application acknowledged.
        inbox_consumed: u64,
        /// The system's status.
        status: StatusLevel,
        /// The protocol version.
        protocol: u64,
        /// The apply version.
        apply: u64,
    },
    /// The signed part of a message.
    Message {
        /// Who signed it.
        #[serde(flatten)]
        signed: Signed,
        /// The stream.
        stream: StreamId,
        /// The signer's epoch.
        epoch: Epoch,
        /// Its place.
        sequence: Sequence,
        /// Log time, in milliseconds.
        timestamp: Timestamp,
        /// The same in UTC.
        utc: String,
        /// What its body is.
        message_type: String,
        /// The hash of its body.
        body_hash: BodyHash,
    },
    /// The body of the message before; what is in it follows.
    Body {
        /// Its size as stored, in bytes.
        stored_bytes: usize,
        /// Whether it is the one that was signed.
        is_signed: bool,
    },
    /// A commit, or a part of one; its schema changes and rows follow.
    Commit {
        /// Its number.
        number: CommitNumber,
        /// Which part it is.
        part: Option<PartIndex>,
        /// Whether the commit ends here.
        is_last: bool,
        /// How it came about.
        kind: CommitKindShown,
        /// The digest of what came before.
        prev: CommitDigest,
        /// Its own.
        digest: CommitDigest,
        /// The state claimed after it.
        state: Option<StateHash>,
        /// The state that a full scan found there.
        scanned: Option<StateHash>,
        /// Bytes of its rows.
        row_bytes: usize,
        /// The new `user_version`.
        user_version: Option<i32>,
        /// The new `application_id`.
        application_id: Option<i32>,
    },
    /// A schema change.
    Schema {
        /// `drop`, `create`, `amend` or `rebuild`.
        change: String,
        /// What kind of object.
        kind: String,
        /// Its name.
        name: String,
        /// Its name before, where that was another.
        was: Option<String>,
        /// Its SQL.
        sql: Option<String>,
    },
    /// A row change.
    Row {
        /// As SQL.
        sql: String,
    },
    /// A snapshot; its chunks follow.
    Snapshot {
        /// The incarnation.
        incarnation: IncarnationCounter,
        /// Where it stands.
        place: String,
        /// Its digest, which the first commit of an incarnation names.
        digest: CommitDigest,
        /// The text encoding.
        encoding: String,
        /// The page size, in bytes.
        page_size: u32,
        /// Its pages.
        pages: u64,
        /// The state hash.
        state: StateHash,
        /// How many chunks it has.
        chunks: usize,
        /// Their size as stored, in bytes.
        stored_bytes: u64,
    },
    /// The manifest of a replica's snapshot; its checkpoint, its runs and its patches follow.
    Manifest {
        /// Who signed it.
        #[serde(flatten)]
        signed: Signed,
        /// The stream.
        stream: StreamId,
        /// The last message that the snapshot contains.
        sequence: Sequence,
        /// The text encoding.
        encoding: String,
        /// The page size, in bytes.
        page_size: u32,
        /// Its pages.
        pages: u64,
        /// How many runs it has.
        runs: usize,
        /// How many patches are laid over them.
        patches: usize,
        /// The size of both as stored, in bytes.
        stored_bytes: u64,
    },
    /// An endorsement; its checkpoint follows.
    Endorsement(Box<EndorsementShown>),
    /// A refusal.
    Refusal(Box<RefusalShown>),
    /// A patch of a replica's snapshot.
    Patch {
        /// Its name.
        hash: ChunkHash,
        /// Its pages.
        pages: u64,
        /// Those of them that are laid somewhere.
        laid: u64,
        /// In how many places.
        places: usize,
        /// Its size as stored, in bytes.
        stored_bytes: u64,
    },
    /// A chunk of a snapshot.
    Chunk {
        /// Its name.
        hash: ChunkHash,
        /// Its pages.
        pages: u64,
        /// Its size as stored, in bytes.
        stored_bytes: u64,
    },
    /// A bridge event.
    Inbound {
        /// The chain.
        chain_id: u64,
        /// The bridge.
        bridge: Address,
        /// Its number.
        nonce: InboundNonce,
        /// The block.
        block_number: u64,
        /// The transaction.
        transaction: ChainHash,
        /// Its index in the block.
        log_index: u32,
        /// The first bytes of its data, in hex.
        event: String,
        /// How many it has.
        event_bytes: usize,
    },
    /// A change of status.
    Status {
        /// The level.
        level: StatusLevel,
        /// Why.
        reason: String,
    },
    /// The beginning of an epoch.
    EpochStart {
        /// The hash of its record.
        record: EpochRecordHash,
        /// The protocol version.
        protocol: u64,
        /// The apply version.
        apply: u64,
    },
    /// An epoch record.
    EpochRecord {
        /// Who signed it.
        #[serde(flatten)]
        signed: Signed,
        /// The stream.
        stream: StreamId,
        /// The epoch.
        epoch: Epoch,
        /// Its hash, which the epoch's first message names.
        hash: EpochRecordHash,
        /// What proves the key.
        proof: String,
    },
    /// There is more than the limit lets through.
    More {
        /// Of what.
        what: String,
        /// How many.
        count: u64,
    },
    /// Something to know.
    Note {
        /// What.
        text: String,
    },
}

impl Shown {
    /// A checkpoint.
    pub(super) fn checkpoint(claim: &Checkpoint, signed: Signed) -> Self {
        let client = claim.client.as_ref().map(|client| Client {
            incarnation: client.incarnation.counter,
            next_commit: client.next,
            next_part: client.group.map(|OpenGroup { next, .. }| next),
            last: client.last,
            state: client.state,
        });
        Self::Checkpoint {
            signed,
            stream: claim.stream,
            epoch: claim.epoch,
            size: claim.size,
            root: claim.root(),
            timestamp: claim.timestamp,
            utc: utc(claim.timestamp),
            last_epoch: claim.last_leader.epoch,
            last_key_id: claim.last_leader.key,
            client,
            inbound: claim.inbound.map_or(0, |inbound| inbound.delivered()),
            inbox_consumed: claim.inbox_consumed,
            status: claim.status,
            protocol: claim.versions.protocol,
            apply: claim.versions.apply,
        }
    }

    /// Evidence, and why it proves nothing, if so.
    pub(super) fn evidence(evidence: &Evidence, unproven: Option<String>) -> Self {
        let Evidence { finding, detail, stream, key, epoch, sequence, .. } = evidence;
        Self::Evidence {
            finding: *finding,
            detail: detail.clone(),
            stream: *stream,
            key_id: *key,
            epoch: *epoch,
            sequence: *sequence,
            unproven,
        }
    }

    /// The signed part of a message.
    pub(super) fn receipt(receipt: &Receipt, signed: Signed) -> Self {
        let header = receipt.header();
        Self::Message {
            signed,
            stream: header.stream,
            epoch: header.epoch,
            sequence: header.sequence,
            timestamp: header.timestamp,
            utc: utc(header.timestamp),
            message_type: message_type(header.message_type).to_owned(),
            body_hash: receipt.body_hash(),
        }
    }

    /// An epoch record.
    pub(super) fn epoch_record(record: &SignedEpochRecord, signed: Signed, bytes_max: usize) -> Self {
        let claim = record.claim();
        let proof = proof(&claim.proof, bytes_max);
        Self::EpochRecord { signed, stream: claim.stream, epoch: claim.epoch, hash: record.hash(), proof }
    }
}

/// What proves a key, and of evidence at most so many bytes.
pub(super) fn proof(proof: &KeyProof, bytes_max: usize) -> String {
    match proof {
        KeyProof::Unattested => "nothing: readers pin the key".to_owned(),
        KeyProof::Registration { chain_id, registry, block_number } => {
            format!("registered at {registry} on chain {chain_id}, at block {block_number}")
        }
        KeyProof::Evidence(evidence) => {
            format!("evidence of {} bytes: {}", evidence.len(), hex_within(evidence, bytes_max))
        }
    }
}

/// Bytes in hex, of at most so many.
pub(super) fn hex_within(bytes: &[u8], bytes_max: usize) -> String {
    let more = if bytes.len() > bytes_max { "..." } else { "" };
    format!("0x{}{more}", hex::encode(&bytes[..bytes.len().min(bytes_max)]))
}

/// The name of a text encoding.
pub(super) const fn encoding(encoding: TextEncoding) -> &'static str {
    match encoding {
        TextEncoding::Utf8 => "UTF-8",
        TextEncoding::Utf16Le => "UTF-16le",
        TextEncoding::Utf16Be => "UTF-16be",
    }
}

const fn message_type(of: MessageType) -> &'static str {
    match of {
        MessageType::Submission => "submission",
        MessageType::Snapshot => "snapshot",
        MessageType::Inbound => "inbound",
        MessageType::Status => "status",
        MessageType::Epoch => "epoch",
    }
}

const fn level(of: StatusLevel) -> &'static str {
    match of {
        StatusLevel::Healthy => "healthy",
        StatusLevel::Warned => "warned",
        StatusLevel::Degraded => "degraded",
        StatusLevel::Halted => "halted",
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found { key } => write!(f, "found in {key}"),
            Self::Evidence { detail, stream, key_id, epoch, sequence, unproven, .. } => {
                let proven = match unproven {
                    None => "PROVEN by the two that follow, whoever kept the file".to_owned(),
                    Some(why) => format!("NOT proven by what it quotes: {}", printable(why)),
                };
                let detail = printable(detail);
                write!(
                    f,
                    "evidence: {detail}\n  stream {stream}\n  key id {key_id}, epoch {epoch}, place {sequence}\n  {proven}"
                )
            }
            Self::Batch { first, last, messages, stored_bytes } => {
                let messages = counted(*messages as u64, "message");
                let range = if first == last { format!("{first}") } else { format!("{first} to {last}") };
                write!(f, "batch of {messages}, {range}, {stored_bytes} bytes stored")
            }
            Self::Checkpoint {
                signed,
                stream,
                epoch,
                size,
                root,
                utc,
                last_epoch,
                last_key_id,
                client,
                inbound,
                inbox_consumed,
                status,
                protocol,
                apply,
                timestamp: _,
            } => {
                writeln!(f, "checkpoint of {}, epoch {epoch}, {utc}", counted(size.get(), "message"))?;
                writeln!(f, "  signed    {signed}")?;
                writeln!(f, "  stream    {stream}")?;
                writeln!(f, "  root      {root}")?;
                match client {
                    None => writeln!(f, "  client    none: before the first snapshot")?,
                    Some(Client { incarnation, next_commit, next_part, last, state }) => {
                        let part =
                            next_part.map_or_else(String::new, |part| format!(", part {}", part.get()));
                        writeln!(f, "  state     {state}")?;
                        writeln!(
                            f,
                            "  client    incarnation {incarnation}, next is commit {next_commit}{part}, after {last}"
                        )?;
                    }
                }
                writeln!(f, "  leader    of the last message: epoch {last_epoch}, key id {last_key_id}")?;
                writeln!(
                    f,
                    "  inbound   {}, {inbox_consumed} acknowledged; status {}",
                    counted(*inbound, "event"),
                    level(*status)
                )?;
                write!(f, "  versions  protocol {protocol}, apply {apply}")
            }
            Self::Message { signed, stream, epoch, sequence, utc, message_type, body_hash, timestamp: _ } => {
                writeln!(f, "message {sequence}: {message_type}, epoch {epoch}, {utc}")?;
                writeln!(f, "  signed    {signed}")?;
                writeln!(f, "  stream    {stream}")?;
                write!(f, "  body      {body_hash}")
            }
            Self::Body { stored_bytes, is_signed: true } => {
                write!(f, "            {stored_bytes} bytes, the ones that were signed")
            }
            Self::Body { stored_bytes, is_signed: false } => {
                write!(f, "            {stored_bytes} bytes, NOT the ones that were signed")
            }
            Self::Commit { .. } => self.fmt_commit(f),
            Self::Schema { change, kind, name, was, sql } => {
                let was = was.as_ref().map_or_else(String::new, |was| format!(", before: {was}"));
                write!(f, "    {change} {kind} {name}{was}")?;
                if let Some(sql) = sql {
                    write!(f, "\n      {}", sql.replace('\n', "\n      "))?;
                }
                Ok(())
            }
            Self::Row { sql } => write!(f, "    {sql}"),
            Self::Snapshot {
                incarnation,
                place,
                digest,
                encoding,
                page_size,
                pages,
                state,
                chunks,
                stored_bytes,
            } => {
                writeln!(f, "  snapshot of incarnation {incarnation}, {place}")?;
                writeln!(f, "    state   {state}")?;
                writeln!(f, "    digest  {digest}")?;
                write!(
                    f,
                    "    {} of {page_size} bytes, {encoding}, in {} of {stored_bytes} bytes together",
                    counted(*pages, "page"),
                    counted(*chunks as u64, "chunk"),
                )
            }
            Self::Manifest { .. } => self.fmt_manifest(f),
            Self::Endorsement(endorsement) => endorsement.fmt(f),
            Self::Refusal(refusal) => refusal.fmt(f),
            Self::Patch { hash, pages, laid, places, stored_bytes } => write!(
                f,
                "    patch   {hash}, {laid} of {} laid in {}, {stored_bytes} bytes",
                counted(*pages, "page"),
                counted(*places as u64, "place"),
            ),
            Self::Chunk { hash, pages, stored_bytes } => {
                write!(f, "    chunk   {hash}, {}, {stored_bytes} bytes", counted(*pages, "page"))
            }
            Self::Inbound {
                chain_id,
                bridge,
                nonce,
                block_number,
                transaction,
                log_index,
                event,
                event_bytes,
            } => write!(
                f,
                "  event {nonce} of bridge {bridge} on chain {chain_id}, block {block_number}, transaction {transaction}, log {log_index}\n    \
                 {event_bytes} bytes: {event}"
            ),
            Self::Status { level: at, reason } => write!(f, "  status {}: {reason}", level(*at)),
            Self::EpochStart { record, protocol, apply } => {
                write!(f, "  epoch begins by record {record}, protocol {protocol}, apply {apply}")
            }
            Self::EpochRecord { signed, stream, epoch, hash, proof } => {
                writeln!(f, "epoch record: claims epoch {epoch}")?;
                writeln!(f, "  signed    {signed}")?;
                writeln!(f, "  stream    {stream}")?;
                writeln!(f, "  hash      {hash}")?;
                write!(f, "  proof     {proof}")
            }
            Self::More { what, count } => {
                let what = match (count, what.as_str()) {
                    (1, "patches") => "patch",
                    (1, what) => what.trim_end_matches('s'),
                    (_, what) => what,
                };
                write!(f, "    ... and {count} more {what}; --limit shows more")
            }
            Self::Note { text } => write!(f, "  note: {text}"),
        }
    }
}

impl Shown {
    fn fmt_commit(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Commit {
            number,
            part,
            is_last,
            kind,
            prev,
            digest,
            state,
            scanned,
            row_bytes,
            user_version,
            application_id,
        } = self
        else {
            return Ok(());
        };
        let kind = match kind {
            CommitKindShown::Transaction => "one transaction",
            CommitKindShown::Reconcile => "closes a gap",
        };
        let end = if *is_last { ", the last" } else { "" };
        let part = part.map_or_else(String::new, |part| format!(", part {}{end}", part.get()));
        writeln!(f, "  commit {number}{part}: {kind}, {row_bytes} bytes of rows")?;
        writeln!(f, "    prev    {prev}")?;
        write!(f, "    digest  {digest}")?;
        let states = [("state", state), ("scanned", scanned)];
        for (name, state) in states.into_iter().filter_map(|(name, state)| state.map(|state| (name, state))) {
            write!(f, "\n    {name:<8}{state}")?;
        }
        let numbers = [("user_version", user_version), ("application_id", application_id)];
        for (name, number) in
            numbers.into_iter().filter_map(|(name, number)| number.map(|number| (name, number)))
        {
            write!(f, "\n    PRAGMA {name} = {number};")?;
        }
        Ok(())
    }
}
