//! Who has a file open, and with which SQLite: what `/proc` shows. Of processes of other users it shows nothing, except to root.
//!
//! A descriptor is asked for its file only when that has the same name: asking one on a network file system that does not answer could take
//! for ever. So whoever opened the file by another hard link is not seen.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::version::{Version, compiled_into};
use crate::name::FileId;

/// Most users of a file that are told of.
const USERS_MAX: usize = 64;

/// Most bytes of programs and libraries that are searched in one look.
const SEARCHED_MAX: u64 = 1 << 30;

/// A file that is opened so never keeps anybody waiting, whatever it is.
pub(super) const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// Which programs and libraries were searched, and how much more may be.
struct Searched {
    found: BTreeMap<FileId, Option<Version>>,
    left: u64,
}

/// A process that has a file open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub pid: u32,
    /// What it calls itself.
    pub name: String,
    /// Whether it runs the same program as this process.
    pub is_ours: bool,
    /// Every SQLite that could be seen in it; none where a program or library could not be searched.
    pub sqlite: Vec<Version>,
}

/// The processes that have a file open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Processes {
    /// Those that could be seen.
    pub users: Vec<User>,
    /// How many processes could not be looked into.
    pub unseen: usize,
}

/// Looks for the processes that have a file open, except this one.
pub fn users_of(path: &Path) -> Processes {
    let mut found = Processes::default();
    let (Ok(id), Some(name), Ok(processes)) = (FileId::at(path), path.file_name(), fs::read_dir("/proc"))
    else {
        return found;
    };
    let wanted = Wanted { id, name };
    let ours = FileId::at(Path::new("/proc/self/exe")).ok();
    let mut searched = Searched { found: BTreeMap::new(), left: SEARCHED_MAX };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids.filter(|pid| *pid != std::process::id()) {
        let process = PathBuf::from(format!("/proc/{pid}"));
        match has_open(&process, &wanted) {
            None => found.unseen += 1,
            Some(true) if found.users.len() < USERS_MAX => {
                let name = name_of(pid);
                let is_ours = ours.is_some() && FileId::at(&process.join("exe")).ok() == ours;
                let sqlite = if is_ours { vec![Version::ours()] } else { sqlite_in(&process, &mut searched) };
                found.users.push(User { pid, name, is_ours, sqlite });
            }
            Some(_) => {}
        }
    }
    found.users.sort_by_key(|user| user.pid);
    found
}

/// What a process calls itself, as one line of plain text.
pub fn name_of(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().escape_default().to_string()
}

/// The file that is looked for.
struct Wanted<'p> {
    id: FileId,
    name: &'p OsStr,
}

impl Wanted<'_> {
    fn is(&self, descriptor: &Path) -> bool {
        fs::read_link(descriptor).is_ok_and(|target| target.file_name() == Some(self.name))
            && FileId::at(descriptor).is_ok_and(|id| id == self.id)
    }
}

/// Whether a process has a file open; `None` when it may not be looked into.
fn has_open(process: &Path, wanted: &Wanted<'_>) -> Option<bool> {
    match fs::read_dir(process.join("fd")) {
        Ok(mut descriptors) => Some(
            descriptors.any(|descriptor| descriptor.is_ok_and(|descriptor| wanted.is(&descriptor.path()))),
        ),
        // It ended meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}

/// Every SQLite that the programs and libraries of a process hold.
fn sqlite_in(process: &Path, searched: &mut Searched) -> Vec<Version> {
    let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
    let mut found = Vec::new();
    for line in maps.lines() {
        // address permissions offset device inode path
        let mut fields = line.split_ascii_whitespace();
        let is_code = fields.nth(1).is_some_and(|permissions| permissions.contains('x'));
        let Some(start) = line.find('/').filter(|_| is_code) else { continue };
        // As the process itself sees it, which may be in a container.
        let file = process.join("root").join(line[start..].trim_start_matches('/'));
        let Ok(metadata) = fs::metadata(&file) else { continue };
        let id = FileId::of(&metadata);
        let Searched { found: known, left } = &mut *searched;
        let version = *known.entry(id).or_insert_with(|| search(&file, left));
        found.extend(version.filter(|version| !found.contains(version)));
    }
    found
}

fn search(file: &Path, left: &mut u64) -> Option<Version> {
    // What lies there now may be something that never answers, like a pipe.
    let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(file).ok()?;
    let length = file.metadata().ok().filter(|metadata| metadata.is_file())?.len();
    *left = left.checked_sub(length)?;
    compiled_into(file.take(length)).ok()?
}
