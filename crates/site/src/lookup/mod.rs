//! From a path to what is on the disk: what is tried, in order, and what was seen on the way.
//!
//! The first candidate that exists wins, even if it cannot be read.

pub(crate) mod mtime_reuse;
pub(crate) mod representation;
mod try_files;
mod variants;

use std::cell::Cell;
use std::ffi::CString;
use std::io;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use futures_lite::future::zip;
use rustix::fs::{FileType, Statx};
use tidegate_config::{CompressedOnly, Site};
use tidegate_http::{Coding, Validators};
use tidegate_uring::Fd;

use self::mtime_reuse::MtimeReuse;
use self::representation::{Common, MtimeUse, Purpose, mtime_use, validators};
use self::try_files::{Candidate, candidates};
use self::variants::Variant;
use crate::cache::resource::{Resource, Seen, Unencoded};
use crate::decompress::{self, Compressed};
use crate::error::Error;
use crate::file::content_hash::{self, Digest};
use crate::file::ops::OpenFile;
use crate::file::residency_hint::ResidencyHint;
use crate::file::shared_bodies;
use crate::file::stat::{
    Fingerprint, device, file_type, is_remote, is_settled, tells_versions_apart,
};
use crate::file::{Content, File};
use crate::mime;
use crate::paths::{is_hidden, parent};
use crate::root_dir::{Directory, RootDir, allow_waiting};
use crate::roots::Roots;
use crate::rules::headers::{self, Set};
use crate::rules::paths::is_answered;
use crate::single_flight::MaybeStale;

/// What a lookup came to.
pub(crate) enum Outcome {
    /// A file.
    Resource(Resource),
    /// A directory, by a path without its final slash.
    Slash,
    /// A directory to be listed.
    Directory(Directory),
    /// Nothing.
    Absent,
}

/// One lookup.
pub(crate) struct Lookup<'a> {
    /// That the path lies in; `None`: in none, or in one that has vanished.
    pub(crate) tree: Option<&'a RootDir>,
    pub(crate) roots: &'a Roots,
    pub(crate) now: Instant,
    pub(crate) config: &'a Site,
    pub(crate) inline_max: usize,
    pub(crate) purpose: Purpose,
    pub(crate) path: &'a [u8],
    pub(crate) seen: Vec<Seen>,
    /// Until when the outcome is trusted: no longer than any root that was looked in.
    pub(crate) fresh_until: Instant,
    /// Whether all that was seen lies in the tree of the path.
    pub(crate) is_within: bool,
    /// The path whose header rules apply, if not the one asked for: what is sent in place of a missing
    /// `/assets/a.js` must not be kept for ever like a script.
    pub(crate) ruled_by: Option<Vec<u8>>,
}

/// What a name leads to.
enum Basis {
    File(Box<Opened>),
    /// It is there compressed only.
    Variants(Vec<Variant>, SystemTime),
}

/// An open file of which is known what it is.
struct Opened {
    file: OpenFile,
    stat: Statx,
    /// Before it was looked at.
    now: SystemTime,
}

impl<'a> Lookup<'a> {
    /// Looks the path up, and tells until when the outcome is trusted.
    ///
    /// Dropped: nothing of it stays.
    pub(crate) async fn run(mut self) -> Result<(Outcome, Instant), Error> {
        let outcome = self.try_each().await?;
        Ok((outcome, self.fresh_until))
    }

    async fn try_each(&mut self) -> Result<Outcome, Error> {
        let mut absent: Option<Vec<u8>> = None;
        for Candidate { path, is_fixed } in self.candidates() {
            let Some(tree) = self.enter(&path).await? else {
                continue;
            };
            if is_fixed {
                self.ruled_by = Some(path.clone());
            }
            let outcome = match path.strip_suffix(b"/") {
                // What is not there is no directory either.
                Some(name) if absent.as_deref() == Some(name) => None,
                Some(_) => self.directory(&tree, &path).await?,
                None => self.file(&tree, &path).await?,
            };
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
            if self.seen.last().is_some_and(|seen| seen.identity.is_none()) {
                absent = Some(path);
            }
        }
        Ok(Outcome::Absent)
    }

    /// The root that a candidate lies in. `None`: it is not there.
    async fn enter(&mut self, path: &[u8]) -> Result<Option<RootDir>, Error> {
        if self.roots.is_same(path, self.path) {
            return Ok(self.tree.cloned());
        }
        self.is_within = false;
        let looked = self.roots.look(path, self.now).await;
        if let Some(root) = self.roots.of(path) {
            self.fresh_until = self.fresh_until.min(root.fresh_until());
        }
        match looked {
            Ok(MaybeStale::Fresh(tree) | MaybeStale::Stale(tree)) => Ok(Some(tree)),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        match self.purpose {
            Purpose::Itself => {
                let config = self.config;
                let served = |path: &[u8]| {
                    !is_hidden(self.roots.below(path), &config.hidden_files)
                        && !is_answered(config, path)
                };
                candidates(&config.try_files, self.path, served)
            }
            Purpose::Fallback | Purpose::ErrorPage => vec![Candidate {
                path: self.path.to_vec(),
                is_fixed: true,
            }],
        }
    }

    async fn file(&mut self, tree: &RootDir, path: &[u8]) -> Result<Option<Outcome>, Error> {
        let Some(name) = tree.relative(path) else {
            return Ok(None);
        };
        let Some(basis) = self.basis(tree, &name).await? else {
            return Ok(None);
        };
        let resource = self.resource(tree, name, basis).await?;
        Ok(Some(Outcome::Resource(resource)))
    }

    /// `path` ends in a slash.
    async fn directory(&mut self, tree: &RootDir, path: &[u8]) -> Result<Option<Outcome>, Error> {
        let config = self.config;
        for index in &config.index {
            let path_of_index = [path, index.as_bytes()].concat();
            let Some(name) = tree.relative(&path_of_index) else {
                continue;
            };
            if is_answered(config, &path_of_index) {
                continue;
            }
            if let Some(basis) = self.basis(tree, &name).await? {
                if self.is_redirected(path) {
                    return Ok(Some(Outcome::Slash));
                }
                let resource = self.resource(tree, name, basis).await?;
                return Ok(Some(Outcome::Resource(resource)));
            }
        }
        if config.directory_listing && self.purpose == Purpose::Itself {
            self.listed(tree, path).await
        } else {
            Ok(None)
        }
    }

    async fn listed(&self, tree: &RootDir, path: &[u8]) -> Result<Option<Outcome>, Error> {
        let Some(name) = tree.relative(path) else {
            return Ok(None);
        };
        match tree.open_directory(&name).await.map_err(Error::from) {
            Ok(_) if self.is_redirected(path) => Ok(Some(Outcome::Slash)),
            Ok(file) => {
                let tree = tree.clone();
                Ok(Some(Outcome::Directory(Directory { file, tree, name })))
            }
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the directory is what the path names, but for its slash: what is in it is meant
    /// relative to the path with one.
    fn is_redirected(&self, directory: &[u8]) -> bool {
        directory.strip_suffix(b"/") == Some(self.path)
    }

    /// The regular file `name`, or its variants if nothing of that name is there.
    async fn basis(&mut self, tree: &RootDir, name: &CString) -> Result<Option<Basis>, Error> {
        if let Some(opened) = self.open(tree, name).await? {
            return Ok(Some(Basis::File(Box::new(opened))));
        }
        let is_absent = self.seen.last().is_some_and(|seen| seen.identity.is_none());
        if self.config.compressed_only == CompressedOnly::Off || !is_absent {
            return Ok(None);
        }
        let now = SystemTime::now();
        let sought = variants::seek(tree, &self.config.precompressed, name, None).await?;
        let is_there = sought.iter().any(|sought| sought.fresh);
        Ok(is_there.then_some(Basis::Variants(sought, now)))
    }

    /// Opens the regular file `name`; anything else is noted as seen.
    async fn open(&mut self, tree: &RootDir, name: &CString) -> Result<Option<Opened>, Error> {
        let file = match tree.open(name).await.map_err(Error::from) {
            Ok(file) => file,
            Err(Error::NotFound) => {
                self.note(name, None);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let now = SystemTime::now();
        let stat = tree.stat_open(&file).await?;
        self.note(name, Some(&stat));
        if file_type(&stat) == FileType::RegularFile {
            Ok(Some(Opened { file, stat, now }))
        } else {
            Ok(None)
        }
    }

    fn note(&mut self, name: &CString, stat: Option<&Statx>) {
        self.seen.push(Seen {
            name: name.clone(),
            identity: stat.map(Fingerprint::of),
        });
    }

    async fn resource(
        &mut self,
        tree: &RootDir,
        name: CString,
        basis: Basis,
    ) -> Result<Resource, Error> {
        match basis {
            Basis::File(opened) => self.original(tree, name, *opened).await,
            Basis::Variants(sought, now) => self.compressed(tree, &name, sought, now).await,
        }
    }

    async fn original(
        &mut self,
        tree: &RootDir,
        name: CString,
        opened: Opened,
    ) -> Result<Resource, Error> {
        let Opened { file, stat, now } = opened;
        let codings = &self.config.precompressed;
        let beside = parent(&name);
        let (beside_stat, sought) = zip(
            tree.stat(&beside),
            variants::seek(tree, codings, &name, Some(&stat)),
        )
        .await;
        let (beside_stat, mut sought) = (beside_stat.ok(), sought?);
        let mut making = self.making(tree, beside_stat.as_ref(), now);
        making.settled &= is_settled(&stat, now);
        let original = making.load(&name, file, stat).await?;
        if original.pinned == MtimeReuse::Time {
            variants::distrust_older_changes(&mut sought, &original.stat);
        }
        let content_type = mime::content_type(self.config, name.as_bytes());
        let coded = self.content_encoded(tree, name.as_bytes());
        let varies = coded.is_some() || sought.iter().any(|sought| sought.fresh);
        let common = Common::new(self.purpose, &content_type, varies, self.rules());
        self.note_variants(&sought, &beside, beside_stat.as_ref(), now);
        let mut files = Vec::new();
        if let Some((coding, stem)) = coded {
            let content_type = mime::content_type(self.config, stem);
            let common = Common::new(self.purpose, &content_type, varies, self.rules());
            files.push(making.file(&original, Some(coding), &common));
        }
        for (coding, name, found) in sought.into_iter().filter_map(Variant::counting) {
            let variant = making.variant(&name, found).await?;
            files.push(making.file(&variant, Some(coding), &common));
        }
        let plain = Unencoded::File(making.file(&original, None, &common));
        Ok(making.resource(plain, files, std::mem::take(&mut self.seen)))
    }

    /// The file `name`, of which only variants are there.
    async fn compressed(
        &mut self,
        tree: &RootDir,
        name: &CString,
        sought: Vec<Variant>,
        now: SystemTime,
    ) -> Result<Resource, Error> {
        let beside = parent(name);
        let beside_stat = tree.stat(&beside).await.ok();
        let mut making = self.making(tree, beside_stat.as_ref(), now);
        let content_type = mime::content_type(self.config, name.as_bytes());
        let common = Common::new(self.purpose, &content_type, true, self.rules());
        self.note_variants(&sought, &beside, beside_stat.as_ref(), now);
        let mut files = Vec::new();
        let mut plain = Unencoded::Nothing;
        let easiest = match self.config.compressed_only {
            CompressedOnly::Decompress => decompress::easiest(variants::codings(&sought)),
            CompressedOnly::Refuse | CompressedOnly::Off => None,
        };
        for (coding, name, found) in sought.into_iter().filter_map(Variant::counting) {
            let variant = making.variant(&name, found).await?;
            let file = making.file(&variant, Some(coding), &common);
            if Some(coding) == easiest {
                plain = making
                    .decompressed((coding, name), &file, &variant, &common)
                    .await;
            }
            files.push(file);
        }
        Ok(making.resource(plain, files, std::mem::take(&mut self.seen)))
    }

    fn making<'m>(
        &self,
        tree: &'m RootDir,
        directory: Option<&'m Statx>,
        now: SystemTime,
    ) -> FileLoader<'m>
    where
        'a: 'm,
    {
        FileLoader {
            inline_max: self.inline_max,
            tree,
            config: self.config,
            purpose: self.purpose,
            directory,
            now,
            settled: self.is_within,
            unhashed: Vec::new(),
        }
    }

    /// The coding that the file `name` is sent with itself, and its name without that.
    fn content_encoded<'n>(&self, tree: &RootDir, name: &'n [u8]) -> Option<(Coding, &'n [u8])> {
        let path = [&*tree.at, b"/", name].concat();
        let patterns = &self.config.content_encoded;
        if patterns.iter().any(|pattern| pattern.is_match(&path)) {
            variants::coded_content(name)
        } else {
            None
        }
    }

    /// The rules for the path that the file is sent for. An error page is sent for many, and gets
    /// theirs when it is sent.
    fn rules(&self) -> Set<'a> {
        match self.purpose {
            Purpose::Itself | Purpose::Fallback => {
                let path = self.ruled_by.as_deref().unwrap_or(self.path);
                headers::apply(&self.config.headers, path)
            }
            Purpose::ErrorPage => Set::default(),
        }
    }

    /// Notes which variants are there. That the others are not is seen by their directory, unless
    /// it has changed so lately that one more change may not show.
    fn note_variants(
        &mut self,
        sought: &[Variant],
        beside: &CString,
        stat: Option<&Statx>,
        now: SystemTime,
    ) {
        let directory = stat.filter(|stat| is_settled(stat, now));
        for variant in sought {
            match &variant.found {
                Some((_, stat)) => self.note(&variant.name, Some(stat)),
                None if directory.is_none() => self.note(&variant.name, None),
                None => {}
            }
        }
        if sought.iter().any(|variant| variant.found.is_none())
            && let Some(stat) = directory
        {
            self.note(beside, Some(stat));
        }
    }
}

/// Makes files of open ones.
struct FileLoader<'a> {
    inline_max: usize,
    tree: &'a RootDir,
    config: &'a Site,
    purpose: Purpose,
    /// That the file is in.
    directory: Option<&'a Statx>,
    now: SystemTime,
    settled: bool,
    unhashed: Vec<Fingerprint>,
}

/// A file with its content.
struct LoadedFile {
    stat: Statx,
    content: Content,
    /// How much of its time was seen with another content.
    pinned: MtimeReuse,
    mtime_use: MtimeUse,
    digest: Option<Digest>,
}

impl FileLoader<'_> {
    async fn variant(
        &mut self,
        name: &CString,
        (file, stat): (OpenFile, Statx),
    ) -> Result<LoadedFile, Error> {
        self.settled &= is_settled(&stat, self.now);
        self.load(name, file, stat).await
    }

    /// What clients get of the variant `file` that do not take its coding. A small one is as good as
    /// any file in memory.
    async fn decompressed(
        &self,
        (coding, name): (Coding, CString),
        file: &Rc<File>,
        loaded: &LoadedFile,
        common: &Common<'_>,
    ) -> Unencoded {
        let small = match file.len {
            // What browsers make of it, whatever the coding would say.
            0 => Some(Vec::new()),
            _ => decompress::decompress_small(file, coding, self.inline_max).await,
        };
        if let Some(bytes) = small.map(Bytes::from) {
            let len = bytes.len() as u64;
            let body = Some((Content::Memory(bytes), len));
            Unencoded::File(Rc::new(self.described(loaded, None, common, body)))
        } else {
            let description = self.described(loaded, None, common, None);
            Unencoded::Compressed(Rc::new(Compressed::new(description, file, coding, name)))
        }
    }

    fn resource(self, plain: Unencoded, variants: Vec<Rc<File>>, seen: Vec<Seen>) -> Resource {
        Resource {
            plain,
            variants,
            seen,
            settled: self.settled,
            unhashed: self.unhashed,
            deleted: Cell::new(false),
        }
    }

    async fn load(
        &mut self,
        name: &CString,
        file: OpenFile,
        stat: Statx,
    ) -> Result<LoadedFile, Error> {
        allow_waiting(&file)?;
        let content = self.content(file, &stat).await?;
        let mut digest = match &content {
            Content::Memory(bytes) => Some(content_hash::of_bytes(bytes)),
            Content::File(_) => None,
        };
        let (mut pinned, mut mtime_use) = self.mtime_use(name, &stat, digest);
        if let Content::File(file) = &content
            && !mtime_use.makes_etag()
            && self.has_validators()
        {
            digest = self.digest(file, &stat).await;
            if digest.is_none() {
                self.unhashed.push(Fingerprint::of(&stat));
            }
            (pinned, mtime_use) = self.mtime_use(name, &stat, digest);
            // Another content may come that looks the same, and nobody would know that it is another.
            if digest.is_none() && !is_settled(&stat, self.now) {
                mtime_use = MtimeUse::Nothing;
            }
        }
        Ok(LoadedFile {
            stat,
            content,
            pinned,
            mtime_use,
            digest,
        })
    }

    /// How far the time of `name` is pinned, and what it is good for then.
    fn mtime_use(
        &self,
        name: &CString,
        stat: &Statx,
        digest: Option<Digest>,
    ) -> (MtimeReuse, MtimeUse) {
        let pinned = mtime_reuse::note(&self.tree.path, name, stat, digest);
        let mtime_use = mtime_use(stat, self.directory, pinned, self.config.etag);
        (pinned, mtime_use)
    }

    fn file(&self, loaded: &LoadedFile, coding: Option<Coding>, common: &Common<'_>) -> Rc<File> {
        let body = Some((loaded.content.clone(), loaded.stat.stx_size));
        Rc::new(self.described(loaded, coding, common, body))
    }

    /// The file with its bytes and how many they are. `None`: they are made while they are sent.
    fn described(
        &self,
        loaded: &LoadedFile,
        coding: Option<Coding>,
        common: &Common<'_>,
        body: Option<(Content, u64)>,
    ) -> File {
        let stat = &loaded.stat;
        let validators = if self.has_validators() {
            validators(stat, loaded.mtime_use, loaded.digest, coding, self.now)
        } else {
            Validators::default()
        };
        let has_ranges = body.is_some();
        let (content, len) = body.unwrap_or((Content::Memory(Bytes::new()), 0));
        File {
            len,
            fields: common.fields(coding, validators, has_ranges),
            validators,
            content_type: common.content_type.clone().into_owned(),
            coding,
            residency_hint: ResidencyHint::default(),
            content,
            ops: self.tree.ops.on(device(stat)),
        }
    }

    /// An error page is no representation of what was asked for.
    fn has_validators(&self) -> bool {
        match self.purpose {
            Purpose::Itself | Purpose::Fallback => true,
            Purpose::ErrorPage => false,
        }
    }

    /// The hash of a file that is not in memory, if it can be told by now.
    async fn digest(&mut self, file: &Fd, stat: &Statx) -> Option<Digest> {
        let identity = Fingerprint::of(stat);
        if stat.stx_size > content_hash::AT_ONCE_MAX {
            return content_hash::of_file(&identity, file);
        }
        if let Some(digest) = content_hash::known(&identity) {
            return Some(digest);
        }
        let ops = &self.tree.ops;
        let read = content_hash::of_open(ops, file, stat.stx_size).await;
        let after = self.tree.stat_open(file).await;
        // Without a tag it is looked up again.
        let digest = read.ok().flatten()?;
        if Fingerprint::of(&after.ok()?) != identity {
            return None;
        }
        if is_settled(stat, self.now) {
            content_hash::remember(identity, digest);
        }
        Some(digest)
    }

    /// The bytes of a small file; a larger one stays where it is.
    async fn content(&mut self, file: OpenFile, stat: &Statx) -> Result<Content, Error> {
        let len = match usize::try_from(stat.stx_size) {
            Ok(len) if len <= self.inline_max => len,
            _ => return Ok(Content::File(file.into_fd())),
        };
        let remote = is_remote(&file);
        let bytes = self.bytes(&file, stat, len, remote).await;
        let Some(bytes) = bytes.transpose() else {
            // Its length has changed since it was looked at. What is sent from the file itself will be
            // as long as was said, or come out short and end the connection.
            self.settled = false;
            return Ok(Content::File(file.into_fd()));
        };
        if !remote {
            drop(file.into_fd());
        }
        Ok(Content::Memory(bytes?))
    }

    /// The `len` bytes of a file, read only if no core has them; `None` if it has another length.
    async fn bytes(
        &self,
        file: &Fd,
        stat: &Statx,
        len: usize,
        remote: bool,
    ) -> io::Result<Option<Bytes>> {
        let identity = Fingerprint::of(stat);
        let shared = tells_versions_apart(stat, self.now);
        if shared && let Some(bytes) = shared_bodies::find(&identity) {
            return Ok(Some(bytes));
        }
        let bytes = self.read(file, len, remote).await?;
        Ok((bytes.len() == len).then(|| {
            if shared {
                shared_bodies::share(identity, bytes)
            } else {
                bytes.into()
            }
        }))
    }

    /// Reads `len` bytes, and one more if the file has grown.
    async fn read(&self, file: &Fd, len: usize, remote: bool) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len + 1);
        while bytes.len() < len {
            let offset = bytes.len() as u64;
            let (count, buffer) = self.tree.ops.read(file, bytes, offset, remote).await?;
            bytes = buffer;
            if count == 0 {
                break;
            }
        }
        Ok(bytes)
    }
}
