"""What clients of HTTP/2 that are libraries are asked to do, whatever their language.

A program in `programs` gets the address and the file of the authority as arguments, and a plan
on its standard input: a line for each request, of the method, the path, the length of a body that
it makes up ("0" for none), and header fields, between tabs. It sends all of them at once, and
prints a line for each, in the order of the plan: version, status, length and SHA-256 of the body,
ETag, Content-Range and Content-Length; or "error" and why. The method CANCEL is a GET that is given
up after its first byte.
"""

import hashlib
import os
import subprocess
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote

from outcome import expect, require
from site_tree import LONG_AGO_NS
from stage import COMMAND_SECONDS, Stage, files_beneath

PROGRAMS = Path(__file__).parent / "programs"
BIG, TEXT, MIDDLING, HUGE = (
    "/files/big.bin",
    "/files/text.txt",
    "/files/middling.bin",
    "/files/huge.bin",
)
HUGE_BYTES = 100 << 20
# Less than what the server reads of a body that it does not want.
BODY_BYTES = 40_000
SMALL_BODY_BYTES = 2_000


@dataclass(frozen=True)
class Client:
    """A program, as a command, and the server that it talks to."""

    stage: Stage
    command: tuple

    def ask(self, *plan):
        """The answers to a plan, in its order."""
        lines = "".join("\t".join(map(str, line)) + "\n" for line in plan)
        done = subprocess.run(
            [*map(str, self.command), self.stage.url(""), str(self.stage.certificates.authority)],
            input=lines.encode(),
            capture_output=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )
        answers = [Answer(*line.split("\t")) for line in done.stdout.decode().splitlines() if line]
        complaint = f"it ended with {done.returncode}: {done.stderr.decode()[-500:]}"
        require(done.returncode == 0 and len(answers) == len(plan), complaint)
        for line, answer in zip(plan, answers):
            require(answer.version != "error", f"{line[:2]}: {answer.status}")
            expect(f"the version for {line[:2]}", answer.version, "HTTP/2.0")
        return answers

    def content(self, path):
        return (self.stage.root / f"main{path}").read_bytes()


@dataclass(frozen=True)
class Answer:
    version: str
    status: str
    length: str = ""
    hash: str = ""
    etag: str = ""
    content_range: str = ""
    content_length: str = ""


def plant_huge(stage):
    """The file of 100 MiB, which only clients of HTTP/2 ask for."""
    file = stage.root / f"main{HUGE}"
    if not file.exists():
        file.write_bytes(os.urandom(HUGE_BYTES))
        os.utime(file, ns=(LONG_AGO_NS, LONG_AGO_NS))


def expect_content(what, answer, content, status="200"):
    expect(f"the status of {what}", answer.status, status)
    expect(f"the length of {what}", answer.length, str(len(content)))
    expect(f"the hash of {what}", answer.hash, hashlib.sha256(content).hexdigest())


def whole_tree(client):
    """the whole tree at once, by hash"""
    tree = client.stage.root / "main/tree"
    paths = files_beneath(tree)
    answers = client.ask(*(("GET", "/tree/" + quote(str(path)), 0) for path in paths))
    size = 0
    for path, answer in zip(paths, answers):
        content = (tree / path).read_bytes()
        size += len(content)
        expect_content(path, answer, content)
    return f"{len(paths)} files, {size >> 20} MiB"


def huge(client):
    """100 MiB by hash, and small files meanwhile"""
    plan = (("GET", HUGE, 0), *(("GET", TEXT, 0) for _ in range(50)))
    first, *others = client.ask(*plan)
    expect_content(HUGE, first, client.content(HUGE))
    for answer in others:
        expect_content(TEXT, answer, client.content(TEXT))


def ranges(client):
    """ranges, 50 at once"""
    content = client.content(BIG)
    bounds = [(number * 600_001, number * 600_001 + 100_000) for number in range(50)]
    answers = client.ask(
        *(("GET", BIG, 0, f"Range: bytes={first}-{last}") for first, last in bounds)
    )
    for (first, last), answer in zip(bounds, answers):
        expect_content(f"{first}-{last}", answer, content[first : last + 1], "206")
        expect("Content-Range", answer.content_range, f"bytes {first}-{last}/{len(content)}")
    unsatisfied = client.ask(("GET", TEXT, 0, "Range: bytes=99999999-"))[0]
    expect("the status beyond the end", unsatisfied.status, "416")


def conditions(client):
    """conditional requests"""
    first = client.ask(("GET", TEXT, 0))[0]
    require(first.etag, "there is no ETag")
    date = formatdate(LONG_AGO_NS // 10**9 + 1, usegmt=True)
    plan = (
        ("GET", TEXT, 0, f"If-None-Match: {first.etag}"),
        ("GET", TEXT, 0, f"If-Modified-Since: {date}"),
        ("GET", TEXT, 0, 'If-None-Match: "other"'),
        ("GET", TEXT, 0, 'If-Match: "other"'),
        ("GET", TEXT, 0, "Range: bytes=0-9", f"If-Range: {first.etag}"),
    )
    answers = client.ask(*plan)
    expect(
        "the statuses", [answer.status for answer in answers], ["304", "304", "200", "412", "206"]
    )
    expect("the bodies of 304", {answer.length for answer in answers[:2]}, {"0"})


def heads(client):
    """HEAD of files large and small, and of what is missing"""
    answers = client.ask(*(("HEAD", path, 0) for path in (TEXT, BIG, HUGE, "/nothing")))
    expect("the statuses", [answer.status for answer in answers], ["200", "200", "200", "404"])
    expect("the bodies", {answer.length for answer in answers}, {"0"})
    sizes = [str((client.stage.root / f"main{path}").stat().st_size) for path in (TEXT, BIG, HUGE)]
    expect("Content-Length", [answer.content_length for answer in answers[:3]], sizes)


def uploads(client):
    """POST with a body is refused, and what runs beside it goes on"""
    plan = [("POST", TEXT, BODY_BYTES), ("GET", MIDDLING, 0)] * 20
    for line, answer in zip(plan, client.ask(*plan)):
        if line[0] == "POST":
            expect("the status of POST", answer.status, "405")
        else:
            expect_content(MIDDLING, answer, client.content(MIDDLING))


def cancelled(client):
    """downloads that are cancelled, and others that are not"""
    plan = [("CANCEL", HUGE, 0), ("GET", MIDDLING, 0), ("CANCEL", BIG, 0)] * 15
    for line, answer in zip(plan, client.ask(*plan)):
        expect(f"the status of {line[:2]}", answer.status, "200")
        if line[0] == "GET":
            expect_content(MIDDLING, answer, client.content(MIDDLING))


def small_uploads(client):
    """POST with bodies that fit the windows is refused, and what runs beside it goes on"""
    plan = [("POST", TEXT, SMALL_BODY_BYTES), ("GET", MIDDLING, 0)] * 20
    for line, answer in zip(plan, client.ask(*plan)):
        expect(f"the status of {line[0]}", answer.status, "405" if line[0] == "POST" else "200")


ALL = (whole_tree, huge, ranges, conditions, heads, uploads, cancelled)


def checks(way, client_of, which=ALL):
    """The checks on a way ("TLS" or "h2c"); `client_of` gives the client of what a session gave."""

    def made(check):
        def checked(subject):
            return check(client_of(subject))

        checked.__doc__ = f"{way}: {check.__doc__}"
        return checked

    return tuple(map(made, which))


def on_both_ways(which=ALL):
    """The checks with TLS and without, of a session that gives a Client without it."""

    def secure(client):
        return Client(client.stage.secure(), client.command)

    return (*checks("TLS", secure, which), *checks("h2c", lambda client: client, which))
