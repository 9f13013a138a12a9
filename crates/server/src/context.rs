//! What the tasks of one core share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tidegate_config::Settings;
use tidegate_site::{Sites, Stalls};

use crate::clock::Clock;
use crate::config::sites::{cache_config, site_config};
use crate::error::Error;
use crate::host::limits::ResourceShare;
use crate::throttle::Throttle;
use crate::timeouts::TimerQueue;
use crate::transport::io::Io;

/// What the tasks of one core share. It knows no listener and no connection.
pub(crate) struct Context {
    pub(crate) settings: Arc<Settings>,
    pub(crate) http: tidegate_http::Limits,
    pub(crate) io: Io,
    pub(crate) sites: Sites,
    pub(crate) clock: Clock,
    pub(crate) timers: Rc<TimerQueue>,
    pub(crate) scratch: RefCell<Scratch>,
    pub(crate) counters: Counters,
    pub(crate) file_warnings: Throttle,
    pub(crate) tls_warnings: Throttle,
    keep_alive_disabled: Cell<bool>,
}

/// Buffers for bytes that are built and sent without an await in between.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Responses.
    pub(crate) out: Vec<u8>,
    /// The decoded path of the current request.
    pub(crate) path: Vec<u8>,
}

/// Counts since the start of the core.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) connections: Cell<u64>,
    pub(crate) requests: Cell<u64>,
}

impl Context {
    /// Opens the sites. Blocking.
    pub(crate) fn new(
        settings: Arc<Settings>,
        share: ResourceShare,
        stalls: &Arc<Stalls>,
        io: Io,
    ) -> Result<Rc<Self>, Error> {
        Ok(Rc::new(Self {
            http: tidegate_http::Limits {
                header_bytes: settings.limits.header_bytes,
                headers: settings.limits.headers,
                body_discard: settings.limits.body_discard,
            },
            sites: Sites::open(
                settings.sites.iter().map(site_config).collect(),
                cache_config(&settings, share),
                &io.ring,
                stalls,
            )?,
            timers: Rc::new(TimerQueue::new(settings.timeouts.clone())),
            settings,
            io,
            clock: Clock::new(),
            scratch: RefCell::default(),
            counters: Counters::default(),
            file_warnings: Throttle::default(),
            tls_warnings: Throttle::default(),
            keep_alive_disabled: Cell::new(false),
        }))
    }

    /// Whether connections end with the current response: the server stops, or clients wait for a
    /// free connection.
    pub(crate) fn keep_alive_disabled(&self) -> bool {
        self.keep_alive_disabled.get()
    }

    pub(crate) fn set_keep_alive_disabled(&self, is_disabled: bool) {
        self.keep_alive_disabled.set(is_disabled);
    }
}
