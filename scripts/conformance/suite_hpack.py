"""The vectors of hpack-test-case: header blocks that several encoders made, and what they mean.

They judge the decoder of crates/h2 as this checkout has it, by the example hpack_vectors. Each
encoder is a case.
"""

import subprocess
from pathlib import Path

import servers
from case import Case, Unavailable

TITLE = "hpack-test-case"
OPTION = "hpack-test-case"
KINDS = (servers.TIDEGATE,)
ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = (
    "cargo",
    "run",
    "--quiet",
    "--locked",
    "--package",
    "tidegate-h2",
    "--example",
    "hpack_vectors",
)


def run(_server, _work, checkout):
    """A case for each line that the example prints: set, blocks that were read rightly, blocks."""
    command = [*EXAMPLE, "--", checkout]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    if not rows:
        raise Unavailable(f"the decoder did not run: {done.stderr.strip()[-300:]}")
    return [
        Case(name, passed == blocks, f"{passed} of {blocks} blocks")
        for name, passed, blocks in rows
    ]
