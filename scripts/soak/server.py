"""The server under test: started, reloaded, upgraded and looked at."""

import collections
import contextlib
import ctypes
import http.client
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

STOP_SECONDS = 60
CHANGE_SECONDS = 30
PR_SET_CHILD_SUBREAPER = 36
# A state of TCP, as /proc/net/tcp has it.
TCP_LISTEN = "0A"

CONFIG = """\
[server]
cores = 2
graceful-timeout = "20s"

[[listen]]
address = "127.0.0.1:{port}"

[[listen]]
address = "127.0.0.1:{tls_port}"
tls = true

[admin]
listen = "127.0.0.1:{admin_port}"

[access-log]
path = "access.log"
format = "$remote_addr $time_iso8601 $status $body_bytes_sent $request"

[[tls.certificates]]
cert = "cert.pem"
key = "key.pem"

[cache]
hot-bytes-per-core = "4m"
open-files-per-core = 512

[io]
pipes-per-core = {pipes_per_core}

[timeouts]
header = "5s"
keep-alive = "20s"
send-stall = "10s"

[limits]
requests-per-connection = {requests}
connections-per-ip = {connections}

[[site]]
root = "tree"

[[site.headers]]
match = "/**"
set = {{ x-version = "{version}" }}
"""

EXTRA_LISTENER = """
[[listen]]
address = "127.0.0.1:{extra_port}"
"""

# The address of the clients whose requests count; attacks come from others.
CLIENT = b"127.0.0.1 "
# More than the clients have; the sources of the attacks have more, and are limited by every fourth reload.
CONNECTIONS_MAX = 150

# A pipe stays for the next transfer once it was made: the most descriptors of pipes that two cores keep.
PIPES_PER_CORE = 8
POOLED_MAX = 2 * 2 * PIPES_PER_CORE

# Each must be refused, whole.
FAULTS = ["[server\n", "[limits]\nheaders = 0\n", '[[site]]\nroot = "absent"\nnames = ["b"]\n', "unknown = 1\n"]


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def listening(port):
    """The inodes of the sockets that listen on a port of the loopback."""
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == f"0100007F:{port:04X}" and fields[3] == TCP_LISTEN:
            yield fields[9]


def open_files(pid):
    """What the descriptors of a process lead to; nothing if it is gone."""
    directory = f"/proc/{pid}/fd"
    try:
        for number in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):
                yield os.readlink(f"{directory}/{number}")
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return


class Server:
    def __init__(self, binary, directory):
        self.binary, self.directory = binary, directory
        self.port, self.tls_port, self.admin_port, self.extra_port = free_ports(4)
        self.reloads = self.rotations = self.upgrades = self.version = 0
        self.faults = []
        self.make_certificate()
        self.write_config()
        # The new process of an upgrade becomes a child of this one when the old one ends.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.log = (directory / "log").open("wb")
        process = subprocess.Popen(
            [binary, "run", "--config", directory / "tidegate.toml"],
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        self.lines = threading.Thread(target=self.drain, args=(process.stdout,), daemon=True)
        first = process.stdout.readline()
        self.pid = process.pid
        if b"listening on" not in first:
            self.stop()
            raise SystemExit(f"soak.sh: the server does not start: {self.log_text()}")
        self.lines.start()

    @staticmethod
    def drain(output):
        while output.readline():
            pass

    def make_certificate(self):
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        subprocess.run(
            [*command.split(), "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem"],
            cwd=self.directory,
            check=True,
            capture_output=True,
        )

    def config(self):
        limits = {"requests": 500 + self.version % 7, "connections": CONNECTIONS_MAX * (self.version % 4 == 3)}
        text = CONFIG.format(pipes_per_core=PIPES_PER_CORE, **limits, **vars(self))
        return text + (EXTRA_LISTENER.format(**vars(self)) if self.version % 2 else "")

    def write_config(self, fault=""):
        draft = self.directory / "draft.toml"
        draft.write_text(self.config() + fault)
        draft.rename(self.directory / "tidegate.toml")

    def log_text(self):
        return (self.directory / "log").read_text(errors="replace")

    def reload(self):
        """A reload with a fault, whose reason must be told, then one that must be applied."""
        self.reloads += 1
        if self.reloads % 4 == 0:
            told = len(self.log_text())
            self.write_config(FAULTS[self.reloads // 4 % len(FAULTS)])
            os.kill(self.pid, signal.SIGHUP)
            self.wait_for("the reason of a refused reload", lambda: "tidegate.toml:" in self.log_text()[told:])
        self.version += 1
        self.write_config()
        os.kill(self.pid, signal.SIGHUP)
        self.wait_for("a reload", lambda: self.served_version() == str(self.version))
        self.wait_for("a listener to change", lambda: self.extra_is_open() == bool(self.version % 2))

    def served_version(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("HEAD", "/large.bin")
            self.own_requests += 1
            return connection.getresponse().getheader("x-version")
        finally:
            connection.close()

    own_requests = 0

    def extra_is_open(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.extra_port)) == 0

    def rotate(self):
        self.rotations += 1
        log = self.directory / "access.log"
        log.rename(self.directory / f"access.log.{self.rotations}")
        os.kill(self.pid, signal.SIGUSR1)
        self.wait_for("the log to be opened again", log.exists)

    def upgrade(self):
        self.upgrades += 1
        old = self.pid
        os.kill(old, signal.SIGUSR2)
        self.wait_for("a new process", lambda: self.serving() - {old})
        self.wait_for("the old process to end", lambda: self.reaped(old))
        self.wait_for("one process to serve", lambda: len(self.serving()) == 1)
        self.pid = next(iter(self.serving()), old)
        self.wait_for("the new process to serve", lambda: self.served_version() == str(self.version))

    def serving(self):
        """The processes that listen on the port of the clients, whoever started them."""
        sockets = {f"socket:[{inode}]" for inode in listening(self.port)}
        return {int(pid) for pid in os.listdir("/proc") if pid.isdigit() and sockets & set(open_files(pid))}

    @staticmethod
    def reaped(pid):
        try:
            return os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            return not pathlib.Path(f"/proc/{pid}").exists()

    def wait_for(self, what, holds):
        end = time.monotonic() + CHANGE_SECONDS
        while time.monotonic() < end:
            try:
                if holds():
                    return
            except OSError as error:
                self.faults.append(f"waiting for {what}: {error!r}")
                return
            time.sleep(0.05)
        self.faults.append(f"waited in vain for {what}; the log ends with: {self.log_text()[-1000:]}")

    def usage(self):
        """Resident KiB, descriptors and threads; None if the server is gone."""
        process = pathlib.Path(f"/proc/{self.pid}")
        try:
            status = (process / "status").read_text()
            return {
                "rss": int(re.search(r"^VmRSS:\s+(\d+)", status, re.M)[1]),
                "threads": int(re.search(r"^Threads:\s+(\d+)", status, re.M)[1]),
                "files": sum(1 for _ in (process / "fd").iterdir()),
            }
        except (OSError, TypeError):
            return None

    def descriptors(self):
        """How many there are of each kind: sockets, pipes and so on, and each file. The files of the tree
        do not count: which of them the cache has open depends on what was asked for last."""
        tree = f"{self.directory}/tree/"
        names = (name for name in open_files(self.pid) if not name.startswith(tree))
        return collections.Counter(name if name[0] == "/" else name.split(":")[0] for name in names)

    def logged(self):
        """Lines of the access log for clients, in all its files, without those of this class."""
        count = 0
        for file in self.directory.glob("access.log*"):
            with file.open("rb") as lines:
                count += sum(line.startswith(CLIENT) for line in lines)
        return count - self.own_requests

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        end = time.monotonic() + STOP_SECONDS
        while not self.reaped(self.pid):
            if time.monotonic() > end:
                self.faults.append("the server did not stop")
                os.kill(self.pid, signal.SIGKILL)
                break
            time.sleep(0.05)
