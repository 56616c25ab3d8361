//! The command line: which commands exist and what they accept.

mod endorse;
mod nodes;
mod sequencer;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, CommandFactory, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;
use endorse::{EndorseOptions, EndorseOverrides};
use nodes::NodesOverrides;
use sequencer::{BatchOverrides, BridgeOverrides, RoleOverride};
use serde::Serialize;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::signing::VerifyingKey;
use synddb_sequencer::PublicUrl;
use synddb_storage::StoreUrl;
use synddb_validator::Mode;
pub(crate) use tls::TlsOverrides;

use crate::bench::{BenchArguments, FIGURES};
use crate::bridge::BridgeCommand;
use crate::configuration::ConfigArguments;
use crate::dev::DevArguments;
use crate::diff::DiffArguments;
use crate::endorsements::EndorsementsArguments;
use crate::follow::FollowArguments;
use crate::gc::GcArguments;
use crate::messages::InitMessagesArguments;
use crate::named;
use crate::relayer::RelayerArguments;
use crate::restore::RestoreArguments;
use crate::rules::RulesCommand;
use crate::token::TokenCommand;

const EXIT_CODES: &str = "Exit codes:
  0  done; for `diff`, the databases are equal; for `doctor`, nothing stops following
  1  the databases differ, a replica is not what the log says it is, a database is not what was captured, or a stored log is not whole;
     or a replica halted, or a log is refused
  2  the command line, or what it names, is refused, also by `doctor`; the text says what to change
  3  the command failed on the way
  4  what was waited for did not come in time
  5  not everything was done: ended as asked, or the store has not got it yet; what follows a log goes on at the next start,
     and `verify`, `gc` and `restore` begin anew
130  a second signal ended the command at once";

/// Makes any SQLite application verifiable: captures every committed transaction, and rebuilds the database elsewhere.
///
/// Variables are also read from the file `.env` in the folder where the command is started; the real environment wins.
#[derive(Debug, Parser)]
#[command(name = "synddb", version, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Print one JSON object per line, each with an `event`.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs agent, sequencer, validator and replica of one database on this machine, without configuration.
    ///
    /// Everything is kept in `<DATABASE>-synddb/`, but for the log where `--store` names a place for it; started again it goes on. Ends on SIGINT or SIGTERM, when everything
    /// committed until then is in the replica. Its replica halted? Stop `dev`, run `synddb validator resync --once` with `--store --stream
    /// --sequencer-key --replica` as `running` shows them, and start it again.
    Dev(DevArguments),
    /// Follows an application's database, and sends every committed transaction to a sequencer.
    ///
    /// Works beside the running application, which needs no change. Ends on SIGINT or SIGTERM, when everything committed until then
    /// is stored. Writers need a busy timeout: their write lock is taken for a moment now and then.
    Follow(Box<FollowArguments>),
    /// Holds the place of an agent in the application's WAL. Agents start it.
    #[command(hide = true)]
    Pin(PinArguments),
    /// Orders, signs and stores what agents send.
    Sequencer(SequencerArguments),
    /// Follows a log, rebuilds the database and checks every step.
    Validator(Box<ValidatorArguments>),
    /// Rebuilds a database from a store alone.
    Replica(ReplicaArguments),
    /// Brings to the chain what the sequencer and a quorum of validators have signed, once, and pays the gas.
    ///
    /// It is believed by nobody, and believes nobody: the bridge checks every signature. What it has sent is in its folder, so that it may be killed at any
    /// moment. Several may run for one bridge; then some pay for messages that are executed already.
    Relayer(Box<RelayerArguments>),
    /// Says what became of messages on their way to the chain, and reports a sequencer that signed two contents for one place.
    #[command(subcommand)]
    Bridge(BridgeCommand),
    /// Waits until everything committed now is in the replica. Exit code 4 when it is not in time.
    Wait(WaitArguments),
    /// Has the agent send everything committed now, and waits until it is sequenced. Exit code 4 when it is not in time.
    Push(PushArguments),
    /// Has the agent scan the database in full, and compare it with what was captured. Exit code 1 when it is something else.
    Audit(AuditArguments),
    /// What agent, sequencer and validator of a database say of themselves.
    Status(StatusArguments),
    /// Ends the following of a database for good, once everything of it is stored. The database is as before; the store stays.
    Detach(DetachArguments),
    /// Keeps a second file equal to an application's database, on this machine and without network.
    ///
    /// Works beside the running application, which needs no change. Ends on SIGINT or SIGTERM, after everything committed
    /// until then was applied. Other writers need a busy timeout: their write lock is taken for a moment now and then.
    Mirror(MirrorArguments),
    /// Says whether two databases are equal, or in what they first differ: header values, schema, every table row by row.
    Diff(DiffArguments),
    /// Checks a whole stored log, without a sequencer and without a database: every signature, body, link and chunk. Exit code 1 when it is not
    /// whole.
    ///
    /// Reads the store from the first epoch record and the first batch to the end. What it cannot see is that batches were taken away from the
    /// end: compare the size and the root that it says with what you know. With --full the database is rebuilt as well, and every state hash
    /// compared. What the store holds besides is counted, and is no failure.
    Verify(VerifyArguments),
    /// Rebuilds from a store alone the application's database as it was: after a commit, or at a time.
    ///
    /// Everything on the way is checked as by `verify --full`: signatures, links, every old value of a row, and every state hash that the log claims.
    /// The file is a database like the application's: nothing of ours is in it, and nothing lies beside it. It is created whole or not at all, and
    /// replaces nothing. Rowids are those of the application. What ANALYZE gathered is not in a log; run it again.
    Restore(RestoreArguments),
    /// Removes from a store what nobody needs: old snapshots of replicas, and chunks that neither the log nor a snapshot that is kept names.
    ///
    /// Batches, epoch records and endorsements stay for ever. The whole log is read first: what cannot be read may name any chunk, so then nothing is
    /// removed. It may run while others write, and be killed at any moment; another run goes on. The store must let this command delete,
    /// which no other part of the system needs.
    Gc(GcArguments),
    /// Checks and tries the rules of a validator, and lists and resolves what they found.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Says which checkpoints in a store a quorum of validators has endorsed, with their signatures. Exit code 1 when there is none.
    ///
    /// An endorsement says that its validator has verified the log up to there. Whether the validators that are named deserve that is not asked.
    Endorsements(EndorsementsArguments),
    /// Makes the tables by which an application speaks to the bridge: `outbound_messages` and `inbound_messages`.
    InitMessages(InitMessagesArguments),
    /// Shows an object of a log: a batch, a message, a receipt, a checkpoint, an epoch record, a manifest, an endorsement, a refusal; or evidence against a sequencer that an agent has kept.
    ///
    /// Row changes are shown as SQL. A log names tables and not columns, so columns have pseudo names: `k1` is the first value of the row and part
    /// of its identity, `c2` the second and not; where the identity is a rowid that is no column, `k1` is that rowid. Text is shown as UTF-8.
    /// Characters that a terminal would obey are escaped: as `char(27)` in values, as `\u{1b}` elsewhere. That an object is shown says nothing of
    /// whether it may be believed: that is what `verify` says of a whole log.
    Inspect(InspectArguments),
    /// Says whether a database can be followed, what may go wrong, and what to do about it. Changes nothing.
    ///
    /// Works beside the running application and its agent. Exit code 2 when something stops following.
    Doctor(DoctorArguments),
    /// Makes, lists and revokes the tokens of those who may write.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Measures what following costs, how fast replicas are, and how much a sequencer accepts.
    #[command(after_help = FIGURES)]
    Bench(BenchArguments),
    /// Prints the configuration file of a process with every default, or says what a configuration comes to.
    Config(ConfigArguments),
    /// Writes the reference pages and default configuration files into a folder.
    #[command(hide = true)]
    Reference {
        /// The folder.
        folder: PathBuf,
    },
    /// Writes the OpenAPI document of each process into a folder.
    #[command(hide = true)]
    Openapi {
        /// The folder.
        folder: PathBuf,
    },
    /// Prints a script that completes this command's arguments, to be read by a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// The database that a command is about.
#[derive(Debug, Args)]
pub(crate) struct DatabaseArguments {
    /// The application's database. Whoever follows it switches it to WAL mode, which persists; `dev` waits for one that does not exist.
    pub(crate) database: PathBuf,
    /// The folder of what belongs to it, instead of `<DATABASE>-synddb/`.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct WalLimit {
    /// About how large the application's WAL may become, in MiB. A writer that is faster than the follower waits then.
    #[arg(long = "wal-limit", value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub(crate) mib: u64,
}

#[derive(Debug, Args)]
pub(crate) struct PinArguments {
    #[command(flatten)]
    pub(crate) of: DatabaseArguments,
    /// A WAL that is larger than so many MiB is let go while no agent runs.
    #[arg(long = "wal-let-go", value_name = "MIB")]
    pub(crate) let_go_mib: u64,
    /// How long the place in the WAL is held for an agent that was killed.
    #[arg(long = "pin-linger")]
    pub(crate) linger: humantime::Duration,
}

#[derive(Debug, Args)]
pub(crate) struct OutboxLimit {
    /// How large the outbox may become, in MiB. Nothing is dropped: the follower slows down.
    #[arg(long = "outbox-limit", id = "outbox_mib", value_name = "MIB", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub(crate) mib: u64,
}

#[derive(Debug, Args)]
pub(crate) struct SequencerArguments {
    /// A configuration file in TOML. Environment (`SYNDDB_SEQUENCER_...`) and arguments go before it.
    #[arg(long, env = "SYNDDB_SEQUENCER_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) overrides: SequencerOverrides,
    /// End when standard input ends: for programs that start this one.
    #[arg(long)]
    pub(crate) stop_on_eof: bool,
}

/// What the command line may set of a sequencer's configuration.
#[derive(Debug, Args, Serialize)]
pub(crate) struct SequencerOverrides {
    /// The address to listen at, as in `127.0.0.1:8433`.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
    /// The store: `gs://bucket/prefix`, `s3://bucket/prefix`, `az://container/prefix` or `file:///folder`. Credentials come from the environment.
    #[arg(long, value_parser = named::store)]
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<StoreUrl>,
    /// The folder of the journals.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    dir: Option<PathBuf>,
    /// The file that lists the credentials of agents, read again when it changes; `synddb token new` makes one.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials_file: Option<PathBuf>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "TlsOverrides::is_empty")]
    tls: TlsOverrides,
    /// The file with the signing key; made when it is missing.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    key_file: Option<PathBuf>,
    /// A stream to admit, and to lead from the start where it has a log; several may be named. Without any, all are admitted.
    #[arg(long = "stream")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    streams: Vec<StreamId>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "RoleOverride::is_none")]
    role: RoleOverride,
    /// The key of another sequencer over this store, as its event `listening` shows it; several may be named. What it led is accepted when a stream is
    /// taken over. Goes before `trusted_keys` of the file.
    #[arg(long = "trusted-key", value_name = "KEY", value_parser = named::sequencer_key)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trusted_keys: Vec<VerifyingKey>,
    /// Where leases lie, if not in the store: a URL of the same kinds. For a store that lets nothing be overwritten.
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_store: Option<StoreUrl>,
    /// Where clients reach it, for whoever reads its leases.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<PublicUrl>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "BridgeOverrides::is_empty")]
    bridge: BridgeOverrides,
    #[command(flatten)]
    #[serde(skip_serializing_if = "NodesOverrides::is_empty")]
    nodes: NodesOverrides,
    #[command(flatten)]
    #[serde(skip_serializing_if = "BatchOverrides::is_empty")]
    batch: BatchOverrides,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ValidatorArguments {
    #[command(flatten)]
    pub(crate) of: ValidatorOptions,
    #[command(subcommand)]
    pub(crate) instead: Option<Instead>,
}

/// What is done instead of going on: before the first start, or behind a halt.
#[derive(Debug, Subcommand)]
pub(crate) enum Instead {
    /// Writes a configuration file with every key and what it means, and a signing key, for a validator that begins.
    ///
    /// Nothing that is there is overwritten; a key that is there is kept. Nothing is followed yet: what to run next is said.
    Init(InitArguments),
    /// Fetches the replica again: moves it away and rebuilds it from the log, checking every step.
    ///
    /// Exit code 1 when it halts again: then it is the log that cannot be followed, and not this replica.
    Resync {
        #[command(flatten)]
        of: ValidatorOptions,
        /// Remove the replica instead of keeping it as `<REPLICA>.diverged-<SEQUENCE>`.
        #[arg(long)]
        discard: bool,
        /// End when everything stored is in the replica.
        #[arg(long)]
        once: bool,
    },
    /// Accepts that messages are missing in the replica for good, and goes on from the next snapshot.
    ///
    /// Everything in between is still verified, and nothing of it is applied. The gap is shown by `/status` from then on.
    Resume {
        #[command(flatten)]
        of: ValidatorOptions,
        /// The report that the halt wrote: `<REPLICA>.divergence.json`.
        #[arg(long, value_name = "REPORT")]
        after_divergence: PathBuf,
        /// End when everything stored is in the replica. Exit code 5 when the store holds no later snapshot yet.
        #[arg(long)]
        once: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct InitArguments {
    /// The store: `gs://bucket/prefix`, `s3://bucket/prefix`, `az://container/prefix`, `file:///folder`, or `https://host/prefix` of a host that
    /// serves one.
    #[arg(long, value_parser = named::store)]
    pub(crate) store: StoreUrl,
    /// A key that may sign the log; several may be named. Take it from whoever runs the sequencer, not from the store.
    #[arg(long = "sequencer-key", required = true, value_parser = named::sequencer_key)]
    pub(crate) sequencer_keys: Vec<VerifyingKey>,
    /// The stream. Without it, the one that the store holds, if it holds one only.
    #[arg(long)]
    pub(crate) stream: Option<StreamId>,
    /// The folder in which `validator.toml` is written.
    #[arg(long, default_value = ".")]
    pub(crate) dir: PathBuf,
    /// The folder in which `validator.key` is written and the replica will lie, where that is not `--dir`: one that the validator may write to.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// Where it will serve HTTP, as in `127.0.0.1:8080`. Without it nothing is served until `listen` is set in the file.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct ValidatorOptions {
    /// A configuration file in TOML. Environment (`SYNDDB_VALIDATOR_...`) and arguments go before it.
    #[arg(long, env = "SYNDDB_VALIDATOR_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The file to rebuild the database in.
    #[arg(long)]
    replica: Option<PathBuf>,
    #[command(flatten)]
    log: LogArguments,
    /// A file of rules that every commit is judged by.
    #[arg(long)]
    rules: Option<PathBuf>,
    #[command(flatten)]
    endorse: EndorseOptions,
    /// End when standard input ends: for programs that start this one.
    #[arg(long)]
    pub(crate) stop_on_eof: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReplicaArguments {
    /// The file to rebuild the database in.
    replica: PathBuf,
    #[command(flatten)]
    log: LogArguments,
    /// End when everything stored is in the replica.
    #[arg(long)]
    pub(crate) once: bool,
    /// End when standard input ends: for programs that start this one.
    #[arg(long)]
    pub(crate) stop_on_eof: bool,
}

/// Which log is followed, and whom it is believed of.
#[derive(Debug, Args, Serialize)]
struct LogArguments {
    /// The store: `gs://bucket/prefix`, `s3://bucket/prefix`, `az://container/prefix`, `file:///folder`, or `https://host/prefix` of a host that
    /// serves one.
    #[arg(long, value_parser = named::store)]
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<StoreUrl>,
    /// The stream.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<StreamId>,
    /// A key that may sign the log; several may be named. Take it from whoever runs the sequencer, not from the store.
    #[arg(long = "sequencer-key", conflicts_with = "keys_file", value_parser = named::sequencer_key)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sequencer_keys: Vec<VerifyingKey>,
    /// A file in TOML of the keys that may sign the log, and of those that are revoked, instead. It is read again when it changes.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    keys_file: Option<PathBuf>,
    /// The sequencer's URL, to hear of new messages at once. It is never believed.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    sequencer: Option<String>,
    /// Begin a replica that is not there yet, or is fetched again, from the newest snapshot in the store that the log vouches for, instead of from the
    /// first message. What it does not check then, `verify --full --of` does.
    #[arg(long, value_name = "WHICH", num_args = 0..=1, require_equals = true, default_missing_value = "newest", value_parser = ["newest", "never"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    from_snapshot: Option<String>,
    /// The address to listen at, as in `127.0.0.1:8080`.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
    /// The file that lists the credentials of those who may have the replica scanned. Without it, whoever uses this machine may.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials_file: Option<PathBuf>,
    /// The authority that signed the sequencer's certificate, in PEM.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    sequencer_ca_file: Option<PathBuf>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "TlsOverrides::is_empty")]
    tls: TlsOverrides,
}

/// What the command line sets of a validator's configuration.
#[derive(Debug, Serialize)]
pub(crate) struct ValidatorOverrides<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    replica: Option<&'a PathBuf>,
    #[serde(flatten)]
    log: &'a LogArguments,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<&'a PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endorse: Option<EndorseOverrides<'a>>,
}

impl ValidatorOptions {
    pub(crate) fn overrides(&self, once: bool) -> ValidatorOverrides<'_> {
        let mode = if once { Some(Mode::Once) } else { None };
        let (replica, rules) = (self.replica.as_ref(), self.rules.as_ref());
        ValidatorOverrides { replica, log: &self.log, mode, rules, endorse: self.endorse.overrides() }
    }
}

impl ReplicaArguments {
    pub(crate) const fn overrides(&self) -> ValidatorOverrides<'_> {
        let mode = if self.once { Mode::Once } else { Mode::Follow };
        let replica = Some(&self.replica);
        ValidatorOverrides { replica, log: &self.log, mode: Some(mode), rules: None, endorse: None }
    }
}

#[derive(Debug, Args)]
pub(crate) struct WaitArguments {
    #[command(flatten)]
    pub(crate) of: DatabaseArguments,
    /// The validator's URL, instead of the one that `dev` started.
    #[arg(long)]
    pub(crate) validator: Option<String>,
    /// The authority that signed the validator's certificate, in PEM. Without it, those that the system trusts.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Until the replica holds it. This is what is waited for, also when it is not said.
    #[arg(long)]
    pub(crate) applied: bool,
    /// How long to wait.
    #[arg(long, default_value = "30s")]
    pub(crate) timeout: humantime::Duration,
}

#[derive(Debug, Args)]
pub(crate) struct PushArguments {
    #[command(flatten)]
    pub(crate) of: DatabaseArguments,
    /// Until it is stored, not only sequenced.
    #[arg(long)]
    pub(crate) stored: bool,
    /// How long to wait.
    #[arg(long, default_value = "30s")]
    pub(crate) timeout: humantime::Duration,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArguments {
    #[command(flatten)]
    pub(crate) of: DatabaseArguments,
    /// How long to wait.
    #[arg(long, default_value = "10m")]
    pub(crate) timeout: humantime::Duration,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    pub(crate) of: DatabaseArguments,
}

#[derive(Debug, Args)]
pub(crate) struct DetachArguments {
    #[command(flatten)]
    pub(crate) of: DatabaseArguments,
    /// Switch the database back to a rollback journal.
    #[arg(long)]
    pub(crate) restore_journal_mode: bool,
    /// How long a running agent may take to ship what is left.
    #[arg(long, default_value = "60s")]
    pub(crate) timeout: humantime::Duration,
}

#[derive(Debug, Args)]
pub(crate) struct MirrorArguments {
    /// The application's database. It is switched to WAL mode, which persists.
    pub(crate) source: PathBuf,
    /// The file to write. What else is needed goes to `<TARGET>-synddb/`.
    pub(crate) target: PathBuf,
    /// Remove what an earlier mirror left at the target. Anything else there is refused.
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) wal: WalLimit,
    /// End when standard input ends: for programs that start this one.
    #[arg(long)]
    pub(crate) stop_on_eof: bool,
    /// Compare both databases in full at the end, and compute the state hash of the source anew.
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// The store: `gs://bucket/prefix`, `s3://bucket/prefix`, `az://container/prefix`, `file:///folder`, or `https://host/prefix` of a host that
    /// serves one. It is waited for while it does not answer, but for its first answer at most 30 seconds; Ctrl-C ends it.
    #[arg(value_parser = named::store)]
    pub(crate) store: StoreUrl,
    /// The stream. Without it, those that the store holds are named.
    #[arg(long)]
    pub(crate) stream: Option<StreamId>,
    /// A key that may sign the log; several may be named. Take it from whoever runs the sequencer, not from the store. Without any, the names of
    /// the keys that claimed epochs are told.
    #[arg(long = "sequencer-key", value_parser = named::sequencer_key)]
    pub(crate) sequencer_keys: Vec<VerifyingKey>,
    /// Rebuild the database as well, compare every state hash that the log claims, and scan it in full at the end.
    #[arg(long)]
    pub(crate) full: bool,
    /// The folder in which a scratch folder is made for the database, instead of the system's. It takes about twice the database's size.
    #[arg(long, requires = "full")]
    pub(crate) dir: Option<PathBuf>,
    /// A replica of this log on this machine that began from a snapshot, also a running one. When the log is whole and leads to that snapshot, it is
    /// told, and says `started_from` no more.
    #[arg(long, value_name = "REPLICA", requires = "full")]
    pub(crate) of: Option<PathBuf>,
    /// The rules that look at that replica: its validator's file. What they find of the log before the snapshot is open in the replica then.
    #[arg(long, requires = "of")]
    pub(crate) rules: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("object").required(true).args(["file", "store"])))]
pub(crate) struct InspectArguments {
    /// The file of an object; `-` is standard input. What it is, its bytes say.
    #[arg(conflicts_with_all = ["stream", "sequence"])]
    pub(crate) file: Option<PathBuf>,
    /// The store to look into instead, as for `validator`.
    #[arg(long, requires_all = ["stream", "sequence"], value_parser = named::store)]
    pub(crate) store: Option<StoreUrl>,
    /// The stream.
    #[arg(long, requires = "store")]
    pub(crate) stream: Option<StreamId>,
    /// The message to show. Its batch is looked for.
    #[arg(long, requires = "store")]
    pub(crate) sequence: Option<Sequence>,
    /// A key that may sign the log; several may be named. Without any, nobody is trusted.
    #[arg(long = "sequencer-key", value_parser = named::sequencer_key)]
    pub(crate) sequencer_keys: Vec<VerifyingKey>,
    /// How many rows, commits, schema changes and chunks are shown of an object, of each at most so many.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub(crate) limit: u64,
    /// How many bytes are shown of each value.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(0..=8_388_608))]
    pub(crate) value_bytes: u64,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    #[command(flatten)]
    pub(crate) of: DatabaseArguments,
    #[command(flatten)]
    pub(crate) wal: WalLimit,
    #[command(flatten)]
    pub(crate) outbox: OutboxLimit,
    /// Check every page and scan every row as well. A database with a rollback journal takes no commit meanwhile.
    #[arg(long)]
    pub(crate) full: bool,
}

impl Arguments {
    /// Reads the command line. Prints and exits when it is refused, or asks for help.
    #[must_use]
    pub fn read() -> Self {
        let command = Self::command_line();
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// The command line as clap knows it.
    pub(crate) fn command_line() -> clap::Command {
        <Self as CommandFactory>::command().mut_subcommands(with_exit_codes)
    }

    /// Whether output is for programs.
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// What was asked for.
    pub(crate) const fn command(&self) -> &Command {
        &self.command
    }
}

/// Scripts branch on exit codes, so the help of every command names them, also of one inside another.
fn with_exit_codes(command: clap::Command) -> clap::Command {
    let own = command.get_after_help().map_or_else(String::new, |own| format!("{own}\n\n"));
    command.after_help(format!("{own}{EXIT_CODES}")).mut_subcommands(with_exit_codes)
}
