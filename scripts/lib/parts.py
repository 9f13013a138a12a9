"""Checks in parts, a line for each and the sum of all.

A part is a module that has

- TOOLS: the programs that it needs,
- `session(stage)`: a context manager that gives what its checks are called with,
- CHECKS: functions whose doc string names the check. What one returns is printed as a remark; it
  raises `Failed` or `Skipped` otherwise.
"""

import argparse
import shutil
import time
from collections import Counter

from outcome import Skipped, complaint

RESULTS = ("passed", "FAILED", "skipped")
# The exit status if nothing could be checked.
NOTHING_CHECKED = 77


class Report:
    """Prints a line for each outcome, and counts them."""

    def __init__(self):
        self.counts = Counter()

    def passed(self, part, check, remark=""):
        self._add("passed", part, check, remark)

    def failed(self, part, check, remark):
        self._add("FAILED", part, check, remark)

    def skipped(self, part, check, remark):
        self._add("skipped", part, check, remark)

    def _add(self, result, part, check, remark):
        self.counts[result] += 1
        print(f"{result:<7} {part}: {check}{': ' if remark else ''}{remark}", flush=True)

    def end(self):
        """Prints the counts; gives the exit status of the program."""
        print(", ".join(f"{self.counts[result]} {result}" for result in RESULTS))
        if self.counts["FAILED"]:
            return 1
        return 0 if self.counts["passed"] else NOTHING_CHECKED


def names_among(known, what="part"):
    """The type of an option that takes names with commas between them."""

    def names(text):
        for name in text.split(","):
            if name not in known:
                raise argparse.ArgumentTypeError(f"no {what} {name}; there are {', '.join(known)}")
        return text.split(",")

    return names


def run(name, part, stage, report, find=shutil.which):
    """The checks of a part, one after the other. `find` is false for a tool that is not there."""
    missing = [tool for tool in part.TOOLS if not find(tool)]
    if missing:
        report.skipped(name, "all of it", f"not installed: {', '.join(missing)}")
        return
    try:
        with part.session(stage) as subject:
            for check in part.CHECKS:
                run_check(name, check, subject, report)
    except Skipped as reason:
        report.skipped(name, "all of it", str(reason))
    except Exception as error:
        report.failed(name, "starts and ends", complaint(error))


def run_check(name, check, subject, report):
    title = check.__doc__.splitlines()[0].rstrip(".")
    begin = time.monotonic()
    try:
        remark = check(subject) or ""
    except Skipped as reason:
        report.skipped(name, title, str(reason))
    except Exception as error:  # What came was not what the check can read, mostly.
        report.failed(name, title, complaint(error))
    else:
        took = f"{time.monotonic() - begin:.1f} s"
        report.passed(name, title, f"{remark}, {took}" if remark else took)
