"""The servers under test, each on a free port, with its configuration."""

import re
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from started import free_port, started

HERE = Path(__file__).parent


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
        with started([self.program, *self.kind.start, str(config)], port, log):
            yield port


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
