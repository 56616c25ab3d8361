//! What a replica's snapshot is made of.

use std::fmt;

use synddb_protocol::log::SignedManifest;

use super::shown::encoding;
use super::{Screen, Shown};
use crate::exit::CommandError;
use crate::output::counted;

impl Screen<'_> {
    /// A manifest: who signed it, its checkpoint, its runs, its patches.
    pub(super) fn manifest(&mut self, signed: &SignedManifest) -> Result<(), CommandError> {
        let manifest = signed.manifest();
        self.show(Shown::Manifest {
            signed: self.signed(signed.key(), signed.recover().ok()),
            stream: manifest.stream(),
            sequence: manifest.sequence(),
            encoding: encoding(manifest.encoding).to_owned(),
            page_size: manifest.page_size.get(),
            pages: manifest.runs.iter().map(|run| run.pages).sum(),
            runs: manifest.runs.len(),
            patches: manifest.patches.len(),
            stored_bytes: manifest.chunks().map(|chunk| chunk.stored_bytes).sum(),
        })?;
        self.checkpoint(&manifest.checkpoint)?;
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        for run in manifest.runs.iter().take(limit) {
            let (hash, pages, stored_bytes) = (run.hash, run.pages, run.stored_bytes);
            self.show(Shown::Chunk { hash, pages, stored_bytes })?;
        }
        self.more("runs", manifest.runs.len().saturating_sub(limit) as u64)?;
        for patch in manifest.patches.iter().take(limit) {
            let laid = patch.places.iter().filter(|place| place.first.is_some());
            self.show(Shown::Patch {
                hash: patch.chunk.hash,
                pages: patch.chunk.pages,
                laid: laid.clone().map(|place| u64::from(place.pages)).sum(),
                places: laid.count(),
                stored_bytes: patch.chunk.stored_bytes,
            })?;
        }
        self.more("patches", manifest.patches.len().saturating_sub(limit) as u64)
    }
}

impl Shown {
    /// A manifest as a sentence.
    pub(super) fn fmt_manifest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Manifest {
            signed,
            stream,
            sequence,
            encoding,
            page_size,
            pages,
            runs,
            patches,
            stored_bytes,
        } = self
        else {
            return Ok(());
        };
        writeln!(f, "manifest of a snapshot at message {sequence}")?;
        writeln!(f, "  signed    {signed}")?;
        writeln!(f, "  stream    {stream}")?;
        write!(
            f,
            "  holds     {} of {page_size} bytes, {encoding}, in {} and {} of {stored_bytes} bytes together",
            counted(*pages, "page"),
            counted(*runs as u64, "run"),
            if *patches == 1 { "1 patch".to_owned() } else { format!("{patches} patches") },
        )
    }
}
