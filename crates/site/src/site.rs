//! One site: what its paths lead to, from what is known or from the disk.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tidegate_http::{Accepted, Coding, Cors, EncodedSlash, Navigation, Status, write_field};
use tidegate_uring::{Ring, Shares};

use crate::cache::{Cache, Entry, Hasher, Key, Known, Name};
use crate::config::{CacheConfig, Respond, SiteConfig};
use crate::describe::{FALLBACK_VARY, Purpose};
use crate::error::{Error, RootError};
use crate::file::File;
use crate::listing::{self, Listing, Order, Readers};
use crate::looks::{Boxed, Looks, Seen};
use crate::lookup::{Directory, Lookup, Outcome};
use crate::names::{is_hidden, last_segment};
use crate::release::{Numbers, Release, ReleaseConfig};
use crate::resource::Resource;
use crate::root::{Tree, resolve_flags};
use crate::rulings::{self, Ruling};
use crate::stalls::Stalls;
use crate::watch::Watch;
use crate::{redirects, rules};

/// What a request wants, as far as it decides what a path leads to.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Decoded as [`Site::encoded_slash`] says: it begins with a slash and has no dot segments.
    pub path: &'a [u8],
    /// The content codings that may be sent.
    pub accepted: Accepted,
    /// Whether it is opened as a page.
    pub navigation: Navigation,
    /// Whether a listing is wanted as JSON.
    pub wants_json: bool,
    /// How a listing is sorted.
    pub order: Order,
}

/// What is known of a path, without waiting.
pub enum Cached {
    /// A file to send.
    File(Rc<File>),
    /// Nothing is there: 404.
    Absent {
        /// The error page.
        page: Option<Rc<File>>,
    },
    /// Ask [`Site::ruling`], then [`Site::find`].
    Unknown,
}

/// What a path leads to.
pub enum Found {
    /// A file to send.
    File(Rc<File>),
    /// The file that the site's own scripts make of this path what it is: to be sent with 200.
    Fallback(Rc<File>),
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

/// What the sites of one core share.
pub(crate) struct Shared {
    pub(crate) cache: RefCell<Cache>,
    pub(crate) hasher: Hasher,
    pub(crate) looks: Rc<Looks<Key, Answer>>,
    pub(crate) numbers: Numbers,
    pub(crate) readers: Rc<Readers>,
    /// Workers that look-ups may occupy.
    pub(crate) workers: Rc<Shares>,
    pub(crate) watch: Rc<Watch>,
    pub(crate) stalls: Arc<Stalls>,
    pub(crate) config: CacheConfig,
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

    fn take<T>(&self, seen: Seen<T>) -> T {
        match seen {
            Seen::Now(known) => known,
            Seen::Before(known) => {
                self.is_stale.set(true);
                known
            }
        }
    }
}

/// One site, as one core serves it.
pub struct Site {
    number: usize,
    config: SiteConfig,
    release: Rc<Release>,
    /// The number of the root in which all was looked up that is cached; 0: nothing is.
    cached_root: Cell<u32>,
    shared: Rc<Shared>,
}

/// What a lookup yields, whoever asks.
#[derive(Clone)]
pub(crate) enum Answer {
    Known(Known),
    Directory(Directory),
}

impl Site {
    pub(crate) fn open(
        number: usize,
        config: SiteConfig,
        shared: &Rc<Shared>,
        ring: &Ring,
    ) -> Result<Self, RootError> {
        let release = Release::open(
            ring,
            &ReleaseConfig {
                path: &config.root,
                resolve: resolve_flags(config.symlinks),
                user: u32::try_from(number).unwrap_or(u32::MAX),
                shared,
            },
        )?;
        Ok(Self {
            number,
            config,
            cached_root: Cell::new(release.number()),
            release,
            shared: Rc::clone(shared),
        })
    }

    /// Its place among the sites that were opened.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Which other origins may read it.
    pub fn cors(&self) -> &Cors {
        &self.config.cors
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
        let root = self.release.trusted(now);
        if root == 0 {
            return Cached::Unknown;
        }
        let cache = self.shared.cache.borrow();
        match trusted(&cache, self.name(root, Purpose::Itself, path), now) {
            Some(Known::Resource(resource)) => Cached::File(Rc::clone(resource.choose(accepted))),
            Some(Known::Absent) if !self.falls_back(path, navigation) => {
                self.cached_page(&cache, root, accepted, now)
            }
            Some(Known::Slash | Known::Absent) | None => Cached::Unknown,
        }
    }

    /// What the site's rules say of `path`, whatever is there; a redirect has the `query`, unless
    /// its rule has one of its own.
    pub fn ruling(&self, path: &[u8], query: Option<&str>) -> Option<Ruling<'_>> {
        rulings::rule(&self.config.rules, path, query)
    }

    /// What a path leads to that [`Site::ruling`] says nothing of.
    ///
    /// Dropped: the lookup is cancelled, and nothing of it stays.
    pub async fn find(self: &Rc<Self>, wanted: &Wanted<'_>, now: Instant) -> Found {
        let request = Request::new(now);
        let tree = self.tree(&request).await;
        let found = match &tree {
            Ok(tree) => self.locate(tree, wanted, &request).await,
            Err(error) => Err(error.clone()),
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => self.refused(tree, wanted, error, &request).await,
        };
        if request.is_stale.get() {
            self.shared.stalls.stale.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    async fn refused(
        self: &Rc<Self>,
        tree: Result<Tree, Error>,
        wanted: &Wanted<'_>,
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
            Some(path) => self.page(tree, path, accepted, request).await,
        };
        Found::Refused {
            status,
            page,
            error,
        }
    }

    /// Whether the site names a page for a status: ask [`Site::error_page`] for it.
    pub fn names_error_page(&self, status: Status) -> bool {
        self.error_page_path(status).is_some()
    }

    fn error_page_path(&self, status: Status) -> Option<&str> {
        let path = self.config.error_pages.get(&status.code())?;
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
        self.page_named(path, accepted, now).await
    }

    /// The page for what a rule responds, if it has one: its own, or that of the site for the status.
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
        self.page_named(path, accepted, now).await
    }

    async fn page_named(
        self: &Rc<Self>,
        path: &str,
        accepted: Accepted,
        now: Instant,
    ) -> Option<Rc<File>> {
        let request = Request::new(now);
        match self.tree(&request).await {
            Err(Error::Stalled) => self.page_at_hand(path, accepted),
            tree => self.page(tree, path, accepted, &request).await,
        }
    }

    /// The page as it was looked up last, without asking a file system that does not answer.
    fn page_at_hand(&self, path: &str, accepted: Accepted) -> Option<Rc<File>> {
        let root = self.release.number();
        let cache = self.shared.cache.borrow();
        let entry = cache.get(self.name(root, Purpose::ErrorPage, path.as_bytes()))?;
        match &entry.known {
            Known::Resource(resource) => Some(Rc::clone(resource.choose(accepted))),
            Known::Slash | Known::Absent => None,
        }
    }

    /// The page in `tree`; in the root as it was last seen, if it could not be looked at.
    async fn page(
        self: &Rc<Self>,
        tree: Result<Tree, Error>,
        path: &str,
        accepted: Accepted,
        request: &Request,
    ) -> Option<Rc<File>> {
        let tree = tree.or_else(|_| self.release.current()).ok()?;
        let resource = self
            .internal(&tree, Purpose::ErrorPage, path, request)
            .await
            .ok()??;
        Some(Rc::clone(resource.choose(accepted)))
    }

    /// The field lines that the site's rules set on an answer to `path` that comes with none of
    /// its files: errors (with or without a page), redirects, listings, what may be asked of it.
    /// What the rules say of caching is for files; redirects and listings keep what of it is not for
    /// ever.
    pub fn fields_for(&self, path: &[u8], status: Status) -> Vec<u8> {
        let mut lines = rules::apply(&self.config.headers, path).lines(status);
        if status == Status::NOT_FOUND && self.config.spa_fallback.is_some() {
            write_field(&mut lines, "Vary", FALLBACK_VARY);
        }
        lines
    }

    async fn locate(
        self: &Rc<Self>,
        tree: &Tree,
        wanted: &Wanted<'_>,
        request: &Request,
    ) -> Result<Found, Error> {
        if is_hidden(wanted.path, &self.config.hidden_files) {
            return self.fall_back(tree, wanted, request).await;
        }
        let known = self.known(tree, Purpose::Itself, wanted.path, request);
        match known.await? {
            Answer::Known(Known::Resource(resource)) => {
                Ok(Found::File(Rc::clone(resource.choose(wanted.accepted))))
            }
            Answer::Known(Known::Slash) => Ok(Found::Redirect {
                status: Status::MOVED_PERMANENTLY,
                location: redirects::with_slash(wanted.path),
            }),
            Answer::Known(Known::Absent) => self.fall_back(tree, wanted, request).await,
            Answer::Directory(directory) => self.list(tree, &directory, wanted, request.now).await,
        }
    }

    /// Looks at the root, trusted or not, and lets go of one that is it no more. What goes wrong shows
    /// to the next request.
    pub(crate) async fn look_at_root(&self, now: Instant) {
        self.release.distrust(now);
        let _ = self.tree(&Request::new(now)).await;
    }

    /// The root. What was looked up in one that is no longer it is dropped at once.
    async fn tree(&self, request: &Request) -> Result<Tree, Error> {
        let mut looked = self.release.look(request.now).await;
        if let Err(Error::Busy(_)) = looked {
            self.shared.cache.borrow_mut().close_files();
            looked = self.release.look(request.now).await;
        }
        let number = self.release.number();
        let before = self.cached_root.replace(number);
        if before != 0 && before != number {
            self.shared.cache.borrow_mut().forget(before);
            self.shared.readers.forget(before);
        }
        looked.map(|seen| request.take(seen))
    }

    async fn fall_back(
        self: &Rc<Self>,
        tree: &Tree,
        wanted: &Wanted<'_>,
        request: &Request,
    ) -> Result<Found, Error> {
        let path = match &self.config.spa_fallback {
            Some(path) if self.falls_back(wanted.path, || wanted.navigation) => path,
            _ => return Err(Error::NotFound),
        };
        let resource = self.internal(tree, Purpose::Fallback, path, request);
        let resource = resource.await?.ok_or(Error::NotFound)?;
        Ok(Found::Fallback(Rc::clone(resource.choose(wanted.accepted))))
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
        tree: &Tree,
        directory: &Directory,
        wanted: &Wanted<'_>,
        now: Instant,
    ) -> Result<Found, Error> {
        let codings = self.config.precompressed.iter().copied();
        let config = listing::Config {
            hidden_files: self.config.hidden_files.clone(),
            symlinks: self.config.symlinks,
            entries_max: listing::ENTRIES_MAX,
            variant_extensions: codings.map(Coding::extension).collect(),
        };
        let kind = listing::KEY_KIND;
        let name = directory.name.as_bytes();
        let key = self.shared.hasher.name(tree.number, kind, name).to_key();
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
        tree: &Tree,
        purpose: Purpose,
        path: &str,
        request: &Request,
    ) -> Result<Option<Rc<Resource>>, Error> {
        let known = self.known(tree, purpose, path.as_bytes(), request);
        match known.await? {
            Answer::Known(Known::Resource(resource)) => Ok(Some(resource)),
            Answer::Known(Known::Slash | Known::Absent) | Answer::Directory(_) => Ok(None),
        }
    }

    /// What is known of a path, looked at again if its time is over: by one request, for which the
    /// others wait. While that does not come back, what was known before.
    async fn known(
        self: &Rc<Self>,
        tree: &Tree,
        purpose: Purpose,
        path: &[u8],
        request: &Request,
    ) -> Result<Answer, Error> {
        let name = self.name(tree.number, purpose, path);
        let now = request.now;
        let entry = self.shared.cache.borrow().get(name).cloned();
        let stale = match entry {
            Some(entry) if now < entry.trusted_until => return Ok(Answer::Known(entry.known)),
            entry => entry.filter(|entry| now < entry.trusted_until + self.shared.config.stale),
        };
        let before = stale.map(|entry| Answer::Known(entry.known));
        let look = || -> Boxed<Answer> {
            let (site, tree, path) = (Rc::clone(self), tree.clone(), path.to_vec());
            Box::pin(async move { site.look(&tree, purpose, &path, now).await })
        };
        let looks = &self.shared.looks;
        let seen = looks.share_or(name.to_key(), now, before, look).await?;
        Ok(request.take(seen))
    }

    /// Looks whether all is as it was seen, and if not, looks the path up.
    async fn look(
        &self,
        tree: &Tree,
        purpose: Purpose,
        path: &[u8],
        now: Instant,
    ) -> Result<Answer, Error> {
        tree.disk.admit()?;
        let name = self.name(tree.number, purpose, path);
        let entry = self.shared.cache.borrow().get(name).cloned();
        if let Some(Known::Resource(resource)) = entry.map(|entry| entry.known)
            && resource.is_unchanged(tree).await
        {
            let until = now + self.shared.config.valid;
            let cache = &mut self.shared.cache.borrow_mut();
            cache.trust(name, &resource, until);
            return Ok(Answer::Known(Known::Resource(resource)));
        }
        self.look_up(tree, purpose, path, now).await
    }

    /// Looks a path up on the disk, and notes what it leads to.
    async fn look_up(
        &self,
        tree: &Tree,
        purpose: Purpose,
        path: &[u8],
        now: Instant,
    ) -> Result<Answer, Error> {
        let mut outcome = self.lookup(tree, purpose, path).run().await;
        if let Err(Error::Busy(_)) = outcome {
            self.shared.cache.borrow_mut().close_files();
            outcome = self.lookup(tree, purpose, path).run().await;
        }
        let name = self.name(tree.number, purpose, path);
        let known = match outcome {
            Ok(Outcome::Resource(resource)) => Known::Resource(Rc::new(resource)),
            Ok(Outcome::Slash) => Known::Slash,
            Ok(Outcome::Absent) => Known::Absent,
            Ok(Outcome::Directory(directory)) => {
                self.shared.cache.borrow_mut().remove(name);
                return Ok(Answer::Directory(directory));
            }
            Err(error) => {
                self.shared.cache.borrow_mut().remove(name);
                return Err(error);
            }
        };
        self.note(tree, name, &known, now);
        Ok(Answer::Known(known))
    }

    fn lookup<'a>(&'a self, tree: &'a Tree, purpose: Purpose, path: &'a [u8]) -> Lookup<'a> {
        Lookup {
            tree,
            config: &self.config,
            inline_max: self.shared.config.inline_max,
            purpose,
            path,
            seen: Vec::new(),
            ruled_by: None,
        }
    }

    fn note(&self, tree: &Tree, name: Name<'_>, known: &Known, now: Instant) {
        // A root that was replaced meanwhile has been forgotten.
        if tree.number == self.release.number() {
            let entry = Entry {
                known: known.clone(),
                trusted_until: now + self.shared.config.valid,
                used: Cell::new(now),
            };
            self.shared.cache.borrow_mut().insert(name, entry);
        }
    }

    fn cached_page(&self, cache: &Cache, root: u32, accepted: Accepted, now: Instant) -> Cached {
        let Some(path) = self.error_page_path(Status::NOT_FOUND) else {
            return Cached::Absent { page: None };
        };
        let name = self.name(root, Purpose::ErrorPage, path.as_bytes());
        match trusted(cache, name, now) {
            Some(Known::Resource(resource)) => Cached::Absent {
                page: Some(Rc::clone(resource.choose(accepted))),
            },
            Some(Known::Slash | Known::Absent) => Cached::Absent { page: None },
            None => Cached::Unknown,
        }
    }

    fn name<'a>(&self, root: u32, purpose: Purpose, path: &'a [u8]) -> Name<'a> {
        self.shared.hasher.name(root, purpose as u32, path)
    }
}

fn trusted<'a>(cache: &'a Cache, name: Name<'_>, now: Instant) -> Option<&'a Known> {
    let entry = cache.get(name)?;
    entry.used.set(now);
    (now < entry.trusted_until).then_some(&entry.known)
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
