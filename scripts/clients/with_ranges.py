"""Clients that fetch parts of files: those that they lack, by many ranges at once (zsync, zchunk's zckdl,
electron-updater's own parser), all of them side by side (aria2, axel, lftp), or those that are looked into
(casync, GDAL, fsspec, remotezip). `--npm DIR` tells where electron-updater is, beneath node_modules."""

import os
import random
import shutil
import zipfile
from contextlib import nullcontext
from pathlib import Path

from outcome import Skipped, expect, require
from stage import require_modules, require_tools, run

TOOLS = ()
ZSYNC_BLOCK = 2048
BYTES = 4 << 20
AT = range(0, 60_000, 2000)
FSSPEC = f"""
import fsspec, sys
files, url, at = fsspec.filesystem("http"), sys.argv[1], {AT}
for part in files.cat_ranges([url] * len(at), list(at), [begin + 50 for begin in at]):
    sys.stdout.buffer.write(part)
with files.open(url, block_size=65536) as file:
    file.seek(-10, 2)
    sys.stdout.buffer.write(file.read())
"""
REMOTEZIP = """
import remotezip, sys
with remotezip.RemoteZip(sys.argv[1]) as archive:
    sys.stdout.buffer.write(archive.read(sys.argv[2]))
"""
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
    """zsync: 400 blocks of an older file differ."""
    require_tools("zsync", "zsyncmake")
    content = original(1)
    file = served(stage, "zsync.bin", content)
    url = stage.url("/zsync.bin")
    run("zsyncmake", "-b", ZSYNC_BLOCK, "-u", url, "-o", f"{file}.zsync", file)
    room = stage.room()
    (room / "older").write_bytes(changed(content, BYTES // 400))
    said = run("zsync", "-i", "older", "-o", "newer", stage.url("/zsync.bin.zsync"), cwd=room)
    require((room / "newer").read_bytes() == content, "the bytes differ")
    return (said.stdout.decode(errors="replace").splitlines() or [""])[-1].strip()


def zckdl(stage):
    """zckdl: many chunks of an older file differ."""
    require_tools("zck", "zckdl")
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


def aria2(stage):
    """aria2c: 16 connections, each with a part, and a download that goes on."""
    require_tools("aria2c")
    content, room = original(4), stage.room()
    url = part_of_it(stage, "aria2.bin", content, room / "begun")
    options = ("aria2c", "--quiet", "--max-connection-per-server=16", "--split=16", "--min-split-size=1M")
    run(*options, "--out=whole", url, cwd=room)
    run(*options, "--continue", "--out=begun", url, cwd=room)
    require_same(content, room / "whole", room / "begun")


def axel(stage):
    """axel: 8 connections, each with a part."""
    require_tools("axel")
    content, room = original(5), stage.room()
    url = part_of_it(stage, "axel.bin", content, room / "unused")
    run("axel", "--quiet", "--num-connections=8", f"--output={room / 'whole'}", url)
    require_same(content, room / "whole")


def lftp(stage):
    """lftp: pget with 6 connections, and get -c."""
    require_tools("lftp")
    content, room = original(6), stage.room()
    url = part_of_it(stage, "lftp.bin", content, room / "begun")
    run("lftp", "-c", f"pget -n 6 {url} -o whole; get -c {url} -o begun", cwd=room)
    require_same(content, room / "whole", room / "begun")


def casync(stage):
    """casync: a file put together of chunks."""
    require_tools("casync")
    content, room = original(7), stage.room()
    (room / "file").write_bytes(content)
    chunks = stage.root / "main/casync"
    chunks.mkdir()
    run("casync", "make", f"--store={chunks}/store", chunks / "file.caibx", room / "file")
    url = stage.url("/casync")
    run("casync", "extract", f"--store={url}/store", f"{url}/file.caibx", room / "whole")
    require_same(content, room / "whole")


def fsspec(stage):
    """fsspec: parts side by side, and a file that is sought in."""
    require_modules(stage, "fsspec", "aiohttp")
    content = original(8)
    served(stage, "fsspec.bin", content)
    found = run(stage.python, "-c", FSSPEC, stage.url("/fsspec.bin")).stdout
    require(found == b"".join(content[at : at + 50] for at in AT) + content[-10:], "the bytes differ")


def remotezip(stage):
    """remotezip: a file of an archive, by its directory at the end."""
    require_modules(stage, "remotezip")
    archive = stage.root / "main/remote.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for number in range(100):
            made.writestr(f"file{number}", original(number)[:40_000])
    found = run(stage.python, "-c", REMOTEZIP, stage.url("/remote.zip"), "file7").stdout
    require(found == original(7)[:40_000], "the bytes differ")


def gdal(stage):
    """GDAL: a part of a raster file, in each of its ways to ask for ranges."""
    require_tools("gdal_create", "gdal_translate", "gdalinfo")
    room, file = stage.room(), stage.root / "main/raster.tif"
    size = ("-outsize", "2048", "2048", "-bands", "1", "-burn", "7", "-co", "TILED=YES")
    run("gdal_create", "-of", "GTiff", *size, room / "plain.tif")
    run("gdal_translate", "-q", "-of", "COG", "-co", "COMPRESS=NONE", room / "plain.tif", file)
    wanted = checksum(file, room / "local.tif")
    for way in ("YES", "SINGLE_GET", "SERIAL"):
        options = ("--config", "GDAL_HTTP_MULTIRANGE", way, "--config", "GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR")
        url = f"/vsicurl/{stage.url('/raster.tif')}"
        expect(f"the checksum by {way}", checksum(url, room / f"{way}.tif", *options), wanted)


def checksum(raster, part, *options):
    """What GDAL makes of a part of a raster."""
    run("gdal_translate", "-q", *options, "-srcwin", "300", "300", "900", "900", raster, part)
    said = run("gdalinfo", "-checksum", part).stdout.decode()
    return next(line for line in said.splitlines() if "Checksum" in line)


def part_of_it(stage, name, content, begun):
    """The address of a new file of this content, the first third of which has come already."""
    served(stage, name, content)
    begun.write_bytes(content[: len(content) // 3])
    return stage.url(f"/{name}")


def require_same(content, *files):
    for file in files:
        require(file.read_bytes() == content, f"the bytes of {file.name} differ")


CHECKS = (zsync, zckdl, electron, aria2, axel, lftp, casync, fsspec, remotezip, gdal)
