//! Which site a Host means.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tidegate_config as config;
use tidegate_http::site_name;
use tidegate_uring::{Ring, Shares};

use crate::cache::{Cache, Hasher};
use crate::config::CacheConfig;
use crate::decompress::Decoders;
use crate::error::RootError;
use crate::listing::Readers;
use crate::looks::Looks;
use crate::release::Numbers;
use crate::site::{Shared, Site};
use crate::stalls::Stalls;
use crate::sweep;
use crate::watch::Watch;

/// The sites of one core, with what they looked up.
pub struct Sites {
    all: Vec<Rc<Site>>,
    exact: HashMap<String, usize>,
    /// Suffixes with their dot, the longest first.
    wildcards: Vec<(String, usize)>,
    default: usize,
    shared: Rc<Shared>,
}

impl Sites {
    /// Opens the roots, waiting for them. Called once for each core, while starting. What stalls is counted
    /// in `stalls`.
    ///
    /// The site without names is the default for hosts that no name fits, else the first.
    ///
    /// # Panics
    ///
    /// Without a site.
    pub fn open(
        sites: &[config::Site],
        cache: CacheConfig,
        ring: &Ring,
        stalls: &Arc<Stalls>,
    ) -> Result<Self, RootError> {
        assert!(!sites.is_empty(), "at least one site");
        let watch = Rc::new(Watch::default());
        let shared = Rc::new(Shared {
            cache: RefCell::new(Cache::new(&cache)),
            hasher: Hasher::default(),
            numbers: Numbers::default(),
            looks: Looks::new(cache.times(), &watch),
            readers: Readers::new(cache.times(), &watch),
            decoders: Decoders::new(cache.lookup),
            workers: Shares::new(2 * cache.workers),
            watch,
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

    /// Closes files that nobody asks for, and those that were deleted, and lets go of roots whose paths
    /// lead elsewhere, for as long as it is polled. While no file is open it waits without a timer.
    ///
    /// Dropped: they stay open until others take their places.
    pub fn sweep(&self) -> impl Future<Output = ()> + 'static {
        sweep::sweep(Rc::clone(&self.shared), self.all.clone())
    }

    /// The site for the value of Host: the one with this name, else the one with the longest
    /// wildcard that fits, else the default. `None`: a request without Host.
    ///
    /// It allocates nothing for a name in lower case.
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

/// The exact names, and the suffixes.
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
