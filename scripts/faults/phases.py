"""The phases of a server's life: what is done in each while calls fail, and how it must be after that.

A phase is one class: `server` makes the server, `drive` has it do the phase, and `is_well` tells whether
it does the same again without faults.
"""

import contextlib
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import clients
from clients import ENDED, RIGHT, Connection, Tally, ask, ask_http2, judge, tls_context
from server import BOUND_SECONDS, Server
from tracing import wait_until


class Phase:
    """The server runs already when calls begin to fail."""

    from_the_start = False
    # Faults that cannot be here, as (call, error): flags are read here, and no descriptors duplicated.
    impossible = frozenset([("fcntl", "EMFILE")])

    def __init__(self, files):
        self.files = files

    def server(self, binary, directory):
        return Server(binary, directory)

    def prepare(self, server):
        """Before the faults."""

    def drive(self, server, tally):
        raise NotImplementedError

    def is_well(self, server):
        return server.serves(self.files.small[:2] + self.files.large[:1])

    def ends(self, server):
        """Whether the server has to end."""
        return False

    def close(self):
        """After the server."""


class Start(Phase):
    """From exec on."""

    impossible = frozenset()
    from_the_start = True

    def drive(self, server, tally):
        ask(server.ports[0], self.files.small[:4], tally)


class Small(Phase):
    """Files that are sent from memory, on kept and new connections, found and not."""

    def drive(self, server, tally):
        for _ in range(2):
            ask(server.ports[0], self.files.small, tally)
            ask(server.ports[0], self.files.small[:4], tally, kept=False)


class Large(Phase):
    """Files that are sent from the page cache by splice."""

    def drive(self, server, tally):
        for _ in range(2):
            ask(server.ports[0], self.files.large, tally)
            ask(server.ports[0], self.files.large[:1], tally, kept=False)


class Tls(Phase):
    """Handshakes, and bodies of both kinds."""

    def drive(self, server, tally):
        for _ in range(2):
            files = self.files.small[:4] + self.files.large
            ask(server.ports[1], files, tally, tls_context())
            ask(server.ports[1], self.files.small[:3], tally, tls_context(), kept=False)


class Http2(Phase):
    """Streams beside each other, with and without TLS."""

    def drive(self, server, tally):
        for _ in range(3):
            ask_http2(server.ports[1], self.files.small[:6] + self.files.large, tally)


class Origin(Phase):
    """Objects of another server, in slices and whole, and again from the disk."""

    # epoll tells of edges: none follows where the socket was ready in truth.
    impossible = Phase.impossible | {(call, "EAGAIN") for call in ("recvfrom", "sendto", "writev")}

    def __init__(self, files):
        super().__init__(files)
        self.origin = ThreadingHTTPServer(("127.0.0.1", 0), handler(files.objects))
        self.thread = threading.Thread(target=self.origin.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def server(self, binary, directory):
        port = self.origin.server_address[1]
        more = '[cache.disk]\npath = "objects"\nsize = "1g"\n'
        site = f'[[site.origin]]\nhttp = "http://127.0.0.1:{port}"\nnegative = "0s"\n'
        return Server(binary, directory, more, site)

    def drive(self, server, tally):
        objects = list(self.files.objects.items())[:4]
        for _ in range(2):
            ask(server.ports[0], objects, tally)
            ask(server.ports[1], objects[:2], tally, tls_context())

    def is_well(self, server):
        # One of them was never asked for.
        return server.serves(list(self.files.objects.items())) and super().is_well(server)

    def close(self):
        self.origin.shutdown()
        self.origin.server_close()
        self.thread.join()


def handler(objects):
    class Handler(BaseHTTPRequestHandler):
        """Has the objects, whole or by one range."""

        protocol_version = "HTTP/1.1"

        def do_GET(self):
            content = objects.get(self.path)
            if content is None:
                self.send_response(404)
                self.send_header("Content-Length", "0")
                return self.end_headers()
            asked = self.headers.get("Range")
            begin, end = 0, len(content)
            if asked:
                first, last = asked.removeprefix("bytes=").split("-")
                begin, end = int(first), min(int(last) + 1 if last else end, end)
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
            self.send_header("ETag", f'"{self.path}"')
            self.send_header("Cache-Control", "max-age=600")
            self.send_header("Content-Length", str(end - begin))
            self.end_headers()
            self.wfile.write(content[begin:end])

        def handle(self):
            # The server under test may end or cut a connection.
            with contextlib.suppress(OSError):
                super().handle()

        def log_message(self, *_):
            pass

    return Handler


class Reload(Phase):
    """HUP with another configuration."""

    impossible = frozenset()

    def drive(self, server, tally):
        self.reload(server)
        end = time.monotonic() + 3
        while time.monotonic() < end and not self.is_applied(server):
            ask(server.ports[0], self.files.small[:2], tally)
        ask(server.ports[0], self.files.small[:2] + self.files.large[:1], tally)

    @staticmethod
    def reload(server):
        server.version += 1
        server.write_config()
        server.signal(signal.SIGHUP)

    def is_applied(self, server):
        target, _ = self.files.small[0]
        try:
            with Connection(server.ports[0]) as connection:
                response = connection.get(target)
                return response and response[1].get("x-version") == str(server.version)
        except OSError:
            return False

    def is_well(self, server):
        self.reload(server)
        applied = wait_until(lambda: self.is_applied(server), BOUND_SECONDS)
        return applied and super().is_well(server)


class Reopen(Phase):
    """USR1: the access log is opened again."""

    def drive(self, server, tally):
        ask(server.ports[0], self.files.small[:4], tally)
        self.rotate(server)
        ask(server.ports[0], self.files.small[:4], tally)
        wait_until((server.directory / "access.log").exists, 1)
        ask(server.ports[0], self.files.small[:4], tally)
        # Lines are written once a second.
        time.sleep(1.2)

    @staticmethod
    def rotate(server):
        log = server.directory / "access.log"
        if log.exists():
            log.rename(server.directory / "access.log.1")
        server.signal(signal.SIGUSR1)

    def is_well(self, server):
        self.rotate(server)
        log = server.directory / "access.log"
        return (
            wait_until(log.exists, BOUND_SECONDS)
            and super().is_well(server)
            and wait_until(lambda: log.stat().st_size > 0, BOUND_SECONDS)
        )


class Upgrade(Phase):
    """USR2: the binary starts again, on the same listeners."""

    impossible = frozenset()

    def drive(self, server, tally):
        server.signal(signal.SIGUSR2)
        end = time.monotonic() + 4
        while time.monotonic() < end and not server.has_ended():
            ask(server.ports[0], self.files.small[:2], tally)
            time.sleep(0.05)
        ask(server.ports[0], self.files.small[:2] + self.files.large[:1], tally)


class Stop(Phase):
    """TERM, with a download under way."""

    def prepare(self, server):
        self.connection = Connection(server.ports[0])
        target, _ = self.files.large[-1]
        request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        self.connection.socket.sendall(request.encode())

    def drive(self, server, tally):
        server.signal(signal.SIGTERM)
        time.sleep(0.3)
        try:
            outcome = judge(self.connection.response(), self.files.large[-1][1])
        except TimeoutError:
            outcome = clients.HANGS, "the download does not go on"
        except OSError:
            outcome = ENDED, ""
        tally.add(*outcome)
        self.connection.close()
        wait_until(server.has_ended, BOUND_SECONDS)

    def ends(self, server):
        return True


PHASES = {
    "start": Start,
    "small": Small,
    "large": Large,
    "tls": Tls,
    "http2": Http2,
    "origin": Origin,
    "reload": Reload,
    "reopen": Reopen,
    "upgrade": Upgrade,
    "stop": Stop,
}
