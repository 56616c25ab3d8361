//! The application: numbered rows, in transactions of every size, and what of them a file holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use synddb_agent::outbox::{self, Outbox};
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::{Body, Entry, MessageType};
use synddb_protocol::submission::Content;
use synddb_sqlite::rusqlite::{Connection, OpenFlags};

use crate::chance::Chance;
use crate::programs::{program, python, sql};

/// Rows by life and number, and how often each was changed. A life is what an application wrote between two cuts; its numbers are never
/// used again.
pub(super) type Rows = BTreeMap<(u64, u64), u64>;

/// What the application does, by seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habits {
    pub(super) page_size: u32,
    pub(super) synchronous: &'static str,
    /// Pages in the WAL after which it checkpoints.
    pub(super) checkpoint: u32,
    /// Pages in its cache: with few, it writes before it commits.
    pub(super) cache: u32,
    /// Whether a shell writes beside it.
    pub(super) has_shell: bool,
}

impl Habits {
    pub(super) fn of(chance: &mut Chance) -> Self {
        Self {
            page_size: chance.one(&[512, 4096]),
            synchronous: chance.one(&["NORMAL", "FULL"]),
            checkpoint: chance.one(&[20, 200, 1000]),
            cache: chance.one(&[20, 2000]),
            has_shell: chance.below(3) == 0,
        }
    }

    /// Makes the database.
    pub(super) fn create(&self, app: &Path) {
        sql(
            app,
            &format!(
                "PRAGMA page_size = {}; PRAGMA journal_mode = WAL;
                 CREATE TABLE event (life INTEGER, number INTEGER, label TEXT, payload BLOB);
                 CREATE INDEX by_number ON event (life, number);",
                self.page_size
            ),
        );
    }
}

/// Commits transactions of 1 to 100 rows, some of them large, changes old ones, rolls some back, checkpoints at times. Says how many
/// rows are committed in a file that is on no disk that forgets.
///
/// Without savepoints: an SQLite up to 3.50.1 may lose what it committed after one (ADR 21).
const WRITER: &str = "
import os, random, sqlite3, sys
path, life, seed, transactions, stays, synchronous, checkpoint, cache, said = sys.argv[1:]
chance = random.Random(int(seed))
sqlite = sqlite3.connect(path, timeout=60, isolation_level=None)
for pragma in ('synchronous = ' + synchronous, 'wal_autocheckpoint = ' + checkpoint, 'cache_size = ' + cache):
    sqlite.execute('PRAGMA ' + pragma).fetchall()
said = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
number, done, tried = 0, 0, 0
while done != int(transactions):
    tried += 1
    sqlite.execute('BEGIN IMMEDIATE')
    rows = chance.choice((1, 1, 1, 1, 3, 10, 100))
    for at in range(rows):
        size = chance.choice((0, 20, 200)) if rows > 1 else chance.choice((20, 200, 3000, 60000))
        label = '<<%s.%d.0>>' % (life, number + at)
        sqlite.execute('INSERT INTO event VALUES (?, ?, ?, ?)', (life, number + at, label, chance.randbytes(size)))
    if number and chance.randrange(3) == 0:
        old = chance.randrange(number)
        for at in range(old, min(number, old + chance.choice((1, 1, 30)))):
            label = '<<%s.%d.%d>>' % (life, at, tried)
            sqlite.execute('UPDATE event SET label = ? WHERE life = ? AND number = ?', (label, life, at))
    if chance.randrange(10) == 0:
        sqlite.execute('ROLLBACK')
        continue
    sqlite.execute('COMMIT')
    number, done = number + rows, done + 1
    os.pwrite(said, b'%20d' % number, 0)
    if chance.randrange(40) == 0:
        sqlite.execute('PRAGMA wal_checkpoint(%s)' % chance.choice(('PASSIVE', 'FULL', 'TRUNCATE'))).fetchall()
if stays == 'stays':
    # With its connection open.
    os.pwrite(said, b'idle', 20)
    sys.stdin.read()
";

/// The application as it runs.
pub(super) struct Application {
    pub(super) writer: Child,
    pub(super) shell: Option<Child>,
    said: PathBuf,
}

/// How many transactions it does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    /// It goes on until the power fails.
    Endless,
    /// So many.
    Transactions(u32),
    /// So many, and then it stays as it is.
    AndStays(u32),
}

/// The lives of the shell are these.
const SHELL: u64 = 1000;

/// How many transactions the shell does.
const SHELL_TRANSACTIONS: u64 = 3000;

impl Application {
    /// Starts it; `on` has a command run on its machine.
    pub(super) fn start(
        app: &Path,
        life: u64,
        habits: &Habits,
        work: Work,
        seed: u64,
        said: PathBuf,
        on: impl Fn(Command) -> Command,
    ) -> Self {
        // What an earlier one said does not count.
        std::fs::write(&said, "").unwrap();
        let (transactions, stays) = match work {
            Work::Endless => ("-1".to_owned(), "goes"),
            Work::Transactions(transactions) => (transactions.to_string(), "goes"),
            Work::AndStays(transactions) => (transactions.to_string(), "stays"),
        };
        let (life_text, seed) = (life.to_string(), seed.to_string());
        let (checkpoint, cache) = (habits.checkpoint.to_string(), habits.cache.to_string());
        let arguments = [
            app.to_str().unwrap(),
            &life_text,
            &seed,
            &transactions,
            stays,
            habits.synchronous,
            &checkpoint,
            &cache,
            said.to_str().unwrap(),
        ];
        let mut writer = on(python(WRITER, arguments));
        let writer = writer.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let shell =
            (habits.has_shell && matches!(work, Work::Endless)).then(|| start_shell(app, life, habits, on));
        Self { writer, shell, said }
    }

    /// Rows of the writer that were committed, as far as it said.
    pub(super) fn committed(&self) -> u64 {
        let said = std::fs::read_to_string(&self.said).unwrap_or_default();
        said.get(..20).and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    }

    /// Whether it has done what it was to do, and stays.
    pub(super) fn is_idle(&mut self) -> bool {
        assert!(self.writer.try_wait().unwrap().is_none(), "the writer ended");
        std::fs::read_to_string(&self.said).unwrap_or_default().ends_with("idle")
    }

    /// Waits for its end.
    pub(super) fn finish(&mut self) {
        assert!(self.writer.wait().unwrap().success());
    }

    pub(super) fn children(&mut self) -> impl Iterator<Item = &mut Child> {
        std::iter::once(&mut self.writer).chain(self.shell.as_mut())
    }
}

fn start_shell(app: &Path, life: u64, habits: &Habits, on: impl Fn(Command) -> Command) -> Child {
    let life = life + SHELL;
    let mut script = format!("PRAGMA synchronous = {};\n", habits.synchronous);
    for number in 0..SHELL_TRANSACTIONS {
        script +=
            &format!("INSERT INTO event VALUES ({life}, {number}, '<<{life}.{number}.0>>', zeroblob(30));\n");
    }
    let folder = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(folder.path(), script).unwrap();
    let mut shell = program("sqlite3");
    shell.args(["-init", "/dev/null", "-batch", "-cmd", ".timeout 60000"]).arg(app);
    // The file is open, so that it may lose its name.
    shell.stdin(std::fs::File::open(folder.path()).unwrap()).stdout(Stdio::null());
    on(shell).spawn().unwrap()
}

impl Drop for Application {
    fn drop(&mut self) {
        for child in self.children() {
            // One that ended already cannot be killed.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// How a file is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Open {
    /// One that nobody else has open, after a cut.
    Recovering,
    /// One that somebody writes.
    Reading,
}

/// The rows of a database; none where it has no such table. An error where it cannot be read, or is damaged.
pub(super) fn rows_of(database: &Path, how: Open) -> Result<Rows, String> {
    let failed =
        |error: synddb_sqlite::rusqlite::Error| format!("cannot read {}: {error}", database.display());
    let flags = match how {
        Open::Recovering => OpenFlags::SQLITE_OPEN_READ_WRITE,
        Open::Reading => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    let sqlite = Connection::open_with_flags(database, flags).map_err(failed)?;
    sqlite.busy_timeout(crate::dev::PATIENCE).map_err(failed)?;
    let check: String = sqlite.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(failed)?;
    if check != "ok" {
        return Err(format!("integrity_check of {}: {check}", database.display()));
    }
    let tables: u32 = sqlite
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'event'", [], |row| row.get(0))
        .map_err(failed)?;
    let mut rows = Rows::new();
    if tables == 0 {
        return Ok(rows);
    }
    let mut statement = sqlite.prepare("SELECT label FROM event").map_err(failed)?;
    let mut labels = statement.query([]).map_err(failed)?;
    while let Some(row) = labels.next().map_err(failed)? {
        let label: String = row.get(0).map_err(failed)?;
        collect(label.as_bytes(), &mut rows);
    }
    Ok(rows)
}

/// What an outbox holds.
pub(super) struct Kept {
    pub(super) rows: Rows,
    /// The commit that comes next.
    pub(super) next: u64,
}

/// What an outbox holds, and the number that comes next.
pub(super) fn kept(file: &Path) -> Result<Kept, String> {
    let failed = |error: outbox::OutboxError| format!("cannot read {}: {error:?}", file.display());
    let outbox = Outbox::open(file, outbox::Options::default()).map_err(failed)?;
    let mut bytes = Vec::new();
    let mut next = outbox.next().map_err(failed)?;
    while let Some(held) = next {
        next = outbox.after(held.id).map_err(failed)?;
        let body = Body::read(MessageType::Submission, held.body, BODY_BYTES_MAX)
            .map_err(|error| error.to_string())?;
        let Entry::Submission(submission) = body.into_entry() else { return Err("no submission".to_owned()) };
        match submission.content {
            Content::Commits(commits) => {
                for commit in commits.as_slice() {
                    bytes.extend_from_slice(&commit.changes.rows);
                }
            }
            // Cut at any byte, so that a label may lie in two.
            Content::Part(part) => bytes.extend_from_slice(&part.changes.rows),
        }
    }
    let mut rows = Rows::new();
    collect(&bytes, &mut rows);
    Ok(Kept { rows, next: outbox.next_commit().get() })
}

/// Finds labels, `<<life.number.version>>`, in bytes.
fn collect(bytes: &[u8], rows: &mut Rows) {
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(2).position(|two| two == b"<<") {
        at += found + 2;
        let Some(end) = bytes[at..].iter().take(64).position(|byte| *byte == b'>') else { continue };
        let Ok(label) = str::from_utf8(&bytes[at..at + end]) else { continue };
        let mut numbers = label.split('.').map(str::parse::<u64>);
        if let (Some(Ok(life)), Some(Ok(number)), Some(Ok(version)), None) =
            (numbers.next(), numbers.next(), numbers.next(), numbers.next())
        {
            let known = rows.entry((life, number)).or_default();
            *known = version.max(*known);
        }
    }
}

/// The first row that `some` has and `all` has not, or not so new.
pub(super) fn missing(some: &Rows, all: &Rows) -> Option<String> {
    let lost: Vec<_> =
        some.iter().filter(|(row, version)| all.get(row).is_none_or(|known| known < version)).collect();
    let (row, version) = lost.first()?;
    Some(format!("{} rows, the first {row:?} as of {version}, found as {:?}", lost.len(), all.get(row)))
}
