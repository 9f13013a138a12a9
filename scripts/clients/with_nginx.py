"""nginx as a reverse proxy with keep-alive in front: the tree through it, by curl."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import with_curl
from outcome import expect, require
from servers import proxying
from stage import files_beneath

TOOLS = ("nginx", "curl")
TIME_WAIT = "06"


@contextmanager
def session(stage):
    """The stage as it is seen through the proxy, and the port behind it."""
    with proxying(stage.port, stage.work) as port, with_curl.session(stage):
        yield replace(stage, port=port), stage.port


def whole_tree(subject):
    """The whole tree through the proxy, compared, on few connections."""
    stage, backend = subject
    before = closed_connections(backend)
    remark = with_curl.whole_tree(stage)
    # The side that closes keeps the connection in TIME_WAIT for a minute.
    closed = closed_connections(backend) - before
    count = len(files_beneath(stage.root / "main/tree"))
    require(closed <= count / 50, f"{closed} connections for {count} requests")
    return remark


def closed_connections(port):
    """How many connections with this port on one side are in TIME_WAIT."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    sockets = (line.split()[1:4] for line in lines)
    end = f":{port:04X}"
    return sum(state == TIME_WAIT and end in (a[-5:], b[-5:]) for a, b, state in sockets)


def through(check):
    """A check of curl, made through the proxy."""

    def made(subject):
        return check(subject[0])

    made.__doc__ = f"curl through the proxy: {check.__doc__}"
    return made


def listing(subject):
    """A listing, whose length is not known before, through the proxy."""
    stage, backend = subject
    direct = with_curl.Answer(replace(stage, port=backend), "/odd/")
    proxied = with_curl.Answer(stage, "/odd/")
    expect("the status", proxied.status, 200)
    require(proxied.body == direct.body, "the bytes differ")


CHECKS = (
    whole_tree,
    listing,
    *map(
        through,
        (
            with_curl.head,
            with_curl.compressed,
            with_curl.resume,
            with_curl.modified_since,
            with_curl.etags,
            with_curl.error_page,
        ),
    ),
)
