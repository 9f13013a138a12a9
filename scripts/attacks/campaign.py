"""All attacks in a random order, some at a time, on a server that runs already."""

import os
import random
import subprocess
import threading
import time
from collections import Counter

from crowd import Crowd, raise_limit
from kinds import attacks

# How long one lasts.
LEAST_SECONDS, MOST_SECONDS = 2, 8
OPENSSL = ["openssl", "s_client", "-connect"]
# What a client types to have its keys changed, and both; and to have the handshake of TLS 1.2 again.
KEYS = {"TLS: key updates": ("-tls1_3", b"K"), "TLS: renegotiation": ("-tls1_2", b"R")}


def add_options(parser):
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tls-port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--together", type=int, default=2)
    parser.add_argument("--match", default="")


def run(options):
    raise_limit()
    # Others want the cores as well.
    os.nice(5)
    end = time.monotonic() + options.seconds
    turns = [Turn(options, number, end) for number in range(options.together)]
    for turn in turns:
        turn.start()
    try:
        for turn in turns:
            turn.join()
    finally:
        Turn.stopped.set()
        for turn in turns:
            turn.join()
        for name, times in sorted(Turn.times.items()):
            print(f"{times} times: {name}", flush=True)
    return 0


class Turn(threading.Thread):
    """One attack after the other."""

    stopped = threading.Event()
    # How often there was each.
    times = Counter()

    def __init__(self, options, number, end):
        super().__init__()
        self.options, self.end = options, end
        self.chance = random.Random(f"{options.seed}/{number}")
        crowds = [(kind.name, (kind, port)) for kind, port in attacks(options.port, options.tls_port)]
        everything = crowds + [(name, None) for name in KEYS]
        self.attacks = [pair for pair in everything if options.match in pair[0]]

    def run(self):
        # Each of them once before any comes again.
        left = []
        while not self.over():
            left = left or self.chance.sample(self.attacks, len(self.attacks))
            name, crowd = left.pop()
            seconds = min(self.chance.uniform(LEAST_SECONDS, MOST_SECONDS), self.end - time.monotonic())
            self.times[name] += 1
            told = self.one(name, crowd, max(0, seconds))
            print(f"{time.strftime('%H:%M:%S')} {name}: {told}", flush=True)

    def over(self):
        return self.stopped.is_set() or time.monotonic() >= self.end

    def one(self, name, crowd, seconds):
        if crowd is None:
            return change_keys(self.options.tls_port, *KEYS[name], time.monotonic() + seconds)
        kind, port = crowd
        return Crowd(kind, port, self.chance).run(seconds, self.over).words()


def change_keys(port, version, letter, end):
    """openssl does it at each letter that comes alone."""
    command = [*OPENSSL, f"127.0.0.1:{port}", version]
    letters = connections = 0
    while time.monotonic() < end and not Turn.stopped.is_set():
        connections += 1
        with subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as client:
            try:
                time.sleep(0.1)
                while time.monotonic() < end and client.poll() is None:
                    client.stdin.write(letter + b"\n")
                    letters += 1
                    time.sleep(0.002)
            except BrokenPipeError:
                pass
            client.kill()
    return f"{letters} letters on {connections} connections"
