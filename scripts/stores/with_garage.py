"""A bucket of one Garage, behind one server."""

from single import CHECKS, single
from store import garage

__all__ = ["CHECKS", "TOOLS", "session"]

TOOLS = ("garage",)


def session(stage):
    return single(stage, garage(stage.garage, stage.work))
