#!/usr/bin/env python3
"""Checks a server of HttpArena's files: each, as it is and as its profiles ask for it.

    scripts/bench/arena.py --server HOST:PORT --files DIR [--tls]

DIR is HttpArena's data/static. Without Accept-Encoding the body must be the file; with theirs the file or one of its
variants, as Content-Encoding says. The types are those that HttpArena's validation asks for, and a file that is not there
is a 404. The last line tells how many came compressed.
"""

import argparse
import http.client
import pathlib
import ssl
import sys

ACCEPT = {"Accept-Encoding": "br;q=1, gzip;q=0.8"}
VARIANTS = {"br": ".br", "gzip": ".gz"}
TYPES = {".css": {"text/css"}, ".js": {"application/javascript", "text/javascript"}, ".json": {"application/json"}}


def check(connection, files):
    """What is wrong, a line each, and how many files came compressed."""
    problems, compressed = [], 0
    for file in files:
        found = [*check_one(connection, file, {}), *check_one(connection, file, ACCEPT)]
        problems += found
        compressed += not found and connection.encoding is not None
    status, _, _ = get(connection, "/static/nonexistent.txt", {})
    if status != 404:
        problems.append(f"nonexistent.txt: {status}")
    return problems, compressed


def check_one(connection, file, headers):
    status, fields, body = get(connection, f"/static/{file.name}", headers)
    encoding = connection.encoding = fields.get("Content-Encoding")
    kind = fields.get("Content-Type", "").partition(";")[0]
    expected = file if encoding is None else file.with_name(file.name + VARIANTS.get(encoding, "?"))
    if status != 200:
        yield f"{file.name}: {status}"
    elif encoding and not headers:
        yield f"{file.name}: {encoding} although nothing is accepted"
    elif not expected.exists() or body != expected.read_bytes():
        yield f"{file.name}: {len(body)} bytes, which are not those of {expected.name}"
    if kind not in TYPES.get(file.suffix, {kind}):
        yield f"{file.name}: its type is {kind}"


def get(connection, path, headers):
    # With `skip_accept_encoding` http.client does not add one.
    connection.putrequest("GET", path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    return response.status, response.headers, response.read()


def connect(options):
    if not options.tls:
        return http.client.HTTPConnection(options.server, timeout=10)
    # A certificate made for the run: whose it is does not matter here.
    return http.client.HTTPSConnection(options.server, timeout=10, context=ssl._create_unverified_context())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="HOST:PORT")
    parser.add_argument("--files", required=True, type=pathlib.Path)
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    files = [file for file in sorted(options.files.iterdir()) if file.suffix not in VARIANTS.values()]
    try:
        problems, compressed = check(connect(options), files)
    except (OSError, http.client.HTTPException) as error:
        sys.exit(f"arena.py: {options.server}: {error}")
    print(*problems, f"{len(files)} files, {compressed} of them compressed", sep="\n")
    sys.exit(1 if problems or not files else 0)


main()
