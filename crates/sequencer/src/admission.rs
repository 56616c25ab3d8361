//! How much memory bodies may take: beyond it a request is refused as busy.

use synddb_protocol::limits::{BODY_BYTES_MAX, BODY_COMPRESSED_MAX};
pub(crate) use synddb_service::admission::{Admission, Room};

/// All bodies together that are being read, opened or waited with, in bytes.
pub(crate) const BODIES_BYTES: usize = 512 << 20;

const _: () = assert!(BODY_COMPRESSED_MAX + BODY_BYTES_MAX <= BODIES_BYTES);
