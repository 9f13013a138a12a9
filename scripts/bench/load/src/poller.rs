//! Waiting for readable sockets (epoll, level-triggered).

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

const EVENTS_MAX: usize = 256;

pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poller {
    pub(crate) fn new() -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(Error::io("epoll_create"))?;
        Ok(Self {
            epoll,
            events: Vec::with_capacity(EVENTS_MAX),
        })
    }

    /// Watches `socket` until it is closed; `index` comes back from `wait`.
    pub(crate) fn add(&self, socket: impl AsFd, index: usize) -> Result<()> {
        epoll::add(
            &self.epoll,
            socket,
            EventData::new_u64(index as u64),
            EventFlags::IN,
        )
        .map_err(Error::io("epoll_ctl"))
    }

    /// Waits for at most `timeout`; how many sockets are readable. `index`
    /// tells which.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Result<usize> {
        self.events.clear();
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Ok(count) => Ok(count),
            Err(Errno::INTR) => Ok(0),
            Err(errno) => Err(Error::io("epoll_wait")(errno)),
        }
    }

    /// The index that the `n`-th readable socket of the latest `wait` was
    /// added with.
    pub(crate) fn index(&self, n: usize) -> usize {
        self.events[n].data.u64() as usize
    }
}
