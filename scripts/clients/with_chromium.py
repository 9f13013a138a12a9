"""Headless Chromium: a page with everything, an application, another origin, listings.

With --screenshots, pictures of the listing are made too.
"""

import base64
import re
import shutil
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

import with_ffmpeg
from certificates import pin
from devtools import Browser, Tab, browser
from outcome import Skipped, expect, require
from site_tree import ODD_NAMES, in_listing
from stage import Stage, run

TOOLS = ("chromium",)
FONTS = ("*.woff2", "*.woff", "*.ttf")
PHONE = {"width": 390, "height": 844, "mobile": True}
DESKTOP = {"width": 960, "height": 844, "mobile": False}
SCREENSHOT_BYTES_MAX = 100_000
ROUTES = ("/users/jane.doe", "/pkg/react@18.2.0", "/v/1.2.3/", "/a;b,c~d", "/x/.dot", "/missing.js")
TITLE_IN_FRAME = f"""new Promise((resolve) => {{
  const frame = document.createElement("iframe");
  frame.src = "{ROUTES[0]}";
  frame.onload = () => resolve(frame.contentDocument.title);
  document.body.append(frame);
}})"""
WORKER_PASSES_ON = """navigator.serviceWorker.register("/worker.js")
  .then(() => navigator.serviceWorker.ready).then(() => true)"""


@dataclass(frozen=True)
class Subject:
    """The stage, the browser, and the tab in which the page with everything is open."""

    stage: Stage
    browser: Browser
    tab: Tab

    @contextmanager
    def other_tab(self):
        tab = Tab(self.browser)
        try:
            yield tab
        finally:
            tab.close()


@contextmanager
def session(stage):
    page = stage.root / "main/page"
    add_font(page, stage)
    if shutil.which("ffmpeg") and not (page / "film.webm").exists():
        options = ("-deadline", "realtime", "-cpu-used", "8", "-b:v", "6M")
        with_ffmpeg.make_film(page / "film.webm", "libvpx", *options)
        run("ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=s=64x64", *ONE, page / "pixels.png")
    # The certificate's authority is not among the browser's.
    trust = f"--ignore-certificate-errors-spki-list={pin(stage.certificates.ecdsa.certificate)}"
    with browser("chromium", stage.room(), stage.work / "chromium.log", trust) as made:
        tab = Tab(made)
        tab.load(stage.url("/page/"))
        yield Subject(stage, made, tab)


ONE = ("-frames:v", "1", "-update", "1")


def add_font(page, stage):
    """Any font that is on this machine."""
    for directory in (stage.root / "main/tree", Path("/usr/share/fonts")):
        for pattern in FONTS:
            for font in directory.rglob(pattern):
                # The name in the style sheet; browsers look at the bytes for what it is.
                shutil.copy(font, page / "font.woff2")
                return


def ask(subject, question):
    return subject.tab.evaluate(f"window.ask.{question}")


def scripts(subject):
    """Scripts: a classic one, a module, what it imports, and later."""
    wanted = {"answer": 42, "later": "imported", "classic": "ran"}
    expect("what they say", ask(subject, "scripts()"), wanted)


def styles(subject):
    """Style sheets, an imported one too."""
    wanted = {"color": "rgb(1, 2, 3)", "background": "rgb(250, 251, 252)"}
    expect("the styles", ask(subject, "styles()"), wanted)


def images(subject):
    """Images, SVG and PNG."""
    expect("which were decoded", ask(subject, "images()"), [True, True])


def font(subject):
    """A font."""
    if not (subject.stage.root / "main/page/font.woff2").exists():
        raise Skipped("no font on this machine")
    expect("the states of the fonts", ask(subject, "font()"), ["loaded"])


def film(subject):
    """A film that is sought forwards and back, by ranges."""
    seconds = with_ffmpeg.SECONDS
    wanted = [(seconds * 0.9, "blue"), (seconds * 0.1, "red"), (seconds * 0.6, "blue")]
    for second, color in wanted:
        expect(f"the colour at {second} s", ask(subject, f"film({second})"), color)
    received = [each["response"] for each in subject.tab.events("Network.responseReceived")]
    parts = [each for each in received if each["url"].endswith("film.webm")]
    expect("the statuses", {each["status"] for each in parts}, {206})
    ranges = [{name.lower(): value for name, value in each["headers"].items()}["content-range"] for each in parts]
    starts = {int(re.match(r"bytes (\d+)-", each)[1]) for each in ranges}
    require(len(starts) > 1, f"ranges began at {starts}")
    return f"ranges from {', '.join(map(str, sorted(starts)))}"


def elsewhere(subject):
    """A cross-origin fetch with a preflight."""
    url = f"{subject.stage.scheme}://data.other.localhost:{subject.stage.port}/data.json"
    expect("the answer", ask(subject, f"elsewhere({url!r})"), {"from": "elsewhere"})
    requests = subject.tab.events("Network.requestWillBeSent")
    methods = [each["request"]["method"] for each in requests if each["request"]["url"] == url]
    require("OPTIONS" in methods, f"the methods were {methods}")


def revalidation(subject):
    """A reload asks again and gets 304s."""
    before = len(subject.tab.events("Network.responseReceivedExtraInfo"))
    subject.tab.reload()
    after = subject.tab.events("Network.responseReceivedExtraInfo")[before:]
    statuses = [each["statusCode"] for each in after]
    require(statuses.count(304) >= 8, f"the statuses are {statuses}")
    return f"{statuses.count(304)} of {len(statuses)} answers were 304"


def worker(subject):
    """A service worker that keeps files, answers, and is updated."""
    found = ask(subject, "worker()")
    expect("what it made up", found["made"], "made up by the worker")
    sheet = (subject.stage.root / "main/page/style.css").read_text(encoding="utf-8")
    expect("what it kept", found["kept"], sheet)
    subject.tab.reload()
    expect("the style sheet it gave", ask(subject, "styles()")["color"], "rgb(1, 2, 3)")


def quiet(subject):
    """No error and no warning in the console, nothing that did not load."""
    expect("what is in the console", list(subject.tab.problems()), [])
    return f"{len(subject.tab.events('Network.responseReceived'))} answers"


def application(subject):
    """An application: its page for every navigation, 404 for a missing script."""
    host = f"{subject.stage.scheme}://app.localhost:{subject.stage.port}"
    with subject.other_tab() as tab:
        tab.load(f"{host}/some/where?x=1")
        expect("the title", tab.evaluate("document.title"), "app at /some/where")
        expect("what is in the console", list(tab.problems()), [])
        missing = "fetch('/missing.js').then((response) => response.status)"
        expect("the status of a missing script", tab.evaluate(missing), 404)


def routes(subject):
    """An application: routes with dots, in a frame, and passed on by a service worker."""
    host = f"{subject.stage.scheme}://app.localhost:{subject.stage.port}"
    with subject.other_tab() as tab:
        for route in ROUTES:
            tab.load(host + route)
            expect("the title", tab.evaluate("document.title"), f"app at {route}")
        expect("the title in a frame", tab.evaluate(TITLE_IN_FRAME), f"app at {ROUTES[0]}")
        tab.evaluate(WORKER_PASSES_ON)
        for route in ROUTES:
            tab.load(host + route)
            expect("whether a worker is at work", tab.evaluate("!!navigator.serviceWorker.controller"), True)
            expect("the title by way of the worker", tab.evaluate("document.title"), f"app at {route}")
        missing = "fetch('/missing.js').then((response) => response.status)"
        expect("the status of a missing script", tab.evaluate(missing), 404)


def error_page(subject):
    """The error page is shown."""
    with subject.other_tab() as tab:
        tab.load(subject.stage.url("/nothing/here"))
        expect("the heading", tab.evaluate("document.querySelector('h1').innerText"), "Nothing at this address")


def documentation(subject):
    """The documentation of std, with scripts, styles and fonts, if the tree is that."""
    if not (subject.stage.root / "main/tree/std/index.html").exists():
        raise Skipped("the tree is another one")
    with subject.other_tab() as tab:
        tab.load(subject.stage.url("/tree/std/"))
        require(tab.evaluate("document.fonts.size") > 0, "there are no fonts")
        # It has warnings, which are its authors' to mend.
        expect("what is in the console", list(tab.problems(("error", "assert"))), [])
        return f"{len(tab.events('Network.responseReceived'))} answers"


def listing(subject):
    """A listing: every name, links that lead there, nothing in the console."""
    trust = ssl.create_default_context(cafile=subject.stage.certificates.authority)
    with subject.other_tab() as tab:
        tab.load(subject.stage.url("/odd/"))
        links = tab.evaluate("[...document.links].map((link) => link.href)")
        inside = [link for link in links if urlsplit(link).path.startswith("/odd/")]
        names = {unquote(urlsplit(link).path).split("/")[2] for link in inside} - {""}
        expect("what the links lead to", names, in_listing())
        for link in inside:
            path = unquote(urlsplit(link).path).removeprefix("/odd/")
            with urlopen(link, context=trust) as response:
                if path in ODD_NAMES:
                    expect(f"what is at {link}", response.read().decode(), path)
        expect("what is in the console", list(tab.problems()), [])


def narrow(subject):
    """A listing is no wider than a phone."""
    with subject.other_tab() as tab:
        tab.command("Emulation.setDeviceMetricsOverride", deviceScaleFactor=2, **PHONE)
        tab.load(subject.stage.url("/showcase/"))
        width = tab.evaluate("document.documentElement.scrollWidth")
        require(width <= PHONE["width"], f"it is {width} pixels wide")


def screenshots(subject):
    """Pictures of a listing, light and dark, on a desktop and a phone."""
    directory = subject.stage.screenshots
    if not directory:
        raise Skipped("no --screenshots DIR given")
    directory.mkdir(parents=True, exist_ok=True)
    sizes = []
    for scheme in ("light", "dark"):
        room = subject.stage.room()
        for name, metrics in (("desktop", DESKTOP), ("phone", PHONE)):
            (room / f"{name}.png").write_bytes(picture(subject, scheme, metrics))
        target = directory / f"listing-{scheme}.png"
        beside(room / "desktop.png", room / "phone.png", target)
        sizes.append(target.stat().st_size)
    require(max(sizes) <= SCREENSHOT_BYTES_MAX, f"they have {sizes} bytes")
    return f"{' and '.join(map(str, sizes))} bytes"


def picture(subject, scheme, metrics):
    with subject.other_tab() as tab:
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        tab.command("Emulation.setEmulatedMedia", features=media)
        tab.command("Emulation.setDeviceMetricsOverride", deviceScaleFactor=1.5, **metrics)
        tab.load(subject.stage.url("/showcase/"))
        taken = tab.command("Page.captureScreenshot", format="png")
    return base64.b64decode(taken["data"])


def beside(left, right, target):
    """Both in one picture with few colours, which makes it small."""
    gap = "pad=iw+24:ih:24:0:gray"
    graph = f"[1]{gap}[r];[0][r]hstack,split[a][b];[a]palettegen=max_colors=64[p];[b][p]paletteuse=dither=none"
    run("ffmpeg", "-loglevel", "error", "-y", "-i", left, "-i", right, "-filter_complex", graph, *ONE, target)


CHECKS = (
    scripts,
    styles,
    images,
    font,
    film,
    elsewhere,
    revalidation,
    worker,
    quiet,
    application,
    routes,
    error_page,
    documentation,
    listing,
    narrow,
    screenshots,
)
