//! A client of HTTP/2 that shows every frame. It sends what a test wants, right or wrong.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustls::ClientConfig;
use tidegate_h2::hpack::Decoder;

use super::authority::secure;
use super::client::Response;
use super::{Launch, Tree, WATCHDOG};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (RFC 9113, section 6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
}

/// Flags of DATA and HEADERS, and of SETTINGS and PING.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The last stream of the first of two GOAWAY.
pub(crate) const ALL: u32 = (1 << 31) - 1;

/// `SETTINGS_INITIAL_WINDOW_SIZE`.
pub(crate) const INITIAL_WINDOW: u16 = 4;

/// Error codes (RFC 9113, section 7).
pub(crate) mod code {
    pub(crate) const NO_ERROR: u32 = 0;
    pub(crate) const PROTOCOL_ERROR: u32 = 1;
    pub(crate) const INTERNAL_ERROR: u32 = 2;
    pub(crate) const REFUSED_STREAM: u32 = 7;
    pub(crate) const CANCEL: u32 = 8;
    pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The number at `start` of the payload.
    pub(crate) fn number(&self, start: usize) -> u32 {
        let bytes = self.payload[start..start + 4].try_into();
        u32::from_be_bytes(bytes.expect("four bytes"))
    }
}

/// A frame on the wire.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block without compression.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "a short text");
            block.push(text.len() as u8);
            block.extend(text.as_bytes());
        }
    }
    block
}

trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

/// A response as far as it was received.
#[derive(Default)]
struct Received {
    head: Option<Response>,
    body: Vec<u8>,
    ended: bool,
    reset: Option<u32>,
}

/// A connection to a server.
pub(crate) struct Http2 {
    stream: Box<dyn ReadWrite>,
    input: Vec<u8>,
    decoder: Decoder,
    next: u32,
    streams: BTreeMap<u32, Received>,
    /// The host that it asks for.
    pub(crate) authority: &'static str,
    /// Whether it gives back the windows that DATA took.
    pub(crate) grants: bool,
    /// Whether it answers PING.
    pub(crate) answers_pings: bool,
    /// The last stream and the code of each GOAWAY.
    pub(crate) goaways: Vec<(u32, u32)>,
    /// The payload bytes of each DATA frame.
    pub(crate) data_frames: Vec<usize>,
}

/// A connection that holds little. The kernel may let its receive buffer grow to 32 MiB: a body of
/// that length then arrives whole before anything else does, if the machine is busy.
fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    set_socket_recv_buffer_size(&stream, 128 * 1024).expect("a fixed buffer");
    stream
}

impl Http2 {
    /// A client that reads as fast as it can.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[])
    }

    /// The same with these settings.
    pub(crate) fn connect_with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut client = Self::silent(address);
        client.begin(settings);
        client
    }

    /// A client that has sent nothing yet.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        Self::over(dial(address))
    }

    /// A client over TLS that offers HTTP/2 alone.
    pub(crate) fn secure(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let stream = dial(address);
        set_watchdog(&stream);
        Self::secure_over(stream, config, &[])
    }

    /// The same over any stream, with these settings.
    pub(crate) fn secure_over(
        stream: impl Read + Write + 'static,
        config: &Arc<ClientConfig>,
        settings: &[(u16, u32)],
    ) -> Self {
        let mut config = ClientConfig::clone(config);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let mut client = Self::new(Box::new(secure(stream, &Arc::new(config), "localhost")));
        client.authority = "localhost";
        client.begin(settings);
        client
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        set_watchdog(&stream);
        Self::new(Box::new(stream))
    }

    /// A client of a Unix socket, with these settings.
    pub(crate) fn unix(path: &Path, settings: &[(u16, u32)]) -> Self {
        let stream = UnixStream::connect(path).expect("a connection");
        let watchdog = Some(WATCHDOG);
        stream.set_read_timeout(watchdog).expect("a read timeout");
        stream.set_write_timeout(watchdog).expect("a write timeout");
        let mut client = Self::new(Box::new(stream));
        client.begin(settings);
        client
    }

    fn new(stream: Box<dyn ReadWrite>) -> Self {
        Self {
            stream,
            input: Vec::new(),
            decoder: Decoder::new(),
            next: 1,
            streams: BTreeMap::new(),
            authority: "test",
            grants: true,
            answers_pings: true,
            goaways: Vec::new(),
            data_frames: Vec::new(),
        }
    }

    /// Sends the preface.
    pub(crate) fn begin(&mut self, settings: &[(u16, u32)]) {
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        self.send(PREFACE);
        self.send_frame(kind::SETTINGS, 0, 0, &payload);
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("bytes to be sent");
    }

    /// Sends to a server that may have closed the connection.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    #[track_caller]
    pub(crate) fn send_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send(&frame(kind, flags, stream, payload));
    }

    /// The number of the next stream.
    pub(crate) fn next_stream(&mut self) -> u32 {
        let stream = self.next;
        self.next += 2;
        stream
    }

    /// The fields of a request, pseudo-header fields first.
    pub(crate) fn fields<'a>(
        &self,
        method: &'a str,
        target: &'a str,
        fields: &[(&'a str, &'a str)],
    ) -> Vec<(&'a str, &'a str)> {
        let mut all = vec![
            (":method", method),
            (":scheme", "http"),
            (":authority", self.authority),
            (":path", target),
        ];
        all.extend(fields);
        all
    }

    /// Sends a request without a body. Returns its stream.
    #[track_caller]
    pub(crate) fn request(&mut self, method: &str, target: &str, fields: &[(&str, &str)]) -> u32 {
        let stream = self.next_stream();
        let block = block(&self.fields(method, target, fields));
        let flags = END_HEADERS | END_STREAM;
        self.send_frame(kind::HEADERS, flags, stream, &block);
        stream
    }

    /// Allows the server to send more on a stream, or on all of them with 0.
    #[track_caller]
    pub(crate) fn grant(&mut self, stream: u32, bytes: u32) {
        self.send_frame(kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
    }

    #[track_caller]
    pub(crate) fn reset(&mut self, stream: u32, code: u32) {
        self.send_frame(kind::RST_STREAM, 0, stream, &code.to_be_bytes());
    }

    /// Asks for `target` and reads the response.
    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.ask("GET", target, &[])
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, target: &str, fields: &[(&str, &str)]) -> Response {
        let stream = self.request(method, target, fields);
        self.response(stream)
    }

    /// Reads the whole response on `stream`.
    #[track_caller]
    pub(crate) fn response(&mut self, stream: u32) -> Response {
        self.response_or_reset(stream)
            .unwrap_or_else(|code| panic!("stream {stream} was reset with {code}"))
    }

    /// Reads the whole response on `stream`, or the code of its reset.
    #[track_caller]
    pub(crate) fn response_or_reset(&mut self, stream: u32) -> Result<Response, u32> {
        loop {
            let received = self.streams.entry(stream).or_default();
            if let Some(code) = received.reset {
                return Err(code);
            }
            if received.ended {
                let received = self.streams.remove(&stream).unwrap_or_default();
                let head = received.head.expect("a head before the end");
                let body = received.body;
                return Ok(Response { body, ..head });
            }
            let frame = self.frame();
            assert!(frame.is_some(), "the connection ended before {stream}");
        }
    }

    /// Reads until the head of the response on `stream` is there.
    #[track_caller]
    pub(crate) fn head(&mut self, stream: u32) -> u16 {
        loop {
            if let Some(head) = &self.streams.entry(stream).or_default().head {
                return head.status;
            }
            assert!(self.frame().is_some(), "the connection ended");
        }
    }

    /// Reads until more than `bytes` of the body on `stream` are there.
    #[track_caller]
    pub(crate) fn read_beyond(&mut self, stream: u32, bytes: usize) {
        while self.body_len(stream) <= bytes {
            assert!(self.frame().is_some(), "the connection ended");
        }
    }

    /// Bytes of the body on `stream` so far.
    pub(crate) fn body_len(&self, stream: u32) -> usize {
        (self.streams.get(&stream)).map_or(0, |received| received.body.len())
    }

    /// Reads until the answer to a PING: all that the server could send before is here.
    #[track_caller]
    pub(crate) fn settle(&mut self) {
        self.send_frame(kind::PING, 0, 0, b"settled?");
        loop {
            let frame = self.frame().expect("the answer to PING");
            if frame.kind == kind::PING && frame.flags == ACK && frame.payload == b"settled?" {
                return;
            }
        }
    }

    /// Reads to the end of the connection; whether it was orderly.
    #[track_caller]
    pub(crate) fn ends(&mut self) {
        while self.frame().is_some() {}
    }

    /// The next frame; `None` when the server has ended the connection.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        let header = self.bytes(9)?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let stream = u32::from_be_bytes(header[5..9].try_into().expect("four bytes"));
        let payload = self.bytes(length as usize).expect("a whole frame");
        let frame = Frame {
            kind: header[3],
            flags: header[4],
            stream,
            payload,
        };
        self.take(&frame);
        Some(frame)
    }

    #[track_caller]
    fn take(&mut self, frame: &Frame) {
        let received = self.streams.entry(frame.stream).or_default();
        match frame.kind {
            kind::DATA => {
                received.body.extend(&frame.payload);
                self.data_frames.push(frame.payload.len());
                let len = frame.payload.len() as u32;
                received.ended |= frame.flags & END_STREAM != 0;
                let ended = received.ended;
                if self.grants && len > 0 {
                    // The server may have closed the connection.
                    let update = |stream| frame_of_grant(stream, len);
                    let _ = self.try_send(&update(0));
                    if !ended {
                        let _ = self.try_send(&update(frame.stream));
                    }
                }
            }
            kind::HEADERS => {
                assert!(frame.flags & END_HEADERS != 0, "a short head");
                received.ended |= frame.flags & END_STREAM != 0;
                received.head = Some(decode(&mut self.decoder, &frame.payload));
            }
            kind::RST_STREAM => received.reset = Some(frame.number(0)),
            kind::SETTINGS if frame.flags & ACK == 0 => {
                let _ = self.try_send(&frame_of(kind::SETTINGS, ACK, &[]));
            }
            kind::PING if frame.flags & ACK == 0 && self.answers_pings => {
                let _ = self.try_send(&frame_of(kind::PING, ACK, &frame.payload));
            }
            kind::GOAWAY => self.goaways.push((frame.number(0), frame.number(4))),
            _ => {}
        }
    }

    #[track_caller]
    fn bytes(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.input.len() < length {
            let mut buffer = [0; 1 << 14];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.input.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
                Err(error) => panic!("neither a byte nor the connection's end: {error}"),
            }
        }
        let rest = self.input.split_off(length);
        Some(std::mem::replace(&mut self.input, rest))
    }
}

impl Launch {
    /// As [`Launch::run`], on a port that speaks HTTP/2 as well.
    pub(crate) fn http2(tree: &Tree, config: &str, site: &str) -> Self {
        let root = tree.root();
        let root = root.display();
        let protocols = "protocols = [\"h2\", \"http/1.1\"]";
        let sites = format!("{protocols}\n[[site]]\nroot = \"{root}\"\n{site}");
        Self::run_sites(tree, config, &sites)
    }
}

fn set_watchdog(stream: &TcpStream) {
    let watchdog = Some(WATCHDOG);
    stream.set_read_timeout(watchdog).expect("a read timeout");
    stream.set_write_timeout(watchdog).expect("a write timeout");
    stream.set_nodelay(true).expect("an option of TCP");
}

fn frame_of(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(kind, flags, 0, payload)
}

fn frame_of_grant(stream: u32, bytes: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

#[track_caller]
fn decode(decoder: &mut Decoder, block: &[u8]) -> Response {
    let mut headers = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("a field in UTF-8");
    let size = decoder.decode(block, 1 << 16, &mut Vec::new(), |name, value| {
        headers.push((text(name), text(value)));
    });
    size.expect("a header block");
    assert_eq!(headers[0].0, ":status", "{headers:?}");
    let (_, status) = headers.remove(0);
    assert!(
        headers.iter().all(|(name, _)| is_lower(name)),
        "{headers:?}"
    );
    Response {
        status: status.parse().expect("a status"),
        headers,
        body: Vec::new(),
    }
}

fn is_lower(name: &str) -> bool {
    !name.starts_with(':') && !name.bytes().any(|byte| byte.is_ascii_uppercase())
}
