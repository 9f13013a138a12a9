"""Clients that compare every body, and what came of a request."""

import collections
import socket
import ssl

import wire

# A request that takes longer hangs.
TIMEOUT_SECONDS = 12

RIGHT, ENDED, REFUSED, HANGS, WRONG = "right", "ended", "refused", "hangs", "wrong"


class Tally(collections.Counter):
    """How often what came of requests; the details of what must not be."""

    def __init__(self):
        super().__init__()
        self.details = []

    def add(self, outcome, detail=""):
        self[outcome] += 1
        if outcome in (HANGS, WRONG):
            self.details.append(f"{outcome}: {detail}")


def tls_context(protocol="http/1.1"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


def connect(port, context=None):
    link = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
    return context.wrap_socket(link) if context else link


class Connection:
    """Requests of HTTP/1.1 behind each other."""

    def __init__(self, port, context=None):
        self.socket = connect(port, context)
        self.reader = self.socket.makefile("rb")

    def get(self, target, fields=""):
        """The status, the fields and the body; None if the connection ended before its end."""
        request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
        self.socket.sendall(request.encode())
        return self.response()

    def response(self):
        status = self.reader.readline().split()
        if len(status) < 2:
            return None
        fields = {}
        while line := self.reader.readline().strip().lower():
            name, _, value = line.partition(b":")
            fields[name.decode()] = value.strip().decode()
        length = int(fields.get("content-length", 0))
        body = self.reader.read(length)
        return (int(status[1]), fields, body) if len(body) == length else None

    def close(self):
        self.reader.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def judge(response, expected):
    """What came of a request for a file with these contents: (outcome, detail)."""
    if response is None:
        return ENDED, ""
    status, _, body = response
    if status in (200, 206):
        return (RIGHT, "") if body == expected else (WRONG, f"{len(body)} other bytes")
    # The file is there: the server may say that it failed, but not that there is no such file.
    return (REFUSED, "") if status >= 500 or status == 408 else (WRONG, f"status {status}")


def ask(port, files, tally, context=None, kept=True):
    """Asks for all the files, on connections that are kept or not."""
    connection = None
    for target, content in files:
        try:
            connection = connection or Connection(port, context)
            response = connection.get(target)
            outcome = judge(response, content)
            closes = response is None or response[1].get("connection") == "close"
        except TimeoutError:
            # Enough is known.
            tally.add(HANGS, f"no answer for {target}")
            break
        except OSError:
            outcome, closes = (ENDED, ""), True
        tally.add(*outcome)
        if connection and (closes or not kept):
            connection.close()
            connection = None
    if connection:
        connection.close()


def ask_http2(port, files, tally):
    """Asks for all the files at once, on one connection."""
    try:
        link = connect(port, tls_context("h2"))
    except TimeoutError:
        return tally.add(HANGS, "no handshake")
    except OSError:
        return tally.add(ENDED)
    streams = Streams(files)
    try:
        link.sendall(streams.requests())
        while streams.open and (came := link.recv(1 << 16)):
            link.sendall(streams.take(came))
    except TimeoutError:
        for target in streams.open_targets():
            tally.add(HANGS, f"no answer for {target} by HTTP/2")
        streams.open.clear()
    except OSError:
        pass
    link.close()
    for target, content in files:
        if target not in streams.hanging:
            tally.add(*judge(streams.responses.get(target), content))


class Streams:
    """One stream of HTTP/2 for each file."""

    def __init__(self, files):
        self.targets = {2 * number + 1: target for number, (target, _) in enumerate(files)}
        self.open = dict.fromkeys(self.targets)
        self.bodies = dict.fromkeys(self.targets, b"")
        self.hanging = set()
        # Of whole responses, by target.
        self.responses = {}
        self.pending = b""

    def open_targets(self):
        self.hanging = {self.targets[stream] for stream in self.open}
        return self.hanging

    def requests(self):
        """The begin of the connection, with windows that need no more, and a request for each."""
        begin = wire.PREFACE + wire.settings((wire.INITIAL_WINDOW_SIZE, (1 << 31) - 1))
        begin += wire.window_update(0, (1 << 31) - 1 - 65535)
        return begin + b"".join(
            wire.get(stream, target.encode()) for stream, target in self.targets.items()
        )

    def take(self, came):
        """What to answer."""
        self.pending += came
        answer = b""
        while len(self.pending) >= 9:
            length = int.from_bytes(self.pending[:3], "big")
            if len(self.pending) < 9 + length:
                break
            kind, flags = self.pending[3:5]
            stream = int.from_bytes(self.pending[5:9], "big") & 0x7FFFFFFF
            payload, self.pending = self.pending[9 : 9 + length], self.pending[9 + length :]
            if kind == wire.SETTINGS and not flags & wire.ACK:
                answer += wire.frame(wire.SETTINGS, wire.ACK, 0)
            elif stream in self.open:
                self.take_frame(kind, flags, stream, payload)
        return answer

    def take_frame(self, kind, flags, stream, payload):
        if kind == wire.HEADERS:
            self.open[stream] = status(payload)
        elif kind == wire.DATA:
            self.bodies[stream] += payload
        if kind == wire.RST_STREAM:
            del self.open[stream]
        elif kind in (wire.DATA, wire.HEADERS) and flags & wire.END_STREAM:
            code = self.open.pop(stream)
            self.responses[self.targets[stream]] = (code, {}, self.bodies[stream])


# Of the static table (RFC 7541, Appendix A).
STATUSES = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}


def status(block):
    """The status in a header block, where it comes first. Others than those of the static table are errors
    of the server: 503 above all."""
    while block[0] & 0xE0 == 0x20:
        block = block[1:]
    return STATUSES.get(block[0], 503)
