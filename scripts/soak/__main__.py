"""The load of soak.sh, what is done to the server meanwhile, and the verdict."""

import argparse
import pathlib
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time

from clients import CLIENTS, Tally
from server import Server
from site_tree import SiteTree

# Growth of a median from the middle third of the time to the last third that is not a leak.
GROWTH_PERCENT_MAX = 5
GROWTH_LEAST = {"rss": 2048, "files": 8, "threads": 4}


def options():
    parser = argparse.ArgumentParser(description="A server's life in some minutes.")
    parser.add_argument("--server", required=True, type=pathlib.Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--reload-seconds", type=float, default=5)
    parser.add_argument("--rotate-seconds", type=float, default=7)
    parser.add_argument("--upgrade-seconds", type=float, default=31)
    parser.add_argument("--requests", type=int, default=None)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


class Schedule:
    """Calls each action at its interval, one at a time."""

    def __init__(self, actions):
        now = time.monotonic()
        self.actions = [[now + seconds, seconds, act] for seconds, act in actions if seconds > 0]

    def run_due(self):
        for action in self.actions:
            if time.monotonic() >= action[0]:
                action[2]()
                action[0] = time.monotonic() + action[1]


class Minutes:
    """What the server uses, sampled each second and printed each minute."""

    def __init__(self, server, tally):
        self.server, self.tally = server, tally
        self.begin = time.monotonic()
        self.samples = []
        print("minute    rss-KiB  files  threads   requests  failed  reloads  rotations  upgrades")

    def sample(self):
        usage = self.server.usage()
        if usage is None:
            return
        before = self.minute()
        self.samples.append((time.monotonic() - self.begin, usage))
        if self.minute() != before or len(self.samples) == 1:
            self.print(usage)

    def minute(self):
        return int(self.samples[-1][0] // 60) if self.samples else 0

    def print(self, usage):
        server, tally = self.server, self.tally
        print(
            f"{self.samples[-1][0] / 60:6.1f}  {usage['rss']:9}  {usage['files']:5}  {usage['threads']:7}"
            f"  {tally.requests:9}  {len(tally.failures):6}  {server.reloads:7}  {server.rotations:9}"
            f"  {server.upgrades:8}",
            flush=True,
        )

    def grown(self):
        """A line for each thing of which more is used in the last third than in the middle one."""
        whole = time.monotonic() - self.begin
        for kind, least in GROWTH_LEAST.items():
            middle, last = (
                statistics.median(
                    usage[kind] for at, usage in self.samples if third / 3 < at / whole <= (third + 1) / 3
                )
                for third in (1, 2)
            )
            print(f"{kind}: {middle:.0f} in the middle third, {last:.0f} in the last")
            if last > middle + max(least, middle * GROWTH_PERCENT_MAX / 100):
                yield f"{kind} grows"


def soak(server, tree, tally, chosen):
    """Runs for the time asked. The faults that were found."""
    stop = threading.Event()
    threads = [
        threading.Thread(target=client, args=(server, tree, tally, random.Random(number), stop))
        for number, client in enumerate(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    minutes = Minutes(server, tally)
    schedule = Schedule(
        [
            (1, minutes.sample),
            (0.1, tree.change),
            (chosen.reload_seconds, server.reload),
            (chosen.rotate_seconds, server.rotate),
            (chosen.upgrade_seconds, server.upgrade),
        ]
    )
    end = time.monotonic() + chosen.minutes * 60
    try:
        while time.monotonic() < end and not server.faults:
            if chosen.requests and tally.requests >= chosen.requests:
                break
            schedule.run_due()
            time.sleep(0.02)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    minutes.print(minutes.samples[-1][1])
    return [] if server.faults else list(minutes.grown())


def verdict(server, tally, faults):
    faults += server.faults
    faults += [f"failed: {failure}" for failure in tally.failures[:20]]
    logged = server.logged()
    print(f"requests: {tally.requests}, lines of the access log: {logged}")
    # A client that leaves early may be gone before its request is read.
    if not tally.requests - tally.given_up <= logged <= tally.requests:
        faults.append("the access log does not have each request once")
    for fault in faults:
        print(fault)
    print("verdict:", "FAILS" if faults else "holds")
    return 1 if faults else 0


def main():
    chosen = options()
    if not shutil.which("openssl"):
        sys.exit("soak.sh: openssl is not installed (apt-get install openssl)")
    # So that the server is stopped however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="tidegate-soak-") as name:
        directory = pathlib.Path(name)
        tree = SiteTree(directory / "tree", random.Random(chosen.seed))
        tally = Tally()
        server = Server(chosen.server.resolve(), directory)
        try:
            faults = soak(server, tree, tally, chosen)
        finally:
            server.stop()
        sys.exit(verdict(server, tally, faults))


main()
