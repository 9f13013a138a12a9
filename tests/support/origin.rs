//! An HTTP/1.1 server of this process that holds objects, as an S3 store does, and is told how to fail.

mod store;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use rustix::net::sockopt;

use super::{WATCHDOG, eventually, free_address, made_up, noise};

/// The longest head of a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a body that are written at once.
const PIECE: usize = 16 * 1024;

/// What is found at a path.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) body: Arc<Vec<u8>>,
    /// Bytes of the body, if it is [`made_up`] in place of that.
    made_up: Option<u64>,
    /// Beside those of the body, of the date and of the validators.
    pub(crate) fields: Vec<(String, String)>,
    /// With its quotes.
    pub(crate) etag: Option<String>,
    /// An HTTP date.
    pub(crate) last_modified: Option<String>,
}

impl Object {
    /// An object with this body and no validators.
    pub(crate) fn new(body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: Arc::new(body.into()),
            made_up: None,
            fields: Vec::new(),
            etag: None,
            last_modified: None,
        }
    }

    /// [`noise`] of a seed, which is the entity tag, too.
    pub(crate) fn noise(length: usize, seed: u64) -> Self {
        Self::new(noise(length, seed)).etag(&format!("\"{seed}\""))
    }

    /// `length` bytes that are [`made_up`] when they are asked for.
    pub(crate) fn made_up(length: u64) -> Self {
        Self {
            made_up: Some(length),
            ..Self::new("").etag("\"made-up\"")
        }
    }

    fn length(&self) -> u64 {
        self.made_up.unwrap_or(self.body.len() as u64)
    }

    fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        match self.made_up {
            Some(_) => made_up(range),
            None => self.body[range.start as usize..range.end as usize].to_vec(),
        }
    }

    pub(crate) fn etag(mut self, etag: &str) -> Self {
        self.etag = Some(etag.to_owned());
        self
    }

    pub(crate) fn last_modified(mut self, date: &str) -> Self {
        self.last_modified = Some(date.to_owned());
        self
    }

    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn head_fields(&self) -> Vec<(String, String)> {
        let mut fields = self.fields.clone();
        let own = [("ETag", &self.etag), ("Last-Modified", &self.last_modified)];
        for (name, value) in own {
            fields.extend(value.iter().map(|value| (name.to_owned(), value.clone())));
        }
        fields
    }
}

/// Holds back what passes it until it is opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<Passage>, Condvar)>);

#[derive(Debug, Default)]
struct Passage {
    is_open: bool,
    came: usize,
}

impl Gate {
    /// Lets pass what waits, and what will come.
    pub(crate) fn open(&self) {
        self.lock().is_open = true;
        self.0.1.notify_all();
    }

    /// Waits until somebody has come to it.
    #[track_caller]
    pub(crate) fn reached(&self) {
        eventually("a stall of the origin", || self.came() > 0);
    }

    /// How many have come to it.
    pub(crate) fn came(&self) -> usize {
        self.lock().came
    }

    fn pass(&self) {
        let mut passage = self.lock();
        passage.came += 1;
        let waited = self
            .0
            .1
            .wait_timeout_while(passage, WATCHDOG, |passage| !passage.is_open);
        drop(waited);
    }

    fn lock(&self) -> MutexGuard<'_, Passage> {
        lock(&self.0.0)
    }
}

/// How requests are answered. What is said of a path goes with what is said of all.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// Each response is late.
    Delay(Duration),
    /// Stalls before the head.
    StallHead(Gate),
    /// Stalls after so many bytes of the body.
    StallBody(usize, Gate),
    /// So many bytes of the body at once, and a pause.
    Trickle(usize, Duration),
    /// A reset after so many bytes of the body.
    Reset(usize),
    /// The connection ends after so many bytes of the body, whatever Content-Length says.
    EndEarly(usize),
    /// So many bytes more than Content-Length says.
    Surplus(usize),
    /// Content-Range says this.
    ContentRange(&'static str),
    /// All of the body to a request for a range.
    IgnoreRange,
    /// The same, chunked, without Content-Length.
    Chunked,
    /// This status, these fields and this body, in place of the object.
    Answer(u16, Vec<(&'static str, &'static str)>, &'static str),
    /// 416 does not say the length.
    BareUnsatisfied,
    /// Fields of every response.
    Fields(Vec<(&'static str, &'static str)>),
    /// Connections end after their first response.
    Close,
    /// Behaves like that to requests for ranges that start at this byte.
    At(u64, Box<Behaviour>),
}

impl Behaviour {
    /// An answer with a status alone.
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), "")
    }

    /// Behaves like that to requests for ranges that start at `first`.
    pub(crate) fn at(self, first: u64) -> Self {
        Self::At(first, Box::new(self))
    }

    /// The error of a store of S3: a body in XML with `code`.
    pub(crate) fn s3_error(status: u16, code: &'static str) -> Self {
        let body = match code {
            "SignatureDoesNotMatch" => "<Error><Code>SignatureDoesNotMatch</Code></Error>",
            "RequestTimeTooSkewed" => "<Error><Code>RequestTimeTooSkewed</Code></Error>",
            "AccessDenied" => "<Error><Code>AccessDenied</Code></Error>",
            "SlowDown" => "<Error><Code>SlowDown</Code></Error>",
            code => panic!("no body for {code}"),
        };
        Self::Answer(status, vec![("Content-Type", "application/xml")], body)
    }
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    /// In the order they came in, names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Arc<Vec<u8>>,
}

impl Request {
    /// The value of the field `name` (in lower case).
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }

    /// The range that it asks for, its end exclusive, of an object of `length` bytes; `None` where Range is
    /// missing or is not one range.
    fn range(&self, length: u64) -> Option<Range<u64>> {
        let (first, last) = self
            .field("range")?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        match (first, last) {
            ("", suffix) => Some(length.saturating_sub(suffix.parse().ok()?)..length),
            (first, "") => Some(first.parse().ok()?..length),
            (first, last) => Some(first.parse().ok()?..last.parse::<u64>().ok()? + 1),
        }
    }

    fn content_length(&self) -> usize {
        let length = self.field("content-length");
        length.and_then(|length| length.parse().ok()).unwrap_or(0)
    }

    /// The path, without the query.
    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    fn is_for(&self, path: &str) -> bool {
        self.target == path || self.path() == path
    }
}

/// The server. Its drop ends it and opens every gate.
pub(crate) struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Mutex<Option<Listening>>,
}

/// A listener, and the thread that accepts from it.
struct Listening(Arc<TcpListener>, JoinHandle<()>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Those that are open.
    connections: Mutex<HashMap<u64, TcpStream>>,
    accepted: AtomicU64,
    refuses: AtomicBool,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    /// By path; that of all has none.
    behaviours: BTreeMap<String, Vec<Behaviour>>,
    /// What a path will hold after so many further requests; none once it does.
    changes: Vec<(String, Option<usize>, Object)>,
    requests: Vec<Request>,
    /// The bucket that is written to, if it is one of S3.
    bucket: Option<store::Bucket>,
}

impl Origin {
    /// A server on a port of its own, without objects.
    pub(crate) fn start() -> Self {
        let origin = Self {
            address: free_address(),
            shared: Arc::default(),
            listening: Mutex::default(),
        };
        origin.accept();
        origin
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds `object` at `path`, which may have a query: then it is that of this query alone.
    pub(crate) fn put(&self, path: &str, object: Object) {
        self.state().objects.insert(path.to_owned(), object);
    }

    pub(crate) fn remove(&self, path: &str) {
        self.state().objects.remove(path);
    }

    /// Is a store of S3 from now on, whose bucket has that path.
    pub(crate) fn hold_bucket(&self, path: &str) {
        self.state().bucket = Some(store::Bucket::new(path));
    }

    /// Uploads that were begun, and neither completed nor aborted.
    pub(crate) fn uploads(&self) -> usize {
        let state = self.state();
        state.bucket.as_ref().map_or(0, store::Bucket::uploads)
    }

    /// What is held, by path.
    pub(crate) fn objects(&self) -> BTreeMap<String, Object> {
        self.state().objects.clone()
    }

    /// Holds `object` at `path` once `requests` more requests for it have come.
    pub(crate) fn put_after(&self, path: &str, requests: usize, object: Object) {
        let change = (path.to_owned(), Some(requests), object);
        self.state().changes.push(change);
    }

    /// Answers requests for `path` like that, and not as was said of it before.
    pub(crate) fn behave(&self, path: &str, behaviours: impl Into<Vec<Behaviour>>) {
        let mut state = self.state();
        state.behaviours.insert(path.to_owned(), behaviours.into());
    }

    /// Answers all requests like that.
    pub(crate) fn behave_always(&self, behaviours: impl Into<Vec<Behaviour>>) {
        self.behave("", behaviours);
    }

    /// Closes the listener and all connections.
    pub(crate) fn refuse(&self) {
        self.shared.refuses.store(true, Ordering::SeqCst);
        if let Some(Listening(listener, thread)) = lock(&self.listening).take() {
            // It wakes the thread up.
            rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).expect("an end");
            drop(listener);
            thread.join().expect("the thread that accepts");
        }
        for stream in lock(&self.shared.connections).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Listens again, on the same port.
    pub(crate) fn accept(&self) {
        self.shared.refuses.store(false, Ordering::SeqCst);
        // A connection of another test may have the port for a moment.
        let mut listener = None;
        super::eventually("the port", || {
            listener = TcpListener::bind(self.address).ok();
            listener.is_some()
        });
        let listener = Arc::new(listener.expect("a listener"));
        let (shared, accepting) = (Arc::clone(&self.shared), Arc::clone(&listener));
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || Connection::serve(&shared, stream));
            }
        });
        *lock(&self.listening) = Some(Listening(listener, thread));
    }

    /// What came, in that order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// The requests for `path`, with this query or, without one, with any.
    pub(crate) fn asked(&self, path: &str) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.is_for(path));
        requests
    }

    /// How many requests for `path` came.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.asked(path).len()
    }

    /// The ranges of `path` that were asked for, their ends exclusive, in that order. An open end is the
    /// largest number.
    pub(crate) fn slices(&self, path: &str) -> Vec<Range<u64>> {
        let asked = self.asked(path);
        let ranges = asked.iter().filter_map(|request| request.range(u64::MAX));
        ranges.collect()
    }

    /// Forgets what came.
    pub(crate) fn forget(&self) {
        self.state().requests.clear();
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.refuse();
        for behaviour in self.state().behaviours.values().flatten() {
            open(behaviour);
        }
    }
}

fn open(behaviour: &Behaviour) {
    match behaviour {
        Behaviour::StallHead(gate) | Behaviour::StallBody(_, gate) => gate.open(),
        Behaviour::At(_, behaviour) => open(behaviour),
        _ => {}
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Notes a request; what it asks for, and how that is answered.
    fn take(&mut self, request: Request) -> (Option<Object>, Vec<Behaviour>) {
        for (path, rest, object) in &mut self.changes {
            let is_asked = request.is_for(path);
            if is_asked && *rest == Some(0) {
                self.objects.insert(path.clone(), object.clone());
            }
            if is_asked {
                *rest = rest.and_then(|rest| rest.checked_sub(1));
            }
        }
        let objects = [request.target.as_str(), request.path()];
        let object = objects.iter().find_map(|path| self.objects.get(*path));
        let keys = [request.target.as_str(), request.path(), ""];
        let keys = &keys[usize::from(keys[0] == keys[1])..];
        let behaviours = keys.iter().filter_map(|key| self.behaviours.get(*key));
        let first = request.range(u64::MAX).map(|range| range.start);
        let behaviours = behaviours
            .flatten()
            .filter_map(|behaviour| match behaviour {
                Behaviour::At(start, behaviour) => {
                    (first == Some(*start)).then(|| Behaviour::clone(behaviour))
                }
                behaviour => Some(behaviour.clone()),
            });
        let taken = (object.cloned(), behaviours.collect());
        self.requests.push(request);
        taken
    }
}

/// What is said before anything goes wrong.
#[derive(Debug, Default)]
struct Answer {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    is_chunked: bool,
}

impl Answer {
    fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    fn field(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    /// What an object is answered with (RFC 9110, sections 13.2.2 and 14.2).
    fn of(request: &Request, object: &Object, behaviours: &[Behaviour]) -> Self {
        let fields = object.head_fields();
        let with = |status| Self {
            fields: fields.clone(),
            ..Self::new(status)
        };
        let differs = |list: &str| !matches(list, object.etag.as_deref());
        let is_changed = match request.field("if-match") {
            Some(list) => differs(list),
            None => is_unmodified(request, object, "if-unmodified-since") == Some(false),
        };
        if is_changed {
            return Self::new(412);
        }
        if is_known(request, object) {
            return with(304);
        }
        let length = object.length();
        let if_range = request.field("if-range");
        let is_whole = request.method == "HEAD"
            || has(behaviours, |known| {
                matches!(known, Behaviour::IgnoreRange | Behaviour::Chunked)
            })
            || if_range.is_some_and(|tag| Some(tag) != object.etag.as_deref());
        let range = request.range(length).filter(|_| !is_whole);
        let Some(range) = range else {
            let body = object.bytes(0..length);
            return Self { body, ..with(200) };
        };
        if range.start >= length {
            let bare = has(behaviours, |known| {
                matches!(known, Behaviour::BareUnsatisfied)
            });
            let answer = Self::new(416);
            return if bare {
                answer
            } else {
                answer.field("Content-Range", format!("bytes */{length}"))
            };
        }
        let range = range.start..range.end.min(length);
        let said = format!("bytes {}-{}/{length}", range.start, range.end - 1);
        let lie = behaviours.iter().find_map(|known| match known {
            Behaviour::ContentRange(lie) => Some((*lie).to_owned()),
            _ => None,
        });
        let body = object.bytes(range);
        let part = Self { body, ..with(206) };
        part.field("Content-Range", lie.unwrap_or(said))
    }

    /// The head. Content-Length is that of the body.
    fn head(&self, closes: bool) -> String {
        let mut fields = self.fields.clone();
        let mut add = |name: &str, value: &str| fields.push((name.into(), value.into()));
        let is_date = |(name, _): &(String, String)| name.eq_ignore_ascii_case("date");
        if !self.fields.iter().any(is_date) {
            add("Date", &httpdate::fmt_http_date(SystemTime::now()));
        }
        match self.status {
            204 | 304 => {}
            _ if self.is_chunked => add("Transfer-Encoding", "chunked"),
            _ => add("Content-Length", &self.body.len().to_string()),
        }
        if closes {
            add("Connection", "close");
        }
        let lines = fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        let head = format!("HTTP/1.1 {} Whatever\r\n", self.status);
        lines.fold(head, |head, line| head + &line) + "\r\n"
    }
}

fn has(behaviours: &[Behaviour], is: impl Fn(&Behaviour) -> bool) -> bool {
    behaviours.iter().any(is)
}

/// Whether a list of entity tags has `etag`, by the weak comparison.
fn matches(list: &str, etag: Option<&str>) -> bool {
    let strong = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    etag.is_some_and(|etag| list == "*" || list.split(',').any(|tag| strong(tag) == strong(etag)))
}

/// Whether the client has the object (RFC 9110, sections 13.1.2 and 13.1.3).
fn is_known(request: &Request, object: &Object) -> bool {
    if let Some(list) = request.field("if-none-match") {
        return matches(list, object.etag.as_deref());
    }
    is_unmodified(request, object, "if-modified-since") == Some(true)
}

/// Whether the object is not later than the date in the field `name`; `None` if there is no such date.
fn is_unmodified(request: &Request, object: &Object, name: &str) -> Option<bool> {
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    let since = request.field(name).and_then(date)?;
    let modified = object.last_modified.as_deref().and_then(date)?;
    Some(modified <= since)
}

/// A connection that was accepted.
struct Connection<'a> {
    shared: &'a Shared,
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection<'_> {
    fn serve(shared: &Shared, stream: TcpStream) {
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
        let _ = stream.set_nodelay(true);
        let Ok(copy) = stream.try_clone() else { return };
        lock(&shared.connections).insert(number, copy);
        if shared.refuses.load(Ordering::SeqCst) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let received = Vec::new();
        let mut connection = Connection {
            shared,
            stream,
            received,
        };
        loop {
            let goes_on = connection.exchange().unwrap_or(false);
            if !goes_on || shared.refuses.load(Ordering::SeqCst) {
                break;
            }
        }
        // A reset comes with the last copy.
        lock(&shared.connections).remove(&number);
    }

    /// Answers a request; whether there may be another.
    fn exchange(&mut self) -> io::Result<bool> {
        let Some(request) = self.request()? else {
            return Ok(false);
        };
        let is_head = request.method == "HEAD";
        let (object, behaviours) = lock(&self.shared.state).take(request.clone());
        for behaviour in &behaviours {
            match behaviour {
                Behaviour::Delay(time) => thread::sleep(*time),
                Behaviour::StallHead(gate) => gate.pass(),
                _ => {}
            }
        }
        let told = has(&behaviours, |known| matches!(known, Behaviour::Answer(..)));
        let stored = (!told).then(|| lock(&self.shared.state).store(&request));
        let answer = stored
            .flatten()
            .unwrap_or_else(|| answer(&request, object.as_ref(), &behaviours));
        let closes = has(&behaviours, |known| matches!(known, Behaviour::Close));
        self.stream.write_all(answer.head(closes).as_bytes())?;
        let has_body = !is_head && !matches!(answer.status, 204 | 304);
        Ok((!has_body || self.body(&answer, &behaviours)?) && !closes)
    }

    /// Sends a body; whether it came to its end.
    fn body(&mut self, answer: &Answer, behaviours: &[Behaviour]) -> io::Result<bool> {
        let mut body = answer.body.clone();
        let (mut piece, mut pause) = (PIECE, None);
        let mut stalls = Vec::new();
        let mut cut = None;
        for behaviour in behaviours {
            match behaviour {
                Behaviour::Trickle(bytes, time) => (piece, pause) = (*bytes, Some(*time)),
                Behaviour::StallBody(at, gate) => stalls.push((*at, gate)),
                Behaviour::Reset(at) => cut = Some((*at, true)),
                Behaviour::EndEarly(at) => cut = Some((*at, false)),
                Behaviour::Surplus(bytes) => body.extend(vec![b'+'; *bytes]),
                _ => {}
            }
        }
        let end = cut.map_or(body.len(), |(at, _)| at.min(body.len()));
        let mut sent = 0;
        while sent < end {
            stalls
                .iter()
                .filter(|(at, _)| *at == sent)
                .for_each(|(_, gate)| gate.pass());
            let stall = stalls
                .iter()
                .map(|(at, _)| *at)
                .filter(|at| *at > sent)
                .min();
            let next = (sent + piece).min(end).min(stall.unwrap_or(end));
            self.piece(&body[sent..next], answer.is_chunked)?;
            sent = next;
            pause.into_iter().for_each(thread::sleep);
        }
        if let Some((_, by_reset)) = cut {
            if by_reset {
                sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))?;
            }
            return Ok(false);
        }
        if answer.is_chunked {
            self.stream.write_all(b"0\r\n\r\n")?;
        }
        Ok(true)
    }

    fn piece(&mut self, bytes: &[u8], is_chunked: bool) -> io::Result<()> {
        if !is_chunked {
            return self.stream.write_all(bytes);
        }
        let line = format!("{:x}\r\n", bytes.len());
        self.stream
            .write_all(&[line.as_bytes(), bytes, b"\r\n"].concat())
    }

    /// Reads a request; `None` at the connection's end.
    fn request(&mut self) -> io::Result<Option<Request>> {
        let mut buffer = vec![0; 64 * 1024];
        let mut begun = None;
        loop {
            if begun.is_none() {
                begun = self.parsed()?;
            }
            let length = begun.as_ref().map(Request::content_length);
            if let Some(mut request) = begun.take_if(|_| length <= Some(self.received.len())) {
                let body = self.received.drain(..length.unwrap_or_default());
                request.body = Arc::new(body.collect());
                return Ok(Some(request));
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => self.received.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes a complete head off what was received.
    fn parsed(&mut self) -> io::Result<Option<Request>> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut fields);
        let is_long = self.received.len() > HEAD_BYTES_MAX;
        let length = match head.parse(&self.received) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if !is_long => return Ok(None),
            bad => return Err(io::Error::other(format!("not a request: {bad:?}"))),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let fields = head.headers.iter();
        let request = Request {
            method: head.method.unwrap_or_default().to_owned(),
            target: head.path.unwrap_or_default().to_owned(),
            fields: fields
                .map(|field| (field.name.to_ascii_lowercase(), text(field.value)))
                .collect(),
            body: Arc::default(),
        };
        self.received.drain(..length);
        Ok(Some(request))
    }
}

/// What a request is answered with.
fn answer(request: &Request, object: Option<&Object>, behaviours: &[Behaviour]) -> Answer {
    let told = behaviours.iter().find_map(|behaviour| match behaviour {
        Behaviour::Answer(status, fields, body) => {
            let answer = Answer {
                body: body.as_bytes().to_vec(),
                ..Answer::new(*status)
            };
            Some(
                fields
                    .iter()
                    .fold(answer, |answer, (name, value)| answer.field(name, *value)),
            )
        }
        _ => None,
    });
    let mut answer = match (told, object) {
        (Some(told), _) => told,
        (None, None) => Answer {
            body: b"<Error><Code>NoSuchKey</Code></Error>".to_vec(),
            ..Answer::new(404).field("Content-Type", "application/xml")
        },
        (None, Some(_)) if !["GET", "HEAD"].contains(&&*request.method) => Answer::new(405),
        (None, Some(object)) => Answer::of(request, object, behaviours),
    };
    for behaviour in behaviours {
        match behaviour {
            Behaviour::Fields(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, value)| ((*name).into(), (*value).into()));
                answer.fields.extend(fields);
            }
            Behaviour::Chunked => answer.is_chunked = true,
            _ => {}
        }
    }
    answer
}
