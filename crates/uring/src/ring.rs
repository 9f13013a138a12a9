//! The public ring, and its set-up.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use glommio::Task;
use io_uring::IoUring;
use rustix::event::EventfdFlags;

use crate::buffers::Buffers;
use crate::config::Config;
use crate::driver::{Event, drive};
use crate::error::Error;
use crate::features::Features;
use crate::foreign_wakes;
use crate::locked::explain_enomem;
use crate::probe::probe;
use crate::restrict::restrict_and_enable;
use crate::setup::{explain_setup, setup_disabled};
use crate::shared::Shared;
use crate::spawn::{count_poll, spawn};
use crate::stats::RingStats;
use crate::wakeup_timers::WakeupTimers;

/// The kernel's own bound.
const ENTRIES_MAX: u32 = 32 * 1024;

/// The op ring of an executor. Its methods queue ops; see the crate's documentation.
#[derive(Clone)]
pub struct Ring {
    pub(crate) shared: Rc<Shared>,
}

impl Ring {
    /// Sets a ring up for the executor that runs the caller, and spawns its driver task there.
    ///
    /// # Panics
    ///
    /// Outside a glommio executor.
    pub fn start(config: &Config) -> Result<Self, Error> {
        let features = match config.features {
            Some(features) => features,
            None => probe()?,
        };
        check_queues(config)?;
        let io = setup_disabled(config.entries, config.completions)
            .map_err(|error| explain_setup(error, config.locked_bytes()))?;
        limit_workers(&io, config)?;
        let event = register_event(&io)?;
        let prepare = |io: &IoUring| {
            let buffers = provide_buffers(io, config)?;
            restrict_and_enable(io, features)?;
            Ok(buffers)
        };
        let shared = Rc::new(Shared::new(io, features, prepare)?);
        let event = Event::new(event);
        foreign_wakes::install(&shared);
        let driver = drive(Rc::downgrade(&shared), event, WakeupTimers::start());
        glommio::spawn_local(driver).detach();
        Ok(Self { shared })
    }

    /// As [`spawn()`], for a ring at hand.
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        spawn(future)
    }

    /// Lets the ring take a turn and other tasks run.
    ///
    /// A task that computes for long, or yields in a loop, calls this rather than a bare yield.
    /// While it keeps the executor awake, completions would wait until the executor next checks its
    /// own ring.
    pub async fn yield_now(&self) {
        self.turn_soon();
        futures_lite::future::yield_now().await;
    }

    /// Lets the ring take a turn before the calling task, a hand-written future, runs again. It
    /// wakes itself and returns pending; see [`Ring::yield_now`].
    pub fn turn_soon(&self) {
        count_poll();
        self.shared.wake_driver();
    }

    /// Turns of the ring so far. While the number is unchanged, no completion was reaped.
    pub fn turns(&self) -> u64 {
        self.shared.turns.get()
    }

    /// Its state at this moment.
    pub fn stats(&self) -> RingStats {
        self.shared.stats()
    }

    /// The optional kernel features that this ring uses.
    pub fn features(&self) -> Features {
        self.shared.features
    }
}

/// The kernel reports bad sizes with EINVAL, as it does unknown flags; so they are checked here.
fn check_queues(config: &Config) -> Result<(), Error> {
    let entries = config.entries.is_power_of_two() && config.entries <= ENTRIES_MAX;
    let completions = config.completions.is_power_of_two()
        && (config.entries..=2 * ENTRIES_MAX).contains(&config.completions);
    if entries && completions {
        Ok(())
    } else {
        let source = io::ErrorKind::InvalidInput.into();
        Err(Error::setup("entries or completions of the ring")(source))
    }
}

fn limit_workers(io: &IoUring, config: &Config) -> Result<(), Error> {
    io.submitter()
        .register_iowq_max_workers(&mut [config.workers, config.splice_workers])
        .map_err(Error::setup("io_uring_register(IOWQ_MAX_WORKERS)"))?;
    let set = cpu_set(config).map_err(Error::setup("worker_cpus"))?;
    io.submitter()
        .register_iowq_aff(&set)
        .map_err(Error::setup("io_uring_register(IOWQ_AFF)"))
}

/// The processors for the workers, which do not inherit those of their thread.
fn cpu_set(config: &Config) -> io::Result<libc::cpu_set_t> {
    // SAFETY: a cpu_set_t is a plain array of bits; all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if config.worker_cpus.is_empty() {
        // SAFETY: the set is as large as is said; 0 is the calling thread.
        let answer = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
        return if answer == 0 {
            Ok(set)
        } else {
            Err(io::Error::last_os_error())
        };
    }
    for cpu in &config.worker_cpus {
        if *cpu >= libc::CPU_SETSIZE as usize {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: the number lies inside the set.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    Ok(set)
}

fn provide_buffers(io: &IoUring, config: &Config) -> Result<Buffers, Error> {
    let buffers = Buffers::new(config.recv_buffers, config.recv_buffer_bytes)
        .map_err(Error::setup("mmap of the recv buffers"))?;
    let (address, entries) = buffers.registration();
    // SAFETY: `address` is a mapping of that many entries, and the ring's `Shared` keeps it until
    // the ring has ended, or for ever if it does not end in time.
    unsafe {
        io.submitter()
            .register_buf_ring_with_flags(address, entries, Buffers::GROUP, 0)
    }
    .map_err(|error| match error.raw_os_error() {
        Some(libc::ENOMEM) => explain_enomem(error, config.locked_bytes()),
        _ => Error::setup("io_uring_register(PBUF_RING)")(error),
    })?;
    Ok(buffers)
}

/// An eventfd that counts completions.
fn register_event(io: &IoUring) -> Result<OwnedFd, Error> {
    // Blocking: a read on the executor's ring must wait for a signal, not fail with EAGAIN.
    let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)
        .map_err(io::Error::from)
        .map_err(Error::setup("eventfd"))?;
    io.submitter()
        .register_eventfd(event.as_raw_fd())
        .map_err(Error::setup("io_uring_register(EVENTFD)"))?;
    Ok(event)
}
