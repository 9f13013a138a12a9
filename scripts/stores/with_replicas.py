"""Three nodes of Garage with a copy of all on each, two of them origins of one server."""

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from load import Load
from node import environment, publish, running
from outcome import expect, require
from store import BUCKET, eventually, garages
from tree import sums, write_objects

TOOLS = ("garage",)

SLICE = 256 << 10
SIZES = (*range(1000, 200_000, 5000), *(12 * SLICE + number for number in range(6)))

# A cache that holds a fifth, so that the origins are asked all the time.
CONFIG = """
[server]
cores = 2
[cache.disk]
path = "{cache}"
size = "4m"
slice = "256k"
[[site]]
precompressed = []
[[site.origin]]
s3 = "{first}"
region = "garage"
[[site.origin]]
s3 = "{second}"
region = "garage"
"""


@dataclass
class Session:
    stage: Any
    stores: list
    sums: dict
    tree: Any


@contextmanager
def session(stage):
    tree = stage.work / "tree"
    write_objects(tree, SIZES)
    with garages(stage.garage, stage.work, 3) as stores:
        yield Session(stage, stores, sums(tree), tree)


def published(session):
    """A directory is published to one of them, and unchanged on the others."""
    prefix = f"{BUCKET}/objects"
    for store in session.stores:
        said = publish(session.stage.server, session.tree, store, prefix)
        counts = re.search(r"uploaded (\d+).*unchanged (\d+)", said).groups()
        count = str(len(session.sums))
        expect("uploaded and unchanged", counts, (count, "0") if store is session.stores[0] else ("0", count))


def under_load(session):
    """While a server fills from them, one after the other is killed and comes back: no error, no wrong byte."""
    first, second, third = session.stores
    work = session.stage.work
    urls = {"first": first.url(f"{BUCKET}/objects"), "second": second.url(f"{BUCKET}/objects")}
    config = CONFIG.format(cache=work / "cache", **urls)
    own = environment(first.access, first.secret, work)
    with running(session.stage.server, work / "node", config, own) as node:
        with Load(session.sums, [node]) as load:
            load.go_on(3)
            # The one that is asked, the one that it asks, and a third that has a copy.
            for store in (first, second, third):
                store.kill()
                load.go_on(4)
                store.start()
                whole(session, store)
                # Until then it is passed over, and the other one is the only one.
                eventually("the server asks it again", lambda: knows_all_up(node), 60)
                load.go_on(2)
        load.check()
        text = node.text()
        require("cannot connect" in text, f"the log does not tell of a store that is down: {text[-500:]}")
        require("panicked" not in text, f"the log has {text[-900:]}")
        require(first.secret not in text and first.access not in text, "the log has a key")
        fetched = node.metric("origin_requests_total")
    return f"{load.requests} requests, {fetched:.0f} to the stores"


def knows_all_up(node):
    text = node.text()
    return text.count("the origin is down") == text.count("the origin is up again")


def whole(session, store):
    """Waits until a store that came back answers for what all of them have."""
    def lists():
        try:
            return "uploaded 0" in publish(session.stage.server, session.tree, store, f"{BUCKET}/objects")
        except Exception:
            return False
    eventually("a store that came back is well", lists, 60)


CHECKS = (published, under_load)
