//! Messages to the service manager (`sd_notify(3)`): a datagram for each change of state.
//!
//! Sending never waits, and an error changes nothing but the log: the server does not depend on its
//! manager.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::observe::heartbeat::ASK_EVERY;
use crate::throttle::Throttle;

/// The way to the service manager; it leads nowhere if there is none.
pub(crate) struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    /// Whether it expects signs of life.
    expects_life: bool,
    warnings: Throttle,
}

impl Notifier {
    /// To the manager that `NOTIFY_SOCKET` names, with signs of life if `WATCHDOG_USEC` wants them.
    pub(crate) fn from_environment() -> Self {
        let manager = manager().unwrap_or_else(|error| {
            tracing::warn!(%error, "NOTIFY_SOCKET: the service manager cannot be told anything");
            None
        });
        let life = watchdog_time().filter(|_| manager.is_some());
        if life.is_some_and(|time| time < 2 * ASK_EVERY) {
            tracing::warn!(
                "WatchdogSec= of the unit is too short: it gets a sign of life every {}s",
                ASK_EVERY.as_secs()
            );
        }
        Self {
            manager,
            expects_life: life.is_some(),
            warnings: Throttle::default(),
        }
    }

    /// It serves, again after a reload.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// It begins to reload; [`Notifier::ready`] ends that, whether it succeeded or not.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let now = Duration::try_from(now).unwrap_or_default().as_micros();
        self.send(&format!(
            "RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=Reloading"
        ));
    }

    /// The process `id` is the server from now on.
    pub(crate) fn main_process(&self, id: u32) {
        self.send(&format!("MAINPID={id}"));
    }

    /// It stops, in the way of `status`.
    pub(crate) fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// Every shard has given a sign of life.
    pub(crate) fn alive(&self) {
        if self.expects_life {
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.manager else {
            return;
        };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address)
            && self.warnings.is_due()
        {
            tracing::warn!(%error, "the service manager was not told: {message:?}");
        }
    }
}

/// A socket to the manager and its address; `None` if there is none.
fn manager() -> io::Result<Option<(UnixDatagram, SocketAddr)>> {
    let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok(Some((socket, address)))
}

/// How long the manager waits for a sign of life (`sd_watchdog_enabled(3)`).
fn watchdog_time() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let is_other = number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(process::id()));
    let micros = number("WATCHDOG_USEC").filter(|micros| *micros > 0 && !is_other);
    micros.map(Duration::from_micros)
}
