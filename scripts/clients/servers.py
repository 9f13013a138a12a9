"""The servers: started on a free port of the loopback, ended by pid."""

import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from outcome import Failed

HERE = Path(__file__).parent / "servers"
START_SECONDS = 10
STOP_SECONDS = 10


@contextmanager
def serving(program, root, work):
    """The server under test, tidegate or Caddy, while the body runs; gives its port."""
    port = free_port()
    if Path(program).name.startswith("caddy"):
        config = filled("caddy.conf", work, PORT=port, ROOT=root, RUN=work)
        command = [program, "run", "--adapter", "caddyfile", "--config", config]
    else:
        config = filled("tidegate.toml", work, PORT=port, ROOT=root)
        command = [program, "run", "--config", config]
    with running(command, port, work / "server.log"):
        yield port


@contextmanager
def proxying(backend, work):
    """nginx with keep-alive in front of the port `backend`; gives its own port."""
    port = free_port()
    config = filled("nginx.conf", work, PORT=port, BACKEND=backend, RUN=work)
    with running(["nginx", "-c", config], port, work / "nginx.log"):
        yield port


def filled(name, work, **words):
    """The configuration with its words between at signs filled in, in a file in `work`."""
    text = (HERE / name).read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    file = work / name
    file.write_text(text, encoding="utf-8")
    return str(file)


@contextmanager
def running(command, port, log):
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=log.parent)
    try:
        if not opens(port, process):
            raise Failed(f"{command[0]} did not start: {log.read_text().strip()}")
        yield
        if process.poll() is not None:
            raise Failed(f"{command[0]} ended: {log.read_text().strip()[-1000:]}")
    finally:
        end(process)


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
