"""Frames of HTTP/2 as bytes, and a connection that does not mind what it sends."""

import socket
import ssl
import struct
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

(
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH_PROMISE,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION,
) = range(10)
PRIORITY_UPDATE = 0x10
UNKNOWN = 0xBB

END_STREAM = ACK = 0x01
END_HEADERS = 0x04
PADDED = 0x08
WITH_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(
    1, 6
)

ERRORS = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*pairs):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window_update(stream, increment):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def reset(stream, code=8):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def get(stream, path=b"/", flags=END_STREAM | END_HEADERS, method=b"\x82"):
    """HEADERS of a request without Huffman coding and without the dynamic table."""
    return frame(HEADERS, flags, stream, block(path, method))


def block(path=b"/", method=b"\x82", more=b""):
    """A header block: `method` and `more` are coded already."""
    return method + b"\x86" + b"\x04" + string(path) + b"\x01" + string(b"localhost") + more


POST = b"\x83"


def string(value):
    return integer(len(value), 7) + value


def integer(value, bits, first=0):
    """An integer with a prefix of so many bits (RFC 7541, 5.1)."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([first | value])
    value -= limit
    coded = bytes([first | limit])
    while value >= 128:
        coded += bytes([value & 127 | 128])
        value >>= 7
    return coded + bytes([value])


def name_of(code):
    return ERRORS[code] if code < len(ERRORS) else f"error {code}"


# A state of TCP, as TCP_INFO has it.
ESTABLISHED = 1
# The certificate is of this run.
TRUSTING = ssl.create_default_context()
TRUSTING.check_hostname = False
TRUSTING.verify_mode = ssl.CERT_NONE
TRUSTING.set_alpn_protocols(["h2"])


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


class Link:
    """A connection to a port of the loopback. `refused` tells whether the server takes nothing any
    more, and `closed` whether all that it sent has been read."""

    def __init__(self, port, tls=False):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = TRUSTING.wrap_socket(self.socket, server_hostname="localhost")
        self.pending = b""
        self.refused = self.closed = False

    def send(self, content, seconds=5):
        """Sends as much of it as the server takes."""
        self.socket.settimeout(seconds)
        try:
            self.socket.sendall(content)
        except OSError as error:
            self.refused = self.refused or not isinstance(error, TimeoutError)

    def read(self, seconds):
        """The whole frames that have come; waits for the first for that time at most."""
        try:
            self.socket.settimeout(seconds)
            came = self.socket.recv(1 << 18)
        except TimeoutError:
            return []
        except OSError:
            came = b""
        self.closed = self.closed or not came
        self.pending += came
        return list(self.whole_frames())

    def whole_frames(self):
        while len(self.pending) >= 9:
            length = int.from_bytes(self.pending[:3], "big")
            if len(self.pending) < 9 + length:
                return
            kind, flags, stream = struct.unpack(">BBI", self.pending[3:9])
            payload, self.pending = self.pending[9 : 9 + length], self.pending[9 + length :]
            yield Frame(kind, flags, stream & 0x7FFFFFFF, payload)

    def is_established(self):
        """Whether the connection is still open, by what the kernel knows of it."""
        return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED

    def abort(self):
        """Closes with a reset in place of an end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
