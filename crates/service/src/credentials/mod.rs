//! Who may write: the credentials that a file lists.
//!
//! ```toml
//! [[token]]
//! name    = "app"
//! sha256  = "…"                         # of the token's text, in hex: the token itself is nowhere on this side
//! streams = ["0x…"]                     # the only streams that it may write; without it, every one that is led here
//! expires = 2027-01-31T00:00:00Z        # without it, never
//!
//! [[certificate]]
//! name    = "machine-1"
//! sha256  = "…"                         # of the certificate in DER, as `openssl x509 -fingerprint -sha256` shows it
//! ```
//!
//! Two tokens at once are how one is exchanged: add the new one, give it to whoever writes, take the old one out. Knows no clock: the time is
//! an argument.

mod comments;
mod edit;
mod file;

pub use edit::{EditError, NewCredential, add, remove, write};
pub use file::{CREDENTIALS_BYTES_MAX, CREDENTIALS_MAX, CredentialsFile, CredentialsFileError};

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use synddb_protocol::id::StreamId;

/// The SHA-256 of a credential. It is no secret: a token of 256 random bits cannot be found from it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// That of the text of a token, or of a certificate in DER.
    pub fn of(credential: &[u8]) -> Self {
        Self(Sha256::digest(credential).into())
    }

    /// Reads 64 digits of hex, with or without colons between the bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.replace(':', ""), &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// What a credential is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bearer token.
    Token,
    /// The certificate that a client shows.
    Certificate,
}

/// Which streams somebody may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writable {
    /// Every one that is led here.
    Any,
    /// These.
    Only(BTreeSet<StreamId>),
}

/// Who was admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The name that the operator gave.
    pub name: String,
    /// What they may write.
    pub streams: Writable,
}

impl Holder {
    /// Whether they may write this stream.
    pub fn may_write(&self, stream: StreamId) -> bool {
        match &self.streams {
            Writable::Any => true,
            Writable::Only(streams) => streams.contains(&stream),
        }
    }
}

/// Why a credential admits nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlisted {
    /// It is not listed.
    Unknown,
    /// It was, until it expired.
    Expired,
}

/// A credential that is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// What it is.
    pub kind: Kind,
    /// Whose it is, and what they may write.
    pub holder: Arc<Holder>,
    /// Its hash.
    pub sha256: Fingerprint,
    /// When it ends to be one.
    pub expires: Option<SystemTime>,
}

/// The credentials that a file lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credentials(Vec<Credential>);

impl Credentials {
    /// All of them, in the order of the file: tokens first.
    pub fn iter(&self) -> impl Iterator<Item = &Credential> {
        self.0.iter()
    }

    /// Whose token this is. Takes the same time whichever is listed, and whether one is.
    ///
    /// # Errors
    /// [`Unlisted`].
    pub fn token(&self, given: &str, now: SystemTime) -> Result<&Arc<Holder>, Unlisted> {
        self.find(Kind::Token, Fingerprint::of(given.as_bytes()), now)
    }

    /// Whose certificate this is.
    ///
    /// # Errors
    /// [`Unlisted`].
    pub fn certificate(&self, given: Fingerprint, now: SystemTime) -> Result<&Arc<Holder>, Unlisted> {
        self.find(Kind::Certificate, given, now)
    }

    fn find(&self, kind: Kind, given: Fingerprint, now: SystemTime) -> Result<&Arc<Holder>, Unlisted> {
        // One behind the last stands for none. No entry ends the search.
        let mut found = self.0.len() as u64;
        for (place, credential) in (0_u64..).zip(&self.0) {
            let is_kind = Choice::from(u8::from(credential.kind == kind));
            found.conditional_assign(&place, is_kind & credential.sha256.0.ct_eq(&given.0));
        }
        let found = usize::try_from(found).ok().and_then(|place| self.0.get(place));
        let credential = found.ok_or(Unlisted::Unknown)?;
        match credential.expires {
            Some(expires) if expires <= now => Err(Unlisted::Expired),
            Some(_) | None => Ok(&credential.holder),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    fn parse(text: &str) -> Result<Credentials, CredentialsFileError> {
        file::parse(Path::new("credentials.toml"), text.as_bytes())
    }

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn who_is_listed_is_found_and_nobody_else() {
        let stream = StreamId::from_bytes([7; 32]);
        let (one, other) = (Fingerprint::of(TOKEN.as_bytes()), Fingerprint::of(b"a certificate"));
        let colons = other.to_string().to_uppercase().into_bytes();
        let colons: Vec<_> = colons.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
        let listed = parse(&format!(
            "[[token]]\nname = \"first\"\nsha256 = \"{}\"\nexpires = 2027-01-31T00:00:00Z\n\
             [[token]]\nname = \"app\"\nsha256 = \"{one}\"\nstreams = [\"{stream}\"]\n\
             [[certificate]]\nname = \"machine\"\nsha256 = \"{}\"\n",
            Fingerprint::of(b"another"),
            colons.join(":"),
        ))
        .unwrap();
        let before = humantime::parse_rfc3339("2027-01-30T23:59:59Z").unwrap();
        let after = before + Duration::from_secs(1);
        let app = listed.token(TOKEN, after).unwrap();
        assert_eq!(app.name, "app");
        assert!(app.may_write(stream) && !app.may_write(StreamId::from_bytes([8; 32])));
        assert_eq!(listed.token("another", before).unwrap().name, "first");
        assert_eq!(listed.token("another", after), Err(Unlisted::Expired));
        assert_eq!(listed.certificate(other, after).unwrap().name, "machine");
        assert!(listed.certificate(other, after).unwrap().may_write(stream));
        // What is right as one kind is nothing as the other.
        assert_eq!(listed.certificate(one, after), Err(Unlisted::Unknown));
        for wrong in ["", "a certificate", &TOKEN[..31], &one.to_string()] {
            assert_eq!(listed.token(wrong, after), Err(Unlisted::Unknown), "{wrong}");
        }
        assert_eq!(Credentials::default().token(TOKEN, after), Err(Unlisted::Unknown));
    }

    #[test]
    fn what_is_no_list_is_refused_without_saying_what_it_holds() {
        let secret = "correct-horse-battery-staple-correct-horse";
        let hash = Fingerprint::of(TOKEN.as_bytes());
        let entry = format!("[[token]]\nname = \"app\"\nsha256 = \"{hash}\"\n");
        for (wrong, why) in [
            (format!("[[token]]\nname = \"app\"\nsha256 = \"{secret}\"\n"), "64 digits"),
            (format!("[[token]]\nname = \"app\"\ntoken = \"{secret}\"\n"), "unknown field"),
            (format!("[[token]]\nname = \"app\"\nsha256 = {secret}\n"), "value"),
            ("[[token]]\nname = \"app\"\n".to_owned(), "missing field"),
            (format!("{entry}streams = []\n"), "leave it out"),
            (format!("{entry}streams = [\"0x12\"]\n"), ""),
            (format!("{entry}expires = 2027-01-31T00:00:00\n"), "UTC"),
            (format!("{entry}{entry}"), "twice"),
            (format!("{entry}{}", entry.replace("app", "other")), "twice"),
            (entry.replace("app", "an app"), "letters"),
            (entry.replace("app", ""), "letters"),
            ("key = 1\n".to_owned(), "unknown field"),
        ] {
            let refused = parse(&wrong).unwrap_err().to_string();
            assert!(refused.contains(why), "{wrong} {refused}");
            assert!(!refused.contains(secret), "{refused}");
        }
        let many: String = (0..=CREDENTIALS_MAX)
            .map(|n| {
                format!(
                    "[[token]]\nname = \"t{n}\"\nsha256 = \"{}\"\n",
                    Fingerprint::of(n.to_string().as_bytes())
                )
            })
            .collect();
        assert!(parse(&many).unwrap_err().to_string().contains("at most"));
        assert_eq!(parse("nobody = true\n").unwrap(), Credentials::default(), "nobody may write");
        for (unmeant, why) in [("", "`nobody = true`"), ("nobody = false\n", "`nobody = true`")] {
            assert!(parse(unmeant).unwrap_err().to_string().contains(why), "{unmeant}");
        }
        let both =
            format!("nobody = true\n[[token]]\nname = \"a\"\nsha256 = \"{}\"\n", Fingerprint::of(b"a"));
        assert!(parse(&both).unwrap_err().to_string().contains("leave out one"));
    }
}
