//! What a line needs of its request and response, and the line itself.

use std::cell::RefCell;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::net::sockopt::socket_cookie;
use rustix::net::{getpeername, getsockname};
use tidegate_config::{Escape, REQUEST_FIELDS_MAX, Variable};
use tidegate_http::{FieldLines, Request, site_name};
use tidegate_uring::{Fd, TcpInfo, tcp_info};

use super::SiteLog;
use super::clock::LogClock;
use super::escape;
use super::format::{Format, Piece, RunPart, push_null};
use crate::observe::metrics::CacheStatus;
use crate::transport::TlsParameters;

/// The most bytes of a value that are written.
const VALUE_BYTES_MAX: usize = 4096;

/// The most bytes of all values of a record, escaped. With the text of the format and what is known
/// at the end this bounds a line, and the memory that a slow response holds for it.
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// The most bytes of memory that an unused record keeps.
const KEPT_BYTES_MAX: usize = 2048;

/// The most unused records that a core keeps.
const KEPT_RECORDS_MAX: usize = 256;

/// The longest user name and password of Basic authentication that are decoded, in base64.
const CREDENTIALS_BYTES_MAX: usize = 1024;

/// The status of a response that was not begun when the client left, as nginx logs it.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// A request, whatever the version of HTTP.
pub(crate) struct RequestInfo<'a> {
    /// The request line; if the request is malformed, what was received in its place.
    pub(crate) line: &'a [u8],
    /// `None` if it is malformed.
    pub(crate) request: Option<&'a Request<'a>>,
    /// The decoded path.
    pub(crate) path: &'a [u8],
    /// Bytes of the head.
    pub(crate) len: usize,
    /// Its number on the connection, from 1.
    pub(crate) number: u32,
    /// The name of the protocol, such as `HTTP/1.1`.
    pub(crate) protocol: &'static str,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    pub(crate) tls: Option<&'a TlsParameters>,
    pub(crate) socket: &'a Fd,
}

/// A response that has ended.
pub(crate) struct Ended {
    /// `None` if there was none yet.
    pub(crate) status: Option<u16>,
    /// Bytes of its head.
    pub(crate) head_bytes: u64,
    /// Bytes of head and body.
    pub(crate) bytes: u64,
    pub(crate) is_complete: bool,
    /// Whether part of its body was read from the disk.
    pub(crate) is_cold: bool,
    /// How it came about, if it is an object of an origin.
    pub(crate) cache_status: Option<CacheStatus>,
    /// When the request was received.
    pub(crate) start: Instant,
    /// When the first byte of the response was sent; `None` if none was.
    pub(crate) first_byte: Option<Instant>,
    pub(crate) socket: Fd,
}

/// What a line needs of its request and response, until the response has ended.
pub(crate) struct Record {
    /// Of the time when the exchange began; `None` while the record is unused.
    log: Option<Rc<SiteLog>>,
    /// The runs of the format, then the response fields.
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<u32>,
}

/// Writes the lines of a core.
pub(crate) struct Recorder {
    /// The number of the shard.
    shard: usize,
    core: usize,
    clock: RefCell<LogClock>,
    /// Responses that will be sent with a batch.
    batch: RefCell<Vec<(Box<Record>, Ended)>>,
    /// Unused records.
    #[expect(
        clippy::vec_box,
        reason = "exchanges own the boxes, and give them back"
    )]
    kept: RefCell<Vec<Box<Record>>>,
}

impl Recorder {
    pub(crate) fn new(shard: usize, core: usize) -> Self {
        Self {
            shard,
            core,
            clock: RefCell::new(LogClock::new()),
            batch: RefCell::default(),
            kept: RefCell::default(),
        }
    }

    /// Keeps what a line of `log` needs of a request; `None` if the request is not in the sample.
    /// `client` is called if the line has the client's address.
    pub(crate) fn request(
        &self,
        log: &Rc<SiteLog>,
        info: &RequestInfo<'_>,
        client: impl FnOnce() -> Option<IpAddr>,
    ) -> Option<Box<Record>> {
        if !log.is_drawn() {
            return None;
        }
        let kept = self.kept.borrow_mut().pop();
        let mut record = kept.unwrap_or_else(|| Box::new(Record::empty()));
        let client = log.format.wants_client.then(client).flatten();
        record.write_runs(&log.format, info, client);
        record.log = Some(Rc::clone(log));
        Some(record)
    }

    /// Writes the line of a response that ended at `end`, unless its status has none.
    pub(crate) fn end(&self, mut record: Box<Record>, ended: &Ended, end: Instant) {
        if let Some(log) = record.log.take()
            && log.settings.wants(ended.status())
        {
            self.write(&log, &record, ended, end);
        }
        self.keep(record);
    }

    /// Writes the line of a response at the end of its batch.
    pub(crate) fn end_with_batch(&self, record: Box<Record>, ended: Ended) {
        self.batch.borrow_mut().push((record, ended));
    }

    /// Writes the lines of a batch of responses that was sent, or could not be. The clock is read
    /// once for all of them.
    #[inline]
    pub(crate) fn batch_sent(&self, is_sent: bool) {
        if !self.batch.borrow().is_empty() {
            self.end_batch(is_sent);
        }
    }

    #[inline(never)]
    fn end_batch(&self, is_sent: bool) {
        let mut batch = self.batch.borrow_mut();
        let now = Instant::now();
        for (record, mut ended) in batch.drain(..) {
            ended.is_complete = is_sent;
            ended.first_byte = is_sent.then_some(now);
            self.end(record, &ended, now);
        }
    }

    fn write(&self, log: &SiteLog, record: &Record, ended: &Ended, end: Instant) {
        let mut clock = self.clock.borrow_mut();
        clock.set(end);
        let tcp = log.format.wants_tcp_info.then(|| tcp_info(&ended.socket));
        let line = Line {
            record,
            ended,
            end,
            clock: &clock,
            core: self.core,
            tcp: tcp.and_then(Result::ok),
        };
        log.file
            .push(self.shard, end, |out| line.write(&log.format, out));
    }

    /// Keeps an unused record for another request.
    fn keep(&self, mut record: Box<Record>) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() < KEPT_RECORDS_MAX && record.bytes.capacity() <= KEPT_BYTES_MAX {
            record.bytes.clear();
            record.ends.clear();
            kept.push(record);
        }
    }
}

impl Record {
    const fn empty() -> Self {
        Self {
            log: None,
            bytes: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Writes the runs of `format`.
    fn write_runs(&mut self, format: &Format, info: &RequestInfo<'_>, client: Option<IpAddr>) {
        let fields = info.fields(&format.request_fields);
        for run in &format.runs {
            for part in run {
                self.write_part(format.escape, part, info, &fields, client);
            }
            self.end_value();
        }
    }

    fn write_part(
        &mut self,
        escape: Escape,
        part: &RunPart,
        info: &RequestInfo<'_>,
        fields: &[&[u8]],
        client: Option<IpAddr>,
    ) {
        match part {
            RunPart::Text(text) => self.bytes.extend_from_slice(text),
            RunPart::RequestField(index) => self.push(escape, fields[*index]),
            RunPart::User(index) => self.push_user(escape, fields[*index]),
            RunPart::Variable(Variable::RemoteAddr) => match client {
                Some(client) => push_ip(&mut self.bytes, client),
                None => self.push(escape, b""),
            },
            RunPart::Variable(variable) => self.push_variable(escape, variable, info),
            RunPart::NullIfMissing => push_null(&mut self.bytes),
        }
    }

    fn push_variable(&mut self, escape: Escape, variable: &Variable, info: &RequestInfo<'_>) {
        use Variable as V;
        let target = || info.request.map(|request| request.target);
        let query = || {
            target()
                .and_then(|target| target.query())
                .unwrap_or_default()
        };
        let tls = info.tls;
        match variable {
            V::Request => self.push(escape, info.line),
            V::RequestMethod => self.push(escape, info.line_part(0)),
            V::RequestUri => self.push(escape, info.line_part(1)),
            V::Uri => self.push(escape, info.path),
            V::Args | V::QueryString => self.push(escape, query().as_bytes()),
            V::ServerProtocol => self.push(escape, info.protocol.as_bytes()),
            V::Scheme => self.push(escape, info.scheme.as_bytes()),
            V::Host => {
                let host = info.request.and_then(|request| request.host);
                self.push(escape, site_name(host.unwrap_or_default()).as_bytes());
            }
            V::SslProtocol => self.push(escape, tls.map_or(&[], |tls| tls.version.as_bytes())),
            V::SslCipher => self.push(escape, tls.map_or(&[], |tls| tls.suite.as_bytes())),
            V::SslAlpnProtocol => {
                let agreed = tls.and_then(|tls| tls.negotiated);
                self.push(
                    escape,
                    agreed.map_or(&[], |agreed| agreed.name().as_bytes()),
                );
            }
            V::SslServerName => {
                let name = tls.and_then(|tls| tls.server_name.as_deref());
                self.push(escape, name.unwrap_or_default().as_bytes());
            }
            V::RequestLength => push_number(&mut self.bytes, info.len as u64),
            V::ConnectionRequests => push_number(&mut self.bytes, info.number.into()),
            _ => self.push_of_socket(escape, variable, info.socket),
        }
    }

    /// Appends a value that takes a system call.
    fn push_of_socket(&mut self, escape: Escape, variable: &Variable, socket: &Fd) {
        let local = || {
            getsockname(socket)
                .ok()
                .and_then(|name| SocketAddr::try_from(name).ok())
        };
        let peer = || {
            let name = getpeername(socket).ok().flatten()?;
            SocketAddr::try_from(name).ok()
        };
        let port = |address: SocketAddr| u64::from(address.port());
        let number = match variable {
            Variable::RemotePort => peer().map(port),
            Variable::ServerPort => local().map(port),
            Variable::Connection => socket_cookie(socket).ok(),
            Variable::ServerAddr => {
                if let Some(address) = local() {
                    return push_ip(&mut self.bytes, address.ip().to_canonical());
                }
                None
            }
            _ => None,
        };
        match number {
            Some(number) => push_number(&mut self.bytes, number),
            None => self.push(escape, b""),
        }
    }

    /// Appends the user of Basic authentication (RFC 7617).
    fn push_user(&mut self, escape: Escape, credentials: &[u8]) {
        if credentials.is_empty() {
            return self.push(escape, b"");
        }
        let mut decoded = [0; CREDENTIALS_BYTES_MAX];
        let user = user_of(credentials, &mut decoded);
        self.push(escape, user.unwrap_or_default());
    }

    fn push(&mut self, escape: Escape, value: &[u8]) {
        let value = &value[..value.len().min(VALUE_BYTES_MAX)];
        escape::push(escape, value, RECORD_BYTES_MAX, &mut self.bytes);
    }

    fn end_value(&mut self) {
        self.ends.push(self.bytes.len() as u32);
    }

    /// Whether the line needs anything of the response besides what is known at the end.
    pub(crate) fn wants_response(&self) -> bool {
        let log = self.log.as_ref();
        log.is_some_and(|log| !log.format.response_fields.is_empty())
    }

    /// Keeps what the line needs of a response that was chosen.
    pub(crate) fn response(&mut self, fields: [FieldLines<'_>; 2], content_length: Option<u64>) {
        // Taken, since a clone would be counted.
        let Some(log) = self.log.take() else { return };
        for name in &log.format.response_fields {
            match content_length {
                Some(length) if name == "content-length" => push_number(&mut self.bytes, length),
                _ => {
                    let value = fields.iter().find_map(|lines| lines.first(name));
                    self.push(log.format.escape, value.unwrap_or_default());
                }
            }
            self.end_value();
        }
        self.log = Some(log);
    }

    /// The value with this index; `None` if there was no response for it.
    fn value(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start as usize..end as usize])
    }
}

impl RequestInfo<'_> {
    /// The first value of each of the named fields; empty for those that are not there.
    fn fields(&self, names: &[String]) -> [&[u8]; REQUEST_FIELDS_MAX] {
        let mut values: [&[u8]; REQUEST_FIELDS_MAX] = [&[]; _];
        if let Some(request) = self.request {
            request.fields.first_values(names, &mut values);
        }
        values
    }

    /// The method (0) or the target (1) of the request line.
    fn line_part(&self, index: usize) -> &[u8] {
        let is_known = self.request.is_some();
        let mut parts = self.line.split(|byte| *byte == b' ');
        parts.nth(index).filter(|_| is_known).unwrap_or_default()
    }
}

impl Ended {
    fn status(&self) -> u16 {
        self.status.unwrap_or(CLIENT_CLOSED_REQUEST)
    }
}

/// A line to be written.
struct Line<'a> {
    record: &'a Record,
    ended: &'a Ended,
    end: Instant,
    clock: &'a LogClock,
    core: usize,
    tcp: Option<TcpInfo>,
}

impl Line<'_> {
    fn write(&self, format: &Format, out: &mut Vec<u8>) {
        for piece in &format.pieces {
            let index = match piece {
                Piece::Text(text) => {
                    out.extend_from_slice(text);
                    continue;
                }
                Piece::Late(variable) => {
                    self.push_late(variable, format.escape, out);
                    continue;
                }
                Piece::NullIfMissing => {
                    push_null(out);
                    continue;
                }
                Piece::CacheMember => {
                    if let Some(status) = self.ended.cache_status {
                        // Writing to memory cannot fail.
                        let _ = write!(out, ",\"cache_status\":\"{}\"", status.name());
                    }
                    continue;
                }
                Piece::Run(index) => *index,
                Piece::ResponseField(index) => format.runs.len() + index,
            };
            match self.record.value(index) {
                Some(value) => out.extend_from_slice(value),
                None => escape::push(format.escape, b"", usize::MAX, out),
            }
        }
        out.push(b'\n');
    }

    /// Appends a value of the server's own, which needs no escape.
    fn push_late(&self, variable: &Variable, escape: Escape, out: &mut Vec<u8>) {
        use Variable as V;
        let Self { ended, clock, .. } = self;
        let flag = |is_so: bool| if is_so { &b"true"[..] } else { b"false" };
        match variable {
            V::TimeLocal => out.extend_from_slice(clock.local()),
            V::TimeIso8601 => out.extend_from_slice(clock.iso()),
            V::Msec => push_seconds(out, clock.since_epoch(), 3),
            V::Status => push_number(out, ended.status().into()),
            V::BodyBytesSent => push_number(out, ended.bytes.saturating_sub(ended.head_bytes)),
            V::BytesSent => push_number(out, ended.bytes),
            V::RequestTime => push_seconds(out, self.time_until(self.end), 6),
            V::FirstByteTime => {
                let first = ended.first_byte.unwrap_or(self.end);
                push_seconds(out, self.time_until(first), 6);
            }
            V::RequestCompletion if ended.is_complete => out.extend_from_slice(b"OK"),
            V::Complete => out.extend_from_slice(flag(ended.is_complete)),
            V::Cold => out.extend_from_slice(flag(ended.is_cold)),
            V::Core => push_number(out, self.core as u64),
            V::CacheStatus => {
                let status = ended.cache_status.map_or("", CacheStatus::name);
                escape::push(escape, status.as_bytes(), usize::MAX, out);
            }
            _ => match self.tcp.and_then(|tcp| of_tcp(variable, tcp)) {
                Some(number) => push_number(out, number.into()),
                None => escape::push(escape, b"", usize::MAX, out),
            },
        }
    }
}

impl Line<'_> {
    /// The time from the request.
    fn time_until(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.ended.start)
    }
}

fn of_tcp(variable: &Variable, tcp: TcpInfo) -> Option<u32> {
    match variable {
        Variable::TcpinfoRtt => Some(tcp.rtt),
        Variable::TcpinfoRttvar => Some(tcp.rttvar),
        Variable::TcpinfoSndCwnd => Some(tcp.snd_cwnd),
        Variable::TcpinfoRcvSpace => Some(tcp.rcv_space),
        Variable::TcpinfoTotalRetrans => Some(tcp.total_retrans),
        _ => None,
    }
}

/// The user of `credentials`, decoded into `decoded`.
fn user_of<'a>(credentials: &[u8], decoded: &'a mut [u8]) -> Option<&'a [u8]> {
    let (scheme, encoded) = credentials.split_at_checked("Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let len = STANDARD.decode_slice(encoded.trim_ascii(), decoded).ok()?;
    let decoded = &decoded[..len];
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(&decoded[..colon])
}

/// The texts of the numbers of an IPv4 address, each with a dot behind it.
static OCTETS: [[u8; 4]; 256] = {
    let mut texts = [[b'.'; 4]; 256];
    let mut number = 0;
    while number < 256 {
        let digits = [number / 100, number / 10 % 10, number % 10];
        let mut digit = 3 - octet_len(number);
        let mut at = 0;
        while digit < 3 {
            texts[number][at] = b'0' + digits[digit] as u8;
            at += 1;
            digit += 1;
        }
        number += 1;
    }
    texts
};

/// The number of digits.
const fn octet_len(number: usize) -> usize {
    1 + (number >= 10) as usize + (number >= 100) as usize
}

/// Appends an address; one of IPv4 by hand, as the formatting of the standard library takes as long
/// as the rest of a line.
fn push_ip(out: &mut Vec<u8>, address: IpAddr) {
    let IpAddr::V4(address) = address else {
        // Writing to memory cannot fail.
        let _ = write!(out, "{address}");
        return;
    };
    let mut text = [0; 16];
    let mut len = 0;
    for octet in address.octets().map(usize::from) {
        text[len..len + 4].copy_from_slice(&OCTETS[octet]);
        len += octet_len(octet) + 1;
    }
    // Without the last dot.
    out.extend_from_slice(&text[..len - 1]);
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends seconds with this many digits of their fraction: 3 or 6.
fn push_seconds(out: &mut Vec<u8>, time: Duration, digits: usize) {
    push_number(out, time.as_secs());
    out.push(b'.');
    let mut fraction = time.subsec_micros();
    let mut text = [b'0'; 6];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (fraction % 10) as u8;
        fraction /= 10;
    }
    out.extend_from_slice(&text[..digits]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_the_standard_library_does() {
        for octet in 0..=255_u8 {
            let address = IpAddr::from([octet, 255 - octet, 0, octet]);
            let mut out = Vec::new();
            push_ip(&mut out, address);
            assert_eq!(String::from_utf8(out).unwrap(), address.to_string());
        }
    }

    #[test]
    fn the_user_is_read_from_basic_credentials() {
        let rows: [(&[u8], Option<&[u8]>); 8] = [
            (b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Some(b"Aladdin")),
            (b"basic  QWxhZGRpbjpvcGVuIHNlc2FtZQ== ", Some(b"Aladdin")),
            (b"Basic Ojo=", Some(b"")),
            (b"Basic QWxhZGRpbg==", None),
            (b"Basic ?", None),
            (b"Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", None),
            (b"Basic", None),
            (b"", None),
        ];
        for (credentials, user) in rows {
            let mut decoded = [0; CREDENTIALS_BYTES_MAX];
            assert_eq!(user_of(credentials, &mut decoded), user);
        }
        let long = [b"Basic ".to_vec(), vec![b'Q'; 1 << 16]].concat();
        assert_eq!(user_of(&long, &mut [0; CREDENTIALS_BYTES_MAX]), None);
    }

    #[test]
    fn seconds_have_their_fraction() {
        let text = |time: Duration, digits| {
            let mut out = Vec::new();
            push_seconds(&mut out, time, digits);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(Duration::from_nanos(1_500), 6), "0.000001");
        assert_eq!(text(Duration::from_millis(12_034), 3), "12.034");
        assert_eq!(text(Duration::from_micros(999_999), 3), "0.999");
    }
}
