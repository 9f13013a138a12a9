//! Selects the site for a Host.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tidegate_config as config;
use tidegate_http::site_name;
use tidegate_origin::Origin;
use tidegate_uring::{Fd, Ring, Shares};

use crate::cache::{Cache, CacheStats, Hasher};
use crate::coarse_timer::CoarseTimer;
use crate::config::CacheConfig;
use crate::decompress::Decoders;
use crate::error::RootError;
use crate::file::long_memory::LongMemory;
use crate::listing::DirectoryReader;
use crate::roots::root_path::open_base;
use crate::shared::{RootNumbers, Shared};
use crate::site::{OpenedSite, Site};
use crate::stalls::Stalls;
use crate::sweep;

/// The sites of one core, with their shared cache.
pub struct Sites {
    all: Vec<Rc<Site>>,
    names: config::SiteNames,
    shared: Rc<Shared>,
}

/// Sites whose directories are open, on their way to a core: all that blocks or can fail is done.
pub struct OpenedSites {
    all: Vec<OpenedSite>,
    base: OwnedFd,
}

impl OpenedSites {
    /// Opens the roots. Blocking.
    ///
    /// # Panics
    ///
    /// If `sites` is empty.
    pub fn open(sites: &[config::Site]) -> Result<Self, RootError> {
        assert!(!sites.is_empty(), "at least one site");
        Ok(Self {
            all: sites
                .iter()
                .map(OpenedSite::open)
                .collect::<Result<_, _>>()?,
            base: open_base()?,
        })
    }

    /// Serves what no root of a site has from its origin: one for each site that has any, in their
    /// order.
    #[must_use]
    pub fn with_origins(mut self, origins: Vec<Option<Arc<Origin>>>) -> Self {
        for (site, origin) in self.all.iter_mut().zip(origins) {
            site.origin = origin;
        }
        self
    }

    /// The same for another core.
    pub fn try_clone(&self) -> Result<Self, RootError> {
        Ok(Self {
            all: (self.all.iter().map(OpenedSite::try_clone)).collect::<Result<_, _>>()?,
            base: open_base()?,
        })
    }
}

impl Sites {
    /// Opens the roots, and serves them. Blocking.
    ///
    /// # Panics
    ///
    /// If `sites` is empty.
    pub fn open(
        sites: &[config::Site],
        cache: CacheConfig,
        ring: &Ring,
        stalls: &Arc<Stalls>,
    ) -> Result<Self, RootError> {
        let opened = OpenedSites::open(sites)?;
        Ok(Self::new(opened, cache, ring, stalls, None))
    }

    /// Serves open sites on this core, and replaces those of `before`. Stalled lookups are counted
    /// in `stalls`. It does not block.
    ///
    /// Unless `cache` differs, a site whose section is unchanged is taken over with its cached
    /// files, which are then revalidated at their next use. The other sites of `before` serve the
    /// requests that hold them, and cache nothing more for long.
    ///
    /// The default site, for hosts that no name matches, is the one without names, or else the
    /// first.
    pub fn new(
        opened: OpenedSites,
        cache: CacheConfig,
        ring: &Ring,
        stalls: &Arc<Stalls>,
        before: Option<&Self>,
    ) -> Self {
        let kept = before.filter(|before| before.shared.config == cache);
        let shared = kept.map_or_else(|| shared(cache, stalls), |kept| Rc::clone(&kept.shared));
        let (now, base) = (Instant::now(), Fd::from(opened.base));
        shared.cache.borrow().expire(now);
        let names = opened.all.iter().map(|one| &*one.config.names);
        let names = config::SiteNames::of(names);
        let mut unchanged = kept.map(Self::by_names).unwrap_or_default();
        let mut serve = |number, opened: OpenedSite| match unchanged.remove(&*opened.config.names) {
            Some(site) if *site.config() == *opened.config => {
                site.carry_over(number, now);
                Rc::clone(site)
            }
            _ => Rc::new(Site::new(number, opened, &shared, ring, &base)),
        };
        let all = opened.all.into_iter().enumerate();
        let sites = Self {
            all: all.map(|(number, site)| serve(number, site)).collect(),
            names,
            shared,
        };
        if let Some(before) = before {
            before.retire(&sites);
        }
        sites
    }

    fn by_names(&self) -> HashMap<&[String], &Rc<Site>> {
        let sites = self.all.iter();
        sites.map(|site| (&*site.config().names, site)).collect()
    }

    /// Drops what is cached of sites that `next` does not have.
    fn retire(&self, next: &Self) {
        if !Rc::ptr_eq(&self.shared, &next.shared) {
            return self.shared.cache.borrow_mut().clear();
        }
        let numbers = |sites: &Self| -> HashSet<u32> {
            sites
                .all
                .iter()
                .flat_map(|site| site.root_numbers())
                .collect()
        };
        let gone: HashSet<u32> = &numbers(self) - &numbers(next);
        self.shared
            .cache
            .borrow_mut()
            .forget(|root| gone.contains(&root));
        self.shared
            .directory_reader
            .forget(|root| gone.contains(&root));
    }

    /// Closes unused and deleted files, and roots whose paths lead to another directory, for as
    /// long as it is polled. Without open files it waits without a timer.
    ///
    /// If dropped, files stay open until the cache evicts them.
    pub fn sweep(&self) -> impl Future<Output = ()> + 'static {
        sweep::sweep(Rc::clone(&self.shared), self.all.clone())
    }

    /// The state of the cache at this moment.
    pub fn cache_stats(&self) -> CacheStats {
        self.shared.cache.borrow().stats()
    }

    /// Memory is short: gives half of what is cached back, and caches no more than the rest until
    /// [`Sites::regrow`]. Returns whether there was anything to give back.
    pub fn give_back(&self) -> bool {
        self.shared.long.set_closed(true);
        let had_listings = self.shared.directory_reader.forget(|_| true);
        self.shared.cache.borrow_mut().shrink() || had_listings
    }

    /// Memory is not short any more: the caches may grow by an eighth of what they may take.
    /// Returns whether they may take all of it.
    pub fn regrow(&self) -> bool {
        self.shared.long.set_closed(false);
        self.shared.cache.borrow_mut().grow()
    }

    /// The site for the value of Host: the one with this name, else the one with the longest
    /// matching wildcard, else the default. `None`: a request without Host.
    ///
    /// Does not allocate for a name in lower case.
    pub fn of(&self, host: Option<&str>) -> &Rc<Site> {
        &self.all[self.number_of(host)]
    }

    fn number_of(&self, host: Option<&str>) -> usize {
        match host.filter(|_| self.all.len() > 1) {
            Some(host) => self.names.find(&site_name(host)),
            None => self.names.default_site(),
        }
    }
}

fn shared(cache: CacheConfig, stalls: &Arc<Stalls>) -> Rc<Shared> {
    let timer = Rc::new(CoarseTimer::default());
    Rc::new(Shared {
        cache: RefCell::new(Cache::new(&cache)),
        hasher: Hasher::default(),
        numbers: RootNumbers::default(),
        directory_reader: DirectoryReader::new(cache.times(), &timer),
        decoders: Decoders::new(cache.lookup),
        workers: Shares::new(2 * cache.workers),
        timer,
        stalls: Arc::clone(stalls),
        long: LongMemory::new(cache.hot_bytes),
        config: cache,
    })
}
