#!/usr/bin/env python3
"""What a miss costs in front of an S3 store: an object asked from the store itself and through a cache that lacks it.

    AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... \\
        scripts/bench/miss.py --endpoint http://127.0.0.1:9000 --bucket BUCKET [--server target/release/tidegate]

Objects are uploaded by `tidegate publish` below a prefix of their own in the bucket, which has to be there, and
removed at the end. The client asks for each object of 1 MiB in turn from the store (`direct`), from tidegate, from
nginx with proxy_cache and slice (scripts/bench/caches.sh; if it is installed and the store speaks http), and once
more from tidegate (`hit`), each time on a new connection; then for as many others on connections that are kept. Who
is first moves on with each object. Times are in milliseconds, from when the request is sent (not from the
connect): medians, 90th percentiles in brackets, and the median of the ratios to `direct` of the same object.

Then one object of 1 GiB goes to one client in each way, and again with empty caches: MB/s.

The client has core 1, the caches have core 0; the store runs where it does. Every body is compared with what was
uploaded, and tidegate has to say in Cache-Status that it was a miss, or a hit. A host that has bbr paces loopback: then
run the store and this script in one namespace with cubic, `scripts/bench/netns.sh bash -c '...'`.
"""

import argparse
import contextlib
import datetime
import hashlib
import hmac
import http.client
import os
import pathlib
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts/lib"))

from started import free_port, started  # noqa: E402

MIB = 1 << 20
SMALL_BYTES = MIB
# Objects whose times do not count.
WARM_OBJECTS = 5
TIMEOUT_SECONDS = 120
# The store's clock need not be ours to the second, and a run takes a while.
SIGNED_SECONDS = 3600
# The ways to an object, in the order of the report.
NAMES = ("direct", "tidegate", "nginx", "hit")


class Wrong(Exception):
    """An answer is not what was asked for."""


class Store:
    """An S3 store and a prefix of a bucket there, asked by presigned URLs: AWS Signature Version 4 in the query."""

    def __init__(self, options, prefix):
        self.url = urllib.parse.urlsplit(options.endpoint)
        self.options, self.prefix = options, prefix
        self.key_id, self.secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        self.token = os.environ.get("AWS_SESSION_TOKEN")

    def target(self, name, method="GET"):
        """The target of a request for an object. A range is not signed, so that nginx may ask for slices with it."""
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{now[:8]}/{self.options.region}/s3/aws4_request"
        fields = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.key_id}/{scope}",
            "X-Amz-Date": now,
            "X-Amz-Expires": str(SIGNED_SECONDS),
            "X-Amz-SignedHeaders": "host",
        }
        if self.token:
            fields["X-Amz-Security-Token"] = self.token
        query = urllib.parse.urlencode(sorted(fields.items()), quote_via=urllib.parse.quote, safe="")
        path = urllib.parse.quote(f"/{self.options.bucket}/{self.prefix}/{name}")
        canonical = f"{method}\n{path}\n{query}\nhost:{self.url.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{self.secret}".encode()
        for part in (*scope.split("/"), text):
            key = hmac.digest(key, part.encode(), "sha256")
        return f"{path}?{query}&X-Amz-Signature={key.hex()}"

    def publish(self, directory):
        command = [self.options.server, "publish", directory, f"s3://{self.options.bucket}/{self.prefix}"]
        command += ["--endpoint", self.options.endpoint, "--region", self.options.region]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def remove(self, names):
        kind = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
        with contextlib.closing(kind(self.url.netloc, timeout=TIMEOUT_SECONDS)) as connection:
            for name in names:
                connection.request("DELETE", self.target(name, "DELETE"))
                connection.getresponse().read()


class Client:
    """One connection. `view` is where bodies go; of a longer one its end stays there."""

    def __init__(self, url, view):
        port = url.port or (443 if url.scheme == "https" else 80)
        self.host, self.view = url.netloc, view
        self.stream = socket.create_connection((url.hostname, port), TIMEOUT_SECONDS)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if url.scheme == "https":
            self.stream = ssl.create_default_context().wrap_socket(self.stream, server_hostname=url.hostname)

    def close(self):
        self.stream.close()

    def get(self, target, length):
        """Seconds to the first byte of the response and to the last, and its head."""
        request = f"GET {target} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode()
        start = time.perf_counter()
        self.stream.sendall(request)
        received = self.some()
        first = time.perf_counter()
        while b"\r\n\r\n" not in received:
            received += self.some()
        head, _, body = received.partition(b"\r\n\r\n")
        check_head(head.decode("latin-1"), target, length)
        self.view[: len(body)] = body
        count = len(body)
        while count < length:
            more = self.stream.recv_into(self.view[count % len(self.view) :])
            if more == 0:
                raise Wrong(f"{target}: {count} of {length} bytes came")
            count += more
        return first - start, time.perf_counter() - start, head.decode("latin-1")

    def some(self):
        # No more than a head and a little of the body: the rest is received in its place.
        piece = self.stream.recv(4096)
        if not piece:
            raise Wrong("the connection ended before a response")
        return piece


def check_head(head, target, length):
    lines = head.lower().split("\r\n")
    if lines[0].split()[1] != "200" or f"content-length: {length}" not in lines:
        raise Wrong(f"{target.partition('?')[0]}: 200 with {length} bytes was expected, not\n{head}")


class Way:
    """Where objects are asked for: the store, or a cache in front of it."""

    def __init__(self, name, url, target, status=None):
        self.name, self.url, self.target, self.status = name, url, target, status

    def ask(self, client, path):
        """Asks for the object that a file was uploaded as; seconds to its first byte and to its last."""
        length = path.stat().st_size
        first, whole, head = client.get(self.target(path.name), length)
        with path.open("rb") as file:
            file.seek(length - len(client.view))
            if file.read() != client.view:
                raise Wrong(f"{self.name}: {path.name} has other bytes")
        if self.status and f"tidegate; {self.status}" not in head:
            raise Wrong(f"{self.name}: Cache-Status is not {self.status}:\n{head}")
        return first, whole


def local(port):
    return urllib.parse.urlsplit(f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def caches(options, store):
    """The ways to an object, with caches that are empty, and removed afterwards."""
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.directory)))
        # Workers of nginx may have another user.
        directory.chmod(0o755)
        port = free_port()
        command = pinned(options.server, "run", tidegate_config(directory, port, store))
        stack.enter_context(started(command, port, directory / "log"))
        ways = [
            Way("direct", store.url, store.target),
            Way("tidegate", local(port), lambda name: f"/{name}", "fwd=uri-miss; stored"),
        ]
        if options.nginx:
            nginx = free_port()
            command = pinned("env", f"TMPDIR={directory}", ROOT / "scripts/bench/caches.sh", "nginx", nginx, store.url.netloc)
            stack.enter_context(started(command, nginx, directory / "log"))
            ways.append(Way("nginx", local(nginx), store.target))
        yield ways, Way("hit", local(port), lambda name: f"/{name}", "hit")


def pinned(*command):
    return ["taskset", "-c", "0", *map(str, command)]


def tidegate_config(directory, port, store):
    config = directory / "tidegate.toml"
    options = store.options
    config.write_text(
        f'[server]\ncores = "0-0"\ngraceful-timeout = "0s"\n[[listen]]\naddress = "127.0.0.1:{port}"\n'
        f'[cache.disk]\npath = "{directory}/cache"\nsize = "8g"\n[[site]]\nprecompressed = []\n'
        f'[[site.origin]]\ns3 = "{options.endpoint}/{options.bucket}/{store.prefix}"\nregion = "{options.region}"\n'
        '[[site.cache]]\nmatch = "/**"\nttl = "1h"\n'
    )
    return config


def in_turn(ways, number):
    """The ways in an order that moves on."""
    start = number % len(ways)
    return ways[start:] + ways[:start]


def small(ways, hit, paths, kept):
    """Of each object and way the seconds to the first byte and to the last."""
    view = memoryview(bytearray(SMALL_BYTES))
    found = []
    with contextlib.ExitStack() as stack:
        clients = {}
        for way in (*ways, hit) if kept else ():
            clients[way.name] = stack.enter_context(contextlib.closing(Client(way.url, view)))
        for number, path in enumerate(paths):
            found.append({})
            for way in (*in_turn(ways, number), hit):
                with contextlib.ExitStack() as fresh:
                    client = clients.get(way.name) or fresh.enter_context(contextlib.closing(Client(way.url, view)))
                    found[-1][way.name] = way.ask(client, path)
    return found[WARM_OBJECTS:]


def report_small(title, found):
    print(f"{title}, {len(found)} objects of 1 MiB")
    for name in filter(found[0].get, NAMES):
        print(f"  {name:9} first byte {spread(found, name, 0)}   whole {spread(found, name, 1)}", flush=True)


def spread(found, name, which):
    times = [1000 * each[name][which] for each in found]
    ratio = statistics.median(each[name][which] / each["direct"][which] for each in found)
    ninetieth = statistics.quantiles(times, n=10, method="inclusive")[-1] if len(times) > 1 else times[0]
    return f"{statistics.median(times):7.2f} ms ({ninetieth:7.2f}) ratio {ratio:5.2f}"


def large(options, store, path):
    """Bytes per second of the large object, in each round and way, with caches that are empty."""
    view = memoryview(bytearray(MIB))
    found = []
    for number in range(options.large_rounds):
        with caches(options, store) as (ways, _):
            found.append({})
            for way in in_turn(ways, number):
                with contextlib.closing(Client(way.url, view)) as client:
                    found[-1][way.name] = path.stat().st_size / way.ask(client, path)[1]
    return found


def report_large(found, mebibytes):
    print(f"an object of {mebibytes} MiB, {len(found)} times")
    for name in filter(found[0].get, NAMES):
        rates = [each[name] / 1e6 for each in found]
        ratio = statistics.median(each[name] / each["direct"] for each in found)
        middle, ends = statistics.median(rates), f"({min(rates):.0f} to {max(rates):.0f})"
        print(f"  {name:9} {middle:7.0f} MB/s {ends} ratio {ratio:5.2f}", flush=True)


def write_random(path, mebibytes):
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(MIB))
    return path


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", required=True, help="of the store, without the bucket")
    parser.add_argument("--bucket", required=True, help="which is there; what was uploaded is removed again")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--server", type=lambda name: pathlib.Path(name).resolve(), default=ROOT / "target/release/tidegate")
    parser.add_argument("--objects", type=int, default=100, help="of 1 MiB, for each kind of connection; 0 for none")
    parser.add_argument("--large-mebibytes", type=int, default=1024)
    parser.add_argument("--large-rounds", type=int, default=3, help="0 for none")
    parser.add_argument("--directory", type=pathlib.Path, help="on a real disk, for caches and files; default: TMPDIR")
    parser.add_argument("--no-nginx", dest="nginx", action="store_false")
    options = parser.parse_args()
    if not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= os.environ.keys():
        parser.error("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY have to be set")
    options.endpoint = options.endpoint.rstrip("/")
    options.nginx = options.nginx and options.endpoint.startswith("http:") and shutil.which("nginx") is not None
    return options


def main():
    options = parse()
    store = Store(options, f"tidegate-bench-{os.getpid()}")
    with contextlib.ExitStack() as stack:
        files = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.directory)))
        count = options.objects and options.objects + WARM_OBJECTS
        new, kept = (
            [write_random(files / f"{kind}-{number}.bin", SMALL_BYTES // MIB) for number in range(count)]
            for kind in ("new", "kept")
        )
        big = [write_random(files / "large.bin", options.large_mebibytes)] if options.large_rounds else []
        stack.callback(store.remove, [path.name for path in (*new, *kept, *big)])
        store.publish(files)
        os.sched_setaffinity(0, {1})
        if count:
            with caches(options, store) as (ways, hit):
                report_small("a new connection for each", small(ways, hit, new, False))
                report_small("a connection that is kept", small(ways, hit, kept, True))
        if big:
            report_large(large(options, store, big[0]), options.large_mebibytes)


if __name__ == "__main__":
    main()
