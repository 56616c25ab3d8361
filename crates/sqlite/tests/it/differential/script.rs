//! What was done in a run, event by event, as text: so that a run can be done again without the grammar that made it, and made smaller.
//!
//! A seed means something else as soon as the grammar changes; a script does not. One event stands on one line:
//!
//! ```text
//! # words                               nothing is done; `# sqlite system 3.40.1` says which version a kind of writer had
//! database 4096 NONE utf-8 0            page size, auto_vacuum, encoding, reserved bytes; comes first
//! writer local                          a connection; writers come before what they do, and are counted from 0
//! set PRAGMA foreign_keys = ON          a statement that sets up the writer above it
//! attach 8388608 7                      the follower: its bound for the WAL, the seed of how commits are grouped
//! begin 0 session                       a transaction of writer 0, witnessed by the session extension, `recorder` or `nobody`
//! sql 0 INSERT INTO t VALUES(1)
//! blob 0 t<TAB>c<TAB>00ff               bytes into a blob in place; only `local` does it
//! backup 10<TAB>DELETE FROM t<TAB>...   the database is restored from a changed copy of itself, 10 pages a step
//! race child<TAB>BEGIN<TAB>...          one runner of a race; those that follow each other run at the same time
//! kill 3                                its process is killed, and another one takes its place
//! end rows | end schema                 the transaction's end: whether it changed the schema, which no session records
//! hold | release                        a reader begins and ends its transaction
//! poll | check                          what was committed is captured and applied; both databases are compared too
//! ```
//!
//! There are four kinds of writers and runners: `local` is this process, `child` another one with the same SQLite, `system` a Python with
//! the system's SQLite, `apsw` a Python with the newest. Only a `local` writer can be witnessed. Line ends, tabs and backslashes inside
//! of a field are escaped.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use synddb_protocol::submission::TextEncoding;

use super::setup::{Kind, Settings};

/// Who watches a transaction too, beside the full scan: SQLite's own session extension, or our own recorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Witness {
    Nobody,
    /// SQLite's session extension.
    Session,
    /// The recorder of the embedded source.
    Recorder,
}

/// A connection of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WriterSetup {
    pub(super) kind: Kind,
    pub(super) settings: Vec<String>,
}

/// One runner of a race, and the statements that it runs one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Runner {
    pub(super) kind: Kind,
    pub(super) statements: Vec<String>,
}

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Attach { wal_bytes: u64, chance: u64 },
    Begin { writer: usize, witness: Witness },
    Sql { writer: usize, sql: String },
    Blob { writer: usize, table: String, column: String, bytes: Vec<u8> },
    Backup { pages: u32, edits: Vec<String> },
    Race { runners: Vec<Runner> },
    Kill { writer: usize },
    End { ddl: bool },
    Hold,
    Release,
    Poll,
    Check,
}

impl Event {
    /// Whose connection it needs, if it is one writer's.
    pub(super) const fn writer(&self) -> Option<usize> {
        match self {
            Self::Begin { writer, .. }
            | Self::Sql { writer, .. }
            | Self::Blob { writer, .. }
            | Self::Kill { writer } => Some(*writer),
            Self::Attach { .. }
            | Self::Backup { .. }
            | Self::Race { .. }
            | Self::End { .. }
            | Self::Hold
            | Self::Release
            | Self::Poll
            | Self::Check => None,
        }
    }
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) settings: Settings,
    pub(super) writers: Vec<WriterSetup>,
    pub(super) events: Vec<Event>,
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r")
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        plain.push(match char {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    plain
}

fn fields(list: &[String]) -> String {
    list.iter().map(|field| escaped(field)).collect::<Vec<_>>().join("\t")
}

impl Display for Event {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attach { wal_bytes, chance } => write!(f, "attach {wal_bytes} {chance}"),
            Self::Begin { writer, witness } => {
                let witness = match witness {
                    Witness::Nobody => "nobody",
                    Witness::Session => "session",
                    Witness::Recorder => "recorder",
                };
                write!(f, "begin {writer} {witness}")
            }
            Self::Sql { writer, sql } => write!(f, "sql {writer} {}", escaped(sql)),
            Self::Blob { writer, table, column, bytes } => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                write!(f, "blob {writer} {}\t{}\t{hex}", escaped(table), escaped(column))
            }
            Self::Backup { pages, edits } => {
                write!(f, "backup {pages}")?;
                edits.iter().try_for_each(|edit| write!(f, "\t{}", escaped(edit)))
            }
            Self::Race { runners } => {
                for (at, runner) in runners.iter().enumerate() {
                    let end = if at == 0 { "" } else { "\n" };
                    write!(f, "{end}race {}\t{}", runner.kind, fields(&runner.statements))?;
                }
                Ok(())
            }
            Self::Kill { writer } => write!(f, "kill {writer}"),
            Self::End { ddl: true } => f.write_str("end schema"),
            Self::End { ddl: false } => f.write_str("end rows"),
            Self::Hold => f.write_str("hold"),
            Self::Release => f.write_str("release"),
            Self::Poll => f.write_str("poll"),
            Self::Check => f.write_str("check"),
        }
    }
}

impl Display for Script {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Settings { page_size, auto_vacuum, encoding, reserved } = &self.settings;
        let encoding = match encoding {
            TextEncoding::Utf8 => "utf-8",
            TextEncoding::Utf16Le => "utf-16le",
            TextEncoding::Utf16Be => "utf-16be",
        };
        writeln!(f, "database {page_size} {auto_vacuum} {encoding} {reserved}")?;
        for writer in &self.writers {
            writeln!(f, "writer {}", writer.kind)?;
            writer.settings.iter().try_for_each(|setting| writeln!(f, "set {}", escaped(setting)))?;
        }
        self.events.iter().try_for_each(|event| writeln!(f, "{event}"))
    }
}

impl FromStr for Script {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lines = text.lines().zip(1..);
        let mut lines = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        let first = lines.next().and_then(|(line, _)| settings(line));
        let settings = first.ok_or("a script begins with its database")?;
        let mut script = Self { settings, writers: Vec::new(), events: Vec::new() };
        for (line, number) in lines {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let result = script.line(word, rest).ok_or("not understood").and_then(|()| script.check_last());
            result.map_err(|what| format!("{what}. line=`{number}` text=`{line}`"))?;
        }
        Ok(script)
    }
}

fn settings(line: &str) -> Option<Settings> {
    let mut words = line.strip_prefix("database ")?.split(' ');
    let page_size = words.next()?.parse().ok()?;
    let auto_vacuum = match words.next()? {
        "NONE" => "NONE",
        "FULL" => "FULL",
        "INCREMENTAL" => "INCREMENTAL",
        _ => return None,
    };
    let encoding = match words.next()? {
        "utf-8" => TextEncoding::Utf8,
        "utf-16le" => TextEncoding::Utf16Le,
        "utf-16be" => TextEncoding::Utf16Be,
        _ => return None,
    };
    Some(Settings { page_size, auto_vacuum, encoding, reserved: words.next()?.parse().ok()? })
}

impl Script {
    /// Takes one line; `None` when it is not understood.
    fn line(&mut self, word: &str, rest: &str) -> Option<()> {
        let numbered = || {
            let (writer, rest) = rest.split_once(' ')?;
            Some((writer.parse::<usize>().ok()?, rest))
        };
        let list = |text: &str| text.split('\t').map(unescaped).collect::<Vec<_>>();
        let event = match word {
            "writer" => {
                self.writers.push(WriterSetup { kind: rest.parse().ok()?, settings: Vec::new() });
                return Some(());
            }
            "set" => {
                self.writers.last_mut()?.settings.push(unescaped(rest));
                return Some(());
            }
            "race" => {
                let mut list = list(rest);
                let kind = list.remove(0).parse().ok()?;
                let runner = Runner { kind, statements: list };
                if let Some(Event::Race { runners }) = self.events.last_mut() {
                    runners.push(runner);
                    return Some(());
                }
                Event::Race { runners: vec![runner] }
            }
            "attach" => {
                let (wal_bytes, chance) = rest.split_once(' ')?;
                Event::Attach { wal_bytes: wal_bytes.parse().ok()?, chance: chance.parse().ok()? }
            }
            "begin" => {
                let (writer, witness) = numbered()?;
                let witness = match witness {
                    "session" => Witness::Session,
                    "recorder" => Witness::Recorder,
                    "nobody" => Witness::Nobody,
                    _ => return None,
                };
                Event::Begin { writer, witness }
            }
            "sql" => {
                let (writer, sql) = numbered()?;
                Event::Sql { writer, sql: unescaped(sql) }
            }
            "blob" => {
                let (writer, rest) = numbered()?;
                let [table, column, hex] = <[String; 3]>::try_from(list(rest)).ok()?;
                let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
                let bytes = (0..hex.len()).step_by(2).map(byte).collect::<Option<_>>()?;
                Event::Blob { writer, table, column, bytes }
            }
            "backup" => {
                let mut list = list(rest);
                let pages = list.remove(0).parse().ok()?;
                Event::Backup { pages, edits: list }
            }
            "kill" => Event::Kill { writer: rest.parse().ok()? },
            "end" => match rest {
                "schema" => Event::End { ddl: true },
                "rows" => Event::End { ddl: false },
                _ => return None,
            },
            "hold" => Event::Hold,
            "release" => Event::Release,
            "poll" => Event::Poll,
            "check" => Event::Check,
            _ => return None,
        };
        self.events.push(event);
        Some(())
    }

    /// The kinds of its writers and runners.
    pub(super) fn kinds(&self) -> BTreeSet<Kind> {
        let runners = self.events.iter().flat_map(|event| match event {
            Event::Race { runners } => runners.as_slice(),
            _ => &[],
        });
        self.writers.iter().map(|writer| writer.kind).chain(runners.map(|runner| runner.kind)).collect()
    }

    /// Whether the writer of the last event is there, and can do it: otherwise a script would do less than it says.
    fn check_last(&self) -> Result<(), &'static str> {
        let Some((event, number)) = self.events.last().and_then(|event| Some((event, event.writer()?)))
        else {
            return Ok(());
        };
        let writer = self.writers.get(number).ok_or("there is no such writer; they are counted from 0")?;
        let needs_local = match event {
            Event::Begin { witness, .. } => *witness != Witness::Nobody,
            _ => false,
        };
        if needs_local && writer.kind != Kind::Local {
            return Err("only a local writer can be witnessed");
        }
        Ok(())
    }
}

#[test]
fn a_script_is_read_as_it_was_written() {
    let text = "database 512 FULL utf-16le 8\nwriter local\nset PRAGMA foreign_keys = ON\nwriter apsw\n\
                attach 1048576 7\nbegin 0 session\nsql 0 INSERT INTO \"a\\tb\" VALUES('\\\\n')\nblob 0 t\tc\t00ff\n\
                backup 10\tDELETE FROM t\tVACUUM\nkill 1\nend schema\nhold\nrace child\tBEGIN\tCOMMIT\nrace local\tSELECT 1\n\
                release\npoll\ncheck\n";
    let script: Script = text.parse().unwrap();
    assert_eq!(script.events.len(), 12);
    let sql = "INSERT INTO \"a\tb\" VALUES('\\n')".to_owned();
    assert_eq!(script.events[2], Event::Sql { writer: 0, sql });
    assert_eq!(script.to_string(), text);
}

#[test]
fn a_script_that_would_do_less_than_it_says_is_refused() {
    let begin = "# words\ndatabase 512 FULL utf-16le 8\nwriter local\nwriter child\n";
    for (line, what) in [
        ("fly away", "not understood"),
        ("end nonsense", "not understood"),
        ("end", "not understood"),
        ("sql 2 SELECT 1", "no such writer"),
        ("begin 2 nobody", "no such writer"),
        ("kill 2", "no such writer"),
        ("begin 1 session", "only a local writer"),
    ] {
        let error = format!("{begin}{line}\n").parse::<Script>().unwrap_err();
        assert!(error.contains(what) && error.ends_with(&format!("line=`5` text=`{line}`")), "{error}");
    }
    assert!("writer local\n".parse::<Script>().is_err());
}
