//! Secrets are references: configuration names a file, and the file is nobody else's.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq as _;

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
    /// Others may read the file.
    #[error("others may read the secret; run `chmod 600` on it. file=`{}` mode=`{mode:o}`", file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is somebody else's.
    #[error("the secret belongs to another user; make it yours. file=`{}` owner=`{owner}`", file.display())]
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

/// A bearer token (RFC 6750). It is compared in constant time and never printed.
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

    /// Whether `given` is this token.
    pub fn accepts(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
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
/// [`SecretError`] when others may read it, or it cannot be read.
pub fn read_secret(file: &Path) -> Result<String, SecretError> {
    let io = |source| SecretError::Io { doing: "read", file: file.to_owned(), source };
    // Looked at and read through one handle, so that nobody exchanges it in between.
    let handle = File::open(file).map_err(io)?;
    let found = handle.metadata().map_err(io)?;
    let (mode, owner) = (found.mode() & 0o777, found.uid());
    if mode & 0o077 != 0 {
        return Err(SecretError::Open { file: file.to_owned(), mode });
    }
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(SecretError::Foreign { file: file.to_owned(), owner });
    }
    let mut text = String::new();
    handle.take(SECRET_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
    Ok(text)
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_read_from_a_private_file_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        write_new_secret(&file, &"a".repeat(32)).unwrap();
        let token = Token::read(&file).unwrap();
        assert!(token.accepts(&"a".repeat(32)));
        assert!(!token.accepts(&"a".repeat(31)) && !token.accepts("") && !token.accepts(&"b".repeat(32)));
        assert_eq!(format!("{token:?}"), "Token");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Token::read(&file), Err(SecretError::Open { mode: 0o640, .. })));
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
}
