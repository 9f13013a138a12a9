//! Loads the content of an open file, and decides which validators it gets.

use std::ffi::CString;
use std::io;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use rustix::fs::Statx;
use tidegate_config::Site;
use tidegate_http::{Coding, Validators};
use tidegate_uring::Fd;

use crate::error::Error;
use crate::file::content_hash::{self, Digest};
use crate::file::long_memory::{Held, LongMemory};
use crate::file::memory::{FileBytes, Storage};
use crate::file::ops::OpenFile;
use crate::file::popularity::Popularity;
use crate::file::residency_hint::ResidencyHint;
use crate::file::shared_bodies;
use crate::file::stat::{Fingerprint, device, is_remote, is_settled, tells_versions_apart};
use crate::file::{Content, EncodedFields, File, OtherPaths};
use crate::lookup::mtime_reuse::{self, MtimeReuse};
use crate::lookup::representation::{Purpose, ResourceFields};
use crate::lookup::validators::{MtimeUse, mtime_use, validators};
use crate::root_dir::{RootDir, allow_waiting};

/// Loads the files of one resource.
pub(crate) struct FileLoader<'a> {
    pub(crate) memory: MemoryLimits<'a>,
    pub(crate) root: &'a RootDir,
    pub(crate) config: &'a Site,
    pub(crate) purpose: Purpose,
    /// A time before the first file was looked at.
    pub(crate) now: SystemTime,
    /// The directory of the files, if its statx succeeded.
    pub(crate) directory: Option<Statx>,
    /// As [`crate::cache::resource::Resource`] has it, for the files so far.
    pub(crate) is_settled: bool,
    pub(crate) unhashed: Vec<Fingerprint>,
    pub(crate) other_paths: OtherPaths,
}

/// Which files are read into memory.
#[derive(Clone, Copy)]
pub(crate) struct MemoryLimits<'a> {
    /// Those of at most this many bytes.
    pub(crate) inline_max: usize,
    /// The same for popular ones, while there is room for long files.
    pub(crate) popular_max: usize,
    /// The codings of the popular ones; `None` for the file without one.
    pub(crate) popular: &'a [Option<Coding>],
    pub(crate) long: &'a LongMemory,
}

impl MemoryLimits<'_> {
    /// The length of a file that is to be in memory, and the room that it takes if it is long.
    pub(crate) fn room_for(&self, len: u64, is_popular: bool) -> Option<(usize, Option<Held>)> {
        let len = usize::try_from(len).ok()?;
        if len <= self.inline_max {
            return Some((len, None));
        }
        if !is_popular || len > self.popular_max {
            return None;
        }
        let held = self.long.reserve(len, Instant::now())?;
        Some((len, Some(held)))
    }

    /// Whether the file with this coding is popular.
    pub(crate) fn is_popular(&self, coding: Option<Coding>) -> bool {
        self.popular.contains(&coding)
    }
}

/// A file with its content.
pub(crate) struct LoadedFile {
    pub(crate) stat: Statx,
    content: Content,
    pub(crate) reuse: MtimeReuse,
    mtime_use: MtimeUse,
    digest: Option<Digest>,
}

impl FileLoader<'_> {
    pub(crate) async fn load_variant(
        &mut self,
        coding: Coding,
        name: &CString,
        (file, stat): (OpenFile, Statx),
    ) -> Result<LoadedFile, Error> {
        self.is_settled &= is_settled(&stat, self.now);
        self.load(&[Some(coding)], name, file, stat).await
    }

    /// Loads the file that is sent with each of `codings`.
    pub(crate) async fn load(
        &mut self,
        codings: &[Option<Coding>],
        name: &CString,
        file: OpenFile,
        stat: Statx,
    ) -> Result<LoadedFile, Error> {
        allow_waiting(&file)?;
        let is_popular = codings.iter().any(|coding| self.memory.is_popular(*coding));
        let content = self.content(file, &stat, is_popular).await?;
        let mut digest = match &content {
            Content::Memory(bytes) => Some(content_hash::of_bytes(bytes)),
            Content::File(_) | Content::Sliced(_) => None,
        };
        let (mut reuse, mut mtime_use) = self.mtime_use(name, &stat, digest);
        if let Content::File(file) = &content
            && !mtime_use.makes_etag()
            && self.has_validators()
        {
            digest = self.digest(file, &stat).await;
            if digest.is_none() {
                self.unhashed.push(Fingerprint::of(&stat));
            }
            (reuse, mtime_use) = self.mtime_use(name, &stat, digest);
            // The next version may have the same fingerprint, and no hash distinguishes them.
            if digest.is_none() && !is_settled(&stat, self.now) {
                mtime_use = MtimeUse::Nothing;
            }
        }
        Ok(LoadedFile {
            stat,
            content,
            reuse,
            mtime_use,
            digest,
        })
    }

    fn mtime_use(
        &self,
        name: &CString,
        stat: &Statx,
        digest: Option<Digest>,
    ) -> (MtimeReuse, MtimeUse) {
        let reuse = mtime_reuse::record(&self.root.path, name, stat, digest);
        let directory = self.directory.as_ref();
        let mtime_use = mtime_use(stat, directory, reuse, self.config.etag);
        (reuse, mtime_use)
    }

    pub(crate) fn file(
        &self,
        loaded: &LoadedFile,
        coding: Option<Coding>,
        fields: &ResourceFields<'_>,
    ) -> Rc<File> {
        let body = Some((loaded.content.clone(), loaded.stat.stx_size));
        Rc::new(self.file_with(loaded, coding, fields, body))
    }

    /// The file with another body and its length. `None`: the body is decompressed while it is
    /// sent, and its length is unknown.
    pub(crate) fn file_with(
        &self,
        loaded: &LoadedFile,
        coding: Option<Coding>,
        fields: &ResourceFields<'_>,
        body: Option<(Content, u64)>,
    ) -> File {
        let stat = &loaded.stat;
        let validators = if self.has_validators() {
            validators(stat, loaded.mtime_use, loaded.digest, coding, self.now)
        } else {
            Validators::default()
        };
        let has_ranges = body.is_some();
        let (content, len) = body.unwrap_or((Content::Memory(Bytes::new().into()), 0));
        File {
            len,
            fields: fields.representation(coding, validators, has_ranges),
            validators,
            content_type: fields.content_type.clone().into_owned(),
            coding,
            residency_hint: ResidencyHint::default(),
            encoded_fields: EncodedFields::default(),
            other_paths: self.other_paths.clone(),
            origin: None,
            popularity: Popularity::default(),
            content,
            ops: self.root.ops.on_device(device(stat)),
        }
    }

    /// An error page is no representation of the target resource (RFC 9110, section 6.4.2).
    fn has_validators(&self) -> bool {
        match self.purpose {
            Purpose::Itself | Purpose::Fallback => true,
            Purpose::ErrorPage => false,
        }
    }

    /// The hash of a file that is not in memory. `None`: a thread computes it, or it failed.
    async fn digest(&mut self, file: &Fd, stat: &Statx) -> Option<Digest> {
        let fingerprint = Fingerprint::of(stat);
        if stat.stx_size > content_hash::IN_LOOKUP_BYTES_MAX {
            return content_hash::get_or_enqueue(&fingerprint, file);
        }
        if let Some(digest) = content_hash::get(&fingerprint) {
            return Some(digest);
        }
        let hashed = content_hash::of_open_file(&self.root.ops, file, stat.stx_size).await;
        let after = self.root.stat_open(file).await;
        let digest = hashed.ok().flatten()?;
        if Fingerprint::of(&after.ok()?) != fingerprint {
            return None;
        }
        if is_settled(stat, self.now) {
            content_hash::insert(fingerprint, digest);
        }
        Some(digest)
    }

    /// Reads a file into memory, unless it is served from its descriptor.
    async fn content(
        &mut self,
        file: OpenFile,
        stat: &Statx,
        is_popular: bool,
    ) -> Result<Content, Error> {
        let Some((len, held)) = self.memory.room_for(stat.stx_size, is_popular) else {
            return Ok(Content::File(file.into_fd()));
        };
        let remote = is_remote(&file);
        let bytes = self.bytes(&file, stat, (len, held), remote).await;
        let Some(bytes) = bytes.transpose() else {
            // Its length changed since the statx. A response from the descriptor has the announced
            // length, or falls short and ends the connection.
            self.is_settled = false;
            return Ok(Content::File(file.into_fd()));
        };
        if !remote {
            drop(file.into_fd());
        }
        Ok(Content::Memory(bytes?))
    }

    /// The `len` bytes of a file, read unless another core has them. `None`: it has another length.
    async fn bytes(
        &self,
        file: &Fd,
        stat: &Statx,
        (len, held): (usize, Option<Held>),
        remote: bool,
    ) -> io::Result<Option<FileBytes>> {
        let fingerprint = Fingerprint::of(stat);
        let shared = tells_versions_apart(stat, self.now);
        if shared && let Some(bytes) = shared_bodies::find(&fingerprint) {
            return Ok(Some(bytes.hold(held)));
        }
        let bytes = self.read(file, len, remote).await?;
        Ok((bytes.len() == len).then(|| {
            let is_huge = held.as_ref().is_some_and(|held| held.is_huge);
            let storage = Storage::new(bytes, is_huge);
            if shared {
                shared_bodies::share(fingerprint, storage).hold(held)
            } else {
                FileBytes::new(storage, held)
            }
        }))
    }

    /// Reads `len` bytes, and one more if the file has grown.
    async fn read(&self, file: &Fd, len: usize, remote: bool) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len + 1);
        while bytes.len() < len {
            let offset = bytes.len() as u64;
            let (count, buffer) = self.root.ops.read(file, bytes, offset, remote).await?;
            bytes = buffer;
            if count == 0 {
                break;
            }
        }
        Ok(bytes)
    }
}
