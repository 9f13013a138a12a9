#!/usr/bin/env python3
"""How many nodes, and how much cache: simulates a fleet of caches in front of an object store.

    scripts/bench/fleet.py                      the table of docs/fleet-sizing.md, about two minutes
    scripts/bench/fleet.py --nodes 20 --cache 2 --alpha 0.9
    scripts/bench/fleet.py --nodes 20 --cache 2 --join 30:5 --leave 36:5     hour by hour: 5 nodes join and leave
    scripts/bench/fleet.py --self-test

Only ratios count, so a small fleet stands for a large one: sizes of caches are given in per cent of the bytes of all
objects ("catalogue"), requests by node and day.

- Popularity is Zipf's: the object of rank r is asked for as often as r^-alpha. Each object has an hour of the day at
  which it is most popular (--shift). Some requests are for objects that nobody asks for again (--one-hit).
- Sizes are log-normal, a hundredth of them Pareto's (alpha 1.1, from 4 MiB on); they do not depend on popularity.
- Half of the requests for an object of several slices are for all of it, half for a part.
- A cache is S3-FIFO by blocks of 4 KiB over slices of 4 MiB, as crates/origin/src/store/index.rs is: small and main
  queue, ghosts, two uses to stay, the low mark. The record of an object counts as a block of its first slice.
- A client's request goes to any node. With peers, a node asks the owner of the object for a slice that it lacks, and
  the owner asks the store; both keep it. Owners are found by rendezvous hashing.
- Without peers nodes know nothing of each other, so at most 20 of them are simulated.

Not simulated: time (all requests for one slice at a time are one, as the server collapses them), validation of stale
objects, nodes that fail.
"""

import argparse
import collections
import concurrent.futures
import functools
import itertools
import math
import random

BLOCK = 4096
SLICE = 4 << 20
# Behind the bytes of each slice.
FOOTER = 40
LARGEST = 64 << 20
MASK = (1 << 64) - 1
# More nodes without peers tell nothing new; fewer nodes are simulated several times.
SAMPLE = 20
USES_MAX = 3
USES_TO_STAY = 2

COLUMNS = [
    "hits", "bytes hit", "requests to the store", "a client's request", "GiB from the store", "a client's byte",
    "GiB between nodes", "a client's byte",
]  # fmt: skip


class Cache:
    """Names and their blocks, in the order in which they are evicted."""

    def __init__(self, size):
        self.size = size
        # The uses and blocks of all blobs by name.
        self.blobs = {}
        self.small, self.main, self.ghosts = collections.deque(), collections.deque(), collections.OrderedDict()
        self.small_blocks = self.main_blocks = 0

    def use(self, name):
        """Whether it is there."""
        blob = self.blobs.get(name)
        if blob is None:
            return False
        if blob[0] < USES_MAX:
            blob[0] += 1
        return True

    def store(self, name, blocks):
        if blocks > self.size:
            return
        if self.small_blocks + self.main_blocks + blocks > self.size:
            self.evict(self.size - blocks)
            # What the thread of the store does after that.
            self.evict(self.size - self.size // 20 - blocks)
        self.blobs[name] = [0, blocks]
        if self.ghosts.pop(name, None) is None:
            self.small.append(name)
            self.small_blocks += blocks
        else:
            self.main.append(name)
            self.main_blocks += blocks

    def evict(self, mark):
        blobs, small, main = self.blobs, self.small, self.main
        while self.small_blocks + self.main_blocks > mark and blobs:
            from_small = self.small_blocks > self.size // 10 or not main
            name = (small if from_small else main).popleft()
            blob = blobs[name]
            uses, blocks = blob
            if from_small:
                self.small_blocks -= blocks
                if uses < USES_TO_STAY:
                    self.ghosts[name] = True
                    self.drop(name)
                    continue
                blob[0] = 0
                self.main_blocks += blocks
            elif uses:
                blob[0] = uses - 1
            else:
                self.main_blocks -= blocks
                self.drop(name)
                continue
            main.append(name)

    def drop(self, name):
        del self.blobs[name]
        while len(self.ghosts) > len(self.blobs):
            self.ghosts.popitem(last=False)


class Catalogue:
    """The objects of the store, by rank, and how popular each is at an hour."""

    def __init__(self, count, alpha, shift, seed):
        chance = random.Random(f"catalogue {seed}")
        self.count, self.shift = count, shift
        self.weights = [rank**-alpha for rank in range(1, count + 1)]
        self.sizes = [size(chance) for _ in range(count)]
        self.peaks = [chance.random() for _ in range(count)]
        self.bytes = sum(self.sizes)

    @functools.cache
    def sums(self, hour):
        """What random.choices takes: sums of weights in the order of ranks."""
        day = [1 + self.shift * math.cos(2 * math.pi * (hour / 24 - tenth / 240)) for tenth in range(240)]
        weights = (weight * day[int(peak * 240)] for weight, peak in zip(self.weights, self.peaks))
        return list(itertools.accumulate(weights))


@functools.cache
def catalogue(*arguments):
    return Catalogue(*arguments)


def size(chance):
    """Bytes of an object."""
    if chance.random() < 0.01:
        return min(int(SLICE * chance.paretovariate(1.1)), LARGEST)
    return min(max(int(chance.lognormvariate(math.log(128 << 10), 2)), 1), LARGEST)


@functools.cache
def names(count):
    """A hash for each object."""
    chance = random.Random("names")
    return [chance.getrandbits(64) for _ in range(count)]


@functools.cache
def salts(count):
    """A hash for each node."""
    chance = random.Random("nodes")
    return [chance.getrandbits(64) | 1 for _ in range(count)]


@functools.cache
def owners(nodes, count):
    """The owner of each object among `nodes`: the one for which the hash of both is highest."""
    every = salts(max(nodes) + 1)
    pairs = [(every[node], node) for node in nodes]
    return [max([(name * salt & MASK, node) for salt, node in pairs])[1] for name in names(count)]


class Counts:
    """What happened to the requests of clients."""

    def __init__(self):
        self.requests = self.hits = self.bytes = 0
        self.store_requests = self.store_bytes = self.between = 0

    def row(self):
        each, share = 1 / max(self.requests, 1), 1 / max(self.bytes, 1)
        return [
            self.hits * each,
            1 - self.store_bytes * share,
            self.store_requests,
            self.store_requests * each,
            self.store_bytes / (1 << 30),
            self.store_bytes * share,
            self.between / (1 << 30),
            self.between * share,
        ]


    def times(self, factor):
        scaled = Counts()
        for name, value in vars(self).items():
            setattr(scaled, name, value * factor)
        return scaled


class Fleet:
    """Nodes with a cache each."""

    def __init__(self, objects, nodes, blocks, has_peers):
        self.objects, self.blocks, self.has_peers = objects, blocks, has_peers
        self.caches = {}
        self.next = 0
        self.change(nodes)

    def change(self, by):
        """Adds nodes, or takes the oldest away."""
        for _ in range(by):
            self.caches[self.next] = Cache(self.blocks)
            self.next += 1
        for _ in range(-by):
            del self.caches[next(iter(self.caches))]
        self.nodes = tuple(self.caches)
        self.owners = owners(self.nodes, self.objects.count) if self.has_peers else None

    def hour(self, chance, hour, requests, one_hit, counts):
        """Serves the requests of an hour."""
        objects, caches, has_peers = self.objects, self.caches, self.has_peers
        sizes, count = objects.sizes, objects.count
        nodes = chance.choices(self.nodes, k=requests)
        wanted = chance.choices(range(count), cum_weights=objects.sums(hour % 24), k=requests)
        for node, number in zip(nodes, wanted):
            cache = caches[node]
            length = sizes[number]
            owner = self.owners[number] if has_peers else node
            if chance.random() < one_hit:
                number = count + chance.getrandbits(60)
                owner = chance.choice(self.nodes) if has_peers else node
            counts.requests += 1
            if length <= SLICE:
                counts.bytes += length
                if cache.use(number << 8):
                    counts.hits += 1
                else:
                    counts.hits += self.fetch(cache, node, owner, number << 8, length, counts)
                continue
            # The first slice and the one behind the last.
            start, end = 0, -(-length // SLICE)
            first_byte, end_byte = 0, length
            if chance.random() < 0.5:
                first_byte, end_byte = sorted((chance.randrange(length), chance.randrange(length)))
                end_byte += 1
                start, end = first_byte // SLICE, -(-end_byte // SLICE)
            counts.bytes += end_byte - first_byte
            is_hit = True
            for part in range(start, end):
                name = number << 8 | part
                if not cache.use(name):
                    part_length = min(SLICE, length - part * SLICE)
                    is_hit &= self.fetch(cache, node, owner, name, part_length, counts)
            counts.hits += is_hit

    def fetch(self, cache, node, owner, name, length, counts):
        """Gets what a node lacks. Whether another node had it."""
        blocks = -(-(length + FOOTER) // BLOCK) + (name & 255 == 0)
        had = False
        if owner != node:
            counts.between += length
            at_owner = self.caches[owner]
            had = at_owner.use(name)
            if not had:
                at_owner.store(name, blocks)
        if not had:
            counts.store_requests += 1
            counts.store_bytes += length
        cache.store(name, blocks)
        return had


def simulate(case, options):
    """The counts of each hour, for all nodes. A case: alpha, nodes, per cent of cache, and whether there are peers."""
    alpha, nodes, percent, has_peers = case
    objects = catalogue(options.objects, alpha, options.shift, options.seed)
    blocks = int(objects.bytes * percent / 100) // BLOCK
    hours = [Counts() for _ in range(options.hours)]
    repeats = max(1, SAMPLE // nodes)
    for number in range(repeats):
        chance = random.Random(f"{options.seed} {number} {case}")
        fleet = Fleet(objects, nodes, blocks, has_peers)
        rest = 0.0
        for hour, counts in enumerate(hours):
            fleet.change(sum(by for at, by in options.changes if at == hour))
            rest += options.requests / 24 * len(fleet.nodes)
            fleet.hour(chance, hour, int(rest), options.one_hit, counts)
            rest -= int(rest)
    return [counts.times(1 / repeats) for counts in hours]


def simulated(case):
    """The case that stands for this one: nodes without peers do not differ by how many there are."""
    alpha, nodes, percent, has_peers = case
    return case if has_peers else (alpha, min(nodes, SAMPLE), percent, False)


def total(hours):
    counts = Counts()
    for hour in hours:
        for name, value in vars(hour).items():
            setattr(counts, name, getattr(counts, name) + value)
    return counts


def table(cases, options):
    """The last third of the time: before that caches fill."""
    volume = catalogue(options.objects, 1.0, options.shift, options.seed).bytes
    print(
        f"{options.objects:,} objects of {volume / 2**30:.1f} GiB in all; {options.requests:,} requests by node and day,"
        f" {options.one_hit:.0%} of them for what is asked for once; the last third of {options.hours} hours\n"
    )
    head(["alpha", "nodes", "cache, %", "peers", *COLUMNS])
    with concurrent.futures.ProcessPoolExecutor() as pool:
        # The longest first.
        longest = sorted(dict.fromkeys(map(simulated, cases)), key=lambda case: -case[1])
        futures = {case: pool.submit(simulate, case, options) for case in longest}
        for case in cases:
            alpha, nodes, percent, has_peers = case
            counts = total(futures[simulated(case)].result()[options.hours * 2 // 3 :])
            counts = counts.times(nodes / simulated(case)[1])
            row([alpha, f"{nodes:,}", f"{percent:g}", "yes" if has_peers else "no", *shown(counts)])


def head(names):
    row(names)
    print("|" + " ---: |" * len(names))


def row(cells):
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def shown(counts):
    hits, byte_hits, requests, each, volume, share, between, between_share = counts.row()
    return [
        f"{hits:.3f}", f"{byte_hits:.3f}", f"{requests:,.0f}", f"{each:.3f}",
        f"{volume:,.1f}", f"{share:.3f}", f"{between:,.1f}", f"{between_share:.3f}",
    ]  # fmt: skip


def timeline(case, options):
    """Hour by hour."""
    head(["hour", *COLUMNS])
    for hour, counts in enumerate(simulate(case, options)):
        if hour >= options.hours // 3:
            row([hour, *shown(counts)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--self-test", action="store_true", help="check the simulation, in a few seconds")
    parser.add_argument("--nodes", type=int, nargs="+", help="1 to 1000; default: 1 3 10 30 100 1000")
    parser.add_argument("--cache", type=float, nargs="+", help="of each node, %% of the catalogue; default: 1 5")
    parser.add_argument("--alpha", type=float, nargs="+", help="of Zipf; default: 0.8 1.0")
    parser.add_argument("--objects", type=int, default=10_000, help="in the catalogue; default %(default)s")
    parser.add_argument("--requests", type=int, default=1_000, help="by node and day; default %(default)s")
    parser.add_argument("--one-hit", type=float, default=0.05, help="share of the requests; default %(default)s")
    parser.add_argument("--shift", type=float, default=0.7, help="0: no hour is special; at most 1; default %(default)s")
    parser.add_argument("--hours", type=int, default=48, help="the first two thirds are not counted; default %(default)s")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--join", action="append", default=[], metavar="HOUR:NODES", help="with empty caches")
    parser.add_argument("--leave", action="append", default=[], metavar="HOUR:NODES", help="the oldest")
    options = parser.parse_args()
    if options.self_test:
        return self_test(options)
    joins, leaves = ([map(int, text.split(":")) for text in given] for given in (options.join, options.leave))
    options.changes = [*joins, *([hour, -nodes] for hour, nodes in leaves)]
    options.changes = [tuple(change) for change in options.changes]
    nodes, caches = options.nodes or [1, 3, 10, 30, 100, 1000], options.cache or [1, 5]
    alphas = options.alpha or [0.8, 1.0]
    if options.changes:
        return timeline((alphas[0], nodes[0], caches[0], True), options)
    cases = [
        (alpha, count, percent, has_peers)
        for alpha in alphas
        for percent in caches
        for count in nodes
        for has_peers in (False, True)
        if count > 1 or not has_peers
    ]
    table(cases, options)


def self_test(options):
    # As the tests of crates/origin/src/store/index.rs.
    cache = Cache(100)
    for name in range(50):
        cache.store(name, 1)
        assert cache.use(name) and cache.use(name)
    for name in range(1000, 3000):
        cache.store(name, 1)
        cache.use(name)
        assert cache.small_blocks + cache.main_blocks <= 100
        assert len(cache.ghosts) <= len(cache.blobs)
    assert sum(name in cache.blobs for name in range(50)) == 50
    cache = Cache(10)
    for name in range(11):
        cache.store(name, 1)
    assert 0 not in cache.blobs and 0 in cache.ghosts
    cache.store(0, 1)
    for name in range(100, 105):
        cache.store(name, 1)
    assert 0 in cache.blobs and 0 in cache.main
    cache.store(1, 11)
    assert 1 not in cache.blobs, "it is larger than the cache"

    # A node that leaves takes its objects only, one that joins gets its share.
    before, after = owners(tuple(range(10)), 2000), owners(tuple(range(1, 10)), 2000)
    assert all(new == old for old, new in zip(before, after) if old != 0)
    assert all(100 < before.count(node) < 300 for node in range(10))

    options.objects, options.requests, options.hours, options.changes = 2000, 2000, 8, []

    def run(nodes, percent, has_peers, alpha=1.0):
        return total(simulate((alpha, nodes, percent, has_peers), options)[4:])

    alone, peers = run(10, 5, False), run(10, 5, True)
    assert alone.between == 0 < peers.between
    assert peers.store_bytes < 0.9 * alone.store_bytes
    assert vars(peers) == vars(run(10, 5, True)), "it is seeded"
    assert run(1, 20, False).hits > 1.1 * run(1, 5, False).hits, "a larger cache has more"
    assert run(10, 5, False, 0.8).hits < alone.hits, "what is less skewed is cached less"
    # Each object comes from the store once if all of them fit.
    options.one_hit, options.hours = 0, 48
    everything = simulate((1.0, 4, 200, True), options)
    sizes = catalogue(2000, 1.0, options.shift, options.seed).sizes
    assert total(everything).store_requests <= sum(-(-size // SLICE) for size in sizes)
    # Empty nodes ask for what others have.
    options.changes = [(40, 4)]
    joined = simulate((1.0, 4, 50, True), options)
    assert joined[40].hits / joined[40].requests < joined[39].hits / joined[39].requests
    assert joined[40].requests > 1.9 * joined[39].requests
    sizes = sorted(size(random.Random(seed)) for seed in range(10_000))
    assert sizes[5000] < 160 << 10 and sizes[9900] > SLICE, "the largest have most bytes"
    assert sum(sizes[9000:]) > 0.7 * sum(sizes)
    print("fleet.py: all checks passed")


if __name__ == "__main__":
    main()
