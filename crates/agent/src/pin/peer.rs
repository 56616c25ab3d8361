//! The agent's side of a pin: starting one, finding one that was left, asking it.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use synddb_sqlite::capture::{Pin, WalPosition};

use super::{ANSWER_MAX, Answer, GREETING, GREETING_BYTES, PinProgram, Request};
use crate::socket::SocketPath;

/// A pin that answers. One that stops answering is killed: what it holds would keep the WAL from beginning anew.
#[derive(Debug)]
pub(crate) struct PinPeer {
    stream: UnixStream,
    pid: u32,
    /// The process itself, whatever gets its number later.
    process: OwnedFd,
    /// Of a pin that this agent has started.
    child: Option<Child>,
}

impl PinPeer {
    /// The pin that an agent before this one has left, if there is one.
    pub(crate) fn find(folder: &Path) -> Option<Self> {
        let socket = SocketPath::of_pin(folder).ok()?;
        Self::meet(UnixStream::connect(socket.path()).ok()?, None).ok()
    }

    /// Starts a pin. Only the agent that holds the folder's lock may.
    pub(crate) fn start(program: &PinProgram, folder: &Path) -> io::Result<Self> {
        let socket = SocketPath::of_pin(folder)?;
        socket.clear()?;
        let listener = UnixListener::bind(socket.path())?;
        let child = Command::new(&program.program)
            .args(&program.arguments)
            // It outlives this process, also where a terminal ends both.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // Now the listener is the child's alone: if that ends, so does the connection.
        Self::meet(UnixStream::connect(socket.path())?, Some(child))
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    fn meet(mut stream: UnixStream, mut child: Option<Child>) -> io::Result<Self> {
        let mut greeting = [0; GREETING_BYTES];
        let greeted = stream
            .set_read_timeout(Some(ANSWER_MAX))
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_MAX)))
            .and_then(|()| stream.read_exact(&mut greeting));
        let (start, pid) = greeting.split_at(GREETING.len());
        let pid = pid.first_chunk().map_or(0, |pid| u32::from_be_bytes(*pid));
        let named = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|_| start == GREETING);
        let stranger = || io::Error::other("what answers at the socket is no pin");
        let process = greeted.and_then(|()| named.ok_or_else(stranger)).and_then(|pid| {
            // It has just answered, so the number is its own.
            Ok(pidfd_open(pid, PidfdFlags::empty())?)
        });
        match process {
            Ok(process) => Ok(Self { stream, pid, process, child }),
            Err(error) => {
                if let Some(child) = &mut child {
                    end(child);
                }
                Err(error)
            }
        }
    }

    fn ask(&mut self, request: Request) -> io::Result<Answer> {
        let mut answer = [0; Answer::BYTES];
        let asked = self.stream.write_all(&[request.byte()]);
        match asked.and_then(|()| self.stream.read_exact(&mut answer)) {
            Ok(()) => Ok(Answer::from_bytes(answer)),
            Err(error) => {
                self.kill();
                Err(error)
            }
        }
    }

    fn kill(&mut self) {
        // One that is gone cannot be killed, which is as good.
        pidfd_send_signal(&self.process, Signal::KILL).ok();
        if let Some(child) = &mut self.child {
            child.wait().ok();
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

impl Drop for PinPeer {
    fn drop(&mut self) {
        // A pin outlives this value. One that is dead leaves nothing but its number, which is given back here.
        if let Some(child) = &mut self.child {
            child.try_wait().ok();
        }
    }
}

/// The number of the process that holds the place of a folder's agent, if one does. For whoever looks: nothing is asked of it.
pub fn running(folder: &Path) -> Option<u32> {
    PinPeer::find(folder).map(|pin| pin.pid())
}

/// Has the pin of a folder end, if there is one.
pub(crate) fn dismiss(folder: &Path) {
    if let Some(mut pin) = PinPeer::find(folder) {
        // Its end is the answer.
        pin.stream.write_all(&[Request::End.byte()]).ok();
        pin.stream.read_exact(&mut [0]).ok();
    }
}

fn end(child: &mut Child) {
    child.kill().ok();
    child.wait().ok();
}
