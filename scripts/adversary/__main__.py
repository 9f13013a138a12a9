"""Adversaries of HTTP/2 against the real binary. Run by scripts/adversary.sh, which has the usage.

Prints a table; the exit status is 1 if the server did wrong.
"""

import argparse
import collections
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import floods
import random_peer
import servers
import site_files
from abuses import FLOODS, SIEGES, TIMEOUT_SECONDS
from started import free_port, started
from witness import Wrong

HERE = Path(__file__).parent
# The timeouts of tidegate, by the parts of this: sieges wait for them.
TIMEOUTS = {"random": "20s", "floods": "20s", "sieges": f"{TIMEOUT_SECONDS}s"}
# Random sequences between two questions whether the server is well.
BATCH = 20
KINDS = {kind.name.lower(): kind for kind in servers.HTTP2_KINDS}


def main():
    arguments = parse()
    program = shutil.which(arguments.server)
    if not program:
        sys.exit(f"no program {arguments.server}")
    with tempfile.TemporaryDirectory(prefix="adversary-") as directory:
        work = Path(directory)
        work.chmod(0o755)
        site_files.plant(work / "tree")
        problems = []
        for part in arguments.only:
            with serving(str(Path(program).absolute()), work, TIMEOUTS[part]) as subject:
                problems += run(part, subject, arguments)
    for problem in problems:
        print(f"WRONG: {problem}")
    return 1 if problems else 0


def parse():
    parser = argparse.ArgumentParser(prog="scripts/adversary.sh")
    parser.add_argument("--server", metavar="PROGRAM", required=True)
    parser.add_argument(
        "--only", metavar="PART,..", type=lambda text: text.split(","), default=list(TIMEOUTS)
    )
    parser.add_argument("--seeds", metavar="N", type=int, default=500)
    parser.add_argument("--jobs", metavar="N", type=int, default=4)
    parser.add_argument("--first", metavar="SEED", type=int, default=0)
    parser.add_argument("--seconds", metavar="S", type=float, default=2.0)
    parser.add_argument("--match", metavar="WORDS", default="")
    return parser.parse_args()


class Subject:
    """The server that runs: its port without TLS, both ports, its process, its log."""

    def __init__(self, ports, process, log, work):
        self.ports, self.process, self.log, self.work = ports, process, log, work
        self.port = ports[0]

    def problem(self):
        """What is wrong with the server, or None."""
        if self.process.poll() is not None:
            return f"the server ended: {self.log.read_text()[-1000:]}"
        log = self.log.read_text(errors="replace")
        if "panic" in log:
            return f"a panic: {log[max(0, log.index('panic') - 200) :][:1000]}"
        return site_files.answers(self.port)


@contextmanager
def serving(program, work, timeout):
    """The server under test, tidegate or another, while the body runs."""
    kind = next(
        (kind for name, kind in KINDS.items() if Path(program).name.startswith(name)),
        servers.TIDEGATE,
    )
    port, tls_port = free_port(), free_port()
    ours = str(HERE / "servers" / kind.config)
    template = ours if kind is servers.TIDEGATE else f"http2/{kind.config}"
    certificate, key = servers.self_signed(work)
    words = {"TREE": work / "tree", "RUN": work, "CERT": certificate, "KEY": key}
    words |= {"PORT": port, "TLS_PORT": tls_port, "TIMEOUT": timeout}
    config = work / kind.config
    config.write_text(servers.filled(template, **words))
    log = work / "server.log"
    with started([program, *kind.start, str(config)], tls_port, log) as process:
        yield Subject((port, tls_port), process, log, work)


def run(part, subject, arguments):
    """What is wrong; tells what came."""
    yield from {"random": run_random, "floods": run_floods, "sieges": run_sieges}[part](
        subject, arguments
    )


def run_random(subject, arguments):
    """The server is asked after each few of them; they run side by side."""
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    with ProcessPoolExecutor(arguments.jobs) as jobs:
        for polite in (True, False):
            kind = "polite" if polite else "rude"
            ends = collections.Counter()
            for some in (seeds[at : at + BATCH] for at in range(0, len(seeds), BATCH)):
                told = jobs.map(partial(random_end, subject.ports, polite), some)
                for seed, (end, wrong) in zip(some, told):
                    ends[end] += 1
                    if wrong:
                        yield f"{kind} seed {seed}: {wrong}"
                problem = subject.problem()
                if problem:
                    yield f"after {kind} seeds {some[0]} to {some[-1]}: {problem}"
                if subject.process.poll() is not None:
                    return
            words = ", ".join(f"{count} {end}" for end, count in ends.most_common())
            memory = floods.resident(subject.process.pid)
            print(f"{kind}: {words}; {memory} KiB are resident", flush=True)


def random_end(ports, polite, seed):
    """How it ended, and what was wrong, if anything."""
    try:
        return random_peer.run(ports, seed, polite), None
    except Wrong as wrong:
        return "WRONG", str(wrong)


def run_floods(subject, arguments):
    print(f"{'flood':44} {'end':34} {'server':>8} {'attacker':>8} {'ratio':>6}  connections and MB")
    for flood in FLOODS:
        if arguments.match not in flood.name:
            continue
        end = floods.end_of(subject.port, flood)
        if end not in flood.outcomes:
            yield f"{flood.name}: {end}, not {' or '.join(flood.outcomes)}"
        for again in (False, True)[: len(flood.frames)]:
            server, attacker, connections, sent = floods.cost(
                subject.port, subject.process.pid, flood, again, subject.work, arguments.seconds
            )
            ratio = server / attacker
            way = "on and on" if again else end
            print(
                f"{flood.name:44} {way:34} {server:8.3f} {attacker:8.3f} {ratio:6.2f}"
                f"  {connections} {sent / 1e6:.0f}",
                flush=True,
            )
            if ratio >= flood.cost_max:
                yield f"{flood.name}: it costs the server {ratio:.2f} of the attacker"
        problem = subject.problem()
        if problem:
            yield f"after {flood.name}: {problem}"
            if subject.process.poll() is not None:
                return


def run_sieges(subject, arguments):
    print(f"{'siege':54} {'end':34} {'after s':>8} {'KiB each':>8}")
    for siege in SIEGES:
        if arguments.match not in siege.name:
            continue
        ended, closed, seconds, memory = floods.besiege(subject.port, subject.process.pid, siege)
        end = ended.words(closed)
        if end not in siege.outcomes:
            yield f"{siege.name}: {end} after {seconds:.1f} s, {ended.remark()}"
        print(
            f"{siege.name:54} {end:34} {seconds:8.1f} {memory:8.0f}  {ended.remark()}", flush=True
        )
        problem = subject.problem()
        if problem:
            yield f"after {siege.name}: {problem}"
            if subject.process.poll() is not None:
                return


if __name__ == "__main__":
    sys.exit(main())
