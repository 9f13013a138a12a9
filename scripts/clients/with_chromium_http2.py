"""Headless Chromium over HTTP/2: a page of 200 assets, on a way as slow as a network.

In the page the images come before the styles and scripts, so that these are asked for last; they
have to come first, as their priorities say (RFC 9218).
"""

import random
from contextlib import contextmanager
from dataclasses import dataclass

from certificates import pin
from devtools import Tab, browser
from outcome import expect, require
from site_tree import plant
from slow_link import slow_link
from stage import Stage

TOOLS = ("chromium",)
# Fewer images than servers allow streams: else the browser could not ask for the rest before some
# of them are complete.
IMAGES, STYLES, SCRIPTS = 90, 40, 70
IMAGE_BYTES, STYLE_BYTES, SCRIPT_BYTES = 40_000, 5_000, 5_000
BYTES_PER_SECOND = 2_000_000
# Of the images, so many may be complete before the last style or script is: some are there or
# under way before the browser asks for it.
EARLY_IMAGES = IMAGES // 4
# Begins some large downloads, aborts them, and measures how long a small one takes then.
ABORTED = """(async () => {
  const all = new AbortController();
  const begin = () => fetch("/files/big.bin", { signal: all.signal, cache: "no-store" });
  const begun = await Promise.all(Array.from({ length: 5 }, begin));
  await Promise.all(begun.map((response) => response.body.getReader().read()));
  all.abort();
  const before = performance.now();
  await (await fetch("/assets/style0.css", { cache: "no-store" })).text();
  return performance.now() - before;
})()"""
SOON_MILLISECONDS = 1000


@dataclass(frozen=True)
class Subject:
    """The stage, and the tab in which the page has been loaded."""

    stage: Stage
    tab: Tab

    def received(self):
        """What came of the assets, by path."""
        responses = {
            each["requestId"]: each["response"]
            for each in self.tab.events("Network.responseReceived")
        }
        return {key: each for key, each in responses.items() if "/assets/" in each["url"]}


@contextmanager
def session(stage):
    stage = stage.secure()
    plant(stage.root / "main/assets", assets())
    trust = f"--ignore-certificate-errors-spki-list={pin(stage.certificates.ecdsa.certificate)}"
    with (
        slow_link(stage.port, BYTES_PER_SECOND) as port,
        browser("chromium", stage.room(), stage.work / "chromium-http2.log", trust) as made,
    ):
        tab = Tab(made)
        # A connection before, so that the page itself is what is measured.
        tab.load(stage.url("/assets/small.html", port))
        tab.load(stage.url("/assets/", port))
        yield Subject(stage, tab)


def assets():
    """The page and what it needs, each of its size."""
    chance = random.Random(0)
    files = {"small.html": b"<!doctype html><title>Small</title><link rel=icon href=data:,>\n"}
    for number in range(IMAGES):
        picture = f"<rect width='9' height='9' fill='#{number:03x}'/>"
        svg = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'>{picture}<!--"
        files[f"image{number}.svg"] = f"{svg}{filler(chance, IMAGE_BYTES)}--></svg>".encode()
    for number in range(STYLES):
        style = f".s{number} {{ color: rgb({number}, 2, 3) }} /*{filler(chance, STYLE_BYTES)}*/"
        files[f"style{number}.css"] = style.encode()
    for number in range(SCRIPTS):
        script = f"(window.ran ??= []).push({number}); //{filler(chance, SCRIPT_BYTES)}\n"
        files[f"script{number}.js"] = script.encode()
    files["index.html"] = page().encode()
    return files


def filler(chance, count):
    return chance.randbytes(count // 2).hex()


def page():
    # All but the first are out of sight: the browser wants what is seen before scripts.
    tall = 'width="9" height="1500" style="display: block" alt=""'
    images = [f'<img src="image{number}.svg" {tall}>' for number in range(IMAGES)]
    styles = [f'<link rel="stylesheet" href="style{number}.css">' for number in range(STYLES)]
    scripts = [f'<script src="script{number}.js"></script>' for number in range(SCRIPTS)]
    head = [
        "<!doctype html>",
        '<html lang="en">',
        "<title>Many assets</title>",
        "<link rel=icon href=data:,>",
    ]
    return "\n".join([*head, "<body>", *images, *styles, *scripts, ""])


def all_of_them(subject):
    """A page of 200 assets: all came, whole and right."""
    statuses = [each["status"] for each in subject.received().values()]
    # The small page and the large one too.
    expect("the answers", len(statuses), IMAGES + STYLES + SCRIPTS + 2)
    expect("the statuses", set(statuses), {200})
    decoded = (
        "[...document.images].filter((image) => image.complete && image.naturalWidth > 0).length"
    )
    expect("the images that were decoded", subject.tab.evaluate(decoded), IMAGES)
    expect(
        "the scripts that ran, in order", subject.tab.evaluate("window.ran"), list(range(SCRIPTS))
    )
    expect("the styles", subject.tab.evaluate("document.styleSheets.length"), STYLES)
    expect("what is in the console", list(subject.tab.problems()), [])


def one_connection(subject):
    """They came over HTTP/2, on one connection."""
    received = subject.received().values()
    expect("the protocols", {each["protocol"] for each in received}, {"h2"})
    expect("the connections", len({each["connectionId"] for each in received}), 1)


def order(subject):
    """Styles and scripts come before the images that were asked for before them."""
    names = {key: each["url"].rpartition("/")[2] for key, each in subject.received().items()}
    finished = [
        names[each["requestId"]]
        for each in subject.tab.events("Network.loadingFinished")
        if each["requestId"] in names
    ]
    urgent = [place for place, name in enumerate(finished) if name.endswith((".css", ".js"))]
    early = sum(name.endswith(".svg") for name in finished[: max(urgent)])
    require(
        early <= EARLY_IMAGES,
        f"{early} of {IMAGES} images were complete before the last style or script",
    )
    return f"{early} of {IMAGES} images were complete before the last style or script"


def aborted(subject):
    """Downloads that are aborted stop, and what is asked for next comes soon."""
    milliseconds = subject.tab.evaluate(ABORTED)
    require(milliseconds < SOON_MILLISECONDS, f"it came after {milliseconds:.0f} ms")
    connections = {each["connectionId"] for each in subject.received().values()}
    expect("the connections", len(connections), 1)
    return f"after {milliseconds:.0f} ms"


CHECKS = (all_of_them, one_connection, order, aborted)
