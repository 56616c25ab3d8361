//! `synddb token`: who may write, as a file of credentials says it.

mod arguments;

use std::fmt;
use std::fs;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use synddb_protocol::id::StreamId;
use synddb_service::credentials::{
    Credential, CredentialsFile, CredentialsFileError, Kind, NewCredential, Writable, add, remove,
};
use synddb_service::reloaded::Source as _;
use synddb_service::secret::{Token, write_new_secret};

pub(crate) use arguments::{ListArguments, NewArguments, RevokeArguments, TokenCommand};

use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output};
use crate::refusal::Refusal;

/// A token that is shown to whoever made it. Only as output it is not hidden.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShownToken(String);

impl ShownToken {
    /// The token.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ShownToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShownToken")
    }
}

/// What a file of credentials lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The operator's name for it.
    pub name: String,
    /// `token` or `certificate`.
    pub kind: String,
    /// The only streams that it may write; `null` for every one that is led there.
    pub streams: Option<Vec<StreamId>>,
    /// When it ends to be accepted, if ever.
    pub expires: Option<String>,
}

impl From<&Credential> for Listed {
    fn from(credential: &Credential) -> Self {
        let kind = match credential.kind {
            Kind::Token => "token",
            Kind::Certificate => "certificate",
        };
        let streams = match &credential.holder.streams {
            Writable::Any => None,
            Writable::Only(streams) => Some(streams.iter().copied().collect()),
        };
        let expires = credential.expires.map(|at| humantime::format_rfc3339_seconds(at).to_string());
        Self { name: credential.holder.name.clone(), kind: kind.to_owned(), streams, expires }
    }
}

pub(crate) fn run(command: &TokenCommand, output: Output) -> Result<Exit, CommandError> {
    match command {
        TokenCommand::New(arguments) => new(arguments, output),
        TokenCommand::List(arguments) => list(arguments, output),
        TokenCommand::Revoke(RevokeArguments { name, credentials }) => {
            remove(credentials, name)?;
            let file = credentials.display().to_string();
            output.tell(&Event::TokenRevoked { name: name.clone(), file })?;
            Ok(Exit::Done)
        }
    }
}

fn new(arguments: &NewArguments, output: Output) -> Result<Exit, CommandError> {
    if let Some(over) = arguments.expires.filter(|expires| *expires <= SystemTime::now()) {
        let expires = humantime::format_rfc3339_seconds(over).to_string();
        return Err(Refusal::Over { expires }.into());
    }
    let token = match &arguments.from {
        Some(file) => Token::read(file)?,
        None => Token::draw().map_err(CommandError::system("draw a token"))?,
    };
    let new = NewCredential {
        kind: Kind::Token,
        name: arguments.name.clone(),
        sha256: token.fingerprint(),
        streams: arguments.streams.iter().copied().collect(),
        expires: arguments.expires,
    };
    if let Some(out) = &arguments.out {
        write_new_secret(out, token.expose())?;
    }
    let listed = match &arguments.credentials {
        Some(file) => add(file, &new),
        None => new.check(),
    };
    if let (Err(_), Some(out)) = (&listed, &arguments.out) {
        // A token that nobody knows is of no use, and would be in the way of the next try.
        fs::remove_file(out).ok();
    }
    listed?;
    let is_shown = arguments.out.is_none() && arguments.from.is_none();
    output.tell(&Event::TokenMade {
        name: new.name.clone(),
        token: is_shown.then(|| ShownToken(token.expose().to_owned())),
        entry: arguments.credentials.is_none().then(|| new.to_toml()),
        file: arguments.credentials.as_ref().map(|file| file.display().to_string()),
    })?;
    Ok(Exit::Done)
}

fn list(ListArguments { credentials }: &ListArguments, output: Output) -> Result<Exit, CommandError> {
    let source = CredentialsFile::at(credentials);
    let listed = source.read().and_then(|content| source.parse(&content));
    let listed = listed.map_err(|error: CredentialsFileError| CommandError::Credentials(error.into()))?;
    output.tell(&Event::Tokens { listed: listed.iter().map(Listed::from).collect() })?;
    Ok(Exit::Done)
}
