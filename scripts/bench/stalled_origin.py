#!/usr/bin/env python3
"""Latency of small local files while clients of another site wait for an origin. Needs tidegate-load.

    cargo build --release -p tidegate -p tidegate-load
    scripts/bench/netns.sh scripts/bench/stalled_origin.py [--rounds N] [--seconds S] [--rate N]

tidegate has one site with a directory and another with an origin. tidegate-load asks for a local file of 1 KiB at a fixed
rate, alone and then, of the same process, while 500 clients of the other site wait, each for an object of its own:

nothing     there are no such clients: what two measurements differ by when nothing does
stalled     the origin accepts, reads the requests and never answers
trickling   it sends a head and then a byte a second on each of its connections

Cases take turns, each with a new process and an empty cache. tidegate asks for as many objects at a time as
`connections` allows (64); the other clients wait for their turn, as they would in earnest. A case counts only if all
clients were still waiting when the measurement ended, and the origin held as many requests as it may. A
line gives the medians of all rounds, with the least and the most, and the median of the ratios of each round.
"""

import argparse
import contextlib
import json
import os
import pathlib
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts/lib"))

from started import free_port, started  # noqa: E402

CASES = ("nothing", "stalled", "trickling")
FILE_BYTES = 1024
OBJECT_BYTES = 1 << 20
HOST = "origin.example"
# tidegate's default for an origin.
ORIGIN_CONNECTIONS = 64
# Until all clients have asked, and the origin has what it gets of them.
SETTLE_SECONDS = 30
TRICKLE_SECONDS = 1


class Failed(Exception):
    """What was to be measured was not there."""


class Origin:
    """A server that reads requests in a thread of its own, and answers none, or each of them byte by byte."""

    def __init__(self, trickles):
        self.trickles = trickles
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.requests = {}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.listener.close()

    def held(self):
        """Connections with a request that is not answered in full."""
        return sum(b"\r\n\r\n" in received for received in list(self.requests.values()))

    def run(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ)
            due = time.monotonic() + TRICKLE_SECONDS
            while not self.ended.is_set():
                for key, _ in selector.select(0.1):
                    self.ready(selector, key.fileobj)
                if self.trickles and time.monotonic() >= due:
                    due += TRICKLE_SECONDS
                    self.trickle()
        for stream in list(self.requests):
            stream.close()

    def ready(self, selector, stream):
        if stream is self.listener:
            accepted = stream.accept()[0]
            self.requests[accepted] = b""
            selector.register(accepted, selectors.EVENT_READ)
            return
        received = receive(stream)
        if not received:
            selector.unregister(stream)
            del self.requests[stream]
            stream.close()
            return
        self.requests[stream] += received
        if self.trickles and b"\r\n\r\n" in self.requests[stream]:
            length = f"Content-Range: bytes 0-{OBJECT_BYTES - 1}/{OBJECT_BYTES}\r\nContent-Length: {OBJECT_BYTES}"
            stream.sendall(f'HTTP/1.1 206 Partial Content\r\n{length}\r\nETag: "1"\r\n\r\n'.encode())

    def trickle(self):
        for stream, received in self.requests.items():
            if b"\r\n\r\n" in received:
                with contextlib.suppress(ConnectionError):
                    stream.send(b"x")


def receive(stream):
    """What has come; nothing if the connection is over."""
    try:
        return stream.recv(65536)
    except ConnectionError:
        return b""


class Clients:
    """Connections that have each asked for an object, and are read when it is asked how many wait."""

    def __init__(self, port, count):
        self.streams = []
        for number in range(count):
            stream = socket.create_connection(("127.0.0.1", port))
            stream.sendall(f"GET /{number}.bin HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            stream.setblocking(False)
            self.streams.append(stream)

    def close(self):
        for stream in self.streams:
            stream.close()

    def waiting(self):
        """How many have no answer, or one with 200 that goes on."""
        return sum(map(is_waiting, self.streams))


def is_waiting(stream):
    try:
        # Nothing is taken: what has come is less than its buffer.
        received = stream.recv(65536, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    return received.startswith(b"HTTP/1.1 200 ")


def measure(options, port):
    """Percentiles of the local file's latency in microseconds."""
    command = [
        *("taskset", "-c", "1", options.build / "tidegate-load", "get", "--server", f"127.0.0.1:{port}"),
        *("--path", "/1k.bin", "--length", FILE_BYTES, "--connections", options.connections, "--rate", options.rate),
        *("--seconds", options.seconds, "--warmup", 0.5),
    ]
    output = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, check=True).stdout
    counted = json.loads(output)
    if counted["errors"]:
        raise Failed(f"{counted['errors']} requests for the local file failed")
    return {name: counted[f"{name}_us"] for name in ("p50", "p99")}


def settle(options, origin):
    """Waits until the origin holds as many requests as it may."""
    wanted = min(options.clients, ORIGIN_CONNECTIONS)
    end = time.monotonic() + SETTLE_SECONDS
    while origin.held() < wanted:
        if time.monotonic() > end:
            raise Failed(f"the origin got {origin.held()} requests of {wanted}")
        time.sleep(0.05)


def beside(options, port, origin, count):
    """The percentiles while so many clients wait."""
    with contextlib.closing(Clients(port, count)) as clients:
        if count:
            settle(options, origin)
        found = measure(options, port)
        if clients.waiting() != count:
            raise Failed(f"{clients.waiting()} of {count} clients were still waiting at the end")
        if count:
            settle(options, origin)
    return found


def run(options, directory, case):
    """A new server: the percentiles alone and beside the clients of a case."""
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(Origin(case == "trickling"))
        cache = stack.enter_context(tempfile.TemporaryDirectory(dir=directory))
        port = free_port()
        config = directory / "tidegate.toml"
        # Nobody is to be told that the origin is slow while it is measured.
        timeouts = 'first-byte-timeout = "10m"\nstall-timeout = "10m"'
        config.write_text(
            f'[server]\ncores = "0-0"\ngraceful-timeout = "0s"\n[[listen]]\naddress = "127.0.0.1:{port}"\n'
            f'[cache.disk]\npath = "{cache}"\n[[site]]\nroot = "{directory}/tree"\n'
            f'[[site]]\nnames = ["{HOST}"]\nprecompressed = []\n'
            f'[[site.origin]]\nhttp = "http://127.0.0.1:{origin.port}"\nconnections = {ORIGIN_CONNECTIONS}\n{timeouts}\n'
        )
        command = ["taskset", "-c", "0", str(options.build / "tidegate"), "run", "--config", str(config)]
        stack.enter_context(started(command, port, directory / "log"))
        alone = measure(options, port)
        return alone, beside(options, port, origin, 0 if case == "nothing" else options.clients)


def report(case, found):
    for name in ("p50", "p99"):
        ratio = statistics.median(after[name] / before[name] for before, after in found)
        alone, with_clients = (spread([pair[which][name] for pair in found]) for which in (0, 1))
        print(f"{case:10} {name}  alone {alone}  beside {with_clients}  ratio {ratio:.3f}", flush=True)


def spread(values):
    return f"{statistics.median(values):7.1f} us ({min(values):.1f} to {max(values):.1f})"


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement")
    parser.add_argument("--rate", type=int, default=2000, help="requests a second for the local file")
    parser.add_argument("--connections", type=int, default=50, help="that ask for the local file")
    parser.add_argument("--clients", type=int, default=500, help="that wait for the origin")
    parser.add_argument("--cases", type=lambda text: text.split(","), default=CASES, help="of them, such as 'stalled'")
    parser.add_argument("--build", type=lambda name: pathlib.Path(name).resolve(), default=ROOT / "target/release")
    return parser.parse_args()


def main():
    options = parse()
    os.sched_setaffinity(0, {1})
    found = {case: [] for case in options.cases}
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        (directory / "tree").mkdir()
        (directory / "tree/1k.bin").write_bytes(os.urandom(FILE_BYTES))
        for number in range(options.rounds):
            for turn in range(len(options.cases)):
                case = options.cases[(number + turn) % len(options.cases)]
                found[case].append(run(options, directory, case))
    for case in options.cases:
        report(case, found[case])


if __name__ == "__main__":
    main()
