//! Selects the site for a Host.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tidegate_config as config;
use tidegate_http::site_name;
use tidegate_uring::{Ring, Shares};

use crate::cache::{Cache, CacheStats, Hasher};
use crate::coarse_timer::CoarseTimer;
use crate::config::CacheConfig;
use crate::decompress::Decoders;
use crate::error::RootError;
use crate::listing::DirectoryReader;
use crate::shared::{RootNumbers, Shared};
use crate::site::Site;
use crate::stalls::Stalls;
use crate::sweep;

/// The sites of one core, with their shared cache.
pub struct Sites {
    all: Vec<Rc<Site>>,
    exact: HashMap<String, usize>,
    /// Suffixes with their dot, the longest first.
    wildcards: Vec<(String, usize)>,
    default: usize,
    shared: Rc<Shared>,
}

impl Sites {
    /// Opens the roots; blocking. Called once for each core, at the start. Stalled lookups are
    /// counted in `stalls`.
    ///
    /// The default site, for hosts that no name matches, is the one without names, or else the
    /// first.
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
        assert!(!sites.is_empty(), "at least one site");
        let timer = Rc::new(CoarseTimer::default());
        let shared = Rc::new(Shared {
            cache: RefCell::new(Cache::new(&cache)),
            hasher: Hasher::default(),
            numbers: RootNumbers::default(),
            directory_reader: DirectoryReader::new(cache.times(), &timer),
            decoders: Decoders::new(cache.lookup),
            workers: Shares::new(2 * cache.workers),
            timer,
            stalls: Arc::clone(stalls),
            config: cache,
        });
        let (exact, wildcards) = names(sites);
        Ok(Self {
            default: sites
                .iter()
                .position(|site| site.names.is_empty())
                .unwrap_or(0),
            exact,
            wildcards,
            shared: Rc::clone(&shared),
            all: sites
                .iter()
                .enumerate()
                .map(|(number, config)| Ok(Rc::new(Site::open(number, config, &shared, ring)?)))
                .collect::<Result<_, RootError>>()?,
        })
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

    /// The site for the value of Host: the one with this name, else the one with the longest
    /// matching wildcard, else the default. `None`: a request without Host.
    ///
    /// Does not allocate for a name in lower case.
    pub fn of(&self, host: Option<&str>) -> &Rc<Site> {
        &self.all[self.number_of(host)]
    }

    fn number_of(&self, host: Option<&str>) -> usize {
        let Some(host) = host.filter(|_| self.all.len() > 1) else {
            return self.default;
        };
        let name = site_name(host);
        let wildcard = || {
            let mut wildcards = self.wildcards.iter();
            wildcards.find(|(suffix, _)| name.len() > suffix.len() && name.ends_with(suffix))
        };
        self.exact
            .get(&*name)
            .or_else(|| wildcard().map(|(_, number)| number))
            .copied()
            .unwrap_or(self.default)
    }
}

/// The exact names, and the wildcard suffixes, with the indices of their sites.
fn names(sites: &[config::Site]) -> (HashMap<String, usize>, Vec<(String, usize)>) {
    let (mut exact, mut wildcards) = (HashMap::new(), Vec::new());
    for (number, site) in sites.iter().enumerate() {
        for name in &site.names {
            match name.strip_prefix('*') {
                Some(suffix) => wildcards.push((suffix.to_owned(), number)),
                None => {
                    exact.entry(name.clone()).or_insert(number);
                }
            }
        }
    }
    wildcards.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
    (exact, wildcards)
}
