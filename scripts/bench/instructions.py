#!/usr/bin/env python3
"""The client of instructions.sh: makes the files, sends the requests, asks callgrind for its count.

Requests go one at a time over one connection, so that each has turns of the driver of its own. A batch
is the instructions between callgrind's `zero` and its `dump`; each path is the least of its batches, by
the requests in one.
"""

import pathlib
import re
import socket
import subprocess
import sys
import time

REQUESTS = 200
BATCHES = 5
WARM = 50
SMALL_BYTES = 1024
# Above the cache.popular-max of instructions.sh, so that it goes by splice, and little enough for the socket's buffers: how
# often a client makes the server wait depends on the clock.
LARGE_BYTES = 65 * 1024
# From memory, without a copy, once it is popular.
POPULAR_BYTES = 64 * 1024
# Where the server is given time to end the turn in which it sent the last response.
SETTLE_SECONDS = 0.1
VGDB_SECONDS = 60
SKIPPED = 77


def make_files(tree):
    """The files to serve: one small, one popular, one large, and small ones that are asked for once."""
    (tree / "small.html").write_bytes(b"s" * SMALL_BYTES)
    (tree / "large.bin").write_bytes(b"l" * LARGE_BYTES)
    (tree / "popular.bin").write_bytes(b"p" * POPULAR_BYTES)
    for index in range(WARM + REQUESTS * BATCHES):
        (tree / f"once-{index:05}.html").write_bytes(b"o" * SMALL_BYTES)


class Connection:
    """A keep-alive connection that checks each response for its status and length."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * LARGE_BYTES)
        self.socket.settimeout(30)
        self.socket.connect((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def request(self, path, fields, status, length):
        """One request; returns the head of its response. `length` of None: that of no body."""
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode()
        )
        received = b""
        while b"\r\n\r\n" not in received:
            received += self.receive()
        head, _, body = received.partition(b"\r\n\r\n")
        said = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        expected = 0 if status == 304 or not said else int(said[1])
        got = len(body)
        while got < expected:
            got += len(self.receive())
        if f" {status} ".encode() not in head.split(b"\r\n")[0] + b" " or got != expected:
            sys.exit(f"instructions.py: {path}: expected {status}, got {head!r}, {got} bytes")
        if length is not None and expected != length:
            sys.exit(f"instructions.py: {path}: {expected} bytes, expected {length}")
        return head

    def receive(self):
        """What there is to read, which must not be the end."""
        received = self.socket.recv(LARGE_BYTES)
        if not received:
            sys.exit("instructions.py: the server closed the connection")
        return received


def paths(address):
    """Each path's name, and what gives the target, fields, status and body length of a request."""
    head = Connection(address).request("/small.html", "", 200, SMALL_BYTES)
    etag = re.search(rb"(?i)\r\netag: *([^\r]+)", head)[1].decode()
    once = (f"/once-{index:05}.html" for index in range(WARM + REQUESTS * BATCHES))
    return {
        "small-hit": lambda: ("/small.html", "", 200, SMALL_BYTES),
        "small-miss": lambda: (next(once), "", 200, SMALL_BYTES),
        "range": lambda: ("/small.html", "Range: bytes=100-299\r\n", 206, 200),
        "not-modified": lambda: ("/small.html", f"If-None-Match: {etag}\r\n", 304, None),
        "not-found": lambda: ("/none.html", "", 404, None),
        "popular-hit-64k": lambda: ("/popular.bin", "", 200, POPULAR_BYTES),
        "large-hit-65k": lambda: ("/large.bin", "", 200, LARGE_BYTES),
    }


class Callgrind:
    """The counter: valgrind's gdb server, and the profiles that it is told to write."""

    def __init__(self, pid, profile):
        self.pid, self.profile, self.dumps = pid, profile, 0
        self.has_answered = False

    def command(self, *words):
        """Has callgrind do something while the server sleeps; it costs no instruction."""
        time.sleep(SETTLE_SECONDS)
        command = ["vgdb", f"--pid={self.pid}", *words]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=VGDB_SECONDS)
            self.has_answered = True
        except (subprocess.SubprocessError, OSError) as error:
            # Only where it never worked it can't work here: all else is a fault.
            if self.has_answered or not pathlib.Path(f"/proc/{self.pid}").exists():
                sys.exit(f"instructions.py: valgrind no longer answers: {error}")
            print(f"skipped: valgrind can't be asked, is ptrace(2) allowed here? {error}", file=sys.stderr)
            sys.exit(SKIPPED)

    def zero(self):
        """Counts from here."""
        self.command("zero")

    def count(self):
        """The instructions since `zero`, of all threads."""
        self.command("dump")
        self.dumps += 1
        profile = pathlib.Path(f"{self.profile}.{self.dumps}")
        totals = re.findall(r"^totals: (\d+)", profile.read_text(), re.MULTILINE)
        profile.unlink()
        return sum(map(int, totals))


def batch(connection, request, requests):
    """`requests` of them, one after the other."""
    for _ in range(requests):
        connection.request(*request())


def main():
    if sys.argv[1] == "files":
        make_files(pathlib.Path(sys.argv[2]))
        return
    _, _, address, pid, profile = sys.argv
    callgrind = Callgrind(pid, profile)
    for name, request in paths(address).items():
        connection = Connection(address)
        batch(connection, request, WARM)
        counts = []
        for _ in range(BATCHES):
            callgrind.zero()
            batch(connection, request, REQUESTS)
            counts.append(callgrind.count())
        if min(counts) == 0:
            sys.exit("instructions.py: nothing was counted: is the function of COUNTED not in the binary?")
        print(f"{name}\t{round(min(counts) / REQUESTS)}", flush=True)
        spread = 100 * (max(counts) - min(counts)) / min(counts)
        print(f"{name}: batches differ by {spread:.1f} %", file=sys.stderr)


main()
