#!/usr/bin/env python3
"""Upgrades a server again and again under load, and counts the requests that fail: none may.

Clients keep their connections and make new ones, plain and with TLS, over two cores. Exit status 1
if a request failed.

  scripts/upgrade.py [--server PROGRAM] [--requests COUNT] [--upgrades COUNT] [--cores COUNT]

  --server PROGRAM   the binary (target/release/tidegate)
  --requests COUNT   how many requests at least (100000)
  --upgrades COUNT   how many upgrades, spread over them (20)
  --cores COUNT      of the server (2)
"""

import argparse
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "lib"))

from certificate import make_certificate  # noqa: E402

BODY = b"x" * 1024
REQUEST = b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n"
CLIENTS = 2  # of each kind
TIMEOUT = 60


def arguments():
    root = Path(__file__).resolve().parent.parent
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--server", default=target / "release" / "tidegate")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--upgrades", type=int, default=20)
    parser.add_argument("--cores", type=int, default=2)
    return parser.parse_args()


class Load:
    """Clients that ask until there are enough requests."""

    def __init__(self, port, secure_port, context, wanted):
        self.addresses = {False: port, True: secure_port}
        self.context = context
        self.wanted = wanted
        self.lock = threading.Lock()
        self.answered = 0
        self.closed = 0
        self.resumed = [0, 0]
        self.failures = []
        kinds = [(secure, keep) for secure in (False, True) for keep in (False, True)]
        self.threads = [
            threading.Thread(target=self.ask, args=kind) for kind in kinds * CLIENTS
        ]
        for thread in self.threads:
            thread.start()

    def is_done(self):
        return self.answered >= self.wanted

    def connect(self, secure, session):
        stream = socket.create_connection(("127.0.0.1", self.addresses[secure]), TIMEOUT)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if secure:
            stream = self.context.wrap_socket(stream, server_hostname="localhost", session=session)
            with self.lock:
                self.resumed[stream.session_reused] += 1
        return stream

    def ask(self, secure, keep_alive):
        stream, session = None, None
        while not self.is_done():
            fresh = stream is None
            try:
                stream = stream or self.connect(secure, session)
                stream.sendall(REQUEST)
                closes = self.receive(stream)
            except Exception as error:  # noqa: BLE001: whatever it is, a request has failed
                kind = f"{'TLS' if secure else 'plain'}, {'new' if fresh else 'kept'} connection"
                self.failures.append(f"{kind}: {error!r}")
                stream = None
                continue
            with self.lock:
                self.answered += 1
                self.closed += closes and keep_alive
            if secure:
                session = stream.session
            if closes or not keep_alive:
                stream.close()
                stream = None

    @staticmethod
    def receive(stream):
        """Reads a response; whether the connection ends with it."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = stream.recv(65536)
            if not piece:
                raise ConnectionError("closed before a response")
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        while len(body) < len(BODY):
            piece = stream.recv(65536)
            if not piece:
                raise ConnectionError("closed in a response")
            body += piece
        if not head.startswith(b"HTTP/1.1 200 ") or body != BODY:
            raise ValueError(head)
        return b"connection: close" in head.lower()


def configuration(directory, cores):
    cert, key = make_certificate(directory)
    (directory / "root").mkdir()
    (directory / "root" / "file").write_bytes(BODY)
    file = directory / "tidegate.toml"
    file.write_text(
        f'[server]\ncores = {cores}\ngraceful-timeout = "20s"\n'
        '[[listen]]\naddress = "127.0.0.1:0"\n'
        '[[listen]]\naddress = "127.0.0.1:0"\ntls = true\n'
        f'[[tls.certificates]]\ncert = "{cert}"\nkey = "{key}"\n'
        f'[[site]]\nroot = "{directory / "root"}"\n'
    )
    return file, cert


def wait_for(log, pattern, count=0):
    """The groups of the match with this number in the file, once it is there."""
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until:
        found = re.findall(pattern, log.read_text())
        if len(found) > count:
            return found[count]
        time.sleep(0.02)
    raise SystemExit(f"never: {pattern}\n{log.read_text()}")


def main():
    options = arguments()
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        file, cert = configuration(directory, options.cores)
        log = directory / "log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [options.server, "run", "--config", file], stdout=output, stderr=output
            )
        last = process.pid
        try:
            ports = [
                int(wait_for(log, scheme + r"://127\.0\.0\.1:(\d+)")) for scheme in ("http", "https")
            ]
            context = ssl.create_default_context(cafile=cert)
            load = Load(*ports, context, options.requests)
            for number in range(options.upgrades):
                while load.answered < number * options.requests // (options.upgrades + 1):
                    time.sleep(0.01)
                os.kill(last, signal.SIGUSR2)
                last = int(wait_for(log, r"USR2: process (\d+) serves", number))
            for thread in load.threads:
                thread.join()
        finally:
            os.kill(last, signal.SIGTERM)
        process.wait(TIMEOUT)
        lines = log.read_text()
    print(
        f"{load.answered} requests, {options.upgrades} upgrades: {len(load.failures)} failed; "
        f"{load.closed} kept connections were closed with a response; TLS sessions: "
        f"{load.resumed[1]} resumed, {load.resumed[0]} new"
    )
    for failure in load.failures[:20]:
        print(failure)
    if load.failures or "cut off" in lines:
        print(lines)
        sys.exit(1)


main()
