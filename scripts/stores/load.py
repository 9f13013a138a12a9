"""Clients that ask for objects in a loop and compare every one."""

import random
import threading
import time
from urllib.parse import quote

from node import sha256
from outcome import Failed
from store import eventually


class Load:
    """Asks `nodes`, of which some may go and come, for the files of `sums` until the end of the body."""

    def __init__(self, sums, nodes, clients=6):
        self.sums = sums
        self.lock = threading.Lock()
        # The nodes that are asked, each with the time since when.
        self.up = {node: 0 for node in nodes}
        self.requests = 0
        self.errors = []
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.client, args=(number,)) for number in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def client(self, number):
        chance = random.Random(number)
        names = list(self.sums)
        while not self.stop.is_set():
            with self.lock:
                node, since = chance.choice(list(self.up.items()))
            name = chance.choice(names)
            error = self.error_of(node, name)
            with self.lock:
                # What a node did that was to be killed meanwhile does not count.
                if self.up.get(node) == since:
                    self.requests += 1
                    if error:
                        self.errors.append(f"{node.directory.name}, {name}: {error}")

    def error_of(self, node, name):
        try:
            answer = node.ask(node.port, quote(f"/{name}"))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        if answer.status != 200:
            return f"status {answer.status}"
        return None if sha256(answer.body).digest() == self.sums[name] else "it differs"

    def leave_out(self, node):
        """Asks it no more; what it still answers does not count."""
        with self.lock:
            del self.up[node]

    def take_in(self, node):
        with self.lock:
            self.up[node] = time.monotonic()

    def go_on(self, seconds, requests=20):
        """Lets the clients go on for a while, and for some requests at least."""
        before = self.requests
        time.sleep(seconds)
        eventually("more requests", lambda: self.requests >= before + requests or self.errors, 60)
        self.check()

    def check(self):
        with self.lock:
            if self.errors:
                raise Failed(f"{len(self.errors)} errors in {self.requests} requests: {'; '.join(self.errors[:3])}")
