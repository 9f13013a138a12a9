//! One site: what its paths lead to, from what is known or from the disk.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tidegate_config::{self as config, Respond};
use tidegate_http::{Accepted, Cors, EncodedSlash, FieldBlock, Navigation, Status};
use tidegate_uring::Ring;

use crate::cache::resource::{Resource, Unencoded};
use crate::cache::{Cache, Entry, Key, KeyRef, Target};
use crate::decompress::{Compressed, Decompression};
use crate::error::{Error, RootError};
use crate::file::File;
use crate::listing::{self, Listing, SortOrder};
use crate::lookup::representation::{FALLBACK_VARY, Purpose};
use crate::lookup::{Lookup, Outcome};
use crate::paths::{is_hidden, last_segment};
use crate::root_dir::{Directory, RootDir};
use crate::roots::Roots;
use crate::rules::paths::{self as path_rules, Ruling};
use crate::rules::{headers, redirects};
use crate::shared::Shared;
use crate::single_flight::{FlightFuture, MaybeStale, SingleFlight};

/// What a request wants, as far as it decides what a path leads to.
#[derive(Clone, Copy, Debug)]
pub struct SiteRequest<'a> {
    /// Decoded as [`Site::encoded_slash`] says: it begins with a slash and has no dot segments.
    pub path: &'a [u8],
    /// The content codings that may be sent.
    pub accepted: Accepted,
    /// Whether it is opened as a page.
    pub navigation: Navigation,
    /// Whether a listing is wanted as JSON.
    pub wants_json: bool,
    /// How a listing is sorted.
    pub order: SortOrder,
}

/// What is known of a path, without waiting.
pub enum Cached {
    /// A file to send.
    File(Rc<File>),
    /// Nothing is there: 404.
    NotFound {
        /// The error page.
        page: Option<Rc<File>>,
    },
    /// Ask [`Site::ruling`], then [`Site::find`].
    Miss,
}

/// What a path leads to.
pub enum Found {
    /// A file to send.
    File(Rc<File>),
    /// The file that the site's own scripts make of this path what it is: to be sent with 200.
    Fallback(Rc<File>),
    /// A file to be decompressed, if its bytes are wanted ([`Site::decompress`]).
    Compressed(Rc<Compressed>),
    /// A file that is being decompressed, to be sent as it comes.
    Decompression(Box<Decompression>),
    /// A directory, by a path without its final slash.
    Redirect {
        /// 301.
        status: Status,
        /// The path with its slash, encoded; without a query.
        location: String,
    },
    /// A directory to list.
    Listing(Listing),
    /// Nothing to send.
    Refused {
        /// What to say.
        status: Status,
        /// The error page.
        page: Option<Rc<File>>,
        /// Why.
        error: Error,
    },
}

/// A request, as it is looked up.
struct Request {
    now: Instant,
    /// It is answered with what was known before.
    is_stale: Cell<bool>,
}

impl Request {
    fn new(now: Instant) -> Self {
        Self {
            now,
            is_stale: Cell::new(false),
        }
    }

    fn take<T>(&self, seen: MaybeStale<T>) -> T {
        match seen {
            MaybeStale::Fresh(known) => known,
            MaybeStale::Stale(known) => {
                self.is_stale.set(true);
                known
            }
        }
    }
}

/// One site, as one core serves it.
pub struct Site {
    number: usize,
    /// A copy for this core: a clone of a regular expression has its own pool of caches, whose lock
    /// the cores would contend for otherwise.
    config: Arc<config::Site>,
    cors: Cors,
    roots: Roots,
    looks: Rc<SingleFlight<Key, Answer>>,
    shared: Rc<Shared>,
}

/// What a lookup yields, whoever asks.
#[derive(Clone)]
pub(crate) enum Answer {
    Target(Target),
    Directory(Directory),
}

impl Site {
    pub(crate) fn open(
        number: usize,
        config: &config::Site,
        shared: &Rc<Shared>,
        ring: &Ring,
    ) -> Result<Self, RootError> {
        let cors = &config.cors;
        Ok(Self {
            number,
            config: Arc::new(config.clone()),
            cors: Cors::new(cors.origins.clone(), cors.max_age.as_secs()),
            roots: Roots::open(config, shared, ring)?,
            looks: SingleFlight::new(shared.config.times(), &shared.watch),
            shared: Rc::clone(shared),
        })
    }

    /// Its place among the sites that were opened.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Which other origins may read it.
    pub fn cors(&self) -> &Cors {
        &self.cors
    }

    /// What an encoded slash in a path of this site is.
    pub fn encoded_slash(&self) -> EncodedSlash {
        self.config.encoded_slash
    }

    /// What `path` is known to lead to; `navigation` is asked only where it matters. Free of syscalls and allocation.
    ///
    /// A path that [`Site::ruling`] answers is never known here.
    pub fn cached(
        &self,
        path: &[u8],
        accepted: Accepted,
        navigation: impl FnOnce() -> Navigation,
        now: Instant,
    ) -> Cached {
        let root = self.roots.trusted(path, now);
        if root == 0 {
            return Cached::Miss;
        }
        let cache = self.shared.cache.borrow();
        match trusted(&cache, self.name(root, Purpose::Itself, path), now) {
            Some(Target::Resource(resource)) => match resource.choose(accepted) {
                Some(file) => Cached::File(Rc::clone(file)),
                None => Cached::Miss,
            },
            Some(Target::NotFound) if !self.falls_back(path, navigation) => {
                self.cached_page(&cache, accepted, now)
            }
            Some(Target::MissingSlash | Target::NotFound) | None => Cached::Miss,
        }
    }

    /// What the site's rules say of `path`, whatever is there; a redirect has the `query`, unless
    /// its rule has one of its own.
    pub fn ruling(&self, path: &[u8], query: Option<&str>) -> Option<Ruling<'_>> {
        path_rules::rule(&self.config, path, query)
    }

    /// What a path leads to that [`Site::ruling`] says nothing of.
    ///
    /// Dropped: the lookup is cancelled, and nothing of it stays.
    pub async fn find(self: &Rc<Self>, wanted: &SiteRequest<'_>, now: Instant) -> Found {
        let request = Request::new(now);
        let found = match self.locate(wanted, &request).await {
            Ok(found) => found,
            Err(error) => self.refused(wanted, error, &request).await,
        };
        if request.is_stale.get() {
            self.shared.stalls.stale.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    async fn refused(
        self: &Rc<Self>,
        wanted: &SiteRequest<'_>,
        error: Error,
        request: &Request,
    ) -> Found {
        let (status, accepted) = (error.status(), wanted.accepted);
        let stalled = matches!(error, Error::Stalled);
        if stalled {
            self.shared.stalls.refused.fetch_add(1, Ordering::Relaxed);
        }
        let page = match self.error_page_path(status) {
            None => None,
            Some(path) if stalled => self.page_at_hand(path, accepted),
            Some(path) => self.page(path, accepted, request).await,
        };
        Found::Refused {
            status,
            page,
            error,
        }
    }

    /// Begins to decompress a file that [`Site::find`] found for a client that takes `accepted`.
    ///
    /// Dropped: so is what was decompressed.
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

    /// Whether the site names a page for a status: ask [`Site::error_page`] for it.
    pub fn names_error_page(&self, status: Status) -> bool {
        self.error_page_path(status).is_some()
    }

    fn error_page_path(&self, status: Status) -> Option<&str> {
        let path = self.config.error_pages.get(&status)?;
        Some(path)
    }

    /// The site's page for a status, if it has one.
    ///
    /// Dropped: the lookup is cancelled, and nothing of it stays.
    pub async fn error_page(
        self: &Rc<Self>,
        status: Status,
        accepted: Accepted,
        now: Instant,
    ) -> Option<Rc<File>> {
        let path = self.error_page_path(status)?;
        self.page(path, accepted, &Request::new(now)).await
    }

    /// The page for what a rule responds, if any: its own, or that of the site for the status.
    ///
    /// Dropped: the lookup is cancelled, and nothing of it stays.
    pub async fn respond_page(
        self: &Rc<Self>,
        respond: &Respond,
        accepted: Accepted,
        now: Instant,
    ) -> Option<Rc<File>> {
        let own = respond.page.as_deref();
        let path = own.or_else(|| self.error_page_path(respond.status))?;
        self.page(path, accepted, &Request::new(now)).await
    }

    /// The page as it was looked up last, without asking a file system that does not answer.
    fn page_at_hand(&self, path: &str, accepted: Accepted) -> Option<Rc<File>> {
        let root = self.roots.of(path.as_bytes())?.number();
        let cache = self.shared.cache.borrow();
        let entry = cache.get(self.name(root, Purpose::ErrorPage, path.as_bytes()))?;
        match &entry.known {
            Target::Resource(resource) => resource.choose(accepted).cloned(),
            Target::MissingSlash | Target::NotFound => None,
        }
    }

    /// The page; in the root as it was last seen, if that could not be looked at.
    async fn page(
        self: &Rc<Self>,
        path: &str,
        accepted: Accepted,
        request: &Request,
    ) -> Option<Rc<File>> {
        let tree = match self.tree(path.as_bytes(), request).await {
            Err(Error::Stalled) => return self.page_at_hand(path, accepted),
            Err(_) => self.roots.of(path.as_bytes())?.current().ok()?,
            Ok(tree) => tree,
        };
        let resource = self
            .internal(&tree, Purpose::ErrorPage, path, request)
            .await
            .ok()??;
        // One that is large and there compressed only is not worth it.
        resource.choose(accepted).cloned()
    }

    /// The fields that the site's rules set on an answer to `path` that comes with none of
    /// its files: errors (with or without a page), redirects, listings, what may be asked of it.
    /// What the rules say of caching is for files; redirects and listings keep what of it is not for
    /// ever.
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

    async fn locate(
        self: &Rc<Self>,
        wanted: &SiteRequest<'_>,
        request: &Request,
    ) -> Result<Found, Error> {
        if is_hidden(self.roots.below(wanted.path), &self.config.hidden_files) {
            return self.fall_back(wanted, request).await;
        }
        let tree = match self.tree(wanted.path, request).await {
            Ok(tree) => Some(tree),
            // What try-files and the fallback name may lie in another root.
            Err(Error::NotFound) => None,
            Err(error) => return Err(error),
        };
        let known = self.known(tree.as_ref(), Purpose::Itself, wanted.path, request);
        match known.await? {
            Answer::Target(Target::Resource(resource)) => {
                chosen(&resource, wanted.accepted, Found::File)
            }
            Answer::Target(Target::MissingSlash) => Ok(Found::Redirect {
                status: Status::MOVED_PERMANENTLY,
                location: redirects::with_slash(wanted.path),
            }),
            Answer::Target(Target::NotFound) => self.fall_back(wanted, request).await,
            Answer::Directory(directory) => self.list(&directory, wanted, request.now).await,
        }
    }

    /// Looks at the roots, trusted or not, and lets go of those that are it no more.
    pub(crate) async fn revalidate_roots(&self, now: Instant) {
        self.roots.revalidate_all(now).await;
    }

    /// The root that `path` lies in.
    async fn tree(&self, path: &[u8], request: &Request) -> Result<RootDir, Error> {
        let looked = self.roots.look(path, request.now).await;
        looked.map(|seen| request.take(seen))
    }

    async fn fall_back(
        self: &Rc<Self>,
        wanted: &SiteRequest<'_>,
        request: &Request,
    ) -> Result<Found, Error> {
        let path = match &self.config.spa_fallback {
            Some(path) if self.falls_back(wanted.path, || wanted.navigation) => path,
            _ => return Err(Error::NotFound),
        };
        let tree = self.tree(path.as_bytes(), request).await?;
        let resource = self.internal(&tree, Purpose::Fallback, path, request);
        let resource = resource.await?.ok_or(Error::NotFound)?;
        chosen(&resource, wanted.accepted, Found::Fallback)
    }

    /// Whether `path`, which leads to nothing, is a page that the site's scripts make. What says that
    /// it navigates is believed; else a missing script or image must stay missing, so its name tells.
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
        wanted: &SiteRequest<'_>,
        now: Instant,
    ) -> Result<Found, Error> {
        let config = listing::Config {
            site: Arc::clone(&self.config),
            entries_max: listing::entries::ENTRIES_MAX,
        };
        let kind = listing::KEY_KIND;
        let (tree, name) = (&directory.tree, directory.name.as_bytes());
        let key = self.shared.hasher.key(tree.number, kind, name).to_key();
        let readers = &self.shared.readers;
        let entries = readers.read(key, tree, directory, &config, now).await?;
        let format = listing::Format::of(wanted.wants_json);
        Ok(Found::Listing(Listing::new(
            wanted.path,
            entries,
            format,
            wanted.order,
        )))
    }

    /// A file that the site names itself.
    async fn internal(
        self: &Rc<Self>,
        tree: &RootDir,
        purpose: Purpose,
        path: &str,
        request: &Request,
    ) -> Result<Option<Rc<Resource>>, Error> {
        let known = self.known(Some(tree), purpose, path.as_bytes(), request);
        match known.await? {
            Answer::Target(Target::Resource(resource)) => Ok(Some(resource)),
            Answer::Target(Target::MissingSlash | Target::NotFound) | Answer::Directory(_) => {
                Ok(None)
            }
        }
    }

    /// What is known of a path, looked at again if its time is over: by one request, for which the
    /// others wait. While that does not come back, what was known before.
    async fn known(
        self: &Rc<Self>,
        tree: Option<&RootDir>,
        purpose: Purpose,
        path: &[u8],
        request: &Request,
    ) -> Result<Answer, Error> {
        let name = self.name(self.roots.number(tree), purpose, path);
        let now = request.now;
        let entry = self.shared.cache.borrow().get(name).cloned();
        let stale = match entry {
            Some(entry) if now < entry.fresh_until => return Ok(Answer::Target(entry.known)),
            entry => entry.filter(|entry| now < entry.fresh_until + self.shared.config.stale),
        };
        let before = stale.map(|entry| Answer::Target(entry.known));
        let look = || -> FlightFuture<Answer> {
            let (site, tree, path) = (Rc::clone(self), tree.cloned(), path.to_vec());
            Box::pin(async move { site.look(tree.as_ref(), purpose, &path, now).await })
        };
        let looks = &self.looks;
        let seen = looks.share_or(name.to_key(), now, before, look).await?;
        Ok(request.take(seen))
    }

    /// Looks whether all is as it was seen, and if not, looks the path up.
    async fn look(
        &self,
        tree: Option<&RootDir>,
        purpose: Purpose,
        path: &[u8],
        now: Instant,
    ) -> Result<Answer, Error> {
        tree.map_or(Ok(()), |tree| tree.ops.admit())?;
        let name = self.name(self.roots.number(tree), purpose, path);
        let entry = self.shared.cache.borrow().get(name).cloned();
        if let Some(tree) = tree
            && let Some(Target::Resource(resource)) = entry.map(|entry| entry.known)
            && resource.is_unchanged(tree).await
        {
            let until = now + self.shared.config.valid;
            let cache = &mut self.shared.cache.borrow_mut();
            cache.trust(name, &resource, until);
            return Ok(Answer::Target(Target::Resource(resource)));
        }
        self.look_up(tree, purpose, path, now).await
    }

    /// Looks a path up on the disk, and notes what it leads to.
    async fn look_up(
        &self,
        tree: Option<&RootDir>,
        purpose: Purpose,
        path: &[u8],
        now: Instant,
    ) -> Result<Answer, Error> {
        let mut outcome = self.lookup(tree, purpose, path, now).run().await;
        if let Err(Error::Busy(_)) = outcome {
            self.shared.cache.borrow_mut().close_files();
            outcome = self.lookup(tree, purpose, path, now).run().await;
        }
        let number = self.roots.number(tree);
        let name = self.name(number, purpose, path);
        let (known, fresh_until) = match outcome {
            Ok((Outcome::Resource(resource), until)) => {
                (Target::Resource(Rc::new(resource)), until)
            }
            Ok((Outcome::Slash, until)) => (Target::MissingSlash, until),
            Ok((Outcome::Absent, until)) => (Target::NotFound, until),
            Ok((Outcome::Directory(directory), _)) => {
                self.shared.cache.borrow_mut().remove(name);
                return Ok(Answer::Directory(directory));
            }
            Err(error) => {
                self.shared.cache.borrow_mut().remove(name);
                return Err(error);
            }
        };
        // A root that was replaced meanwhile has been forgotten.
        if self.roots.is_current(number) {
            let entry = Entry {
                known: known.clone(),
                fresh_until,
                used: Cell::new(now),
            };
            self.shared.cache.borrow_mut().insert(name, entry);
        }
        Ok(Answer::Target(known))
    }

    fn lookup<'a>(
        &'a self,
        tree: Option<&'a RootDir>,
        purpose: Purpose,
        path: &'a [u8],
        now: Instant,
    ) -> Lookup<'a> {
        Lookup {
            tree,
            now,
            fresh_until: now + self.shared.config.valid,
            is_within: true,
            roots: &self.roots,
            config: &self.config,
            inline_max: self.shared.config.inline_max,
            purpose,
            path,
            seen: Vec::new(),
            ruled_by: None,
        }
    }

    fn cached_page(&self, cache: &Cache, accepted: Accepted, now: Instant) -> Cached {
        let Some(path) = self.error_page_path(Status::NOT_FOUND) else {
            return Cached::NotFound { page: None };
        };
        let root = self.roots.trusted(path.as_bytes(), now);
        let name = self.name(root, Purpose::ErrorPage, path.as_bytes());
        match trusted(cache, name, now) {
            Some(Target::Resource(resource)) => Cached::NotFound {
                page: resource.choose(accepted).cloned(),
            },
            Some(Target::MissingSlash | Target::NotFound) => Cached::NotFound { page: None },
            None => Cached::Miss,
        }
    }

    fn name<'a>(&self, root: u32, purpose: Purpose, path: &'a [u8]) -> KeyRef<'a> {
        self.shared.hasher.key(root, purpose as u32, path)
    }
}

/// What of `resource` a client gets that takes `accepted`; `found` is what a file is then.
fn chosen(
    resource: &Resource,
    accepted: Accepted,
    found: fn(Rc<File>) -> Found,
) -> Result<Found, Error> {
    match (resource.choose(accepted), &resource.plain) {
        (Some(file), _) => Ok(found(Rc::clone(file))),
        (None, Unencoded::Compressed(compressed)) => Ok(Found::Compressed(Rc::clone(compressed))),
        (None, Unencoded::File(_) | Unencoded::Nothing) => Err(Error::NotAcceptable),
    }
}

fn trusted<'a>(cache: &'a Cache, name: KeyRef<'_>, now: Instant) -> Option<&'a Target> {
    let entry = cache.get(name)?;
    entry.used.set(now);
    (now < entry.fresh_until).then_some(&entry.known)
}

/// A name without an extension, or a page's.
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
