//! Finds an object of the site's origin with its variants, and makes a resource of it.

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use futures_util::future::join_all;
use rustix::io::Errno;
use tidegate_config::Site;
use tidegate_http::{Coding, ETag, Status, Validators};
use tidegate_origin::{
    CacheState, Error as OriginError, Found, Growing, Object, Origin, Slice, Wanted,
};
use tidegate_uring::{Fd, woken_by_others};

use crate::cache::resource::{Resource, Unencoded};
use crate::error::Error;
use crate::file::memory::{FileBytes, Storage};
use crate::file::ops::FileOps;
use crate::file::popularity::Popularity;
use crate::file::residency_hint::ResidencyHint;
use crate::file::{Content, EncodedFields, File, OtherPaths, Provenance, Sliced};
use crate::lookup::file_loader::MemoryLimits;
use crate::lookup::representation::{Purpose, ResourceFields};
use crate::mime;
use crate::rules::headers::{self, HeaderSet};

/// The types that a store gives an object without one of its own.
const NO_TYPES: [&str; 3] = ["", "binary/octet-stream", "application/octet-stream"];

/// What a request says besides its path that an origin is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct ObjectRequest {
    /// As it came.
    pub(crate) query: Option<Box<str>>,
    /// The byte that is probably read first.
    pub(crate) first_byte: u64,
}

/// Loads the objects of one path.
pub(crate) struct ObjectLoader<'a> {
    pub(crate) origin: &'a Arc<Origin>,
    pub(crate) ops: &'a FileOps,
    pub(crate) config: &'a Site,
    pub(crate) purpose: Purpose,
    pub(crate) memory: MemoryLimits<'a>,
    pub(crate) request: &'a ObjectRequest,
    /// The path whose header rules apply.
    pub(crate) headers_path: &'a [u8],
    pub(crate) other_paths: OtherPaths,
    /// What is cached for the path: taken again if its objects are the same.
    pub(crate) before: Option<&'a Rc<Resource>>,
    pub(crate) now: Instant,
}

/// What an origin has for a path.
pub(crate) enum Loaded {
    /// A resource, fresh until this time, exclusive.
    Resource(Rc<Resource>, Instant),
    /// Another place.
    Elsewhere(Status, Arc<str>),
}

/// An object that was found.
pub(crate) type FoundObject = (Arc<Object>, CacheState);

impl<'a> ObjectLoader<'a> {
    /// Loads the object at `path`, which does not end in a slash, with its variants.
    pub(crate) async fn load(mut self, path: &[u8]) -> Result<Loaded, Error> {
        let (object, state) = match self.find(path).await? {
            Found::Object(object, state) => (object, state),
            Found::Redirect { status, location } => {
                let status = match status {
                    301 => Status::MOVED_PERMANENTLY,
                    307 => Status::TEMPORARY_REDIRECT,
                    308 => Status::PERMANENT_REDIRECT,
                    _ => Status::FOUND,
                };
                return Ok(Loaded::Elsewhere(status, location));
            }
        };
        let content_type = content_type(self.config, &object, path);
        let query = self.request.query.as_deref();
        let variants = variants(
            self.origin,
            self.config,
            (path, query),
            &object,
            &content_type,
        )
        .await;
        let mut objects = vec![Arc::clone(&object)];
        objects.extend(variants.iter().map(|(_, (object, _))| Arc::clone(object)));
        let states = variants.iter().map(|(_, (_, state))| *state);
        let states: Vec<_> = states.chain([state]).collect();
        let fresh_until = if states.contains(&CacheState::Stale) {
            // It may be so by a purge, whatever its age is.
            self.now
        } else {
            self.fresh_until(&objects)
        };
        if let Some(before) = self.before
            && self.memory.popular.is_empty()
            && before.is_of(&objects)
        {
            before.note_stale(&states);
            return Ok(Loaded::Resource(Rc::clone(before), fresh_until));
        }
        let mut is_whole = true;
        let mut files = Vec::new();
        let varies = !variants.is_empty();
        for (coding, (variant, state)) in variants {
            let fields = self.fields(&object, &content_type, varies);
            let file = self
                .file((&variant, state), Some(coding), &fields, &mut is_whole)
                .await?;
            files.push(Rc::new(file));
        }
        let fields = self.fields(&object, &content_type, varies);
        let file = self
            .file((&object, state), None, &fields, &mut is_whole)
            .await?;
        let resource = Resource {
            unencoded: Unencoded::File(Rc::new(file)),
            variants: files,
            dependencies: Vec::new(),
            is_settled: false,
            unhashed: Vec::new(),
            deleted: Cell::new(false),
            objects,
        };
        // A slice that grows is looked at again: complete, it is sent like a file.
        let fresh_until = if is_whole { fresh_until } else { self.now };
        Ok(Loaded::Resource(Rc::new(resource), fresh_until))
    }

    async fn find(&self, path: &[u8]) -> Result<Found, OriginError> {
        let wanted = Wanted {
            path,
            query: self.request.query.as_deref(),
            first_byte: self.request.first_byte,
        };
        woken_by_others(self.origin.find(wanted)).await
    }

    fn fresh_until(&self, objects: &[Arc<Object>]) -> Instant {
        let now = SystemTime::now();
        let fresh = objects.iter().map(|object| object.fresh_for(now)).min();
        self.now + fresh.unwrap_or_default()
    }

    /// The fields of the site's rules, and what the origin says besides.
    fn fields<'t>(&self, object: &Object, content_type: &'t str, varies: bool) -> ResourceFields<'t>
    where
        'a: 't,
    {
        let mut set: HeaderSet<'t> = match self.purpose {
            Purpose::Itself | Purpose::Fallback => {
                headers::apply(&self.config.headers, self.headers_path)
            }
            Purpose::ErrorPage => HeaderSet::default(),
        };
        if self.purpose != Purpose::ErrorPage {
            for (name, value) in object.fields() {
                if let Some(name) = sent_name(name) {
                    set.put_default(name, Cow::Owned(value.to_owned()));
                }
            }
        }
        ResourceFields::new(self.purpose, content_type, varies, set)
    }

    async fn file(
        &mut self,
        (object, state): (&Arc<Object>, CacheState),
        coding: Option<Coding>,
        fields: &ResourceFields<'_>,
        is_whole: &mut bool,
    ) -> Result<File, Error> {
        let validators = match self.purpose {
            Purpose::Itself | Purpose::Fallback => validators(object),
            Purpose::ErrorPage => Validators::default(),
        };
        let content = self.content(object, coding).await?;
        *is_whole &=
            !matches!(content, Content::Sliced(_)) || object.len() > self.origin.slice_len();
        Ok(File {
            len: object.len(),
            fields: fields.representation(coding, validators, true),
            validators,
            content_type: fields.content_type.clone().into_owned(),
            coding,
            residency_hint: ResidencyHint::default(),
            encoded_fields: EncodedFields::default(),
            other_paths: self.other_paths.clone(),
            origin: Some(Provenance::new(self.origin, object, state)),
            popularity: Popularity::default(),
            content,
            ops: self.ops.clone(),
        })
    }

    /// The bytes of an object that is one slice and complete are a file like any other.
    async fn content(
        &mut self,
        object: &Arc<Object>,
        coding: Option<Coding>,
    ) -> Result<Content, Error> {
        if object.is_empty() {
            return Ok(Content::Memory(Bytes::new().into()));
        }
        let sliced = || Content::Sliced(Sliced::new(self.origin, object, self.ops));
        // The head of a response does not wait for a fill.
        if object.len() > self.origin.slice_len()
            || !object.is_stored()
            || self.origin.is_filling(object, 0)
        {
            return Ok(sliced());
        }
        let file = match woken_by_others(self.origin.slice(object, 0)).await? {
            Slice::Stored(file) => Fd::from(file),
            Slice::Growing(growing) if is_complete(&growing, object) => {
                Fd::from(growing.file().map_err(Error::Busy)?)
            }
            Slice::Growing(_) | Slice::Streamed(_) => return Ok(sliced()),
        };
        let room = self
            .memory
            .room_for(object.len(), self.memory.is_popular(coding));
        let Some((len, held)) = room else {
            return Ok(Content::File(file));
        };
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let offset = bytes.len() as u64;
            let read = self.ops.read(&file, bytes, offset, false).await;
            if let Err(error) = &read
                && Errno::from_io_error(error) == Some(Errno::IO)
            {
                woken_by_others(self.origin.forget_slice(object, 0)).await;
                return Ok(sliced());
            }
            let (count, buffer) = read.map_err(Error::Failed)?;
            bytes = buffer;
            if count == 0 {
                return Ok(sliced());
            }
        }
        // Behind it the file has what the cache knows of it.
        bytes.truncate(len);
        let is_huge = held.as_ref().is_some_and(|held| held.is_huge);
        Ok(Content::Memory(FileBytes::new(
            Storage::new(bytes, is_huge),
            held,
        )))
    }
}

/// The type of the object at `path`: what the origin says, unless it is a store's own.
pub(crate) fn content_type(site: &Site, object: &Object, path: &[u8]) -> String {
    match object.field(&CONTENT_TYPE) {
        Some(said) if !NO_TYPES.contains(&said) => said.to_owned(),
        _ => mime::content_type(site, path),
    }
}

/// The variants of the object at a path with a query. That of an object which is not compressible
/// is not asked for.
pub(crate) async fn variants(
    origin: &Arc<Origin>,
    site: &Site,
    (path, query): (&[u8], Option<&str>),
    object: &Object,
    content_type: &str,
) -> Vec<(Coding, FoundObject)> {
    let is_coded = object.field(&CONTENT_ENCODING).is_some();
    if is_coded || !object.is_stored() || !mime::is_compressible(content_type) {
        return Vec::new();
    }
    let codings = site.precompressed.iter().copied();
    let found = codings.clone().map(|coding| async move {
        let path = [path, b".", coding.extension().as_bytes()].concat();
        let wanted = Wanted {
            path: &path,
            query,
            first_byte: 0,
        };
        woken_by_others(origin.find(wanted)).await
    });
    let found = join_all(found).await;
    let usable = codings
        .zip(found)
        .filter_map(|(coding, found)| match found {
            Ok(Found::Object(variant, state)) if variant.is_stored() => {
                Some((coding, (variant, state)))
            }
            // The object itself is there, and is sent without a coding.
            _ => None,
        });
    usable.collect()
}

fn is_complete(growing: &Growing, object: &Object) -> bool {
    growing.written() == object.len()
}

const CONTENT_TYPE: http::HeaderName = http::header::CONTENT_TYPE;
const CONTENT_ENCODING: http::HeaderName = http::header::CONTENT_ENCODING;

/// The name of a field of an origin as it is sent; `None` for those that are made anew.
fn sent_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "cache-control" => "Cache-Control",
        "content-disposition" => "Content-Disposition",
        "content-encoding" => "Content-Encoding",
        "content-language" => "Content-Language",
        "expires" => "Expires",
        "link" => "Link",
        _ => return None,
    })
}

fn validators(object: &Object) -> Validators {
    let date = object.last_modified();
    let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
    let since = date.and_then(|date| date.duration_since(SystemTime::UNIX_EPOCH).ok());
    Validators {
        etag: object.etag().and_then(|etag| ETag::parse(etag.as_bytes())),
        modified: since.map(|since| since.as_secs()),
        is_date_strong: false,
    }
}
