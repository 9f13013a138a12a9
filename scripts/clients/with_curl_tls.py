"""curl with HTTP/1.1 through TLS: all that it does without, connections that are used again, TLS 1.2."""

from http.client import HTTPConnection

import with_curl
from outcome import expect, require
from stage import run

TOOLS = with_curl.TOOLS


def session(stage):
    """The stage, seen through TLS."""
    return with_curl.session(stage.secure().by_curl("--http1.1"))


def range_of_it(stage):
    """A range of a large file."""
    answer = with_curl.Answer(stage, with_curl.BIG, "--range", "1000000-4999999")
    expect("the status", answer.status, 206)
    require(answer.body == with_curl.original(stage, with_curl.BIG)[1_000_000:5_000_000], "the bytes differ")


def reused(stage):
    """Many requests on one connection."""
    paths = (with_curl.TEXT, with_curl.BIG, "/nothing", "/odd/", with_curl.TEXT)
    urls = [word for path in paths for word in (stage.url(path), "--output", "/dev/null")]
    done = run(*with_curl.curl(stage), "--write-out", "%{num_connects} %{http_code}\n", *urls)
    wanted = ["1 200", "0 200", "0 404", "0 200", "0 200"]
    expect("new connections and status of each", done.stdout.decode().splitlines(), wanted)


def older(stage):
    """--tls-max 1.2: a small file and a large one."""
    for path in (with_curl.TEXT, with_curl.BIG):
        answer = with_curl.Answer(stage, path, "--tls-max", "1.2")
        require(answer.body == with_curl.original(stage, path), f"{path}: the bytes differ")


def policy(stage):
    """Strict-Transport-Security, on errors too."""
    for path in (with_curl.TEXT, "/nothing"):
        answer = with_curl.Answer(stage, path)
        expect(path, answer.fields.get("strict-transport-security"), "max-age=31536000")


def without(stage):
    """Plain HTTP where TLS is spoken is 400."""
    connection = HTTPConnection("127.0.0.1", stage.port, timeout=10)
    connection.request("GET", with_curl.TEXT)
    expect("the status", connection.getresponse().status, 400)
    connection.close()


CHECKS = (*with_curl.CHECKS, with_curl.whole_tree, range_of_it, reused, older, policy, without)
