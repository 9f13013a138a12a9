"""curl with HTTP/2 without TLS, by prior knowledge: the same as through TLS."""

import re

import http2_plan
import with_curl
import with_curl_http2
from outcome import Skipped, require
from stage import run

TOOLS = with_curl.TOOLS
# The first curl that can use such a connection again: https://github.com/curl/curl/issues/10634.
VERSION_MIN = 8


def session(stage):
    """The stage, seen through HTTP/2."""
    http2_plan.plant_huge(stage)
    return with_curl.session(stage.by_curl("--http2-prior-knowledge"))


def upgrade(stage):
    """Upgrade: h2c, which curl sends with --http2, is answered with HTTP/1.1."""
    answer = with_curl.Answer(stage.by_curl("--http2"), with_curl.TEXT)
    require(answer.body == with_curl.original(stage, with_curl.TEXT), "the bytes differ")


def reusing(check):
    """A check with connections that are used again."""

    def made(stage):
        said = run("curl", "--version").stdout.decode()
        if int(re.match(r"curl (\d+)", said)[1]) < VERSION_MIN:
            raise Skipped("this curl does not use such a connection again (curl/curl#10634)")
        return check(stage)

    made.__doc__ = check.__doc__
    return made


REUSING = (
    with_curl.to_the_slash,
    with_curl.parallel,
    with_curl.whole_tree,
    with_curl_http2.version,
    with_curl_http2.one_connection,
    with_curl_http2.posted,
)
ALL = (reusing(check) if check in REUSING else check for check in with_curl_http2.CHECKS)
CHECKS = (upgrade, *ALL)
