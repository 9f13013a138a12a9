"""Latency of a small file beside thousands of connections that send their requests a byte at a time."""

import json
import os
import random
import statistics
import subprocess
import tempfile
import threading
import time
from argparse import Namespace
from pathlib import Path

import wrk
from certificate import make_certificate
from crowd import Crowd, Kind, again, one_by_one, raise_limit, step_back
from kinds import H2, HEAD_BEGUN, HELLO
from servers import serving
from wire import frame

CLIENT_CORE = 1
FILE_BYTES = 1024
# A byte of each connection comes so often.
EVERY_SECONDS = 3.0
# A server ends connections some seconds after they were opened (tidegate after 10). So that it does not end
# all at once, they come within so many; it has begun to end them when the measurement does.
SPREAD_SECONDS, SETTLE_SECONDS = 8.0, 4.0
OPENING_SECONDS = 60
# Of the connections that are to be there, some are about to be opened again: the server ends them.
HELD_LEAST = 0.9


def kinds(count, path):
    """What there is besides the load: name, kind, and whether it goes to the listener with TLS."""
    idle = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path
    common = {"connections": count, "every": EVERY_SECONDS, "rate": count / SPREAD_SECONDS}
    frame_begun = H2 + frame(0xBB, 0, 0, bytes(10_000))[:9]
    return {
        "nothing": (Kind("nothing", 0, bytes), False),
        "idle": (Kind("idle", start=lambda _chance: idle, **common), False),
        "slowloris": (Kind("slowloris", start=lambda _chance: HEAD_BEGUN, pieces=again(b"x"), **common), False),
        "hello": (Kind("hello", start=lambda _chance: b"", pieces=one_by_one(HELLO), **common), True),
        "http2": (Kind("http2", start=lambda _chance: frame_begun, pieces=again(b"\0"), **common), False),
    }


def add_options(parser):
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--cases", type=lambda text: text.split(","), default=["nothing", "idle", "slowloris"])
    parser.add_argument("--servers", type=lambda text: text.split(","), default=["tidegate", "nginx"])
    parser.add_argument("--clients", type=lambda text: text.split(","), default=["load", "wrk"])
    parser.add_argument("--load", type=lambda name: Path(name).resolve())


class Failed(Exception):
    """What was to be measured was not there, or a request failed."""


class Beside:
    """A crowd that does its work in a thread of this process for as long as the body runs."""

    def __init__(self, kind, port):
        self.crowd = Crowd(kind, port, random.Random(1))
        self.there, self.ended = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.ended.is_set():
            self.crowd.step()
            if not self.there.is_set() and self.is_there():
                self.there.set()
                step_back()
        self.crowd.close()

    def is_there(self):
        return self.crowd.standing() >= self.crowd.kind.connections * HELD_LEAST

    def __enter__(self):
        self.thread.start()
        if not self.there.wait(OPENING_SECONDS):
            self.__exit__()
            raise Failed(f"there were only {self.crowd.counts.held} connections")
        time.sleep(SETTLE_SECONDS)
        return self

    def did(self):
        counts = self.crowd.counts
        return {"opened": counts.opened, "pieces": counts.pieces}

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def run(options):
    needed = options.connections + 500
    if raise_limit() < needed:
        raise SystemExit(f"attacks.sh: {needed} descriptors are needed: ulimit -Hn {needed}")
    os.sched_setaffinity(0, {CLIENT_CORE})
    found, failures = {}, []
    turns = [(server, case) for case in options.cases for server in options.servers]
    with tempfile.TemporaryDirectory(prefix="attacks-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        make_certificate(directory)
        (directory / "tree").mkdir()
        (directory / "tree/1k.bin").write_bytes(os.urandom(FILE_BYTES))
        for number in range(options.rounds):
            for turn in range(len(turns)):
                server, case = turns[(number + turn) % len(turns)]
                try:
                    for client, pair in once(options, directory, server, case).items():
                        found.setdefault((server, case, client), []).append(pair)
                except Failed as failed:
                    failures.append(f"{server}, {case}: {failed}")
                    print(failures[-1], flush=True)
    for key, pairs in found.items():
        report(*key, pairs)
    return 1 if failures else 0


def once(options, directory, server, case):
    """A new server: for each client the percentiles alone, those beside a crowd, and what it did."""
    kind, secure = kinds(options.connections, b"/1k.bin")[case]
    with serving(server, options.server, directory) as subject:
        alone = {client: measure(options, client, subject.port) for client in options.clients}
        with Beside(kind, subject.tls_port if secure else subject.port) as crowd:
            before, begin = crowd.did(), time.monotonic()
            beside = {client: measure(options, client, subject.port) for client in options.clients}
            seconds = time.monotonic() - begin
            if not crowd.is_there():
                raise Failed(f"{crowd.crowd.standing()} of {kind.connections} connections were there at the end")
            rates = {name: (count - before[name]) / seconds for name, count in crowd.did().items()}
        return {client: (alone[client], beside[client] | rates) for client in options.clients}


def measure(options, client, port):
    counted = {"load": by_load, "wrk": by_wrk}[client](options, port)
    if counted["errors"] or counted.get("timeouts"):
        raise Failed(f"{counted['errors']} requests of {client} failed, {counted.get('timeouts', 0)} took too long")
    return {name: counted[f"{name}_us"] for name in ("p50", "p99")}


def by_load(options, port):
    """tidegate-load, at a fixed rate."""
    command = [
        *(options.load or options.server.parent / "tidegate-load", "get", "--server", f"127.0.0.1:{port}"),
        *("--path", "/1k.bin", "--length", FILE_BYTES, "--connections", 50, "--rate", options.rate),
        *("--seconds", options.seconds, "--warmup", 0.5),
    ]
    return json.loads(subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, check=True).stdout)


def by_wrk(options, port):
    """wrk, as fast as the server answers."""
    chosen = Namespace(server=f"127.0.0.1:{port}", path="/1k.bin", paths=None, tls=False, connections=50)
    return wrk.wrk(chosen, options.seconds)[0]


def report(server, case, client, pairs):
    for name in ("p50", "p99"):
        ratio = statistics.median(beside[name] / alone[name] for alone, beside in pairs)
        alone, beside = (spread([pair[which][name] for pair in pairs]) for which in (0, 1))
        opened, pieces = (statistics.median(pair[1][what] for pair in pairs) for what in ("opened", "pieces"))
        print(
            f"{server:9} {case:10} {client:5} {name}  alone {alone}  beside {beside}  ratio {ratio:.3f}"
            f"  ({opened:.0f} connections and {pieces:.0f} bytes a second)",
            flush=True,
        )


def spread(values):
    return f"{statistics.median(values):7.1f} us ({min(values):.1f} to {max(values):.1f})"
