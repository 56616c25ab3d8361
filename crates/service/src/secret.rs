//! Secrets are references: configuration names a file, and the file is nobody else's. So is what decides who is believed.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use synddb_protocol::signing::SigningKey;

use crate::credentials::Fingerprint;

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read or written.
    #[error("cannot {doing} a secret. file=`{}`", file.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that is no secret cannot be read.
    #[error("cannot read the file; check its path. file=`{}`", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others may read the file.
    #[error("others may read the secret; run `chmod 600` on it. file=`{}` mode=`{mode:o}`", file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Others may write the file.
    #[error("others may write the file, and so decide who is believed; run `chmod go-w` on it. file=`{}` mode=`{mode:o}`", file.display())]
    Writable {
        /// The file.
        file: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is larger than any of its kind.
    #[error("the file is too large. file=`{}` limit=`{bytes_max}`", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The limit, in bytes.
        bytes_max: u64,
    },
    /// The file is somebody else's.
    #[error("the file belongs to another user; make it yours. file=`{}` owner=`{owner}`", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// The user who owns it.
        owner: u32,
    },
    /// The file does not hold what it should.
    #[error("the secret is not {expected}. file=`{}`", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
}

/// A bearer token (RFC 6750), as whoever sends it has it. It is never printed.
#[derive(Clone)]
pub struct Token(String);

/// Shortest token that is accepted, in characters: 128 bits in hex.
const TOKEN_CHARS_MIN: usize = 32;
/// Longest token that is accepted, in characters.
const TOKEN_CHARS_MAX: usize = 4096;

/// Largest file that is read as a secret, in bytes.
const SECRET_BYTES_MAX: u64 = 64 << 10;

impl Token {
    /// Reads the token in a file.
    ///
    /// # Errors
    /// [`SecretError`] when others may read it, or it is too short to be a secret.
    pub fn read(file: &Path) -> Result<Self, SecretError> {
        let text = read_secret(file)?;
        let text = text.trim();
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if !(TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&text.len()) || !text.bytes().all(legal) {
            let expected = "a token of 32 to 4096 letters, digits or `-._~+/=`";
            return Err(SecretError::Malformed { file: file.to_owned(), expected });
        }
        Ok(Self(text.to_owned()))
    }

    /// Draws a new one, of 256 random bits.
    ///
    /// # Errors
    /// When the operating system has no randomness.
    pub fn draw() -> io::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(hex::encode(bytes)))
    }

    /// What the other side knows it by.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.0.as_bytes())
    }

    /// The token, to send.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Reads a file that only its owner may read.
///
/// # Errors
/// [`SecretError`] when others may read it, it is no file, or it cannot be read.
pub fn read_secret(file: &Path) -> Result<String, SecretError> {
    let io = |source| SecretError::Io { doing: "read", file: file.to_owned(), source };
    // Looked at and read through one handle, so that nobody exchanges it in between.
    let (handle, found) = open_regular(file).map_err(io)?;
    let (mode, owner) = (found.mode() & 0o777, found.uid());
    if mode & 0o077 != 0 {
        return Err(SecretError::Open { file: file.to_owned(), mode });
    }
    if is_foreign(owner) {
        return Err(SecretError::Foreign { file: file.to_owned(), owner });
    }
    let mut text = String::new();
    handle.take(SECRET_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
    Ok(text)
}

/// Reads a file that everybody may read, and only its owner may write.
///
/// # Errors
/// [`SecretError`] when others may write it, it is no file, it is longer than `bytes_max`, or it cannot be read.
pub fn read_unwritable(file: &Path, bytes_max: u64) -> Result<Vec<u8>, SecretError> {
    let io = |source| SecretError::Unreadable { file: file.to_owned(), source };
    let (handle, found) = open_regular(file).map_err(io)?;
    let (mode, owner) = (found.mode() & 0o777, found.uid());
    if mode & 0o022 != 0 {
        return Err(SecretError::Writable { file: file.to_owned(), mode });
    }
    if is_foreign(owner) {
        return Err(SecretError::Foreign { file: file.to_owned(), owner });
    }
    let mut content = Vec::new();
    handle.take(bytes_max + 1).read_to_end(&mut content).map_err(io)?;
    if content.len() as u64 > bytes_max {
        return Err(SecretError::TooLarge { file: file.to_owned(), bytes_max });
    }
    Ok(content)
}

/// Opens what is a file, and says what it is. A pipe would have its reader wait for a writer, who may never come.
fn open_regular(file: &Path) -> io::Result<(File, Metadata)> {
    let check = |found: Metadata| {
        let no_file = || io::Error::new(io::ErrorKind::InvalidInput, "it is no file");
        if found.is_file() { Ok(found) } else { Err(no_file()) }
    };
    // Before it is opened, since opening a device may do something.
    check(file.metadata()?)?;
    // Once more behind that, and without waiting: it may have become something else meanwhile.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let handle = File::from(rustix::fs::open(file, flags, Mode::empty())?);
    let found = check(handle.metadata()?)?;
    Ok((handle, found))
}

/// Whether a file belongs to somebody whom this process has no reason to believe.
fn is_foreign(owner: u32) -> bool {
    owner != 0 && owner != rustix::process::geteuid().as_raw()
}

/// Writes a new file that only its owner may read, durably. A file that is there stays as it is.
///
/// # Errors
/// [`SecretError::Io`] with `AlreadyExists` when there is one.
pub fn write_new_secret(file: &Path, text: &str) -> Result<(), SecretError> {
    let io = |source| SecretError::Io { doing: "write", file: file.to_owned(), source };
    // Under its own name only when it is whole, and under no name before that anybody could guess.
    let write = || -> io::Result<()> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut staged = tempfile::NamedTempFile::new_in(folder)?;
        staged.write_all(text.as_bytes())?;
        staged.as_file().sync_all()?;
        staged.persist_noclobber(file).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(io)
}

/// Reads the key with which a process signs, and makes one when there is no file.
///
/// # Errors
/// [`SecretError`] when others may read it, or it holds no key.
pub fn signing_key(file: &Path) -> Result<SigningKey, SecretError> {
    match read_signing_key(file) {
        Err(SecretError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            match new_signing_key(file) {
                // Another process made it meanwhile.
                Err(SecretError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
                made => drop(made?),
            }
            read_signing_key(file)
        }
        read => read,
    }
}

/// Reads the key with which a process signs.
///
/// # Errors
/// [`SecretError`] when there is none, others may read it, or it is no key.
pub fn read_signing_key(file: &Path) -> Result<SigningKey, SecretError> {
    let text = read_secret(file)?;
    let expected = "64 digits of hex that are a secp256k1 key";
    let malformed = || SecretError::Malformed { file: file.to_owned(), expected };
    let mut bytes = [0; 32];
    let digits = text.trim();
    hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), &mut bytes).map_err(|_| malformed())?;
    SigningKey::from_bytes(bytes).map_err(|_| malformed())
}

/// Draws a key to sign with, and writes it to a file that only its owner may read.
///
/// # Errors
/// [`SecretError::Io`] with `AlreadyExists` when there is one, which stays as it is.
pub fn new_signing_key(file: &Path) -> Result<SigningKey, SecretError> {
    let io = |source| SecretError::Io { doing: "draw", file: file.to_owned(), source };
    loop {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| io(io::Error::other(error)))?;
        // Zero and numbers above the order are no keys; they are as likely as guessing somebody's key.
        if let Ok(key) = SigningKey::from_bytes(bytes) {
            write_new_secret(file, &hex::encode(bytes))?;
            return Ok(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;

    #[test]
    fn a_token_is_read_from_a_private_file_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        write_new_secret(&file, &"a".repeat(32)).unwrap();
        let token = Token::read(&file).unwrap();
        assert_eq!(token.expose(), "a".repeat(32));
        assert_eq!(token.fingerprint(), Fingerprint::of("a".repeat(32).as_bytes()));
        assert_eq!(format!("{token:?}"), "Token");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Token::read(&file), Err(SecretError::Open { mode: 0o640, .. })));
    }

    #[test]
    fn a_token_that_was_drawn_can_be_kept_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let (drawn, other) = (Token::draw().unwrap(), Token::draw().unwrap());
        assert_ne!(drawn.expose(), other.expose());
        write_new_secret(&file, drawn.expose()).unwrap();
        assert_eq!(Token::read(&file).unwrap().expose(), drawn.expose());
    }

    #[test]
    fn what_others_may_write_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list");
        fs::write(&file, "list").unwrap();
        for (mode, is_fine) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_unwritable(&file, 4).is_ok(), is_fine, "{mode:o}");
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read_unwritable(&file, 3), Err(SecretError::TooLarge { .. })));
        assert!(matches!(read_unwritable(folder.path(), 3), Err(SecretError::Unreadable { .. })));
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("token");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        // Without a writer, whoever opens it in the usual way waits for ever.
        for none in [pipe.as_path(), folder.path()] {
            assert!(matches!(read_secret(none), Err(SecretError::Io { doing: "read", .. })));
            assert!(matches!(read_unwritable(none, 64), Err(SecretError::Unreadable { .. })));
        }
    }

    #[test]
    fn a_secret_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        write_new_secret(&file, "one").unwrap();
        assert!(write_new_secret(&file, "two").is_err());
        assert_eq!(read_secret(&file).unwrap(), "one");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_signing_key_is_made_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        assert!(read_signing_key(&file).is_err());
        let made = signing_key(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(signing_key(&file).unwrap().verifying_key(), made.verifying_key());
        assert_eq!(read_signing_key(&file).unwrap().verifying_key(), made.verifying_key());
        let again = new_signing_key(&file);
        let Err(SecretError::Io { source, .. }) = &again else { panic!("{again:?}") };
        assert_eq!(source.kind(), io::ErrorKind::AlreadyExists);
        assert!(signing_key(&folder.path().join("no").join("key")).is_err());
        fs::write(&file, "0x00").unwrap();
        assert!(matches!(signing_key(&file), Err(SecretError::Malformed { .. })));
    }
}
