//! Why a sequencer does not start, or ends.

mod lead;

pub use lead::LeadError;
pub(crate) use lead::in_brief_of;

use std::net::SocketAddr;
use std::path::PathBuf;

use synddb_chain::follow::NodesError;
use synddb_protocol::id::StreamId;
use synddb_service::credentials::CredentialsFileError;
use synddb_service::http::TlsError;
use synddb_service::secret::SecretError;
use synddb_storage::{OpenError, StoreUrl};

use crate::journal::JournalError;

/// Why a sequencer does not start, or ends. What it acknowledged is in its journal, whatever happened.
#[derive(Debug, thiserror::Error)]
pub enum SequencerError {
    /// The key cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Nobody could write.
    #[error(transparent)]
    Credentials(#[from] CredentialsFileError),
    /// Nobody could be served over TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The operating system has no randomness.
    #[error("the operating system gives no randomness")]
    Random(#[source] getrandom::Error),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] Box<OpenError>),
    /// The role needs leases, and the store that was given has none.
    #[error("the role needs a store with leases; use the role `alone`, or give the leases too")]
    NoLease,
    /// The role is for several sequencers, and the store is one that no other process reaches.
    #[error(
        "the role needs a store that other sequencers reach; use the role `alone`, or another `store`. store=`{store}`"
    )]
    Unshared {
        /// The store.
        store: StoreUrl,
    },
    /// The address cannot be listened on.
    #[error("cannot listen; choose another address, or stop who uses it. address=`{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The listener failed.
    #[error("cannot serve any more")]
    Serve(#[source] std::io::Error),
    /// The operating system gives no thread.
    #[error("no thread can be started")]
    Thread(#[source] std::io::Error),
    /// Another process has the folder.
    #[error("another process owns this folder; stop it, or name another `dir`. folder=`{}`", folder.display())]
    Owned {
        /// The folder.
        folder: PathBuf,
    },
    /// Nodes of a chain are named, and no bridge there.
    #[error(
        "`nodes.rpc` names nodes of a chain, and no bridge there; set `bridge.chain_id` and `bridge.contract`"
    )]
    NoBridge,
    /// The nodes of the chain cannot be asked.
    #[error("the nodes of the bridge's chain cannot be asked; see `nodes`")]
    Nodes(#[from] NodesError),
    /// The folder cannot be made.
    #[error(transparent)]
    Unmade(JournalError),
    /// The folder of the journals cannot be used.
    #[error("cannot use the folder of the journals. folder=`{}`", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There are more journals than one process leads.
    #[error(
        "there are too many streams for one process; move some of them to another folder. streams_max=`{streams_max}`"
    )]
    TooManyStreams {
        /// The bound.
        streams_max: usize,
    },
    /// A journal cannot be opened.
    #[error("cannot open the journal of a stream. stream=`{stream}`")]
    Journal {
        /// The stream.
        stream: StreamId,
        /// Why not.
        source: JournalError,
    },
    /// A stream cannot be led, and nothing that the process can do helps.
    #[error("cannot lead a stream. stream=`{stream}`")]
    Lead {
        /// The stream.
        stream: StreamId,
        /// Why not.
        source: Box<LeadError>,
    },
}

impl SequencerError {
    /// Whether what the sequencer was told is refused: it is the same at the next start, until somebody changes it.
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Secret(_)
            | Self::Credentials(_)
            | Self::Tls(_)
            | Self::Store(_)
            | Self::Unshared { .. }
            | Self::NoBridge
            | Self::Nodes(_)
            | Self::Owned { .. }
            | Self::Listen { .. }
            | Self::TooManyStreams { .. } => true,
            Self::Random(_)
            | Self::NoLease
            | Self::Serve(_)
            | Self::Thread(_)
            | Self::Unmade(_)
            | Self::Folder { .. }
            | Self::Journal { .. }
            | Self::Lead { .. } => false,
        }
    }
}
