//! Changing a file of credentials while services read it: whole, durably, one editor at a time, and never into what they would refuse.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Gid, Uid, fchown};
use synddb_protocol::id::StreamId;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};

use super::comments::{above_nobody, put_above, staying};
use super::{Credentials, CredentialsFile, CredentialsFileError, Fingerprint, Kind};
use crate::reloaded::Source as _;
use crate::secret::Token;

/// Who may read a new file: services that run as other users must, and nothing in it is secret.
const NEW_MODE: u32 = 0o644;

/// Why a file of credentials is not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It is none, or would become none.
    #[error(transparent)]
    Refused(#[from] CredentialsFileError),
    /// It cannot be written.
    #[error("cannot write the credentials file. file=`{}`", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It would change hands, so that a service which reads it now could not any more, and would go on with what it read last.
    #[error("what replaces the credentials file cannot be given to its owner and group; edit it as its owner, who has to be in its group. file=`{}` owner=`{owner}` group=`{group}`", file.display())]
    Owner {
        /// The file.
        file: PathBuf,
        /// The user who owns it.
        owner: u32,
        /// Its group.
        group: u32,
        /// Why not.
        source: io::Error,
    },
    /// Another credential has the name.
    #[error("the credentials file lists another credential by this name; name another one, or take it out first with `synddb token revoke`. file=`{}` name=`{name}`", file.display())]
    Taken {
        /// The file.
        file: PathBuf,
        /// The name.
        name: String,
    },
    /// It is listed already.
    #[error("the credentials file lists this very credential already; take it out first with `synddb token revoke {listed}` if its entry is to change. file=`{}` name=`{name}` listed=`{listed}`", file.display())]
    Listed {
        /// The file.
        file: PathBuf,
        /// The name that it would have.
        name: String,
        /// The name that it has.
        listed: String,
    },
    /// There is nothing of this name to take out.
    #[error("the credentials file lists nothing of this name; `synddb token list` shows what it does. file=`{}` name=`{name}`", file.display())]
    Unlisted {
        /// The file.
        file: PathBuf,
        /// The name.
        name: String,
    },
}

/// A credential to list.
#[derive(Debug, Clone)]
pub struct NewCredential {
    /// What it is.
    pub kind: Kind,
    /// The operator's name for it.
    pub name: String,
    /// Its hash.
    pub sha256: Fingerprint,
    /// The only streams that it may write; none for every one that is led.
    pub streams: BTreeSet<StreamId>,
    /// When it ends to be one.
    pub expires: Option<SystemTime>,
}

impl NewCredential {
    /// A token without bounds.
    pub fn of_token(name: &str, token: &Token) -> Self {
        let (name, sha256) = (name.to_owned(), token.fingerprint());
        Self { kind: Kind::Token, name, sha256, streams: BTreeSet::new(), expires: None }
    }

    /// Whether a file could list it.
    ///
    /// # Errors
    /// [`EditError`] as [`add`] would say it.
    pub fn check(&self) -> Result<(), EditError> {
        CredentialsFile::at("").parse(self.to_toml().as_bytes())?;
        Ok(())
    }

    /// Its entry, as text to be put into a file.
    pub fn to_toml(&self) -> String {
        let mut document = DocumentMut::new();
        self.put_into(&mut document);
        document.to_string()
    }

    /// Puts it behind the others. What is there of another form is refused when the text is read back.
    fn put_into(&self, document: &mut DocumentMut) {
        let mut table = Table::new();
        table.insert("name", value(self.name.as_str()));
        table.insert("sha256", value(self.sha256.to_string()));
        if !self.streams.is_empty() {
            table.insert("streams", value(self.streams.iter().map(ToString::to_string).collect::<Array>()));
        }
        if let Some(expires) = self.expires {
            let text = humantime::format_rfc3339_seconds(expires).to_string();
            table.insert("expires", text.parse::<toml_edit::Datetime>().map_or_else(|_| value(text), value));
        }
        let listed = document.entry(key(self.kind)).or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
        if let Item::ArrayOfTables(listed) = listed {
            listed.push(table);
        }
    }
}

/// The key that says that a file lists nobody.
pub(super) const NOBODY: &str = "nobody";

/// All kinds.
pub(super) const KINDS: [Kind; 2] = [Kind::Token, Kind::Certificate];

/// The key under which a file lists those of a kind.
pub(super) const fn key(kind: Kind) -> &'static str {
    match kind {
        Kind::Token => "token",
        Kind::Certificate => "certificate",
    }
}

/// Lists a credential. A file that is missing is made.
///
/// # Errors
/// [`EditError`]; the file is as it was.
pub fn add(file: &Path, new: &NewCredential) -> Result<(), EditError> {
    let edit = Edit::begin(file)?;
    let (mut document, listed) = match edit.document() {
        Err(CredentialsFileError::Missing { .. }) => (DocumentMut::new(), Credentials::default()),
        read => read?,
    };
    if let Some(same) = listed.iter().find(|credential| credential.sha256 == new.sha256) {
        let listed = same.holder.name.clone();
        return Err(EditError::Listed { file: edit.file, name: new.name.clone(), listed });
    }
    if listed.iter().any(|credential| credential.holder.name == new.name) {
        return Err(EditError::Taken { file: edit.file, name: new.name.clone() });
    }
    new.put_into(&mut document);
    edit.write(document)
}

/// Lists this credential and no other.
///
/// # Errors
/// [`EditError`]; the file is as it was.
pub fn write(file: &Path, only: &NewCredential) -> Result<(), EditError> {
    let mut document = DocumentMut::new();
    only.put_into(&mut document);
    Edit::begin(file)?.write(document)
}

/// Takes a credential out. What was sent with it is refused from the next look of each service on.
///
/// # Errors
/// [`EditError`]; the file is as it was.
pub fn remove(file: &Path, name: &str) -> Result<(), EditError> {
    let edit = Edit::begin(file)?;
    let (mut document, _) = edit.document()?;
    let first = KINDS.iter().filter_map(|kind| entries(&document, *kind)).flat_map(ArrayOfTables::iter);
    let first = first.filter_map(Table::position).min();
    let removed = KINDS.iter().find_map(|kind| {
        let Some(Item::ArrayOfTables(listed)) = document.get_mut(key(*kind)) else { return None };
        let is_named = |entry: &Table| entry.get("name").and_then(Item::as_str) == Some(name);
        let at = listed.iter().position(is_named)?;
        Some(listed.remove(at))
    });
    let Some(removed) = removed else {
        return Err(EditError::Unlisted { file: edit.file, name: name.to_owned() });
    };
    say_whether_nobody(&mut document);
    put_above(&mut document, removed.position(), &staying(&removed, removed.position() == first));
    edit.write(document)
}

fn entries(document: &DocumentMut, kind: Kind) -> Option<&ArrayOfTables> {
    document.get(key(kind)).and_then(Item::as_array_of_tables).filter(|entries| !entries.is_empty())
}

/// Has a file say that it lists nobody where it does, and not where it lists somebody.
fn say_whether_nobody(document: &mut DocumentMut) {
    let is_said = document.contains_key(NOBODY);
    if KINDS.iter().all(|kind| entries(document, *kind).is_none()) {
        if !is_said {
            document.insert(NOBODY, value(true));
        }
    } else if is_said {
        let comments = above_nobody(document);
        document.remove(NOBODY);
        put_above(document, None, &comments);
    }
}

/// One change of a file.
struct Edit {
    /// The file itself, also where a link led to it.
    file: PathBuf,
    /// The lock of its folder, which the file that replaces it cannot take away.
    folder: File,
}

impl Edit {
    fn begin(file: &Path) -> Result<Self, EditError> {
        let begin = || {
            let file = if file.exists() { file.canonicalize()? } else { file.to_owned() };
            let parent = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = File::open(parent.unwrap_or(Path::new(".")))?;
            folder.lock()?;
            Ok(Self { file, folder })
        };
        begin().map_err(|source| EditError::Write { file: file.to_owned(), source })
    }

    /// What the file says, which its readers would take, and whom it lists.
    fn document(&self) -> Result<(DocumentMut, Credentials), CredentialsFileError> {
        let source = CredentialsFile::at(&self.file);
        let content = source.read()?;
        let listed = source.parse(&content)?;
        let malformed =
            |why: String| CredentialsFileError::Malformed { file: self.file.clone(), line: 1, why };
        let text = String::from_utf8(content).map_err(|error| malformed(error.to_string()))?;
        let document: DocumentMut =
            text.parse().map_err(|error: toml_edit::TomlError| malformed(error.message().to_owned()))?;
        let inline = KINDS.into_iter().find(|kind| document.get(key(*kind)).is_some_and(Item::is_value));
        match inline {
            Some(kind) => Err(malformed(format!(
                "its entries are in brackets, which is read and not edited; write each one below a line `[[{}]]`",
                key(kind)
            ))),
            None => Ok((document, listed)),
        }
    }

    /// Under its name only when it is whole, and when its readers take it.
    fn write(&self, mut document: DocumentMut) -> Result<(), EditError> {
        say_whether_nobody(&mut document);
        let text = document.to_string();
        CredentialsFile::at(&self.file).parse(text.as_bytes())?;
        let failed = |source| EditError::Write { file: self.file.clone(), source };
        let found = match fs::metadata(&self.file) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let parent = self.file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut staged = tempfile::NamedTempFile::new_in(parent.unwrap_or(Path::new("."))).map_err(failed)?;
        if let Some(found) = &found {
            self.give_to_owner(staged.as_file(), found)?;
        }
        let write = || {
            staged.write_all(text.as_bytes())?;
            // After the owner, since changing that may take away from this.
            let mode = found.map_or_else(|| Permissions::from_mode(NEW_MODE), |found| found.permissions());
            staged.as_file().set_permissions(mode)?;
            staged.as_file().sync_all()?;
            staged.persist(&self.file).map_err(|error| error.error)?;
            self.folder.sync_all()
        };
        write().map_err(failed)
    }

    /// Makes a file belong to whoever the one that it replaces belongs to.
    fn give_to_owner(&self, staged: &File, replaced: &Metadata) -> Result<(), EditError> {
        let made =
            staged.metadata().map_err(|source| EditError::Write { file: self.file.clone(), source })?;
        let (owner, group) = (replaced.uid(), replaced.gid());
        if (made.uid(), made.gid()) == (owner, group) {
            return Ok(());
        }
        fchown(staged, Some(Uid::from_raw(owner)), Some(Gid::from_raw(group)))
            .map_err(|error| EditError::Owner { file: self.file.clone(), owner, group, source: error.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str) -> NewCredential {
        let sha256 = Fingerprint::of(name.as_bytes());
        NewCredential { kind: Kind::Token, name: name.to_owned(), sha256, streams: [].into(), expires: None }
    }

    fn names(file: &Path) -> Vec<String> {
        let source = CredentialsFile::at(file);
        let listed = source.parse(&source.read().unwrap()).unwrap();
        listed.iter().map(|credential| credential.holder.name.clone()).collect()
    }

    #[test]
    fn what_people_wrote_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials.toml");
        add(&file, &token("one")).unwrap();
        let written = format!("# Ours.\n{}", fs::read_to_string(&file).unwrap());
        fs::write(&file, &written).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let expires = Some(humantime::parse_rfc3339("2027-01-31T00:00:00Z").unwrap());
        let streams = [StreamId::from_bytes([7; 32])].into();
        add(&file, &NewCredential { streams, expires, ..token("two") }).unwrap();
        let both = fs::read_to_string(&file).unwrap();
        assert!(both.starts_with(&written) && both.contains("expires = 2027-01-31T00:00:00Z"), "{both}");
        assert_eq!(names(&file), ["one", "two"]);
        remove(&file, "two").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap().trim(), written.trim());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(remove(&file, "two"), Err(EditError::Unlisted { .. })));
        remove(&file, "one").unwrap();
        assert!(names(&file).is_empty());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    /// An entry, with what stands above it.
    fn entry(above: &str, kind: &str, name: &str) -> String {
        format!("{above}[[{kind}]]\nname = \"{name}\"\nsha256 = \"{}\"\n", Fingerprint::of(name.as_bytes()))
    }

    #[test]
    fn what_is_about_more_than_an_entry_stays_when_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials.toml");
        let becomes = |before: &[String], gone: &[&str], after: &[String]| {
            fs::write(&file, before.concat()).unwrap();
            gone.iter().for_each(|name| remove(&file, name).unwrap());
            assert_eq!(fs::read_to_string(&file).unwrap(), after.concat(), "{gone:?}");
        };
        let nobody = |above: &str, below: &str| format!("{above}nobody = true\n{below}");
        let (head, of_one) = ("# Ours.\n", entry("# Ours.\n", "token", "one"));
        let (two, three) =
            (entry("\n", "token", "two"), entry("\n# Machines.\n\n# The third.\n", "certificate", "three"));
        let all = [of_one.clone(), two.clone(), three.clone()];
        becomes(&all, &["one"], &[entry(head, "token", "two"), three.clone()]);
        becomes(&all, &["two"], &[of_one.clone(), three.clone()]);
        becomes(&all, &["three"], &[of_one.clone(), two.clone(), "\n# Machines.\n\n".to_owned()]);
        becomes(
            &all,
            &["one", "two"],
            &[entry("# Ours.\n# Machines.\n\n# The third.\n", "certificate", "three")],
        );
        becomes(&all, &["one", "two", "three"], &[nobody("# Ours.\n# Machines.\n\n", "")]);
        // The next one that is listed finds it above.
        add(&file, &token("four")).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), entry("# Ours.\n# Machines.\n\n", "token", "four"));
        // What is about the one that goes is not about the next one.
        let own =
            [entry("# Ours.\n\n# The first.\n", "token", "one"), entry("\n# The second.\n", "token", "two")];
        becomes(&own, &["one"], &[entry("# Ours.\n\n# The second.\n", "token", "two")]);
    }

    #[test]
    fn what_cannot_be_edited_is_not_taken_for_done() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials.toml");
        let inline = format!("token = [{{ name = \"one\", sha256 = \"{}\" }}]\n", Fingerprint::of(b"one"));
        fs::write(&file, &inline).unwrap();
        assert_eq!(names(&file), ["one"], "it is read");
        for refused in [add(&file, &token("two")), remove(&file, "one")] {
            assert!(refused.unwrap_err().to_string().contains("[[token]]"));
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), inline);
    }

    #[test]
    fn a_file_stays_with_its_owner_and_group_or_as_it_is() {
        const SERVICE: u32 = 64_999;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials.toml");
        add(&file, &token("one")).unwrap();
        if !rustix::process::geteuid().is_root() {
            // Nobody else may give files away. `/proc` has files of another user, whoever asks.
            let edit = Edit::begin(&file).unwrap();
            let (staged, theirs) = (tempfile::tempfile().unwrap(), fs::metadata("/proc/version").unwrap());
            let refused = edit.give_to_owner(&staged, &theirs).unwrap_err();
            assert!(matches!(refused, EditError::Owner { .. }), "{refused}");
            return;
        }
        let shown = || {
            let found = fs::metadata(&file).unwrap();
            (found.uid(), found.gid(), found.permissions().mode() & 0o7777)
        };
        // Root edits, and a service of another user reads by its group.
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        fchown(File::open(&file).unwrap(), None, Some(Gid::from_raw(SERVICE))).unwrap();
        add(&file, &token("two")).unwrap();
        assert_eq!(shown(), (0, SERVICE, 0o640));
        remove(&file, "one").unwrap();
        assert_eq!(shown(), (0, SERVICE, 0o640));
        fchown(File::open(&file).unwrap(), Some(Uid::from_raw(SERVICE)), None).unwrap();
        write(&file, &token("three")).unwrap();
        assert_eq!(shown(), (SERVICE, SERVICE, 0o640));
    }

    #[test]
    fn nothing_is_written_that_would_be_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials.toml");
        add(&file, &token("one")).unwrap();
        let before = fs::read(&file).unwrap();
        let taken = NewCredential { sha256: Fingerprint::of(b"another"), ..token("one") };
        let taken = add(&file, &taken).unwrap_err();
        assert!(matches!(&taken, EditError::Taken { name, .. } if name == "one"), "{taken}");
        let same = NewCredential { name: "two".to_owned(), ..token("one") };
        let same = add(&file, &same).unwrap_err();
        assert!(matches!(&same, EditError::Listed { name, listed, .. } if name == "two" && listed == "one"));
        for said in [taken.to_string(), same.to_string()] {
            assert!(said.contains("token revoke") && !said.contains("malformed"), "{said}");
        }
        let wrong = add(&file, &token("an app")).unwrap_err();
        assert!(matches!(wrong, EditError::Refused(_)), "{wrong}");
        assert_eq!(fs::read(&file).unwrap(), before);
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(add(&file, &token("two")), Err(EditError::Refused(_))), "others may write it");
    }

    #[test]
    fn of_many_editors_none_loses_what_another_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials.toml");
        std::thread::scope(|scope| {
            for number in 0..16 {
                let file = &file;
                scope.spawn(move || add(file, &token(&format!("t{number}"))).unwrap());
            }
        });
        assert_eq!(names(&file).len(), 16);
    }
}
