"""What a suite says of a server."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One case of a suite; `detail` tells what came instead where it failed."""

    name: str
    passed: bool
    detail: str = ""


class Unavailable(Exception):
    """A suite that cannot be run here; the message says why."""
