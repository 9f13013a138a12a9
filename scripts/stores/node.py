"""The server under test in front of a store, and its clients."""

import hashlib
import http.client
import re
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

from outcome import Failed
from started import end, free_port
from store import eventually

TIMEOUT_SECONDS = 30
# What clients and files are compared by.
sha256 = hashlib.sha256


@dataclass(frozen=True)
class Answer:
    status: int
    fields: http.client.HTTPMessage
    body: bytes

    @property
    def cache(self):
        return self.fields.get("cache-status", "").removeprefix("tidegate; ")


class Node:
    """A tidegate whose configuration is `config`, with two listeners in front."""

    def __init__(self, program, directory, config, environment, host="127.0.0.1", within=()):
        directory.mkdir(exist_ok=True)
        self.program, self.directory, self.environment = program, directory, environment
        self.host, self.within = host, list(within)
        self.port, self.admin = free_port(), free_port()
        self.log = directory / "tidegate.log"
        self.process = None
        self.configure(config)

    def configure(self, config):
        head = f'[admin]\nlisten = "{self.host}:{self.admin}"\n[[listen]]\naddress = "{self.host}:{self.port}"\n'
        (self.directory / "tidegate.toml").write_text(head + config, encoding="utf-8")

    def start(self):
        command = [*self.within, self.program, "run", self.directory / "tidegate.toml"]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, env=self.environment)
        eventually("tidegate answers", self.is_ready)

    def is_ready(self):
        if self.process.poll() is not None:
            raise Failed(f"tidegate ended: {self.text()[-1000:]}")
        try:
            return self.ask(self.admin, "/readyz").status == 200
        except OSError:
            return False

    def reload(self, config):
        self.configure(config)
        self.process.send_signal(signal.SIGHUP)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process:
            end(self.process)

    def text(self):
        """Its log."""
        return self.log.read_text(errors="replace")

    def ask(self, port, path, fields=None, method="GET"):
        connection = http.client.HTTPConnection(self.host, port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, path, headers={"accept-encoding": "identity", **(fields or {})})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path, method="GET", **fields):
        """An object by its name; fields as `if_none_match`."""
        fields = {name.replace("_", "-"): value for name, value in fields.items()}
        return self.ask(self.port, quote(path), fields, method)

    def metric(self, name):
        """The sum of a metric over all of its labels."""
        text = self.ask(self.admin, "/metrics").body.decode()
        return sum(float(value) for value in re.findall(rf"^tidegate_{name}(?:{{.*}})? (\S+)$", text, re.M))


@contextmanager
def running(*arguments, **options):
    node = Node(*arguments, **options)
    try:
        node.start()
        yield node
    finally:
        node.stop()


def environment(access, secret, home):
    """Of a program that finds these credentials and no others."""
    return {
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret,
    }


def publish(program, tree, store, prefix, *flags):
    """What `tidegate publish` prints; fails if it does."""
    command = [program, "publish", tree, f"s3://{prefix}", "--endpoint", f"http://127.0.0.1:{store.port}"]
    command += ["--region", store.region, *flags]
    home = environment(store.access, store.secret, tree)
    done = subprocess.run(command, env=home, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise Failed(f"status {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout

