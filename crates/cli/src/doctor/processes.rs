//! Who has the database open, and what their SQLite does to it by itself.

use std::path::Path;

use synddb_sqlite::inspect::{self, User, Version, Weakness, users_of};

use super::finding::{Code, Findings};

pub(super) fn examine(path: &Path, findings: &mut Findings) {
    let found = users_of(path);
    let writers: Vec<&User> = found.users.iter().filter(|user| !user.is_ours).collect();
    if writers.is_empty() {
        findings.ok(Code::Users, "no application was seen to have the database open");
    }
    for user in writers {
        let who = named(user);
        if user.sqlite.is_empty() {
            findings.warn(
                Code::SqliteVersion,
                format!("{who} has the database open, and its SQLite could not be seen"),
                format!("make sure that it has SQLite {} or later", Version::SOUND),
            );
        }
        for version in &user.sqlite {
            match risk(*version) {
                None => findings.ok(Code::SqliteVersion, format!("{who} has SQLite {version}")),
                Some(risk) => findings.warn(
                    Code::SqliteVersion,
                    format!("{who} has SQLite {version}, which {risk}, followed or not"),
                    format!("update it to {} or later", Version::SOUND),
                ),
            }
        }
    }
    if found.unseen > 0 {
        findings.ok(
            Code::Users,
            format!("{} processes of other users cannot be looked into; root can", found.unseen),
        );
    }
    findings.ok(
        Code::Synchronous,
        "whether a writer sets synchronous=OFF cannot be seen from outside; with it, a power cut may take back what was published",
    );
    findings.ok(
        Code::BusyTimeout,
        "whether writers have a busy timeout cannot be seen from outside; without one, some of them fail with SQLITE_BUSY, since \
         the agent takes the write lock for a moment now and then",
    );
}

/// What a version may do by itself, in words; `None` where nothing is known against it.
pub(crate) fn risk(version: Version) -> Option<String> {
    let means: Vec<&str> = version.weaknesses().into_iter().map(Weakness::means).collect();
    (!means.is_empty()).then(|| means.join(", and "))
}

/// A process in words.
pub(crate) fn named(user: &User) -> String {
    format!("{} (process {})", user.name, user.pid)
}

/// A process in words, by its number.
pub(super) fn name_of(pid: u32) -> String {
    format!("{} (process {pid})", inspect::name_of(pid)).trim_start().to_owned()
}
