"""curl through a proxy that speaks HTTP/2 to the server, without TLS and with it."""

from contextlib import contextmanager
from dataclasses import replace

import http2_plan
import with_curl
import with_curl_http2
from servers import proxying_http2

CHECKS_OF_CURL = (
    with_curl.plain,
    with_curl.whole_tree,
    with_curl.head,
    with_curl.compressed,
    with_curl.resume,
    with_curl.several_ranges,
    with_curl.modified_since,
    with_curl.etags,
    with_curl.error_page,
    with_curl.parallel,
    with_curl_http2.ranges,
    with_curl_http2.huge,
    with_curl_http2.given_up,
    with_curl_http2.posted,
)


@contextmanager
def session(program, stage):
    """The stage as it is seen through the proxy, for each way to the server."""
    http2_plan.plant_huge(stage)
    with proxying_http2(program, stage) as ports, with_curl.session(stage):
        ways = zip(("h2c", "TLS"), ports)
        yield {way: replace(stage, port=port) for way, port in ways}


def on(way, check):
    def made(stages):
        return check(stages[way])

    made.__doc__ = f"{way} to the server: {check.__doc__}"
    return made


CHECKS = tuple(on(way, check) for way in ("h2c", "TLS") for check in CHECKS_OF_CURL)
