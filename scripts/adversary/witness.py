"""What a server may send: each frame is held against RFC 9113 and what the client sent before."""

import struct
from dataclasses import dataclass, field

import wire
from hpack import Decoder

CONNECTION_SPECIFIC = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"transfer-encoding",
    b"upgrade",
}
FRAME_BYTES = 16384
WINDOW_BYTES = 65535
FIXED_LENGTHS = {wire.PRIORITY: 5, wire.RST_STREAM: 4, wire.PING: 8, wire.WINDOW_UPDATE: 4}


class Wrong(Exception):
    """The server sent what it must not."""


@dataclass
class Response:
    """What came on one stream. `code` is the one of its RST_STREAM."""

    method: str = "GET"
    status: int = 0
    fields: list = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    code: int | None = None
    # Bytes of DATA that the client has allowed by WINDOW_UPDATE.
    increments: int = 0


class Witness:
    """Takes the frames of the server, and is told what the client sends."""

    def __init__(self):
        self.streams = {}
        self.decoder = Decoder()
        self.decoder.max_header_list_size = 1 << 20
        self.first = True
        self.is_relaxed = False
        self.window = WINDOW_BYTES
        # The largest that was ever asked for, as the server may know of any of them.
        self.initial_window = WINDOW_BYTES
        self.frame_bytes = FRAME_BYTES
        # The size of the decoder's table in each SETTINGS that is not acknowledged yet, or None.
        self.settings_sent = []
        self.pings = []
        self.answered_pings = 0
        self.block = None
        self.away = None
        self.received = 0

    def relax(self):
        """From here on the client sends what nobody keeps account of, on closed streams too, for
        which the server may send RST_STREAM again (RFC 9113, 5.4.2)."""
        self.is_relaxed = True
        self.settings_sent = None
        self.decoder.max_allowed_table_size = 1 << 32
        self.pings = None
        self.window = self.initial_window = 1 << 60
        self.frame_bytes = 1 << 24

    def require(self, condition, complaint):
        if not condition:
            raise Wrong(complaint)

    def take(self, frame):
        """Raises Wrong unless the server may send this frame now."""
        self.require(
            len(frame.payload) <= self.frame_bytes, f"a frame of {len(frame.payload)} bytes"
        )
        self.require(
            not self.first or frame.kind == wire.SETTINGS, "the first frame is no SETTINGS"
        )
        self.first = False
        wanted = FIXED_LENGTHS.get(frame.kind)
        self.require(wanted in (None, len(frame.payload)), f"{frame} has a wrong length")
        if self.block is not None:
            self.require(frame.kind == wire.CONTINUATION, f"{frame.kind} within a header block")
        match frame.kind:
            case wire.DATA:
                self.data(frame)
            case wire.HEADERS:
                self.headers(frame)
            case wire.CONTINUATION:
                self.continuation(frame)
            case wire.RST_STREAM:
                self.open_stream(frame).code = int.from_bytes(frame.payload, "big")
            case wire.SETTINGS:
                self.settings(frame)
            case wire.PING:
                self.ping(frame)
            case wire.GOAWAY:
                self.goaway(frame)
            case wire.WINDOW_UPDATE:
                self.require(int.from_bytes(frame.payload, "big") > 0, "WINDOW_UPDATE of 0")
            case kind:
                raise Wrong(f"a frame of type {kind}")

    def open_stream(self, frame):
        stream = self.streams.get(frame.stream)
        self.require(
            stream is not None, f"type {frame.kind} on stream {frame.stream}, which is idle"
        )
        again = frame.kind == wire.RST_STREAM and self.is_relaxed
        place = f"type {frame.kind} on stream {frame.stream}"
        self.require(stream.code is None or again, f"{place} after its RST_STREAM")
        return stream

    def data(self, frame):
        stream = self.open_stream(frame)
        self.require(stream.status >= 200, "DATA before HEADERS")
        self.require(not stream.ended, "DATA after END_STREAM")
        self.require(stream.method != "HEAD" or not frame.payload, "DATA for HEAD")
        self.require(not frame.flags & wire.PADDED, "padding, which nobody asked for")
        stream.body += frame.payload
        self.received += len(frame.payload)
        self.require(self.received <= self.window, "more DATA than the window of the connection")
        allowed = self.initial_window + stream.increments
        self.require(len(stream.body) <= allowed, "more DATA than the window of the stream")
        if frame.flags & wire.END_STREAM:
            self.end(stream)

    def end(self, stream):
        stream.ended = True
        lengths = [value for name, value in stream.fields if name == b"content-length"]
        if lengths and stream.method != "HEAD" and stream.status != 304:
            self.require(
                int(lengths[0]) == len(stream.body), "Content-Length is not the length of DATA"
            )

    def headers(self, frame):
        stream = self.open_stream(frame)
        self.require(not stream.ended, "HEADERS after END_STREAM")
        self.require(
            not frame.flags & (wire.PADDED | wire.WITH_PRIORITY), f"flags {frame.flags} of HEADERS"
        )
        self.block = (stream, frame, frame.payload)
        self.end_of_block(frame)

    def continuation(self, frame):
        self.require(self.block is not None, "CONTINUATION without HEADERS")
        stream, first, block = self.block
        self.require(first.stream == frame.stream, "CONTINUATION of another stream")
        self.block = (stream, first, block + frame.payload)
        self.end_of_block(frame)

    def end_of_block(self, frame):
        if not frame.flags & wire.END_HEADERS:
            return
        stream, first, block = self.block
        self.block = None
        fields = self.decoder.decode(block, raw=True)
        names = [name for name, _ in fields]
        self.require(names[0] == b":status" and names.count(b":status") == 1, f"the fields {names}")
        self.require(all(name == name.lower() for name in names), f"upper case in {names}")
        self.require(not CONNECTION_SPECIFIC & set(names), f"the fields {names}")
        self.require(stream.status < 200, "a second head")
        stream.status, stream.fields = int(fields[0][1]), fields
        if first.flags & wire.END_STREAM:
            self.end(stream)

    def settings(self, frame):
        self.require(len(frame.payload) % 6 == 0, "SETTINGS of a wrong length")
        if frame.flags & wire.ACK and self.settings_sent is not None:
            self.require(
                self.settings_sent and not frame.payload, "a wrong acknowledgement of SETTINGS"
            )
            size = self.settings_sent.pop(0)
            if size is not None:
                # The next header block has to begin with a size that is no larger (RFC 7541, 4.2).
                self.decoder.max_allowed_table_size = size

    def ping(self, frame):
        if frame.flags & wire.ACK:
            known = self.pings is None or frame.payload in self.pings
            self.require(known, "an answer to a PING that was not sent")
            self.answered_pings += 1

    def goaway(self, frame):
        last, code = struct.unpack(">II", frame.payload[:8])
        self.require(self.away is None or last <= self.away[0], "GOAWAY with a greater stream")
        self.away = (last, code)
