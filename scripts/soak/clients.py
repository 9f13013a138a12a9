"""The clients: each a thread that makes requests until it is told to stop, and checks every byte."""

import socket
import ssl
import threading
import time

from site_tree import SMALL_FILES

TIMEOUT_SECONDS = 20


class Tally:
    """What all clients did."""

    def __init__(self):
        self.lock = threading.Lock()
        self.requests = self.given_up = 0
        self.failures = []

    def count(self, given_up=False):
        with self.lock:
            self.requests += 1
            self.given_up += given_up

    def fail(self, what):
        with self.lock:
            self.failures.append(f"{time.strftime('%H:%M:%S')} {what}")


class Connection:
    """A connection on which requests follow each other."""

    def __init__(self, port, context=None, session=None):
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
        if context:
            self.socket = context.wrap_socket(self.socket, session=session)
        self.reader = self.socket.makefile("rb")
        self.closes = False

    def get(self, target, fields=""):
        """The status and the body."""
        self.socket.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode())
        status = self.reader.readline().split()
        if len(status) < 2:
            raise ConnectionError("ended before a response")
        length = 0
        while (line := self.reader.readline().strip().lower()) != b"":
            name, _, value = line.partition(b":")
            if name == b"content-length":
                length = int(value)
            elif name == b"connection":
                self.closes = value.strip() == b"close"
        body = self.reader.read(length)
        if len(body) != length:
            raise ConnectionError(f"{len(body)} of {length} bytes")
        return int(status[1]), body

    def close(self):
        self.reader.close()
        self.socket.close()


def tls_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ask(connection, tree, tally, chance):
    """A request of a random kind, whose response must be right."""
    kind = chance.random()
    if kind < 0.02:
        status, body = connection.get("/large.bin")
        right = status == 200 and body == tree.large
    elif kind < 0.1:
        begin = chance.randrange(len(tree.large) - 5000)
        status, body = connection.get("/large.bin", f"Range: bytes={begin}-{begin + 4999}\r\n")
        right = status == 206 and body == tree.large[begin : begin + 5000]
    elif kind < 0.15:
        status, body = connection.get(f"/none-{chance.randrange(1000)}")
        right = status == 404
    else:
        number = chance.randrange(SMALL_FILES)
        status, body = connection.get(tree.path(number))
        right = status == 200 and tree.is_whole(number, body)
    tally.count()
    if not right:
        tally.fail(f"status {status} with {len(body)} bytes is wrong")


def requests(kept, port_of, context=None):
    """A client whose connections have up to `kept` requests."""

    def run(server, tree, tally, chance, stop):
        while not stop.is_set():
            try:
                connection = Connection(port_of(server), context)
                for _ in range(chance.randint(1, kept)):
                    ask(connection, tree, tally, chance)
                    if connection.closes or stop.is_set():
                        break
                    # Idle connections are what an upgrade and a reload must not break.
                    stop.wait(chance.random() * 0.02)
                connection.close()
            except (OSError, ValueError) as error:
                tally.count()
                tally.fail(f"{'TLS' if context else 'plain'}, {kept} kept: {error!r}")
                time.sleep(0.1)

    return run


def idle(server, tree, tally, chance, stop):
    """Connections that wait for seconds between two requests, through reloads and upgrades."""
    while not stop.is_set():
        try:
            connection = Connection(server.port)
            while not (connection.closes or stop.is_set()):
                ask(connection, tree, tally, chance)
                stop.wait(chance.random() * 5)
            connection.close()
        except (OSError, ValueError) as error:
            tally.count()
            tally.fail(f"idle: {error!r}")


def slow(server, tree, tally, chance, stop):
    """Takes a large file slowly: the response outlives reloads, and an upgrade lets it end."""
    while not stop.is_set():
        try:
            with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_SECONDS) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
                connection.sendall(b"GET /large.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                received = bytearray()
                while part := connection.recv(64 * 1024):
                    received += part
                    time.sleep(0.05)
            tally.count()
            if not received.endswith(b"\r\n\r\n" + tree.large):
                tally.fail(f"slow: {len(received)} bytes")
        except OSError as error:
            tally.count()
            tally.fail(f"slow: {error!r}")


def leaving(server, tree, tally, chance, stop):
    """Takes a part of a large file and is gone."""
    while not stop.is_set():
        try:
            with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_SECONDS) as connection:
                connection.sendall(b"GET /large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
                connection.recv(chance.randrange(1, 65536))
            tally.count(given_up=True)
        except OSError as error:
            tally.count(given_up=True)
            tally.fail(f"leaving: {error!r}")
        stop.wait(0.2)


def plain(server):
    return server.port


def secure(server):
    return server.tls_port


CLIENTS = [
    requests(1, plain),
    requests(100, plain),
    requests(100, plain),
    requests(1, secure, tls_context()),
    requests(100, secure, tls_context()),
    idle,
    idle,
    slow,
    leaving,
]
