//! Uploads a release: what a directory has and a bucket lacks, in an order in which nobody sees a page
//! before what it refers to.
//!
//! ```text
//!   Tree: DIR -> files by stage        Store::list -> objects by key
//!                     \                 /
//!      each stage:  unchanged?  --no--> hashes --> put, or create, parts, complete
//!                     |                              |  a failure: the later stages are left out
//!      the last one:  delete what DIR lacks <--------'
//! ```
//!
//! # The modules, from top to bottom
//!
//! 1. `store`: the operations. `transport`: signed requests, retries.
//! 2. `content`, `digest`: files as they are sent, and their hashes. `listing`: responses.
//! 3. `tree`: the files. `cache_control`, `bucket`: what objects are stored with, and where.
//! 4. `observer`, `error`.

mod bucket;
mod cache_control;
mod content;
mod digest;
mod error;
mod listing;
mod observer;
mod store;
mod transport;
mod tree;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use tidegate_config::{Glob, OriginUrl, S3Style};
use tokio::runtime::Builder;

use self::bucket::Bucket;
pub use self::bucket::Destination;
pub use self::cache_control::{CacheControl, path_glob};
use self::content::blocking;
pub use self::error::{Action, Cause, ObjectError, PublishError, RequestError};
use self::listing::Listed;
pub use self::observer::Observer;
use self::store::{ObjectFields, Store};
use self::transport::Transport;
pub use self::tree::MediaTypes;
use self::tree::{LocalFile, STAGES, Tree};
use crate::s3::S3Authority;
use crate::tls::{Trust, client_config};

/// Threads of connections, which encrypt; files are read on others.
const THREADS: usize = 2;

/// After so many failures nothing more is begun: the others would fail as well.
const FAILURES_MAX: u64 = 100;

/// The longest key (Amazon S3 User Guide, "Naming objects").
const KEY_BYTES_MAX: usize = 1024;

/// What is published, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The bucket, and the prefix of keys.
    pub destination: Destination,
    /// The URL of the store, without the bucket.
    pub endpoint: OriginUrl,
    /// Where URLs name the bucket.
    pub style: S3Style,
    /// The region that requests are signed for.
    pub region: String,
    /// The profile of the credentials; `None`: what the environment has.
    pub profile: Option<String>,
    /// PEM file of the authorities that the store is checked against; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Rules of Cache-Control, before the defaults. The first that applies counts.
    pub cache_control: Vec<CacheControl>,
    /// Paths that are left alone, in the directory and in the store.
    pub exclude: Vec<Glob>,
    /// Whether objects that the directory lacks are removed.
    pub delete: bool,
    /// Whether what is unchanged is uploaded, too.
    pub force: bool,
    /// Whether nothing is changed, and only told.
    pub dry_run: bool,
    /// Requests at a time, at least 1.
    pub concurrency: usize,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Objects that were uploaded.
    pub uploaded: u64,
    /// Their bytes.
    pub uploaded_bytes: u64,
    /// Objects that the store has already.
    pub unchanged: u64,
    /// Objects that were removed.
    pub deleted: u64,
    /// Objects and files that failed.
    pub failed: u64,
    /// Files that were not looked at, and objects that were not removed, since others failed.
    pub withheld: u64,
    /// Files that the user excluded.
    pub excluded: u64,
    /// Files and directories whose names begin with a dot.
    pub hidden: u64,
    /// Links that lead out of the directory, or nowhere.
    pub links: u64,
    /// Objects that the server takes for variants of published files, and that the directory lacks:
    /// they are of older files, and were not removed.
    pub stale_variants: u64,
    /// Whether the observer ended it.
    pub stopped: bool,
}

/// Publishes a directory. Blocking.
///
/// # Errors
///
/// Nothing was published. What failed of single objects is told to the observer and counted.
pub fn publish(
    directory: &Path,
    options: &Options,
    types: &dyn MediaTypes,
    observer: &dyn Observer,
) -> Result<Summary, PublishError> {
    let tree = Tree::read(directory, &options.exclude, types);
    let tree = tree.map_err(|source| PublishError::Directory {
        path: directory.to_owned(),
        source,
    })?;
    if tree.files.is_empty() && tree.failures.is_empty() {
        return Err(PublishError::Empty(directory.to_owned()));
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("publish")
        .enable_all()
        .build()
        .map_err(PublishError::Threads)?;
    let run = Run {
        store: store(options, observer)?,
        options,
        types,
        observer,
        prefix: options.destination.key_prefix(),
        summary: RefCell::new(Summary {
            excluded: tree.excluded,
            hidden: tree.hidden,
            links: tree.links,
            ..Summary::default()
        }),
        failed: Cell::new(0),
    };
    runtime.block_on(run.all(&tree))
}

fn store<'a>(options: &Options, observer: &'a dyn Observer) -> Result<Store<'a>, PublishError> {
    let trust = match &options.ca {
        Some(path) => Trust::File(path),
        None if options.endpoint.is_https => Trust::System,
        None => Trust::Nobody,
    };
    let (region, profile) = (options.region.clone(), options.profile.clone());
    let authority = S3Authority::new(region, profile, client_config(Trust::System)?);
    let bucket = &options.destination.bucket;
    let bucket = Bucket::new(bucket, &options.endpoint, options.style);
    let concurrency = options.concurrency.max(1);
    let tls = client_config(trust)?;
    Ok(Store {
        transport: Transport::new(bucket, tls, authority, concurrency, observer),
        concurrency,
    })
}

/// One run.
struct Run<'a> {
    store: Store<'a>,
    options: &'a Options,
    types: &'a dyn MediaTypes,
    observer: &'a dyn Observer,
    /// Of keys.
    prefix: String,
    summary: RefCell<Summary>,
    failed: Cell<u64>,
}

/// What becomes of a file.
enum Outcome {
    Unchanged,
    Uploaded(u64),
}

impl Run<'_> {
    async fn all(&self, tree: &Tree) -> Result<Summary, PublishError> {
        tree.failures.iter().for_each(|error| self.fail(error));
        let stored = self.store.list(&self.prefix).await;
        let stored = stored.map_err(|source| PublishError::List {
            place: format!("{}/{}", self.store.transport.url(), self.prefix),
            source,
        })?;
        self.observer.planned(tree.files.len() as u64);
        for stage in STAGES {
            let files = tree.files.iter().filter(|file| file.stage == stage);
            if self.has_failed() {
                self.summary.borrow_mut().withheld += files.count() as u64;
                continue;
            }
            stream::iter(files)
                .for_each_concurrent(self.options.concurrency, |file| self.file(file, &stored))
                .await;
        }
        self.remove(tree, &stored).await;
        let mut summary = self.summary.take();
        summary.failed = self.failed.get();
        summary.stopped = self.observer.is_stopping();
        Ok(summary)
    }

    /// Whether nothing may follow: pages would refer to what is not there.
    fn has_failed(&self) -> bool {
        self.failed.get() > 0 || self.observer.is_stopping()
    }

    /// Whether nothing more is begun, even of the same kind.
    fn gives_up(&self) -> bool {
        self.failed.get() >= FAILURES_MAX || self.observer.is_stopping()
    }

    fn fail(&self, error: &ObjectError) {
        self.failed.set(self.failed.get() + 1);
        self.observer.failed(error);
    }

    /// Tells a failure, unless the work was to end.
    fn refused(&self, action: Action, key: &str, source: Cause) {
        if matches!(source, Cause::Request(RequestError::Stopped)) {
            self.summary.borrow_mut().withheld += 1;
            return;
        }
        self.fail(&ObjectError {
            action,
            name: key.to_owned(),
            source,
        });
    }

    async fn file(&self, file: &LocalFile, stored: &HashMap<String, Listed>) {
        if self.gives_up() {
            self.summary.borrow_mut().withheld += 1;
            return;
        }
        let key = format!("{}{}", self.prefix, file.name);
        let outcome = self.publish(file, &key, stored.get(&key)).await;
        self.observer.advanced();
        match outcome {
            Ok(Outcome::Unchanged) => self.summary.borrow_mut().unchanged += 1,
            Ok(Outcome::Uploaded(len)) => {
                self.observer.uploads(&key, len);
                let mut summary = self.summary.borrow_mut();
                summary.uploaded += 1;
                summary.uploaded_bytes += len;
            }
            Err(cause) => self.refused(Action::Upload, &key, cause),
        }
    }

    async fn publish(
        &self,
        file: &LocalFile,
        key: &str,
        stored: Option<&Listed>,
    ) -> Result<Outcome, Cause> {
        if key.len() > KEY_BYTES_MAX {
            return Err(Cause::Key("its key has more than 1024 bytes: rename it"));
        }
        let path = file.path.clone();
        let opened = blocking(move || {
            let file = File::open(path)?;
            Ok((file.metadata()?.len(), Arc::new(file)))
        });
        let (len, bytes) = opened.await?;
        let same_len = stored.filter(|stored| stored.len == len && !self.options.force);
        if let Some(stored) = same_len {
            let (bytes, etag) = (Arc::clone(&bytes), stored.etag.clone());
            if blocking(move || digest::has_etag(&bytes, len, &etag)).await? {
                return Ok(Outcome::Unchanged);
            }
        } else if self.options.dry_run {
            return Ok(Outcome::Uploaded(len));
        }
        let whole = Arc::clone(&bytes);
        let hashes = blocking(move || digest::sha256s(&whole, len)).await?;
        if same_len.is_some() && self.store.has_sha256(key, &hashes.whole).await {
            return Ok(Outcome::Unchanged);
        }
        if !self.options.dry_run {
            let rules = &self.options.cache_control;
            let path = file.rule_path();
            let fields = ObjectFields {
                content_type: &file.content_type,
                cache_control: cache_control::value(rules, &path, &file.content_type),
            };
            self.store.put(key, &bytes, len, &hashes, &fields).await?;
        }
        Ok(Outcome::Uploaded(len))
    }

    /// Deletes the objects that the directory lacks. Without `--delete` it counts the variants
    /// among them.
    async fn remove(&self, tree: &Tree, stored: &HashMap<String, Listed>) {
        let names: HashSet<&str> = tree.files.iter().map(|file| file.name.as_str()).collect();
        let mut surplus: Vec<&str> = stored
            .keys()
            .filter_map(|key| key.strip_prefix(&self.prefix))
            .filter(|name| !names.contains(name) && !tree::is_foreign(&self.options.exclude, name))
            .collect();
        surplus.sort_unstable();
        if !self.options.delete {
            let is_there = |name: &str| names.contains(name);
            surplus.retain(|name| tree::original(name, is_there, self.types).is_some());
            self.summary.borrow_mut().stale_variants = surplus.len() as u64;
            return;
        }
        if self.has_failed() {
            self.summary.borrow_mut().withheld += surplus.len() as u64;
            return;
        }
        stream::iter(surplus)
            .for_each_concurrent(self.options.concurrency, |name| self.remove_one(name))
            .await;
    }

    async fn remove_one(&self, name: &str) {
        if self.gives_up() {
            self.summary.borrow_mut().withheld += 1;
            return;
        }
        let key = format!("{}{name}", self.prefix);
        let removed = if self.options.dry_run {
            Ok(())
        } else {
            self.store.delete(&key).await
        };
        match removed {
            Ok(()) => {
                self.observer.deletes(&key);
                self.summary.borrow_mut().deleted += 1;
            }
            Err(error) => self.refused(Action::Delete, &key, error.into()),
        }
    }
}
