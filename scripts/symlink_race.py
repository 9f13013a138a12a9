#!/usr/bin/env python3
"""Links that lead out of a root, swapped for what they hide at full speed, while clients ask for what is behind them.

    scripts/symlink_race.py [--server PROGRAM] [--minutes N] [--swappers N] [--clients N]

Directories, files, variants, index files and links with `..` are exchanged (renameat2(2)) with links to a tree outside
of the root, and directories are moved out of it and back, by processes that do nothing else; clients ask for all of these by
GET, with and without Accept-Encoding, under both policies that keep links within the root. All that is outside, names too,
holds a mark: the exit status is 1 if a byte of it reaches a client, or if nothing was served or swapped. A site that
follows links comes first, and must show the mark, so that the test is one.
"""

import argparse
import ctypes
import multiprocessing
import os
import pathlib
import random
import socket
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent / "lib"))

from started import free_port, started  # noqa: E402

MARK = b"OUTSIDE-OF-THE-ROOT."
RENAME_EXCHANGE = 2
AT_FDCWD = -100
# Requests on each connection.
BATCH = 64
TIMEOUT_SECONDS = 20
PROOF_SECONDS = 3

CONFIG = """\
[server]
cores = 2

[[listen]]
address = "127.0.0.1:{port}"

# Each request looks anew.
[cache]
valid = "0s"
"""

SITE = """
[[site]]
names = ["{policy}.test"]
root = "root"
symlinks = "{policy}"
directory-listing = true
try-files = ["$path", "$path.html", "$path/", "/page/index.html"]
error-pages = {{ 404 = "/page/error.html" }}
"""

# Pairs that are exchanged, from the directory with both trees. None is within another: an exchange by a link would move
# what is outside into the root.
PAIRS = (
    ("root/directory", "root/directory-link"),
    ("root/nested/a/b", "root/nested/a/b-link"),
    ("root/deep/a", "root/deep/a-link"),
    ("root/file", "root/file-link"),
    ("root/text.css", "root/text-link.css"),
    ("root/text.css.br", "root/text-link.css.br"),
    ("root/text.css.gz", "root/text-link.css.gz"),
    ("root/page/index.html", "root/page/index-link.html"),
    ("root/page/error.html", "root/page/error-link.html"),
    ("root/tried.html", "root/tried-link.html"),
    ("root/absolute", "root/absolute-link"),
)

# A directory that is moved out of the root and back, while links with `..` are resolved in it.
MOVED = ("root/moving/in/here", "outside/moved")

TARGETS = (
    "/directory/file",
    "/directory-link/file",
    "/directory/sub/file",
    "/directory-link/sub/",
    "/directory/",
    "/directory-link/",
    "/deep/a/b/c/file",
    "/nested/a/b/c/file",
    "/nested/a/b-link/c/file",
    "/nested/a/b-link/c/",
    "/deep/a-link/b/c/file",
    "/deep/a/b/c/",
    "/deep/a/b/c/../../../../file",
    "/file",
    "/file-link",
    "/text.css",
    "/text-link.css",
    "/page/",
    "/page/index.html",
    "/page/index-link.html",
    "/tried",
    "/tried-link",
    "/absolute/file",
    "/absolute-link/file",
    "/dots",
    "/dots-deep/secret",
    "/moving/in/here/up/secret",
    "/nothing",
)


def parse():
    parser = argparse.ArgumentParser(prog="scripts/symlink_race.py")
    root = pathlib.Path(__file__).resolve().parents[1]
    parser.add_argument("--server", default=root / "target/debug/tidegate", type=pathlib.Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--swappers", type=int, default=3)
    parser.add_argument("--clients", type=int, default=3)
    return parser.parse_args()


def plant(base):
    """The root, what is outside, and the links from one to the other."""
    inside, outside = b"inside\n" * 20, MARK * 20
    for tree, content in (("root", inside), ("outside", outside)):
        for path in (
            "directory/file",
            "directory/sub/file",
            "deep/a/b/c/file",
            "nested/a/b/c/file",
            "file",
            "text.css",
            "text.css.br",
            "text.css.gz",
            "page/index.html",
            "page/error.html",
            "tried.html",
            "absolute/file",
        ):
            file = base / tree / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    for directory in ("directory", "directory/sub", "deep/a/b/c", "nested/a/b/c", "absolute"):
        (base / "outside" / directory / MARK.decode()).write_bytes(outside)
    (base / "outside/secret").write_bytes(outside)
    (base / "secret").write_bytes(outside)
    (base / "root/moving/in/here").mkdir(parents=True)
    (base / "root/moving/in/here/up").symlink_to("../..")
    (base / "root/dots").symlink_to("moving/in/here/../secret")
    (base / "root/dots-deep").symlink_to("moving/in/here/../..")
    for name, link in PAIRS:
        path = base / link
        out = (base / "outside" / pathlib.Path(name).relative_to("root")).resolve()
        if "absolute" not in name:
            out = os.path.relpath(out, path.parent)
        path.symlink_to(out)


def swap(base, pairs, swaps, stop):
    """Exchanges each pair in turn, without a pause."""
    libc = ctypes.CDLL(None)
    os.chdir(base)
    encoded = [(one.encode(), other.encode()) for one, other in pairs]
    count = 0
    while not stop.is_set():
        for _ in range(50):
            for one, other in encoded:
                count += libc.renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) == 0
        move(base, *MOVED)
        move(base, *reversed(MOVED))
    with swaps.get_lock():
        swaps.value += count


def move(base, one, other):
    try:
        os.rename(base / one, base / other)
    except OSError:
        # Another process was faster.
        pass


def ask(port, policies, counts, stop, seed):
    """Asks for everything, by requests behind each other, and looks for the mark in all that comes."""
    chance = random.Random(seed)
    totals = dict.fromkeys(counts, 0)
    while not stop.is_set():
        policy = chance.choice(policies)
        try:
            came = answers(port, requests(chance, policy))
        except OSError as error:
            print(f"a connection failed: {error!r}", flush=True)
            totals["failed"] += 1
            continue
        totals["requests"] += BATCH
        totals["served"] += came.count(b"HTTP/1.1 200 ")
        totals["outside"] += came.count(MARK) * len(MARK)
    for kind, count in totals.items():
        with counts[kind].get_lock():
            counts[kind].value += count


def requests(chance, policy):
    all_of_them = b""
    for number in range(BATCH):
        fields = f"Host: {policy}.test\r\n"
        if chance.random() < 0.5:
            fields += f"Accept-Encoding: {chance.choice(('br', 'gzip'))}\r\n"
        if number == BATCH - 1:
            fields += "Connection: close\r\n"
        all_of_them += f"GET {chance.choice(TARGETS)} HTTP/1.1\r\n{fields}\r\n".encode()
    return all_of_them


def answers(port, sent):
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
        connection.sendall(sent)
        came = b""
        while more := connection.recv(1 << 18):
            came += more
    return came


def race(base, port, policies, options, seconds):
    """The counts of one race; "swaps" among them."""
    kinds = ("requests", "served", "outside", "failed")
    counts = {kind: multiprocessing.Value("Q") for kind in kinds}
    swaps = multiprocessing.Value("Q")
    stop = multiprocessing.Event()
    begin = [(swap, (base, PAIRS[n :: options.swappers], swaps, stop)) for n in range(options.swappers)]
    begin += [(ask, (port, policies, counts, stop, n)) for n in range(options.clients)]
    processes = [multiprocessing.Process(target=target, args=args) for target, args in begin]
    for process in processes:
        process.start()
    try:
        time.sleep(seconds)
    finally:
        stop.set()
        for process in processes:
            process.join()
    return {**{kind: count.value for kind, count in counts.items()}, "swaps": swaps.value}


def main():
    options = parse()
    with tempfile.TemporaryDirectory(prefix="tidegate-race-") as name:
        base = pathlib.Path(name)
        plant(base)
        port = free_port()
        policies = ("beneath", "never")
        sites = "".join(SITE.format(policy=policy) for policy in (*policies, "follow"))
        (base / "tidegate.toml").write_text(CONFIG.format(port=port) + sites)
        command = [options.server.resolve(), "run", "--config", base / "tidegate.toml"]
        with started(command, port, base / "log") as server:
            proof = race(base, port, ("follow",), options, PROOF_SECONDS)
            print(f"where links are followed: {proof}", flush=True)
            counts = race(base, port, policies, options, options.minutes * 60)
            print(f"where they are kept within the root: {counts}", flush=True)
            ended = server.poll()
    if not proof["outside"]:
        print("FAILS: nothing of the outside shows where links are followed: the test sees nothing")
    elif ended is not None:
        print(f"FAILS: the server ended with {ended}")
    elif counts["outside"] or counts["failed"] or not counts["served"] or not counts["swaps"]:
        print("FAILS")
    else:
        print("0 bytes from outside")
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
