//! The names in a folder of files, and nothing else about them.
//!
//! A file system tells names in no order, so each page of a listing passes by all of them. `object_store` asks three times about each
//! file and builds its URL on the way; here a name is compared as it comes, kept only while it is among the smallest, and asked about
//! nothing that the folder did not already tell. With twenty thousand batches that decides between a tenth of a second and none.
//!
//! What counts as an object is the same: files, also behind links, at any depth; not folders, broken links, or what is being staged.

use std::collections::BinaryHeap;
use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;

/// How deep folders may lie below the one that is listed. Keys need one level; more are somebody else's, or a loop of links.
const DEPTH_MAX: usize = 8;

/// The smallest names below `root`, as many as `count` and ascending, of what lies in `folder` and is admitted.
pub(crate) fn smallest(
    root: &Path,
    folder: &str,
    admitted: impl Fn(&str) -> bool,
    count: usize,
) -> io::Result<Vec<String>> {
    let mut smallest = Smallest { admitted, count, names: BinaryHeap::new() };
    let mut name = format!("{folder}/");
    match smallest.pass(&root.join(folder), &mut name, DEPTH_MAX) {
        // Nobody put anything yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        passed => passed.map(|()| smallest.names.into_sorted_vec()),
    }
}

struct Smallest<F> {
    admitted: F,
    count: usize,
    /// The largest is at hand, because it is the one that gives way.
    names: BinaryHeap<String>,
}

impl<F: Fn(&str) -> bool> Smallest<F> {
    /// Passes by everything in `place`, whose name is `name` with a `/` at its end; afterwards it is that again.
    fn pass(&mut self, place: &Path, name: &mut String, depth_left: usize) -> io::Result<()> {
        let length = name.len();
        for entry in fs::read_dir(place)? {
            let entry = entry?;
            name.truncate(length);
            // A name that is no text is no key either, and is told as well as it can be.
            name.push_str(&entry.file_name().to_string_lossy());
            match kind(&entry)? {
                Some(Kind::Folder) if depth_left == 0 => {
                    return Err(io::Error::new(
                        io::ErrorKind::NotADirectory,
                        "folders lie too deep in each other",
                    ));
                }
                Some(Kind::Folder) => {
                    name.push('/');
                    match self.pass(&entry.path(), name, depth_left - 1) {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        passed => passed?,
                    }
                }
                Some(Kind::Object) => self.take(name),
                None => {}
            }
        }
        name.truncate(length);
        Ok(())
    }

    fn take(&mut self, name: &str) {
        if !(self.admitted)(name) || is_staged(name) {
            return;
        }
        if self.names.len() == self.count {
            match self.names.peek() {
                Some(largest) if name < largest.as_str() => self.names.pop(),
                _ => return,
            };
        }
        self.names.push(name.to_owned());
    }
}

enum Kind {
    Folder,
    Object,
}

/// What an entry is; `None` when it is nothing that can be read, or went away.
fn kind(entry: &DirEntry) -> io::Result<Option<Kind>> {
    let absent =
        |error: io::Error| if error.kind() == io::ErrorKind::NotFound { Ok(None) } else { Err(error) };
    let found = entry.file_type().map(Some).or_else(absent)?;
    let found = match found {
        Some(link) if link.is_symlink() => match fs::metadata(entry.path()) {
            Ok(behind) => Some(behind.file_type()),
            Err(_) => None,
        },
        other => other,
    };
    Ok(found.and_then(|found| match (found.is_dir(), found.is_file()) {
        (true, _) => Some(Kind::Folder),
        (_, true) => Some(Kind::Object),
        _ => None,
    }))
}

/// Whether a name is that of a file which `object_store` is about to link to its own: `{name}#1`.
fn is_staged(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let suffix = file.split_once('#').map_or("", |(_, suffix)| suffix);
    !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::os::unix::fs::symlink;

    use super::*;

    fn names(root: &Path, from: &str, count: usize) -> io::Result<Vec<String>> {
        smallest(root, "a/b", |name| name >= from, count)
    }

    #[test]
    fn the_smallest_names_come_in_order_whatever_else_lies_there() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(names(root.path(), "", 9).unwrap(), [""; 0], "no folder is no objects");
        let folder = root.path().join("a/b");
        fs::create_dir_all(folder.join("5")).unwrap();
        fs::create_dir(folder.join("empty")).unwrap();
        for name in ["3", "1", "2", "5/y", "5/x", "4#1", "4#x", "4#", "#17"] {
            fs::write(folder.join(name), b"?").unwrap();
        }
        symlink(folder.join("1"), folder.join("link")).unwrap();
        symlink(folder.join("nothing"), folder.join("broken")).unwrap();
        let all = ["a/b/1", "a/b/2", "a/b/3", "a/b/4#", "a/b/4#x", "a/b/5/x", "a/b/5/y", "a/b/link"];
        assert_eq!(names(root.path(), "", 99).unwrap(), all);
        for count in 0..=all.len() {
            assert_eq!(names(root.path(), "", count).unwrap(), all[..count]);
        }
        assert_eq!(names(root.path(), "a/b/2", 2).unwrap(), ["a/b/2", "a/b/3"]);
        assert_eq!(names(root.path(), "a/b/5/y", 9).unwrap(), ["a/b/5/y", "a/b/link"]);
    }

    #[test]
    fn a_loop_of_links_ends() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        fs::create_dir_all(&folder).unwrap();
        symlink(&folder, folder.join("again")).unwrap();
        assert!(names(root.path(), "", 9).is_err());
    }

    #[test]
    fn a_file_in_place_of_the_folder_is_no_empty_folder() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("a/b"), b"?").unwrap();
        assert_eq!(names(root.path(), "", 9).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }
}
