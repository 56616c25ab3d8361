//! `synddb validator init`: a configuration and a key for a validator that begins.
//!
//! The configuration is the file of the defaults with what was asked for filled in, so that everything that can be told is there to be read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use synddb_protocol::id::StreamId;
use synddb_protocol::signing::VerifyingKey;
use synddb_service::config::file_with;
use synddb_service::secret::signing_key;
use synddb_storage::{ObjectBatchStore, StoreUrl};
use synddb_validator::fsck::{self, Leadership, Problem};
use synddb_validator::{Config, ValidatorError};

use crate::arguments::InitArguments;
use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output};
use crate::process;
use crate::refusal::Refusal;
use crate::services::VALIDATOR;

/// Streams that are named where there are several, at most.
const NAMED_MAX: usize = 10;
/// How long the store may take to say who leads the log.
const ANSWER_MAX: Duration = Duration::from_secs(10);

pub(crate) fn run(arguments: &InitArguments, output: Output) -> Result<Exit, CommandError> {
    let InitArguments { store, sequencer_keys, stream, dir, data, listen } = arguments;
    let config = folder(dir)?.join("validator.toml");
    let data = folder(data.as_ref().unwrap_or(dir))?;
    let key_file = data.join("validator.key");
    // Looked at first, so that a refusal leaves nothing.
    if config.symlink_metadata().is_ok() {
        return Err(Refusal::WouldOverwrite { file: config }.into());
    }
    let stream = match stream {
        Some(stream) => *stream,
        None => only_stream(store)?,
    };
    match lead(store, stream, sequencer_keys)? {
        Leadership::Known => {}
        Leadership::Unknown { why } => output.mention(&Event::KeyUnchecked { why }),
    }
    let key = signing_key(&key_file)?;
    let keys: Vec<String> = sequencer_keys.iter().map(ToString::to_string).collect();
    let mut set: Vec<(&str, Value)> = vec![
        ("store", json!(store.to_string())),
        ("stream", json!(stream.to_string())),
        ("replica", json!(data.join("replica.db"))),
        ("sequencer_keys", json!(keys)),
        ("snapshots.key_file", json!(&key_file)),
        ("endorse.key_file", json!(&key_file)),
    ];
    set.extend(listen.map(|listen| ("listen", json!(listen))));
    let text = file_with::<Config>("a validator", VALIDATOR, &set);
    write_new(&config, &text).map_err(|error| -> CommandError {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return Refusal::WouldOverwrite { file: config.clone() }.into();
        }
        CommandError::system("write the configuration")(error)
    })?;
    output.tell(&Event::Initialized {
        config: config.display().to_string(),
        key_file: key_file.display().to_string(),
        key: key.verifying_key().to_string(),
        key_id: key.id(),
        stream,
        listen: *listen,
    })?;
    Ok(Exit::Done)
}

/// A folder that is there, by a name that holds from everywhere. Links are left in it: a service manager may turn the folder that it names
/// into one, and where that leads is its own.
fn folder(named: &Path) -> Result<PathBuf, Refusal> {
    let no_folder = || Refusal::NoFolder { folder: named.to_owned() };
    let folder = std::path::absolute(named).map_err(|_| no_folder())?;
    if folder.is_dir() { Ok(folder) } else { Err(no_folder()) }
}

/// The stream of a store that holds one.
fn only_stream(url: &StoreUrl) -> Result<StreamId, CommandError> {
    if !url.is_writable() {
        let found = "not known, because a static host lists nothing".to_owned();
        return Err(Refusal::WhichStream { found }.into());
    }
    let streams = process::ask(async {
        let store = ObjectBatchStore::open_existing(url).await.map_err(ValidatorError::from)?;
        store.streams().await.map_err(|failure| Box::new(Problem::List(failure)).into())
    })?;
    match streams.as_slice() {
        [only] => Ok(*only),
        several => {
            let named: Vec<String> = several.iter().take(NAMED_MAX).map(ToString::to_string).collect();
            let found = if named.is_empty() { "none".to_owned() } else { named.join(" ") };
            Err(Refusal::WhichStream { found }.into())
        }
    }
}

/// Whether a key that is named leads the log. One that leads nothing would be found out by a validator that halts at the first message.
fn lead(url: &StoreUrl, stream: StreamId, keys: &[VerifyingKey]) -> Result<Leadership, CommandError> {
    process::ask(async { Ok(fsck::leadership(url, stream, keys, ANSWER_MAX).await.map_err(Box::new)?) })
}

/// Writes a new file, durably. Under its name it is whole, or not there.
fn write_new(file: &Path, text: &str) -> io::Result<()> {
    let mut written = OpenOptions::new().write(true).create_new(true).open(file)?;
    let synced = written.write_all(text.as_bytes()).and_then(|()| written.sync_all());
    if synced.is_err() {
        fs::remove_file(file).ok();
    }
    synced?;
    File::open(file.parent().unwrap_or(Path::new(".")))?.sync_all()
}
