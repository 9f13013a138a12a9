"""How a check ends."""

from dataclasses import dataclass


class Failed(Exception):
    """The check did not find what it looked for; the message says what came instead."""


class Skipped(Exception):
    """The check cannot be made here; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """A row of the table: `result` is passed, FAILED or skipped."""

    part: str
    name: str
    result: str
    remark: str = ""
    seconds: float = 0.0


def expect(what, found, wanted):
    """Fails unless `found` is `wanted`."""
    if found != wanted:
        raise Failed(f"{what} is {found!r}, not {wanted!r}")


def require(condition, complaint):
    """Fails with the complaint unless the condition holds."""
    if not condition:
        raise Failed(complaint)
