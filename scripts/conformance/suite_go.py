"""The table of ranges and the cases of ServeContent from the tests of Go's
net/http (src/net/http/fs_test.go), put to servers as requests for files.

The tests serve whatever entity tag and date a case names. A server of files has
its own, so the file gets the date, and the server's entity tag takes the place
of the named one in the request. Content-Type is compared for 200 and 206, without
its parameters: errors have a body of the server's own.

Go answers a Range in a HEAD request. RFC 9110, section 14.2, defines ranges for
GET alone, so HEAD is tried only in the cases without one.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path

from case import Case, Unavailable
from tree import LONG_AGO_NS, plant
from wire import get

TITLE = "Go net/http, ranges and conditions"
OPTION = "go"

STATUSES = {
    "StatusOK": 200,
    "StatusPartialContent": 206,
    "StatusRequestedRangeNotSatisfiable": 416,
}
# What the tests call htmlModTime: when a file of the checkout was changed.
HTML_SECONDS = LONG_AGO_NS // 10**9


@dataclass
class Content:
    """A case of TestServeContent."""

    name: str
    path: str
    content: bytes
    modified_ns: int
    etag: str
    request: dict = field(default_factory=dict)
    status: int = 200
    content_type: str = ""
    content_range: str = ""
    modified: str = ""


def run(server, work, checkout):
    """A case for each row of the two tables; for those without a range also with HEAD."""
    http = Path(checkout) / "src" / "net" / "http"
    if not (http / "fs_test.go").is_file():
        raise Unavailable(f"no fs_test.go in {http}")
    source = (http / "fs_test.go").read_text(encoding="utf-8")
    whole = (http / "testdata" / "file").read_bytes()
    contents = list(content_cases(source, http))

    tree = plant(work / "tree", {"file": whole})
    for case in contents:
        plant(tree, {case.path: case.content}, case.modified_ns)
    with server.running(tree, work) as port:
        ranged = [judge_range(port, whole, *row) for row in range_rows(source, len(whole))]
        return ranged + [judge for case in contents for judge in judge_content(port, case)]


# --- ServeFileRangeTests -----------------------------------------------------


def range_rows(source, length):
    """Range, status and the ranges (end exclusive) of each row."""
    table = between(source, "var ServeFileRangeTests = ", "\n}\n")
    row = r'\{r: "(.*?)", code: (\w+)(?:, ranges: \[\]wantRange\{(.*)\})?\},'
    for asked, status, ranges in re.findall(row, table):
        pairs = re.findall(r"\{([^{},]+), ([^{},]+)\}", ranges)
        bounds = [(number(start, length), number(end, length)) for start, end in pairs]
        yield asked, STATUSES[status], bounds


def number(expression, length):
    """Of "5", "testFileLen" or "testFileLen - 5"."""
    first, *rest = expression.replace("testFileLen", str(length)).split(" - ")
    return int(first) - sum(map(int, rest))


def judge_range(port, whole, asked, status, ranges):
    response = get(port, "/file", [("Range", asked)] if asked else [])
    problem = range_problem(response, whole, status, ranges)
    return Case(f"range {asked or 'none'}", not problem, problem)


def range_problem(response, whole, status, ranges):
    if response.status != status:
        return f"{response.status} instead of {status}"
    if status == 416:
        return ""
    expected = [(content_range(bounds, whole), whole[slice(*bounds)]) for bounds in ranges]
    if len(expected) > 1:
        return differs("parts", parts(response), expected)
    named, body = expected[0] if expected else ("", whole)
    return differs("Content-Range", response.fields.get("content-range", ""), named) or differs(
        "body", response.body, body
    )


def content_range(bounds, whole):
    start, end = bounds
    return f"bytes {start}-{end - 1}/{len(whole)}"


def parts(response):
    """Content-Range and body of each part of a multipart/byteranges, or what is wrong."""
    content_type = response.fields.get("content-type", "")
    boundary = re.fullmatch(r'multipart/byteranges; ?boundary="?([^"]+)"?', content_type)
    if not boundary:
        return content_type
    if response.fields.get("content-length") != str(len(response.body)):
        return "a wrong Content-Length"
    # The first delimiter may be the start of the body or come after a preamble.
    _, *pieces = (b"\r\n" + response.body).split(f"\r\n--{boundary[1]}".encode())
    if not pieces or pieces.pop().strip() != b"--":
        return "no closing delimiter"
    return [part(piece) for piece in pieces]


def part(piece):
    head, _, body = piece.partition(b"\r\n\r\n")
    named = re.search(rb"(?mi)^content-range: *(.*?)\r?$", head)
    return (named[1].decode() if named else "", body)


# --- TestServeContent --------------------------------------------------------


def content_cases(source, http):
    table = between(source, "tests := map[string]testCase{\n", "\n\t}\n")
    for name, text in re.findall(r'\t\t"(\w+)": \{\n(.*?)\n\t\t\},', table, re.DOTALL):
        path, content = file_of(name, text, http)
        yield Content(
            name,
            path,
            content,
            modified_ns=modified_ns(value(text, "modtime")),
            etag=literal(value(text, "serveETag")).removeprefix("W/"),
            request={key: literal(said) for key, said in re.findall(HEADER, text)},
            status=status_of(value(text, "wantStatus")),
            content_type=literal(value(text, "wantContentType")),
            content_range=literal(value(text, "wantContentRange")),
            modified=literal(value(text, "wantLastMod")),
        )


HEADER = re.compile(r'^\t{4}"([\w-]+)": *(.*),$', re.MULTILINE)


def value(text, key):
    """What is written for a field of the case, or ""."""
    found = re.search(rf"^\t{{3}}{key}: *(.*?),(?: *//.*)?$", text, re.MULTILINE)
    return found[1] if found else ""


def file_of(name, text, http):
    """The path to serve it at, each case in a directory of its own, and the bytes."""
    inline = re.search(r'strings\.NewReader\("(.*)"\)', value(text, "content"))
    if inline:
        return f"{name}/content.html", inline[1].encode()
    path = literal(value(text, "file")) or "testdata/style.css"
    return f"{name}/{Path(path).name}", (http / path).read_bytes()


def literal(expression):
    """Of a string in either kind of quotes, or of htmlModTime as an HTTP date."""
    if "htmlModTime" in expression:
        less = re.search(r"Add\(-(\d+) \* time\.Second\)", expression)
        return formatdate(HTML_SECONDS - (int(less[1]) if less else 0), usegmt=True)
    return expression.strip('"') if expression.startswith('"') else expression.strip("`")


def modified_ns(expression):
    """The modification time of the file: any where a case has none."""
    if expression.startswith("time.Unix(0, 0)"):
        return 0
    date = re.match(r"time\.Date\(([\d, ]+)", expression)
    if not date:
        return LONG_AGO_NS
    *moment, nanoseconds = map(int, date[1].strip(", ").split(","))
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * 10**9 + nanoseconds


def status_of(expression):
    return STATUSES.get(expression) or int(expression)


def judge_content(port, case):
    """The outcomes of a case: with GET, and with HEAD where no range is asked for."""
    etag = get(port, f"/{case.path}").fields.get("etag", "")
    fields = [(name, said.replace(case.etag or "\0", etag)) for name, said in case.request.items()]
    for method in ("GET",) if "Range" in case.request else ("GET", "HEAD"):
        response = get(port, f"/{case.path}", fields, method)
        problem = content_problem(response, case)
        yield Case(f"{case.name} {method}", not problem, problem)


def content_problem(response, case):
    if response.status != case.status:
        return f"{response.status} instead of {case.status}"
    came = response.fields
    problem = differs("Content-Range", came.get("content-range", ""), case.content_range)
    if case.status in (200, 206):
        problem = problem or differs(
            "Content-Type", essence(came.get("content-type", "")), essence(case.content_type)
        )
        if case.modified or case.modified_ns == 0:
            problem = problem or differs(
                "Last-Modified", came.get("last-modified", ""), case.modified
            )
    return problem


def essence(content_type):
    return content_type.split(";")[0]


# --- both --------------------------------------------------------------------


def between(source, start, end):
    if start not in source:
        raise Unavailable(f"fs_test.go has no {start.strip()!r}: its form has changed")
    return source.split(start, 1)[1].split(end, 1)[0]


def differs(name, came, expected):
    return "" if came == expected else f"{name} {came!r} instead of {expected!r}"
