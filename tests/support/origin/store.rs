//! The writing half of S3's API: objects, uploads in parts, deletions and listings.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use md5::{Digest, Md5};
use sha2::Sha256;

use super::{Answer, Object, Request, State};

/// Keys of a page of a listing: few, so that there are pages.
const KEYS_MAX: usize = 3;

/// A bucket.
pub(super) struct Bucket {
    path: String,
    uploads: HashMap<String, Upload>,
    begun: usize,
}

/// An object of which not all parts have come.
struct Upload {
    path: String,
    fields: Vec<(String, String)>,
    parts: BTreeMap<u32, Vec<u8>>,
}

impl Bucket {
    pub(super) fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            uploads: HashMap::new(),
            begun: 0,
        }
    }

    pub(super) fn uploads(&self) -> usize {
        self.uploads.len()
    }
}

impl State {
    /// What S3 answers to a request that is not for an object as it is; `None`: it is no bucket.
    pub(super) fn store(&mut self, request: &Request) -> Option<Answer> {
        let bucket = self.bucket.as_mut()?;
        if let Some(refusal) = refusal(request) {
            return Some(refusal);
        }
        let path = request.path().to_owned();
        let upload = parameter(request, "uploadId");
        Some(match (request.method.as_str(), upload) {
            ("GET", _) if path.trim_end_matches('/') == bucket.path => self.listing(request),
            ("GET" | "HEAD", _) => return None,
            ("POST", None) => {
                bucket.begun += 1;
                let id = format!("upload {}&", bucket.begun);
                let upload = Upload {
                    path,
                    fields: kept(request),
                    parts: BTreeMap::new(),
                };
                let shown = id.replace('&', "&amp;");
                bucket.uploads.insert(id, upload);
                xml(&format!(
                    "<InitiateMultipartUploadResult><UploadId>{shown}</UploadId>\
                     </InitiateMultipartUploadResult>"
                ))
            }
            ("PUT", None) => {
                let tag = tag(&request.body);
                let mut object = Object::new(request.body.to_vec()).etag(&tag);
                object.fields = kept(request);
                self.objects.insert(path, object);
                Answer::new(200).field("ETag", tag)
            }
            ("DELETE", None) => {
                self.objects.remove(&path);
                Answer::new(204)
            }
            (method, Some(id)) => {
                let Some(upload) = bucket.uploads.get_mut(&id) else {
                    return Some(error(404, "NoSuchUpload"));
                };
                assert_eq!(upload.path, path);
                match method {
                    "PUT" => {
                        let number = parameter(request, "partNumber").unwrap().parse().unwrap();
                        upload.parts.insert(number, request.body.to_vec());
                        Answer::new(200).field("ETag", tag(&request.body))
                    }
                    "POST" => {
                        let upload = bucket.uploads.remove(&id).unwrap();
                        self.complete(request, upload)
                    }
                    "DELETE" => {
                        bucket.uploads.remove(&id);
                        Answer::new(204)
                    }
                    method => panic!("{method} of an upload"),
                }
            }
            (method, None) => panic!("{method} {}", request.target),
        })
    }

    fn complete(&mut self, request: &Request, upload: Upload) -> Answer {
        let parts = upload.parts.iter().map(|(number, part)| {
            let tag = tag(part);
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>")
        });
        let parts: String = parts.collect();
        let said = String::from_utf8_lossy(&request.body);
        assert!(said.contains(&parts), "{said} has not {parts}");
        let tags = upload.parts.values().map(Md5::digest);
        let tags: Vec<u8> = tags.flatten().collect();
        let tag = format!("\"{}-{}\"", hex(&Md5::digest(tags)), upload.parts.len());
        let body: Vec<u8> = upload.parts.into_values().flatten().collect();
        let mut object = Object::new(body).etag(&tag);
        object.fields = upload.fields;
        self.objects.insert(upload.path, object);
        xml("<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")
    }

    fn listing(&self, request: &Request) -> Answer {
        let bucket = format!("{}/", self.bucket.as_ref().unwrap().path);
        let of = |name| parameter(request, name).unwrap_or_default();
        let (prefix, after) = (of("prefix"), of("continuation-token"));
        let keys = self.objects.iter().filter_map(|(path, object)| {
            let key = decoded(path.strip_prefix(&bucket)?);
            (key.starts_with(&prefix) && key > after).then_some((key, object))
        });
        let mut found: Vec<_> = keys.collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let is_truncated = found.len() > KEYS_MAX;
        found.truncate(KEYS_MAX);
        let mut text = format!(
            "<ListBucketResult><EncodingType>url</EncodingType>\
             <IsTruncated>{is_truncated}</IsTruncated>"
        );
        for (key, object) in &found {
            let tag = object.etag.as_deref().unwrap_or_default();
            let _ = write!(
                text,
                "<Contents><Key>{}</Key><ETag>{}</ETag><Size>{}</Size></Contents>",
                encoded(key),
                tag.replace('"', "&quot;"),
                object.body.len()
            );
        }
        if is_truncated && let Some((key, _)) = found.last() {
            let key = key.replace('&', "&amp;");
            let _ = write!(text, "<NextContinuationToken>{key}</NextContinuationToken>");
        }
        xml(&(text + "</ListBucketResult>"))
    }
}

/// What is wrong about a request, whatever it is for.
fn refusal(request: &Request) -> Option<Answer> {
    let authorization = request.field("authorization").unwrap_or_default();
    let hash = request.field("x-amz-content-sha256");
    // Servers of objects sign no hash; what has a content has to.
    let is_unsigned = request.method == "GET" && hash == Some("UNSIGNED-PAYLOAD");
    match () {
        () if !authorization.starts_with("AWS4-HMAC-SHA256 Credential=") => {
            Some(error(403, "AccessDenied"))
        }
        () if !is_unsigned && hash != Some(&hex(&Sha256::digest(&*request.body))) => {
            Some(error(400, "XAmzContentSHA256Mismatch"))
        }
        () if request.method == "PUT" && request.field("content-length").is_none() => {
            Some(error(411, "MissingContentLength"))
        }
        () => None,
    }
}

/// The fields of a request that its object has from then on.
fn kept(request: &Request) -> Vec<(String, String)> {
    let is_kept = |name: &str| {
        let kept = ["content-type", "cache-control", "content-encoding"];
        kept.contains(&name) || name.starts_with("x-amz-meta-")
    };
    let fields = request.fields.iter();
    fields.filter(|(name, _)| is_kept(name)).cloned().collect()
}

/// A parameter of the query.
fn parameter(request: &Request, name: &str) -> Option<String> {
    let (_, query) = request.target.split_once('?')?;
    let mut parameters = query.split('&').filter_map(|one| one.split_once('='));
    let value = parameters.find_map(|(known, value)| (known == name).then_some(value))?;
    Some(decoded(value))
}

fn decoded(text: &str) -> String {
    let text = percent_encoding::percent_decode_str(text);
    text.decode_utf8().unwrap().into_owned()
}

/// As AWS does it.
fn encoded(key: &str) -> String {
    let encoded = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC);
    encoded.to_string().replace("%20", "+").replace("%2F", "/")
}

fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", hex(&Md5::digest(bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn xml(text: &str) -> Answer {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{text}");
    Answer {
        body: body.into_bytes(),
        ..Answer::new(200).field("Content-Type", "application/xml")
    }
}

fn error(status: u16, code: &str) -> Answer {
    Answer {
        status,
        ..xml(&format!("<Error><Code>{code}</Code></Error>"))
    }
}
