//! A disk as its records tell: what is on it, and what would be left of it if the power failed now.
//!
//! | mode | what is left |
//! |---|---|
//! | strict | of a file what was written before its last sync began; a name after its folder was synced. Nothing else, though file systems often keep more |
//! | torn | besides, a random part of what was not synced: sectors of 512 bytes, sizes, names. Which, the seed says |
//!
//! A rename is one step, as on every file system with a journal: afterwards one of both names is there. That a synced file made its
//! own name durable, as ext4 does it, is not believed.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::trace::{Place, Record, Trace};
use crate::chance::Chance;

/// What is written whole or not at all.
const SECTOR_BYTES: usize = 512;

/// What is left of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing.
    Strict,
    /// Of a hundred pieces about so many.
    Torn { kept: u64, seed: u64 },
    /// Everything: the disk as whoever had it open saw it.
    Uncut,
}

/// A disk at some record.
pub(super) struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    by_inode: HashMap<u64, usize>,
    /// What is durable of each folder.
    durable: Folders,
    /// Renames by number, and whether each is durable.
    renames: Vec<bool>,
    /// Up to where the trace was followed.
    at: Place,
    /// How many records that were.
    records: usize,
}

enum Node {
    File { synced: Vec<u8>, pending: Vec<(Place, Change)> },
    Folder { current: Names, pending: Vec<(Place, Naming)> },
}

type Names = BTreeMap<String, usize>;

type Folders = HashMap<usize, Names>;

/// A change of a file.
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Resize(usize),
}

/// A change of a folder's names.
#[derive(Clone)]
enum Naming {
    Put { name: String, node: usize },
    Remove { name: String },
    Move { number: usize, from: (usize, String), to: (usize, String), node: usize },
}

/// What a cut took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Bytes that were written and not synced.
    pub(super) bytes: usize,
    /// Names that were given or taken and not synced.
    pub(super) names: usize,
}

impl Disk {
    /// The disk that lies at a folder, all of it durable.
    pub(super) fn of(root: &Path) -> Self {
        let root = root.canonicalize().unwrap();
        let mut disk = Self {
            nodes: Vec::new(),
            by_inode: HashMap::new(),
            durable: Folders::new(),
            renames: Vec::new(),
            at: 0,
            records: 0,
            root: root.clone(),
        };
        disk.scan(&root);
        disk
    }

    fn scan(&mut self, path: &Path) -> usize {
        let found = fs::symlink_metadata(path).unwrap();
        let node = if found.is_dir() {
            let node = self.add(found.ino(), folder());
            let mut names = Names::new();
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                if is_recorded(&name) && !entry.file_type().unwrap().is_socket() {
                    names.insert(name, self.scan(&entry.path()));
                }
            }
            self.durable.insert(node, names.clone());
            *self.names(node).0 = names;
            return node;
        } else {
            Node::File { synced: fs::read(path).unwrap(), pending: Vec::new() }
        };
        self.add(found.ino(), node)
    }

    fn add(&mut self, inode: u64, node: Node) -> usize {
        self.nodes.push(node);
        // The number of a file that is gone may be another one's now.
        self.by_inode.insert(inode, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    /// Up to where the trace was followed, in records.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// Goes on along the trace, up to a place or its end.
    pub(super) fn follow(&mut self, trace: &Trace, until: Place) {
        for (place, record) in trace.records(self.at) {
            if place >= until {
                self.at = place;
                return;
            }
            self.take(place, record);
            self.records += 1;
        }
        self.at = trace.end();
    }

    fn take(&mut self, place: Place, record: Record<'_>) {
        match record {
            Record::Create { inode, path, is_folder } => {
                let made =
                    if is_folder { folder() } else { Node::File { synced: Vec::new(), pending: Vec::new() } };
                let node = self.add(inode, made);
                if !path.is_empty() {
                    self.put(place, path, node);
                }
            }
            Record::Link { inode, path } => {
                let node = self.node(inode);
                self.put(place, path, node);
            }
            Record::Unlink { path } => {
                let (above, name) = self.find(path);
                let (current, pending) = self.names(above);
                // A socket's name was never recorded.
                if current.remove(&name).is_some() {
                    pending.push((place, Naming::Remove { name }));
                }
            }
            Record::Rename { from, to } => self.rename(place, from, to),
            Record::Write { inode, offset, bytes } => {
                let offset = usize::try_from(offset).unwrap();
                self.change(place, inode, Change::Write { offset, bytes: bytes.to_vec() });
            }
            Record::Resize { inode, bytes } => {
                self.change(place, inode, Change::Resize(usize::try_from(bytes).unwrap()));
            }
            Record::Sync { inode, began } => self.sync(inode, began),
        }
    }

    fn put(&mut self, place: Place, path: &str, node: usize) {
        let (above, name) = self.find(path);
        let (current, pending) = self.names(above);
        current.insert(name.clone(), node);
        pending.push((place, Naming::Put { name, node }));
    }

    fn rename(&mut self, place: Place, from: &str, to: &str) {
        let (from, to) = (self.find(from), self.find(to));
        let node = self.names(from.0).0.remove(&from.1).unwrap_or_else(|| panic!("no such name: {from:?}"));
        self.names(to.0).0.insert(to.1.clone(), node);
        self.renames.push(false);
        let (number, folders) = (self.renames.len() - 1, [from.0, to.0]);
        let naming = Naming::Move { number, from, to, node };
        self.names(folders[0]).1.push((place, naming.clone()));
        if folders[1] != folders[0] {
            self.names(folders[1]).1.push((place, naming));
        }
    }

    fn change(&mut self, place: Place, inode: u64, change: Change) {
        let node = self.node(inode);
        let Node::File { pending, .. } = &mut self.nodes[node] else { panic!("bytes of a folder") };
        pending.push((place, change));
    }

    fn sync(&mut self, inode: u64, began: Place) {
        let node = self.node(inode);
        match &mut self.nodes[node] {
            Node::File { synced, pending } => {
                let through = pending.iter().take_while(|(place, _)| *place < began).count();
                pending.drain(..through).for_each(|(_, change)| change.apply(synced));
            }
            Node::Folder { pending, .. } => {
                let through = pending.iter().take_while(|(place, _)| *place < began).count();
                for (_, naming) in pending.drain(..through) {
                    if naming.is_new(&self.renames) {
                        naming.apply(node, &mut self.durable, &mut self.renames);
                    }
                }
            }
        }
    }

    /// The node of a file number. None means that something was done that the shim does not record.
    fn node(&self, inode: u64) -> usize {
        *self.by_inode.get(&inode).unwrap_or_else(|| panic!("file {inode} was never made"))
    }

    /// The folder and the name that a path leads to.
    fn find(&self, path: &str) -> (usize, String) {
        let below = Path::new(path).strip_prefix(&self.root).unwrap().to_str().unwrap();
        let (folders, name) = below.rsplit_once('/').unwrap_or(("", below));
        let mut at = 0;
        for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
            let Node::Folder { current, .. } = &self.nodes[at] else { panic!("no folder: {path}") };
            at = *current.get(folder).unwrap_or_else(|| panic!("no such folder: {path}"));
        }
        (at, name.to_owned())
    }

    fn names(&mut self, folder: usize) -> (&mut Names, &mut Vec<(Place, Naming)>) {
        match &mut self.nodes[folder] {
            Node::Folder { current, pending, .. } => (current, pending),
            Node::File { .. } => panic!("names in a file"),
        }
    }

    /// What is left after a cut: path below the root to content; folders have none.
    pub(super) fn left(&self, mode: Mode) -> (BTreeMap<String, Option<Vec<u8>>>, Lost) {
        let mut lost = Lost::default();
        let mut chance = Chance::new(match mode {
            Mode::Torn { seed, .. } => seed,
            Mode::Strict | Mode::Uncut => 0,
        });
        let mut is_kept = || match mode {
            Mode::Strict => false,
            Mode::Uncut => true,
            Mode::Torn { kept, .. } => chance.below(100) < kept,
        };
        let (mut folders, mut renames) = (self.durable.clone(), self.renames.clone());
        for (number, node) in self.nodes.iter().enumerate() {
            let Node::Folder { pending, .. } = node else { continue };
            for (_, naming) in pending.iter().filter(|_| mode != Mode::Uncut) {
                if !naming.is_new(&renames) {
                    continue;
                }
                if is_kept() {
                    naming.clone().apply(number, &mut folders, &mut renames);
                } else {
                    lost.names += 1;
                }
            }
        }
        if mode == Mode::Uncut {
            for (number, node) in self.nodes.iter().enumerate() {
                if let Node::Folder { current, .. } = node {
                    folders.insert(number, current.clone());
                }
            }
        }
        let mut left = BTreeMap::new();
        let mut to_do = vec![(String::new(), 0_usize)];
        while let Some((path, at)) = to_do.pop() {
            for (name, node) in folders.get(&at).into_iter().flatten() {
                let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                match &self.nodes[*node] {
                    Node::Folder { .. } => {
                        left.insert(below.clone(), None);
                        to_do.push((below, *node));
                    }
                    Node::File { synced, pending } => {
                        let mut bytes = synced.clone();
                        for (_, change) in pending {
                            lost.bytes += change.apply_some(&mut bytes, &mut is_kept);
                        }
                        left.insert(below, Some(bytes));
                    }
                }
            }
        }
        (left, lost)
    }

    /// Lays what is left after a cut into a folder, in the place of whatever is there.
    pub(super) fn lay(&self, folder: &Path, mode: Mode) -> Lost {
        if folder.exists() {
            fs::remove_dir_all(folder).unwrap();
        }
        make(folder);
        let (left, lost) = self.left(mode);
        for (path, content) in left {
            match content {
                None => make(&folder.join(path)),
                Some(bytes) => {
                    let file = folder.join(path);
                    fs::write(&file, bytes).unwrap();
                    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
                }
            }
        }
        lost
    }

    /// Makes sure that the records tell all that was done: without a cut, the disk is as its folder is now.
    pub(super) fn assert_complete(&self) {
        let (told, _) = self.left(Mode::Uncut);
        let (found, _) = Self::of(&self.root).left(Mode::Strict);
        let names = |of: &BTreeMap<String, Option<Vec<u8>>>| of.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&told), names(&found), "names that the records do not explain");
        for (path, content) in &told {
            assert!(content == &found[path], "the records do not explain what is in {path}");
        }
    }
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        self.apply_some(file, &mut || true);
    }

    /// Does what of it is kept, and counts what is not.
    fn apply_some(&self, file: &mut Vec<u8>, is_kept: &mut impl FnMut() -> bool) -> usize {
        match self {
            Self::Resize(bytes) => {
                if is_kept() {
                    file.resize(*bytes, 0);
                }
                0
            }
            Self::Write { offset, bytes } => {
                let (mut at, mut lost) = (0, 0);
                while at < bytes.len() {
                    let place = offset + at;
                    let end = (at + SECTOR_BYTES - place % SECTOR_BYTES).min(bytes.len());
                    if is_kept() {
                        file.resize(file.len().max(offset + end), 0);
                        file[place..offset + end].copy_from_slice(&bytes[at..end]);
                    } else {
                        lost += end - at;
                    }
                    at = end;
                }
                lost
            }
        }
    }
}

impl Naming {
    /// Whether it is not done yet. A rename stands in both folders.
    fn is_new(&self, renames: &[bool]) -> bool {
        !matches!(self, Self::Move { number, .. } if renames[*number])
    }

    /// Does it in the folders that it concerns; `at` is the one that it was found in.
    fn apply(self, at: usize, folders: &mut Folders, renames: &mut [bool]) {
        match self {
            Self::Put { name, node } => {
                folders.entry(at).or_default().insert(name, node);
            }
            Self::Remove { name } => {
                folders.entry(at).or_default().remove(&name);
            }
            Self::Move { number, from, to, node } => {
                renames[number] = true;
                let source = folders.entry(from.0).or_default();
                if source.get(&from.1) == Some(&node) {
                    source.remove(&from.1);
                }
                folders.entry(to.0).or_default().insert(to.1, node);
            }
        }
    }
}

fn folder() -> Node {
    Node::Folder { current: Names::new(), pending: Vec::new() }
}

fn make(folder: &Path) {
    fs::create_dir(folder).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
}

/// What is mapped is gone after a cut.
fn is_recorded(name: &str) -> bool {
    !name.ends_with("-shm")
}

#[cfg(test)]
mod tests;
