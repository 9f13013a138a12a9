"""What is done to servers of HTTP/2 to bring them down.

A `Flood` is bytes that are sent over and over, as fast as the server takes them; a `Siege` is
a few connections that stay, give nothing and want much.
"""

import struct
from dataclasses import dataclass

import wire
from wire import END_HEADERS, END_STREAM, PREFACE, frame

# About as many bytes as a flood sends at once.
BURST_BYTES = 1 << 18
# Frames that a server may bear before it minds.
PATIENCE = 3000
CALM = "GOAWAY ENHANCE_YOUR_CALM"
BLOCK_BYTES = 16 << 10
LARGE = b"/large.bin"


@dataclass(frozen=True)
class Flood:
    """`start` is sent first, then `frames`: all of them, or what a server takes.

    `outcomes` are the right ends, of which any may come. `requests` tells that it is made of those,
    or of their bodies, many of which are lawful before they can be too many.
    """

    name: str
    start: bytes
    frames: tuple[bytes, ...]
    outcomes: tuple[str, ...] = (CALM,)
    requests: bool = False

    @property
    def cost_max(self):
        """What it may cost, of the CPU of an attacker that has its bytes made before."""
        return 6 if self.requests else 2

    @property
    def is_repeated(self):
        """Whether the frames are all the same, so that they can come after themselves."""
        few, last = self.frames[:2], self.frames[-2:]
        return len(self.frames) > 1 and (few == last or few[0] == last[1])


@dataclass(frozen=True)
class Siege:
    """`start` opens each of the connections, and `drip` follows, a piece at a time; the server
    has to end it within `seconds`. Of what comes the first connection reads, if `reads`."""

    name: str
    start: bytes
    drip: tuple[bytes, ...]
    seconds: float
    outcomes: tuple[str, ...]
    reads: bool = True


def opening(*pairs):
    return PREFACE + wire.settings(*pairs)


def streams(count):
    return range(1, 2 * count, 2)


def repeated(*made):
    """Whatever is made, as often as a flood is long."""
    return made * max(1, BURST_BYTES // sum(map(len, made)))


def rapid_reset():
    pairs = (wire.get(stream, LARGE) + wire.reset(stream) for stream in streams(PATIENCE * 2))
    return Flood("rapid reset", opening(), tuple(pairs), requests=True)


def made_you_reset_by_window():
    pairs = (
        wire.get(stream, LARGE) + wire.window_update(stream, 0) for stream in streams(PATIENCE * 2)
    )
    return Flood(
        "MadeYouReset by a window of 0",
        opening(),
        tuple(pairs),
        (CALM, "GOAWAY PROTOCOL_ERROR"),
        requests=True,
    )


def made_you_reset_by_data():
    extra = (
        wire.get(stream, LARGE) + frame(wire.DATA, 0, stream, b"x")
        for stream in streams(PATIENCE * 2)
    )
    outcomes = (CALM, "GOAWAY STREAM_CLOSED")
    return Flood(
        "MadeYouReset by DATA after the end",
        opening((wire.INITIAL_WINDOW_SIZE, 0)),
        tuple(extra),
        outcomes,
        requests=True,
    )


def made_you_reset_by_overflow():
    increments = (
        wire.get(stream, LARGE) + wire.window_update(stream, 0x7FFFFFFF)
        for stream in streams(PATIENCE * 2)
    )
    return Flood(
        "MadeYouReset by an overflowing window", opening(), tuple(increments), requests=True
    )


def made_you_reset_by_malformed():
    made = (
        frame(wire.HEADERS, END_STREAM | END_HEADERS, stream, b"\x82\x82")
        for stream in streams(PATIENCE * 4)
    )
    return Flood(
        "malformed requests", opening(), tuple(made), (CALM, "GOAWAY PROTOCOL_ERROR"), requests=True
    )


def continuation():
    start = opening() + wire.get(1, b"/", flags=END_STREAM)
    return Flood(
        "CONTINUATION, empty",
        start,
        repeated(frame(wire.CONTINUATION, 0, 1)),
        CONTINUATION_OUTCOMES,
    )


def continuation_full():
    start = opening() + wire.get(1, b"/", flags=END_STREAM)
    field = b"\x00" + wire.string(b"x-y") + wire.string(b"z" * 4000)
    made = repeated(frame(wire.CONTINUATION, 0, 1, field * 4))
    return Flood("CONTINUATION, full", start, made, CONTINUATION_OUTCOMES)


CONTINUATION_OUTCOMES = (
    CALM,
    "GOAWAY PROTOCOL_ERROR",
    "GOAWAY FRAME_SIZE_ERROR",
    "GOAWAY COMPRESSION_ERROR",
)


def hpack_bomb():
    """One field of 4,000 bytes, then a byte for each time that it is meant again."""
    entry = b"\x40" + wire.string(b"b") + wire.string(b"z" * 4000)
    first = frame(wire.HEADERS, END_STREAM | END_HEADERS, 1, wire.block(more=entry))
    bomb = wire.block(more=b"\xbe" * (BLOCK_BYTES - 100))
    bombs = (
        frame(wire.HEADERS, END_STREAM | END_HEADERS, 2 * number + 3, bomb) for number in range(200)
    )
    return Flood(
        "HPACK bomb",
        opening() + first,
        tuple(bombs),
        (CALM, "GOAWAY COMPRESSION_ERROR", "statuses 200 431"),
        requests=True,
    )


def hpack_churn():
    """Fields that all enter the table of the decoder, and push one another out of it."""
    fields = b"".join(
        b"\x40" + wire.string(b"k") + wire.string(b"%d" % number) for number in range(1000)
    )
    made = (
        frame(wire.HEADERS, END_STREAM | END_HEADERS, stream, wire.block(b"/absent", more=fields))
        for stream in streams(100)
    )
    return Flood(
        "HPACK table churn",
        opening(),
        tuple(made),
        (CALM, "statuses 431", "statuses 404", "statuses 404 431"),
        requests=True,
    )


def pings():
    return Flood("PING", opening(), repeated(frame(wire.PING, 0, 0, b"12345678")))


def settings_empty():
    return Flood("SETTINGS, empty", opening(), repeated(wire.settings()))


def settings_churn():
    """The window of a hundred streams, to and fro."""
    start = opening((wire.INITIAL_WINDOW_SIZE, 0)) + b"".join(
        wire.get(stream, LARGE) for stream in streams(100)
    )
    pair = (
        wire.settings((wire.INITIAL_WINDOW_SIZE, 1)),
        wire.settings((wire.INITIAL_WINDOW_SIZE, 0)),
    )
    return Flood("SETTINGS, windows of 100 streams", start, repeated(*pair), requests=True)


def settings_long():
    pairs = ((wire.HEADER_TABLE_SIZE, size) for size in (0, 4096) * 1300)
    return Flood("SETTINGS of 2,600 parameters", opening(), repeated(wire.settings(*pairs)))


def empty_data():
    start = opening() + wire.get(1, b"/", flags=END_HEADERS, method=wire.POST)
    outcomes = (CALM, "GOAWAY STREAM_CLOSED", "statuses 405")
    return Flood("DATA, empty", start, repeated(frame(wire.DATA, 0, 1)), outcomes)


def padded_data():
    start = opening() + wire.get(1, b"/", flags=END_HEADERS, method=wire.POST)
    padding = frame(wire.DATA, wire.PADDED, 1, bytes([255]) + bytes(255))
    outcomes = (CALM, "GOAWAY STREAM_CLOSED", "GOAWAY FLOW_CONTROL_ERROR", "statuses 405")
    return Flood("DATA, padding alone", start, repeated(padding), outcomes)


def body_without_end():
    """A body far beyond what is discarded, against every window."""
    start = opening() + wire.get(1, b"/", flags=END_HEADERS, method=wire.POST)
    outcomes = (
        CALM,
        "GOAWAY FLOW_CONTROL_ERROR",
        "GOAWAY STREAM_CLOSED",
        "statuses 405",
        "statuses 413",
    )
    return Flood(
        "DATA beyond all windows",
        start,
        repeated(frame(wire.DATA, 0, 1, bytes(16384))),
        outcomes,
        requests=True,
    )


def priorities():
    made = (
        frame(wire.PRIORITY, 0, stream, struct.pack(">IB", 0, 1))
        for stream in streams(PATIENCE * 4)
    )
    return Flood("PRIORITY", opening(), tuple(made))


def priority_updates():
    made = (
        frame(wire.PRIORITY_UPDATE, 0, 0, struct.pack(">I", stream) + b"u=1")
        for stream in streams(PATIENCE * 4)
    )
    return Flood("PRIORITY_UPDATE", opening(), tuple(made), (CALM, "GOAWAY PROTOCOL_ERROR"))


def window_updates():
    return Flood("WINDOW_UPDATE, connection", opening(), repeated(wire.window_update(0, 1)))


def window_updates_of_stream():
    start = opening((wire.INITIAL_WINDOW_SIZE, 0)) + wire.get(1, LARGE)
    return Flood(
        "WINDOW_UPDATE of 1, a stream",
        start,
        repeated(wire.window_update(1, 1)),
        (CALM, "statuses 200"),
        requests=True,
    )


def unknown_frames():
    return Flood("unknown frames", opening(), repeated(frame(wire.UNKNOWN, 0, 0, b"")))


def unknown_large():
    return Flood(
        "unknown frames of 16 KiB", opening(), repeated(frame(wire.UNKNOWN, 0, 0, bytes(16384)))
    )


def resets_of_closed():
    start = opening() + wire.get(1, b"/absent")
    return Flood(
        "RST_STREAM again and again", start, repeated(wire.reset(1)), (CALM, "GOAWAY STREAM_CLOSED")
    )


def settings_acks():
    made = repeated(frame(wire.SETTINGS, wire.ACK, 0))
    return Flood("SETTINGS acknowledged unasked", opening(), made, (CALM, "GOAWAY PROTOCOL_ERROR"))


def ping_acks():
    made = repeated(frame(wire.PING, wire.ACK, 0, b"12345678"))
    return Flood("PING answered unasked", opening(), made, (CALM, "GOAWAY PROTOCOL_ERROR"))


def refused_streams():
    """Streams beyond the limit while none of those before gets on."""
    made = tuple(wire.get(stream, LARGE) for stream in streams(PATIENCE * 4))
    outcomes = (CALM, "GOAWAY PROTOCOL_ERROR")
    return Flood(
        "streams beyond the limit",
        opening((wire.INITIAL_WINDOW_SIZE, 0)),
        made,
        outcomes,
        requests=True,
    )


def connections():
    """None: what a connection costs by itself."""
    return Flood("connections alone", opening(), (frame(wire.PING, 0, 0, bytes(8)),), ("open",))


FLOODS = tuple(
    make()
    for make in (
        connections,
        rapid_reset,
        made_you_reset_by_window,
        made_you_reset_by_data,
        made_you_reset_by_overflow,
        made_you_reset_by_malformed,
        refused_streams,
        continuation,
        continuation_full,
        hpack_bomb,
        hpack_churn,
        pings,
        ping_acks,
        settings_empty,
        settings_churn,
        settings_long,
        settings_acks,
        empty_data,
        padded_data,
        body_without_end,
        priorities,
        priority_updates,
        window_updates,
        window_updates_of_stream,
        unknown_frames,
        unknown_large,
        resets_of_closed,
    )
)


# --- sieges -------------------------------------------------------------------

# The timeouts in servers/tidegate.toml, and what it may take to notice.
TIMEOUT_SECONDS = 2
MARGIN_SECONDS = 3
SOON = TIMEOUT_SECONDS + MARGIN_SECONDS
ENDED = (
    "GOAWAY NO_ERROR",
    "GOAWAY ENHANCE_YOUR_CALM",
    "GOAWAY PROTOCOL_ERROR",
    "GOAWAY CANCEL",
    "closed",
    "reset",
)
HUNDRED = b"".join(wire.get(stream, LARGE) for stream in streams(100))
HEAD_BEGUN = frame(wire.HEADERS, END_STREAM, 1, wire.block())

# Nobody reads, though the windows are open.
UNREAD = (
    opening((wire.INITIAL_WINDOW_SIZE, 1 << 30)) + wire.window_update(0, 1 << 30) + HUNDRED,
    (),
    SOON,
    ENDED,
    False,
)
PINGS = frame(wire.PING, 0, 0, bytes(8)) * 900

SIEGES = (
    Siege("100 streams that nobody reads", *UNREAD),
    Siege(
        "answers to PING that nobody reads", opening() + PINGS, (PINGS,) * 100, SOON, ENDED, False
    ),
    Siege("nothing is sent", b"", (), SOON, ENDED),
    Siege("half of the preface", PREFACE[:12], (), SOON, ENDED),
    Siege(
        "the preface, a byte at a time", b"", tuple(bytes([byte]) for byte in PREFACE), SOON, ENDED
    ),
    Siege("the preface without SETTINGS", PREFACE, (), SOON, ENDED),
    Siege("a header block without end", opening() + HEAD_BEGUN, (), SOON, ENDED),
    Siege(
        "a header block, a byte at a time",
        opening() + HEAD_BEGUN,
        (frame(wire.CONTINUATION, 0, 1, b"\x82"),) * 100,
        SOON,
        ENDED,
    ),
    Siege("half of a frame's header", opening() + b"\x00\x00", (), SOON, ENDED),
    Siege(
        "a frame, a byte at a time",
        opening() + frame(wire.UNKNOWN, 0, 0, bytes(10_000))[:9],
        (b"\0",) * 100,
        SOON,
        ENDED,
    ),
    Siege(
        "100 streams, windows of 0",
        opening((wire.INITIAL_WINDOW_SIZE, 0)) + HUNDRED,
        (),
        SOON,
        ENDED,
    ),
    Siege(
        "100 streams, a window of the connection that is full",
        opening((wire.INITIAL_WINDOW_SIZE, 1 << 20)) + HUNDRED,
        (),
        SOON,
        ENDED,
    ),
    Siege(
        "100 streams, PING while windows are 0",
        opening((wire.INITIAL_WINDOW_SIZE, 0)) + HUNDRED,
        (frame(wire.PING, 0, 0, bytes(8)),) * 100,
        SOON,
        ENDED,
    ),
    Siege(
        "a body that does not come",
        opening() + wire.get(1, b"/", flags=END_HEADERS, method=wire.POST),
        (),
        SOON,
        (*ENDED, "statuses 405"),
    ),
)
