"""A crowd of hostile connections to one port of the loopback, driven by one thread with epoll.

What a connection does is a `Kind`: bytes that open it, bytes that follow now and then, and how it reads and
leaves. A connection that has ended is replaced. A crowd is bounded in number and in time.
"""

import heapq
import os
import resource
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat

# New connections in a turn: a server accepts so many before the next ones come.
OPENED_MAX = 100
# The longest wait in a turn, and what one that was refused waits until it comes again.
TURN_SECONDS = 0.05
REFUSED_SECONDS = 0.2
CONNECT_SECONDS = 2
# Between two attempts of a connection that only waits, or sends what the server does not take.
IDLE_SECONDS = 1.0
READ_BYTES = 1 << 16
# Addresses of the loopback from which a crowd comes: none of them runs out of ports.
SOURCES = [f"127.0.66.{number}" for number in range(1, 5)]
SOURCE_PREFIX = "127.0.66."

ALL, NOTHING, BYTE = "all", "nothing", "a byte"
RESET, CLOSE = "reset", "close"

# Python has no name for it before 3.12 (ip(7)).
IP_BIND_ADDRESS_NO_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)


@dataclass(frozen=True)
class Kind:
    """`start` opens a connection, and one of `pieces` follows every so many seconds: both are made of
    a random generator. It reads `ALL`, `NOTHING`, or a `BYTE` at each of these times, and leaves by itself
    after `life` seconds, if at all."""

    name: str
    connections: int
    start: Callable
    pieces: Callable = lambda _chance: iter(())
    every: float = IDLE_SECONDS
    reads: str = ALL
    life: float | None = None
    leaves: str = RESET
    tls: bool = False
    alpn: str = "http/1.1"
    # Connections that are opened in a second, at most.
    rate: float = float("inf")
    # Of the socket, so that little of what is sent lies in the client's kernel; 0 for the system's.
    receive_buffer: int = 0


@dataclass
class Counts:
    """What a crowd did."""

    opened: int = 0
    refused: int = 0
    ended_by_server: int = 0
    left: int = 0
    sent: int = 0
    received: int = 0
    pieces: int = 0
    handshakes_failed: int = 0
    held: int = 0
    heads: dict = field(default_factory=dict)

    def words(self):
        told = [
            f"{self.opened} opened",
            f"{self.held} held at the end",
            f"{self.ended_by_server} ended by the server",
            f"{self.left} left",
            f"{self.pieces} pieces",
            f"{self.sent} bytes sent",
            f"{self.received} received",
        ]
        told += [f"{self.refused} refused"] if self.refused else []
        told += [f"{self.handshakes_failed} handshakes failed"] if self.handshakes_failed else []
        heads = [f"{count} of {head}" for head, count in sorted(self.heads.items())]
        return ", ".join([*told, *heads])


class Hostile:
    """A connection: its socket, what it has still to send, and when it began."""

    __slots__ = ("born", "is_new", "is_shaking", "number", "pending", "pieces", "stream")

    def __init__(self, stream, start, pieces, is_shaking):
        self.stream, self.pending, self.pieces = stream, start, pieces
        self.number = stream.fileno()
        # Whether its handshake has still to end, and whether it has sent nothing but its start.
        self.is_shaking, self.is_new = is_shaking, True
        self.born = time.monotonic()


class Crowd:
    """The connections of a kind."""

    def __init__(self, kind, port, chance):
        self.kind, self.port, self.chance = kind, port, chance
        self.counts = Counts()
        self.members = {}
        self.due = []
        self.turn = 0
        self.epoll = select.epoll()
        self.begin = time.monotonic()
        self.context = None
        if kind.tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE
            self.context.set_alpn_protocols([kind.alpn])

    def run(self, seconds, stopped=lambda: False):
        """Lasts for so long, or until it is stopped; then all leave. What they did."""
        end = time.monotonic() + seconds
        while not stopped() and time.monotonic() < end:
            self.step()
        return self.close()

    def standing(self):
        """Connections whose handshake is over."""
        return sum(not member.is_shaking for member in list(self.members.values()))

    def step(self):
        """A turn: opens what is missing, reads what has come, sends what is due."""
        missing = self.kind.connections - len(self.members)
        allowed = self.kind.rate * (time.monotonic() - self.begin) - self.counts.opened
        for _ in range(int(min(missing, allowed, OPENED_MAX))):
            if not self.open():
                break
        now = time.monotonic()
        wait = min(TURN_SECONDS, max(0.0, self.due[0][0] - now)) if self.due else TURN_SECONDS
        for number, events in self.epoll.poll(wait, 1024):
            member = self.members.get(number)
            if member is not None:
                self.ready(member, events)
        now = time.monotonic()
        while self.due and self.due[0][0] <= now:
            _, _, member = heapq.heappop(self.due)
            # It may have ended, and its number be that of another by now.
            if self.members.get(member.number) is member:
                self.act(member, now)

    def close(self):
        """All leave. What they did."""
        self.counts.held = self.standing()
        for member in list(self.members.values()):
            self.end(member)
        self.epoll.close()
        return self.counts

    # --- a connection ---------------------------------------------------------

    def open(self):
        """Whether one could be opened."""
        stream = socket.socket()
        try:
            stream = self.connect(stream)
        except OSError:
            self.counts.refused += 1
            stream.close()
            time.sleep(REFUSED_SECONDS)
            return False
        kind = self.kind
        member = Hostile(stream, kind.start(self.chance), kind.pieces(self.chance), kind.tls)
        self.members[member.number] = member
        self.counts.opened += 1
        self.epoll.register(stream, self.events(member))
        self.schedule(member, member.born)
        return True

    def connect(self, stream):
        """The socket, connected or about to be; with TLS its handshake is to come."""
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.kind.receive_buffer:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.kind.receive_buffer)
        # The port is chosen with the connection: a port may serve several of them.
        stream.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        stream.bind((self.chance.choice(SOURCES), 0))
        stream.settimeout(CONNECT_SECONDS if self.context else 0)
        with suppress(BlockingIOError):
            stream.connect(("127.0.0.1", self.port))
        stream.setblocking(False)
        if self.context:
            stream = self.context.wrap_socket(stream, do_handshake_on_connect=False)
        return stream

    def events(self, member):
        """What is to be told of it; who reads nothing is told of the end alone."""
        reads = self.kind.reads == ALL or member.is_shaking
        return select.EPOLLIN if reads else select.EPOLLRDHUP

    def schedule(self, member, when):
        self.turn += 1
        heapq.heappush(self.due, (when, self.turn, member))

    def ready(self, member, events):
        if member.is_shaking:
            # Sends what it is opened with as soon as it may.
            if self.shake_hands(member):
                self.send(member)
        elif events & select.EPOLLIN:
            self.receive(member, READ_BYTES)
        else:
            self.ended(member)

    def act(self, member, now):
        """What is due: sends the next piece, or leaves."""
        kind = self.kind
        if kind.life is not None and now >= member.born + kind.life:
            self.counts.left += 1
            self.end(member)
            return
        wait = kind.every
        if kind.life is not None:
            wait = min(wait, member.born + kind.life - now)
        self.schedule(member, now + wait)
        if member.is_shaking and not self.shake_hands(member):
            return
        if not member.pending and not member.is_new:
            member.pending = next(member.pieces, b"")
            self.counts.pieces += member.pending != b""
        if self.send(member) and kind.reads == BYTE and not member.is_new:
            self.receive(member, 1)
        member.is_new = False

    def shake_hands(self, member):
        """Whether the handshake is over and well."""
        try:
            member.stream.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError:
            self.counts.handshakes_failed += 1
            self.ended(member)
            return False
        member.is_shaking = False
        self.epoll.modify(member.stream, self.events(member))
        return True

    def send(self, member):
        """Sends as much as the server takes. Whether the connection is still there."""
        try:
            while member.pending:
                count = member.stream.send(member.pending)
                self.counts.sent += count
                member.pending = member.pending[count:]
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except OSError:
            self.ended(member)
            return False
        return True

    def receive(self, member, length):
        """Reads once."""
        try:
            came = member.stream.recv(length)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            came = b""
        if not came:
            self.ended(member)
            return
        self.counts.received += len(came)
        if came.startswith(b"HTTP/1.1 "):
            status = came[9:12].decode(errors="replace")
            self.counts.heads[status] = self.counts.heads.get(status, 0) + 1

    def ended(self, member):
        self.counts.ended_by_server += 1
        self.end(member)

    def end(self, member):
        del self.members[member.number]
        if self.kind.leaves == RESET:
            member.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        member.stream.close()


def again(content) -> Callable[..., Iterator[bytes]]:
    """Pieces that are always the same."""
    return lambda _chance: repeat(content)


def one_by_one(content) -> Callable[..., Iterator[bytes]]:
    """Pieces of a byte."""
    return lambda _chance: (content[at : at + 1] for at in range(len(content)))


def raise_limit():
    """As many descriptors as may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def step_back():
    """Has this thread run while its core has little else to do: a client that measures does not wait for it."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
