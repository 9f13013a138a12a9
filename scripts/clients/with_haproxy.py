"""HAProxy as a reverse proxy with HTTP/2 to the server: the tree through it, by curl."""

from functools import partial

import http2_proxy

TOOLS = ("haproxy", "curl")
CHECKS = http2_proxy.CHECKS
session = partial(http2_proxy.session, "haproxy")
