//! Loads a file and its variants as one [`Resource`].

use std::cell::Cell;
use std::ffi::CString;
use std::rc::Rc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_lite::future::zip;
use rustix::fs::Statx;
use tidegate_config::CompressedOnly;
use tidegate_http::Coding;

use crate::cache::resource::{Dependency, Resource, Unencoded};
use crate::decompress::{self, Compressed};
use crate::error::Error;
use crate::file::ops::OpenFile;
use crate::file::stat::is_settled;
use crate::file::{Content, File};
use crate::lookup::file_loader::{FileLoader, LoadedFile};
use crate::lookup::mtime_reuse::MtimeReuse;
use crate::lookup::representation::{Purpose, ResourceFields};
use crate::lookup::variants::{self, Variant};
use crate::mime;
use crate::paths::parent;
use crate::rules::headers::{self, HeaderSet};

/// The file that variants are variants of.
pub(crate) enum Original {
    Present(Box<Opened>),
    /// Only variants exist. The time is one before they were opened.
    Absent(Vec<Variant>, SystemTime),
}

/// An open file and its statx result.
pub(crate) struct Opened {
    pub(crate) file: OpenFile,
    pub(crate) stat: Statx,
    /// A time before `stat` was taken.
    pub(crate) now: SystemTime,
}

impl Original {
    pub(crate) fn now(&self) -> SystemTime {
        match self {
            Self::Present(opened) => opened.now,
            Self::Absent(_, now) => *now,
        }
    }
}

/// Loads one resource.
pub(crate) struct ResourceLoader<'a> {
    pub(crate) files: FileLoader<'a>,
    /// The path whose header rules apply.
    pub(crate) headers_path: &'a [u8],
    pub(crate) dependencies: Vec<Dependency>,
    /// Variants that are longer, or become so, are decompressed for each response.
    pub(crate) decompressed_max: usize,
}

impl<'a> ResourceLoader<'a> {
    pub(crate) async fn load(self, name: &CString, original: Original) -> Result<Resource, Error> {
        match original {
            Original::Present(opened) => self.present(name, *opened).await,
            Original::Absent(variants, _) => self.absent(name, variants).await,
        }
    }

    async fn present(mut self, name: &CString, opened: Opened) -> Result<Resource, Error> {
        let Opened { file, stat, now } = opened;
        let (root, config) = (self.files.root, self.files.config);
        let directory = parent(name);
        let (directory_stat, variants) = zip(
            root.stat(&directory),
            variants::find(root, &config.precompressed, name, Some(&stat)),
        )
        .await;
        let mut variants = variants?;
        self.files.directory = directory_stat.ok();
        self.files.is_settled &= is_settled(&stat, now);
        let encoded = self.content_encoded(name.as_bytes());
        let codings = [None, encoded.map(|(coding, _)| coding)];
        let original = self.files.load(&codings, name, file, stat).await?;
        if original.reuse == MtimeReuse::Time {
            variants::reject_changed_before(&mut variants, &original.stat);
        }
        self.depend_on_variants(&variants, &directory);
        let mut representations = Vec::new();
        let content_type = mime::content_type(config, name.as_bytes());
        let varies = encoded.is_some() || variants::codings(&variants).next().is_some();
        let fields = self.fields(&content_type, varies);
        if let Some((coding, stem)) = encoded {
            let content_type = mime::content_type(config, stem);
            let fields = self.fields(&content_type, varies);
            representations.push(self.files.file(&original, Some(coding), &fields));
        }
        for (coding, name, opened) in variants.into_iter().filter_map(Variant::into_usable) {
            let variant = self.files.load_variant(coding, &name, opened).await?;
            representations.push(self.files.file(&variant, Some(coding), &fields));
        }
        let unencoded = Unencoded::File(self.files.file(&original, None, &fields));
        Ok(self.resource(unencoded, representations))
    }

    /// The file `name`, if it exists only as variants.
    async fn absent(mut self, name: &CString, variants: Vec<Variant>) -> Result<Resource, Error> {
        let config = self.files.config;
        let directory = parent(name);
        self.files.directory = self.files.root.stat(&directory).await.ok();
        self.depend_on_variants(&variants, &directory);
        let content_type = mime::content_type(config, name.as_bytes());
        let fields = self.fields(&content_type, true);
        let decoded_from = match config.compressed_only {
            CompressedOnly::Decompress => decompress::cheapest(variants::codings(&variants)),
            CompressedOnly::Refuse | CompressedOnly::Off => None,
        };
        let mut representations = Vec::new();
        let mut unencoded = Unencoded::NotAvailable;
        for (coding, name, opened) in variants.into_iter().filter_map(Variant::into_usable) {
            let variant = self.files.load_variant(coding, &name, opened).await?;
            let file = self.files.file(&variant, Some(coding), &fields);
            if Some(coding) == decoded_from {
                unencoded = self
                    .decompressed((coding, name), &file, &variant, &fields)
                    .await;
            }
            representations.push(file);
        }
        Ok(self.resource(unencoded, representations))
    }

    /// The variant `file` without its coding. A small one is decompressed here and cached.
    async fn decompressed(
        &self,
        (coding, name): (Coding, CString),
        file: &Rc<File>,
        loaded: &LoadedFile,
        fields: &ResourceFields<'_>,
    ) -> Unencoded {
        let small = match file.len {
            // Browsers take an empty body for an empty file, whatever the coding demands.
            0 => Some(Vec::new()),
            _ => decompress::decompress_small(file, coding, self.decompressed_max).await,
        };
        if let Some(bytes) = small.map(Bytes::from) {
            let len = bytes.len() as u64;
            let body = Some((Content::Memory(bytes.into()), len));
            Unencoded::File(Rc::new(self.files.file_with(loaded, None, fields, body)))
        } else {
            let description = self.files.file_with(loaded, None, fields, None);
            let compressed = Compressed::new(description, file, coding, name);
            Unencoded::Compressed(Rc::new(compressed))
        }
    }

    /// The coding of a `content-encoded` file, and its name without the extension for it.
    fn content_encoded<'n>(&self, name: &'n [u8]) -> Option<(Coding, &'n [u8])> {
        let path = [&*self.files.root.at, b"/", name].concat();
        let patterns = &self.files.config.content_encoded;
        if patterns.iter().any(|pattern| pattern.is_match(&path)) {
            variants::content_coding(name)
        } else {
            None
        }
    }

    fn fields<'t>(&self, content_type: &'t str, varies: bool) -> ResourceFields<'t>
    where
        'a: 't,
    {
        ResourceFields::new(self.files.purpose, content_type, varies, self.header_set())
    }

    /// The fields that rules set for the path. An error page is sent for many paths: their rules
    /// are applied when it is sent.
    fn header_set(&self) -> HeaderSet<'a> {
        match self.files.purpose {
            Purpose::Itself | Purpose::Fallback => {
                headers::apply(&self.files.config.headers, self.headers_path)
            }
            Purpose::ErrorPage => HeaderSet::default(),
        }
    }

    /// Depends on the variants that exist, and for all that do not on their directory: its mtime
    /// changes when one is added. If it changed so lately that one more change may leave the same
    /// mtime, each missing name is a dependency of its own.
    fn depend_on_variants(&mut self, variants: &[Variant], directory: &CString) {
        let now = self.files.now;
        let settled = self.files.directory.filter(|stat| is_settled(stat, now));
        let mut is_any_missing = false;
        for variant in variants {
            let stat = variant.opened.as_ref().map(|(_, stat)| stat);
            is_any_missing |= stat.is_none();
            if stat.is_some() || settled.is_none() {
                self.dependencies.push(Dependency::new(&variant.name, stat));
            }
        }
        if is_any_missing && settled.is_some() {
            let dependency = Dependency::new(directory, settled.as_ref());
            self.dependencies.push(dependency);
        }
    }

    fn resource(self, unencoded: Unencoded, variants: Vec<Rc<File>>) -> Resource {
        Resource {
            unencoded,
            variants,
            dependencies: self.dependencies,
            is_settled: self.files.is_settled,
            unhashed: self.files.unhashed,
            deleted: Cell::new(false),
            objects: Vec::new(),
        }
    }
}
