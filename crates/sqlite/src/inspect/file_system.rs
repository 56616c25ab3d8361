//! Which file system a file lies on, and how much room there is.

use std::fmt;
use std::io;
use std::path::Path;

use super::Unfit;

/// What a file system means for a database that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystemKind {
    /// Nothing is known against it.
    Local,
    /// In memory: nothing survives a power cut.
    Memory,
    /// A layer of a container: a first write copies the file up, and the layer goes with the container.
    Overlay,
    /// A process stands behind it, which may be anything, and may be a network.
    Process,
    /// Its locks, or its shared memory, do not reach whoever else has the file open.
    Network,
}

/// The file system that something lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// What it means.
    pub kind: FileSystemKind,
    name: Option<&'static str>,
    magic: u32,
}

/// Numbers that `statfs` answers (linux/magic.h, and the file systems' own sources), and what they stand for.
const KNOWN: [(u32, FileSystemKind, &str); 24] = [
    (0x0000_6969, FileSystemKind::Network, "NFS"),
    (0x0000_517b, FileSystemKind::Network, "SMB"),
    (0xff53_4d42, FileSystemKind::Network, "CIFS"),
    (0xfe53_4d42, FileSystemKind::Network, "SMB2"),
    (0x0102_1997, FileSystemKind::Network, "9p"),
    (0x00c3_6400, FileSystemKind::Network, "Ceph"),
    (0x5346_414f, FileSystemKind::Network, "AFS"),
    (0x6b41_4653, FileSystemKind::Network, "AFS"),
    (0x7375_7245, FileSystemKind::Network, "Coda"),
    (0x0000_564c, FileSystemKind::Network, "NCP"),
    (0x0bd0_0bd0, FileSystemKind::Network, "Lustre"),
    (0x4750_4653, FileSystemKind::Network, "GPFS"),
    (0x7461_636f, FileSystemKind::Network, "OCFS2"),
    (0x0116_1970, FileSystemKind::Network, "GFS2"),
    (0x786f_4256, FileSystemKind::Network, "VirtualBox shared folder"),
    (0x6573_5546, FileSystemKind::Process, "FUSE"),
    (0x794c_7630, FileSystemKind::Overlay, "overlay"),
    (0x0102_1994, FileSystemKind::Memory, "tmpfs"),
    (0x8584_58f6, FileSystemKind::Memory, "ramfs"),
    (0x0000_ef53, FileSystemKind::Local, "ext4"),
    (0x5846_5342, FileSystemKind::Local, "XFS"),
    (0x9123_683e, FileSystemKind::Local, "Btrfs"),
    (0x2fc1_2fc1, FileSystemKind::Local, "ZFS"),
    (0xf2f5_2010, FileSystemKind::Local, "F2FS"),
];

impl FileSystem {
    /// The one that a name leads to.
    ///
    /// # Errors
    /// When there is no such name, or it may not be asked for.
    pub fn of(path: &Path) -> io::Result<Self> {
        let found = rustix::fs::statfs(path)?;
        // The kernel's number has 32 bits, in a word that has more on some machines.
        Ok(Self::of_magic(u32::try_from(found.f_type & 0xffff_ffff).unwrap_or(0)))
    }

    fn of_magic(magic: u32) -> Self {
        let known = KNOWN.iter().find(|(known, _, _)| *known == magic);
        let (kind, name) =
            known.map_or((FileSystemKind::Local, None), |(_, kind, name)| (*kind, Some(*name)));
        Self { kind, name, magic }
    }

    /// Refuses one on which nothing can be followed.
    pub(super) fn check(self, path: &Path) -> Result<(), Unfit> {
        match self.kind {
            FileSystemKind::Network => {
                Err(Unfit::NetworkFileSystem { path: path.to_owned(), file_system: self })
            }
            FileSystemKind::Local
            | FileSystemKind::Memory
            | FileSystemKind::Overlay
            | FileSystemKind::Process => Ok(()),
        }
    }

    /// Bytes that this user may still write where a name leads.
    ///
    /// # Errors
    /// When there is no such name, or it may not be asked for.
    pub fn room(path: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#x}", self.magic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_at_the_machine_is_refused() {
        for (magic, kind, name) in KNOWN {
            let found = FileSystem::of_magic(magic);
            assert_eq!((found.kind, found.to_string()), (kind, name.to_owned()));
            let refused = found.check(Path::new("/srv/app.db"));
            assert_eq!(refused.is_err(), kind == FileSystemKind::Network, "{name}");
        }
        let text = FileSystem::of_magic(0x6969).check(Path::new("/srv/app.db")).unwrap_err().to_string();
        assert!(text.contains("move it to a local disk") && text.ends_with("file_system=`NFS`"), "{text}");
        assert_eq!(FileSystem::of_magic(7).to_string(), "0x7");
    }

    #[test]
    fn the_kernels_own_file_system_has_its_number() {
        // proc is what every Linux has at one place; it is in no list here, so that its number is shown.
        assert_eq!(FileSystem::of(Path::new("/proc")).unwrap().to_string(), "0x9fa0");
    }
}
