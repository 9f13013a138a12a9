"""Requests that are wrong in the ways of request smuggling, made of a seed."""

import random
from dataclasses import dataclass, field

import markers

HOST = b"Host: one.test"
METHODS = (b"GET", b"GET", b"POST", b"POST", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE", b"BREW", b"get")
VERSIONS = (
    b"HTTP/1.0", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.1 ", b"HTTP/1.10", b"HTTP/01.1",
    b"HTTP/1", b"http/1.1", b"HTTP/1.1\t", b"HTTP /1.1", b"HTTP/1,1", b"HTTP/1.1\x0b", b"HTTP/1.1\0", b"", b"HTTPS/1.1",
)  # fmt: skip
# %d is the length of the body.
LENGTHS = (
    b"+%d", b"-%d", b"-0", b"0", b"00%d", b"0%d", b"0x%x", b"%d, %d", b"%d,%d", b"%d %d", b"%d,", b",%d", b"%d;a=b", b"%d.0",
    b"%de0", b"", b" ", b"\t%d\t", b"%d\x0b", b"\x0c%d", b"%d\0", b"\0%d", b"'%d'", b'"%d"', b"1%d", b"a", b"%d\xa0", b"\xef\xbc\x95",
    b"4294967296", b"18446744073709551615", b"18446744073709551616", b"1844674407370955161%d", b"9223372036854775808",
    b"99999999999999999999999999999", b"-1", b"1_%d", b"%d\r", b"%d\r\n ", b"\r\n %d", b"%d\n", b"0, %d", b"%d, 0",
)  # fmt: skip
CODINGS = (
    b"chunked", b"chunked", b"chunked", b"Chunked", b"CHUNKED", b"xchunked", b"x-chunked", b"chunkedx", b"chunked\t", b"\tchunked",
    b"\x0bchunked", b"chunked\x0b", b"\x0cchunked", b"chunked\0", b"\0chunked", b"chunked, chunked", b"chunked, identity",
    b"identity, chunked", b"identity", b"gzip, chunked", b"gzip", b"chunked, gzip", b",chunked", b"chunked,", b", chunked ,",
    b"chunked;q=1", b"chunked ;a", b'"chunked"', b"'chunked'", b"chunked chunked", b"chun ked", b"chun\rked", b"chunked\r",
    b"\xa0chunked", b"\x85chunked", b"chunked\xff", b"chunk", b"cow", b"", b"trailers", b"\r\n chunked", b"chunked\r\n ",
    b"\r\n\tchunked", b"\nchunked", b"identity\r\nTransfer-Encoding: chunked", b"chunked\r\nTransfer-Encoding: identity",
    b"chunked\r\nTransfer-Encoding: chunked", b"\r\nTransfer-Encoding: chunked", b"\x01chunked", b"(chunked)", b"chunked/1.1",
)  # fmt: skip
# What a name becomes.
NAMES = (
    b"%s ", b"%s\t", b" %s", b"\t%s", b"%s\0", b"\0%s", b"%s\x0b", b"%s\r", b"%s:", b":%s", b"%s\xa0", b"\xef\xbb\xbf%s", b"%s\r\n ",
    b"X: y\n%s", b"X: y\r%s", b"X: y\r\r\n%s", b"X-%s", b"%s-X", b'"%s"', b"%s,", b"%s;", b"(%s)", b"%s\x7f", b"%s\x01", b"%s=",
)  # fmt: skip
SIZES = (
    b"%x", b"%X", b"0%x", b"00000000000000000%x", b"0x%x", b"+%x", b"-%x", b" %x", b"%x ", b"\t%x", b"%x\t", b"%x;", b"%x;a",
    b"%x;a=b", b'%x;a="b"', b'%x;a="b;\\"c"', b'%x;a="b', b"%x ;a", b"%x; a = b", b"%x;a=b ", b"%x;=b", b"%x;a b", b"%x;\n", b"%x;a\nb",
    b"%x;a\rb", b'%x;a="\r\n', b'%x;a="\n"', b"1%015x%x", b"10000000000000000%x", b"1000000000000000%x", b"ffffffffffffffff",
    b"ffffffff%x", b"%x\0", b"%xg", b"%x,a", b"%x_0", b"", b"\n%x", b"\r%x", b"%x\r", b"%x;\x80", b"%x;a=\xff", b"%x\x0b", b"%x.0", b"%xh",
    b"%x\r\nX: y", b"%x;" + b"e" * 300,
)  # fmt: skip
ENDS = (b"\n", b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r\n\r", b" \r\n", b"\0\r\n", b"\n\n", b"", b"\r \n", b"\x0b\r\n", b"\x85")
HOSTS = (
    (), (), (HOST, HOST), (HOST, b"Host: other.test"), (b"Host: one.test, other.test",), (b"Host:",), (b"Host: a b",),
    (b"Host: a:80:90",), (b"Host: [::1]",), (b"Host: [::1",), (b"Host: a/b",), (b"Host: u@a",), (b"Host: a:",), (b"Host: a:99999",),
    (b"Host: one.test:80",), (b"host:one.test\t",), (b"Host: a\0b",), (b"Host: \xe4",), (b"Host: a%2e",), (HOST, b" Host: folded.test"),
    (b"Host : one.test",), (HOST, b"Host : other.test"), (HOST, b"X-Forwarded-Host: other.test"), (b"Host: a?b",), (b"Host: a#b",),
)  # fmt: skip
LINES = (
    b" folded: yes", b"\tfolded", b"no colon", b": nameless", b"X: a\rb", b"X: a\nb", b"X: a\0b", b"X: \xff\xfe", b"X\xff: a", b"X Y: z",
    b"X : y", b"X\t: y", b"X:\x0by", b"X: y\r\n folded", b"X: y\r\n\r", b"\0", b"\x0b", b"X: \x7f", b"X: \x1b[0m", b"X[]: y", b"X: " + b"z" * 9000,
    b"X: y\r\n" * 120 + b"X: y", b"\r", b"GET /marker-1 HTTP/1.1", b"HTTP/1.1 200 OK", b"X:", b"\xef\xbb\xbfX: y", b"X\r: y", b"X: y\r\n: z",
    b"Trailer: Content-Length", b"TE: trailers", b"TE: chunked", b"Range: bytes=x", b"X-HTTP-Method-Override: POST", b"Via: 1.1 a",
)  # fmt: skip
CONNECTIONS = (
    b"Connection: keep-alive", b"Connection: close", b"Connection: close, keep-alive", b"Connection: keep-alive\r\nConnection: close",
    b"Connection: Content-Length", b"Connection: Transfer-Encoding", b"Connection: Host", b"Connection: close, Content-Length",
    b"Connection: x, transfer-encoding", b"Proxy-Connection: keep-alive", b"Proxy-Connection: close", b"Keep-Alive: timeout=5",
    b"Connection: clo\x00se", b"Connection: \x0bclose", b"Connection: upgrade", b"Connection : close", b"Connection: close\t",
    b"Connection: ,close", b"Connection: TE\r\nTE: trailers", b"Connection: Expect",
)  # fmt: skip
OTHERS = (
    b"Expect: 100-continue", b"Expect: 100-continue", b"Expect: 100-Continue", b"Expect: 100-continue, x", b"Expect: x", b"Expect:",
    b"Expect: 100-continue\r\nExpect: 100-continue", b"Expect : 100-continue", b"Expect: \t100-continue\t", b"Expect: 100",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__", b"Connection: Upgrade\r\nUpgrade: HTTP/2.0",
    b"Upgrade: h2c", b"Connection: Upgrade\r\nUpgrade: TLS/1.0", b"Max-Forwards: 0", b"Content-Encoding: chunked", b"Content-Type: a/b",
)  # fmt: skip
GARBAGE = (
    b"\r\n", b"\r\n\r\n", b"\r\n" * 6, b"\n", b"\r", b"\0", b"X", b" ", b"0\r\n\r\n", b"\x16\x03\x01", b"garbage\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"\xff\xff", b"GET", b"GET / HTTP/1.1\r\n", b"\r\n ", b"a: b\r\n\r\n", b"\x85\r\n",
)  # fmt: skip
TRAILERS = (
    b"", b"", b"", b"a: b\r\n", b"Content-Length: 50\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: other.test\r\n", b"a : b\r\n", b" a: b\r\n",
    b"a\r\n", b"a: b\n", b"a: b\r", b"\n", b"GET / HTTP/1.1\r\n", b": b\r\n", b"a: \0\r\n", b"Connection: close\r\n",
)  # fmt: skip
NOISE = b"\r\n\0 :\t,;\x0b\xff0a/"


@dataclass
class Draft:
    """A request before it is bytes."""

    random: random.Random
    target: bytes
    # A whole request that a body may hold.
    inner: bytes
    method: bytes = b"GET"
    version: bytes = b"HTTP/1.1"
    space: bytes = b" "
    hosts: tuple = (HOST,)
    fields: list = field(default_factory=list)
    body: bytes = b""
    # Of the lines of the head, by their numbers, where it is not CRLF.
    ends: dict = field(default_factory=dict)

    def bytes(self):
        words = [self.method, self.target, self.version]
        lines = [self.space.join(words if self.version else words[:2]), *self.hosts, *self.fields, b""]
        return b"".join(line + self.ends.get(at, b"\r\n") for at, line in enumerate(lines)) + self.body

    def put(self, line):
        self.fields.insert(self.random.randint(0, len(self.fields)), line)


# --- bodies ----------------------------------------------------------------------


def content(draft):
    """What a body holds: mostly what could be taken for requests."""
    return draft.random.choice(
        (
            b"hello",
            b"x" * draft.random.randint(0, 200),
            draft.inner,
            b"0\r\n\r\n" + draft.inner,
            b"\r\n" + draft.inner,
            draft.inner[: draft.random.randint(1, len(draft.inner))],
            draft.inner.partition(b"\r\n")[0] + b"\r\nX: ",
        )
    )


def chunked(draft, spoil=False):
    """Some content in chunks; one of them, or their end, is spoiled."""
    pieces = [content(draft) for _ in range(draft.random.randint(0, 3))] + [b""]
    bad = draft.random.randrange(len(pieces)) if spoil else -1
    out = b""
    for at, piece in enumerate(pieces):
        size, end = b"%x" % len(piece), b"\r\n"
        if at == bad:
            size, end, piece = spoiled(draft, size, end, piece)
        out += size + end + piece
        if at < len(pieces) - 1:
            out += draft.random.choice(ENDS) if at == bad and draft.random.random() < 0.3 else b"\r\n"
    trailers = draft.random.choice(TRAILERS) if draft.random.random() < 0.3 else b""
    last = draft.random.choice(ENDS) if spoil and draft.random.random() < 0.2 else b"\r\n"
    return out + trailers + last


def spoiled(draft, size, end, piece):
    match draft.random.randint(0, 4):
        case 0:
            return size, draft.random.choice(ENDS), piece
        case 1:
            wrong = max(0, len(piece) + draft.random.choice((-2, -1, 1, 2, 5)))
            return b"%x" % wrong, end, piece
        case _:
            return filled(draft.random.choice(SIZES), len(piece)), end, piece


def filled(form, number):
    """The form with the number wherever it has a place for it."""
    return form % ((number,) * form.count(b"%"))


def with_length(draft):
    draft.body = content(draft)
    draft.put(b"Content-Length: %d" % len(draft.body))


def with_chunks(draft):
    draft.body = chunked(draft)
    draft.put(b"Transfer-Encoding: chunked")


# --- mutations -------------------------------------------------------------------


def both_lengths(draft):
    draft.body = chunked(draft)
    lengths = (len(draft.body), len(draft.body.partition(b"\r\n")[0]) + 2, 0, 4, len(draft.body) + 20)
    draft.put(b"Content-Length: %d" % draft.random.choice(lengths))
    draft.put(b"Transfer-Encoding: " + draft.random.choice(CODINGS))


def odd_length(draft):
    without(draft, b"content-length")
    draft.body = draft.body or content(draft)
    draft.put(b"Content-Length: " + filled(draft.random.choice(LENGTHS), len(draft.body)))


def more_lengths(draft):
    draft.body = draft.body or content(draft)
    for _ in range(draft.random.randint(1, 2)):
        length = len(draft.body) + draft.random.choice((0, 0, 1, -1, 10))
        draft.put(draft.random.choice((b"Content-Length", b"content-length")) + b": %d" % length)


def odd_coding(draft):
    without(draft, b"transfer-encoding")
    if draft.random.random() < 0.8:
        draft.body = chunked(draft)
    draft.put(b"Transfer-Encoding: " + draft.random.choice(CODINGS))


def odd_name(draft):
    """The name of a field that frames the message, or another, is spoiled."""
    if not draft.fields:
        with_chunks(draft) if draft.random.random() < 0.5 else with_length(draft)
    at = draft.random.randrange(len(draft.fields))
    name, colon, value = draft.fields[at].partition(b":")
    draft.fields[at] = draft.random.choice(NAMES).replace(b"%s", name) + colon + value


def odd_separator(draft):
    """Something else in place of ": "."""
    if not draft.fields:
        with_chunks(draft) if draft.random.random() < 0.5 else with_length(draft)
    at = draft.random.randrange(len(draft.fields))
    choices = (b":", b":\t", b":  ", b": \t ", b" : ", b"\t:", b":\x0b", b":\x0c", b":\r\n ", b":\r\n\t", b":\0", b":\xa0", b":\n ", b":\r", b"=", b"::")
    draft.fields[at] = draft.fields[at].replace(b": ", draft.random.choice(choices), 1)


def broken_chunks(draft):
    without(draft, b"transfer-encoding")
    without(draft, b"content-length")
    draft.put(b"Transfer-Encoding: chunked")
    draft.body = chunked(draft, spoil=True)


def odd_line(draft):
    draft.put(draft.random.choice(LINES))


def odd_end(draft):
    """A line, or each, ends with something else."""
    lines = 2 + len(draft.hosts) + len(draft.fields)
    end = draft.random.choice(ENDS)
    if draft.random.random() < 0.2:
        draft.ends = dict.fromkeys(range(lines), end)
    else:
        draft.ends[draft.random.randrange(lines)] = end


def odd_target(draft):
    path = draft.target
    choices = (
        b"http://one.test" + path, b"http://other.test" + path, b"HTTP://one.test:80" + path, b"https://one.test" + path,
        b"http://" + path, b"http:/" + path, b"ftp://one.test" + path, b"//one.test" + path, b"one.test:80", b"one.test", b"*", b"/*",
        b"/." + path, b"/a/.." + path, b"/%2e" + path, b"/" + path, b"\\" + path[1:], path + b"#x", path[1:], b"/..;" + path,
        path + b" x", path + b"\tx", path + b"\x00", path + b"\xff", path + b"%00", path + b"%zz", path + b"%0d%0a", b"http://u@one.test" + path,
        b"http://one.test?" + path, b"http://one.test", path + b"\r", path + b"\x0b", path.replace(b"/", b"/%6d", 1).replace(b"%6dm", b"%6d"),
        path + b"%20HTTP/1.1%0d%0aX:", path + b" HTTP/1.1", path + b" HTTP/1.0", path + b"&" + b"q" * 9000, path + b'"<>\\^`{|}', b"", b" " + path,
    )  # fmt: skip
    draft.target = draft.random.choice(choices)


def odd_method(draft):
    draft.method = draft.random.choice(
        (b"CONNECT", b"GET\t", b" GET", b"G ET", b"\0GET", b"GET\0", b"", b"M-SEARCH", b"G(T", b"POST", b"TRACE", b"\xff", b"\r\nGET", b"\nGET", b"PRI")
    )
    if draft.method == b"CONNECT":
        draft.target = draft.random.choice((b"one.test:443", b"one.test", draft.target, b":443"))


def odd_version(draft):
    draft.version = draft.random.choice(VERSIONS)


def odd_space(draft):
    draft.space = draft.random.choice((b"  ", b"\t", b" \t", b"\x0b", b"\xa0", b"\0", b"", b"\r", b"\x0c"))


def odd_hosts(draft):
    draft.hosts = draft.random.choice(HOSTS)


def odd_connection(draft):
    draft.put(draft.random.choice(CONNECTIONS))
    if draft.random.random() < 0.3:
        draft.version = b"HTTP/1.0"


def other_field(draft):
    draft.put(draft.random.choice(OTHERS))


def garbage(draft):
    draft.body += draft.random.choice(GARBAGE)


def a_body_less_or_more(draft):
    if draft.random.random() < 0.5:
        draft.body = draft.body[: draft.random.randint(0, len(draft.body))]
    else:
        draft.body += content(draft)


def without(draft, name):
    draft.fields = [line for line in draft.fields if not line.lower().startswith(name)]


MUTATIONS = (
    (both_lengths, 10), (odd_length, 10), (more_lengths, 6), (odd_coding, 14), (odd_name, 10), (odd_separator, 6), (broken_chunks, 14),
    (odd_line, 8), (odd_end, 8), (odd_target, 8), (odd_method, 4), (odd_version, 5), (odd_space, 3), (odd_hosts, 6), (odd_connection, 6),
    (other_field, 6), (garbage, 5), (a_body_less_or_more, 4),
)  # fmt: skip
CHOICES, WEIGHTS = zip(*MUTATIONS)


def mutated(choice, target, inner):
    """A request for `target` that is wrong in one way to three."""
    draft = Draft(choice, target, inner, choice.choice(METHODS))
    match choice.randint(0, 3):
        case 0:
            with_length(draft)
        case 1:
            with_chunks(draft)
    for mutation in choice.choices(CHOICES, WEIGHTS, k=choice.choice((1, 1, 1, 2, 2, 3))):
        mutation(draft)
    data = draft.bytes()
    return noisy(choice, data) if choice.random() < 0.06 else data


def noisy(choice, data):
    """The same with a few bytes that are wrong, missing or too many."""
    data = bytearray(data)
    for _ in range(choice.randint(1, 3)):
        at = choice.randrange(len(data))
        match choice.randint(0, 2):
            case 0:
                data[at] = choice.choice(NOISE)
            case 1:
                data.insert(at, choice.choice(NOISE))
            case _:
                if len(data) > 1:
                    del data[at]
    return bytes(data)


# --- sequences -------------------------------------------------------------------


@dataclass(frozen=True)
class Sequence:
    """What is sent on one connection: in these pieces, and the number of the first request that is not known."""

    pieces: tuple
    # The bytes of the known requests before the mutated one.
    known: int
    # The number that the mutated request has, if it has kept it.
    mutated: bytes

    @property
    def data(self):
        return b"".join(self.pieces)


def plain(number, identity, fields=b""):
    return b"GET %s HTTP/1.1\r\n%s\r\n%s\r\n" % (markers.target(number, identity), HOST, fields)


def sequence(seed, number):
    """A mutated request with known ones before and behind it."""
    choice = random.Random(f"{seed} {number}")
    files = [number * 6 + at for at in range(6)]
    names = [b"s%d.%c" % (number, letter) for letter in b"amiyz"]
    before = plain(files[0], names[0]) if choice.random() < 0.7 else b""
    inner = plain(files[2], names[2], choice.choice((b"", b"", b"Content-Length: 60\r\n")))
    middle = mutated(choice, markers.target(files[1], names[1]), inner)
    if not before and middle.startswith(b"PRI * "):
        # That would be HTTP/2.
        before = plain(files[0], names[0])
    behind = plain(files[3], names[3]) if choice.random() < 0.8 else b""
    behind += plain(files[4], names[4], b"Connection: close\r\n")
    match choice.randint(0, 9):
        case 0 | 1:
            pieces = (before, middle, behind)
        case 2:
            pieces = cut(choice, before + middle + behind)
        case 3:
            pieces = (before, *cut(choice, middle), behind)
        case _:
            pieces = (before + middle + behind,)
    return Sequence(tuple(filter(None, pieces)), len(before), names[1])


def cut(choice, data):
    places = sorted(choice.randrange(len(data) + 1) for _ in range(choice.randint(1, 3)))
    return tuple(data[start:end] for start, end in zip([0, *places], [*places, len(data)]))
