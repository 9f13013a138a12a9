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


TIDEGATE = Kind("tidegate", "tidegate.toml", ("run", "--config"), ("--version",))
NGINX = Kind("nginx", "nginx.conf", ("-c",), ("-v",))
CADDY = Kind("Caddy", "caddy.conf", ("run", "--adapter", "caddyfile", "--config"), ("version",))
H2O = Kind("H2O", "h2o.conf", ("-c",), ("--version",))

# Beside tidegate in suites of HTTP/1.1, and in those of HTTP/2.
KINDS = (TIDEGATE, NGINX, CADDY)
HTTP2_KINDS = (TIDEGATE, NGINX, CADDY, H2O)


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
        with self.configured(self.kind.config, port, work, PORT=port, TREE=tree):
            yield port

    @contextmanager
    def running_http2(self, tree, work):
        """The same with HTTP/2; gives the port without TLS and the one with it."""
        port, tls_port = free_port(), free_port()
        certificate, key = self_signed(work)
        words = {"TREE": tree, "PORT": port, "TLS_PORT": tls_port, "CERT": certificate, "KEY": key}
        with self.configured(f"http2/{self.kind.config}", tls_port, work, **words):
            yield port, tls_port

    @contextmanager
    def configured(self, template, port, work, **words):
        config = work / self.kind.config
        config.write_text(filled(template, RUN=work, **words))
        log = work / f"{self.name}.log"
        with started([self.program, *self.kind.start, str(config)], port, log):
            yield


def installed(paths):
    """The servers to test of `paths`, a program for each name, in the order of HTTP2_KINDS."""
    found = []
    for kind in HTTP2_KINDS:
        program = shutil.which(paths[kind.name])
        if program:
            found.append(Server(kind, str(Path(program).absolute())))
    return found


def self_signed(work):
    """A certificate for localhost and its key, as PEM files in `work`."""
    certificate, key = work / "certificate.pem", work / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-noenc", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, capture_output=True, check=True)
    return certificate, key


def filled(name, **words):
    text = (HERE / "servers" / name).read_text()
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    return text
