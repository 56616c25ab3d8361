//! The frames between the position and what the wal-index says is committed, commit by commit.

use rustc_hash::FxHashMap;

use super::files::Files;
use super::probes::planted::{Bug, planted};
use super::{CaptureError, WalPosition};
use crate::file::Damaged;
use crate::file::wal::{Checksum, FRAME_HEADER_BYTES, FrameHeader};

/// The checksum of a frame that SQLite has not summed up. Such frames are captured (ADR 21).
pub(super) const UNSUMMED: Checksum = [0, 0];

/// Commits are taken up so many frames at a time. Whoever stops before their end has looked at the rest in vain.
const FRAMES_AT_ONCE: u32 = 32;

/// One commit in the WAL.
pub(super) struct CommitFrames {
    /// The last frame of each page that it wrote.
    pub(super) frames: FxHashMap<u32, u32>,
    /// Where it ends.
    pub(super) end: WalPosition,
    /// How many of its frames SQLite has not summed up.
    pub(super) unsummed: u64,
}

/// Reads frames of one generation, and checks that each follows the one before it, as far as SQLite has summed them up.
pub(super) struct FrameReader<'f> {
    files: &'f Files,
    big_endian: bool,
    /// The last frame that was read.
    at: WalPosition,
    /// What the next checksum runs on from; unknown after a frame that SQLite has not summed up.
    before: Option<Checksum>,
    unsummed: u64,
    last: u32,
}

impl<'f> FrameReader<'f> {
    /// Reads on from `position`, whose generation is the running one, up to the frame `last`.
    pub(super) fn new(files: &'f Files, position: WalPosition, last: u32) -> Result<Self, CaptureError> {
        let header = files.wal_header()?;
        if header.salts != position.salts {
            return Err(CaptureError::Gap { frame: position.frame });
        }
        let checksum = if position.frame == 0 { header.checksum } else { position.checksum };
        let at = WalPosition { checksum, ..position };
        let before = (checksum != UNSUMMED).then_some(checksum);
        let big_endian = header.big_endian;
        Ok(Self { files, big_endian, at, before, unsummed: 0, last })
    }

    /// The next whole commit, and some of those after it that end in what was read for it, so that their pages need not be read again. None when
    /// there is no whole one.
    pub(super) fn commits(&mut self) -> Result<Vec<CommitFrames>, CaptureError> {
        let mut commits = Vec::new();
        let mut end = self.last;
        let enough = self.at.frame.saturating_add(FRAMES_AT_ONCE);
        while let Some(commit) = self.commit(end)? {
            commits.push(commit);
            end = self.files.ahead_to().min(enough);
        }
        Ok(commits)
    }

    /// The next whole commit, or `None` when none ends by `end`; the reader then stands where it stood.
    fn commit(&mut self, end: u32) -> Result<Option<CommitFrames>, CaptureError> {
        let begun = (self.at, self.before, self.unsummed);
        let mut frames = FxHashMap::default();
        while self.at.frame < end {
            let header = self.frame()?;
            if !planted(Bug::KeepFirstFrame) || !frames.contains_key(&header.page) {
                frames.insert(header.page, self.at.frame);
            }
            if header.size_after != 0 && !(planted(Bug::MergeCommits) && self.at.frame < self.last) {
                self.at.pages = header.size_after;
                let unsummed = self.unsummed - begun.2;
                return Ok(Some(CommitFrames { frames, end: self.at, unsummed }));
            }
        }
        (self.at, self.before, self.unsummed) = begun;
        Ok(None)
    }

    fn frame(&mut self) -> Result<FrameHeader, CaptureError> {
        let number = self.at.frame + 1;
        let frame = self.files.frame(number, self.last)?;
        let head = frame.first_chunk::<FRAME_HEADER_BYTES>();
        let header = head.map(FrameHeader::read).ok_or(Damaged::new("a frame is cut off", number))?;
        if header.salts != self.at.salts && !header.is_unsummed() {
            return Err(CaptureError::Gap { frame: number });
        }
        let sum = |before| FrameHeader::sum(&frame, self.big_endian, before);
        if !header.is_unsummed() && self.before.is_some_and(|before| sum(before) != header.checksum) {
            return Err(Damaged::new("the checksum of a committed frame of the WAL", number).into());
        }
        if header.page == 0 {
            return Err(Damaged::new("a frame for page 0", number).into());
        }
        self.at.frame = number;
        self.at.checksum = header.checksum;
        self.before = (!header.is_unsummed()).then_some(header.checksum);
        self.unsummed += u64::from(header.is_unsummed());
        Ok(header)
    }
}
