//! Shared helpers of the tests: a tree on disk, and a site that serves it.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;
use tidegate_config as config;
use tidegate_http::{Accepted, Fields, Method, Navigation, Request, Target};
use tidegate_site::{
    CacheConfig, Cached, Content, File, Found, Site, SiteRequest, Sites, SortOrder,
};
use tidegate_uring::executor::Executor;
use tidegate_uring::{Config, Ring};

/// How long lookups are trusted in the tests.
pub(crate) const VALID: Duration = Duration::from_secs(1);

/// Larger files are not kept in memory in the tests.
pub(crate) const INLINE_MAX: usize = 1024;
pub(crate) const POPULAR_MAX: usize = 16 * 1024;

/// A temporary directory to serve.
pub(crate) struct Tree(TempDir);

impl Tree {
    /// A tree with files of these names and contents, a minute old.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (name, content) in files {
            tree.write(name, content.as_bytes());
        }
        age_all(tree.0.path());
        tree
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    /// Writes a file that is a minute old, and the directories above it.
    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        set_modified(&path, minutes_ago(1));
    }

    pub(crate) fn link(&self, target: impl AsRef<Path>, name: &str) {
        std::os::unix::fs::symlink(target, self.path(name)).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    pub(crate) fn set_modified(&self, name: &str, time: SystemTime) {
        set_modified(&self.path(name), time);
    }
}

/// Waits until a further change of any file gets another timestamp.
pub(crate) fn settle() {
    thread::sleep(Duration::from_millis(50));
}

fn age_all(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            age_all(&entry.path());
        }
    }
    set_modified(directory, minutes_ago(1));
}

pub(crate) fn set_modified(path: &Path, time: SystemTime) {
    let file = fs::File::open(path).unwrap();
    file.set_modified(time).unwrap();
}

pub(crate) fn minutes_ago(minutes: u64) -> SystemTime {
    SystemTime::now() - Duration::from_secs(60 * minutes)
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    Executor::new("test", 1).unwrap().run(future)
}

pub(crate) fn cache() -> CacheConfig {
    CacheConfig {
        inline_max: INLINE_MAX,
        popular_max: POPULAR_MAX,
        hot_bytes: 1 << 20,
        open_files: 64,
        valid: VALID,
        idle: Duration::from_mins(1),
        stale: Duration::from_secs(30),
        lookup: Duration::from_secs(10),
        workers: 16,
    }
}

/// A site, and a clock that the test sets.
pub(crate) struct Bench {
    pub(crate) site: Rc<Site>,
    pub(crate) now: Instant,
}

impl Bench {
    pub(crate) fn new(tree: &Tree) -> Self {
        Self::with(tree, |_| ())
    }

    pub(crate) fn with(tree: &Tree, change: impl FnOnce(&mut config::Site)) -> Self {
        let mut config = config::Site::for_directory(tree.root());
        change(&mut config);
        Self::of(config, cache())
    }

    pub(crate) fn of(config: config::Site, cache: CacheConfig) -> Self {
        let ring = Ring::start(&Config::default()).unwrap();
        let sites = Sites::open(&[config], cache, &ring, &Arc::default()).unwrap();
        Self {
            site: Rc::clone(sites.of(None)),
            now: Instant::now(),
        }
    }

    /// Advances the clock until cached results are not trusted any more.
    pub(crate) fn wait(&mut self) {
        self.now += VALID + Duration::from_millis(1);
    }

    pub(crate) async fn find(&self, path: &str) -> Found {
        self.find_wanted(&wanted(path)).await
    }

    pub(crate) async fn find_wanted(&self, wanted: &SiteRequest<'_>) -> Found {
        self.site.find(wanted, self.now).await
    }

    /// Looks up the path as a navigation of a browser.
    pub(crate) async fn navigate(&self, path: &str) -> Found {
        let wanted = SiteRequest {
            navigation: Navigation::Told,
            ..wanted(path)
        };
        self.find_wanted(&wanted).await
    }

    pub(crate) async fn accepting(&self, path: &str, codings: &str) -> Rc<File> {
        let wanted = SiteRequest {
            accepted: accepted(codings),
            ..wanted(path)
        };
        file(self.find_wanted(&wanted).await)
    }

    pub(crate) async fn text_accepting(&self, path: &str, codings: &str) -> String {
        let file = self.accepting(path, codings).await;
        text(&file)
    }

    /// The content of the file at the path; `None`: there is none.
    pub(crate) async fn text(&self, path: &str) -> Option<String> {
        match self.find(path).await {
            Found::File(file) => Some(text(&file)),
            _ => None,
        }
    }

    /// The content of the cached file for the path.
    pub(crate) fn cached_text(&self, path: &str) -> Option<String> {
        match self.cached(path) {
            Cached::File(file) => Some(text(&file)),
            _ => None,
        }
    }

    pub(crate) fn cached(&self, path: &str) -> Cached {
        self.site.cached(
            path.as_bytes(),
            None,
            Accepted::IDENTITY,
            || Navigation::No,
            self.now,
        )
    }
}

pub(crate) fn wanted(path: &str) -> SiteRequest<'_> {
    SiteRequest {
        path: path.as_bytes(),
        accepted: Accepted::IDENTITY,
        navigation: Navigation::No,
        wants_json: false,
        order: SortOrder::default(),
        query: None,
        first_byte: 0,
    }
}

/// The codings that a request with this Accept-Encoding accepts.
pub(crate) fn accepted(codings: &str) -> Accepted {
    let line = format!("Accept-Encoding: {codings}\r\n");
    let (target, _) = Target::parse("/").unwrap();
    Accepted::of(&Request {
        method: Method::Get,
        target,
        host: None,
        fields: Fields::of_block(line.as_bytes()),
    })
}

pub(crate) fn file(found: Found) -> Rc<File> {
    match found {
        Found::File(file) => file,
        other => panic!("no file: {}", kind(&other)),
    }
}

pub(crate) fn kind(found: &Found) -> String {
    match found {
        Found::File(file) => format!("file {}", text(file)),
        Found::Fallback(file) => format!("fallback {}", text(file)),
        Found::Redirect { status, location } => format!("{} {location}", status.code()),
        Found::Elsewhere { status, location } => format!("{} {location}", status.code()),
        Found::Listing { .. } => "listing".to_owned(),
        Found::Compressed(_) | Found::Decompression(_) => "decompression".to_owned(),
        Found::Refused { status, page, .. } => match page {
            Some(page) => format!("{} {}", status.code(), text(page)),
            None => status.code().to_string(),
        },
    }
}

pub(crate) fn text(file: &File) -> String {
    let bytes = match &file.content {
        Content::Memory(bytes) => bytes.to_vec(),
        Content::File(fd) => {
            let mut bytes = vec![0; usize::try_from(file.len).unwrap()];
            let count = rustix::io::pread(fd, &mut bytes, 0).unwrap();
            bytes.truncate(count);
            bytes
        }
        Content::Sliced(_) => panic!("the site has no origin"),
    };
    String::from_utf8(bytes).unwrap()
}

/// The field lines of a file.
pub(crate) fn fields(file: &File) -> String {
    String::from_utf8(file.fields().as_bytes().to_vec()).unwrap()
}

pub(crate) fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}
