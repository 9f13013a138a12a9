"""Node's http2, with TLS and without."""

from contextlib import contextmanager

import http2_plan

TOOLS = ("node",)


@contextmanager
def session(stage):
    """The client."""
    http2_plan.plant_huge(stage)
    yield http2_plan.Client(stage, ("node", http2_plan.PROGRAMS / "http2_client.mjs"))


CHECKS = http2_plan.on_both_ways()
