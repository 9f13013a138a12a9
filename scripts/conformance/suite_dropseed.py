"""dropseed's h1spec, a Python package, run as its own command would be."""

import re
import subprocess
import sys

from case import Case, Unavailable
from tree import PAGE, plant

TITLE = "dropseed h1spec"
OPTION = "dropseed"
TIMEOUT_SECONDS = 300


def run(server, work, checkout):
    """A case for each line that the suite prints; one that failed has its reason below."""
    tree = plant(work / "tree", {"index.html": PAGE})
    with server.running(tree, work) as port:
        command = [sys.executable, "-c", "import h1spec; h1spec.main()", f"127.0.0.1:{port}"]
        ended = subprocess.run(
            command,
            cwd=checkout,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
        )
    said = re.sub(r"\x1b\[\d+m", "", ended.stdout)
    lines = re.findall(r"^  ([✓✗]) \d+\. (.*)(?:\n      (.*))?$", said, re.MULTILINE)
    if not lines:
        raise Unavailable(f"the suite did not run: {ended.stderr.strip()}")
    return [Case(name, mark == "✓", detail) for mark, name, detail in lines]
