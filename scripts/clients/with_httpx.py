"""httpx over HTTP/2, with TLS and without. `--python PROGRAM` tells which Python has it."""

from contextlib import contextmanager

import http2_plan
from stage import require_modules

TOOLS = ()


@contextmanager
def session(stage):
    """The client."""
    require_modules(stage, "httpx", "h2")
    http2_plan.plant_huge(stage)
    yield http2_plan.Client(stage, (stage.python, "-B", http2_plan.PROGRAMS / "http2_client.py"))


# It never resets a stream, so there are no downloads to cancel: it leaves them open. And where many
# uploads wait for a window, it may miss that one is open again.
CHECKS = http2_plan.on_both_ways(
    (
        http2_plan.whole_tree,
        http2_plan.huge,
        http2_plan.ranges,
        http2_plan.conditions,
        http2_plan.heads,
        http2_plan.small_uploads,
    )
)
