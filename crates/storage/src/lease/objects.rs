//! Leases over `object_store`: a put that compares, and for files the locking that they have not.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, PutMode, PutPayload, UpdateVersion};
use synddb_protocol::id::StreamId;

use super::files::{self, FileLeaseError};
use super::{LEASE_BYTES_MAX, Lease, LeaseError, LeaseName, LeaseVersion, Mark};
use crate::failure::{failure_of, io_failure};
use crate::object::{Ability, Backend, ObjectBatchStore, bytes_of};
use crate::store::Failure;

/// The store gave a version that it did not make, or none.
#[derive(Debug, thiserror::Error)]
#[error("the store does not tell versions of an object apart")]
struct Unversioned;

#[async_trait]
impl Lease for ObjectBatchStore {
    async fn read(&self, stream: StreamId) -> Result<Option<(LeaseVersion, Bytes)>, LeaseError> {
        match self.backend() {
            Backend::Folder(folder) => {
                let place = folder.root().join(LeaseName(stream).to_string());
                let found = blocking(move || files::read(&place)).await;
                let found = found.map_err(|error| of_file(stream, error))?;
                Ok(found.map(|bytes| (LeaseVersion::of_content(bytes.clone()), bytes)))
            }
            Backend::Memory | Backend::Bucket(_) | Backend::Static => {
                read_object(self.objects(), stream).await
            }
        }
    }

    async fn write(
        &self,
        stream: StreamId,
        expected: Option<&LeaseVersion>,
        bytes: Bytes,
    ) -> Result<LeaseVersion, LeaseError> {
        if bytes.len() > LEASE_BYTES_MAX {
            return Err(LeaseError::TooLarge { stream, size: bytes.len() as u64 });
        }
        self.can(Ability::Write).map_err(|failure| LeaseError::Failed { stream, failure })?;
        match self.backend() {
            Backend::Folder(folder) => {
                let expected = match expected.map(|version| &version.0) {
                    None => None,
                    Some(Mark::Content(bytes)) => Some(bytes.clone()),
                    Some(Mark::Object { .. }) => return Err(LeaseError::Conflict { stream }),
                };
                let (place, written) = (folder.root().join(LeaseName(stream).to_string()), bytes.clone());
                let done = blocking(move || files::write(&place, expected.as_ref(), &written)).await;
                done.map_err(|error| of_file(stream, error))?;
                Ok(LeaseVersion::of_content(bytes))
            }
            Backend::Memory | Backend::Bucket(_) | Backend::Static => {
                write_object(self.objects(), stream, expected, bytes).await
            }
        }
    }

    async fn streams(&self) -> Result<Vec<StreamId>, Failure> {
        Self::streams(self).await
    }

    fn pace(&self) -> Duration {
        match self.backend() {
            Backend::Bucket(platform) => platform.rewrite_pace(),
            Backend::Folder(_) | Backend::Memory | Backend::Static => Duration::ZERO,
        }
    }
}

async fn read_object(
    objects: &dyn ObjectStore,
    stream: StreamId,
) -> Result<Option<(LeaseVersion, Bytes)>, LeaseError> {
    let failed = |error| LeaseError::Failed { stream, failure: failure_of(error) };
    let found = match objects.get_opts(&path(stream), GetOptions::default()).await {
        Ok(found) => found,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let size = found.meta.size;
    if size > LEASE_BYTES_MAX as u64 {
        return Err(LeaseError::TooLarge { stream, size });
    }
    let version = version(stream, found.meta.e_tag.clone(), found.meta.version.clone())?;
    let bytes = bytes_of(found).await.map_err(|failure| LeaseError::Failed { stream, failure })?;
    Ok(Some((version, bytes)))
}

async fn write_object(
    objects: &dyn ObjectStore,
    stream: StreamId,
    expected: Option<&LeaseVersion>,
    bytes: Bytes,
) -> Result<LeaseVersion, LeaseError> {
    let mode = match expected.map(|version| &version.0) {
        None => PutMode::Create,
        Some(Mark::Object { tag, generation }) => {
            PutMode::Update(UpdateVersion { e_tag: tag.clone(), version: generation.clone() })
        }
        Some(Mark::Content(_)) => return Err(LeaseError::Conflict { stream }),
    };
    match objects.put_opts(&path(stream), PutPayload::from_bytes(bytes), mode.into()).await {
        Ok(put) => version(stream, put.e_tag, put.version),
        Err(
            object_store::Error::AlreadyExists { .. }
            | object_store::Error::Precondition { .. }
            | object_store::Error::NotFound { .. },
        ) => Err(LeaseError::Conflict { stream }),
        Err(error) => Err(LeaseError::Failed { stream, failure: failure_of(error) }),
    }
}

fn version(
    stream: StreamId,
    tag: Option<String>,
    generation: Option<String>,
) -> Result<LeaseVersion, LeaseError> {
    if tag.is_none() && generation.is_none() {
        let failure = Failure::Misconfigured(Box::new(Unversioned));
        return Err(LeaseError::Failed { stream, failure });
    }
    Ok(LeaseVersion(Mark::Object { tag, generation }))
}

fn path(stream: StreamId) -> Path {
    Path::from(LeaseName(stream).to_string())
}

fn of_file(stream: StreamId, error: FileLeaseError) -> LeaseError {
    match error {
        FileLeaseError::TooLarge(size) => LeaseError::TooLarge { stream, size },
        FileLeaseError::Conflict => LeaseError::Conflict { stream },
        FileLeaseError::Busy => {
            LeaseError::Failed { stream, failure: Failure::Unavailable(Box::new(FileLeaseError::Busy)) }
        }
        FileLeaseError::Io(error) => LeaseError::Failed { stream, failure: io_failure(error) },
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileLeaseError> + Send + 'static,
) -> Result<T, FileLeaseError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(FileLeaseError::Io(std::io::Error::other(error))))
}
