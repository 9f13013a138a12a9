"""A server that is traced, and what it is like after the faults."""

import os
import pathlib
import signal
import socket
import subprocess
import time

import tracing
from clients import RIGHT, Tally, ask, tls_context
from started import free_port
from tracing import wait_until

START_SECONDS = 30
# The watchdog of the server takes four seconds, with pauses before and after.
WATCHDOG = "4s"
BOUND_SECONDS = 20
END_SECONDS = 5

CONFIG = """\
[server]
cores = 1
watchdog = "{watchdog}"
graceful-timeout = "5s"
upgrade-timeout = "10s"

[[listen]]
address = "127.0.0.1:{ports[0]}"

[[listen]]
address = "127.0.0.1:{ports[1]}"
tls = true

[admin]
listen = "127.0.0.1:0"

[access-log]
path = "access.log"

[[tls.certificates]]
cert = "cert.pem"
key = "key.pem"

# Shorter than the patience of the clients.
[timeouts]
header = "3s"
send-stall = "3s"
lookup = "3s"

[cache]
valid = "0s"
{more}
[[site]]
root = "www"
{site}
[[site.headers]]
match = "/**"
set = {{ x-version = "{version}" }}
"""


class Server:
    """`directory` has www, cert.pem and key.pem. `more` and `site` are added to the configuration."""

    def __init__(self, binary, directory, more="", site=""):
        self.binary, self.directory = binary, directory
        self.more, self.site = more, site
        self.version = 1
        self.log = directory / "log"
        self.ports = [free_port(), free_port()]
        self.write_config()

    def write_config(self):
        text = CONFIG.format(watchdog=WATCHDOG, **vars(self))
        draft = self.directory / "draft.toml"
        draft.write_text(text)
        draft.rename(self.directory / "tidegate.toml")

    def spawn(self, *before):
        """Starts it, by what stands before in its command line."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*before, self.binary, "run", "--config", "tidegate.toml"],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def starts(self):
        """Whether it serves before it ends or its time is over."""
        wait_until(lambda: self.has_ended() or self.listens(), START_SECONDS)
        return not self.has_ended() and self.listens()

    def listens(self):
        return all(is_open(port) for port in self.ports)

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        kill(self.pid, number)

    def has_ended(self):
        return self.process.poll() is not None

    def successor(self):
        """The process that serves after an upgrade, if there is one: it became a child of this process."""
        others = [pid for pid in children_of(os.getpid()) if pid != self.pid]
        return next((pid for pid in others if is_server(pid)), None)

    def serves(self, files):
        """Whether it answers rightly, with and without TLS."""
        tally = Tally()
        for port, context in zip(self.ports, (None, tls_context())):
            ask(port, files, tally, context)
            if tally[RIGHT] < len(files):
                return False
        return tally[RIGHT] == 2 * len(files)

    def end(self):
        """Ends what is left, by pid."""
        tracing.let_go(self.pid)
        if not self.has_ended():
            for pid in [self.pid, *children_of(self.pid)]:
                kill(pid)
            self.process.wait()
        end = time.monotonic() + END_SECONDS
        while (left := children_of(os.getpid())) and time.monotonic() < end:
            for pid in left:
                kill(pid)
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    pass
            time.sleep(0.02)

    def traced(self, fault, log):
        """Traces it from now on."""
        return tracing.attached(self.pid, fault, log)


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def kill(pid, number=signal.SIGKILL):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def is_server(pid):
    """Whether it is a tidegate that has not ended, and no strace."""
    try:
        name, state = pathlib.Path(f"/proc/{pid}/stat").read_text().split("(")[1].split(")")[:2]
        return name != "strace" and state.split()[0] != "Z"
    except (OSError, IndexError):
        return False


def children_of(pid):
    try:
        tasks = list(pathlib.Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (OSError, ValueError):
        return []
