"""Programs that read and rotate the access log. Run by run.sh, which has the usage.

Only the standard library is used.
"""

import argparse
import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from started import NotStarted, free_port, started

SHIPPED = Path(__file__).resolve().parents[2] / "config/logrotate/tidegate"

# The command of the shipped file; here the server is no unit of systemd.
SIGNAL = "systemctl kill --signal=USR1 --kill-whom=main tidegate.service"

CONFIG = """
[server]
cores = 1
[limits]
requests-per-connection = 1000000
[[listen]]
address = "127.0.0.1:{port}"
[access-log]
path = "logs/access.log"
[[site]]
root = "www"
[[site]]
names = ["json.test"]
root = "www"
[site.access-log]
path = "logs/json.log"
format = "json"
"""

# Values of User-Agent and Referer, some of them hostile.
VALUES = (
    b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    b'"} , {"status": 0',
    b"\\\" \\u0000 \\",
    b"\xff\xfe\xc3",
    "\u00e4\u20ac\U0001f600\u2028".encode(),
    # goaccess takes a line above 4 KiB for several.
    b"a\tb" + b"x" * 1000,
)

TARGETS = ("/", "/small.txt", "/none", "/%ff%0a", "/a?b=%22", '/"')

ROTATIONS = 4

# The exit status if nothing could be checked.
SKIPPED = 77


class Failed(Exception):
    """The check did not find what it looked for."""


class Server:
    """A server under test, and what it was asked."""

    def __init__(self, process, port, work):
        self.process, self.port, self.work = process, port, work
        self.logs = work / "logs"

    def ask(self, host):
        """Every target with every value; the number of requests."""
        requests = [
            b"GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nReferer: %s\r\n\r\n"
            % (target.encode(), host.encode(), value, value)
            for target in TARGETS
            for value in VALUES
        ]
        for request in requests:
            with socket.create_connection(("127.0.0.1", self.port)) as client:
                client.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                while client.recv(65536):
                    pass
        return len(requests)

    def lines(self, name, count):
        """The log, once it has `count` lines."""
        path = self.logs / name
        deadline = time.monotonic() + 10
        while path.read_bytes().count(b"\n") < count:
            if time.monotonic() > deadline:
                raise Failed(f"{path.read_bytes().count(10)} lines, not {count}")
            time.sleep(0.05)
        return path


@contextmanager
def serving(program):
    with tempfile.TemporaryDirectory(prefix="tidegate-logs-") as work:
        work = Path(work)
        (work / "www").mkdir()
        (work / "logs").mkdir()
        (work / "www/small.txt").write_text("content")
        port = free_port()
        config = work / "tidegate.toml"
        config.write_text(CONFIG.format(port=port))
        with started([program, "run", str(config)], port, work / "server.log") as process:
            yield Server(process, port, work)


def run(*command):
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        raise Failed(f"{command[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def jq(server):
    """jq reads every line of the JSON log"""
    count = server.ask("json.test")
    path = server.lines("json.log", count)
    wanted = '[.status, .request_uri, (.request_time | type), (.complete | type)] | @json'
    rows = run("jq", "-r", wanted, str(path)).decode().splitlines()
    if len(rows) != count:
        raise Failed(f"{len(rows)} objects, not {count}")
    for line, row in zip(path.read_bytes().splitlines(), rows):
        read = json.loads(line.decode("utf-8"))
        if json.loads(row) != [read["status"], read["request_uri"], "number", "boolean"]:
            raise Failed(f"jq reads {row}")
    return f"{count} objects"


def goaccess(server):
    """goaccess reads every line of the combined log"""
    count = server.ask("test")
    path = server.lines("access.log", count)
    report = server.work / "report.json"
    run(
        "goaccess", str(path), "--no-global-config", "--log-format=COMBINED", "-o", str(report)
    )
    # It decodes targets for its report, also where that gives no UTF-8.
    general = json.loads(report.read_text(errors="replace"))["general"]
    found = (general["total_requests"], general["failed_requests"])
    if found != (count, 0):
        raise Failed(f"{found[0]} requests and {found[1]} that it cannot read, of {count}")
    return f"{count} requests"


def load(port, stop, counts):
    """Asks until told to stop, on one connection; the number of responses goes to `counts`."""
    request = b"HEAD /small.txt HTTP/1.1\r\nHost: test\r\n\r\n"
    count = 0
    with socket.create_connection(("127.0.0.1", port)) as client:
        received = client.makefile("rb")
        while not stop.is_set():
            client.sendall(request * 10)
            for _ in range(10):
                while received.readline() != b"\r\n":
                    pass
                count += 1
    counts.append(count)


def logrotate(server):
    """logrotate rotates under load, and no line is lost"""
    text = SHIPPED.read_text()
    if SIGNAL not in text:
        raise Failed(f"{SHIPPED} has no `{SIGNAL}`")
    text = text.replace("/var/log/tidegate", str(server.logs))
    config = server.work / "logrotate.conf"
    config.write_text(text.replace(SIGNAL, f"kill -USR1 {server.process.pid}"))
    stop, counts = threading.Event(), []
    clients = [
        threading.Thread(target=load, args=(server.port, stop, counts)) for _ in range(2)
    ]
    for client in clients:
        client.start()
    try:
        for _ in range(ROTATIONS):
            time.sleep(1)
            state = str(server.work / "state")
            run("logrotate", "--force", "--state", state, str(config))
    finally:
        time.sleep(1)
        stop.set()
        for client in clients:
            client.join()
    wanted = sum(counts)
    deadline = time.monotonic() + 10
    while (found := rotated_lines(server.logs)) != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    if found != wanted:
        raise Failed(f"{found} lines of {wanted} requests")
    files = sorted(path.name for path in server.logs.glob("access.log*"))
    if files != ["access.log", "access.log.1", *(f"access.log.{n}.gz" for n in range(2, 5))]:
        raise Failed(f"the files are {files}")
    return f"{wanted} lines in {len(files)} files"


def rotated_lines(logs):
    count = 0
    for path in logs.glob("access.log*"):
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rb") as log:
            for line in log:
                if not (line.startswith(b"127.0.0.1 - - [") and line.endswith(b'"\n')):
                    raise Failed(f"a torn line: {line!r}")
                count += 1
    return count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    program = str(Path(parser.parse_args().server).resolve())
    # Debian has logrotate where a user's PATH does not.
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    # Ended, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = set()
    for check in (jq, goaccess, logrotate):
        name = check.__name__
        if not shutil.which(name):
            print(f"skipped  {check.__doc__}: {name} is not installed (apt-get install {name})")
            continue
        try:
            with serving(program) as server:
                print(f"passed   {check.__doc__}: {check(server)}", flush=True)
            results.add("passed")
        except (Failed, NotStarted) as failure:
            results.add("failed")
            print(f"FAILED   {check.__doc__}: {failure}", flush=True)
    return 1 if "failed" in results else 0 if results else SKIPPED


if __name__ == "__main__":
    sys.exit(main())
