"""Go over HTTP/2: net/http with TLS, and golang.org/x/net/http2, as Debian packages it, without."""

import os
import subprocess
from contextlib import contextmanager

import http2_plan
from outcome import Failed

TOOLS = ("go",)
DEBIAN = "/usr/share/gocode"


@contextmanager
def session(stage):
    """The client, built here."""
    http2_plan.plant_huge(stage)
    room = stage.room()
    program = room / "client"
    environment = os.environ | {
        "GO111MODULE": "off",
        "GOPATH": DEBIAN,
        "GOCACHE": str(room / "cache"),
    }
    command = ["go", "build", "-o", program, http2_plan.PROGRAMS / "http2_client.go"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"go build: {done.stderr}")
    yield http2_plan.Client(stage, (program,))


CHECKS = http2_plan.on_both_ways()
