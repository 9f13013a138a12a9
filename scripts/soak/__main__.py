"""The load of soak.sh, what is done to the server meanwhile, and the verdict."""

import argparse
import collections
import contextlib
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from clients import CLIENTS, Tally
from server import POOLED_MAX, Server
from site_tree import SiteTree

# Growth of a median from the middle third of the time to the last third that is not a leak.
GROWTH_PERCENT_MAX = 5
GROWTH_LEAST = {"rss": 2048, "files": 8, "threads": 4}

# With attacks, the part of them in which the last process lives.
LAST_PART = 0.25
# Connections that nobody ends do so by timeouts (server.py) in less.
REST_SECONDS = 60
SAMPLES_AT_REST = 10
ATTACKS = pathlib.Path(__file__).parents[1] / "attacks"


def options():
    parser = argparse.ArgumentParser(description="A server's life in some minutes.")
    parser.add_argument("--server", required=True, type=pathlib.Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--reload-seconds", type=float, default=5)
    parser.add_argument("--rotate-seconds", type=float, default=7)
    parser.add_argument("--upgrade-seconds", type=float, default=31)
    parser.add_argument("--requests", type=int, default=None)
    parser.add_argument("--attacks", action="store_true")
    parser.add_argument("--quiet-minutes", type=float, default=2)
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
            self.server.faults.append(f"the server is gone: {self.server.log_text()[-1000:]}")
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


def load(server, tree, tally, chosen, minutes, seconds, upgrades_end):
    """Clients, files that change, reloads, rotations, and upgrades until `upgrades_end`."""
    begin, stop = time.monotonic(), threading.Event()
    threads = [
        threading.Thread(target=client, args=(server, tree, tally, random.Random(number), stop))
        for number, client in enumerate(CLIENTS)
    ]
    for thread in threads:
        thread.start()

    def upgrade():
        if time.monotonic() < begin + upgrades_end:
            server.upgrade()

    schedule = Schedule(
        [
            (1, minutes.sample),
            (0.1, tree.change),
            (chosen.reload_seconds, server.reload),
            (chosen.rotate_seconds, server.rotate),
            (chosen.upgrade_seconds, upgrade),
        ]
    )
    try:
        while time.monotonic() < begin + seconds and not server.faults:
            if chosen.requests and tally.requests >= chosen.requests:
                break
            schedule.run_due()
            time.sleep(0.02)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    minutes.print(minutes.samples[-1][1])


def soak(server, tree, tally, chosen):
    """Runs for the time asked. The faults that were found."""
    minutes = Minutes(server, tally)
    seconds = chosen.minutes * 60
    if chosen.attacks:
        return list(attacked(server, tree, tally, chosen, minutes, seconds))
    load(server, tree, tally, chosen, minutes, seconds, seconds)
    return [] if server.faults else list(minutes.grown())


def attacked(server, tree, tally, chosen, minutes, seconds):
    """The same with attacks, and a server at rest before and after them, which must use as much."""
    quiet = chosen.quiet_minutes * 60
    # So that both have begun in the same way.
    server.upgrade()
    load(server, tree, tally, chosen, minutes, quiet, 0)
    before = Rest(server)
    with campaign(server, chosen):
        load(server, tree, tally, chosen, minutes, seconds, seconds * (1 - LAST_PART))
    load(server, tree, tally, chosen, minutes, quiet, 0)
    if server.faults:
        return
    after = Rest(server, before)
    print(f"at rest before: {before.words()}")
    print(f"at rest after:  {after.words()}")
    yield from after.faults(before)


@contextlib.contextmanager
def campaign(server, chosen):
    """All attacks, while the body runs; tells how often there was each."""
    log = server.directory / "attacks.log"
    command = [sys.executable, "-B", ATTACKS, "run", "--port", server.port, "--tls-port", server.tls_port]
    # It is ended, with the load beside it.
    command += ["--seed", chosen.seed, "--seconds", chosen.minutes * 60 + 600]
    with log.open("wb") as output:
        process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=output)
    try:
        yield
        if process.poll() is not None:
            server.faults.append(f"the attacks ended: {log.read_text()[-1000:]}")
    finally:
        process.terminate()
        process.wait()
        lines = log.read_text().splitlines()
        print("\n".join(line for line in lines if " times: " in line))
        server.faults += [line for line in lines if "Error" in line]


class Rest:
    """What a server uses while nobody asks for anything; waits until that is as it was `before`."""

    def __init__(self, server, before=None):
        # The limits and listeners of a version, the same each time.
        while server.version % 4:
            server.reload()
        end = time.monotonic() + REST_SECONDS
        while time.monotonic() < end:
            self.descriptors = server.descriptors()
            if before and self.descriptors == before.descriptors:
                break
            time.sleep(1)
        usages = []
        for _ in range(SAMPLES_AT_REST):
            usages.append(server.usage())
            time.sleep(1)
        self.rss = statistics.median(usage["rss"] for usage in usages)
        self.threads = statistics.median(usage["threads"] for usage in usages)

    def words(self):
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.descriptors.items()))
        return f"{self.rss:.0f} KiB are resident, {self.threads:.0f} threads, {kinds}"

    def faults(self, before):
        """A line for each thing of which there is more than before."""
        if self.rss > before.rss * (1 + GROWTH_PERCENT_MAX / 100):
            yield f"{self.rss / before.rss - 1:.1%} more memory than before the attacks"
        if self.threads > before.threads:
            yield f"{self.threads} threads, {before.threads} before the attacks"
        more = self.descriptors - before.descriptors - collections.Counter(pipe=POOLED_MAX)
        if more:
            yield f"descriptors that were not there before the attacks: {dict(more)}"


def verdict(server, tally, faults):
    faults += server.faults
    faults += [f"failed: {failure}" for failure in tally.failures[:20]]
    faults += [line for line in server.log_text().splitlines() if "panic" in line]
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
