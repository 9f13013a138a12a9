"""Trees of files to serve."""

import os

# A day long gone: what changed just now is not a strong validator yet.
LONG_AGO_NS = 1_400_000_000 * 10**9

PAGE = b"<!doctype html>\n<html lang=en><title>A page</title>\n<p>Some text.\n"


def plant(root, files, modified_ns=LONG_AGO_NS):
    """Writes `files`, a dict of path to bytes, beneath `root`, which it returns.

    Each of them gets this modification time.
    """
    root.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, ns=(modified_ns, modified_ns))
    return root
