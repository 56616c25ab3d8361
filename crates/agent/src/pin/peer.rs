//! The agent's side of a pin: starting one, finding one that was left, asking it.

use std::fs::Permissions;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use synddb_sqlite::capture::{Pin, WalPosition};
use synddb_sqlite::name::FileId;

use super::{ANSWER_MAX, Answer, Greeting, MOVE_MAX, PinProgram, Request, namespace};
use crate::socket::SocketPath;

/// A pin that answers. One that stops answering is killed: what it holds would keep the WAL from beginning anew.
#[derive(Debug)]
pub(crate) struct PinPeer {
    stream: UnixStream,
    pid: u32,
    /// The process itself, whatever gets its number later. Unknown where its number counts in another namespace: that one is never killed.
    process: Option<OwnedFd>,
}

impl PinPeer {
    /// The pin that an agent before this one has left, if there is one and it holds a place of this very database.
    pub(crate) fn find(database: &Path, folder: &Path) -> Option<Self> {
        let (pin, held) = Self::look(folder)?;
        (FileId::at(database).ok() == Some(held)).then_some(pin)
    }

    /// The pin of a folder, and which file it holds a place of.
    fn look(folder: &Path) -> Option<(Self, FileId)> {
        let socket = SocketPath::of_pin(folder).ok()?;
        Self::meet(UnixStream::connect(socket.path()).ok()?).ok()
    }

    /// Starts a pin. Only the agent that holds the folder's lock may.
    pub(crate) fn start(program: &PinProgram, database: &Path, folder: &Path) -> io::Result<(Self, Child)> {
        let socket = SocketPath::of_pin(folder)?;
        socket.clear()?;
        let listener = UnixListener::bind(socket.path())?;
        // Whatever mask new files get.
        std::fs::set_permissions(socket.path(), Permissions::from_mode(0o600))?;
        let mut child = Command::new(&program.program)
            .args(&program.arguments)
            // It outlives this process, also where a terminal ends both.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // Now the listener is the child's alone: if that ends, so does the connection.
        let met = UnixStream::connect(socket.path()).and_then(Self::meet);
        let met = met.and_then(|(pin, held)| match FileId::at(database).ok() == Some(held) {
            true => Ok(pin),
            false => Err(io::Error::other("the database was exchanged meanwhile")),
        });
        match met {
            Ok(pin) => Ok((pin, child)),
            Err(error) => {
                child.kill().ok();
                child.wait().ok();
                Err(error)
            }
        }
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    fn meet(mut stream: UnixStream) -> io::Result<(Self, FileId)> {
        let mut greeting = [0; Greeting::BYTES];
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        stream.read_exact(&mut greeting)?;
        let greeting = Greeting::from_bytes(&greeting);
        let greeting = greeting.ok_or_else(|| io::Error::other("what answers at the socket is no pin"))?;
        let Greeting { pid, namespace: its, database } = greeting;
        let here = namespace();
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|_| its == here && here != 0);
        // It has just answered, so the number is its own.
        let process = number.and_then(|number| pidfd_open(number, PidfdFlags::empty()).ok());
        Ok((Self { stream, pid, process }, database))
    }

    fn ask(&mut self, request: Request) -> io::Result<Answer> {
        let mut answer = [0; Answer::BYTES];
        let within = if request == Request::Held { ANSWER_MAX } else { MOVE_MAX };
        let asked = self.stream.set_read_timeout(Some(within));
        let asked = asked.and_then(|()| self.stream.write_all(&[request.byte()]));
        match asked.and_then(|()| self.stream.read_exact(&mut answer)) {
            Ok(()) => Ok(Answer::from_bytes(answer)),
            Err(error) => {
                self.kill();
                Err(error)
            }
        }
    }

    fn kill(&self) {
        if let Some(process) = &self.process {
            // One that is gone cannot be killed, which is as good.
            pidfd_send_signal(process, Signal::KILL).ok();
        }
    }
}

impl Pin for PinPeer {
    fn held(&mut self) -> io::Result<WalPosition> {
        Ok(WalPosition::from_bytes(&self.ask(Request::Held)?.position))
    }

    fn open_next(&mut self) -> io::Result<bool> {
        Ok(self.ask(Request::OpenNext)?.is_so)
    }

    fn close_last(&mut self) -> io::Result<()> {
        self.ask(Request::CloseLast).map(drop)
    }

    fn seems_alive(&self) -> bool {
        // Nothing comes unasked, so whatever there is to see is the end.
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|woken| woken == 0)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.stream.as_fd())
    }
}

/// The number of the process that holds the place of a folder's agent, if one does. For whoever looks: nothing is asked of it.
pub fn running(folder: &Path) -> Option<u32> {
    PinPeer::look(folder).map(|(pin, _)| pin.pid())
}

/// Has the pin of a folder end, if there is one; says whether one did.
pub(crate) fn dismiss(folder: &Path) -> bool {
    let Some((mut pin, _)) = PinPeer::look(folder) else { return false };
    // Its end is the answer.
    let asked = pin.stream.write_all(&[Request::End.byte()]);
    asked
        .and_then(|()| pin.stream.read_exact(&mut [0]))
        .is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof)
}
