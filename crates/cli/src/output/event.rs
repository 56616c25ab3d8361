//! What commands have to say: a closed set.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use synddb_agent::{AgentStatus, Audited, Finding as EvidenceOf, Problem};
use synddb_protocol::hash::{StateHash, TreeHash};
use synddb_protocol::http::{Halt, Position, ReplicaStatus, StreamStatus};
use synddb_protocol::id::{Address, Epoch, KeyId, Sequence, StreamId};
use synddb_service::config::Setting;
use synddb_validator::fsck::{Progress as CheckProgress, Report};
use synddb_validator::gc::{Progress as SweepProgress, Report as SweepReport};
use synddb_validator::restore::{Progress as RestoreProgress, Restored};
use synddb_validator::rules::{Offending, ServedRefusal};

use crate::bench::{Machine, Measured};
use crate::bridge::{BridgeReport, MessageReport};
use crate::diff::Compared;
use crate::doctor::{Count, Finding};
use crate::inspect::Shown;
use crate::mirror::Summary;
use crate::token::{Listed, ShownToken};

/// A process of the system. They are ordered as the data flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Process {
    /// Beside the application.
    Agent,
    /// Orders, signs and stores.
    Sequencer,
    /// Rebuilds and checks.
    Validator,
    /// Brings to the chain what is signed.
    Relayer,
    /// A chain of this machine.
    Chain,
}

/// Where the bridge of a stream is, and what runs for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bridged {
    /// The URL of the chain's node.
    pub rpc: String,
    /// The chain, by its EIP-155 id.
    pub chain_id: u64,
    /// The bridge there.
    pub bridge: Address,
    /// The relayer's URL.
    pub relayer: String,
    /// The record of what is deployed.
    pub deployments: String,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::Sequencer => "sequencer",
            Self::Validator => "validator",
            Self::Relayer => "relayer",
            Self::Chain => "chain",
        })
    }
}

/// How far commits have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// They have places in the log. Receipts are provisional.
    Sequenced,
    /// They are in the store.
    Stored,
    /// They are in the replica.
    Applied,
}

/// A process that writes a database with an SQLite that can lose commits by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// Its name and number.
    pub who: String,
    /// Its version of SQLite, as far as it can be seen.
    pub sqlite: String,
    /// What that may do.
    pub risk: String,
}

/// What became of the time in which a database was not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Continuity {
    /// Nothing: every transaction in it was captured.
    Exact,
    /// It is one commit, in the same incarnation.
    Reconciled,
    /// A new incarnation begins after it.
    Incarnation,
}

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The configuration file of a process, with every default.
    Configuration {
        /// Whose.
        process: Process,
        /// The file, in TOML.
        text: String,
    },
    /// What one key of a configuration comes to.
    Setting(Setting),
    /// The process could begin as its configuration says.
    Configured {
        /// Whose.
        process: Process,
    },
    /// The mirror follows; everything committed from here on is applied.
    Ready {
        /// The application's database.
        source: String,
        /// The replica.
        target: String,
        /// Their state hash.
        state: String,
    },
    /// The mirror took something since the last time this was said.
    Progress(Summary),
    /// The mirror ended; everything committed until it was asked to is applied.
    Stopped(Summary),
    /// Two databases are equal.
    Equal {
        /// Their state hash.
        state: String,
        /// Where both stand, where they are not both files.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remote: Option<Box<Compared>>,
    },
    /// Two databases differ.
    Different {
        /// The first difference.
        difference: String,
        /// The same for programs, and what else is known, where they are not both files.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remote: Option<Box<Compared>>,
    },
    /// Something is waited for.
    Waiting {
        /// For what, and what would help.
        reason: String,
    },
    /// A service takes requests.
    Listening {
        /// Which.
        process: Process,
        /// Its URL.
        url: String,
        /// Of a sequencer: the key that signs, which readers pin.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// Of a sequencer: the name of that key, as it stands in leases and in the log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_id: Option<String>,
    },
    /// The agent is about to follow the application's database: what that changes.
    Attaching {
        /// The database.
        database: String,
        /// Whether its journal mode is switched to WAL, which persists.
        switches_to_wal: bool,
        /// The folder that is made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        makes: Option<String>,
        /// About how large the WAL may become, in MiB.
        wal_limit_mib: u64,
        /// Writers that can lose commits by themselves. Those of other users cannot be seen.
        writers_at_risk: Vec<Writer>,
    },
    /// A validator can begin: its configuration and its key are written.
    Initialized {
        /// The configuration file.
        config: String,
        /// The file of its key.
        key_file: String,
        /// Its public key.
        key: String,
        /// The key id.
        key_id: KeyId,
        /// The stream that it will follow.
        stream: StreamId,
        /// Where it will serve HTTP, if anywhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listen: Option<SocketAddr>,
    },
    /// Nobody knows yet whether a key that is to be believed leads the log.
    KeyUnchecked {
        /// Why not.
        why: String,
    },
    /// A token was made, or one that there was is listed now.
    TokenMade {
        /// What it is called.
        name: String,
        /// The token, where it was not written to a file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<ShownToken>,
        /// What is to be put into a credentials file, where none was named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entry: Option<String>,
        /// The credentials file that lists it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<String>,
    },
    /// A token or a certificate is not listed any more.
    TokenRevoked {
        /// What it was called.
        name: String,
        /// The credentials file.
        file: String,
    },
    /// What a credentials file lists.
    Tokens {
        /// Its entries.
        listed: Vec<Listed>,
    },
    /// Several sequencers are named and no key: one with another key than the first cannot take over.
    KeysUnnamed {
        /// How many are named.
        sequencers: usize,
    },
    /// The token is sent over plain HTTP, to other machines.
    TokenInPlain {
        /// To which sequencers.
        sequencers: Vec<String>,
    },
    /// The agent follows the application's database.
    Attached {
        /// The stream.
        stream: StreamId,
        /// The number of the incarnation.
        incarnation: u64,
        /// What became of the time in which it was not followed.
        continuity: Continuity,
        /// The same in words, with the reason.
        how: String,
    },
    /// Another process holds the agent's place in the WAL, and outlives the agent.
    Pinned {
        /// The number of that process.
        pid: u32,
    },
    /// No other process holds the place: should the agent be killed, there may be a gap.
    Unpinned {
        /// Why not.
        detail: String,
    },
    /// What was committed while no agent was attached could not be made one commit, so that a new incarnation begins.
    NotReconciled {
        /// Why not.
        detail: String,
    },
    /// The database was scanned in full, and compared with what was captured.
    Audited(Audited),
    /// A snapshot of the database is on the agent's disk, to be sent.
    SnapshotTaken {
        /// The number of the incarnation that it begins.
        incarnation: u64,
        /// Its chunks.
        chunks: u64,
        /// Their size, in bytes.
        bytes: u64,
    },
    /// A snapshot was seen stored.
    SnapshotStored {
        /// The number of the incarnation that it begins.
        incarnation: u64,
    },
    /// A sequencer contradicts what it, or the one before it, has signed.
    Evidence {
        /// What was found.
        finding: EvidenceOf,
        /// The same in words.
        detail: String,
        /// The file that was kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<String>,
    },
    /// Something keeps the agent from its work. It is told once.
    Warning(Problem),
    /// What kept the agent from sending is over.
    Recovered,
    /// Another sequencer than before has taken what the agent sent.
    FailedOver {
        /// Its URL.
        sequencer: String,
    },
    /// The agent does not follow the database, for what it warned of before; it is attached again.
    Interrupted {
        /// Milliseconds until it is tried.
        again_ms: u64,
    },
    /// A process was asked to end, and finishes what is left.
    Draining {
        /// Which.
        process: Process,
    },
    /// A snapshot was restored.
    Restored {
        /// The message that holds it.
        sequence: Sequence,
        /// The state hash.
        state: StateHash,
    },
    /// A replica begins with a snapshot out of the store, and goes on behind it.
    Began {
        /// The last message in it.
        sequence: Sequence,
        /// The state hash.
        state: StateHash,
        /// The key id of whoever took it.
        signer: KeyId,
    },
    /// A snapshot of the replica was stored.
    Snapshot {
        /// The last message in it.
        sequence: Sequence,
        /// Chunks of it that were not stored before.
        chunks: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// Messages were applied; said at most once a second.
    Applied {
        /// The last one.
        sequence: Sequence,
        /// The state hash after it.
        state: StateHash,
    },
    /// The replica holds everything that is stored.
    CaughtUp {
        /// The last message; `None` while nothing is stored.
        sequence: Option<Sequence>,
        /// The state hash after it.
        state: Option<StateHash>,
    },
    /// The replica stopped.
    Halted(Halt),
    /// `dev` started a process.
    Started {
        /// Which.
        process: Process,
        /// Its number for the operating system.
        pid: u32,
    },
    /// A process of `dev` ended and is started again.
    Exited {
        /// Which.
        process: Process,
        /// How it ended.
        status: String,
    },
    /// Everything under `dev` runs.
    Running {
        /// The stream.
        stream: StreamId,
        /// The sequencer's URL.
        sequencer: String,
        /// The validator's URL.
        validator: String,
        /// The store.
        store: String,
        /// The replica.
        replica: String,
        /// The key that signs the log.
        key: String,
        /// The bridge, where `dev` has a chain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bridge: Option<Box<Bridged>>,
    },
    /// A process ended as it was asked to.
    Drained {
        /// Which.
        process: Process,
        /// Whether everything that was committed until then is stored or applied.
        complete: bool,
    },
    /// What was committed when the command began has come to where it was waited for.
    Reached {
        /// Where.
        stage: Stage,
        /// What comes next in the stream.
        next: Position,
        /// The replica's state hash, where it was waited for the replica.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<StateHash>,
        /// Milliseconds that it took.
        elapsed_ms: u64,
    },
    /// What the processes of one database say of themselves.
    Status {
        /// The agent; `None` where none runs.
        agent: Option<Box<AgentStatus>>,
        /// The sequencer; `None` where none answers.
        sequencer: Option<Box<StreamStatus>>,
        /// The validator; `None` where none answers.
        validator: Option<Box<ReplicaStatus>>,
    },
    /// What is said of a bridge, and of the messages on their way there.
    BridgeStatus {
        /// The bridge.
        bridge: Box<BridgeReport>,
        /// The messages that the sequencer knows, from the first that was asked for.
        messages: Vec<MessageReport>,
    },
    /// A sequencer's key counts no more on the chain: it signed two contents for one place.
    Reported {
        /// The key.
        key_id: String,
        /// The epoch.
        epoch: Epoch,
        /// The place.
        sequence: Sequence,
        /// The transaction.
        transaction: String,
        /// Its block.
        block: u64,
    },
    /// A database is as it was before an agent was attached to it.
    Detached {
        /// The database.
        database: String,
        /// Its journal mode now.
        journal_mode: String,
        /// Where what `dev` published stays: the folder of its store and its sequencer, or the store that it was told to use.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<String>,
    },
    /// How far `verify` is; said at most once a second.
    Verifying(CheckProgress),
    /// A stored log is whole.
    Verified {
        /// What it holds.
        #[serde(flatten)]
        report: Box<Report>,
        /// Milliseconds that it took.
        elapsed_ms: u64,
    },
    /// How far `gc` is; said at most once a second.
    Sweeping(SweepProgress),
    /// What nobody needs was removed from a store, or would be.
    Swept {
        /// What stays and what went.
        #[serde(flatten)]
        report: Box<SweepReport>,
        /// Milliseconds that it took.
        elapsed_ms: u64,
    },
    /// How far `restore` is; said at most once a second.
    Restoring(RestoreProgress),
    /// A database is rebuilt as it was.
    Rebuilt {
        /// The file.
        file: String,
        /// What is in it.
        #[serde(flatten)]
        restored: Box<Restored>,
        /// Milliseconds that it took.
        elapsed_ms: u64,
    },
    /// A commit or a snapshot violates a rule: nothing from its message on is endorsed until somebody resolves it.
    Violated {
        /// The rule.
        rule: String,
        /// The message.
        sequence: Sequence,
        /// Why it does not hold.
        detail: String,
    },
    /// A violation is resolved.
    Resolved {
        /// Its number.
        id: u64,
        /// The rule.
        rule: String,
        /// The message.
        sequence: Sequence,
    },
    /// A validator endorses checkpoints.
    Endorses {
        /// The id of its key.
        validator: KeyId,
        /// Whether a contract has registered it.
        attested: bool,
    },
    /// Checkpoints were endorsed; said at most once a second.
    Endorsed {
        /// The last message of the last one.
        sequence: Sequence,
    },
    /// A rule cannot be evaluated over a database.
    RuleProblem {
        /// The rule.
        rule: String,
        /// What is wrong, and how to mend it.
        problem: String,
    },
    /// A file of rules was checked.
    RulesChecked {
        /// How many rules it has.
        rules: u64,
        /// How many of them cannot be evaluated.
        problems: u64,
        /// Whether they were checked over the tables of a database.
        over_tables: bool,
    },
    /// A rule holds.
    RuleHolds {
        /// The rule.
        rule: String,
        /// Milliseconds that it took, with finding the rows.
        elapsed_ms: u64,
    },
    /// A rule does not hold.
    RuleViolated {
        /// The rule.
        rule: String,
        /// Why not.
        detail: String,
        /// The rows that show it.
        offending: Offending,
        /// Milliseconds that it took, with finding the rows.
        elapsed_ms: u64,
    },
    /// Rules were tried on a database.
    RulesTested {
        /// How many.
        rules: u64,
        /// How many of them do not hold.
        violated: u64,
    },
    /// A violation that a replica has.
    Violation(Box<ServedRefusal>),
    /// How many violations of a replica are open.
    ViolationsOpen {
        /// How many.
        open: u64,
    },
    /// What was decided of a violation lies beside the replica, and no validator has taken it in yet.
    ResolutionLeft {
        /// The number of the violation.
        id: u64,
        /// The rule.
        rule: String,
        /// The file.
        file: String,
    },
    /// A checkpoint that somebody endorsed whose endorsement counts.
    Gathered {
        /// The last message.
        sequence: Sequence,
        /// The root of the log there.
        root: TreeHash,
        /// The state there.
        state: Option<StateHash>,
        /// What is signed.
        digest: String,
        /// Whether enough have.
        has_quorum: bool,
        /// Who, in ascending order.
        signers: Vec<KeyId>,
        /// Their signatures, in the same order.
        signatures: Vec<String>,
    },
    /// An endorsement that does not count.
    NotCounted {
        /// The last message.
        sequence: Sequence,
        /// Who signed it, if anybody.
        signer: Option<KeyId>,
        /// Why it does not count.
        why: String,
    },
    /// How far a quorum has endorsed a log, among the places that were looked at.
    Quorum {
        /// The stream.
        stream: StreamId,
        /// How many validators are enough.
        threshold: u32,
        /// Of how many.
        of: u64,
        /// The last message of the newest checkpoint that a quorum has endorsed.
        sequence: Option<Sequence>,
    },
    /// The message tables of a database.
    MessagesMade {
        /// The database.
        database: String,
        /// Whether any was made; otherwise they were there.
        made: bool,
    },
    /// What makes the message tables.
    MessagesSql {
        /// The SQL.
        sql: String,
    },
    /// A piece of an object that `inspect` shows.
    Shown(Box<Shown>),
    /// Something that `doctor` found.
    Finding(Finding),
    /// How much `doctor` found.
    Examined(Count),
    /// A benchmark begins.
    Measuring(Machine),
    /// A scenario of a benchmark is done.
    Measured(Box<Measured>),
    /// A benchmark is done: everything that it measured.
    Benchmarked {
        /// On what.
        #[serde(flatten)]
        machine: Machine,
        /// What was measured, in its order.
        measured: Vec<Measured>,
    },
    /// The command did not come to its end.
    Failed {
        /// The exit code.
        exit: u8,
        /// What failed, and why.
        message: String,
    },
}
