"""The servers under attack, each on one core, with a tree, a certificate and their defaults."""

import re
from contextlib import contextmanager
from pathlib import Path

from started import free_port, started

HERE = Path(__file__).parent
SERVER_CORE = 0


class Subject:
    """A server that runs: its ports, and its processes."""

    def __init__(self, process, port, tls_port):
        self.process, self.port, self.tls_port = process, port, tls_port

    def memory(self):
        """Bytes of memory of its own in all of its processes: what is not of files."""
        return sum(map(anonymous, family(self.process.pid)))


def family(pid):
    """A process and those below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def anonymous(pid):
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Anonymous:\s+(\d+) kB", rollup, re.M)[1]) * 1024


@contextmanager
def serving(name, program, directory):
    """tidegate or nginx with the directory's `tree`, while the body runs."""
    port, tls_port = free_port(), free_port()
    cert, key = directory / "cert.pem", directory / "key.pem"
    words = {"PORT": port, "TLS_PORT": tls_port, "TREE": directory / "tree", "RUN": directory, "CERT": cert, "KEY": key}
    template = {"tidegate": "tidegate.toml", "nginx": "nginx.conf"}[name]
    text = (HERE / "servers" / template).read_text()
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    config = directory / template
    config.write_text(text)
    start = {"tidegate": [program, "run", "--config"], "nginx": ["nginx", "-c"]}[name]
    command = ["taskset", "-c", str(SERVER_CORE), *map(str, start), str(config)]
    with started(command, tls_port, directory / f"{name}.log") as process:
        yield Subject(process, port, tls_port)
