"""Nodes in network namespaces of their own, before one gateway of Ceph."""

import random
import re
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from load import Load
from node import Node, environment, publish
from outcome import Skipped, expect, require
from relay import Relay
from store import BUCKET, CEPH_TOOLS, Store, ceph, eventually
from tree import sums, write_objects

TOOLS = (*CEPH_TOOLS, "ip")

SLICE = 256 << 10
SIZES = (*range(1000, 200_000, 5000), *(6 * SLICE + number for number in range(-2, 4)))
NETWORK = "10.231.77"
PEER_PORT = 8081

CONFIG = """
[server]
cores = 1
[cache.disk]
path = "{cache}"
size = "{size}"
slice = "256k"
[fleet]
peers = {peers}
listen = "{host}:{port}"
[[site]]
precompressed = []
origin = {{ s3 = "{url}", region = "{region}" }}
"""


@dataclass
class Session:
    """The store with a relay before it, and who may be a node."""

    stage: Any
    store: Store
    relay: Relay
    sums: dict
    hosts: list

    @contextmanager
    def nodes(self, name, size):
        """One node on each host, none of which runs. Those that do are ended."""
        nodes = []
        own = environment(self.store.access, self.store.secret, self.stage.work)
        for number, host in enumerate(self.hosts):
            directory = self.stage.work / f"{name}-{number}"
            within = ["ip", "netns", "exec", f"node{number}"]
            node = Node(self.stage.server, directory, "", own, host, within)
            node.size = size
            nodes.append(node)
        try:
            yield nodes
        finally:
            for node in nodes:
                node.stop()

    def config(self, node, among):
        url = self.store.url(f"{BUCKET}/fleet", self.relay.port, f"{NETWORK}.1")
        peers = [f"{each.host}:{PEER_PORT}" for each in among]
        values = {"cache": node.directory / "cache", "size": node.size, "host": node.host, "port": PEER_PORT}
        return CONFIG.format(url=url, region=self.store.region, peers=peers, **values)

    def start(self, nodes):
        """Starts nodes that know of each other."""
        for node in nodes:
            node.configure(self.config(node, nodes))
            node.start()


@contextmanager
def session(stage):
    if not stage.is_apart:
        raise Skipped("no namespaces can be made: it needs root, and no container around it")
    tree = stage.work / "tree"
    write_objects(tree, SIZES)
    with ExitStack() as stack:
        store = stack.enter_context(ceph(stage.work))
        hosts = network(4)
        relay = Relay(f"{NETWORK}.1", store.port)
        stack.callback(relay.close)
        publish(stage.server, tree, store, f"{BUCKET}/fleet", "--cache-control", "**=max-age=3600")
        yield Session(stage, store, relay, sums(tree), hosts)


def network(count):
    """The addresses of namespaces that are joined by a bridge, on whose side this is."""
    ip("link add bridge type bridge")
    ip(f"addr add {NETWORK}.1/24 dev bridge")
    ip("link set bridge up")
    for number in range(count):
        ip(f"netns add node{number}")
        ip(f"link add port{number} type veth peer name eth0 netns node{number}")
        ip(f"link set port{number} master bridge up")
        ip(f"-n node{number} addr add {NETWORK}.{number + 11}/24 dev eth0")
        ip(f"-n node{number} link set lo up")
        ip(f"-n node{number} link set eth0 up")
    return [f"{NETWORK}.{number + 11}" for number in range(count)]


def ip(command):
    subprocess.run(["ip", *command.split()], check=True)


def once(session):
    """Three nodes are asked for all objects at once, and the store for each slice once."""
    with session.nodes("once", "1g") as nodes:
        nodes = nodes[:3]
        session.start(nodes)
        session.relay.take()
        ask_all(session, nodes)
        counted = session.relay.take()
        slices = sum(-(-size // SLICE) for size in SIZES)
        expect("the number of slices", len(counted), slices)
        again = sum(counted.values()) - slices
        hedges = total(nodes, "origin_hedges_total")
        failures = total(nodes, "peer_failures_total")
        # What is sent beside a request that takes long is meant to be.
        require(again <= hedges + failures, f"{again} were asked for again, with {hedges:.0f} hedges")
        asked = total(nodes, "peer_requests_total")
        require(asked >= len(SIZES), f"peers were asked {asked:.0f} times")
        ask_all(session, nodes)
        expect("what the store is asked for then", session.relay.take(), {})
    return f"{slices} slices, {again} again beside slow ones; {asked:.0f} requests to peers"


def ask_all(session, nodes):
    """A client of each node asks for all objects, in an order of its own."""
    errors = []

    def ask(number, node):
        load = Load(session.sums, [])
        names = list(session.sums)
        random.Random(number).shuffle(names)
        errors.extend(f"{node.host}, {name}: {error}" for name in names if (error := load.error_of(node, name)))

    threads = [threading.Thread(target=ask, args=pair) for pair in enumerate(nodes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect("errors", errors[:3], [])


def total(nodes, name):
    return sum(node.metric(name) for node in nodes)


def under_load(session):
    """Under load a node is killed and comes back, one is unplugged, and a fourth joins: no error, no wrong byte."""
    # Caches of a third of all, so that nodes and store are asked all the time.
    with session.nodes("load", "4m") as nodes:
        *three, fourth = nodes
        session.start(three)
        with Load(session.sums, three) as load:
            load.go_on(3)
            load.leave_out(three[1])
            three[1].kill()
            load.go_on(4)
            three[1].start()
            load.take_in(three[1])
            load.go_on(3)
            # No host answers for it: nothing is refused, packets are lost.
            load.leave_out(three[2])
            ip("link set port2 down")
            load.go_on(8)
            ip("link set port2 up")
            eventually("the node answers again", three[2].is_ready, 60)
            load.take_in(three[2])
            load.go_on(3)
            for node in three:
                node.reload(session.config(node, nodes))
            fourth.configure(session.config(fourth, nodes))
            fourth.start()
            load.take_in(fourth)
            load.go_on(4)
        load.check()
        served = [node.metric("peer_served_total") for node in nodes]
        require(all(served), f"nodes answered {served} requests of peers")
        for node in nodes:
            require("panicked" not in node.text(), f"the log has {node.text()[-900:]}")
            require(not re.search(session.store.secret, node.text()), "the log has a key")
    return f"{load.requests} requests, {sum(served):.0f} between nodes"




CHECKS = (once, under_load)
