//! Who may have the replica's file scanned in full: that is work which others pay for.

use std::net::SocketAddr;
use std::path::Path;

use synddb_protocol::http::Reason;
use synddb_service::axum::extract::FromRequestParts;
use synddb_service::axum::http::request::Parts;
use synddb_service::credentials::{CredentialsFile, CredentialsFileError};
use synddb_service::http::{Gate, Refusal};

use crate::serve::Serving;

/// Who may.
#[derive(Debug, Clone)]
pub(crate) enum Auditors {
    /// Who can reach the listener, which is whoever uses this machine.
    ThisMachine,
    /// Who has a credential.
    Listed(Gate),
    /// Nobody: others than this machine can reach the listener, and no credentials are listed.
    Nobody,
}

impl Auditors {
    /// Who may, where this is listened at.
    ///
    /// # Errors
    /// [`CredentialsFileError`] when there is a file that cannot be used.
    pub(crate) fn of(credentials: Option<&Path>, address: SocketAddr) -> Result<Self, CredentialsFileError> {
        Ok(match credentials {
            Some(file) => Self::Listed(Gate::open(CredentialsFile::at(file), None)?),
            None if address.ip().is_loopback() => Self::ThisMachine,
            None => Self::Nobody,
        })
    }
}

/// Whoever sends this may.
pub(crate) struct MayAudit;

impl FromRequestParts<Serving> for MayAudit {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, serving: &Serving) -> Result<Self, Refusal> {
        match &serving.auditors {
            Auditors::ThisMachine => Ok(Self),
            Auditors::Listed(gate) => {
                let (holder, stream) = (gate.admit(parts).await?, serving.view.stream());
                if holder.may_write(stream) {
                    return Ok(Self);
                }
                let detail = format!(
                    "this credential is for other streams; have the stream listed for it. credential=`{}` stream=`{stream}`",
                    holder.name
                );
                Err(Refusal::new(Reason::Forbidden, detail))
            }
            Auditors::Nobody => {
                let detail = "an audit needs a credential where others than this machine are served, and none is listed; set `credentials_file`";
                Err(Refusal::new(Reason::Unauthorized, detail))
            }
        }
    }
}
