"""The attacks: what hostile clients do to a server of HTTP.

The floods and sieges of HTTP/2 are those of scripts/adversary, at a pace that leaves a core for others.
"""

import ssl
from dataclasses import replace
from itertools import count, cycle

from abuses import FLOODS, SIEGES
from crowd import BYTE, CLOSE, NOTHING, Kind, again, one_by_one
from wire import PING, PREFACE, frame, get, settings

GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE = GET % b"/large.bin"
HEAD_BEGUN = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
BURST_BYTES = 1 << 14
STREAMS = b"".join(get(stream, b"/large.bin") for stream in range(1, 200, 2))
# Fewer than a server minds, and their answers are never read.
PINGS = frame(PING, 0, 0, bytes(8)) * 4


def fixed(content):
    return lambda _chance: content


def absent(chance):
    """A burst of requests for paths that are not there."""
    return b"".join(GET % (b"/absent-%d" % chance.getrandbits(40)) for _ in range(50))


def bursts(make):
    """Such pieces one after the other."""
    return lambda chance: (make(chance) for _ in count())


def ranges(chance):
    """Many small ranges of a large file, in no order, and one by one."""
    some = [b"%d-%d" % (at, at + chance.randrange(9)) for at in chance.choices(range(4_000_000), k=900)]
    return LARGE[:-2] + b"Range: bytes=" + b",".join(some) + b"\r\n\r\n"


def overlapping(_chance):
    return LARGE[:-2] + b"Range: bytes=" + b",".join([b"0-"] * 1000) + b"\r\n\r\n"


def garbage(chance):
    return chance.randbytes(chance.randrange(1, 2000))


def garbage_record(chance):
    """A record of TLS of any type and length, the right one for it or not."""
    content = chance.randbytes(chance.randrange(500))
    length = chance.choice([len(content), chance.randrange(1 << 16)])
    return bytes([chance.randrange(18, 26), 3, chance.randrange(5)]) + length.to_bytes(2, "big") + content


def many_fields(chance):
    return b"".join(b"X-%d: %s\r\n" % (chance.getrandbits(20), b"y" * 50) for _ in range(200))


def client_hello():
    """The first flight of a client of TLS."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake without a server cannot end")


def hello_of_any(chance):
    """It with a byte changed."""
    hello = bytearray(HELLO)
    hello[chance.randrange(len(hello))] = chance.randrange(256)
    return bytes(hello)


HELLO = client_hello()
SLOWLY = again(b"x")
H2 = PREFACE + settings()

# Without TLS and with it.
BOTH = [
    Kind("slowloris", 300, fixed(HEAD_BEGUN), SLOWLY, every=2.0),
    Kind("nothing is sent", 300, fixed(b""), every=2.0),
    Kind("readers that stall", 200, fixed(LARGE), reads=NOTHING, receive_buffer=4096),
    Kind(
        "readers that stall and go on sending",
        100,
        fixed(LARGE * 100),
        again(LARGE * 100),
        every=0.1,
        reads=NOTHING,
        receive_buffer=4096,
    ),
    Kind("readers by bytes", 50, fixed(LARGE), every=0.05, reads=BYTE, receive_buffer=4096, life=5),
    Kind("clients that leave in the middle", 50, fixed(LARGE), every=0.02, reads=BYTE, life=0.04),
    Kind("connections and resets", 100, fixed(LARGE), every=0.01, reads=NOTHING, life=0.02),
    Kind("absent paths", 10, absent, bursts(absent), every=0.1),
    Kind("ranges in no order", 10, ranges, bursts(ranges), every=0.2),
    Kind("ranges that overlap", 5, overlapping, bursts(overlapping), every=0.5, life=2),
    Kind("garbage", 20, garbage, bursts(garbage), every=0.05, life=1),
    Kind("heads without end", 20, fixed(HEAD_BEGUN), again(b"z" * BURST_BYTES), every=0.02),
    Kind("fields without end", 20, fixed(HEAD_BEGUN + b"\r\n"), bursts(many_fields), every=0.05),
    Kind(
        "chunks without end",
        20,
        fixed(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"),
        again(b"1;%s\r\nx\r\n" % (b"e" * 100) * 100),
        every=0.02,
    ),
    Kind(
        "a body that does not come",
        100,
        fixed(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"),
        SLOWLY,
        every=2.0,
    ),
]

PLAIN = [
    Kind("connections", 200, fixed(b""), every=0.01, reads=NOTHING, life=0.01, leaves=CLOSE),
    Kind("the preface, a byte at a time", 100, fixed(b""), one_by_one(PREFACE), every=1.0),
    Kind(
        "HTTP/2: a frame, a byte at a time",
        100,
        fixed(H2 + frame(0xBB, 0, 0, bytes(10_000))[:9]),
        again(b"\0"),
        every=1.0,
    ),
    Kind(
        "HTTP/2: readers that stall and go on sending",
        100,
        fixed(H2 + STREAMS),
        again(PINGS),
        every=0.1,
        reads=NOTHING,
        receive_buffer=4096,
    ),
]

SECURE = [
    Kind("a hello, a byte at a time", 200, fixed(b""), one_by_one(HELLO), every=0.5),
    Kind("half of a hello", 200, fixed(HELLO[: len(HELLO) // 2]), every=2.0),
    Kind("hellos and resets", 50, fixed(HELLO), every=0.01, reads=NOTHING, life=0.02),
    Kind("hellos that are changed", 20, hello_of_any, every=0.05, life=0.5),
    Kind("records that are garbage", 20, garbage_record, bursts(garbage_record), every=0.05, life=1),
    Kind("a hello, then records that are garbage", 20, fixed(HELLO), bursts(garbage_record), every=0.05),
]


def of_flood(flood):
    """A flood of HTTP/2 in pieces: over again, as long as it may be."""

    def pieces(_chance):
        content = b"".join(flood.frames)
        cut = [content[at : at + BURST_BYTES] for at in range(0, len(content), BURST_BYTES)]
        return cycle(cut) if flood.is_repeated else iter(cut)

    return Kind(f"HTTP/2: {flood.name}", 4, fixed(flood.start), pieces, every=0.02, life=3)


def of_siege(siege):
    reads = {} if siege.reads else {"reads": NOTHING, "receive_buffer": 4096}
    return Kind(
        f"HTTP/2: {siege.name}", 50, fixed(siege.start), lambda _chance: iter(siege.drip), every=0.25, **reads
    )


def attacks(port, tls_port):
    """All of them, as pairs of a kind and the port that it goes to."""
    plain = [*BOTH, *PLAIN, *map(of_flood, FLOODS), *map(of_siege, SIEGES)]
    # What opens a connection of TLS costs the client as well: fewer of them.
    secure = [
        replace(kind, name=f"TLS, {kind.name}", tls=True, connections=max(4, kind.connections // 4)) for kind in BOTH
    ]
    return [(kind, port) for kind in plain] + [(kind, tls_port) for kind in [*secure, *SECURE]]

