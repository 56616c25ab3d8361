//! How a service speaks TLS, as flags.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

/// How a service speaks TLS. Files are read again when they change.
#[derive(Debug, Args, Serialize)]
pub(crate) struct TlsOverrides {
    /// The certificate to show to clients, in PEM: then TLS is spoken.
    #[arg(long = "tls-certificate", value_name = "FILE", requires = "key_file_of_tls")]
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_file: Option<PathBuf>,
    /// Its key in PEM: a secret.
    #[arg(id = "key_file_of_tls", long = "tls-key", value_name = "FILE", requires = "certificate_file")]
    #[serde(rename = "key_file", skip_serializing_if = "Option::is_none")]
    key_file_of_tls: Option<PathBuf>,
    /// The authority of clients' certificates, in PEM: every client must show one then.
    #[arg(long = "tls-client-ca", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    client_ca_file: Option<PathBuf>,
}

impl TlsOverrides {
    pub(super) const fn is_empty(&self) -> bool {
        self.certificate_file.is_none() && self.key_file_of_tls.is_none() && self.client_ca_file.is_none()
    }
}
