"""Programs that read directory listings: file systems, mirrors and libraries for data."""

import json
import shutil
import subprocess
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from urllib.parse import unquote

from outcome import Failed, Skipped, expect
from site_tree import LISTED_NAMES
from stage import files_beneath, run

TOOLS = ()
MOUNT_SECONDS = 10

FSSPEC = """
import fsspec, json, sys
print(json.dumps(fsspec.filesystem("http").find(sys.argv[1])))
"""
GDAL = """
import json, sys
from pyogrio import vsi_listtree
print(json.dumps(vsi_listtree("/vsicurl/" + sys.argv[1])))
"""


def session(stage):
    return nullcontext(stage)


def fsspec(stage):
    """fsspec (pandas, dask, xarray) finds every file, and nothing else."""
    found = imported(stage, FSSPEC, "fsspec", "aiohttp")
    return files_found(unquote(url.partition("/listed/")[2]) for url in found)


def gdal(stage):
    """GDAL reads the directories."""
    found = imported(stage, GDAL, "pyogrio")
    names = (unquote(url.partition("/listed/")[2]) for url in found)
    return files_found(name for name in names if not name.endswith("/"))


def rclone(stage):
    """rclone lists the tree."""
    require_tool("rclone")
    command = ("rclone", "--config", "", "--http-url", stage.url("/listed/"), "lsf", "-R", "--files-only", ":http:")
    return files_found(run(*command).stdout.decode().splitlines())


def lftp(stage):
    """lftp finds the files, with their sizes."""
    require_tool("lftp")
    found = run("lftp", "-c", f"open {stage.url('/listed/')}; find").stdout.decode().splitlines()
    sizes = run("lftp", "-c", f"open {stage.url('/listed/')}; cls --size --block-size=1 -1 100.bin").stdout.decode()
    expect("the size", sizes.split(), ["100", "100.bin"])
    return files_found(name.removeprefix("./") for name in found if not name.endswith("/"))


def wget(stage):
    """wget -r fetches every file, and one page for each directory."""
    require_tool("wget")
    copy = stage.room()
    options = ("--recursive", "--no-parent", "--no-host-directories", "--cut-dirs=1", "--quiet")
    names = ("--restrict-file-names=unix,nocontrol", "--local-encoding=UTF-8", "--execute=robots=off")
    run("wget", *options, *names, stage.url("/listed/"), cwd=copy)
    return files_found(str(path) for path in files_beneath(copy) if path.name != "index.html")


def httpdirfs(stage):
    """httpdirfs mounts it."""
    require_tool("httpdirfs")
    if not Path("/dev/fuse").exists():
        raise Skipped("no /dev/fuse")
    with mounted(stage) as place:
        return files_found(str(path) for path in files_beneath(place))


@contextmanager
def mounted(stage):
    """The listing as a file system, while the body runs."""
    place = stage.room()
    command = ("httpdirfs", "-f", "--cache-location", stage.room(), stage.url("/listed/"), place)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_mount(place)
            yield place
        finally:
            subprocess.run(["umount", place], check=False, capture_output=True)
            process.terminate()


def wait_for_mount(place):
    end = time.monotonic() + MOUNT_SECONDS
    while not place.is_mount():
        if time.monotonic() > end:
            raise Failed("nothing was mounted")
        time.sleep(0.05)


def imported(stage, script, *modules):
    """What a script of Python prints, which needs modules of PyPI."""
    for module in modules:
        if subprocess.run([stage.python, "-c", f"import {module}"], capture_output=True, check=False).returncode:
            raise Skipped(f"{stage.python} has no module {module}")
    return json.loads(run(stage.python, "-c", script, stage.url("/listed/")).stdout)


def require_tool(name):
    if not shutil.which(name):
        raise Skipped(f"not installed: {name}")


def files_found(names):
    expect("what was found", sorted(names), sorted(LISTED_NAMES))
    return f"{len(LISTED_NAMES)} files"


CHECKS = (fsspec, gdal, rclone, lftp, wget, httpdirfs)
