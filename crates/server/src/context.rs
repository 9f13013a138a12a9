//! What the tasks of one core share.

use std::cell::{Cell, Ref, RefCell};
use std::net::IpAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;

use tidegate_config::Settings;
use tidegate_h2::HeadBuffer;
use tidegate_http::FieldBlock;
use tidegate_site::File;
use tidegate_uring::Fd;

use crate::clients::{ConnectionLimit, Exceeded, RequestLimits, TooMany};
use crate::clock::Clock;
use crate::config::prepared::Prepared;
use crate::config::snapshot::Snapshot;
use crate::frame_buffer::FrameBuffer;
use crate::memory::CoreMemory;
use crate::observe::access_log::Recorder;
use crate::observe::metrics::{Metrics, Refusal, SlowConnection};
use crate::rates::LeastRates;
use crate::throttle::Throttle;
use crate::timeouts::{Key, Slow, SlowCause, TimerQueue};
use crate::transport::io::Io;
use crate::transport::{is_trusted, is_unix, peer_ip};

/// What the tasks of one core share. It knows no listener and no connection.
pub(crate) struct Context {
    pub(crate) io: Io,
    pub(crate) clock: Clock,
    pub(crate) timers: Rc<TimerQueue>,
    pub(crate) scratch: RefCell<Scratch>,
    pub(crate) metrics: Metrics,
    pub(crate) memory: CoreMemory,
    pub(crate) access_log: Recorder,
    pub(crate) file_warnings: Throttle,
    pub(crate) tls_warnings: Throttle,
    pub(crate) http2_warnings: Throttle,
    connection_warnings: Throttle,
    /// One for each cause.
    slow_warnings: [Throttle; 3],
    /// One for each limit that requests may exceed.
    request_warnings: [Throttle; 3],
    /// Replaced as a whole when the configuration changes. [`Context::snapshot`] is the only way to
    /// it, and no borrow outlives a poll: so a replacement between two polls finds none.
    snapshot: RefCell<Rc<Snapshot>>,
    keep_alive: Cell<KeepAlive>,
}

/// Whether connections persist after a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum KeepAlive {
    #[default]
    Enabled,
    /// They end with the next response, which says so. One that is idle, or whose response promised
    /// more, goes on: a request that is on its way would be lost.
    UntilNextResponse,
    /// They end with the current response: the server stops, or clients wait for a free connection.
    Disabled,
}

/// Buffers for bytes that are built and sent without an await in between.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Responses of HTTP/1.1.
    pub(crate) out: Vec<u8>,
    /// The body of the last of them, if it is sent from where it is in memory: a range of a file.
    pub(crate) last_body: Option<(Rc<File>, Range<u64>)>,
    /// Frames of HTTP/2.
    pub(crate) frames: FrameBuffer,
    /// The head of a request of HTTP/2.
    pub(crate) head: HeadBuffer,
    pub(crate) buffers: Buffers,
}

/// Memory that responses reuse, so that one from memory allocates nothing.
#[derive(Default)]
pub(crate) struct Buffers {
    /// The decoded path of the current request.
    pub(crate) path: Vec<u8>,
    /// The response's own fields; empty between two requests.
    pub(crate) extra: FieldBlock,
}

impl Buffers {
    /// Takes back the memory of a response that was sent.
    pub(crate) fn reclaim(&mut self, mut extra: FieldBlock) {
        extra.clear();
        self.extra = extra;
    }
}

impl Context {
    pub(crate) fn new(
        io: Io,
        snapshot: Snapshot,
        metrics: Metrics,
        memory: CoreMemory,
        access_log: Recorder,
    ) -> Self {
        metrics.apply(&snapshot.settings);
        let timers = TimerQueue::new(snapshot.settings.timeouts.clone());
        timers.set_least_rates(least_rates(&snapshot.settings));
        Self {
            io,
            clock: Clock::new(),
            timers: Rc::new(timers),
            scratch: RefCell::default(),
            metrics,
            memory,
            access_log,
            file_warnings: Throttle::default(),
            tls_warnings: Throttle::default(),
            http2_warnings: Throttle::default(),
            connection_warnings: Throttle::default(),
            slow_warnings: Default::default(),
            request_warnings: Default::default(),
            snapshot: RefCell::new(Rc::new(snapshot)),
            keep_alive: Cell::default(),
        }
    }

    /// The current snapshot. Across an await, hold a clone of the `Rc` instead of the borrow.
    pub(crate) fn snapshot(&self) -> Ref<'_, Rc<Snapshot>> {
        self.snapshot.borrow()
    }

    /// Replaces the snapshot as a whole, and with it the timeouts of all connections. Returns the
    /// previous one, which goes with its last request.
    pub(crate) fn replace_snapshot(&self, prepared: Prepared) -> Rc<Snapshot> {
        let next = Snapshot::new(prepared, &self.io.ring, Some(&self.snapshot()));
        self.timers.set_timeouts(next.settings.timeouts.clone());
        self.timers.set_least_rates(least_rates(&next.settings));
        self.metrics.apply(&next.settings);
        self.snapshot.replace(Rc::new(next))
    }

    /// The current settings. Not to be held across an await.
    pub(crate) fn settings(&self) -> Ref<'_, Settings> {
        Ref::map(self.snapshot(), |snapshot| &snapshot.settings)
    }

    /// The address of a connection's client: the peer's, unless the PROXY protocol named another.
    /// Takes a system call the first time.
    pub(crate) fn client(&self, connection: Key, socket: &Fd) -> Option<IpAddr> {
        self.timers.client_or(connection, || peer_ip(socket))
    }

    /// Whether that client is a proxy of `proxies.trusted`.
    pub(crate) fn peer_is_trusted(&self, connection: Key, socket: &Fd) -> bool {
        let client = self.client(connection, socket);
        is_trusted(client, socket, &self.settings().proxies)
    }

    /// Whether the client may have another connection (`limits.connections-per-ip`). A proxy has
    /// those of many clients. False, too, if the connection was reset.
    pub(crate) fn admits(&self, connection: Key, socket: &Fd) -> bool {
        let snapshot = self.snapshot();
        let limit = snapshot.client_connections.as_ref();
        let requests = snapshot.request_limits.as_ref();
        if limit.is_none() && !requests.is_some_and(RequestLimits::count_clients) {
            return true;
        }
        // Asked for now, since a connection that was reset has none: its requests would not count.
        let Some(client) = self.client(connection, socket) else {
            return is_unix(socket);
        };
        match limit.filter(|_| !snapshot.settings.proxies.trust(Some(client))) {
            Some(limit) => self.admits_connection_of(client, limit, connection),
            None => true,
        }
    }

    fn admits_connection_of(
        &self,
        client: IpAddr,
        limit: &ConnectionLimit,
        connection: Key,
    ) -> bool {
        if self.timers.has_place(connection) {
            return true;
        }
        if let Some(place) = limit.admit(client) {
            self.timers.keep_place(connection, place);
            return true;
        }
        self.metrics.core().refusals.count(Refusal::ClientLimit);
        if self.connection_warnings.is_due() {
            tracing::warn!(%client, "connection closed: limits.connections-per-ip");
        }
        false
    }

    /// Counts a request for its client, which is `None` by a Unix socket, and for its site.
    ///
    /// # Errors
    ///
    /// They have sent too many.
    pub(crate) fn admit_request(
        &self,
        limits: &RequestLimits,
        client: Option<IpAddr>,
        site: Option<usize>,
        now: Instant,
    ) -> Result<(), TooMany> {
        // A proxy that names nobody may have asked for anybody.
        let counted = client.filter(|client| !self.settings().proxies.trust(Some(*client)));
        let admitted = limits.admit(counted, site, now);
        admitted.inspect_err(|too_many| self.report_request(too_many.limit, client, site))
    }

    /// Counts and logs a request that is refused.
    fn report_request(&self, limit: Exceeded, client: Option<IpAddr>, site: Option<usize>) {
        let (refusal, key) = match limit {
            Exceeded::Client => (Refusal::ClientRate, "limits.request-rate-per-ip"),
            Exceeded::SiteClient => (Refusal::SiteClientRate, "site.limits.request-rate-per-ip"),
            Exceeded::Site => (Refusal::SiteRate, "site.limits.request-rate"),
        };
        self.metrics.core().refusals.count(refusal);
        if self.request_warnings[limit as usize].is_due() {
            let client = client.map(tracing::field::display);
            let settings = self.settings();
            let site = site.filter(|_| limit != Exceeded::Client);
            let site = site.and_then(|number| settings.sites.get(number));
            let site = site.map(|site| site.names.first().map_or("", String::as_str));
            tracing::warn!(client, site, "request refused: {key}");
        }
    }

    /// Counts and logs a connection that was ended since its client is too slow.
    pub(crate) fn report_slow(&self, slow: &Slow) {
        let (kind, key) = match slow.cause {
            SlowCause::Reads => (SlowConnection::Reader, "limits.send-rate-min"),
            SlowCause::Sends => (SlowConnection::Sender, "limits.receive-rate-min"),
            SlowCause::Room => (SlowConnection::ForRoom, "limits.crowded-rate-min"),
        };
        self.metrics.core().slow_connections.count(kind);
        if self.slow_warnings[slow.cause as usize].is_due() {
            let client = self.client(slow.key, &slow.socket);
            let client = client.map(tracing::field::display);
            tracing::warn!(client, "connection of a slow client closed: {key}");
        }
    }

    /// Whether connections persist.
    pub(crate) fn keep_alive(&self) -> KeepAlive {
        self.keep_alive.get()
    }

    pub(crate) fn set_keep_alive(&self, keep_alive: KeepAlive) {
        self.keep_alive.set(keep_alive);
    }
}

fn least_rates(settings: &Settings) -> LeastRates {
    LeastRates::of(&settings.limits, &settings.timeouts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Client, context, directory, get, prepared, run, settings};

    #[test]
    fn a_request_is_answered_from_the_snapshot_of_its_time() {
        run(async {
            let (first, second) = (directory("first"), directory("second"));
            let context = context(settings(&first)).await;
            let mut client = Client::connect(&context);
            let request = get("/small.html", "");
            let (response, _) = client.ask(&request).await;
            assert!(response.ends_with("first"), "{response}");
            let previous = context.replace_snapshot(prepared(settings(&second)));
            assert_eq!(
                Rc::strong_count(&previous),
                1,
                "an idle connection holds none"
            );
            let (response, _) = client.ask(&request).await;
            assert!(response.ends_with("second"), "{response}");
        });
    }
}
