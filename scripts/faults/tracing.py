"""strace: what a server calls, and which of its calls fail."""

import collections
import os
import pathlib
import re
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass

ATTACH_SECONDS = 20
# The first call of Rust's runtime.
MAIN = "poll"
CALL = re.compile(r"(\d+) +(\w+)\(")


class NotPermitted(Exception):
    """Nothing can be traced here."""


@dataclass(frozen=True)
class Fault:
    """What fails: `when` is as strace has it, and each thread counts for itself."""

    call: str
    error: str
    when: str

    def options(self):
        return [
            "-e",
            f"trace={self.call}",
            "-e",
            f"inject={self.call}:error={self.error}:when={self.when}",
        ]

    def __str__(self):
        return f"{self.call} {self.error} when={self.when}"


def command(fault, log):
    """The beginning of a command line, to be followed by that of what is traced, or by `-p`."""
    return ["strace", "-f", "-qq", "-s", "0", "-o", str(log), *(fault.options() if fault else [])]


@contextmanager
def attached(pid, fault, log):
    """Traces a process that runs until the body ends."""
    # Without -qq, which takes the line that tells of the beginning, too.
    line = [word for word in command(fault, log) if word != "-qq"]
    strace = subprocess.Popen([*line, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    first = strace.stderr.readline()
    if "attached" not in first:
        strace.wait()
        raise NotPermitted(first.strip())
    try:
        yield
    finally:
        # It lets go of the process.
        strace.send_signal(signal.SIGTERM)
        try:
            strace.communicate(timeout=ATTACH_SECONDS)
        except subprocess.TimeoutExpired:
            strace.kill()
            strace.communicate()


def tracer(pid):
    """The process that traces this one, 0 if none does."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        return int(re.search(r"^TracerPid:\s+(\d+)", status, re.M)[1])
    except (OSError, TypeError):
        return 0


def let_go(pid):
    """Ends the strace of a process that was started by it, with -D."""
    if found := tracer(pid):
        os.kill(found, signal.SIGTERM)
        wait_until(lambda: not tracer(pid), ATTACH_SECONDS)


def calls(log):
    """For each call the ordinals of its first and last use: a thread counts its own. What the loader of
    programs does before main is left out."""
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = [found.groups() for found in map(CALL.match, text.splitlines()) if found]
    counts = collections.Counter()
    before = {}
    if "execve" in text and (main := next((n for n, line in enumerate(lines) if line[1] == MAIN), 0)):
        before = collections.Counter(call for _, call in lines[:main])
    spans = {}
    for thread, call in lines:
        counts[thread, call] += 1
        if (last := counts[thread, call]) > before.get(call, 0):
            first = before.get(call, 0) + 1
            spans[call] = first, max(last, spans.get(call, (0, 0))[1])
    return spans


def injected(log):
    """How many faults there were."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return text.count("(INJECTED)")


def wait_until(holds, seconds):
    """Whether it holds within that time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
