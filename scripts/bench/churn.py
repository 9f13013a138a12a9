#!/usr/bin/env python3
"""The load of churn.sh, and its verdict.

Each tick makes a connection and asks for something on it: a small file that may have been replaced or
removed a moment ago, a large one, a range, what has not changed, what was never there. Some connections
are kept for a while, some are given up in the midst of an answer. The caches are made small, and that of
absent paths is filled first, so that they are full within minutes: what grows after that is a leak.

Every minute a line tells the server's memory. It is flat when its median over the last third of the time is
at most 2 % above that of the third before it.
"""

import argparse
import collections
import pathlib
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

SMALL_FILES = 4000
SMALL_BYTES_MAX = 24 * 1024
LARGE_BYTES = 2 * 1024 * 1024
# What the cache of absent paths holds, about four times: at the pace of what counts it would be full
# after a quarter of an hour.
ABSENT_FIRST = 20_000
KEPT_MAX = 64
GROWTH_PERCENT_MAX = 2
STOP_SECONDS = 60
TIMEOUT_SECONDS = 10
# Small, so that they are full soon.
CONFIG = """\
[server]
cores = 1
graceful-timeout = "1s"

[[listen]]
address = "127.0.0.1:0"

[limits]
requests-per-connection = 20

[cache]
hot-bytes-per-core = "4m"
open-files-per-core = 512
valid = "1s"

[[site]]
root = "tree"
directory-listing = true
precompressed = ["gzip"]
"""


class Tree:
    """The files that are served, which change all the time."""

    def __init__(self, root, chance):
        self.root, self.chance, self.changes = root, chance, 0
        root.mkdir()
        (root / "large.bin").write_bytes(bytes(LARGE_BYTES))
        for number in range(SMALL_FILES):
            self.write(number)

    def name(self, number):
        return f"file-{number:04}.html"

    def write(self, number):
        """Makes a file, or puts another in its place."""
        draft = self.root / ".draft"
        draft.write_bytes(self.chance.randbytes(self.chance.randint(1, SMALL_BYTES_MAX)))
        draft.rename(self.root / self.name(number))

    def change(self):
        """Replaces one file and removes another, which comes back when it is replaced."""
        self.write(self.chance.randrange(SMALL_FILES))
        (self.root / self.name(self.chance.randrange(SMALL_FILES))).unlink(missing_ok=True)
        self.changes += 1


class Client:
    """Makes connections and requests, and counts what came of them."""

    def __init__(self, port, tree, chance):
        self.port, self.tree, self.chance = port, tree, chance
        self.kept = collections.deque()
        self.connections = self.requests = self.failed = 0
        self.statuses = collections.Counter()
        self.etags = {}

    def step(self):
        """One request, on a connection of its own or on one that was kept."""
        if self.kept and (len(self.kept) >= KEPT_MAX or self.chance.random() < 0.2):
            connection = self.kept.popleft()
        else:
            connection = socket.create_connection(("127.0.0.1", self.port), TIMEOUT_SECONDS)
            self.connections += 1
        self.requests += 1
        try:
            if self.ask(connection) and self.chance.random() < 0.3:
                self.kept.append(connection)
                return
        except OSError:
            # A kept connection may have been ended meanwhile.
            self.failed += 1
        connection.close()

    def fill(self):
        """Asks for paths that are not there until the server's cache of them is full."""
        for number in range(ABSENT_FIRST):
            with socket.create_connection(("127.0.0.1", self.port), TIMEOUT_SECONDS) as connection:
                connection.sendall(f"GET /absent-{number} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                self.answer(connection, "")

    def ask(self, connection):
        """Sends a request of a random kind; True if the connection can be used again."""
        kind = self.chance.random()
        if kind < 0.02:
            # Nothing, or half a head.
            connection.sendall(b"GET /half HTT"[: self.chance.randrange(14)])
            return False
        if kind < 0.05:
            return self.give_up(connection)
        target, fields = self.request(kind)
        head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n{fields}\r\n"
        connection.sendall(head.encode())
        return self.answer(connection, target)

    def request(self, kind):
        """A target and fields, by a number from 0 to 1."""
        if kind < 0.07:
            return "/large.bin", ""
        if kind < 0.17:
            return f"/none-{self.chance.randrange(10**9)}", ""
        if kind < 0.171:
            return "/", ""
        target = "/" + self.tree.name(self.chance.randrange(SMALL_FILES))
        if kind < 0.3:
            return target, "Range: bytes=0-99\r\n"
        if kind < 0.5:
            return target, f"If-None-Match: {self.etags.get(target, '*')}\r\n"
        return target, ""

    def give_up(self, connection):
        """Takes some of a large answer and closes."""
        connection.sendall(b"GET /large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.recv(self.chance.randrange(1, 65536))
        return False

    def answer(self, connection, target):
        """Reads an answer to its end; True if the connection can be used again."""
        with connection.makefile("rb") as reader:
            status = reader.readline().split()
            if len(status) < 2:
                raise ConnectionError("ended before an answer")
            self.statuses[int(status[1])] += 1
            length, chunked, closes = 0, False, False
            while (line := reader.readline().strip().lower()) != b"":
                name, _, value = line.partition(b":")
                value = value.strip()
                if name == b"content-length":
                    length = int(value)
                elif name == b"transfer-encoding":
                    chunked = True
                elif name == b"connection":
                    closes = value == b"close"
                elif name == b"etag" and target.startswith("/file"):
                    self.etags[target] = value.decode()
            if chunked:
                # Read to its end: a chunk of no bytes.
                while size := int(reader.readline(), 16):
                    reader.read(size + 2)
                reader.readline()
            elif int(status[1]) != 304 and len(reader.read(length)) != length:
                raise ConnectionError("a short answer")
            return not closes


class Server:
    """The server under test."""

    def __init__(self, binary, directory):
        (directory / "tidegate.toml").write_text(CONFIG)
        self.log = (directory / "log").open("wb")
        self.process = subprocess.Popen(
            [binary, "run", "--config", directory / "tidegate.toml"],
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        line = self.process.stdout.readline().decode()
        port = re.search(r":(\d+)$", line.strip())
        if not port:
            sys.exit(f"churn.py: the server does not start: {(directory / 'log').read_text()}")
        self.port = int(port[1])

    def read(self, name):
        return pathlib.Path(f"/proc/{self.process.pid}/{name}")

    def memory(self):
        """Resident and anonymous memory, in KiB."""
        text = self.read("smaps_rollup").read_text()
        return [int(re.search(rf"^{key}: +(\d+)", text, re.M)[1]) for key in ("Rss", "Anonymous")]

    def files(self):
        return sum(1 for _ in self.read("fd").iterdir())

    def cpu_seconds(self):
        fields = self.read("stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def churn(server, tree, client, options):
    """Runs for the time asked; the server's resident memory at the end of each minute, in KiB."""
    print("minute  rss-KiB  anonymous-KiB  files  server-CPU-s  connections  requests  failed  changes")
    series = []
    begin = time.monotonic()
    tick = 1 / options.rate
    due = begin
    for minute in range(1, options.minutes + 1):
        while (now := time.monotonic()) < begin + minute * 60:
            client.step()
            if client.requests % 10 == 0:
                tree.change()
            # What was lost is not made up for by a burst.
            due = max(due + tick, now)
            time.sleep(max(0, due - time.monotonic()))
        rss, anonymous = server.memory()
        series.append(rss)
        print(
            f"{minute:6}  {rss:7}  {anonymous:13}  {server.files():5}  {server.cpu_seconds():12.1f}  "
            f"{client.connections:11}  {client.requests:8}  {client.failed:6}  {tree.changes:7}",
            flush=True,
        )
    print("answers by status:", dict(sorted(client.statuses.items())))
    return series


def verdict(series):
    """Whether memory was flat, in words and as an exit status."""
    third = len(series) // 3
    if third < 2:
        print("too short for a verdict: 6 minutes at least")
        return 2
    before = statistics.median(series[third : 2 * third])
    after = statistics.median(series[-third:])
    change = 100 * (after - before) / before
    flat = change <= GROWTH_PERCENT_MAX
    print(
        f"verdict: {'flat' if flat else 'GROWS'}: {before:.0f} KiB in the middle third, "
        f"{after:.0f} KiB in the last, {change:+.2f} %"
    )
    return 0 if flat else 1


def main():
    parser = argparse.ArgumentParser(description="Memory under an hour of churn.")
    parser.add_argument("--server", required=True, help="the binary")
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--rate", type=float, default=50, help="requests per second, at most")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    # So that the server is stopped however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="tidegate-churn-") as name:
        directory = pathlib.Path(name)
        tree = Tree(directory / "tree", chance)
        server = Server(options.server, directory)
        try:
            client = Client(server.port, tree, chance)
            client.fill()
            series = churn(server, tree, client, options)
        finally:
            server.stop()
    sys.exit(verdict(series))


main()
