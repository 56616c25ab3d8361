//! Versions of SQLite, and what they do to a database by themselves.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;

/// A version of SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Always 3.
    pub major: u16,
    /// The release.
    pub minor: u16,
    /// The repair of it.
    pub patch: u16,
}

/// What a version may do to committed transactions, without anybody else taking part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakness {
    /// A checkpoint that races a WAL that begins anew can lose commits: 3.7.0 to 3.51.2, except 3.44.6 and 3.50.7 and what came after them
    /// in their series.
    LosesAroundReset,
    /// Commits after a `ROLLBACK TO` may stay without checksums, and a power cut loses them: up to 3.50.1 (ADR 21).
    LeavesUnsummed,
}

impl Weakness {
    /// What it comes to, in a sentence without subject.
    pub const fn means(self) -> &'static str {
        match self {
            Self::LosesAroundReset => "can lose commits when a checkpoint meets a WAL that begins anew",
            Self::LeavesUnsummed => "can lose commits at a power cut after a ROLLBACK TO",
        }
    }
}

impl Version {
    /// The first release with everything repaired.
    pub const SOUND: Self = Self::new(51, 3);

    pub(super) const fn new(minor: u16, patch: u16) -> Self {
        Self { major: 3, minor, patch }
    }

    /// The one that is linked here.
    pub fn ours() -> Self {
        Self::parse(rusqlite::version().as_bytes()).unwrap_or(Self::new(0, 0))
    }

    /// A text such as `3.40.1`; a fourth number, which old releases had, is dropped.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let numbers: Vec<u16> = text.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        match numbers[..] {
            [3, minor, patch] | [3, minor, patch, _] => Some(Self::new(minor, patch)),
            _ => None,
        }
    }

    /// What it does to a database in WAL mode by itself.
    pub fn weaknesses(self) -> Vec<Weakness> {
        let is_repaired = self >= Self::SOUND
            || (self.minor == 50 && self.patch >= 7)
            || (self.minor == 44 && self.patch >= 6);
        let loses = self >= Self::new(7, 0) && !is_repaired;
        let leaves = self >= Self::new(7, 0) && self <= Self::new(50, 1);
        [(loses, Weakness::LosesAroundReset), (leaves, Weakness::LeavesUnsummed)]
            .into_iter()
            .filter_map(|(has, weakness)| has.then_some(weakness))
            .collect()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The highest release that was out by the end of a year. Other libraries in one file have versions of their own, which this tells apart.
const LAST_OF: [(u16, u16); 12] = [
    (2014, 8),
    (2015, 9),
    (2016, 15),
    (2017, 21),
    (2018, 26),
    (2019, 30),
    (2020, 34),
    (2021, 37),
    (2022, 40),
    (2023, 44),
    (2024, 47),
    (2025, 51),
];

/// The SQLite that is compiled into a library or program, by the texts in its bytes: `sqlite_source_id()` shows that there is one, and of what
/// year, and `sqlite3_version` is the highest version that there was by then. Approximate by nature: a text is no proof.
pub(super) fn compiled_into(mut program: impl Read) -> std::io::Result<Option<Version>> {
    let (mut year, mut versions) = (None, BTreeSet::new());
    let (mut window, mut filled) = (vec![0; WINDOW_BYTES], 0);
    loop {
        let read = program.read(&mut window[filled..])?;
        filled += read;
        // Of a text that goes on, the end comes with the next bytes; one that is longer than any of ours is cut.
        let whole = match window[..filled].iter().rposition(|byte| *byte == 0) {
            Some(at) if read > 0 && filled - at < WINDOW_BYTES / 2 => at + 1,
            _ => filled,
        };
        for text in window[..whole].split(|byte| *byte == 0) {
            year = year.max(source_year(text));
            // What comes before a text need not end in a zero.
            let start =
                text.iter().rposition(|byte| !byte.is_ascii_digit() && *byte != b'.').map_or(0, |at| at + 1);
            if let tail @ [b'3', b'.', ..] = &text[start..]
                && tail.len() <= LONGEST
                && versions.len() < VERSIONS_MAX
            {
                versions.extend(Version::parse(tail));
            }
        }
        if read == 0 {
            break;
        }
        window.copy_within(whole..filled, 0);
        filled -= whole;
    }
    let Some(year) = year else { return Ok(None) };
    let last = LAST_OF.iter().find(|(of, _)| *of >= year).map_or(u16::MAX, |(_, last)| *last);
    Ok(versions.into_iter().rfind(|version| version.minor >= 7 && version.minor <= last))
}

/// So much of a program is looked at together.
const WINDOW_BYTES: usize = 1 << 20;

/// Most texts of a program that look like versions and are kept.
const VERSIONS_MAX: usize = 10_000;

/// The longest text of a version.
const LONGEST: usize = "3.999.999.99".len();

/// The year of a source id such as `2022-12-28 14:03:47 df5c253c…`, which stands at the end of a text.
fn source_year(text: &[u8]) -> Option<u16> {
    const FORM: &[u8] = b"0000-00-00 00:00:00 ";
    // The hash has 40 digits or 64, and a distributor's mark may take the place of the last ones.
    for hash in [40, 64] {
        let Some(start) = text.len().checked_sub(FORM.len() + hash) else { continue };
        let (date, hash) = text[start..].split_at(FORM.len());
        let is_date = date.iter().zip(FORM).all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        });
        let is_hash = hash[..hash.len() - 4].iter().all(u8::is_ascii_hexdigit);
        if is_date && is_hash {
            return std::str::from_utf8(&date[..4]).ok()?.parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_weak_until_it_was_repaired() {
        let weak = |minor, patch| Version::new(minor, patch).weaknesses();
        use Weakness::{LeavesUnsummed, LosesAroundReset};
        for (minor, patch, expected) in [
            (6, 23, &[][..]),
            (7, 0, &[LosesAroundReset, LeavesUnsummed]),
            (40, 1, &[LosesAroundReset, LeavesUnsummed]),
            (44, 5, &[LosesAroundReset, LeavesUnsummed]),
            (44, 6, &[LeavesUnsummed]),
            (45, 0, &[LosesAroundReset, LeavesUnsummed]),
            (50, 1, &[LosesAroundReset, LeavesUnsummed]),
            (50, 2, &[LosesAroundReset]),
            (50, 7, &[]),
            (51, 2, &[LosesAroundReset]),
            (51, 3, &[]),
            (53, 0, &[]),
        ] {
            assert_eq!(weak(minor, patch), expected, "3.{minor}.{patch}");
        }
        assert_eq!(Version::ours().weaknesses(), [], "ours is {}", Version::ours());
    }

    #[test]
    fn texts_of_other_libraries_are_told_apart() {
        let id = "2022-12-28 14:03:47 df5c253c0b3dd24916e4ec7cf77d3db5294cc9fd45ae7b9c5e82ad8197f3alt1";
        let bytes = |version: &str| {
            format!("\x01\x023.99.1\0{id}\x003.11.2\0x{version}\0 about 3.2.1 \0").into_bytes()
        };
        assert_eq!(compiled_into(bytes("3.40.1").as_slice()).unwrap(), Some(Version::new(40, 1)));
        assert_eq!(compiled_into(b"3.40.1\0".as_slice()).unwrap(), None, "no SQLite is there");
        assert_eq!(compiled_into(bytes("3.8.7.1").as_slice()).unwrap(), Some(Version::new(11, 2)));
    }
}
