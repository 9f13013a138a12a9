"""Java's java.net.http over HTTP/2. Without TLS it knows only Upgrade, which is no more."""

from contextlib import contextmanager

import http2_plan
from stage import run

TOOLS = ("java", "javac")


@contextmanager
def session(stage):
    """The client, compiled here."""
    http2_plan.plant_huge(stage)
    room = stage.room()
    run("javac", "-d", room, http2_plan.PROGRAMS / "Http2Client.java")
    yield http2_plan.Client(stage.secure(), ("java", "-cp", room, "Http2Client"))


CHECKS = http2_plan.checks("TLS", lambda client: client)
