"""curl with HTTP/2 through TLS: all that it does with HTTP/1.1, on one connection where it can."""

import hashlib

import http2_plan
import with_curl
from http2_plan import HUGE, HUGE_BYTES, TEXT
from outcome import Skipped, expect, require
from stage import run
from with_curl import curl, original

TOOLS = with_curl.TOOLS
REQUESTS = 100
# How curl ends then, an error of the stream.
DROPPED = 92


def session(stage):
    """The stage, seen through TLS and HTTP/2."""
    http2_plan.plant_huge(stage)
    return with_curl.session(stage.secure().by_curl("--http2"))


def version(stage):
    """The version is 2, on errors too."""
    urls = [
        word for path in (TEXT, "/nothing") for word in (stage.url(path), "--output", "/dev/null")
    ]
    said = run(*curl(stage), "--write-out", "%{http_version} %{http_code}\n", *urls).stdout.decode()
    expect("versions and statuses", said.split("\n")[:2], ["2 200", "2 404"])


def one_connection(stage):
    """A hundred at once, on one connection."""
    room = stage.room()
    urls = [
        word
        for number in range(REQUESTS)
        for word in (stage.url(TEXT), "--output", room / str(number))
    ]
    # They wait until it is known that the first connection can have them all.
    words = ("--parallel", "--parallel-max", REQUESTS, "--write-out", "%{num_connects}\n")
    said = run(*curl(stage), "--fail", *words, *urls).stdout.decode()
    expect("new connections", sum(map(int, said.split())), 1)
    for number in range(REQUESTS):
        require(
            (room / str(number)).read_bytes() == original(stage, TEXT), f"download {number} differs"
        )


def huge(stage):
    """100 MiB by hash."""
    file = stage.room() / "huge"
    run(*curl(stage), "--output", file, stage.url(HUGE))
    require(file.stat().st_size == HUGE_BYTES, f"{file.stat().st_size} bytes came")
    hashes = [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in (file, stage.root / f"main{HUGE}")
    ]
    expect("the hash", *hashes)


def given_up(stage):
    """Downloads that are given up, and whole ones after them."""
    for _ in range(10):
        # --max-filesize would not begin; the range of the header is too small for this.
        run(
            *curl(stage),
            "--max-time",
            "0.05",
            "--limit-rate",
            "1M",
            "--output",
            "/dev/null",
            stage.url(HUGE),
            statuses=(28, 0),
        )
    answer = with_curl.Answer(stage, TEXT)
    require(answer.body == original(stage, TEXT), "the bytes differ")


def posted(stage):
    """A POST with a body is 405, and the connection goes on."""
    body = stage.room() / "body"
    body.write_bytes(bytes(http2_plan.BODY_BYTES))
    words = (
        "--data-binary",
        f"@{body}",
        "--output",
        "/dev/null",
        "--write-out",
        "%{num_connects} %{http_code}\n",
    )
    said = run(
        *curl(stage),
        *words,
        stage.url(TEXT),
        "--next",
        *curl(stage)[1:],
        *words[2:],
        stage.url(TEXT),
    )
    expect("connections and statuses", said.stdout.decode().splitlines(), ["1 405", "0 200"])


def upload(stage):
    """PUT of megabytes is refused without waiting for them."""
    words = ("--upload-file", stage.root / f"main{with_curl.BIG}", "--output", "/dev/null")
    told = ("--write-out", "%{http_code}", "--max-time", "10")
    done = run(*curl(stage), *words, *told, stage.url(with_curl.BIG), statuses=(0, DROPPED))
    if done.returncode == DROPPED:
        raise Skipped("this curl drops a response if RST_STREAM(NO_ERROR) follows (RFC 9113, 8.1)")
    expect("the status", done.stdout.decode(), "405")


def ranges(stage):
    """A range of a large file."""
    answer = with_curl.Answer(stage, with_curl.BIG, "--range", "1000000-4999999")
    expect("the status", answer.status, 206)
    require(answer.body == original(stage, with_curl.BIG)[1_000_000:5_000_000], "the bytes differ")


CHECKS = (
    version,
    *(
        check
        for check in with_curl.CHECKS
        if check not in (with_curl.old_version, with_curl.upload)
    ),
    with_curl.whole_tree,
    one_connection,
    ranges,
    huge,
    given_up,
    posted,
    upload,
)
