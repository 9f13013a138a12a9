//! The operations of an S3 store that publishing needs.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use http::{HeaderName, Method};

use super::content::Content;
use super::digest::{Sha256, Sha256s, part_len, parts};
use super::error::RequestError;
use super::listing::{self, Listed};
use super::transport::{Request, Transport};
use crate::s3::sign::hex;
use crate::s3::xml::{element, unescaped};

/// Has the SHA-256 of an object, for stores whose entity tags say nothing about the content.
const SHA256: HeaderName = HeaderName::from_static("x-amz-meta-sha256");

/// What an object is stored with.
pub(super) struct ObjectFields<'a> {
    pub(super) content_type: &'a str,
    pub(super) cache_control: Option<&'a str>,
}

/// A bucket.
pub(super) struct Store<'a> {
    pub(super) transport: Transport<'a>,
    /// Parts of a file that are under way at a time, at most.
    pub(super) concurrency: usize,
}

impl Store<'_> {
    /// All objects whose keys begin with `prefix`, by key.
    pub(super) async fn list(&self, prefix: &str) -> Result<HashMap<String, Listed>, RequestError> {
        let mut objects = HashMap::new();
        let mut token: Option<String> = None;
        loop {
            let parameters = [
                ("list-type", "2"),
                ("encoding-type", "url"),
                ("prefix", prefix),
                ("continuation-token", token.as_deref().unwrap_or_default()),
            ];
            let count = parameters.len() - usize::from(token.is_none());
            let request = Request::new(Method::GET, "").query(&parameters[..count]);
            let response = self.transport.send(&request).await?;
            let page = listing::parse(&response.body).map_err(RequestError::Malformed)?;
            let found = page.objects.into_iter();
            objects.extend(found.map(|object| (object.key.clone(), object)));
            if page.next.is_none() {
                return Ok(objects);
            }
            if page.next == token {
                return Err(RequestError::Malformed("names itself as its continuation"));
            }
            token = page.next;
        }
    }

    /// Whether an object was stored with this SHA-256 in its metadata. An object that cannot be
    /// looked at was not.
    pub(super) async fn has_sha256(&self, key: &str, sha256: &Sha256) -> bool {
        let response = self.transport.send(&Request::new(Method::HEAD, key)).await;
        let stored = response.ok();
        let stored = stored
            .as_ref()
            .and_then(|response| response.fields.get(SHA256));
        stored.is_some_and(|stored| stored.as_bytes() == hex(sha256).as_bytes())
    }

    /// Stores a file of `len` bytes.
    pub(super) async fn put(
        &self,
        key: &str,
        file: &Arc<File>,
        len: u64,
        hashes: &Sha256s,
        fields: &ObjectFields<'_>,
    ) -> Result<(), RequestError> {
        if let Some(part) = part_len(len) {
            return self.put_parts(key, file, (len, part), hashes, fields).await;
        }
        let content = Content::File(Arc::clone(file), 0..len, hashes.whole);
        let request = Request::new(Method::PUT, key).content(content);
        let request = with_fields(request, hashes, fields);
        self.transport.send(&request).await.map(|_| ())
    }

    /// Stores a file in parts, or nothing of it.
    async fn put_parts(
        &self,
        key: &str,
        file: &Arc<File>,
        lens: (u64, u64),
        hashes: &Sha256s,
        fields: &ObjectFields<'_>,
    ) -> Result<(), RequestError> {
        let request = Request::new(Method::POST, key).query(&[("uploads", "")]);
        let request = with_fields(request, hashes, fields);
        let created = self.transport.send(&request).await?;
        let upload = element(&created.body, "UploadId").and_then(unescaped);
        let upload = upload.ok_or(RequestError::Malformed("names no upload"))?;
        let done = match self.parts(key, &upload, file, lens, &hashes.parts).await {
            Ok(etags) => self.complete(key, &upload, &etags).await,
            Err(error) => Err(error),
        };
        if done.is_err() {
            let mut abort = Request::new(Method::DELETE, key).query(&[("uploadId", &upload)]);
            abort.is_cleanup = true;
            if let Err(error) = self.transport.send(&abort).await {
                tracing::warn!(key, %error, "an upload is not aborted: its parts stay in the store");
            }
        }
        done
    }

    /// Uploads the parts; their entity tags in order.
    async fn parts(
        &self,
        key: &str,
        upload: &str,
        file: &Arc<File>,
        (len, part): (u64, u64),
        hashes: &[Sha256],
    ) -> Result<Vec<String>, RequestError> {
        let numbered = (1_u32..).zip(parts(len, part)).zip(hashes);
        let sent = numbered.map(|((number, range), sha256)| async move {
            let number = number.to_string();
            let request = Request::new(Method::PUT, key)
                .query(&[("partNumber", &number), ("uploadId", upload)])
                .content(Content::File(Arc::clone(file), range, *sha256));
            let response = self.transport.send(&request).await?;
            let etag = response.fields.get(ETAG).and_then(|tag| tag.to_str().ok());
            etag.map(str::to_owned)
                .ok_or(RequestError::Malformed("has no entity tag of a part"))
        });
        let sent = stream::iter(sent).buffered(self.concurrency);
        sent.try_collect().await
    }

    async fn complete(
        &self,
        key: &str,
        upload: &str,
        etags: &[String],
    ) -> Result<(), RequestError> {
        let parts = (1..).zip(etags).map(|(number, etag): (u32, _)| {
            let etag = etag.replace('&', "&amp;").replace('<', "&lt;");
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
        });
        let parts: String = parts.collect();
        let xml = format!(
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{parts}\
             </CompleteMultipartUpload>"
        );
        let request = Request::new(Method::POST, key)
            .query(&[("uploadId", upload)])
            .field(CONTENT_TYPE, "application/xml")
            .content(Content::Bytes(Bytes::from(xml)));
        self.transport.send(&request).await.map(|_| ())
    }

    /// Removes an object. One that is gone already is no error.
    pub(super) async fn delete(&self, key: &str) -> Result<(), RequestError> {
        let request = Request::new(Method::DELETE, key);
        self.transport.send(&request).await.map(|_| ())
    }
}

fn with_fields(request: Request, hashes: &Sha256s, fields: &ObjectFields<'_>) -> Request {
    let request = request
        .field(CONTENT_TYPE, fields.content_type)
        .field(SHA256, &hex(&hashes.whole));
    match fields.cache_control {
        Some(value) => request.field(CACHE_CONTROL, value),
        None => request,
    }
}
