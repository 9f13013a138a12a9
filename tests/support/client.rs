//! A client on a raw socket. It reads exactly as many bytes as a response's head promises, so a response
//! that is a byte too long or too short breaks the next one.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use rustls::ClientConnection;

use super::WATCHDOG;
use super::authority::SecureStream;

/// The largest head that a server has a reason to send.
const HEAD_BYTES_MAX: usize = 8192;

/// A request without a body, with the headers that every test needs. The admin listener answers for
/// this host, too.
pub(crate) fn request(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: test.localhost\r\n\r\n")
}

/// The same with further header fields, each without its line end. A Host among them takes the place of the
/// usual one.
pub(crate) fn request_with(method: &str, target: &str, fields: &[&str]) -> String {
    let is_host = |field: &&str| field.to_ascii_lowercase().starts_with("host:");
    let mut text = format!("{method} {target} HTTP/1.1\r\n");
    if !fields.iter().any(is_host) {
        text += "Host: test.localhost\r\n";
    }
    for field in fields {
        text += field;
        text += "\r\n";
    }
    text + "\r\n"
}

/// A GET request for `target`.
pub(crate) fn get(target: &str) -> String {
    request("GET", target)
}

/// One response, read to its end.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// In the order they came in, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The value of the header `name` (in lower case), which must not be there twice.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice: {self:?}");
        value
    }

    /// The members of the list that is the header `name` (in lower case), in however many lines it came, in
    /// lower case and sorted.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let lines = self.headers.iter().filter(|(key, _)| key == name);
        let members = lines.flat_map(|(_, value)| value.split(','));
        let mut members: Vec<_> = members
            .map(|member| member.trim().to_ascii_lowercase())
            .collect();
        members.sort();
        members
    }

    /// Whether the header `name` (in lower case) is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(key, _)| key == name)
    }

    /// The entity tag, which must be a strong one.
    #[track_caller]
    pub(crate) fn etag(&self) -> &str {
        let etag = self.header("etag").expect("ETag");
        assert!(
            etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"'),
            "{etag}"
        );
        etag
    }

    /// The body, which must be text.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    /// Whether the body is chunked.
    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding") == Some("chunked")
    }

    /// Whether such a response has no body whatever its head says (RFC 9112, section 6.3).
    fn has_no_body(&self) -> bool {
        matches!(self.status, 100..=199 | 204 | 304)
    }

    /// Whether the head says that the connection ends here.
    pub(crate) fn closes(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The bytes of the body that the head promises.
    pub(crate) fn content_length(&self) -> usize {
        let value = self.header("content-length").expect("Content-Length");
        value.parse().expect("a number in Content-Length")
    }

    /// The headers but `Date`, which differs from one second to the next.
    pub(crate) fn steady_headers(&self) -> Vec<&(String, String)> {
        let steady = |header: &&(String, String)| header.0 != "date";
        self.headers.iter().filter(steady).collect()
    }
}

/// A plain or an encrypted connection.
enum Stream {
    Plain(TcpStream),
    Secure(Box<SecureStream>),
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Secure(stream) => &stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Secure(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Secure(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Secure(stream) => stream.flush(),
        }
    }
}

/// How a connection of TLS ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    CloseNotify,
    /// By a fatal alert: the server failed.
    InternalError,
    /// Without an alert.
    Cut,
}

/// A connection to a server.
pub(crate) struct Client {
    stream: Stream,
    /// Received, and not read by the test yet.
    received: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("a connection"))
    }

    /// A client of a Unix socket, in the type for TCP: the calls on both are the same.
    pub(crate) fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("a connection");
        Self::over(TcpStream::from(OwnedFd::from(stream)))
    }

    /// A client whose own address is `ip`, one of 127.0.0.0/8.
    pub(crate) fn connect_from(ip: [u8; 4], address: SocketAddr) -> Self {
        let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None);
        let socket = socket.expect("a socket");
        rustix::net::bind(&socket, &SocketAddr::from((ip, 0))).expect("an address of its own");
        rustix::net::connect(&socket, &address).expect("a connection");
        Self::over(TcpStream::from(socket))
    }

    /// A client with a small receive buffer: the server's sends come to a halt soon after this side stops
    /// reading, once the server's own send buffer, which may grow to 4 MiB, is full too.
    pub(crate) fn connect_narrow(address: SocketAddr) -> Self {
        let family = AddressFamily::INET;
        // A server that another test starts must not inherit it.
        let socket =
            rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .expect("a socket");
        sockopt::set_socket_recv_buffer_size(&socket, 16 * 1024).expect("a small buffer");
        rustix::net::connect(&socket, &address).expect("a connection");
        Self::over(TcpStream::from(socket))
    }

    fn over(stream: TcpStream) -> Self {
        let watchdog = Some(WATCHDOG);
        stream.set_read_timeout(watchdog).expect("a read timeout");
        stream.set_write_timeout(watchdog).expect("a write timeout");
        // A Unix socket has no such option.
        let _ = stream.set_nodelay(true);
        let received = Vec::new();
        let stream = Stream::Plain(stream);
        Self { stream, received }
    }

    /// The same client with TLS on its connection.
    pub(crate) fn with_tls(mut self, secure: impl FnOnce(TcpStream) -> SecureStream) -> Self {
        let tcp = self.stream.tcp().try_clone().expect("the same socket");
        self.stream = Stream::Secure(Box::new(secure(tcp)));
        self
    }

    /// The state of its TLS.
    #[track_caller]
    pub(crate) fn tls(&mut self) -> &mut ClientConnection {
        match &mut self.stream {
            Stream::Plain(_) => panic!("no TLS on this connection"),
            Stream::Secure(stream) => &mut stream.conn,
        }
    }

    /// How the server ends a connection of TLS; reads to its end.
    #[track_caller]
    pub(crate) fn ending(&mut self) -> Ending {
        let mut buffer = [0; 1 << 14];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ending::CloseNotify,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ending::Cut,
                Err(error) if error.to_string().contains("alert: InternalError") => {
                    return Ending::InternalError;
                }
                Err(error) => panic!("neither a byte nor the connection's end: {error}"),
            }
        }
    }

    /// Whether a connection of TLS was ended with close_notify; reads to its end.
    #[track_caller]
    pub(crate) fn ends_with_close_notify(&mut self) -> bool {
        self.ending() == Ending::CloseNotify
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("a request to be sent");
    }

    /// Sends to a server that may have closed the connection.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Asks for `target` and reads the response.
    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.send(get(target));
        self.response()
    }

    /// Sends a request with `fields`, each without its line end, and reads the response.
    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, target: &str, fields: &[&str]) -> Response {
        self.send(request_with(method, target, fields));
        match method {
            "HEAD" => self.head(),
            _ => self.response(),
        }
    }

    /// Asks for `target` with `fields`, each without its line end, and reads the response.
    #[track_caller]
    pub(crate) fn get_with(&mut self, target: &str, fields: &[&str]) -> Response {
        self.ask("GET", target, fields)
    }

    /// Reads the response to a request that was not HEAD.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        let mut response = self.head();
        response.body = self.body_of(&response);
        response
    }

    /// Reads the body that follows `head`.
    #[track_caller]
    pub(crate) fn body_of(&mut self, head: &Response) -> Vec<u8> {
        match () {
            () if head.has_no_body() => Vec::new(),
            () if head.is_chunked() => self.chunked_body(),
            () => self.body(head.content_length()),
        }
    }

    /// Reads a chunked body to its end (RFC 9112, section 7.1).
    #[track_caller]
    pub(crate) fn chunked_body(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let length = usize::from_str_radix(&line, 16);
            let length = length.unwrap_or_else(|_| panic!("not the length of a chunk: {line:?}"));
            body.extend(self.body(length));
            // Trailers are not for a static server to send.
            assert_eq!(self.body(2), b"\r\n", "behind a chunk of {length}");
            if length == 0 {
                return body;
            }
        }
    }

    /// Reads a line and leaves out its end.
    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            assert!(line.len() < 100, "a line without end");
            line.extend(self.body(1));
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).expect("a line in UTF-8")
    }

    /// Reads the response to a request that was not HEAD; `None` when the connection ends before it does.
    #[track_caller]
    pub(crate) fn response_or_end(&mut self) -> Option<Response> {
        let mut response = self.head_or_end()?;
        response.body = self.body_or_end(response.content_length())?;
        Some(response)
    }

    /// Reads a response; `None` where TLS was refused by the server in place of it.
    #[track_caller]
    pub(crate) fn response_or_refusal(&mut self) -> Option<Response> {
        let mut first = [0; 1];
        match self.stream.read(&mut first) {
            Ok(0) | Err(_) => None,
            Ok(_) => {
                self.received.extend(first);
                Some(self.response())
            }
        }
    }

    /// Reads the head of a response and leaves its body unread.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Response {
        let head = self.head_or_end();
        let so_far = String::from_utf8_lossy(&self.received);
        head.unwrap_or_else(|| panic!("closed before the end of a head: {so_far:?}"))
    }

    /// Reads the next `length` bytes.
    #[track_caller]
    pub(crate) fn body(&mut self, length: usize) -> Vec<u8> {
        let body = self.body_or_end(length);
        let so_far = self.received.len();
        body.unwrap_or_else(|| panic!("closed after {so_far} of {length} bytes"))
    }

    #[track_caller]
    fn head_or_end(&mut self) -> Option<Response> {
        loop {
            if let Some(response) = self.parsed() {
                return Some(response);
            }
            assert!(self.received.len() < HEAD_BYTES_MAX, "a head without end");
            if self.receive(4096) == 0 {
                return None;
            }
        }
    }

    #[track_caller]
    pub(crate) fn body_or_end(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.received.len() < length {
            let missing = length - self.received.len();
            if self.receive(missing) == 0 {
                return None;
            }
        }
        let rest = self.received.split_off(length);
        Some(std::mem::replace(&mut self.received, rest))
    }

    /// Reads until the server ends the connection, orderly or with a reset.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.receive(1 << 16) > 0 {}
        std::mem::take(&mut self.received)
    }

    /// All that comes until the connection ends, however it does: also by TLS without close_notify.
    pub(crate) fn rest_or_cut(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.received);
        // What was read before the error is there.
        let _ = self.stream.read_to_end(&mut rest);
        rest
    }

    /// Reads until the server ends the connection; whether it did so with a reset.
    #[track_caller]
    pub(crate) fn ends_with_reset(&mut self) -> bool {
        let mut buffer = [0; 1 << 14];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return true,
                Err(error) => panic!("neither a byte nor the connection's end: {error}"),
            }
        }
    }

    /// Its own address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.stream.tcp().local_addr().expect("an address")
    }

    /// Checks that the server ends the connection without another byte.
    #[track_caller]
    pub(crate) fn ends(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    }

    /// Ends this side's sending; the server may still answer.
    pub(crate) fn finish_sending(&mut self) {
        // It may have closed already.
        let _ = self.stream.tcp().shutdown(Shutdown::Write);
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        sockopt::set_socket_linger(self.stream.tcp(), Some(Duration::ZERO)).expect("no linger");
    }

    /// Receives what is there, at least one byte but for the end, and at most `length` bytes; returns how many
    /// they were: none once the server has ended the connection, orderly or with a reset.
    #[track_caller]
    fn receive(&mut self, length: usize) -> usize {
        let mut buffer = [0; 1 << 14];
        let length = length.min(buffer.len());
        let count = loop {
            match self.stream.read(&mut buffer[..length]) {
                // A machine that was halted meanwhile wakes it up.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let count = match count {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            // An end without close_notify.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
            Err(error) => panic!("neither a byte nor the connection's end: {error}"),
        };
        self.received.extend_from_slice(&buffer[..count]);
        count
    }

    /// Takes a complete head off what was received.
    fn parsed(&mut self) -> Option<Response> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut headers);
        let parsed = head.parse(&self.received);
        let so_far = String::from_utf8_lossy(&self.received);
        let parsed = parsed.unwrap_or_else(|error| panic!("{error}: {so_far:?}"));
        let httparse::Status::Complete(length) = parsed else {
            return None;
        };
        let response = Response {
            status: head.code.expect("a complete head has a status"),
            headers: head.headers.iter().map(owned).collect(),
            body: Vec::new(),
        };
        self.received.drain(..length);
        Some(response)
    }
}

fn owned(header: &httparse::Header<'_>) -> (String, String) {
    let value = std::str::from_utf8(header.value).expect("a header in UTF-8");
    (header.name.to_ascii_lowercase(), value.to_owned())
}
