//! The kernel's side of a ring: its queues.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, squeue};

use crate::buffers::Buffers;
#[cfg(feature = "simulation")]
use crate::simulation::Kernel;
use crate::slot::Completion;

/// A submission and a completion queue.
pub(crate) struct Io {
    ring: IoUring,
    /// Carries the entries out in place of the kernel.
    #[cfg(feature = "simulation")]
    simulated: Option<Kernel>,
}

impl Io {
    /// `buffers` are those of `ring`.
    #[cfg_attr(not(feature = "simulation"), expect(unused_variables))]
    pub(crate) fn new(ring: IoUring, buffers: &Rc<Buffers>) -> Self {
        Self {
            ring,
            #[cfg(feature = "simulation")]
            simulated: Kernel::of_this_thread(buffers),
        }
    }

    /// The most completions that the queue holds.
    pub(crate) fn completions_max(&self) -> usize {
        self.ring.params().cq_entries() as usize
    }

    /// Queues `entry`; false if there is no room.
    ///
    /// # Safety
    ///
    /// What the entry points to must live until its last completion.
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        #[cfg(feature = "simulation")]
        if let Some(kernel) = &mut self.simulated {
            kernel.push(entry);
            return true;
        }
        // SAFETY: the caller's promise is the callee's.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Whether no entry waits to be submitted.
    pub(crate) fn is_submitted(&mut self) -> bool {
        #[cfg(feature = "simulation")]
        if let Some(kernel) = &self.simulated {
            return kernel.is_idle();
        }
        self.ring.submission().is_empty()
    }

    /// Whether there are completions, in the queue or still in the kernel.
    pub(crate) fn has_completions(&mut self) -> bool {
        #[cfg(feature = "simulation")]
        if let Some(kernel) = &self.simulated {
            return kernel.has_completions();
        }
        if !self.ring.completion().is_empty() {
            return true;
        }
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Submits queued entries, and waits for a completion for up to `wait`, if given.
    pub(crate) fn enter(&mut self, wait: Option<Duration>) -> io::Result<usize> {
        #[cfg(feature = "simulation")]
        if let Some(kernel) = &mut self.simulated {
            kernel.run();
            return Ok(0);
        }
        match wait {
            None => self.ring.submit(),
            Some(wait) => {
                let wait = Timespec::from(wait);
                let submitter = self.ring.submitter();
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&wait))
            }
        }
    }

    /// Calls `each` with the user data and the rest of each completion, which leaves the queue.
    /// Returns their number.
    pub(crate) fn reap(&mut self, mut each: impl FnMut(u64, Completion)) -> usize {
        #[cfg(feature = "simulation")]
        if let Some(kernel) = &mut self.simulated {
            return kernel.reap(each);
        }
        let mut count = 0;
        for entry in self.ring.completion() {
            count += 1;
            each(entry.user_data(), Completion::new(&entry));
        }
        count
    }

    /// Disables the eventfd for completions, if it is not.
    pub(crate) fn disable_event(&mut self) {
        let completions = self.ring.completion();
        if !completions.eventfd_disabled() {
            completions.disable_eventfd();
        }
    }

    /// Enables the eventfd for completions.
    pub(crate) fn enable_event(&mut self) {
        self.ring.completion().enable_eventfd();
    }
}
