"""Faults of system calls against the real binary. Run by scripts/faults.sh, which has the usage.

Prints what went wrong and a table; the exit status is 1 if anything did.
"""

import argparse
import collections
import ctypes
import errno
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import tracing
from clients import HANGS, WRONG, Tally
from errors import ELSEWHERE, ERRORS, LASTING, NO_MEMORY, NONE
from phases import PHASES
from server import BOUND_SECONDS
from tracing import Fault, NotPermitted, wait_until

PR_SET_CHILD_SUBREAPER = 36
# What is right, then what is wrong.
OUTCOMES = (
    "survived",
    "no fault",
    "ended",
    "panic of others",
    "no memory",
    "HANG",
    "WRONG",
    "PANIC",
    "SILENT",
    "CRASH",
    "STATUS 0",
)
GOOD = OUTCOMES[:5]


class Files:
    """What is served, in a directory."""

    def __init__(self, root):
        chance = random.Random(1)
        self.small = [(f"/small-{n}", chance.randbytes(100 + 900 * n)) for n in range(12)]
        self.large = [(f"/large-{n}", chance.randbytes(n)) for n in (300_000, 1_500_000, 9_000_000)]
        objects = [(f"/object-{n}", chance.randbytes(n)) for n in (900, 70_000, 2_500_000, 5_000)]
        self.objects = dict([*objects, ("/object-last", chance.randbytes(90_000))])
        root.mkdir(exist_ok=True)
        for target, content in self.small + self.large:
            (root / target[1:]).write_bytes(content)


def main():
    options = parse()
    binary = Path(options.server).resolve()
    if not binary.exists():
        sys.exit(f"faults.sh: no {binary}: cargo build -p tidegate")
    with tempfile.TemporaryDirectory(prefix="tidegate-faults-") as name:
        base = Path(name)
        make_certificate(base)
        become_reaper()
        try:
            plan = chosen(list(make_plan(binary, base, options)), options)
        except NotPermitted as reason:
            print(f"skipped: cannot trace: {reason}")
            return 77
        if options.list:
            print("\n".join(f"{phase:8} {fault}" for phase, fault in plan))
            return 0
        return run_all(binary, base, plan, options)


def parse():
    def words(text):
        return text.split(",")

    parser = argparse.ArgumentParser(prog="scripts/faults.sh")
    parser.add_argument("--server", required=True)
    parser.add_argument("--phase", type=words, default=list(PHASES))
    parser.add_argument("--call", type=words)
    parser.add_argument("--error", type=words)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    for phase in options.phase:
        if phase not in PHASES:
            parser.error(f"no phase {phase}; there are: {', '.join(PHASES)}")
    return options


def make_certificate(base):
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    subprocess.run(
        [*command.split(), "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=base,
        check=True,
        capture_output=True,
    )


def make_plan(binary, base, options):
    """Each phase runs once without faults, which tells what it calls."""
    unknown = set()
    for phase in options.phase:
        result = run(binary, base, phase, None)
        if result.outcome not in ("no fault", "ended"):
            sys.exit(f"faults.sh: {phase} fails without any fault: {result}\n{result.log[-3000:]}")
        for call, (first, last) in sorted(result.calls.items()):
            unknown |= {call} - set(ERRORS) - NONE
            errors = [e for e in ERRORS.get(call, ()) if (call, e) not in PHASES[phase].impossible]
            for error in errors:
                for when in whens(first, last, error):
                    yield phase, Fault(call, error, when)
    if unknown:
        sys.exit(f"faults.sh: what errors have these calls? (scripts/faults/errors.py): {unknown}")


def whens(first, last, error):
    """Which of the calls of a thread fail: the first, one in the middle, the last, one in three, all."""
    once = dict.fromkeys((first, (first + last) // 2, last))
    yield from map(str, once)
    if last - first >= 2:
        yield f"{first + 1}+3"
    if error in LASTING:
        yield f"{first}+"


def chosen(plan, options):
    plan = [
        (phase, fault)
        for phase, fault in plan
        if (not options.call or fault.call in options.call)
        and (not options.error or fault.error in options.error)
    ]
    # In an order that mixes the kinds, and is the same each time.
    random.Random(1).shuffle(plan)
    return plan[:: options.every]


class Result:
    """What came of a run, with what there is to see."""

    def __init__(self, outcome, detail="", log="", calls=None, seconds=0):
        self.outcome, self.detail, self.log, self.calls = outcome, detail, log, calls
        self.seconds = seconds

    def __str__(self):
        return f"{self.outcome}{': ' if self.detail else ''}{self.detail}"


def run(binary, base, phase, fault):
    """Runs the phase with the fault, or without one to see the calls."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=base) as name:
        directory = Path(name)
        for file in ("cert.pem", "key.pem"):
            (directory / file).write_bytes((base / file).read_bytes())
        subject = PHASES[phase](Files(directory / "www"))
        server = subject.server(binary, directory)
        trace = directory / "strace"
        try:
            result = drive(subject, server, fault, trace)
        finally:
            server.end()
            subject.close()
        result.log = server.text()
        result.calls = tracing.calls(trace) if not fault else None
    result.seconds = time.monotonic() - begin
    return result


def drive(subject, server, fault, trace):
    tally = Tally()
    if subject.from_the_start:
        # -D: the server is the child of this process, and not of strace. -I2: strace can be ended.
        server.spawn(*tracing.command(fault, trace), "-D", "-I2")
        if server.starts():
            subject.drive(server, tally)
        tracing.let_go(server.pid)
    else:
        server.spawn()
        if not server.starts():
            return Result("HANG", "it does not start")
        subject.prepare(server)
        with server.traced(fault, trace):
            subject.drive(server, tally)
    hangs = [detail for detail in tally.details if detail.startswith(HANGS)]
    wrong = [detail for detail in tally.details if detail.startswith(WRONG)]
    if wrong:
        return Result("WRONG", wrong[0])
    result = after(subject, server, fault, trace)
    if hangs and result.outcome in ("survived", "no fault"):
        return Result("HANG", f"{hangs[0]}, though it goes on")
    return result


def after(subject, server, fault, trace):
    """How the server is after the faults."""
    is_well = False

    def is_over():
        nonlocal is_well
        if server.has_ended() and not server.successor():
            return True
        is_well = not subject.ends(server) and subject.is_well(server)
        return is_well

    over = wait_until(is_over, BOUND_SECONDS)
    panics = re.findall(r"thread .* panicked at .*\n?.*", server.text())
    own = [panic for panic in panics if not any(place in panic for place in ELSEWHERE)]
    if own:
        return Result("PANIC", own[0])
    if not over:
        return Result("HANG", "it neither answers nor ends")
    if not is_well:
        result = ended(subject, server, fault)
    else:
        result = Result("survived" if fault and tracing.injected(trace) else "no fault")
    if panics and result.outcome in GOOD:
        return Result("panic of others", panics[0])
    return result


def ended(subject, server, fault):
    status = server.process.returncode
    text = server.text()
    if status == -signal.SIGABRT and fault.error == "ENOMEM" and any(said in text for said in NO_MEMORY):
        return Result("no memory", "it said so, and aborted")
    if status == -signal.SIGABRT and fault.call == "membarrier":
        return Result("panic of others", "glommio aborts without a barrier")
    if status < 0 or status > 128:
        return Result("CRASH", f"status {status}")
    if status == 0:
        return Result("ended" if subject.ends(server) else "STATUS 0")
    reasons = ("made no progress", "the kernel refused an io_uring_enter", os.strerror(number(fault.error)))
    if fault.call.startswith("clone"):
        # So glibc says it.
        reasons += (os.strerror(errno.EAGAIN),)
    # Where nothing can be written, nothing can be told.
    is_mute = fault.call == "write" and fault.when.endswith("+")
    if not is_mute and not any(reason in text for reason in reasons):
        return Result("SILENT", f"status {status}, and no reason")
    return Result("ended", f"status {status}")


def number(error):
    return getattr(errno, error)


def become_reaper():
    """The new process of an upgrade becomes a child of this one when the old one ends."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run_all(binary, base, plan, options):
    table = collections.defaultdict(collections.Counter)
    begin = time.monotonic()
    wrong = 0
    with ProcessPoolExecutor(options.jobs, initializer=become_reaper) as pool:
        left = iter(plan)
        running = {}
        while True:
            while len(running) < options.jobs and time.monotonic() - begin < options.seconds:
                if not (job := next(left, None)):
                    break
                running[pool.submit(run, binary, base, *job)] = job
            if not running:
                break
            done = next(as_completed(running))
            phase, fault = running.pop(done)
            result = done.result()
            table[phase][result.outcome] += 1
            ran = sum(row.total() for row in table.values())
            if ran % 100 == 0:
                print(f"{ran} of {len(plan)} runs, {time.monotonic() - begin:.0f} s", flush=True)
            if result.outcome not in GOOD:
                wrong += 1
                print(f"\n{phase} {fault}: {result} ({result.seconds:.0f} s)", flush=True)
                print("\n".join(f"  | {line}" for line in result.log.splitlines()[-60:]), flush=True)
    print_table(table)
    return 1 if wrong else 0


def print_table(table):
    shown = [outcome for outcome in OUTCOMES if any(row[outcome] for row in table.values())]
    print("\n" + "phase".ljust(9) + "".join(outcome.rjust(17) for outcome in shown))
    for phase in [phase for phase in PHASES if phase in table]:
        print(phase.ljust(9) + "".join(str(table[phase][outcome]).rjust(17) for outcome in shown))
    total = sum(table.values(), collections.Counter())
    print("all".ljust(9) + "".join(str(total[outcome]).rjust(17) for outcome in shown))


if __name__ == "__main__":
    sys.exit(main())
