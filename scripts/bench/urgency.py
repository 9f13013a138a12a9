#!/usr/bin/env python3
"""How long an urgent response waits behind a bulk one, and a cancelled one still holds the line, on a slow path: the
figures of docs/http2.md. Needs root, and a tree with 1k.bin and 100m.bin.

    scripts/bench/urgency.py --tree DIR NAME=COMMAND NAME=COMMAND...

As in ab.py, `{port}` and `{tree}` in a command are replaced, and `{address}`; it is to speak HTTP/2 without TLS. A path of
25 ms each way and 20 Mbit/s joins the namespaces of server and client, with a queue of 64 KiB before its line. A client
reads a file of 100 MiB with `Priority: u=6`, and asks for one of 1 KiB with `u=0` every now and then. At last it cancels
the large one, and waits for the last frame of it.
"""

import argparse
import contextlib
import os
import pathlib
import shlex
import statistics
import struct
import subprocess
import time

from http2_connection import DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Connection, frame, literal
from tun_path import NEAR, Direction, inside, namespace, path, use_cubic

PORT = 8080
CANCEL = 8
# Until the window of congestion is open.
SETTLE_SECONDS = 1.5
PAUSE_SECONDS = 0.3
# Nothing has come for so long: the stream is over.
QUIET_SECONDS = 0.3


class Client(Connection):
    def ask_with(self, path, priority):
        """Asks for a path with a priority (RFC 9218); returns the stream."""
        block = b"\x82" + self.scheme + b"\x04" + literal(path) + b"\x01" + literal(self.authority)
        block += b"\x00" + literal("priority") + literal(priority)
        self.stream += 2
        self.socket.sendall(frame(HEADERS, END_STREAM | END_HEADERS, self.stream, block))
        return self.stream

    def read_for(self, seconds):
        end, count = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            count += len(self.next_frame()[3])
        return count

    def wait_for(self, stream):
        """Seconds until a response has ended."""
        start = time.monotonic()
        while True:
            kind, flags, of, _ = self.next_frame()
            if of == stream and kind in (DATA, HEADERS) and flags & END_STREAM:
                return time.monotonic() - start

    def cancel(self, stream):
        """Seconds until the last frame of a cancelled stream has come, and its bytes since."""
        self.socket.sendall(frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))
        self.socket.settimeout(QUIET_SECONDS)
        start = last = time.monotonic()
        count = 0
        with contextlib.suppress(TimeoutError):
            while True:
                count += len(self.next_frame()[3])
                last = time.monotonic()
        return last - start, count


def measure(options):
    """Of one connection: bytes per second, the waits of urgent requests, and those of the cancelled one."""
    client = Client(NEAR, PORT, None)
    bulk = client.ask_with("/100m.bin", "u=6")
    client.read_for(SETTLE_SECONDS)
    start, count, waits = time.monotonic(), 0, []
    for _ in range(options.requests):
        count += client.read_for(PAUSE_SECONDS)
        waits.append(client.wait_for(client.ask_with("/1k.bin", "u=0")))
    rate = count / (time.monotonic() - start - sum(waits))
    return rate, waits, client.cancel(bulk)


@contextlib.contextmanager
def served(command, near, log):
    words = shlex.split(command)
    with log.open("ab") as output:
        process = subprocess.Popen(["nsenter", f"--net=/run/netns/{near}", "env", *words], stdout=output, stderr=output)
    try:
        time.sleep(1)
        yield
    finally:
        process.terminate()
        process.wait()


def report(name, found):
    waits = sorted(1000 * wait for _, each, _ in found for wait in each)
    cancelled = sorted(1000 * seconds for _, _, (seconds, _) in found)
    behind = statistics.median(count for _, _, (_, count) in found)
    print(
        f"{name:10} urgent {statistics.median(waits):6.1f} ms ({waits[0]:.1f} to {waits[-1]:.1f})"
        f"  cancelled {statistics.median(cancelled):6.1f} ms, {behind / 1024:5.0f} KiB"
        f"  bulk {statistics.median(rate for rate, _, _ in found) / 125000:5.2f} Mbit/s",
        flush=True,
    )


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="+", metavar="NAME=COMMAND")
    parser.add_argument("--tree", required=True, type=pathlib.Path)
    parser.add_argument("--requests", type=int, default=10, help="urgent ones, on each connection")
    parser.add_argument("--connections", type=int, default=3, help="one after the other")
    parser.add_argument("--rate", type=float, default=20, help="Mbit/s")
    parser.add_argument("--delay", type=float, default=0.025, help="seconds, each way")
    parser.add_argument("--queue", type=int, default=65536, help="bytes before the line")
    parser.add_argument("--log", type=pathlib.Path, default=pathlib.Path("/dev/null"), help="what the servers print")
    return parser.parse_args()


def main():
    options = parse()
    there = Direction(options.delay, options.rate * 125000, options.queue)
    with contextlib.ExitStack() as stack:
        near, far = (stack.enter_context(namespace(f"tidegate-{end}-{os.getpid()}")) for end in ("near", "far"))
        use_cubic(near, far)
        stack.enter_context(path(near, far, [there, Direction(options.delay)]))
        for name, _, command in (server.partition("=") for server in options.servers):
            with served(command.format(port=PORT, tree=options.tree, address=NEAR), near, options.log), inside(far):
                found = [measure(options) for _ in range(options.connections)]
            report(name, found)


if __name__ == "__main__":
    main()
