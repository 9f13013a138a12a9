"""nghttp and h2load of nghttp2: downloads, uploads, padding, windows; many requests."""

import re
from contextlib import contextmanager

import http2_plan
from http2_plan import BIG, HUGE, MIDDLING, TEXT
from outcome import expect, require
from stage import run

TOOLS = ("nghttp", "h2load")
# Options of nghttp, each of which it has to do with.
OPTIONS = (
    (),
    ("--header", f"x-long: {'y' * 12_000}"),
    ("--padding", "255"),
    ("--window-bits", "1"),
    ("--window-bits", "10", "--connection-window-bits", "10"),
    ("--window-bits", "30", "--connection-window-bits", "30"),
    ("--header-table-size", "0"),
    ("--header-table-size", "100", "--encoder-header-table-size", "100"),
    ("--max-concurrent-streams", "1"),
    ("--no-dep",),
    ("--weight", "256"),
    ("--trailer", "x-trailer: value"),
)


@contextmanager
def session(stage):
    http2_plan.plant_huge(stage)
    yield stage


def content(stage, path):
    return (stage.root / f"main{path}").read_bytes()


def options(stage):
    """a file with each of many options"""
    for words in OPTIONS:
        # Byte by byte, a megabyte would take long.
        path = TEXT if "1" in words else MIDDLING
        body = run("nghttp", "--no-verify-peer", *words, stage.url(path)).stdout
        require(body == content(stage, path), f"the bytes differ with {words}, {len(body)} came")
    return f"{len(OPTIONS)} ways"


def continuation(stage):
    """fields of more than 16 KiB, with CONTINUATION, are 431"""
    said = run(
        "nghttp", "--no-verify-peer", "-nv", "--continuation", stage.url(TEXT)
    ).stdout.decode()
    require(":status: 431" in said, f"another answer: {said[-500:]}")


def many(stage):
    """200 files on one connection"""
    said = run(
        "nghttp", "--no-verify-peer", "-ns", "--multiply", "200", stage.url(MIDDLING)
    ).stdout.decode()
    rows = re.findall(r"^ *\d+ .* (\d{3}) +(\S+) (\S+)$", said, re.MULTILINE)
    expect("the answers", len(rows), 200)
    expect("the statuses", {status for status, _, _ in rows}, {"200"})


def huge(stage):
    """100 MiB by hash"""
    body = run("nghttp", "--no-verify-peer", stage.url(HUGE)).stdout
    require(body == content(stage, HUGE), f"the bytes differ, {len(body)} came")


def upload(stage):
    """an upload of a file is refused and read to its end"""
    file = stage.root / f"main{TEXT}"
    said = run(
        "nghttp", "--no-verify-peer", "-v", "-n", "--data", file, stage.url(TEXT)
    ).stdout.decode()
    require(":status: 405" in said, f"it was not refused: {said[-500:]}")


def assets(stage):
    """a page and its assets"""
    said = run("nghttp", "--no-verify-peer", "-nas", stage.url("/page/")).stdout.decode()
    require("style.css" in said and "app.js" in said, f"they did not come: {said[-500:]}")


def load(stage):
    """h2load: 20,000 requests on 8 connections, 32 at once on each"""
    for path, count in ((TEXT, 20_000), (MIDDLING, 500), (BIG, 16)):
        words = ("-n", count, "-c", min(8, count), "-m", 32, "-t", 1)
        said = run("h2load", *words, stage.url(path)).stdout.decode()
        wanted = f" {count} done, {count} succeeded, 0 failed, 0 errored, 0 timeout"
        require(wanted in said, f"{path}: {said[-900:]}")
        size = (stage.root / f"main{path}").stat().st_size * count
        data = int(re.search(r"\((\d+)\) data", said)[1])
        expect(f"the bytes of {path}", data, size)
    return re.search(r"finished in .*", said)[0]


ALL = (options, continuation, many, huge, upload, assets, load)


def on(way, of):
    def made(check):
        def checked(stage):
            return check(of(stage))

        checked.__doc__ = f"{way}: {check.__doc__}"
        return checked

    return tuple(map(made, ALL))


CHECKS = (*on("TLS", lambda stage: stage.secure()), *on("h2c", lambda stage: stage))
