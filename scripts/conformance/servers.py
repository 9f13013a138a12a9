"""The servers under test: started on a free port of the loopback, ended by pid."""

import re
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
START_SECONDS = 10
STOP_SECONDS = 10


@dataclass(frozen=True)
class Kind:
    """One of the servers: how it is called, configured, started and asked its version."""

    name: str
    config: str
    start: tuple[str, ...]
    version: tuple[str, ...]


KINDS = (
    Kind("tidegate", "tidegate.toml", ("run", "--config"), ("--version",)),
    Kind("nginx", "nginx.conf", ("-c",), ("-v",)),
    Kind("Caddy", "caddy.conf", ("run", "--adapter", "caddyfile", "--config"), ("version",)),
)


@dataclass(frozen=True)
class Server:
    """One of the servers, installed: `program` is its path."""

    kind: Kind
    program: str

    @property
    def name(self):
        return self.kind.name

    def version(self):
        """What it says of itself, cut to the number."""
        command = [self.program, *self.kind.version]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        number = re.search(r"\d+\.\d+\.\d+\S*", said.stdout + said.stderr)
        return number[0] if number else "unknown"

    @contextmanager
    def running(self, tree, work):
        """Serves `tree` while the body runs, with its own files in `work`; gives the port."""
        port = free_port()
        config = work / self.kind.config
        config.write_text(filled(self.kind.config, PORT=port, TREE=tree, RUN=work))
        log = work / f"{self.name}.log"
        with log.open("ab") as output:
            command = [self.program, *self.kind.start, str(config)]
            process = subprocess.Popen(command, stdout=output, stderr=output, cwd=work)
        try:
            if not opens(port, process):
                raise RuntimeError(f"{self.name} did not start: {log.read_text().strip()}")
            yield port
        finally:
            end(process)


def installed(paths):
    """The servers to test of `paths`, a program for each name, in the order of KINDS."""
    found = []
    for kind in KINDS:
        program = shutil.which(paths[kind.name])
        if program:
            found.append(Server(kind, str(Path(program).absolute())))
    return found


def filled(name, **words):
    text = (HERE / "servers" / name).read_text()
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    return text


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def opens(port, process):
    """Waits until the port is open; False if the process ends before, or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return True
        except ConnectionRefusedError:
            time.sleep(0.02)
    return False


def end(process):
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
