"""uNetworking's h1spec (http_test.ts), run by Deno.

The suite is meant for servers that echo bodies: what a static server answers to
POST cannot please it.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from case import Case, Unavailable
from tree import PAGE, plant

TITLE = "uNetworking h1spec"
OPTION = "unetworking"
TIMEOUT_SECONDS = 60


def run(server, work, checkout):
    """A case for each line that the suite prints."""
    deno = shutil.which(os.environ.get("DENO", "deno"))
    if not deno:
        raise Unavailable("needs Deno in PATH, or its path in DENO")
    # It asks for / and, in pieces that never make a request, for /hello.
    tree = plant(work / "tree", {"index.html": PAGE})
    with server.running(tree, work) as port:
        program = Path(checkout) / "http_test.ts"
        command = [deno, "run", "--allow-net=127.0.0.1", program, "127.0.0.1", str(port)]
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
        )
    # It prints what waited to standard error, the rest to standard output.
    lines = re.findall(r"^([✅❌]) (.*?): (.*)$", ended.stdout + ended.stderr, re.MULTILINE)
    if not lines:
        raise Unavailable(f"the suite did not run: {ended.stderr.strip()}")
    return sorted(
        (Case(name, mark == "✅", detail) for mark, name, detail in lines),
        key=lambda case: case.name,
    )
