"""Memory that a server takes for clients that read nothing and go on sending."""

import os
import random
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from certificate import make_certificate
from crowd import NOTHING, Crowd, Kind, again, raise_limit
from kinds import H2, LARGE, PINGS, STREAMS
from servers import serving
from wire import PING, frame, get

LARGE_BYTES = 4 << 20
SMALL = LARGE.replace(b"large", b"small")
# After some thousand requests a server has what it needs for all clients together, such as its receive buffers.
WARM_UP = Kind("warm up", 64, lambda _chance: SMALL, again(SMALL), every=0.01)
WARM_UP_SECONDS = 2
OPENING_SECONDS = 60
# Fewer than a server minds at once.
BURST = frame(PING, 0, 0, bytes(8)) * 900
SAMPLE_SECONDS = 0.2


def kinds(count):
    """Name, kind, and whether it goes to the listener with TLS."""
    silent = {"connections": count, "every": 0.2, "reads": NOTHING, "receive_buffer": 4096}
    requests = Kind("requests", start=lambda _chance: LARGE * 50, pieces=again(LARGE * 50), **silent)
    one = H2 + get(1, b"/large.bin")
    pings = Kind("PING", start=lambda _chance: one + BURST, pieces=again(PINGS), **silent)
    streams = Kind("streams", start=lambda _chance: H2 + STREAMS, **silent)
    return {
        "http1": (requests, False),
        "http1-tls": (replace(requests, tls=True), True),
        "http2": (pings, False),
        "http2-tls": (replace(pings, tls=True, alpn="h2"), True),
        "http2-streams": (streams, False),
    }


def add_options(parser):
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", type=lambda text: text.split(","), default=list(kinds(0)))
    parser.add_argument("--servers", type=lambda text: text.split(","), default=["tidegate", "nginx"])


def run(options):
    raise_limit()
    os.sched_setaffinity(0, {1})
    found = {}
    with tempfile.TemporaryDirectory(prefix="attacks-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        make_certificate(directory)
        (directory / "tree").mkdir()
        (directory / "tree/large.bin").write_bytes(os.urandom(LARGE_BYTES))
        (directory / "tree/small.bin").write_bytes(os.urandom(1024))
        for _ in range(options.rounds):
            for case in options.cases:
                for server in options.servers:
                    found.setdefault((server, case), []).append(once(options, directory, server, case))
    for (server, case), each in found.items():
        words = f"{statistics.median(each):6.2f} KiB each ({min(each):.2f} to {max(each):.2f})"
        print(f"{server:9} {case:10} {words}")
    return 0


def once(options, directory, server, case):
    """KiB of memory for each client, at most, in a new server."""
    kind, secure = kinds(options.connections)[case]
    with serving(server, options.server, directory) as subject:
        for port in (subject.port, subject.tls_port)[: 1 + secure]:
            warm_up = replace(WARM_UP, tls=port == subject.tls_port)
            Crowd(warm_up, port, random.Random(0)).run(WARM_UP_SECONDS)
        time.sleep(1)
        before = subject.memory()
        crowd = Crowd(kind, subject.tls_port if secure else subject.port, random.Random(1))
        sampler = Sampler(subject, crowd)
        sampler.watch(OPENING_SECONDS, lambda: crowd.standing() == kind.connections)
        sampler.watch(options.seconds)
        counts = crowd.close()
    each = (sampler.most - before) / options.connections / 1024
    print(f"{server}, {case}: {each:.2f} KiB each at most; {counts.words()}", flush=True)
    return each


class Sampler:
    """The most memory that a server had while a crowd did its work."""

    def __init__(self, subject, crowd):
        self.subject, self.crowd = subject, crowd
        self.most = 0

    def watch(self, seconds, is_over=lambda: False):
        end, due = time.monotonic() + seconds, 0.0
        while time.monotonic() < end and not is_over():
            self.crowd.step()
            if time.monotonic() >= due:
                self.most = max(self.most, self.subject.memory())
                due = time.monotonic() + SAMPLE_SECONDS
