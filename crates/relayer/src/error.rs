//! Why a relayer does not start, or ends.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use synddb_service::http::TlsError;
use synddb_service::secret::SecretError;

use crate::config::ConfigProblem;

/// Why a relayer does not start, or ends. What it has sent is in its queue, whatever happened.
#[derive(Debug, thiserror::Error)]
pub enum RelayerError {
    /// The configuration says what cannot be run.
    #[error(transparent)]
    Config(#[from] ConfigProblem),
    /// The key of the account cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Nobody could be served over TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The folder cannot be used.
    #[error("cannot use the relayer's folder. folder=`{}`", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process owns the folder.
    #[error("another process owns the folder; stop that one first. folder=`{}`", folder.display())]
    Owned {
        /// The folder.
        folder: PathBuf,
    },
    /// Nothing can be served at this address.
    #[error("cannot listen; is another process there? address=`{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Serving failed.
    #[error("cannot serve")]
    Serve(#[source] io::Error),
}

impl RelayerError {
    /// Whether the same would be refused at the next start.
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Config(_) | Self::Secret(_) | Self::Tls(_) => true,
            Self::Folder { .. } | Self::Owned { .. } | Self::Listen { .. } | Self::Serve(_) => false,
        }
    }
}
