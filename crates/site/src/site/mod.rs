//! One site: from a path to what is sent for it.

mod freshness;
mod pages;
mod revalidate;

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tidegate_config as config;
use tidegate_http::{Accepted, Cors, EncodedSlash, FieldBlock, Navigation, Status};
use tidegate_origin::Origin;
use tidegate_uring::{Fd, Owner, Ring};

use self::freshness::Freshness;
use crate::cache::resource::{Resource, Unencoded};
use crate::cache::{Cache, Entry, Key, KeyRef, Target};
use crate::decompress::{Compressed, Decompression};
use crate::error::{Error, RootError};
use crate::file::ops::FileOps;
use crate::file::{Content, File};
use crate::listing::{self, Listing, SortOrder};
use crate::lookup::Outcome;
use crate::lookup::object_loader::ObjectRequest;
use crate::lookup::representation::{FALLBACK_VARY, Purpose};
use crate::paths::{is_hidden, last_segment};
use crate::root_dir::{Directory, RootDir};
use crate::roots::{OpenedRoots, Roots};
use crate::rules::access::{self, AddressTable};
use crate::rules::paths::{self as path_rules, RuleMatch};
use crate::rules::{headers, redirects};
use crate::shared::Shared;
use crate::single_flight::SingleFlight;

/// The parts of a request that select what is sent.
#[derive(Clone, Copy, Debug)]
pub struct SiteRequest<'a> {
    /// Decoded as [`Site::encoded_slash`] says, with a leading slash and without dot segments.
    pub path: &'a [u8],
    /// The content codings that the client accepts.
    pub accepted: Accepted,
    /// Whether a browser opens the path as a page.
    pub navigation: Navigation,
    /// Whether a listing is sent as JSON.
    pub wants_json: bool,
    /// The order of a listing.
    pub order: SortOrder,
    /// The query, which may tell objects of an origin apart.
    pub query: Option<&'a str>,
    /// The byte that is probably read first.
    pub first_byte: u64,
}

/// What the cache has for a path.
pub enum Cached {
    /// A file to send.
    File(Rc<File>),
    /// 404: a cached lookup found no file.
    NotFound {
        /// The error page.
        page: Option<Rc<File>>,
    },
    /// Ask [`Site::match_rules`], then [`Site::find`].
    Miss,
}

/// What a path leads to.
pub enum Found {
    /// A file to send.
    File(Rc<File>),
    /// The SPA fallback, to be sent with 200: scripts of the site render the path.
    Fallback(Rc<File>),
    /// A variant that [`Site::decompress`] decompresses, if the response has a body.
    Compressed(Rc<Compressed>),
    /// A variant that is being decompressed.
    Decompression(Box<Decompression>),
    /// A directory whose path lacks its final slash.
    Redirect {
        /// 301.
        status: Status,
        /// The path with its slash, encoded, without a query.
        location: String,
    },
    /// The origin of the site sends clients to another place.
    Elsewhere {
        /// A redirection.
        status: Status,
        /// The value of Location.
        location: Arc<str>,
    },
    /// A directory to list.
    Listing {
        /// The listing.
        listing: Listing,
        /// The path of the directory, with its final slash: that of an item of `try-files`, or the
        /// requested one.
        directory: Vec<u8>,
    },
    /// An error.
    Refused {
        /// The status of the response.
        status: Status,
        /// The error page.
        page: Option<Rc<File>>,
        /// The cause.
        error: Error,
    },
}

/// One site of one core.
pub struct Site {
    number: Cell<usize>,
    /// A copy for this core: the cores would contend for the cache pool of a shared regular
    /// expression, while a clone has its own.
    config: Arc<config::Site>,
    /// One for each of its access rules.
    addresses: Arc<[AddressTable]>,
    cors: Cors,
    roots: Roots,
    origin: Option<SiteOrigin>,
    flights: Rc<SingleFlight<Key, Outcome>>,
    shared: Rc<Shared>,
}

/// A site whose directories are open, on its way to a core.
pub(crate) struct OpenedSite {
    /// A copy for this core: see [`Site`].
    pub(crate) config: Arc<config::Site>,
    addresses: Arc<[AddressTable]>,
    roots: OpenedRoots,
    pub(crate) origin: Option<Arc<Origin>>,
}

impl OpenedSite {
    /// Opens the directories. Blocking.
    pub(crate) fn open(config: &config::Site) -> Result<Self, RootError> {
        Ok(Self {
            roots: OpenedRoots::open(config)?,
            config: Arc::new(config.clone()),
            addresses: config.access.iter().map(AddressTable::new).collect(),
            origin: None,
        })
    }

    /// The same for another core.
    pub(crate) fn try_clone(&self) -> Result<Self, RootError> {
        Ok(Self {
            addresses: Arc::clone(&self.addresses),
            roots: self.roots.try_clone()?,
            config: Arc::new((*self.config).clone()),
            origin: self.origin.clone(),
        })
    }
}

impl Site {
    /// Serves an open site. `base` is `/`.
    pub(crate) fn new(
        number: usize,
        opened: OpenedSite,
        shared: &Rc<Shared>,
        ring: &Ring,
        base: &Fd,
    ) -> Self {
        let config = opened.config;
        let roots = Roots::new(opened.roots, &config, shared, ring, base);
        let origin = opened
            .origin
            .map(|origin| SiteOrigin::new(origin, shared, ring));
        let mut times = shared.config.times();
        if let Some(origin) = &origin {
            times.lookup = times.lookup.max(origin.origin.patience());
        }
        Self {
            number: Cell::new(number),
            addresses: opened.addresses,
            cors: Cors::new(config.cors.origins.clone(), config.cors.max_age.as_secs()),
            roots,
            origin,
            flights: SingleFlight::new(times, &shared.timer),
            shared: Rc::clone(shared),
            config,
        }
    }

    pub(crate) fn config(&self) -> &config::Site {
        &self.config
    }

    /// Its index in the list of sites.
    pub fn number(&self) -> usize {
        self.number.get()
    }

    /// Serves on as number `number` of the next configuration, which has the same section. Its
    /// roots are due for a check.
    pub(crate) fn carry_over(&self, number: usize, now: Instant) {
        self.number.set(number);
        self.roots.expire(now);
    }

    /// The numbers in the cache keys of its paths.
    pub(crate) fn root_numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.roots.numbers()
    }

    /// Which other origins may read it.
    pub fn cors(&self) -> &Cors {
        &self.cors
    }

    /// Whether rules restrict some paths: [`Site::admits`], [`Site::auth_rules`].
    pub fn is_restricted(&self) -> bool {
        self.config.is_restricted()
    }

    /// Whether its access rules let a client have `path`: as requested, and each of
    /// [`File::other_paths`] of the file that is sent. `client` is called only if a rule is for
    /// it, and returns `None` for a client without an address.
    pub fn admits(&self, path: &[u8], client: impl Fn() -> Option<IpAddr>) -> bool {
        let rules = || self.config.access.iter().zip(&*self.addresses);
        access::names(path).all(|name| {
            let for_it = rules().filter(|(rule, _)| rule.paths.contain(name));
            access::admits(for_it.map(|(_, table)| table), &client)
        })
    }

    /// The numbers of the rules whose passwords `path` demands: the first rule for each of its
    /// names. A number may be there twice.
    pub fn auth_rules(&self, path: &[u8]) -> impl Iterator<Item = usize> {
        access::names(path).filter_map(|name| {
            let mut rules = self.config.auth.iter();
            rules.position(|rule| rule.paths.contain(name))
        })
    }

    /// The numbers of the rules whose signatures `path` demands, as [`Site::auth_rules`].
    pub fn signed_rules(&self, path: &[u8]) -> impl Iterator<Item = usize> {
        access::names(path).filter_map(|name| {
            let mut rules = self.config.signed.iter();
            rules.position(|rule| rule.paths.contain(name))
        })
    }

    /// The rate of bodies for `path`, in bytes in a second; `None` without a limit.
    pub fn pace(&self, path: &[u8]) -> Option<u64> {
        let mut rules = self.config.pace.iter();
        Some(rules.find(|rule| rule.paths.contain(path))?.rate)
    }

    /// The realm of a rule.
    pub fn realm(&self, rule: usize) -> &str {
        &self.config.auth[rule].realm
    }

    /// How an encoded slash in a path is decoded.
    pub fn encoded_slash(&self) -> EncodedSlash {
        self.config.encoded_slash
    }

    /// What the cache has for `path`, without syscalls and allocations. `navigation` is called only
    /// where it decides.
    ///
    /// Paths that [`Site::match_rules`] answers are never cached.
    pub fn cached(
        &self,
        path: &[u8],
        query: Option<&str>,
        accepted: Accepted,
        navigation: impl FnOnce() -> Navigation,
        now: Instant,
    ) -> Cached {
        if let Some(origin) = &self.origin
            && origin.is_purged()
        {
            self.shared.cache.borrow().expire(now);
            self.flights.expire(now);
        }
        let root = self.roots.fresh_number(path, now);
        if root == 0 {
            return Cached::Miss;
        }
        let name = self.name(path, query);
        let cache = self.shared.cache.borrow();
        let Some(entry) = get_fresh(&cache, self.key(root, Purpose::Itself, &name), now) else {
            return Cached::Miss;
        };
        match &entry.target {
            Target::Resource(resource) => match resource.choose(accepted) {
                Some(file) if self.deserves_memory(file, now) => {
                    // Its next lookup is due.
                    entry.fresh_until.set(now);
                    Cached::Miss
                }
                Some(file) => Cached::File(Rc::clone(file)),
                None => Cached::Miss,
            },
            Target::NotFound if !self.falls_back(path, navigation) => {
                self.cached_not_found(&cache, accepted, now)
            }
            Target::MissingSlash | Target::NotFound => Cached::Miss,
        }
    }

    /// Counts a request for `file`. Returns whether it is to be read into memory: it is not there
    /// yet, is no longer than such files may be, is popular, and there is room.
    fn deserves_memory(&self, file: &File, now: Instant) -> bool {
        matches!(file.content, Content::File(_))
            && file.len <= self.shared.config.popular_max() as u64
            && file.popularity.count(now)
            && self.shared.long.has_room()
    }

    /// The answer of the first rule for `path`, whether a file exists or not. A redirect gets
    /// `query` unless its rule has one.
    pub fn match_rules(&self, path: &[u8], query: Option<&str>) -> Option<RuleMatch<'_>> {
        path_rules::first_match(&self.config, path, query)
    }

    /// Finds what a path leads to that no rule answers ([`Site::match_rules`]).
    ///
    /// Dropped: the lookup is cancelled, and nothing is cached.
    pub async fn find(self: &Rc<Self>, request: &SiteRequest<'_>, now: Instant) -> Found {
        let freshness = Freshness::new(now);
        let found = match self.locate(request, &freshness).await {
            Ok(found) => found,
            Err(error) => self.refused(request, error, &freshness).await,
        };
        if freshness.used_stale() {
            self.shared.stalls.stale.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    async fn refused(
        self: &Rc<Self>,
        request: &SiteRequest<'_>,
        error: Error,
        freshness: &Freshness,
    ) -> Found {
        let (status, accepted) = (error.status(), request.accepted);
        let stalled = matches!(error, Error::Stalled);
        if stalled {
            self.shared.stalls.refused.fetch_add(1, Ordering::Relaxed);
        }
        let page = match self.error_page_path(status) {
            None => None,
            Some(path) if stalled => self.page_from_cache(path, accepted),
            Some(path) => self.page(path, accepted, freshness).await,
        };
        Found::Refused {
            status,
            page,
            error,
        }
    }

    /// Starts to decompress the file of [`Found::Compressed`] for a client that accepts `accepted`.
    ///
    /// Dropped: the decompression is cancelled.
    pub async fn decompress(
        self: &Rc<Self>,
        compressed: &Rc<Compressed>,
        accepted: Accepted,
    ) -> Found {
        match self.shared.decoders.start(compressed).await {
            Ok(decompression) => Found::Decompression(Box::new(decompression)),
            Err(error) => {
                let status = error.status();
                Found::Refused {
                    status,
                    page: self.error_page(status, accepted, Instant::now()).await,
                    error,
                }
            }
        }
    }

    /// The fields that rules set on a response for `path` that is none of its files: an error
    /// with or without a page, a redirect, a listing, the methods that are allowed. Rules for
    /// caching are meant for files: redirects and listings keep them only without `immutable`.
    pub fn fields_for(&self, path: &[u8], status: Status) -> FieldBlock {
        let mut fields = headers::apply(&self.config.headers, path).block(status);
        let depends = matches!(status, Status::NOT_FOUND | Status::NOT_ACCEPTABLE);
        if depends && self.config.spa_fallback.is_some() {
            fields.push("Vary", FALLBACK_VARY);
        }
        if status == Status::NOT_ACCEPTABLE {
            fields.push("Vary", "Accept-Encoding");
        }
        fields
    }

    /// Revalidates all roots, fresh or not. A root whose path leads elsewhere is closed.
    pub(crate) async fn revalidate_roots(&self, now: Instant) {
        self.roots.revalidate_all(now).await;
    }

    async fn locate(
        self: &Rc<Self>,
        request: &SiteRequest<'_>,
        freshness: &Freshness,
    ) -> Result<Found, Error> {
        if is_hidden(self.roots.below(request.path), &self.config.hidden_files) {
            return self.fall_back(request, freshness).await;
        }
        let root = match self.root(request.path, freshness).await {
            Ok(root) => Some(root),
            // try-files and the fallback may name files in another root.
            Err(Error::NotFound) => None,
            Err(error) => return Err(error),
        };
        let object = self.object_request(request);
        let outcome = self.outcome(
            root.as_ref(),
            Purpose::Itself,
            request.path,
            object,
            freshness,
        );
        match outcome.await? {
            Outcome::Target(Target::Resource(resource)) => {
                negotiate(&resource, request.accepted, Found::File)
            }
            Outcome::Target(Target::MissingSlash) => Ok(Found::Redirect {
                status: Status::MOVED_PERMANENTLY,
                location: redirects::with_slash(request.path),
            }),
            Outcome::Target(Target::NotFound) => self.fall_back(request, freshness).await,
            Outcome::Directory(directory) => self.list(&directory, request, freshness.now).await,
            Outcome::Elsewhere(status, location) => Ok(Found::Elsewhere { status, location }),
        }
    }

    /// The root that `path` lies in.
    async fn root(&self, path: &[u8], freshness: &Freshness) -> Result<RootDir, Error> {
        let root = self.roots.look(path, freshness.now).await;
        root.map(|root| freshness.take(root))
    }

    async fn fall_back(
        self: &Rc<Self>,
        request: &SiteRequest<'_>,
        freshness: &Freshness,
    ) -> Result<Found, Error> {
        let path = match &self.config.spa_fallback {
            Some(path) if self.falls_back(request.path, || request.navigation) => path,
            _ => return Err(Error::NotFound),
        };
        let root = self.root_or_origin(path.as_bytes(), freshness).await?;
        let resource = self.own_file(root.as_ref(), Purpose::Fallback, path, freshness);
        let resource = resource.await?.ok_or(Error::NotFound)?;
        negotiate(&resource, request.accepted, Found::Fallback)
    }

    /// Whether the SPA fallback answers a `path` without a file. Fetch metadata decides; without it
    /// a missing script or image must stay missing, so the name decides.
    fn falls_back(&self, path: &[u8], navigation: impl FnOnce() -> Navigation) -> bool {
        self.config.spa_fallback.is_some()
            && match navigation() {
                Navigation::Told => true,
                Navigation::TakesHtml => is_page_name(last_segment(path)),
                Navigation::TakesAnything => !last_segment(path).contains(&b'.'),
                Navigation::No => false,
            }
    }

    async fn list(
        &self,
        directory: &Directory,
        request: &SiteRequest<'_>,
        now: Instant,
    ) -> Result<Found, Error> {
        let config = listing::Config {
            site: Arc::clone(&self.config),
            entries_max: listing::entries::ENTRIES_MAX,
        };
        let (number, name) = (directory.root.number, directory.name.as_bytes());
        let key = self.shared.hasher.key(number, listing::KEY_KIND, name);
        let reader = &self.shared.directory_reader;
        let entries = reader.read(key.to_key(), directory, &config, now).await?;
        let format = listing::Format::of(request.wants_json);
        Ok(Found::Listing {
            listing: Listing::new(request.path, entries, format, request.order),
            directory: directory.path.clone(),
        })
    }

    /// A file that the configuration names: the SPA fallback or an error page.
    async fn own_file(
        self: &Rc<Self>,
        root: Option<&RootDir>,
        purpose: Purpose,
        path: &str,
        freshness: &Freshness,
    ) -> Result<Option<Rc<Resource>>, Error> {
        let none = ObjectRequest::default();
        let outcome = self.outcome(root, purpose, path.as_bytes(), none, freshness);
        match outcome.await? {
            Outcome::Target(Target::Resource(resource)) => Ok(Some(resource)),
            Outcome::Target(Target::MissingSlash | Target::NotFound)
            | Outcome::Directory(_)
            | Outcome::Elsewhere(..) => Ok(None),
        }
    }

    /// The root that `path` lies in. `None`: there is none, but the origin may have the file.
    async fn root_or_origin(
        &self,
        path: &[u8],
        freshness: &Freshness,
    ) -> Result<Option<RootDir>, Error> {
        match self.root(path, freshness).await {
            Err(Error::NotFound) if self.origin.is_some() => Ok(None),
            root => root.map(Some),
        }
    }

    /// What the origin, if there is one, has to know of a request.
    fn object_request(&self, request: &SiteRequest<'_>) -> ObjectRequest {
        if self.origin.is_none() {
            return ObjectRequest::default();
        }
        ObjectRequest {
            query: request.query.map(Into::into),
            first_byte: request.first_byte,
        }
    }

    /// What a path and a query are called in the cache.
    fn name<'a>(&self, path: &'a [u8], query: Option<&str>) -> Name<'a> {
        let origin = self.origin.as_ref().filter(|_| query.is_some());
        Name::new(
            path,
            origin.and_then(|origin| origin.origin.key_query(query)),
        )
    }

    fn key<'a>(&self, root: u32, purpose: Purpose, name: &'a Name<'_>) -> KeyRef<'a> {
        let (kind, bytes) = name.parts();
        self.shared.hasher.key(root, purpose as u32 | kind, bytes)
    }
}

/// The origin of a site, as one core uses it.
struct SiteOrigin {
    origin: Arc<Origin>,
    ops: FileOps,
    /// Of the cache, when this core looked last.
    generation: Cell<u64>,
}

impl SiteOrigin {
    fn new(origin: Arc<Origin>, shared: &Rc<Shared>, ring: &Ring) -> Self {
        shared.numbers.set(shared.numbers.get() + 1);
        let owner = Owner {
            device: 0,
            user: shared.numbers.get(),
        };
        Self {
            generation: Cell::new(origin.cache().generation()),
            ops: FileOps::new(ring, &shared.workers, owner),
            origin,
        }
    }

    /// Whether anything was purged since the last call.
    fn is_purged(&self) -> bool {
        let generation = self.origin.cache().generation();
        self.generation.replace(generation) != generation
    }
}

/// Tells the names with a query from paths, which may have any byte.
const QUERY_KIND: u32 = 4;

/// A name in the cache of a core.
enum Name<'a> {
    Path(&'a [u8]),
    /// The length of the query, the query and the path.
    WithQuery(Vec<u8>),
}

impl<'a> Name<'a> {
    fn new(path: &'a [u8], query: Option<String>) -> Self {
        match query {
            None => Self::Path(path),
            Some(query) => {
                let len = (query.len() as u32).to_le_bytes();
                Self::WithQuery([&len, query.as_bytes(), path].concat())
            }
        }
    }

    /// Its kind and its bytes.
    fn parts(&self) -> (u32, &[u8]) {
        match self {
            Self::Path(path) => (0, path),
            Self::WithQuery(bytes) => (QUERY_KIND, bytes),
        }
    }
}

/// The representation for a client that accepts `accepted`. `found` wraps a file.
fn negotiate(
    resource: &Resource,
    accepted: Accepted,
    found: fn(Rc<File>) -> Found,
) -> Result<Found, Error> {
    match (resource.choose(accepted), &resource.unencoded) {
        (Some(file), _) => Ok(found(Rc::clone(file))),
        (None, Unencoded::Compressed(compressed)) => Ok(Found::Compressed(Rc::clone(compressed))),
        (None, Unencoded::File(_) | Unencoded::NotAvailable) => Err(Error::NotAcceptable),
    }
}

/// A cached entry that needs no revalidation at `now`.
fn get_fresh<'a>(cache: &'a Cache, key: KeyRef<'_>, now: Instant) -> Option<&'a Entry> {
    let entry = cache.get(key)?;
    entry.last_used.set(now);
    (now < entry.fresh_until.get()).then_some(entry)
}

/// A name without an extension, or with that of a page.
fn is_page_name(name: &[u8]) -> bool {
    match name.rsplit(|byte| *byte == b'.').next() {
        Some(extension) if extension.len() < name.len() => extension.eq_ignore_ascii_case(b"html"),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_pages_fall_back() {
        let table: [(&[u8], bool); 8] = [
            (b"", true),
            (b"users", true),
            (b"page.html", true),
            (b"page.HTML", true),
            (b"app.js", false),
            (b"v1.2", false),
            (b"a.html.map", false),
            (b"a.", false),
        ];
        for (name, expected) in table {
            assert_eq!(is_page_name(name), expected, "{}", name.escape_ascii());
        }
    }
}
