"""Headless Chromium opens the live page under load."""

import base64
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass

from devtools import Browser, Tab, browser
from load import HOSTILE
from outcome import Skipped, expect, require
from subject import Subject, eventually

TOOLS = ("chromium",)
PHONE = {"width": 320, "height": 700, "deviceScaleFactor": 2, "mobile": True}
DESKTOP = {"width": 900, "height": 1120, "deviceScaleFactor": 1, "mobile": False}
SCREENSHOT_BYTES_MAX = 120_000
CONTRAST_MIN = 4.5
CONTRASTS = """(() => {
  const numbers = (color) => color.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = (color) => numbers(color).map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    const color = getComputedStyle(element).backgroundColor;
    return color === "rgba(0, 0, 0, 0)" ? behind(element.parentElement) : color;
  };
  return [...document.querySelectorAll("h1, h2, p:not(.hidden), dt, dd, th, td, button, summary, a, figcaption, .axis")]
    .map((element) => {
      const pair = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
      return [(pair[0] + 0.05) / (pair[1] + 0.05), element.outerHTML.slice(0, 80)];
    })
    .sort((a, b) => a[0] - b[0])[0];
})()"""


@dataclass(frozen=True)
class Session:
    """The server, the browser, and the tab with the page."""

    subject: Subject
    browser: Browser
    tab: Tab

    @contextmanager
    def page(self, metrics=None, **media):
        """The page in another tab, on another screen or with other preferences."""
        tab = Tab(self.browser)
        try:
            if metrics:
                tab.command("Emulation.setDeviceMetricsOverride", **metrics)
            features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
            tab.command("Emulation.setEmulatedMedia", features=features)
            tab.load(self.subject.url("/"))
            eventually("a chart", lambda: tab.evaluate(chart("bytes")))
            yield tab
        finally:
            tab.close()


@contextmanager
def session(subject):
    profile = subject.work / "profile"
    profile.mkdir()
    with browser("chromium", profile, subject.work / "chromium.log") as made:
        tab = Tab(made)
        tab.load(subject.url("/"))
        yield Session(subject, made, tab)


def chart(name):
    return f"document.querySelector('#{name}-chart path').getAttribute('d')"


def text(name):
    return f"document.getElementById('{name}').textContent"


def drawn(session):
    """All is drawn: figures, charts, a row for each core."""
    tab = session.tab
    for name in ("bytes", "requests", "connections"):
        eventually(f"a chart of {name}", lambda: tab.evaluate(chart(name)))
    expect("the state", tab.evaluate(text("state")), "ready")
    for name in ("requests", "errors", "bytes", "connections", "p50", "p99"):
        eventually(f"a figure of {name}", lambda: tab.evaluate(text(f"now-{name}")) not in ("–", "0"))
    expect("the rows of cores", tab.evaluate("document.querySelectorAll('#cores tr').length"), 2)
    eventually("slow requests", lambda: "/film.bin" in tab.evaluate(text("slow")))
    eventually("errors", lambda: "/missing.png" in tab.evaluate(text("errors")))
    return f"{tab.evaluate(text('now-requests'))} requests/s, {tab.evaluate(text('now-bytes'))}"


def moving(session):
    """Values and charts move under load."""
    tab = session.tab
    for expression in (chart("bytes"), chart("requests"), text("now-bytes"), text("cores")):
        before = tab.evaluate(expression)
        eventually(f"a change of {expression}", lambda: tab.evaluate(expression) != before)


def counted(session):
    """The page says what the metrics say."""
    total = sum(core["requests"] for core in session.subject.live()["cores"])
    before = session.tab.evaluate("samples[0].status.cores.reduce((sum, core) => sum + core.requests, 0)")
    require(0 < before <= total, f"{before} of {total} requests")


def hostile(session):
    """A path that would be markup is text."""
    tab = session.tab
    eventually("the path", lambda: HOSTILE in tab.evaluate(text("errors")))
    expect("its elements", tab.evaluate("document.querySelectorAll('td img, td script').length"), 0)
    expect("what it did", tab.evaluate("typeof hacked"), "undefined")


def narrow(session):
    """It scrolls sideways on no phone of 320 pixels."""
    with session.page(PHONE) as tab:
        for details in ("bytes", "requests", "connections"):
            tab.evaluate(f"document.getElementById('{details}-values').open = true")
        eventually("errors", lambda: tab.evaluate(text("errors")) != "None.")
        expect("the width", tab.evaluate("document.documentElement.scrollWidth"), PHONE["width"])


def contrasts(session):
    """Light and dark, each text stands out by 4.5 to 1."""
    least = []
    backgrounds = set()
    for scheme in ("light", "dark"):
        with session.page(prefers_color_scheme=scheme) as tab:
            eventually("errors", lambda: tab.evaluate(text("errors")) != "None.")
            ratio, element = tab.evaluate(CONTRASTS)
            require(ratio >= CONTRAST_MIN, f"{scheme}: {ratio:.2f} for {element}")
            least.append(f"{ratio:.1f}")
            backgrounds.add(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    expect("the number of backgrounds", len(backgrounds), 2)
    return f"the least are {' and '.join(least)}"


def keyboard(session):
    """The keyboard pauses it, goes on, and opens a table for a chart."""
    with session.page() as tab:
        press(tab, "Tab")
        expect("the first stop", tab.evaluate("document.activeElement.id"), "pause")
        press(tab, "Enter", "\r")
        expect("pressed", tab.evaluate("document.activeElement.getAttribute('aria-pressed')"), "true")
        time.sleep(1)
        length = tab.evaluate("samples.length")
        time.sleep(2.5)
        expect("the samples while paused", tab.evaluate("samples.length"), length)
        press(tab, "Enter", "\r")
        eventually("a sample", lambda: tab.evaluate("samples.length") > length)
        press(tab, "Tab")
        expect("the next stop", tab.evaluate("document.activeElement.tagName"), "SUMMARY")
        press(tab, "Enter", "\r")
        rows = "document.querySelectorAll('#bytes-values tbody tr').length"
        eventually("a table", lambda: tab.evaluate(rows))
        stops = set()
        for _ in range(12):
            press(tab, "Tab")
            stops.add(tab.evaluate("document.activeElement.getAttribute('aria-labelledby')"))
        require({"cores-title", "slow-title", "errors-title"} <= stops, f"the stops were {stops}")


def press(tab, key, typed=""):
    codes = {"Tab": 9, "Enter": 13}
    pressed = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key], "text": typed}
    tab.command("Input.dispatchKeyEvent", type="keyDown", **pressed)
    tab.command("Input.dispatchKeyEvent", type="keyUp", **pressed)


def read_aloud(session):
    """A screen reader finds landmarks, headings, names of charts and tables."""
    tab = session.tab
    nodes = tab.command("Accessibility.getFullAXTree")["nodes"]
    found = {}
    for node in nodes:
        if not node.get("ignored"):
            name = node.get("name", {}).get("value", "")
            found.setdefault(node["role"]["value"], []).append(name)
    for role in ("banner", "main", "contentinfo", "heading", "table", "columnheader", "rowheader", "status"):
        require(role in found, f"there is no {role}")
    images = found.get("image", []) + found.get("img", [])
    expect("the charts with a name", len([name for name in images if name]), 3)
    require(all(found["heading"]), f"the headings are {found['heading']}")
    require(all(found.get("region", [])), "a region has no name")
    expect("the live regions", tab.evaluate("document.querySelectorAll('[aria-live], [role=status]').length"), 1)
    require("requests per second" in tab.evaluate(text("spoken")), "nothing was said")
    said = tab.evaluate(text("spoken"))
    time.sleep(3)
    expect("what is said", tab.evaluate(text("spoken")), said)


def calm(session):
    """With reduced motion it is drawn every five seconds."""
    with session.page(prefers_reduced_motion="reduce") as tab:
        draws = """new Promise((resolve) => {
          let count = 0;
          new MutationObserver(() => { count += 1; })
            .observe(document.querySelector('#bytes-chart path'), { attributes: true });
          setTimeout(() => resolve(count), 6500);
        })"""
        count = tab.evaluate(draws)
        require(1 <= count <= 2, f"it was drawn {count} times in 6.5 seconds")


def quiet(session):
    """Nothing in the console, no violation of the policy."""
    expect("what is in the console", list(session.tab.problems()), [])
    sent = session.tab.events("Network.requestWillBeSent")
    urls = {each["request"]["url"].split("?")[0] for each in sent}
    expected = {session.subject.url("/"), session.subject.url("/live.json"), "data:,"}
    require(urls <= expected, f"it loads {urls - expected}")


def screenshot(session):
    """A picture for the documentation."""
    target = session.subject.screenshot
    if not target:
        raise Skipped("no --screenshot FILE given")
    if not shutil.which("ffmpeg"):
        raise Skipped("not installed: ffmpeg")
    whole = session.subject.work / "page.png"
    session.tab.command("Emulation.setDeviceMetricsOverride", **DESKTOP)
    time.sleep(2)
    taken = session.tab.command("Page.captureScreenshot", format="png")
    whole.write_bytes(base64.b64decode(taken["data"]))
    graph = "split[a][b];[a]palettegen=max_colors=64[p];[b][p]paletteuse=dither=none"
    command = ["ffmpeg", "-loglevel", "error", "-y", "-i", whole, "-filter_complex", graph, "-frames:v", "1"]
    subprocess.run([*command, "-update", "1", target], check=True)
    size = target.stat().st_size
    require(size <= SCREENSHOT_BYTES_MAX, f"it has {size} bytes")
    return f"{size} bytes"


CHECKS = (
    drawn, moving, counted, hostile, narrow, contrasts, keyboard, read_aloud, calm, quiet, screenshot
)
