"""Random sequences of frames, made of a seed, with TLS and without.

A polite one is valid: each response must come whole and right. A rude one has frames that are
not: the server must say GOAWAY before it closes. In both, whatever it sends is held against
the RFC by a Witness.
"""

import random
import struct
import time

import site_files
import wire
from hpack import Encoder
from witness import Response, Witness, Wrong

STREAMS_MAX = 60
STEPS_MAX = 80
POLITE_SECONDS = 20
# How long a server may think about what may not be the whole of a frame.
RUDE_SECONDS = 0.25
FIELDS = (
    ("accept-encoding", "gzip, br"),
    ("user-agent", "an adversary"),
    ("cookie", "a=1"),
    ("cookie", "b=2"),
    ("priority", "u=1, i"),
    ("priority", "u=9"),
    ("if-none-match", '"nothing"'),
    ("te", "trailers"),
    ("x-long", "y" * 3000),
)
BAD_FIELDS = (
    ("connection", "close"),
    ("transfer-encoding", "chunked"),
    ("Upper", "case"),
    ("te", "gzip"),
    ("x-line", "a\r\nb: c"),
    ("x-null", "a\0b"),
    (":late", "pseudo"),
    (":path", "/twice"),
    ("content-length", "5"),
    ("content-length", "-1"),
    ("", "nameless"),
    ("host", "elsewhere"),
    ("x-huge", "z" * 40_000),
)


class Peer:
    """A client on a connection; `random` decides what it does."""

    def __init__(self, ports, seed, polite):
        self.random = random.Random(f"{seed} {polite}")
        self.polite = polite
        self.witness = Witness()
        self.encoder = Encoder()
        self.encoder.huffman = True
        self.next_stream = 1
        # What is to come on each stream that is not reset: path and range, or None if no body.
        self.wanted = {}
        self.uploads = []
        self.pings_sent = 0
        tls = self.random.random() < 0.5
        self.link = wire.Link(ports[tls], tls)
        self.waiting = bytearray()

    # --- sending ---------------------------------------------------------------

    def send(self, content):
        """In pieces, sometimes, and sometimes later with what comes then."""
        self.waiting += content
        if self.random.random() < 0.5:
            self.flush()

    def flush(self):
        content, self.waiting = bytes(self.waiting), bytearray()
        while content and not self.link.refused:
            whole = self.random.random() < 0.7
            size = len(content) if whole else self.random.randint(1, min(len(content), 100))
            self.link.send(content[:size])
            content = content[size:]

    def begin(self):
        self.send(wire.PREFACE)
        self.settings()

    def setting(self):
        choice = self.random
        match choice.randint(0, 5):
            case 0:
                value = choice.choice((0, 1, 10, 1000, 65535, 1 << 20))
                self.witness.initial_window = max(self.witness.initial_window, value)
                return wire.INITIAL_WINDOW_SIZE, value
            case 1:
                value = choice.choice((16384, 20000, (1 << 24) - 1))
                self.witness.frame_bytes = max(self.witness.frame_bytes, value)
                return wire.MAX_FRAME_SIZE, value
            case 2:
                return wire.HEADER_TABLE_SIZE, choice.choice((4096, 100, 0, 4096, 1000))
            case 3:
                return wire.ENABLE_PUSH, 0
            case 4:
                return wire.MAX_CONCURRENT_STREAMS, choice.choice((0, 1, 100))
            case _:
                return choice.randint(0x20, 0xFFFF), choice.getrandbits(32)

    # --- valid steps -----------------------------------------------------------

    def request(self):
        if self.next_stream > 2 * STREAMS_MAX:
            return
        choice = self.random
        stream, self.next_stream = (
            self.next_stream,
            self.next_stream + 2 * choice.choice((1, 1, 1, 2)),
        )
        method = choice.choice(("GET", "GET", "GET", "HEAD", "POST"))
        path = "/" + choice.choice((*site_files.FILES, "", "absent"))
        fields = [
            (":method", method),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", path),
        ]
        fields[1:] = choice.sample(fields[1:], 3)
        fields += choice.sample(FIELDS, choice.randint(0, 3))
        bounds = None
        if method == "GET" and choice.random() < 0.3:
            bounds = (choice.randint(0, 400), choice.randint(401, 900))
            fields.append(("range", f"bytes={bounds[0]}-{bounds[1]}"))
        self.witness.streams[stream] = Response(method)
        self.wanted[stream] = (path, method, bounds)
        self.send(self.head(stream, fields, end=method != "POST" or choice.random() < 0.2))

    def head(self, stream, fields, end):
        """HEADERS, and CONTINUATION sometimes."""
        choice = self.random
        block = self.encoder.encode(fields, huffman=choice.random() < 0.7)
        pieces = [block]
        if choice.random() < 0.2:
            cuts = sorted(choice.randint(0, len(block)) for _ in range(choice.randint(1, 3)))
            pieces = [block[a:b] for a, b in zip([0, *cuts], [*cuts, len(block)])]
        flags = wire.END_STREAM if end else 0
        payload = pieces[0]
        if choice.random() < 0.3:
            flags |= wire.WITH_PRIORITY
            payload = (
                struct.pack(">IB", choice.choice((0, 1, 0x80000000)) if stream != 1 else 0, 15)
                + payload
            )
        if choice.random() < 0.3:
            flags, payload = flags | wire.PADDED, self.padded(payload)
        kinds = [wire.HEADERS] + [wire.CONTINUATION] * (len(pieces) - 1)
        flagged = [flags] + [0] * (len(pieces) - 1)
        flagged[-1] |= wire.END_HEADERS
        made = zip(kinds, flagged, [payload, *pieces[1:]])
        if not end:
            self.uploads.append(stream)
        return b"".join(wire.frame(kind, flag, stream, piece) for kind, flag, piece in made)

    def padded(self, payload):
        length = self.random.randint(0, 255)
        return bytes([length]) + payload + bytes(length)

    def upload(self):
        """A piece of a body; its end sometimes, with trailers sometimes."""
        if not self.uploads:
            return
        choice = self.random
        stream = choice.choice(self.uploads)
        end = choice.random() < 0.6
        if end:
            self.uploads.remove(stream)
            if choice.random() < 0.3:
                block = self.encoder.encode([("x-trailer", "value")])
                self.send(
                    wire.frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, stream, block)
                )
                return
        payload = bytes(choice.randint(1, 500))
        flags = wire.END_STREAM if end else 0
        if choice.random() < 0.3:
            flags, payload = flags | wire.PADDED, self.padded(payload)
        self.send(wire.frame(wire.DATA, flags, stream, payload))

    def ping(self):
        payload = self.random.randbytes(8)
        self.note_ping(payload)
        self.send(wire.frame(wire.PING, 0, 0, payload))

    def note_ping(self, payload):
        self.pings_sent += 1
        if self.witness.pings is not None:
            self.witness.pings.append(payload)

    def settings(self):
        self.send_settings([self.setting() for _ in range(self.random.randint(0, 3))])

    def send_settings(self, pairs):
        sizes = [value for name, value in pairs if name == wire.HEADER_TABLE_SIZE]
        if self.witness.settings_sent is not None:
            self.witness.settings_sent.append(sizes[-1] if sizes else None)
        self.send(wire.settings(*pairs))

    def widen(self):
        increment = self.random.choice((1, 100, 70_000, 1 << 20))
        stream = self.random.choice((0, *self.wanted))
        self.allow(stream, increment)

    def allow(self, stream, increment):
        if stream:
            self.witness.streams[stream].increments += increment
        else:
            self.witness.window += increment
        self.send(wire.window_update(stream, increment))

    def cancel(self):
        if self.wanted and self.random.random() < 0.5:
            stream = self.random.choice(list(self.wanted))
            del self.wanted[stream]
            self.uploads = [each for each in self.uploads if each != stream]
            self.send(wire.reset(stream, self.random.choice((0, 2, 8))))

    def prioritize(self):
        stream = self.random.randint(0, self.next_stream // 2) * 2 + 1
        if self.random.random() < 0.5:
            weight = self.random.randint(0, 255)
            self.send(wire.frame(wire.PRIORITY, 0, stream, struct.pack(">IB", 0, weight)))
        else:
            value = self.random.choice((b"u=0", b"u=7, i", b"i", b"u=3;x=?0", b""))
            known = self.random.choice((*self.wanted, stream))
            self.send(wire.frame(wire.PRIORITY_UPDATE, 0, 0, struct.pack(">I", known) + value))

    def unknown(self):
        flags, stream = self.random.randint(0, 255), self.random.choice((0, 1, 5))
        self.send(
            wire.frame(
                wire.UNKNOWN, flags, stream, self.random.randbytes(self.random.randint(0, 50))
            )
        )

    def listen(self):
        self.flush()
        self.hear(self.random.choice((0.0001, 0.001, 0.005)))

    POLITE = (
        request,
        request,
        request,
        request,
        upload,
        ping,
        settings,
        widen,
        widen,
        cancel,
        prioritize,
        unknown,
    )

    # --- invalid steps ---------------------------------------------------------

    def any_frame(self):
        """A frame of a known type with anything in it."""
        choice = self.random
        kind = choice.choice((*range(10), wire.PRIORITY_UPDATE, choice.randint(0, 255)))
        size = choice.choice((0, 1, 4, 5, 6, 8, 9, 100, 16384))
        stream = choice.choice((0, 1, 2, 3, self.next_stream, 0x7FFFFFFF, 0x80000001))
        self.send(wire.frame(kind, choice.randint(0, 255), stream, choice.randbytes(size)))

    def bad_request(self):
        """A request that is malformed."""
        choice = self.random
        fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", "/"),
        ]
        match choice.randint(0, 3):
            case 0:
                fields.pop(choice.randint(0, 3))
            case 1:
                choice.shuffle(fields)
                fields.insert(0, ("x", "early"))
            case 2:
                fields[0] = (":method", choice.choice(("", "CONNECT", "G T", "\0")))
            case _:
                fields[3] = (
                    ":path",
                    choice.choice(("", "*", "x", "/\0", "/ ", "/" + "p" * 20_000, "http://a/")),
                )
        fields += choice.sample(BAD_FIELDS, choice.randint(0, 2))
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        self.witness.streams[stream] = Response("")
        block = self.encoder.encode(fields)
        while len(block) > 16384:
            self.send(wire.frame(wire.HEADERS, wire.END_STREAM, stream, block[:16384]))
            block = block[16384:]
        self.send(wire.frame(wire.HEADERS, wire.END_STREAM | wire.END_HEADERS, stream, block))

    def bad_block(self):
        """A header block that is none."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        self.witness.streams[stream] = Response("")
        block = self.random.choice(
            (
                self.random.randbytes(self.random.randint(0, 200)),
                b"\x80",
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                b"\x00\x85\xff\xff\xff\xff\xff",
                b"\x3f\xe1\xff\x03",
                wire.block() + b"\x20",
                b"\x40\x7f\xff\xff\xff\xff\x0f",
            )
        )
        flags = self.random.choice((4, 5, 5, 5))
        self.send(wire.frame(wire.HEADERS, flags, stream, block))

    def bad_window(self):
        stream = self.random.choice((0, *self.witness.streams, self.next_stream, 2))
        self.send(wire.window_update(stream, self.random.choice((0, 0x7FFFFFFF, 0x80000000))))

    def bad_settings(self):
        pairs = ((4, 1 << 31), (5, 0), (5, 1 << 24), (2, 2), (8, 2), (9, 2))
        self.send_settings([self.random.choice(pairs)])

    def again(self):
        """Frames on streams that are over, half-closed or idle."""
        stream = self.random.choice((*self.witness.streams, self.next_stream + 100, 2))
        made = (
            wire.frame(
                wire.DATA, self.random.choice((0, 1)), stream, b"x" * self.random.choice((0, 10))
            ),
            wire.get(stream),
            wire.reset(stream),
            wire.frame(wire.CONTINUATION, 4, stream, b""),
            wire.frame(wire.PRIORITY, 0, stream, struct.pack(">IB", stream, 1)),
        )
        self.send(self.random.choice(made))

    def flipped(self):
        """A request of which some bits are others."""
        content = bytearray(wire.get(self.next_stream, b"/small.txt"))
        for _ in range(self.random.randint(1, 3)):
            content[self.random.randrange(len(content))] ^= 1 << self.random.randint(0, 7)
        self.witness.streams[self.next_stream] = Response("")
        self.next_stream += 2
        self.send(bytes(content))

    def garbage(self):
        self.send(self.random.randbytes(self.random.randint(1, 300)))

    RUDE = (any_frame, bad_request, bad_block, bad_window, bad_settings, again, flipped, garbage)

    # --- receiving -------------------------------------------------------------

    def hear(self, seconds):
        for frame in self.link.read(seconds):
            if (
                frame.kind in (wire.HEADERS, wire.DATA, wire.RST_STREAM, wire.CONTINUATION)
                and not self.polite
            ):
                # Bits that flipped may have opened any stream.
                self.witness.streams.setdefault(frame.stream, Response(""))
            self.witness.take(frame)
            if frame.kind == wire.SETTINGS and not frame.flags & wire.ACK:
                self.send(wire.frame(wire.SETTINGS, wire.ACK, 0))

    def run(self):
        """What came of it, in words; raises Wrong if the server did wrong."""
        with self.link:
            self.begin()
            steps = self.random.randint(1, STEPS_MAX)
            rude_from = 1 << 30 if self.polite else self.random.randint(0, steps)
            for number in range(steps):
                if self.link.closed or self.link.refused:
                    break
                rude = number >= rude_from and self.random.random() < 0.5
                if rude:
                    self.witness.relax()
                self.random.choice(self.RUDE if rude else (*self.POLITE, Peer.listen))(self)
            if self.polite:
                return self.end_politely()
            self.witness.relax()
            return self.end_rudely()

    def end_politely(self):
        for stream in self.uploads:
            self.send(wire.frame(wire.DATA, wire.END_STREAM, stream, b"end"))
        self.witness.initial_window = max(self.witness.initial_window, 1 << 24)
        self.send_settings([(wire.INITIAL_WINDOW_SIZE, 1 << 24)])
        self.allow(0, 1 << 30)
        self.flush()
        deadline = time.monotonic() + POLITE_SECONDS
        while not self.is_done() and not self.link.closed and time.monotonic() < deadline:
            self.hear(0.5)
            self.flush()
        away = self.witness.away
        self.witness.require(
            away is None, f"GOAWAY {away and wire.name_of(away[1])} though all was valid"
        )
        self.witness.require(not self.link.closed, "it closed though all was valid")
        for stream in self.wanted:
            self.judge(stream)
        self.witness.require(
            self.witness.answered_pings == self.pings_sent, "a PING was not answered"
        )
        self.witness.require(not self.witness.settings_sent, "SETTINGS were not acknowledged")
        return "all came"

    def is_done(self):
        streams = (self.witness.streams[stream] for stream in self.wanted)
        answered = self.witness.answered_pings == self.pings_sent and not self.witness.settings_sent
        return answered and all(stream.ended for stream in streams)

    def judge(self, stream):
        path, method, bounds = self.wanted[stream]
        came, content = self.witness.streams[stream], site_files.content_of(path)
        where = f"stream {stream}, {method} {path} {bounds or ''}:"
        self.witness.require(
            came.ended, f"{where} it did not end, {len(came.body)} bytes came, {came.code}"
        )
        if method == "POST":
            self.witness.require(came.status in (405, 404), f"{where} the status {came.status}")
        elif content is None:
            self.witness.require(came.status == 404, f"{where} the status {came.status}")
        else:
            self.judge_content(where, came, content, bounds)

    def judge_content(self, where, came, content, bounds):
        status = 200
        if bounds and bounds[0] < len(content):
            status, content = 206, content[bounds[0] : bounds[1] + 1]
        elif bounds and came.status == 416:
            # An empty file has no range that could be satisfied.
            return
        self.witness.require(
            came.status == status, f"{where} the status {came.status}, not {status}"
        )
        if came.method != "HEAD":
            self.witness.require(came.body == content, f"{where} the body differs")

    def end_rudely(self):
        if self.random.random() < 0.1:
            self.flush()
            self.link.abort()
            return "we went away"
        if not self.link.closed:
            self.send(wire.frame(wire.PING, 0, 0, b"the last"))
            self.flush()
        deadline = time.monotonic() + RUDE_SECONDS
        before = self.witness.answered_pings
        while (
            not self.link.closed
            and self.witness.answered_pings == before
            and time.monotonic() < deadline
        ):
            self.hear(RUDE_SECONDS)
        if self.witness.away:
            return f"GOAWAY {wire.name_of(self.witness.away[1])}"
        if self.link.closed:
            return "closed without GOAWAY"
        return "went on" if self.witness.answered_pings > before else "waited"


def run(ports, seed, polite):
    """What came of the sequence of that seed; raises Wrong."""
    try:
        return Peer(ports, seed, polite).run()
    except Wrong:
        raise
    except Exception as error:
        raise Wrong(f"{type(error).__name__}: {error}") from error
