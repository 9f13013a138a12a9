//! Finds the file that a path leads to, and builds the resource that is cached and sent.
//!
//! 1. `try-files` yields candidates; an index file is tried for a directory ([`try_files`]).
//! 2. The first candidate that exists wins, even if it cannot be read.
//! 3. Its variants are found and all of its files loaded ([`resource_loader`]).
//!
//! Each name that was looked at becomes a [`Dependency`] of the resource.

mod file_loader;
mod mtime_reuse;
pub(crate) mod object_loader;
pub(crate) mod representation;
mod resource_loader;
pub(crate) mod try_files;
mod validators;
mod variants;

use std::ffi::CString;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use rustix::fs::{FileType, Statx};
use tidegate_config::{CompressedOnly, Site};
use tidegate_http::Status;
use tidegate_origin::{Error as OriginError, Origin};

use self::file_loader::FileLoader;
pub(crate) use self::file_loader::MemoryLimits;
use self::object_loader::{Loaded, ObjectLoader, ObjectRequest};
use self::representation::Purpose;
use self::resource_loader::{Opened, Original, ResourceLoader};
use self::try_files::{Candidate, candidates};
use crate::cache::Target;
use crate::cache::resource::{Dependency, Resource};
use crate::error::Error;
use crate::file::OtherPaths;
use crate::file::ops::FileOps;
use crate::file::stat::file_type;
use crate::paths::is_hidden;
use crate::root_dir::{Directory, RootDir};
use crate::roots::Roots;
use crate::rules::paths::is_answered;
use crate::single_flight::MaybeStale;

/// What a lookup finds.
#[derive(Clone)]
pub(crate) enum Outcome {
    /// Goes into the cache.
    Target(Target),
    /// A directory to be listed.
    Directory(Directory),
    /// The origin sends clients to this place.
    Elsewhere(Status, Arc<str>),
}

/// One lookup.
pub(crate) struct Lookup<'a> {
    /// The root of `path`. `None`: the path lies in no root, or in one that has vanished.
    pub(crate) root: Option<&'a RootDir>,
    pub(crate) roots: &'a Roots,
    pub(crate) now: Instant,
    pub(crate) config: &'a Site,
    pub(crate) memory: MemoryLimits<'a>,
    /// As [`ResourceLoader::decompressed_max`].
    pub(crate) decompressed_max: usize,
    pub(crate) purpose: Purpose,
    pub(crate) path: &'a [u8],
    pub(crate) dependencies: Vec<Dependency>,
    /// No later than that of any root that was searched.
    pub(crate) fresh_until: Instant,
    /// Whether all dependencies lie in `root`.
    pub(crate) is_one_root: bool,
    /// The path whose header rules apply, if not `path`: the file sent in place of a missing
    /// `/assets/a.js` must not be `immutable` like a script.
    pub(crate) headers_path: Option<Vec<u8>>,
    /// Where to look for what no root has.
    pub(crate) origin: Option<OriginLookup<'a>>,
}

/// What a lookup at an origin needs.
#[derive(Clone, Copy)]
pub(crate) struct OriginLookup<'a> {
    pub(crate) origin: &'a Arc<Origin>,
    pub(crate) ops: &'a FileOps,
    pub(crate) request: &'a ObjectRequest,
    /// As [`ObjectLoader::before`].
    pub(crate) before: Option<&'a Rc<Resource>>,
}

/// A name that a lookup tries.
#[derive(Clone, Copy)]
struct Name<'a> {
    /// The path of the site.
    path: &'a [u8],
    /// Relative to the root.
    name: &'a CString,
}

impl Lookup<'_> {
    /// Runs the lookup. The outcome is fresh until the returned time, exclusive.
    ///
    /// Dropped: nothing is cached.
    pub(crate) async fn run(mut self) -> Result<(Outcome, Instant), Error> {
        let origin = self.origin;
        let generation = || origin.map(|lookup| lookup.origin.cache().generation());
        let before = generation();
        let outcome = self.try_candidates().await?;
        // A purge meanwhile may concern what was found before it.
        if generation() != before {
            self.fresh_until = self.fresh_until.min(self.now);
        }
        Ok((outcome, self.fresh_until))
    }

    async fn try_candidates(&mut self) -> Result<Outcome, Error> {
        let mut absent: Option<Vec<u8>> = None;
        let mut is_forbidden = false;
        for Candidate { path, is_fixed } in self.candidates() {
            let root = self.root_of(&path).await?;
            if root.is_none() && self.origin.is_none() {
                continue;
            }
            if is_fixed {
                self.headers_path = Some(path.clone());
            }
            let outcome = match (&root, path.strip_suffix(b"/")) {
                (None, _) => None,
                // A name that does not exist is no directory either.
                (_, Some(name)) if absent.as_deref() == Some(name) => None,
                (Some(root), Some(_)) => self.directory(root, &path).await?,
                (Some(root), None) => self.file(root, &path).await?,
            };
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
            if let Some(origin) = self.origin {
                match self.at_origin(origin, &path).await {
                    Ok(Some(outcome)) => return Ok(outcome),
                    Ok(None) => {}
                    // Some stores say so of what they do not have.
                    Err(Error::Origin(OriginError::Forbidden)) => is_forbidden = true,
                    Err(error) => return Err(error),
                }
            }
            if root.is_some() && self.last_is_absent() {
                absent = Some(path);
            }
        }
        if is_forbidden {
            return Err(Error::Origin(OriginError::Forbidden));
        }
        Ok(Outcome::Target(Target::NotFound))
    }

    /// What the origin has at `path`. For one that ends in a slash: the first index there.
    async fn at_origin(
        &mut self,
        origin: OriginLookup<'_>,
        path: &[u8],
    ) -> Result<Option<Outcome>, Error> {
        if !path.ends_with(b"/") {
            return self.object(origin, path).await;
        }
        for index in &self.config.index {
            let index_path = [path, index.as_bytes()].concat();
            if is_answered(self.config, &index_path) {
                continue;
            }
            if let Some(outcome) = self.object(origin, &index_path).await? {
                let is_redirected = self.lacks_slash(path);
                let missing = Outcome::Target(Target::MissingSlash);
                return Ok(Some(if is_redirected { missing } else { outcome }));
            }
        }
        Ok(None)
    }

    async fn object(
        &mut self,
        origin: OriginLookup<'_>,
        path: &[u8],
    ) -> Result<Option<Outcome>, Error> {
        let is_other = path != self.path || self.purpose == Purpose::Fallback;
        let is_told = is_other && self.config.is_restricted() && self.purpose != Purpose::ErrorPage;
        let other_paths: Vec<_> = is_told.then(|| path.to_vec()).into_iter().collect();
        let lookup = || ObjectLoader {
            origin: origin.origin,
            ops: origin.ops,
            config: self.config,
            purpose: self.purpose,
            memory: self.memory,
            request: origin.request,
            headers_path: self.headers_path.as_deref().unwrap_or(self.path),
            other_paths: OtherPaths::new(other_paths.clone()),
            before: origin.before,
            now: self.now,
        };
        let mut loaded = lookup().load(path).await;
        if let Err(Error::Origin(OriginError::Changed)) = loaded {
            loaded = lookup().load(path).await;
        }
        match loaded {
            Ok(Loaded::Resource(resource, fresh_until)) => {
                self.fresh_until = self.fresh_until.min(fresh_until);
                Ok(Some(Outcome::Target(Target::Resource(resource))))
            }
            Ok(Loaded::Elsewhere(status, location)) => {
                Ok(Some(Outcome::Elsewhere(status, location)))
            }
            Err(Error::Origin(OriginError::NotFound)) => {
                self.fresh_until = self.fresh_until.min(self.now + origin.origin.negative());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The root of a candidate. `None`: there is none.
    async fn root_of(&mut self, path: &[u8]) -> Result<Option<RootDir>, Error> {
        if self.roots.is_same(path, self.path) {
            return Ok(self.root.cloned());
        }
        self.is_one_root = false;
        let root_dir = self.roots.look(path, self.now).await;
        if let Some(root) = self.roots.of(path) {
            self.fresh_until = self.fresh_until.min(root.fresh_until());
        }
        match root_dir {
            Ok(MaybeStale::Fresh(root) | MaybeStale::Stale(root)) => Ok(Some(root)),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        match self.purpose {
            Purpose::Itself => {
                let config = self.config;
                let is_served = |path: &[u8]| {
                    !is_hidden(self.roots.below(path), &config.hidden_files)
                        && !is_answered(config, path)
                };
                candidates(&config.try_files, self.path, is_served)
            }
            Purpose::Fallback | Purpose::ErrorPage => vec![Candidate {
                path: self.path.to_vec(),
                is_fixed: true,
            }],
        }
    }

    async fn file(&mut self, root: &RootDir, path: &[u8]) -> Result<Option<Outcome>, Error> {
        let Some(name) = root.relative(path) else {
            return Ok(None);
        };
        let Some(original) = self.find_original(root, &name).await? else {
            return Ok(None);
        };
        let name = Name { path, name: &name };
        self.resource(root, name, original).await.map(Some)
    }

    /// `path` ends in a slash.
    async fn directory(&mut self, root: &RootDir, path: &[u8]) -> Result<Option<Outcome>, Error> {
        let config = self.config;
        for index in &config.index {
            let index_path = [path, index.as_bytes()].concat();
            let Some(name) = root.relative(&index_path) else {
                continue;
            };
            if is_answered(config, &index_path) {
                continue;
            }
            if let Some(original) = self.find_original(root, &name).await? {
                if self.lacks_slash(path) {
                    return Ok(Some(Outcome::Target(Target::MissingSlash)));
                }
                let path = &index_path;
                let name = Name { path, name: &name };
                return self.resource(root, name, original).await.map(Some);
            }
        }
        if config.directory_listing && self.purpose == Purpose::Itself {
            self.listing(root, path).await
        } else {
            Ok(None)
        }
    }

    async fn listing(&self, root: &RootDir, path: &[u8]) -> Result<Option<Outcome>, Error> {
        let Some(name) = root.relative(path) else {
            return Ok(None);
        };
        match root.open_directory(&name).await.map_err(Error::from) {
            Ok(_) if self.lacks_slash(path) => Ok(Some(Outcome::Target(Target::MissingSlash))),
            Ok(file) => {
                let root = root.clone();
                let path = path.to_vec();
                let directory = Directory {
                    file,
                    root,
                    name,
                    path,
                };
                Ok(Some(Outcome::Directory(directory)))
            }
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the request names this directory without its final slash, relative to which the
    /// links in it would be resolved wrongly (RFC 3986, section 5.2.3).
    fn lacks_slash(&self, directory: &[u8]) -> bool {
        directory.strip_suffix(b"/") == Some(self.path)
    }

    /// The regular file `name`, or its variants if there is nothing of that name.
    async fn find_original(
        &mut self,
        root: &RootDir,
        name: &CString,
    ) -> Result<Option<Original>, Error> {
        if let Some(opened) = self.open(root, name).await? {
            return Ok(Some(Original::Present(Box::new(opened))));
        }
        if self.config.compressed_only == CompressedOnly::Off || !self.last_is_absent() {
            return Ok(None);
        }
        let now = SystemTime::now();
        let variants = variants::find(root, &self.config.precompressed, name, None).await?;
        let is_any_usable = variants.iter().any(|variant| variant.is_usable);
        Ok(is_any_usable.then_some(Original::Absent(variants, now)))
    }

    /// Opens the regular file `name`. Anything else is noted as a dependency alone.
    async fn open(&mut self, root: &RootDir, name: &CString) -> Result<Option<Opened>, Error> {
        let file = match root.open(name).await.map_err(Error::from) {
            Ok(file) => file,
            Err(Error::NotFound) => {
                self.depend_on(name, None);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let now = SystemTime::now();
        let stat = root.stat_open(&file).await?;
        self.depend_on(name, Some(&stat));
        if file_type(&stat) == FileType::RegularFile {
            Ok(Some(Opened { file, stat, now }))
        } else {
            Ok(None)
        }
    }

    fn depend_on(&mut self, name: &CString, stat: Option<&Statx>) {
        self.dependencies.push(Dependency::new(name, stat));
    }

    /// Whether nothing exists under the name that was looked at last.
    fn last_is_absent(&self) -> bool {
        let last = self.dependencies.last();
        last.is_some_and(|dependency| dependency.fingerprint.is_none())
    }

    async fn resource(
        &mut self,
        root: &RootDir,
        name: Name<'_>,
        original: Original,
    ) -> Result<Outcome, Error> {
        let other_paths = self.other_paths(name.path, &original);
        let files = FileLoader {
            memory: self.memory,
            root,
            config: self.config,
            purpose: self.purpose,
            now: original.now(),
            directory: None,
            is_settled: self.is_one_root,
            unhashed: Vec::new(),
            other_paths,
        };
        let loader = ResourceLoader {
            files,
            headers_path: self.headers_path.as_deref().unwrap_or(self.path),
            dependencies: std::mem::take(&mut self.dependencies),
            decompressed_max: self.decompressed_max,
        };
        let resource = loader.load(name.name, original).await?;
        Ok(Outcome::Target(Target::Resource(Rc::new(resource))))
    }

    /// See [`crate::File::other_paths`]: `path` leads to `original`. The configuration names error
    /// pages, which are sent to all.
    fn other_paths(&self, path: &[u8], original: &Original) -> OtherPaths {
        if !self.config.is_restricted() || self.purpose == Purpose::ErrorPage {
            return OtherPaths::default();
        }
        let is_other = path != self.path || self.purpose == Purpose::Fallback;
        let mut others: Vec<_> = is_other.then(|| path.to_vec()).into_iter().collect();
        if let Original::Absent(variants, _) = original {
            for coding in variants::codings(variants) {
                others.push([path, b".", coding.extension().as_bytes()].concat());
            }
        }
        OtherPaths::new(others)
    }
}
