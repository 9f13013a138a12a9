"""A server on a port of the loopback, started for as long as it is needed and ended by pid."""

import socket
import subprocess
import time
from contextlib import contextmanager

START_SECONDS = 10
STOP_SECONDS = 10


class NotStarted(Exception):
    """The server ended, or its port was not open in time."""


@contextmanager
def started(command, port, log):
    """Runs `command` in the directory of `log`, to whose end it prints, until the body ends; gives
    its process once `port` is open."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=log.parent)
    try:
        if not opens(port, process):
            raise NotStarted(f"{command[0]} did not start: {log.read_text().strip()}")
        yield process
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
