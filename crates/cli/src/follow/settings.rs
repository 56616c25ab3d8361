//! What an agent is told: defaults < configuration file < environment < command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, Args};
use schemars::JsonSchema;
use serde::de::Deserializer;
use serde::de::value::StringDeserializer;
use serde::{Deserialize, Serialize, Serializer};
use synddb_agent::outbox;
use synddb_agent::pin::PinProgram;
use synddb_agent::reconcile::LastState;
use synddb_protocol::signing::VerifyingKey;
use synddb_service::config::{self, ConfigError};
use synddb_service::telemetry::Settings as Telemetry;
use synddb_storage::StoreUrl;

use super::{StoredState, credentials};
use crate::exit::CommandError;
use crate::folder::Folder;
use crate::refusal::Refusal;

/// The prefix of what the environment sets of an agent's configuration.
pub(crate) const PREFIX: &str = "SYNDDB_AGENT_";

/// How large a WAL or an outbox may be told to become, in MiB.
const MIB_MAX: u64 = 1 << 20;

/// The configuration of an agent.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// The application's database. It must be named, here or on the command line.
    #[schemars(example = "/var/lib/app/app.db")]
    database: Option<PathBuf>,
    /// The folder of what belongs to it, instead of `<DATABASE>-synddb/`.
    #[schemars(example = "/var/lib/synddb/app.db-synddb")]
    dir: Option<PathBuf>,
    /// The URLs of the sequencers, as in `["https://sequencer.example:8433"]`, or with commas in between. There must be at least one. Where one
    /// takes over from another they are asked in turn, from the first, whenever the one that is spoken to does not answer or does not lead.
    #[serde(deserialize_with = "listed")]
    sequencer: Vec<String>,
    /// The file with the bearer token that the sequencers list; `synddb token new` makes one. It is read again when a sequencer refuses the token. Not
    /// needed with `client_certificate`.
    #[schemars(example = "/etc/synddb/agent.token")]
    token_file: Option<PathBuf>,
    /// The authority that signed the sequencers' certificates, in PEM. Without it, the authorities of the web are believed.
    #[schemars(example = "/etc/synddb/ca.pem")]
    ca_file: Option<PathBuf>,
    /// The certificate that is shown to sequencers that ask for one, in PEM. It is read again when one refuses it.
    #[schemars(example = "/etc/synddb/agent.pem")]
    client_certificate: Option<PathBuf>,
    /// Its key in PEM: a secret.
    #[schemars(example = "/etc/synddb/agent.key")]
    client_key: Option<PathBuf>,
    /// The keys that may sign receipts and checkpoints, one of each sequencer. Without any, the first one that is seen is believed, and no other.
    #[serde(deserialize_with = "listed")]
    #[schemars(with = "Vec<String>")]
    sequencer_key: Vec<VerifyingKey>,
    /// The store in which the sequencer puts batches, as for a validator. From there the last captured state is restored when it cannot be proven
    /// that nothing was committed while no agent ran, so that only what differs is sent, and not a snapshot.
    #[schemars(with = "Option<String>", example = "gs://bucket/prefix")]
    store: Option<StoreUrl>,
    /// A port of the loopback interface on which it answers as well, not only on the socket in its folder.
    #[schemars(example = 8432)]
    port: Option<u16>,
    /// About how large the application's WAL may become, in MiB. A writer that is faster than the follower waits then.
    wal_limit_mib: Mebibytes,
    /// A WAL that is larger than so many MiB is let go while nothing can be captured: the outbox is full, or no agent runs. It is twice the
    /// limit of the WAL at least.
    wal_let_go_mib: Mebibytes,
    /// Whether a program holds the place in the WAL for an agent that was killed. Without it, what is committed until the next start may be a gap.
    pin: bool,
    /// How long that program waits for an agent, in milliseconds.
    pin_linger_ms: u64,
    /// How often the database is scanned in full, and compared with what was captured, in milliseconds; 0 for never. Capturing waits meanwhile, the
    /// application does not.
    audit_interval_ms: u64,
    /// How large the outbox may become, in MiB. Nothing is dropped: the follower slows down.
    outbox_limit_mib: Mebibytes,
    /// How long the end may take while the sequencer does not answer, in milliseconds.
    drain_ms: u64,
    /// What it says of itself: logs, and traces for a collector.
    telemetry: Telemetry,
}

/// `synddb follow`.
#[derive(Debug, Args)]
pub(crate) struct FollowArguments {
    /// A configuration file in TOML; `synddb config default agent` prints one. Environment (`SYNDDB_AGENT_...`) and arguments go before it.
    #[arg(long, env = "SYNDDB_AGENT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    /// End when standard input ends: for programs that start this one.
    #[arg(long)]
    pub(crate) stop_on_eof: bool,
}

impl FollowArguments {
    /// What the agent is told.
    ///
    /// # Errors
    /// [`ConfigError`] that names the key.
    pub(crate) fn settings(&self) -> Result<Settings, ConfigError> {
        config::load(self.config.as_deref(), PREFIX, &self.overrides)
    }
}

/// What the command line may set of an agent's configuration.
#[derive(Debug, Args, Serialize)]
struct Overrides {
    /// The application's database. Whoever follows it switches it to WAL mode, which persists.
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<PathBuf>,
    /// The folder of what belongs to it, instead of `<DATABASE>-synddb/`.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    dir: Option<PathBuf>,
    /// The sequencer's URL. Several may be named, also with commas in between, where one takes over from another: they are asked in turn, from the
    /// first, whenever the one that is spoken to does not answer or does not lead.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sequencer: Vec<String>,
    /// The file with the bearer token that the sequencer lists; `synddb token new` makes one. It is read again when the sequencer refuses the
    /// token. Not needed with --client-certificate.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<PathBuf>,
    /// The authority that signed the sequencers' certificates, in PEM. Without it, the authorities of the web are believed. Read again, as the
    /// two below, when a sequencer cannot be spoken to.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    /// The certificate that is shown to sequencers that ask for one, in PEM.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate: Option<PathBuf>,
    /// Its key in PEM: a secret.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    client_key: Option<PathBuf>,
    /// A key that may sign receipts and checkpoints; several may be named, one for each sequencer. Without any, the first one that is seen is
    /// believed, and no other: a sequencer with another key cannot take over then. So name the key of each where there are several.
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sequencer_key: Vec<VerifyingKey>,
    /// The store in which the sequencer puts batches, as for `validator`. From there the last captured state is restored when it cannot be proven that
    /// nothing was committed while no agent ran, so that only what differs is sent, and not a snapshot.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<StoreUrl>,
    /// Answer on this port of the loopback interface as well, not only on the socket.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// About how large the application's WAL may become, in MiB [default: 64]. A writer that is faster than the follower waits then.
    #[arg(long = "wal-limit", value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=MIB_MAX))]
    #[serde(skip_serializing_if = "Option::is_none")]
    wal_limit_mib: Option<u64>,
    /// A WAL that is larger than so many MiB is let go while nothing can be captured: the outbox is full, or no agent runs [default: 1024]. It is
    /// twice the limit of the WAL at least.
    #[arg(long = "wal-let-go", value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=MIB_MAX))]
    #[serde(skip_serializing_if = "Option::is_none")]
    wal_let_go_mib: Option<u64>,
    /// How long the place in the WAL is held for an agent that was killed [default: 10m].
    #[arg(long = "pin-linger", value_name = "PIN_LINGER")]
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "milliseconds")]
    pin_linger_ms: Option<humantime::Duration>,
    /// Hold the place in the WAL in this process alone. Should it be killed, what is committed until the next start may be a gap.
    #[arg(long = "no-pin", action = ArgAction::SetFalse)]
    #[serde(skip_serializing_if = "Clone::clone")]
    pin: bool,
    /// How often the database is scanned in full, and compared with what was captured; 0s for never [default: 1h]. Capturing waits meanwhile, the
    /// application does not.
    #[arg(long = "audit-interval", value_name = "AUDIT_INTERVAL")]
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "milliseconds")]
    audit_interval_ms: Option<humantime::Duration>,
    /// How large the outbox may become, in MiB [default: 4096]. Nothing is dropped: the follower slows down.
    #[arg(long = "outbox-limit", value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=MIB_MAX))]
    #[serde(skip_serializing_if = "Option::is_none")]
    outbox_limit_mib: Option<u64>,
    /// How long the end may take while the sequencer does not answer [default: 60s].
    #[arg(long = "drain-timeout", value_name = "DRAIN_TIMEOUT")]
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "milliseconds")]
    drain_ms: Option<humantime::Duration>,
}

#[expect(clippy::ref_option, reason = "the form that serde calls")]
fn milliseconds<S: Serializer>(time: &Option<humantime::Duration>, to: S) -> Result<S::Ok, S::Error> {
    time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).serialize(to)
}

/// From 1 to 2^20 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u64")]
struct Mebibytes(u64);

impl TryFrom<u64> for Mebibytes {
    type Error = String;

    fn try_from(mib: u64) -> Result<Self, String> {
        let fits = (1..=MIB_MAX).contains(&mib);
        fits.then_some(Self(mib)).ok_or_else(|| format!("write from 1 to {MIB_MAX} MiB. found=`{mib}`"))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            database: None,
            dir: None,
            sequencer: Vec::new(),
            token_file: None,
            ca_file: None,
            client_certificate: None,
            client_key: None,
            sequencer_key: Vec::new(),
            store: None,
            port: None,
            wal_limit_mib: Mebibytes(64),
            wal_let_go_mib: Mebibytes(1024),
            pin: true,
            pin_linger_ms: 600_000,
            audit_interval_ms: 3_600_000,
            outbox_limit_mib: Mebibytes(4096),
            drain_ms: 60_000,
            telemetry: Telemetry::default(),
        }
    }
}

impl Settings {
    /// What follows this database for this sequencer, as everything else is by default.
    pub(crate) fn of(database: &Path, sequencer: &str, token_file: &Path) -> Self {
        Self {
            database: Some(database.to_owned()),
            sequencer: vec![sequencer.to_owned()],
            token_file: Some(token_file.to_owned()),
            ..Self::default()
        }
    }

    /// The same, and its end waits for nothing.
    pub(crate) fn ending_at_once(self) -> Self {
        Self { drain_ms: 0, ..self }
    }

    /// The application's database.
    ///
    /// # Errors
    /// [`Refusal::Untold`] where none is named.
    pub(crate) fn database(&self) -> Result<&Path, Refusal> {
        let fix = "name the application's database as the first argument, or set `database`";
        self.database.as_deref().ok_or(Refusal::Untold { fix })
    }

    /// The folder of what belongs to the database.
    ///
    /// # Errors
    /// As [`Self::database`].
    pub(crate) fn folder(&self) -> Result<Folder, Refusal> {
        Ok(Folder::of(self.database()?, self.dir.as_deref()))
    }

    /// The loopback port on which it answers, if any.
    pub(crate) const fn port(&self) -> Option<u16> {
        self.port
    }

    /// What is said of logs and traces.
    pub(crate) fn telemetry(&self) -> Telemetry {
        self.telemetry.clone()
    }

    /// About how large the WAL may become, in MiB.
    pub(crate) const fn wal_limit_mib(&self) -> u64 {
        self.wal_limit_mib.0
    }

    /// That no key is named where several sequencers are: one with another key than the first could not take over, and that is better known
    /// before it is needed. Gives how many there are.
    pub(crate) fn keys_unnamed(&self) -> Option<usize> {
        let sequencers = self.sequencer.len();
        (sequencers > 1 && self.sequencer_key.is_empty()).then_some(sequencers)
    }

    /// The sequencers to which the token is sent so that everybody in between can read it.
    pub(crate) fn tokens_in_plain(&self) -> Vec<String> {
        if self.token_file.is_some() { credentials::in_plain(&self.sequencer) } else { Vec::new() }
    }

    /// The certificate and the key that are shown, if any.
    fn client(&self) -> Result<Option<(PathBuf, PathBuf)>, Refusal> {
        let untold = |fix| Err(Refusal::Untold { fix });
        match (&self.client_certificate, &self.client_key) {
            (Some(certificate), Some(key)) => Ok(Some((certificate.clone(), key.clone()))),
            (Some(_), None) => {
                untold("name the certificate's key with `--client-key FILE`, or set `client_key`")
            }
            (None, Some(_)) => untold(
                "name the key's certificate with `--client-certificate FILE`, or set `client_certificate`",
            ),
            (None, None) if self.token_file.is_none() => untold(
                "name the file of the sequencer's token with `--token-file FILE`, or set `token_file`; or a certificate with its key",
            ),
            (None, None) => Ok(None),
        }
    }

    /// Reads and checks everything that is named, and makes nothing.
    ///
    /// # Errors
    /// [`CommandError`] with what to change.
    pub(crate) fn config(&self) -> Result<synddb_agent::Config, CommandError> {
        if self.sequencer.is_empty() {
            let fix = "name the sequencer with `--sequencer URL`, or set `sequencer`";
            return Err(Refusal::Untold { fix }.into());
        }
        synddb_agent::check_sequencers(&self.sequencer)?;
        let token = self.token_file.clone().map(credentials::token).transpose()?;
        let tls = credentials::tls(self.ca_file.clone(), self.client()?)?;
        let (database, folder) = (self.database()?, self.folder()?);
        let let_go_mib = self.wal_let_go_mib.0.max(2 * self.wal_limit_mib());
        let linger = Duration::from_millis(self.pin_linger_ms);
        let pin = self.pin.then(|| pin_program(database, &folder, let_go_mib, linger)).transpose()?;
        Ok(synddb_agent::Config {
            database: database.to_owned(),
            folder: folder.path().to_owned(),
            sequencers: self.sequencer.clone(),
            token,
            tls,
            evidence: None,
            sequencer_keys: self.sequencer_key.clone(),
            wal_bytes_max: self.wal_limit_mib() << 20,
            wal_bytes_detach: let_go_mib << 20,
            pin,
            audit_interval: Duration::from_millis(self.audit_interval_ms),
            outbox: outbox::Options {
                bytes_max: self.outbox_limit_mib.0 << 20,
                ..outbox::Options::default()
            },
            drain_max: Duration::from_millis(self.drain_ms),
            last_state: self
                .store
                .clone()
                .map(|store| Arc::new(StoredState::of(store)) as Arc<dyn LastState>),
        })
    }
}

/// This program, as a pin.
fn pin_program(
    database: &Path,
    folder: &Folder,
    let_go_mib: u64,
    linger: Duration,
) -> Result<PinProgram, CommandError> {
    let program = std::env::current_exe().map_err(CommandError::system("find this program"))?;
    let text = |text: &str| OsString::from(text);
    let arguments = vec![
        text("pin"),
        database.into(),
        text("--dir"),
        folder.path().into(),
        text("--wal-let-go"),
        text(&let_go_mib.to_string()),
        text("--pin-linger"),
        text(&humantime::format_duration(linger).to_string()),
    ];
    Ok(PinProgram { program, arguments })
}

/// A list, or a text with commas between its items, as a variable of the environment has it.
fn listed<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        List(Vec<String>),
    }
    let items: Vec<String> = match Form::deserialize(deserializer)? {
        Form::Text(text) => text.split(',').map(|item| item.trim().to_owned()).collect(),
        Form::List(items) => items,
    };
    let item = |item: String| T::deserialize(StringDeserializer::<D::Error>::new(item));
    items.into_iter().filter(|text| !text.is_empty()).map(item).collect()
}
