"""REDbot, a linter of HTTP resources: its findings on some files of a site.

Each resource is a case, which passes when REDbot has nothing to warn of. It
makes conditional, range and content-negotiated requests of its own accord.
"""

import gzip
import json
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from case import Case, Unavailable
from tree import plant

TITLE = "REDbot"
OPTION = "redbot"
TIMEOUT_SECONDS = 60
THREADS = 2
BAD_LEVELS = {"BAD", "WARN"}

PAGE = b"<!doctype html>\n<html lang=en><title>A page</title>\n" + b"<p>Some text.\n" * 200
STYLE = b"p { margin: 0 }\n" * 200
# All but the empty one are longer than the range that REDbot asks for, which
# would warn of a part that is the whole.
FILES = {
    "index.html": PAGE,
    "index.html.gz": gzip.compress(PAGE, mtime=0),
    "style.css": STYLE,
    "style.css.gz": gzip.compress(STYLE, mtime=0),
    "script.js": b"'use strict';\n" * 100,
    "data.json": b"[" + b"1, " * 200 + b"2]\n",
    "image.svg": b'<svg xmlns="http://www.w3.org/2000/svg">' + b"<g/>" * 100 + b"</svg>\n",
    "text.txt": b"Some text.\n" * 100,
    "empty.txt": b"",
    "large.bin": bytes(range(256)) * 4096,
    "with space.txt": b"Its name has a space.\n" * 100,
    "docs/index.html": PAGE,
    "files/one.txt": b"One.\n",
    "files/two.txt": b"Two.\n",
}
# As reproducible builds leave files, and as a wrong clock does.
EPOCH = {"epoch.txt": b"Some text.\n" * 100}
TOMORROW = {"tomorrow.txt": b"Some text.\n" * 100}
DAY_SECONDS = 86400

PATHS = (
    "/",
    "/style.css",
    "/script.js",
    "/data.json",
    "/image.svg",
    "/text.txt",
    "/empty.txt",
    "/large.bin",
    "/with%20space.txt",
    "/epoch.txt",
    "/tomorrow.txt",
    "/docs",
    "/docs/",
    "/files/",
    "/absent",
)


def run(server, work, program):
    """A case for each of PATHS; `program` is the command redbot."""
    redbot = shutil.which(program)
    if not redbot:
        raise Unavailable(f"no program {program}")
    tree = plant(work / "tree", FILES)
    plant(tree, EPOCH, modified_ns=10**9)
    plant(tree, TOMORROW, modified_ns=time.time_ns() + DAY_SECONDS * 10**9)
    with server.running(tree, work) as port, ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(lambda path: inspect(redbot, port, path), PATHS))


def inspect(redbot, port, path):
    command = [redbot, "-o", "har", f"http://127.0.0.1:{port}{path}"]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
    )
    try:
        entries = json.loads(ended.stdout)["log"]["entries"]
        problems = [text for note in entries[0]["_red_messages"] for text in complaints(note)]
    except (ValueError, IndexError, KeyError):
        problems = [f"REDbot could not judge it: {(ended.stdout + ended.stderr).strip()[-200:]}"]
    return Case(path, not problems, "; ".join(problems))


def complaints(note):
    """The summaries of a note and of those beneath it, where they warn."""
    if note["level"] in BAD_LEVELS:
        yield note["summary"]
    for beneath in note.get("subnotes", ()):
        yield from complaints(beneath)
