//! Requests of the admin listener about what is kept of origins: `POST /purge` and `POST /warm`.
//! docs/purge.md specifies them.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde_json::{Map, Value, json};
use tidegate_h1::{Framing, Head};
use tidegate_http::{EncodedSlash, Method, Request, Status, Target};
use tidegate_origin::{Cache, Manner, Purged};
use tidegate_site::warm;

use crate::config::cached_sites::CachedSites;
use crate::observe::admin_listener::Reaction;
use crate::observe::admin_response::respond_with;

/// Bytes of the body of a purge, and of a list of what to warm.
const PURGE_BYTES_MAX: u64 = 64 * 1024;
const WARM_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How long a client may take to send the body, and how long it may read nothing of the response.
const BODY_TIME: Duration = Duration::from_secs(10);
const RESPONSE_TIME: Duration = Duration::from_secs(5);

/// Objects of one request to warm, and those that are fetched at a time.
const WARM_MAX: usize = 10_000;
const WARM_CONCURRENCY: usize = 4;

/// The requests in progress.
#[derive(Default)]
pub(crate) struct CacheRequests {
    is_warming: Arc<AtomicBool>,
}

/// What a request is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Purge,
    Warm,
}

/// A status, and JSON.
type Answer = (Status, Value);

impl CacheRequests {
    /// What becomes of the request with `head` in `received`; `None`: it is for another path.
    pub(crate) fn reaction(
        &self,
        received: &[u8],
        head: &Head<'_>,
        sites: impl FnOnce() -> Arc<CachedSites>,
    ) -> Option<Reaction> {
        let action = match head.request.target.path() {
            "/purge" => Action::Purge,
            "/warm" => Action::Warm,
            _ => return None,
        };
        let sites = sites();
        let length = match admitted(action, head, &sites) {
            Ok(length) => length,
            Err(answer) => return Some(Reaction::Response(response(answer, head.request.method))),
        };
        let mut body = received[head.len..].to_vec();
        body.truncate(length);
        let (expects, is_warming) = (head.expect_continue, Arc::clone(&self.is_warming));
        Some(Reaction::Task(Box::new(move |mut socket| {
            let served = receive(&mut socket, &mut body, length, expects).and_then(|()| {
                let answer = match action {
                    Action::Purge => purge(&body, &sites),
                    Action::Warm => warm_list(&body, &sites, &is_warming, &socket),
                };
                socket.set_write_timeout(Some(RESPONSE_TIME))?;
                socket.write_all(&response(answer, Method::Get))
            });
            if let Err(error) = served {
                tracing::debug!(%error, "no answer to a request for the cache");
            }
        })))
    }
}

/// The length of the body of a request that is to be done, or why it is not.
fn admitted(action: Action, head: &Head<'_>, sites: &CachedSites) -> Result<usize, Answer> {
    if !head.request_line.starts_with(b"POST ") {
        return Err(refused(Status::METHOD_NOT_ALLOWED, "it is a POST"));
    }
    let Some(token) = &sites.token else {
        let reason = "admin.token is not set: it names the file with the secret";
        return Err(refused(Status::FORBIDDEN, reason));
    };
    if !bearer(&head.request).is_some_and(|presented| token.is(presented)) {
        let reason = "not the secret of admin.token, as Authorization: Bearer SECRET";
        return Err(refused(Status::UNAUTHORIZED, reason));
    }
    if sites.cache().is_none() {
        return Err(refused(Status::NOT_FOUND, "no site has an origin"));
    }
    let (length, max) = match (head.framing, action) {
        (Framing::None, _) => (0, 0),
        (Framing::Length(length), Action::Purge) => (length, PURGE_BYTES_MAX),
        (Framing::Length(length), Action::Warm) => (length, WARM_BYTES_MAX),
        (Framing::Chunked, _) => return Err(bad("the body needs a Content-Length")),
    };
    match usize::try_from(length).ok().filter(|_| length <= max) {
        Some(length) => Ok(length),
        None => Err(refused(
            Status::CONTENT_TOO_LARGE,
            &format!("a body of at most {max} bytes"),
        )),
    }
}

/// The token that a request presents (RFC 6750, section 2.1).
fn bearer<'b>(request: &Request<'b>) -> Option<&'b [u8]> {
    let mut lines = request.fields.named("authorization");
    let line = lines.next().filter(|_| lines.next().is_none())?;
    let (scheme, token) = line.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

/// Reads the rest of a body of `length` bytes.
fn receive(
    socket: &mut TcpStream,
    body: &mut Vec<u8>,
    length: usize,
    expects: bool,
) -> io::Result<()> {
    let end = Instant::now() + BODY_TIME;
    if expects && body.len() < length {
        socket.set_write_timeout(Some(BODY_TIME))?;
        socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut piece = [0; 16 * 1024];
    while body.len() < length {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let most = piece.len().min(length - body.len());
        match socket.read(&mut piece[..most])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => body.extend_from_slice(&piece[..count]),
        }
    }
    Ok(())
}

/// Purges what `body` names.
fn purge(body: &[u8], sites: &CachedSites) -> Answer {
    let Some(cache) = sites.cache() else {
        return refused(Status::NOT_FOUND, "no site has an origin");
    };
    match purges(body, &sites.indexes()) {
        Err(reason) => bad(&reason),
        Ok(purges) => match purge_all(cache, &purges) {
            Ok(()) => (Status::OK, json!({ "purged": purges.len() })),
            Err(error) => refused(
                Status::INTERNAL_SERVER_ERROR,
                &format!(
                    "it is purged, but comes back with a restart: the purge cannot be written to \
                     the cache's disk: {error}"
                ),
            ),
        },
    }
}

/// What an object of JSON names, and how to purge it.
#[derive(Debug, PartialEq, Eq)]
struct Purge {
    what: Vec<Purged>,
    manner: Manner,
}

fn purge_all(cache: &Cache, purges: &[Purge]) -> io::Result<()> {
    let mut result = Ok(());
    for Purge { what, manner } in purges {
        tracing::info!("purge: {:?}, {manner:?}", what.first());
        for what in what {
            result = result.and(cache.purge(what.clone(), *manner));
        }
    }
    result
}

/// The purges in `body`: an object of JSON, or a list of these. `indexes` are the names of
/// indexes: a path that ends in a slash stands for them.
fn purges(body: &[u8], indexes: &[&str]) -> Result<Vec<Purge>, String> {
    match serde_json::from_slice(body).map_err(|error| not_json(&error))? {
        Value::Object(one) => Ok(vec![one_purge(&one, indexes)?]),
        Value::Array(all) if !all.is_empty() => all
            .iter()
            .map(|one| match one {
                Value::Object(one) => one_purge(one, indexes),
                _ => Err("a list of something else than objects".to_owned()),
            })
            .collect(),
        _ => Err("neither an object nor a list of objects".to_owned()),
    }
}

fn not_json(error: &serde_json::Error) -> String {
    format!("not JSON: {error}")
}

fn one_purge(object: &Map<String, Value>, indexes: &[&str]) -> Result<Purge, String> {
    let mut manner = Manner::Soft;
    let mut whats = Vec::new();
    for (key, value) in object {
        match (key.as_str(), value) {
            ("path", Value::String(path)) => whats.push(by_path(path, indexes)?),
            ("prefix", Value::String(prefix)) => {
                whats.push(vec![Purged::Prefix(decoded("prefix", prefix)?)]);
            }
            ("tag", Value::String(tag)) if !tag.is_empty() => {
                whats.push(vec![Purged::Tag(tag.clone())]);
            }
            ("all", Value::Bool(true)) => whats.push(vec![Purged::Prefix("/".into())]),
            ("hard", Value::Bool(true)) => manner = Manner::Hard,
            ("hard", Value::Bool(false)) => {}
            ("path" | "prefix" | "tag", _) => {
                return Err(format!("{key}: expected a string that is not empty"));
            }
            ("all", _) => return Err("all: expected true".to_owned()),
            ("hard", _) => return Err("hard: expected true or false".to_owned()),
            _ => {
                let known = "there are path, prefix, tag, all and hard";
                return Err(format!("{key:?}: unknown key; {known}"));
            }
        }
    }
    match (whats.pop(), whats.pop()) {
        (Some(what), None) => Ok(Purge { what, manner }),
        _ => Err("expected one of path, prefix, tag and all".to_owned()),
    }
}

fn by_path(path: &str, indexes: &[&str]) -> Result<Vec<Purged>, String> {
    let path = decoded("path", path)?;
    let mut what = Vec::new();
    if path.ends_with('/') {
        let indexes = indexes.iter();
        what.extend(indexes.map(|index| Purged::Path(format!("{path}{index}"))));
    }
    what.push(Purged::Path(path));
    Ok(what)
}

/// A path as in a URL, decoded as that of a request.
fn decoded(key: &str, path: &str) -> Result<String, String> {
    let refused = |reason: &str| format!("{key}: {path:?}: {reason}");
    if !path.starts_with('/') {
        return Err(refused("it begins with a slash"));
    }
    if path.contains('?') {
        return Err(refused("it has no query: all queries of a path are purged"));
    }
    let encoded = encoded(path);
    let (target, _) = Target::parse(&encoded).map_err(|error| refused(&error.to_string()))?;
    let mut decoded = Vec::new();
    // No object has a name with an encoded slash, unless it is a slash like any other.
    target
        .decode_path(EncodedSlash::Decode, &mut decoded)
        .map_err(|error| refused(&error.to_string()))?;
    String::from_utf8(decoded).map_err(|_| refused("not UTF-8: purge a prefix of it"))
}

/// A target with what none can hold percent-encoded. What is encoded stays.
fn encoded(target: &str) -> String {
    let bytes = target.bytes().map(|byte| match byte {
        b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => format!("%{byte:02X}"),
        byte if byte.is_ascii_graphic() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    bytes.collect()
}

/// An object to warm.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    host: Option<String>,
    /// As in a URL, with the query.
    path: String,
}

/// Fetches all that `body` names, unless another request does so at this time, or `client` goes.
fn warm_list(
    body: &[u8],
    sites: &CachedSites,
    is_warming: &AtomicBool,
    client: &TcpStream,
) -> Answer {
    let (wanted, cache) = match (wanted(body), sites.cache()) {
        (Err(reason), _) => return bad(&reason),
        (_, None) => return refused(Status::NOT_FOUND, "no site has an origin"),
        (Ok(wanted), Some(cache)) => (wanted, cache),
    };
    let Some(_warming) = Warming::begin(is_warming) else {
        let reason = "another request warms the cache: try again once it is answered";
        return refused(Status::TOO_MANY_REQUESTS, reason);
    };
    let runtime = cache.runtime().clone();
    runtime.block_on(warm_all(wanted, sites, client))
}

async fn warm_all(wanted: Vec<Wanted>, sites: &CachedSites, client: &TcpStream) -> Answer {
    let warm = |one: Wanted| async move {
        let warmed = match sites.of(one.host.as_deref()) {
            Some((site, origin)) => warm(origin, site, &encoded(&one.path)).await,
            None => return Err((one, "the site of this host has no origin".to_owned())),
        };
        warmed.map_err(|error| (one, error.to_string()))
    };
    let mut all = stream::iter(wanted)
        .map(warm)
        .buffer_unordered(WARM_CONCURRENCY);
    let (mut warmed, mut failed) = (0, Vec::new());
    while let Some(one) = all.next().await {
        match one {
            Ok(()) => warmed += 1,
            Err((Wanted { host, path }, error)) => failed.push(match host {
                Some(host) => json!({ "host": host, "path": path, "error": error }),
                None => json!({ "path": path, "error": error }),
            }),
        }
        if is_gone(client) {
            tracing::info!("warmed {warmed} objects; then the client was gone");
            break;
        }
    }
    tracing::info!("warmed {warmed} objects, {} failed", failed.len());
    (Status::OK, json!({ "warmed": warmed, "failed": failed }))
}

/// The objects in `body`: a list of JSON.
fn wanted(body: &[u8]) -> Result<Vec<Wanted>, String> {
    let all: Value = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
    let Value::Array(all) = all else {
        return Err("not a list".to_owned());
    };
    if all.len() > WARM_MAX {
        return Err(format!("{} objects: at most {WARM_MAX} at once", all.len()));
    }
    let of_one = |one: &Value| {
        let object = one.as_object().filter(|object| {
            let mut keys = object.keys();
            keys.all(|key| key == "host" || key == "path")
        });
        let host = match object?.get("host") {
            None => None,
            Some(host) => Some(host.as_str()?.to_owned()),
        };
        let path = object?.get("path")?.as_str()?;
        path.starts_with('/').then(|| Wanted {
            host,
            path: path.to_owned(),
        })
    };
    let wanted = all.iter().enumerate().map(|(number, one)| {
        of_one(one).ok_or_else(|| {
            let expected = r#"expected {"host": "example.org", "path": "/a?b"}"#;
            format!("number {number}: {expected}, whose host may be left out")
        })
    });
    wanted.collect()
}

/// The one request that warms, until it is dropped.
struct Warming<'a>(&'a AtomicBool);

impl<'a> Warming<'a> {
    fn begin(is_warming: &'a AtomicBool) -> Option<Self> {
        let was = is_warming.swap(true, Ordering::Relaxed);
        (!was).then(|| Self(is_warming))
    }
}

impl Drop for Warming<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Whether a client has closed its connection.
fn is_gone(client: &TcpStream) -> bool {
    if client.set_nonblocking(true).is_err() {
        return true;
    }
    let peeked = client.peek(&mut [0]);
    let is_open = matches!(&peeked, Ok(1))
        || matches!(&peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    client.set_nonblocking(false).is_err() || !is_open
}

fn bad(reason: &str) -> Answer {
    refused(Status::BAD_REQUEST, reason)
}

fn refused(status: Status, reason: &str) -> Answer {
    (status, json!({ "error": reason }))
}

fn response((status, content): Answer, method: Method) -> Vec<u8> {
    let further: &[(&str, &str)] = match status {
        Status::METHOD_NOT_ALLOWED => &[("Allow", "POST")],
        Status::UNAUTHORIZED => &[("WWW-Authenticate", "Bearer")],
        _ => &[],
    };
    let text = format!("{content}\n");
    respond_with(status, "application/json", further, &text, method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_names_one_thing() {
        let path = |path: &str| Purged::Path(path.to_owned());
        let table = [
            (r#"{"path": "/a%20b/%C3%A4"}"#, vec![path("/a b/\u{e4}")]),
            (r#"{"path": "/\u00e4 b"}"#, vec![path("/\u{e4} b")]),
            (r#"{"path": "/a%2Fb/../c"}"#, vec![path("/a/c")]),
            (
                r#"{"path": "/d/"}"#,
                vec![path("/d/index.html"), path("/d/")],
            ),
            (
                r#"{"prefix": "/d/"}"#,
                vec![Purged::Prefix("/d/".to_owned())],
            ),
            (r#"{"tag": "a b"}"#, vec![Purged::Tag("a b".to_owned())]),
            (r#"{"all": true}"#, vec![Purged::Prefix("/".to_owned())]),
        ];
        for (text, what) in table {
            let manner = Manner::Soft;
            let purged = purges(text.as_bytes(), &["index.html"]);
            assert_eq!(purged, Ok(vec![Purge { what, manner }]), "{text}");
        }
        let list = br#"[{"path": "/a", "hard": true}, {"tag": "b", "hard": false}]"#;
        let manners: Vec<_> = purges(list, &[])
            .unwrap()
            .iter()
            .map(|one| one.manner)
            .collect();
        assert_eq!(manners, [Manner::Hard, Manner::Soft]);
    }

    #[test]
    fn what_is_no_purge_is_explained() {
        for (text, reason) in [
            ("", "not JSON"),
            ("1", "neither an object"),
            ("[]", "neither an object"),
            ("[1]", "something else than objects"),
            ("{}", "one of path"),
            (r#"{"hard": true}"#, "one of path"),
            (r#"{"path": "/a", "tag": "b"}"#, "one of path"),
            (r#"{"path": "a"}"#, "begins with a slash"),
            (r#"{"path": ""}"#, "begins with a slash"),
            (r#"{"path": "/a?b"}"#, "no query"),
            (r#"{"path": "/../a"}"#, "above the root"),
            (r#"{"path": "/%zz"}"#, "percent-encoding"),
            (r#"{"path": "/%ff"}"#, "not UTF-8"),
            (r#"{"path": 1}"#, "path: expected a string"),
            (r#"{"tag": ""}"#, "tag: expected a string"),
            (r#"{"all": false}"#, "all: expected true"),
            (r#"{"tag": "a", "hard": 1}"#, "hard: expected true or false"),
            (r#"{"url": "/a"}"#, "unknown key"),
        ] {
            let error = purges(text.as_bytes(), &[]).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_warmed_is_a_list() {
        let list = br#"[{"path": "/a?b"}, {"host": "h", "path": "/"}]"#;
        let both = wanted(list).unwrap();
        assert_eq!((both[0].host.as_deref(), &*both[0].path), (None, "/a?b"));
        assert_eq!((both[1].host.as_deref(), &*both[1].path), (Some("h"), "/"));
        for text in [
            "{}",
            "[1]",
            r#"[{"host": "h"}]"#,
            r#"[{"path": "a"}]"#,
            r#"[{"path": "/a", "host": 1}]"#,
            r#"[{"path": "/a", "x": 1}]"#,
        ] {
            assert!(wanted(text.as_bytes()).is_err(), "{text}");
        }
        let many = format!("[{}1]", "1,".repeat(WARM_MAX));
        assert!(wanted(many.as_bytes()).unwrap_err().contains("at most"));
    }
}
