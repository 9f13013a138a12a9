"""Chromium without a window, driven by the DevTools protocol over a pipe.

Messages are JSON, each ended by a zero byte; the browser reads them from descriptor 3 and
writes to descriptor 4. See https://chromedevtools.github.io/devtools-protocol/.
"""

import json
import os
import select
import subprocess
import time
from contextlib import contextmanager

from outcome import Failed

ANSWER_SECONDS = 60
STOP_SECONDS = 10
OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-gpu",
    # Containers have a small /dev/shm, and often no user namespaces. Only our pages are loaded.
    "--disable-dev-shm-usage",
    "--no-sandbox",
    "--hide-scrollbars",
    "--lang=en",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE *.localhost",
)
# Not the browser's own pages, such as what pops up below its address bar.
ATTACHED = [{"type": "page"}, {"type": "service_worker"}]
# What a tab or a worker is told when it begins.
DOMAINS = ("Runtime", "Network", "Log")


@contextmanager
def browser(program, profile, log, *options):
    """A browser with a profile of its own while the body runs."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    command = [program, *OPTIONS, *options, f"--user-data-dir={profile}", "about:blank"]
    # The shell moves the descriptors to where the browser looks for them: bash, as dash knows only
    # those below ten.
    plumbed = ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", *command]
    with log.open("wb") as output:
        process = subprocess.Popen(
            plumbed, pass_fds=(theirs_in, theirs_out), stdout=output, stderr=output
        )
    os.close(theirs_in)
    os.close(theirs_out)
    made = Browser(ours_in, ours_out)
    try:
        attach = {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": True}
        made.command("Target.setAutoAttach", filter=ATTACHED, **attach)
        yield made
        made.command("Browser.close")
    finally:
        os.close(ours_out)
        end(process)
        os.close(ours_in)


def end(process):
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Browser:
    """Commands go out, and answers and events come in; `events` keeps all of these."""

    def __init__(self, source, sink):
        self.source, self.sink = source, sink
        self.pending = b""
        self.last = 0
        self.events = []
        self.answers = {}

    def command(self, method, session=None, **parameters):
        """Sends a command and waits for what it gives."""
        number = self.send(method, session, **parameters)
        self.wait(method, lambda: number in self.answers)
        answer = self.answers.pop(number)
        if "error" in answer:
            raise Failed(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def send(self, method, session, **parameters):
        self.last += 1
        message = {"id": self.last, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self.sink, content) :]
        return self.last

    def wait(self, what, done, seconds=ANSWER_SECONDS):
        """Reads messages until `done()`."""
        deadline = time.monotonic() + seconds
        while not done():
            left = deadline - time.monotonic()
            if left <= 0 or not self.read(left):
                raise Failed(f"the browser gave no answer: {what}")

    def read(self, seconds):
        """Takes what has come within that time; False at the end of it, or of the browser."""
        if not select.select([self.source], [], [], seconds)[0]:
            return False
        came = os.read(self.source, 1 << 20)
        *messages, self.pending = (self.pending + came).split(b"\0")
        for message in messages:
            self.take(json.loads(message))
        return bool(came)

    def take(self, message):
        if "id" in message:
            self.answers[message["id"]] = message
            return
        self.events.append(message)
        if message["method"] == "Target.attachedToTarget":
            for domain in DOMAINS:
                self.send(f"{domain}.enable", message["params"]["sessionId"])

    def settle(self, seconds=0.5):
        """Reads until nothing has come for that time."""
        while self.read(seconds):
            pass


class Tab:
    """A tab, whose `events()` are those since it was made, workers' included."""

    def __init__(self, browser):
        self.browser = browser
        self.first = len(browser.events)
        self.target = browser.command("Target.createTarget", url="about:blank")["targetId"]
        browser.wait("a new tab", lambda: self.attached())
        self.session = self.attached()[0]["sessionId"]
        self.command("Page.enable")

    def attached(self):
        events = self.events("Target.attachedToTarget")
        return [each for each in events if each["targetInfo"]["targetId"] == self.target]

    def command(self, method, **parameters):
        return self.browser.command(method, self.session, **parameters)

    def load(self, url):
        """Goes there, or loads it again if it is there, and waits until all of it has come."""
        self.wait_for_load("Page.navigate", url=url)

    def reload(self):
        self.wait_for_load("Page.reload")

    def wait_for_load(self, method, **parameters):
        before = len(self.events("Page.loadEventFired"))
        self.command(method, **parameters)
        self.browser.wait(method, lambda: len(self.events("Page.loadEventFired")) > before)
        self.browser.settle()

    def evaluate(self, expression):
        """The value of an expression in the page, a promise's too."""
        done = self.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in done:
            details = done["exceptionDetails"]
            raise Failed(f"{expression}: {details.get('exception', details).get('description', details)}")
        return done["result"].get("value")

    def events(self, method):
        """The parameters of the events of a kind."""
        return [e["params"] for e in self.browser.events[self.first :] if e["method"] == method]

    def close(self):
        self.browser.command("Target.closeTarget", targetId=self.target)

    def problems(self, kinds=("error", "warning", "assert")):
        """All that a console would show of these kinds, and all that could not be loaded."""
        self.browser.settle()
        for thrown in self.events("Runtime.exceptionThrown"):
            yield thrown["exceptionDetails"].get("exception", thrown).get("description", thrown)
        for called in self.events("Runtime.consoleAPICalled"):
            if called["type"] in kinds:
                yield f"console.{called['type']}: {called['args']}"
        for added in self.events("Log.entryAdded"):
            if added["entry"]["level"] in kinds:
                yield f"{added['entry']['text']} {added['entry'].get('url', '')}"
        sent = self.events("Network.requestWillBeSent")
        urls = {each["requestId"]: each["request"]["url"] for each in sent}
        for failed in self.events("Network.loadingFailed"):
            if not failed.get("canceled"):
                yield f"{failed['errorText']} for {urls.get(failed['requestId'])}"
        for received in self.events("Network.responseReceived"):
            if received["response"]["status"] >= 400:
                yield f"{received['response']['status']} for {received['response']['url']}"
