"""The server under test, with its admin listener."""

import json
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from outcome import Failed
from started import free_port, started

LARGE_BYTES = 24 << 20


@dataclass(frozen=True)
class Subject:
    """Where it listens, and a directory to work in."""

    root: Path
    work: Path
    port: int
    admin: int
    screenshot: Path | None

    @staticmethod
    @contextmanager
    def started(program, work, screenshot):
        www = work / "www"
        www.mkdir()
        (www / "index.html").write_text("<title>home</title>", encoding="utf-8")
        (www / "app.js").write_bytes(b"//" + b"x" * 12_000)
        (www / "film.bin").write_bytes(b"x" * LARGE_BYTES)
        port, admin = free_port(), free_port()
        config = work / "tidegate.toml"
        config.write_text(
            f'[server]\ncores = 2\n[[listen]]\naddress = "127.0.0.1:{port}"\n'
            f'[admin]\nlisten = "127.0.0.1:{admin}"\n[[site]]\nroot = "{www}"\n',
            encoding="utf-8",
        )
        command = [program, "run", "--config", str(config)]
        with started(command, admin, work / "tidegate.log"):
            yield Subject(Path(__file__).resolve().parents[2], work, port, admin, screenshot)

    def url(self, path):
        return f"http://127.0.0.1:{self.admin}{path}"

    def metrics(self):
        with urlopen(self.url("/metrics"), timeout=5) as response:
            return response.read().decode()

    def live(self):
        with urlopen(self.url("/live.json"), timeout=5) as response:
            return json.load(response)

    def names(self):
        """The names of all metrics, without the suffixes of histograms."""
        return set(re.findall(r"^# TYPE (\S+)", self.metrics(), re.M))


def eventually(what, condition, seconds=20):
    """Waits until the condition holds; what it gives."""
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise Failed(f"never: {what}")
        time.sleep(0.1)
