//! A thread that works things off beside its owner, one after the other, within bounds.
//!
//! What must stay true: everything that is given is worked off in order, and a fault of the thread goes on in its owner.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// A thread that takes `W` and may answer each with a `D`. It ends with this.
#[derive(Debug)]
pub struct Beside<W, D> {
    /// `None` once it is to end.
    work: Option<SyncSender<W>>,
    done: Receiver<D>,
    thread: Option<JoinHandle<()>>,
}

impl<W: Send + 'static, D: Send + 'static> Beside<W, D> {
    /// Starts one that lets so many things wait; who gives one more waits. `None` when no thread can be started.
    ///
    /// At most one answer waits to be taken: its owner knows what is answered, and takes that before it gives more that is.
    pub fn start(
        name: &str,
        waiting: usize,
        mut work_off: impl FnMut(W) -> Option<D> + Send + 'static,
    ) -> Option<Self> {
        let (work, taken) = sync_channel::<W>(waiting);
        let (given, done) = sync_channel(1);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            for work in taken {
                if let Some(done) = work_off(work)
                    && given.send(done).is_err()
                {
                    return;
                }
            }
        });
        Some(Self { work: Some(work), done, thread: Some(thread.ok()?) })
    }

    /// Has something worked off.
    pub fn give(&mut self, work: W) {
        let is_given = self.work.as_ref().is_some_and(|sender| sender.send(work).is_ok());
        if !is_given {
            self.fault();
        }
    }

    /// The next answer, waited for.
    pub fn take(&mut self) -> D {
        self.done.recv().unwrap_or_else(|_| self.fault())
    }

    /// The thread is gone although nobody told it to end: what ended it goes on here.
    fn fault(&mut self) -> ! {
        self.work = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(fault)) => resume_unwind(fault),
            Some(Ok(())) | None => {
                resume_unwind(Box::new("a thread is gone that was to work beside another"))
            }
        }
    }
}

impl<W, D> Drop for Beside<W, D> {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // Where it failed, nobody asked for what it owes.
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn things_are_worked_off_in_order_and_some_are_answered() {
        let mut sum = 0;
        let mut beside = Beside::start("test", 2, move |add: Option<u32>| {
            sum = sum * 10 + add.unwrap_or(0);
            add.is_none().then_some(sum)
        })
        .unwrap();
        (1..=9).for_each(|digit| beside.give(Some(digit)));
        beside.give(None);
        assert_eq!(beside.take(), 1_234_567_890);
    }

    #[test]
    fn a_fault_goes_on_in_the_owner() {
        for asks in [true, false] {
            let mut beside =
                Beside::start("test", 1, |(): ()| -> Option<()> { panic!("the fault") }).unwrap();
            let fault = catch_unwind(AssertUnwindSafe(|| {
                beside.give(());
                if asks { beside.take() } else { (0..3).for_each(|_| beside.give(())) }
            }));
            assert_eq!(fault.unwrap_err().downcast_ref::<&str>(), Some(&"the fault"));
        }
    }
}
