#!/usr/bin/env python3
"""The HTTP/2 client of compare.sh. Each command prints one JSON object, with the fields that tidegate-load prints.

    http2.py get      measures requests in a closed loop or at a fixed rate, by h2load
    http2.py connect  measures connections with a request each, by h2load
    http2.py memory   measures what a connection or a blocked stream costs in memory, by frames of its own
    http2.py check    compares a response with the file it should be
"""

import argparse
import json
import pathlib
import sys
import tempfile
import time

import h2load
from http2_connection import Broken, Connection, tls_context
from usage import client_ns, cpu_ns, machine_ns, resident_bytes

# As tidegate-load: before memory is first measured the server has answered this often, so that its code and pools are
# resident.
WARMUP_CONNECTIONS = 8
WARMUP_REQUESTS = 200
SETTLE_SECONDS = 0.5
SETTLE_STREAMS_SECONDS = 2
CHECK_INTERVAL_SECONDS = 0.05


# --- commands --------------------------------------------------------------------


def url(options, path):
    return f"{'https' if options.tls else 'http'}://{options.server}{path}"


def urls(options):
    """The one path, or those of a list."""
    paths = options.paths.read_text().split() if options.paths else [options.path]
    return [url(options, path) for path in paths]


def load_options(options):
    headers = [f"--header={header}" for header in options.header]
    version = ["--h1"] if options.http1 else []
    return [f"--clients={options.connections}", f"--max-concurrent-streams={options.streams}", *headers, *version]


def rate_options(options, log):
    """h2load's rate is that of each connection; its log has what it prints no percentiles of."""
    return [f"--rps={options.rate / options.connections}", f"--log-file={log}"] if options.rate else []


def get(options):
    def used(process):
        return {"server": cpu_ns(options.cpu), "client": client_ns(process.pid), "machine": machine_ns()}

    with tempfile.NamedTemporaryFile("r") as log:
        words = [*load_options(options), *rate_options(options, log.name)]
        counted, (before, after) = h2load.timed(urls(options), options.seconds, options.warmup, words, used)
        latencies = h2load.percentiles(log)
    spent = {name: after[name] - before[name] for name in before}
    return {
        **counted,
        **latencies,
        "rate": options.rate,
        "requests_per_second": counted["requests"] / counted["seconds"],
        "cpu_ns": spent["server"],
        "client_cpu_ns": spent["client"],
        "other_cpu_ns": max(0, spent["machine"] - spent["client"] - spent["server"]),
    }


def connect(options):
    """A connection and a handshake for each request; all at once, and again until the time is up."""
    h2load.once(urls(options), options.connections, load_options(options))
    total = {"requests": 0, "errors": 0, "seconds": 0}
    end, before = time.monotonic() + options.seconds, cpu_ns(options.cpu)
    while time.monotonic() < end:
        counted = h2load.once(urls(options), options.connections, load_options(options))
        total = {name: total[name] + counted[name] for name in total}
    spent = cpu_ns(options.cpu) - before
    return {**total, "requests_per_second": total["requests"] / total["seconds"], "cpu_ns": spent}


def memory(options):
    """The growth of memory by connections that have had a response, or by streams that wait for a window."""
    tls, (host, port) = context(options), address(options)
    warm_up(host, port, tls, options.path)
    time.sleep(SETTLE_SECONDS)
    before = resident_bytes(options.processes)
    connections = [opened(host, port, tls, options.path) for _ in range(options.connections)]
    time.sleep(SETTLE_SECONDS)
    if options.blocked_path:
        for connection in connections:
            connection.set_window(options.window)
        before = resident_bytes(options.processes)
        block(connections, options)
    after, cpu = resident_bytes(options.processes), cpu_ns(options.cpu)
    time.sleep(options.seconds)
    idle_cpu = cpu_ns(options.cpu) - cpu
    if options.blocked_path:
        # What was on its way to a client that had not read yet has gone meanwhile.
        after = resident_bytes(options.processes)
    count = options.connections * (options.streams if options.blocked_path else 1)
    return {
        "connections": options.connections,
        "still_open": sum(connection.is_open() for connection in connections),
        "resident_before": before,
        "resident_after": after,
        "bytes_per_stream" if options.blocked_path else "bytes_per_connection": (after - before) / count,
        "seconds": options.seconds,
        "idle_cpu_ns": idle_cpu,
    }


def warm_up(host, port, tls, path):
    for connection in [Connection(host, port, tls) for _ in range(WARMUP_CONNECTIONS)]:
        for _ in range(WARMUP_REQUESTS):
            connection.get(path)
        connection.socket.close()


def opened(host, port, tls, path):
    """A connection that has had a response."""
    connection = Connection(host, port, tls)
    connection.get(path)
    return connection


def block(connections, options):
    """Asks for a large file on many streams of each connection, and reads what comes until nothing comes any more."""
    for connection in connections:
        connection.ask(options.blocked_path, options.streams)
    for connection in connections:
        connection.drain(SETTLE_STREAMS_SECONDS / len(connections))


def check(options):
    """Tries again while the server cannot be connected to."""
    deadline = time.monotonic() + options.wait
    while True:
        try:
            body = Connection(*address(options), context(options)).get(options.path)
            break
        except (ConnectionError, Broken) as error:
            if time.monotonic() > deadline:
                sys.exit(f"http2.py: {options.path}: {error}")
            time.sleep(CHECK_INTERVAL_SECONDS)
    if body != options.file.read_bytes():
        sys.exit(f"http2.py: {options.path}: {len(body)} bytes, which are not those of {options.file}")
    return {"bytes": len(body)}


def context(options):
    return tls_context() if options.tls else None


def address(options):
    host, port = options.server.rsplit(":", 1)
    return host, int(port)


# --- command line ------------------------------------------------------------------


def parse():
    parser = argparse.ArgumentParser(description="The HTTP/2 client of compare.sh.")
    parser.add_argument("command", choices=[get.__name__, connect.__name__, memory.__name__, check.__name__])
    parser.add_argument("--label", action="append", default=[], help="NAME=VALUE, a field of the object")
    parser.add_argument("--server", required=True, help="HOST:PORT")
    parser.add_argument("--path", help="what is asked for")
    parser.add_argument("--paths", type=pathlib.Path, help="get: a file with paths, which are asked for in turn")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--http1", action="store_true", help="get: by HTTP/1.1, to compare")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--streams", type=int, default=1, help="requests on each connection at once")
    parser.add_argument("--rate", type=int, help="get: requests per second, of all connections together")
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--warmup", type=float, default=0.3)
    parser.add_argument("--cpu", help="the server's CPU counter")
    parser.add_argument("--processes", help="memory: the cgroup.procs of the server")
    parser.add_argument("--blocked-path", help="memory: what each stream waits for")
    parser.add_argument("--window", type=int, default=65535, help="memory: of each stream, in bytes")
    parser.add_argument("--file", type=pathlib.Path, help="check: what the body must equal")
    parser.add_argument("--wait", type=float, default=0, help="check: seconds to keep trying to connect")
    return parser.parse_args()


def main():
    options = parse()
    try:
        report = globals()[options.command](options)
    except (h2load.Failed, Broken, OSError) as error:
        sys.exit(f"http2.py: {options.command} {options.path or options.paths}: {error}")
    print(json.dumps(dict(label.split("=", 1) for label in options.label) | report))


main()
