"""Clients that fetch the parts of a file that they lack by many ranges at once: zsync, zchunk's zckdl
and electron-updater's own parser. `--npm DIR` tells where electron-updater is, beneath node_modules."""

import os
import random
import shutil
from contextlib import nullcontext
from pathlib import Path

from outcome import Skipped, expect, require
from stage import run

TOOLS = ("zsync", "zsyncmake", "zck", "zckdl")
ZSYNC_BLOCK = 2048
BYTES = 4 << 20
DELTA = Path(__file__).parent / "electron_delta.js"


def session(stage):
    """The stage."""
    return nullcontext(stage)


def original(seed):
    """Bytes that do not repeat."""
    return random.Random(seed).randbytes(BYTES)


def changed(content, every, length=64):
    """The content of another version: one that differs at each `every`-th byte."""
    older = bytearray(content)
    for at in range(every // 2, len(older), every):
        older[at : at + length] = bytes(byte ^ 0xFF for byte in older[at : at + length])
    return bytes(older)


def served(stage, name, content):
    file = stage.root / "main" / name
    file.write_bytes(content)
    return file


def zsync(stage):
    """zsync: 128 blocks of an older file differ."""
    content = original(1)
    file = served(stage, "zsync.bin", content)
    url = stage.url("/zsync.bin")
    run("zsyncmake", "-b", ZSYNC_BLOCK, "-u", url, "-o", f"{file}.zsync", file)
    room = stage.room()
    (room / "older").write_bytes(changed(content, BYTES // 128))
    said = run("zsync", "-i", "older", "-o", "newer", stage.url("/zsync.bin.zsync"), cwd=room)
    require((room / "newer").read_bytes() == content, "the bytes differ")
    return (said.stdout.decode(errors="replace").splitlines() or [""])[-1].strip()


def zckdl(stage):
    """zckdl: many chunks of an older file differ."""
    content = original(2)
    older = changed(content, BYTES // 200)
    room = stage.room()
    (room / "new").write_bytes(content)
    (room / "old").write_bytes(older)
    run("zck", "new", cwd=room)
    run("zck", "old", cwd=room)
    file = served(stage, "zchunk.zck", (room / "new.zck").read_bytes())
    run("zckdl", "-s", room / "old.zck", stage.url("/zchunk.zck"), cwd=room)
    require((room / "zchunk.zck").read_bytes() == file.read_bytes(), "the bytes differ")


def electron(stage):
    """electron-updater: 900 parts of an older file differ."""
    modules = os.environ.get("NODE_PATH", "")
    if not shutil.which("node") or not Path(modules, "electron-updater").is_dir():
        raise Skipped("no node, or no electron-updater: give --npm")
    content = original(3)
    served(stage, "update.bin", content)
    room = stage.room()
    every = BYTES // 900
    (room / "older").write_bytes(changed(content, every))
    run("node", DELTA, stage.url("/update.bin"), "older", "newer", every, 64, cwd=room)
    expect("the length", (room / "newer").stat().st_size, len(content))
    require((room / "newer").read_bytes() == content, "the bytes differ")


CHECKS = (zsync, zckdl, electron)
