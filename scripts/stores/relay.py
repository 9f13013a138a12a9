"""Counts what a store is asked for: a relay in front of it."""

import socket
import threading
from collections import Counter

BYTES = 1 << 18


class Relay:
    """Passes connections on to a port of the loopback, and counts the requests, none of which has a body."""

    def __init__(self, host, port):
        self.target = port
        self.lock = threading.Lock()
        # By path and range.
        self.gets = Counter()
        self.listener = socket.create_server((host, 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            store = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        back = threading.Thread(target=pump, args=(store, client), daemon=True)
        back.start()
        rest = b""

        def count(data):
            nonlocal rest
            *heads, rest = (rest + data).split(b"\r\n\r\n")
            for head in heads:
                self.count(head.decode("latin-1"))

        pump(client, store, count)
        back.join()
        client.close()
        store.close()

    def count(self, head):
        request, *lines = head.split("\r\n")
        method, target, _ = request.split(" ")
        fields = dict(line.lower().split(": ", 1) for line in lines)
        if method == "GET":
            with self.lock:
                self.gets[target, fields.get("range")] += 1

    def take(self):
        """What was counted since the last time."""
        with self.lock:
            taken, self.gets = self.gets, Counter()
        return taken

    def close(self):
        self.listener.close()


def pump(source, target, see=lambda data: None):
    """Passes on what comes, and the end."""
    try:
        while data := source.recv(BYTES):
            see(data)
            target.sendall(data)
    except OSError:
        pass
    # Both directions end with one: HTTP has no use for half a connection.
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
