//! Disks of a few records made by hand.

use super::*;

/// A disk of one folder with the file `old`, and records made by hand.
struct Hand {
    _folder: tempfile::TempDir,
    root: String,
    disk: Disk,
    at: Place,
}

impl Hand {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("old"), "old").unwrap();
        let disk = Disk::of(folder.path());
        let root = disk.root.to_str().unwrap().to_owned();
        Self { _folder: folder, root, disk, at: 0 }
    }

    fn inode(&self, node: usize) -> u64 {
        *self.disk.by_inode.iter().find(|(_, found)| **found == node).unwrap().0
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }

    fn take(&mut self, record: Record<'_>) -> Place {
        self.at += 1;
        self.disk.take(self.at, record);
        self.at
    }

    fn create(&mut self, inode: u64, name: &str) {
        let path = self.path(name);
        self.take(Record::Create { inode, path: &path, is_folder: false });
    }

    fn write(&mut self, inode: u64, offset: u64, bytes: &[u8]) -> Place {
        self.take(Record::Write { inode, offset, bytes })
    }

    /// A sync that began just before.
    fn sync(&mut self, inode: u64) {
        let began = self.at + 1;
        self.take(Record::Sync { inode, began });
    }

    fn sync_root(&mut self) {
        let root = self.inode(0);
        self.sync(root);
    }

    fn left(&self, mode: Mode) -> Vec<(String, String)> {
        let text = |bytes: Option<Vec<u8>>| bytes.map_or("/".to_owned(), |b| String::from_utf8(b).unwrap());
        self.disk.left(mode).0.into_iter().map(|(name, bytes)| (name, text(bytes))).collect()
    }

    fn strict(&self) -> Vec<(String, String)> {
        self.left(Mode::Strict)
    }
}

fn files(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

const NEW: u64 = u64::MAX;

#[test]
fn a_name_needs_its_folder_synced_and_bytes_their_file() {
    let mut hand = Hand::new();
    hand.create(NEW, "new");
    hand.write(NEW, 0, b"bytes");
    hand.sync(NEW);
    assert_eq!(hand.strict(), files(&[("old", "old")]), "its name was not synced");
    hand.sync_root();
    hand.write(NEW, 5, b" and more");
    assert_eq!(hand.strict(), files(&[("new", "bytes"), ("old", "old")]));
    assert_eq!(hand.left(Mode::Uncut), files(&[("new", "bytes and more"), ("old", "old")]));
}

#[test]
fn a_sync_makes_durable_what_came_before_it_began() {
    let mut hand = Hand::new();
    let old = hand.inode(1);
    hand.write(old, 0, b"O");
    let began = hand.write(old, 2, b"D");
    hand.take(Record::Sync { inode: old, began });
    assert_eq!(hand.strict(), files(&[("old", "Old")]));
    hand.take(Record::Resize { inode: old, bytes: 1 });
    assert_eq!(hand.strict(), files(&[("old", "Old")]));
    hand.sync(old);
    assert_eq!(hand.strict(), files(&[("old", "O")]));
}

#[test]
fn a_rename_is_one_step_and_replaces() {
    let mut hand = Hand::new();
    hand.create(NEW, "new");
    hand.write(NEW, 0, b"new");
    hand.sync(NEW);
    let (from, to) = (hand.path("new"), hand.path("old"));
    hand.take(Record::Rename { from: &from, to: &to });
    assert_eq!(hand.strict(), files(&[("old", "old")]));
    hand.sync_root();
    assert_eq!(hand.strict(), files(&[("old", "new")]));
    hand.take(Record::Unlink { path: &to });
    assert_eq!(hand.strict(), files(&[("old", "new")]));
    hand.sync_root();
    assert_eq!(hand.strict(), files(&[]));
}

#[test]
fn a_folder_moves_with_what_is_in_it() {
    let mut hand = Hand::new();
    let (made, inside) = (hand.path("a"), hand.path("a/f"));
    hand.take(Record::Create { inode: NEW, path: &made, is_folder: true });
    hand.take(Record::Create { inode: NEW - 1, path: &inside, is_folder: false });
    let to = hand.path("b");
    hand.take(Record::Rename { from: &made, to: &to });
    hand.sync_root();
    assert_eq!(hand.strict(), files(&[("b", "/"), ("old", "old")]), "the folder itself was not synced");
    hand.sync(NEW);
    assert_eq!(hand.strict(), files(&[("b", "/"), ("b/f", ""), ("old", "old")]));
}

#[test]
fn a_torn_disk_keeps_some_sectors() {
    let mut hand = Hand::new();
    let old = hand.inode(1);
    hand.write(old, 0, &[b'x'; 64 * SECTOR_BYTES]);
    let left = |seed| hand.disk.left(Mode::Torn { kept: 50, seed });
    let (content, lost) = left(1);
    let bytes = content["old"].clone().unwrap();
    assert!(lost.bytes > 0 && lost.bytes < 64 * SECTOR_BYTES, "{lost:?}");
    assert_eq!(lost.bytes % SECTOR_BYTES, 0);
    let kept = |sector: &[u8]| sector.iter().all(|byte| *byte == b'x');
    let none = |sector: &[u8]| sector.iter().all(|byte| *byte == 0) || sector.starts_with(b"old\0");
    assert!(bytes.chunks(SECTOR_BYTES).all(|sector| kept(sector) || none(sector)));
    assert_eq!(left(1), left(1));
    assert_ne!(left(1), left(2));
}

#[test]
fn a_number_used_again_is_another_file() {
    let mut hand = Hand::new();
    hand.create(NEW, "one");
    hand.write(NEW, 0, b"one");
    let one = hand.path("one");
    hand.take(Record::Unlink { path: &one });
    hand.create(NEW, "two");
    hand.write(NEW, 0, b"two");
    hand.sync(NEW);
    hand.sync_root();
    assert_eq!(hand.strict(), files(&[("old", "old"), ("two", "two")]));
}
