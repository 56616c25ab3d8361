//! The repository as a set of files.
//!
//! Reads the file system, not git: a source archive and a machine without git must give the same answers.
//! What `.gitignore` names by a plain name or path is not part of the tree; patterns in it are not
//! understood.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Folders that no tree of ours keeps sources in, whatever `.gitignore` says.
const NEVER_SOURCES: [&str; 5] = [".git", "target", "node_modules", "__pycache__", ".pytest_cache"];

/// A repository and the folder its builds go to.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
    target: PathBuf,
}

impl Tree {
    /// The repository this program was built from.
    #[must_use]
    pub fn here() -> Self {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().unwrap_or(manifest).to_owned();
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        Self { root, target }
    }

    /// A repository at `root` that builds into its own `target`.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), target: root.join("target") }
    }

    /// The repository's root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder builds go to.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Reads a text file, named from the root.
    ///
    /// # Errors
    /// When it cannot be read; the text names it.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<String> {
        let path = path.as_ref();
        fs::read_to_string(self.root.join(path))
            .with_context(|| format!("cannot read. file=`{}`", path.display()))
    }

    /// Whether something exists at `path`, named from the root.
    #[must_use]
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        self.root.join(path).exists()
    }

    /// An empty folder under the target folder, for one purpose. What a crashed run left there is removed.
    ///
    /// # Errors
    /// When it cannot be emptied or made.
    pub fn scratch(&self, purpose: &str) -> Result<PathBuf> {
        let folder = self.target.join("xtask").join(purpose);
        let failed = || format!("cannot make an empty folder. folder=`{}`", folder.display());
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(failed)?;
        }
        fs::create_dir_all(&folder).with_context(failed)?;
        Ok(folder)
    }

    /// All files of the tree whose extension is `extension`, named from the root, in order.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn files(&self, extension: &str) -> Result<Vec<PathBuf>> {
        self.files_under("", extension)
    }

    /// The same of one folder and those below it, which are named from the root all the same.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn files_under(&self, folder: &str, extension: &str) -> Result<Vec<PathBuf>> {
        let ignored = self.ignored()?;
        let mut found = Vec::new();
        let mut folders = vec![PathBuf::from(folder)];
        while let Some(folder) = folders.pop() {
            for (path, is_folder) in self.entries(&folder)? {
                if Self::is_ignored(&ignored, &path) {
                    continue;
                }
                if is_folder {
                    folders.push(path);
                } else if path.extension().is_some_and(|found| found == extension) {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// The names in the root that belong to the tree, in order.
    ///
    /// # Errors
    /// When the root or `.gitignore` cannot be read.
    pub fn root_names(&self) -> Result<Vec<String>> {
        let ignored = self.ignored()?;
        let entries = self.entries(Path::new(""))?.into_iter();
        Ok(entries
            .filter(|(path, _)| !Self::is_ignored(&ignored, path))
            .map(|(path, _)| path.to_string_lossy().into_owned())
            .collect())
    }

    /// The entries of a folder in order, named from the root, each with whether it is a folder itself. A
    /// symbolic link is not followed, so the walk ends.
    fn entries(&self, folder: &Path) -> Result<Vec<(PathBuf, bool)>> {
        let failed = || format!("cannot read. folder=`{}`", folder.display());
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.root.join(folder)).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            entries.push((folder.join(entry.file_name()), entry.file_type().with_context(failed)?.is_dir()));
        }
        entries.sort();
        Ok(entries)
    }

    /// The plain lines of `.gitignore`.
    fn ignored(&self) -> Result<BTreeSet<String>> {
        if !self.has(".gitignore") {
            return Ok(BTreeSet::new());
        }
        let text = self.read(".gitignore")?;
        let plain = text.lines().map(|line| line.trim().trim_end_matches('/'));
        Ok(plain
            .filter(|line| !line.is_empty() && !line.contains(['*', '?', '!', '#']))
            .map(str::to_owned)
            .collect())
    }

    /// Whether `.gitignore` or our own list leaves this path out: a line with a slash names a path from the
    /// root, a line without one names anything so called.
    fn is_ignored(ignored: &BTreeSet<String>, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let rooted = path.to_string_lossy();
        NEVER_SOURCES.contains(&&*name)
            || ignored.contains(&*name)
            || ignored.contains(&format!("/{rooted}"))
            || (rooted.contains('/') && ignored.contains(&*rooted))
    }
}
