//! What a pin does: it holds a read transaction, answers its agent, and ends when it should.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use synddb_sqlite::capture::Pinning;
use synddb_sqlite::killable::reached;
use synddb_sqlite::name::{FileId, beside};

use super::{ANSWER_MAX, Answer, Greeting, Request, namespace};
use crate::error::AgentError;
use crate::home::failed;
use crate::socket::SocketPath;

/// Between two looks at the WAL and at the names of the files.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Connections at a time. One more takes the place of the oldest.
const AGENTS_MAX: usize = 4;

/// What a pin is told when it starts.
#[derive(Debug, Clone)]
pub struct PinConfig {
    /// The application's database.
    pub database: PathBuf,
    /// The agent's folder.
    pub folder: PathBuf,
    /// A WAL that is larger than this, in bytes, is let go while there is no agent.
    pub wal_bytes_max: u64,
    /// How long it waits for another agent when its own is gone.
    pub linger: Duration,
}

/// Holds the place until there is no more reason to. Standard input is the socket in the agent's folder, which the agent has made.
///
/// # Errors
/// [`AgentError`] when the database cannot be read, or standard input is no socket.
pub fn serve(config: &PinConfig) -> Result<(), AgentError> {
    let failed = |doing| failed(doing, &config.folder);
    let listener = inherited().map_err(failed("take the pin's socket from standard input"))?;
    let pinning = Pinning::open(&config.database)?;
    let socket = SocketPath::of_pin(&config.folder).map_err(failed("open the folder"))?;
    let database = pinning.path();
    let names = [database.to_owned(), beside(database, "-wal"), beside(database, "-shm"), socket.path()];
    let files = files_at(&names);
    let alone_since = Instant::now();
    let mut server = Server {
        config,
        pinning,
        listener,
        _socket: socket,
        names,
        files,
        agents: VecDeque::new(),
        alone_since,
        wal_bytes_max: config.wal_bytes_max,
    };
    server.is_left();
    server.run().map_err(failed("serve the pin's socket"))
}

struct Server<'c> {
    config: &'c PinConfig,
    pinning: Pinning,
    listener: UnixListener,
    /// Keeps the name of the socket alive.
    _socket: SocketPath,
    /// The database, what lies beside it, and the socket: by their names, and as which files these were found.
    names: [PathBuf; 4],
    files: [Option<FileId>; 4],
    /// Who is connected: the agent, and whoever looks whether there is a pin and asks nothing.
    agents: VecDeque<Connected>,
    /// Since when there is no agent.
    alone_since: Instant,
    /// How long the WAL's file may become now: it never becomes shorter, and what is there already costs nothing more.
    wal_bytes_max: u64,
}

/// A connection. One that has asked something is the agent.
struct Connected {
    stream: UnixStream,
    has_asked: bool,
}

/// Whether it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goes {
    On,
    Ends,
}

impl Server<'_> {
    fn run(mut self) -> io::Result<()> {
        let served = self.serve();
        let [.., socket] = &self.names;
        if FileId::at(socket).ok() == self.files[3] {
            // Whoever looks sees that there is none. What cannot be removed is removed by the next agent.
            fs::remove_file(socket).ok();
        }
        served
    }

    fn serve(&mut self) -> io::Result<()> {
        loop {
            let woken = self.wait()?;
            if self.should_end() {
                return Ok(());
            }
            // Where they stand is true until somebody comes.
            for at in woken.agents.into_iter().rev() {
                if self.answer(at) == Goes::Ends {
                    return Ok(());
                }
            }
            if woken.listener {
                self.welcome();
            }
        }
    }

    fn wait(&self) -> io::Result<Woken> {
        let listener = PollFd::new(&self.listener, PollFlags::IN);
        let agents = self.agents.iter().map(|agent| PollFd::new(&agent.stream, PollFlags::IN));
        let mut fds: Vec<PollFd<'_>> = std::iter::once(listener).chain(agents).collect();
        match poll(&mut fds, Timespec::try_from(LOOK_AGAIN).ok().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_woken = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let agents = (0..self.agents.len()).filter(|at| is_woken(&fds[at + 1])).collect();
        Ok(Woken { listener: is_woken(&fds[0]), agents })
    }

    /// Whether there is no more reason to hold anything: the files are others now, or nobody comes, or it costs too much.
    fn should_end(&self) -> bool {
        if files_at(&self.names) != self.files {
            return true;
        }
        if self.agents.iter().any(|agent| agent.has_asked) {
            return false;
        }
        self.alone_since.elapsed() > self.config.linger || self.wal_bytes() > self.wal_bytes_max
    }

    /// From now on there may be no agent.
    fn is_left(&mut self) {
        self.alone_since = Instant::now();
        self.wal_bytes_max = self.wal_bytes().max(self.config.wal_bytes_max);
    }

    fn wal_bytes(&self) -> u64 {
        fs::metadata(&self.names[1]).map_or(0, |wal| wal.len())
    }

    /// Somebody has come: the next agent, or one that only looks.
    fn welcome(&mut self) {
        let Ok((mut stream, _)) = self.listener.accept() else { return };
        let Some(database) = self.files[0] else { return };
        let greeting = Greeting { pid: std::process::id(), namespace: namespace(), database };
        let timeouts =
            stream.set_read_timeout(Some(ANSWER_MAX)).and(stream.set_write_timeout(Some(ANSWER_MAX)));
        if timeouts.and_then(|()| stream.write_all(&greeting.to_bytes())).is_ok() {
            // Whoever only looks makes room first.
            if self.agents.len() >= AGENTS_MAX {
                let looks = self.agents.iter().rposition(|agent| !agent.has_asked);
                self.agents.remove(looks.unwrap_or(self.agents.len() - 1));
            }
            self.agents.push_front(Connected { stream, has_asked: false });
        }
    }

    /// Answers what the agent asks. One that does not read or write any more is gone; what is held stays.
    fn answer(&mut self, at: usize) -> Goes {
        let Some(mut agent) = self.agents.remove(at) else { return Goes::On };
        let mut byte = [0];
        let asked = agent.stream.read_exact(&mut byte).ok().and_then(|()| Request::read(byte[0]));
        if asked.is_some() || agent.has_asked {
            self.is_left();
        }
        let Some(request) = asked else { return Goes::On };
        agent.has_asked = true;
        let answer = match request {
            // A file that SQLite cannot read any more is nothing to hold on to.
            Request::Held => self.pinning.held().map(Answer::at),
            Request::OpenNext => self.pinning.open_next().map(Answer::plain),
            Request::CloseLast => {
                self.pinning.close_last();
                Ok(Answer::plain(true))
            }
            Request::End => return Goes::Ends,
        };
        let Ok(answer) = answer else { return Goes::Ends };
        reached(match request {
            Request::OpenNext => "pin opened",
            Request::CloseLast => "pin closed",
            Request::Held | Request::End => "pin asked",
        });
        if agent.stream.write_all(&answer.to_bytes()).is_ok() {
            self.agents.insert(at, agent);
        }
        Goes::On
    }
}

struct Woken {
    listener: bool,
    /// Who asks something, or is gone.
    agents: Vec<usize>,
}

/// Which files names lead to.
fn files_at<const N: usize>(names: &[PathBuf; N]) -> [Option<FileId>; N] {
    names.each_ref().map(|name| FileId::at(name).ok())
}

/// The socket that the agent gave as standard input.
fn inherited() -> io::Result<UnixListener> {
    let listener = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    if rustix::net::sockopt::socket_acceptconn(&listener)? {
        return Ok(listener);
    }
    Err(io::Error::other("it does not listen; a pin is started by its agent alone"))
}
