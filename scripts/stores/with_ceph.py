"""A bucket of Ceph's gateway, behind one server."""

from single import CHECKS, single
from store import CEPH_TOOLS, ceph

__all__ = ["CHECKS", "TOOLS", "session"]

TOOLS = CEPH_TOOLS


def session(stage):
    return single(stage, ceph(stage.work))
