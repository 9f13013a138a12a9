"""The files that are served: each has a content of its own, so a response tells which request it is for."""

import posixpath
import re
from urllib.parse import unquote_to_bytes

COUNT = 4000
MARKER = re.compile(rb"/marker-(0|[1-9][0-9]{0,3})")
# Every request has a number of its own, in its query.
IDENTITY = re.compile(rb"\?(s[0-9]+\.[a-z])")


def content(number):
    # A few are not copied behind their heads, and a few are not sent from memory.
    lines = {0: 3000, 100: 9000}.get(number % 500, 1 + number % 7)
    return b"marker %d\n" % number * lines


def plant(tree):
    tree.mkdir()
    for number in range(COUNT):
        (tree / f"marker-{number}").write_bytes(content(number))


def target(number, identity):
    return b"/marker-%d?%s" % (number % COUNT, identity)


def identity(target_bytes):
    """The number of the request with this target, if it has kept it."""
    matched = IDENTITY.search(target_bytes)
    return matched[1] if matched else None


def number_of(target_bytes):
    """Which file a target means, if any. Dots, slashes and percents are resolved."""
    path = re.sub(rb"(?i)^https?://[^/?]*", b"", target_bytes).partition(b"?")[0]
    path = posixpath.normpath(re.sub(rb"/+", b"/", unquote_to_bytes(path) or b"/"))
    matched = MARKER.fullmatch(path)
    return int(matched[1]) if matched and int(matched[1]) < COUNT else None


def number_in(body):
    """Which file a body is, if any."""
    matched = re.match(rb"marker ([0-9]{1,4})\n", body)
    if matched and body == content(int(matched[1])):
        return int(matched[1])
    return None
