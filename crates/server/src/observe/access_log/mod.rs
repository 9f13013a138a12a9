//! The access log: a line for each exchange that has ended.
//!
//! A format is compiled once (`format`). What a line needs of the request is copied when the
//! response is chosen, since the receive buffer is gone when a slow one ends (`record`). The line
//! is appended to a buffer of the core (`file`), and a thread for each file writes these (`writer`).
//! So no state of a disk or a pipe slows a response down.

mod clock;
mod escape;
mod file;
mod format;
mod open;
mod queue;
mod record;
mod writer;

use std::rc::Rc;
use std::sync::Arc;

use tidegate_config::{AccessLog, LogTarget, Settings, Site};

pub(crate) use file::LogFiles;
pub(crate) use open::{OpenError, open_file, probe};
pub(crate) use record::{Ended, Record, Recorder, RequestInfo};

use file::LogFile;
use format::Format;

/// The logs of all sites, shared by all cores.
pub(crate) struct AccessLogs {
    /// In the order of the settings.
    sites: Vec<Option<SiteLog>>,
}

/// The log of a site.
#[derive(Clone)]
pub(crate) struct SiteLog {
    settings: AccessLog,
    format: Arc<Format>,
    file: Arc<LogFile>,
}

/// The logs of the sites, for one core: a reference to one of them is counted without a write to
/// memory that cores share.
pub(crate) struct SiteLogs {
    /// In the order of the settings; empty if no site has a log.
    sites: Vec<Option<Rc<SiteLog>>>,
}

impl AccessLogs {
    /// Opens the files of all sites that `files` does not have yet. Blocking.
    pub(crate) fn open(settings: &Settings, files: &LogFiles) -> Result<Self, OpenError> {
        let sites = settings.sites.iter();
        let logs = sites.map(|site| SiteLog::open(site, files));
        let sites = logs.collect::<Result<_, _>>()?;
        Ok(Self { sites })
    }

    /// The logs for one core.
    pub(crate) fn of_core(&self) -> SiteLogs {
        let sites = self.sites.iter();
        let mut sites: Vec<_> = sites.map(|log| log.clone().map(Rc::new)).collect();
        if sites.iter().all(Option::is_none) {
            sites.clear();
        }
        SiteLogs { sites }
    }
}

impl SiteLog {
    /// The log of `site`; `None` if it has none.
    fn open(site: &Site, files: &LogFiles) -> Result<Option<Self>, OpenError> {
        let settings = &site.access_log;
        if settings.path == LogTarget::Off {
            return Ok(None);
        }
        Ok(Some(Self {
            format: Arc::new(Format::compile(&settings.format, site)),
            file: files.open(&settings.path)?,
            settings: settings.clone(),
        }))
    }

    /// Whether the next request is in the sample.
    fn is_drawn(&self) -> bool {
        self.settings.sample >= 1.0 || fastrand::f64() < self.settings.sample
    }
}

impl SiteLogs {
    /// The log of the site with this number.
    pub(crate) fn of(&self, site: usize) -> Option<&Rc<SiteLog>> {
        self.sites.get(site)?.as_ref()
    }

    /// Whether no site has a log.
    #[inline]
    pub(crate) fn are_all_off(&self) -> bool {
        self.sites.is_empty()
    }
}
