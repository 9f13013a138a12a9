"""Programs that read directory listings: file systems, mirrors and libraries for data."""

import html
import json
import re
import subprocess
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from urllib.parse import unquote
from urllib.request import urlopen

from outcome import Failed, Skipped, expect
from site_tree import LISTED_BYTES, LISTED_NAMES, LONG_AGO_NS
from stage import files_beneath, require_modules, require_tools, run

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
HTMLLISTPARSE = """
import calendar, htmllistparse, json, sys
_, entries = htmllistparse.fetch_listing(sys.argv[1])
print(json.dumps([(e.name, e.size, e.size and calendar.timegm(e.modified) // 60 * 60) for e in entries]))
"""
# Of xbmc/filesystem/HTTPDirectory.cpp: link, text, and what follows.
KODI = re.compile(r'<a href="([^"]*)"[^>]*>\s*(.*?)\s*</a>(.+?)(?=<a|</tr|$)', re.IGNORECASE | re.DOTALL)


def session(stage):
    return nullcontext(stage)


def fsspec(stage):
    """fsspec (pandas, dask, xarray) finds every file, and nothing else."""
    found = imported(stage, FSSPEC, "fsspec", "aiohttp")
    return files_found(unquote(url.partition("/listed/")[2]) for url in found)


def gdal(stage):
    """GDAL reads the directories, and takes nothing else for one."""
    found = imported(stage, GDAL, "pyogrio")
    names = [unquote(url.partition("/listed/")[2]) for url in found]
    directories = {f"{above}/" for name in LISTED_NAMES for above in Path(name).parents} - {"./"}
    expect("the directories", sorted(name for name in names if name.endswith("/")), sorted(directories))
    return files_found(name for name in names if not name.endswith("/"))


def htmllistparse(stage):
    """htmllistparse finds the names, sizes and times."""
    found = imported(stage, HTMLLISTPARSE, "htmllistparse")
    expect("what was found", sorted(map(tuple, found)), sorted(top_of_listing()))


def kodi(stage):
    """Kodi takes every entry for one, by its own pattern."""
    with urlopen(stage.url("/listed/")) as response:
        page = response.read().decode()
    entries = [(unquote(link).rstrip("/"), html.unescape(shown)) for link, shown, _ in KODI.findall(page)]
    # It takes those alone whose link and text are the same, and no way up.
    found = sorted(link for link, shown in entries if link == shown and link != "..")
    expect("what was found", found, top_names())


def top_names():
    return sorted({name.partition("/")[0] for name in LISTED_NAMES})


def top_of_listing():
    """Each entry of the top: its name, its bytes and its time in seconds."""
    for name in top_names():
        if name in LISTED_NAMES:
            yield name, LISTED_BYTES, LONG_AGO_NS // 10**9 // 60 * 60
        else:
            yield f"{name}/", None, None


def rclone(stage):
    """rclone lists the tree."""
    require_tools("rclone")
    command = ("rclone", "--config", "", "--http-url", stage.url("/listed/"), "lsf", "-R", "--files-only", ":http:")
    return files_found(run(*command).stdout.decode().splitlines())


def lftp(stage):
    """lftp finds the files, with their sizes."""
    require_tools("lftp")
    found = run("lftp", "-c", f"open {stage.url('/listed/')}; find").stdout.decode().splitlines()
    sizes = run("lftp", "-c", f"open {stage.url('/listed/')}; cls --size --block-size=1 -1 100.bin").stdout.decode()
    expect("the size", sizes.split(), ["100", "100.bin"])
    return files_found(name.removeprefix("./") for name in found if not name.endswith("/"))


def wget(stage):
    """wget -r fetches every file, and one page for each directory."""
    require_tools("wget")
    copy = stage.room()
    options = ("--recursive", "--no-parent", "--no-host-directories", "--cut-dirs=1", "--quiet")
    names = ("--restrict-file-names=unix,nocontrol", "--local-encoding=UTF-8", "--execute=robots=off")
    run("wget", *options, *names, stage.url("/listed/"), cwd=copy)
    return files_found(str(path) for path in files_beneath(copy) if path.name != "index.html")


def httpdirfs(stage):
    """httpdirfs mounts it."""
    require_tools("httpdirfs")
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
    require_modules(stage, *modules)
    return json.loads(run(stage.python, "-c", script, stage.url("/listed/")).stdout)


def files_found(names):
    expect("what was found", sorted(names), sorted(LISTED_NAMES))
    return f"{len(LISTED_NAMES)} files"


CHECKS = (fsspec, gdal, htmllistparse, kodi, rclone, lftp, wget, httpdirfs)
