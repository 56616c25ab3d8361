//! One of two databases that are compared: a replica at a URL, or a file. Both answer the same questions in the same words.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use synddb_protocol::contents::{Answer, At, Contents, Rows, RowsQuery, SchemaObject, State};
use synddb_protocol::http::ReplicaStatus;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_sqlite::apply::position;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::contents;

use super::is_url;
use crate::exit::CommandError;
use crate::output::printable;
use crate::peer::{Authority, Peer, PeerError};
use crate::refusal::{Refusal, open_to_read};

/// How long a peer may take to answer: as long as its services answer at all.
const ANSWER_MAX: Duration = Duration::from_secs(130);

/// One of the two.
pub(super) enum Side {
    /// A validator or read replica.
    Replica(Replica),
    /// A file on this machine.
    File(File),
}

pub(super) struct Replica {
    name: &'static str,
    url: String,
    peer: Peer,
    requests: Cell<u32>,
}

pub(super) struct File {
    path: PathBuf,
    connection: Connection,
    at: Option<At>,
}

/// An answer, and the state that it is of where that is known.
pub(super) struct Told<T> {
    pub(super) at: Option<At>,
    pub(super) found: T,
}

/// Where one of the two stands, before anything of it is read.
pub(super) struct Place {
    pub(super) stream: Option<StreamId>,
    pub(super) sequence: Option<Sequence>,
    /// Whether it stands there for good.
    pub(super) is_still: bool,
}

impl Side {
    /// What an argument names.
    pub(super) fn of(
        name: &'static str,
        argument: &Path,
        authority: &Authority,
    ) -> Result<Self, CommandError> {
        if let Some(url) = argument.to_str().filter(|_| is_url(argument)) {
            let peer = Peer::at(name, url, authority)?;
            return Ok(Self::Replica(Replica { name, url: url.to_owned(), peer, requests: Cell::new(0) }));
        }
        if !argument.exists() {
            return Err(Refusal::NoReplica { file: argument.to_owned() }.into());
        }
        let connection = open_to_read(argument)?;
        // Any other database keeps none.
        let at = position::read(connection.sqlite()).ok().and_then(|checkpoint| {
            let claim = checkpoint.claim();
            let state = claim.client.as_ref()?.state;
            Some(At { stream: claim.stream, sequence: claim.size, state })
        });
        Ok(Self::File(File { path: argument.to_owned(), connection, at }))
    }

    /// The URL or path.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Replica(replica) => printable(&replica.url),
            Self::File(file) => printable(&file.path.display().to_string()),
        }
    }

    /// How many requests it took so far.
    pub(super) fn requests(&self) -> u32 {
        match self {
            Self::Replica(replica) => replica.requests.get(),
            Self::File(_) => 0,
        }
    }

    /// That it said what cannot be.
    pub(super) fn contradicts(&self, what: &'static str) -> CommandError {
        let peer = match self {
            Self::Replica(replica) => replica.name,
            Self::File(_) => "the file",
        };
        PeerError::Contradicts { peer, what }.into()
    }

    pub(super) async fn place(&self) -> Result<Place, CommandError> {
        match self {
            Self::Replica(replica) => {
                let status: ReplicaStatus = replica.count().status().await?;
                let is_still = status.halted.is_some();
                Ok(Place { stream: Some(status.stream), sequence: status.sequence, is_still })
            }
            Self::File(File { at, .. }) => {
                let (stream, sequence) = (at.map(|at| at.stream), at.map(|at| at.sequence));
                Ok(Place { stream, sequence, is_still: true })
            }
        }
    }

    pub(super) async fn contents(&self) -> Result<Told<Contents>, CommandError> {
        match self {
            Self::Replica(replica) => replica.get("/tables").await,
            Self::File(file) => Ok(file.tell(contents::contents(&file.connection)?)),
        }
    }

    pub(super) async fn schema(&self) -> Result<Told<Vec<SchemaObject>>, CommandError> {
        match self {
            Self::Replica(replica) => replica.get("/schema").await,
            Self::File(file) => Ok(file.tell(contents::schema(&file.connection)?)),
        }
    }

    pub(super) async fn rows(&self, query: &RowsQuery) -> Result<Told<Rows>, CommandError> {
        match self {
            Self::Replica(replica) => {
                let answer = replica.count().post("/tables/rows", query, ANSWER_MAX).await?;
                Ok(told(answer))
            }
            Self::File(file) => Ok(file.tell(contents::rows(&file.connection, query)?)),
        }
    }

    pub(super) async fn states(&self, through: Sequence) -> Result<Told<Vec<State>>, CommandError> {
        match self {
            Self::Replica(replica) => replica.get(&format!("/states?through={through}")).await,
            Self::File(file) => Ok(file.tell(position::states(file.connection.sqlite(), through)?)),
        }
    }
}

impl Replica {
    fn count(&self) -> &Peer {
        self.requests.set(self.requests.get().saturating_add(1));
        &self.peer
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Told<T>, CommandError> {
        Ok(told(self.count().get(path, ANSWER_MAX).await?))
    }
}

impl File {
    const fn tell<T>(&self, found: T) -> Told<T> {
        Told { at: self.at, found }
    }
}

fn told<T>(answer: Answer<T>) -> Told<T> {
    Told { at: Some(answer.at), found: answer.found }
}
