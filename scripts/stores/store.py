"""Stores that are started, killed and started again: Ceph's gateway, and Garage."""

import secrets
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from outcome import Failed
from started import end, free_port

START_SECONDS = 60
BUCKET = "assets"
CEPH_TOOLS = ("bash", "ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "curl", "monmaptool", "radosgw", "radosgw-admin")
# From its first one; see ceph.sh.
CEPH_PORTS = 64


class Store:
    """The process that speaks S3, and what is needed to speak with it."""

    def __init__(self, region, port, access, secret):
        self.region, self.port, self.access, self.secret = region, port, access, secret
        self.process = None

    def run(self, command, log, environment=None):
        """Starts `command`, with which it is also started again."""
        self.command, self.log, self.environment = command, log, environment
        self.start()

    def start(self):
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(self.command, stdout=output, stderr=output, env=self.environment)
        eventually(f"{self.command[0]} answers", self.answers, START_SECONDS)

    def answers(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.command[0]} ended: {self.log.read_text(errors='replace')[-500:]}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process:
            end(self.process)

    def url(self, bucket=BUCKET, port=None, host="127.0.0.1"):
        return f"http://{host}:{port or self.port}/{bucket}"


@contextmanager
def ceph(work):
    """A Ceph with an empty bucket."""
    directory = work / "ceph"
    directory.mkdir()
    first = free_ports(CEPH_PORTS)
    store = Store("us-east-1", first + 2, "AK" + secrets.token_hex(8).upper(), secrets.token_hex(20))
    script = Path(__file__).with_name("ceph.sh")
    command = [script, directory, str(first), store.access, store.secret]
    log = work / "ceph.log"
    with log.open("ab") as output:
        cluster = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        eventually("Ceph is ready", lambda: "\nready\n" in text_of(log, cluster), START_SECONDS)
        gateway = ["radosgw", "-f", "-c", str(directory / "ceph.conf"), "-n", "client.rgw.a"]
        store.run(gateway, work / "radosgw.log")
        make_bucket(store)
        yield store
    finally:
        store.stop()
        end(cluster)


def text_of(log, process):
    text = log.read_text(errors="replace")
    if process.poll() is not None:
        raise Failed(f"it ended: {text[-500:]}")
    return text


def free_ports(count):
    """The first of `count` free ports in a row."""
    for first in range(20000, 30000, count):
        if all(is_free(port) for port in range(first, first + count)):
            return first
    raise Failed(f"no {count} free ports in a row")


def is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def make_bucket(store):
    credentials = f'user = "{store.access}:{store.secret}"\n'
    command = ["curl", "--silent", "--show-error", "--fail", "--max-time", "30", "--config", "-"]
    command += ["--aws-sigv4", f"aws:amz:{store.region}:s3", "--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
    subprocess.run([*command, "--request", "PUT", store.url()], input=credentials, text=True, check=True)


GARAGE = """\
metadata_dir = "{directory}/meta"
data_dir = "{directory}/data"
replication_factor = {copies}
rpc_bind_addr = "127.0.0.1:{rpc}"
rpc_public_addr = "127.0.0.1:{rpc}"
rpc_secret = "{rpc_secret}"

[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:{port}"
"""


def garage_store(directory, copies, rpc_secret, key):
    """A node of Garage that is configured, and not started."""
    directory.mkdir()
    store = Store("garage", free_port(), *key)
    store.rpc, store.config = free_port(), directory / "garage.toml"
    values = {"directory": directory, "copies": copies, "rpc": store.rpc, "rpc_secret": rpc_secret}
    store.config.write_text(GARAGE.format(port=store.port, **values), encoding="utf-8")
    store.config.chmod(0o600)
    return store


def garage_key():
    return "GK" + secrets.token_hex(12), secrets.token_hex(32)


@contextmanager
def garage(program, work):
    """A Garage of one node with an empty bucket."""
    store = garage_store(work / "garage", 1, secrets.token_hex(32), garage_key())
    command = [program, "-c", str(store.config), "server", "--single-node", "--default-bucket"]
    default = {"ACCESS_KEY": store.access, "SECRET_KEY": store.secret, "BUCKET": BUCKET}
    try:
        store.run(command, work / "garage.log", {f"GARAGE_DEFAULT_{name}": value for name, value in default.items()})
        yield store
    finally:
        store.stop()


@contextmanager
def garages(program, work, count):
    """Nodes of Garage that all have a copy of all, with an empty bucket."""
    rpc_secret, key = secrets.token_hex(32), garage_key()
    stores = [garage_store(work / f"garage-{number}", count, rpc_secret, key) for number in range(count)]

    def tell(*command, store=stores[0]):
        command = [program, "-c", str(store.config), *command]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise Failed(f"garage {command[3]}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    try:
        for number, store in enumerate(stores):
            store.run([program, "-c", str(store.config), "server"], work / f"garage-{number}.log")
        names = [tell("node", "id", "-q", store=store) for store in stores]
        for name in names[1:]:
            tell("node", "connect", name)
        for number, name in enumerate(names):
            tell("layout", "assign", "-z", f"zone{number}", "-c", "1G", name.split("@")[0])
        tell("layout", "apply", "--version", "1")
        tell("key", "import", "--yes", "-n", "tidegate", *key)
        tell("bucket", "create", BUCKET)
        tell("bucket", "allow", "--read", "--write", "--owner", BUCKET, "--key", key[0])
        yield stores
    finally:
        for store in stores:
            store.stop()


def eventually(what, condition, seconds=30):
    """Waits until the condition holds; what it gives."""
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise Failed(f"never: {what}")
        time.sleep(0.1)
