"""curl: downloads, resumed ones too, variants, conditions and methods."""

import email
import gzip
import json
import os
import shutil
from contextlib import contextmanager
from urllib.parse import quote

from outcome import Skipped, expect, require
from site_tree import BIG_BYTES, LONG_AGO_NS, in_listing
from stage import compare_trees, files_beneath, run

TOOLS = ("curl",)
BIG = "/files/big.bin"
TEXT = "/files/text.txt"
# How each coding is named in HTTP, what its files end in, what makes them, and what curl
# calls it among its features.
CODINGS = (
    ("br", "br", ("brotli", "--keep", "--force"), "brotli"),
    ("zstd", "zst", ("zstd", "--quiet", "--keep", "--force"), "zstd"),
    ("gzip", "gz", ("gzip", "--keep", "--force"), "libz"),
)


@contextmanager
def session(stage):
    """Puts the variants of a text beside it that can be made here."""
    text = stage.root / "main/files/text.txt"
    for _, extension, command, _ in CODINGS:
        if shutil.which(command[0]):
            run(*command, text)
            os.utime(f"{text}.{extension}", ns=(LONG_AGO_NS, LONG_AGO_NS))
    yield stage


class Answer:
    """What came: `status`, `fields` (names in lower case), `body`."""

    def __init__(self, stage, path, *options):
        room = stage.room()
        head, body = room / "head", room / "body"
        run(*curl(stage), "--dump-header", head, "--output", body, *options, stage.url(path))
        lines = head.read_text(encoding="latin-1").strip().split("\n\n")[-1].splitlines()
        self.status = int(lines[0].split()[1])
        pairs = (line.partition(":") for line in lines[1:])
        self.fields = {name.lower(): value.strip() for name, _, value in pairs}
        self.body = body.read_bytes() if body.exists() else b""


def curl(stage):
    """What every command begins with."""
    trust = ("--cacert", stage.certificates.authority)
    return ("curl", "--silent", "--show-error", *trust, *stage.curl_options)


def original(stage, path):
    return (stage.root / f"main{path}").read_bytes()


def plain(stage):
    """GET of a large file."""
    answer = Answer(stage, BIG)
    expect("the status", answer.status, 200)
    require(answer.body == original(stage, BIG), "the bytes differ")
    expect("Accept-Ranges", answer.fields.get("accept-ranges"), "bytes")


def head(stage):
    """HEAD says what GET would."""
    get, asked = Answer(stage, BIG), Answer(stage, BIG, "--head")
    for fields in (get.fields, asked.fields):
        fields.pop("date")
    expect("the head", asked.fields, get.fields)


def old_version(stage):
    """HTTP/1.0, of a file and of a listing whose length is not known before."""
    file = Answer(stage, TEXT, "--http1.0")
    require(file.body == original(stage, TEXT), "the bytes differ")
    listing = Answer(stage, "/odd/", "--http1.0")
    expect("the status of the listing", listing.status, 200)
    require("chunked" not in listing.fields.get("transfer-encoding", ""), "chunked in HTTP/1.0")
    require(b"</html>" in listing.body, "the listing is cut off")


def compressed(stage):
    """--compressed, each coding by itself and all at once."""
    features = run("curl", "--version").stdout.decode().lower().split()
    both = [coding for coding in CODINGS if shutil.which(coding[2][0]) and coding[3] in features]
    if not both:
        raise Skipped("no coding that can be made here and that curl knows")
    for name, extension, _, _ in both:
        answer = Answer(stage, TEXT, "--compressed", "--header", f"Accept-Encoding: {name}")
        expect("Content-Encoding", answer.fields.get("content-encoding"), name)
        expect("Content-Type", answer.fields["content-type"], "text/plain; charset=utf-8")
        expect("Vary", answer.fields.get("vary", "").lower(), "accept-encoding")
        size = (stage.root / f"main{TEXT}.{extension}").stat().st_size
        expect("Content-Length", answer.fields.get("content-length"), str(size))
        require(answer.body == original(stage, TEXT), f"{name}: the bytes differ")
    everything = Answer(stage, TEXT, "--compressed")
    require("content-encoding" in everything.fields, "what curl offers by itself was not taken")
    return ", ".join(coding[0] for coding in both)


def uncompressed(stage):
    """No variant for who takes none, but Vary."""
    answer = Answer(stage, TEXT)
    expect("Content-Encoding", answer.fields.get("content-encoding"), None)
    expect("Vary", answer.fields.get("vary", "").lower(), "accept-encoding")
    alone = Answer(stage, "/files/alone.txt", "--compressed")
    expect("Content-Encoding of a file without variants", alone.fields.get("content-encoding"), None)


def variant_range(stage):
    """A range of a variant is one of its own bytes."""
    wanted = original(stage, f"{TEXT}.gz") if shutil.which("gzip") else None
    if not wanted:
        raise Skipped("not installed: gzip")
    answer = Answer(stage, TEXT, "--header", "Accept-Encoding: gzip", "--range", "10-")
    expect("the status", answer.status, 206)
    require(answer.body == wanted[10:], "the bytes differ")
    require(gzip.decompress(wanted[:10] + answer.body) == original(stage, TEXT), "no gzip")


def resume(stage):
    """-C - of a download that was cut off, and of one that was complete."""
    file = stage.room() / "big.bin"
    command = (*curl(stage), "--output", file)
    cut = (*command, "--limit-rate", "300k", "--max-time", "1", stage.url(BIG))
    run(*cut, statuses=(28,))
    got = file.stat().st_size
    require(0 < got < len(original(stage, BIG)), f"cut off after {got} bytes")
    again = (*command, "--fail", "--write-out", "%{http_code} %{size_download}", "-C", "-", stage.url(BIG))
    rest = len(original(stage, BIG)) - got
    expect("status and bytes of the rest", run(*again).stdout.decode(), f"206 {rest}")
    require(file.read_bytes() == original(stage, BIG), "the bytes differ")
    # Nothing is missing: 416 with the length, which curl takes for done.
    expect("status of none", run(*again, statuses=(0, 22)).stdout.decode().split()[0], "416")
    require(file.read_bytes() == original(stage, BIG), "the bytes differ after all was there")
    return f"{rest} of {got + rest} bytes resumed"


def several_ranges(stage):
    """Several ranges at once, as a multipart body."""
    spans = ((0, 99), (5000, 5999), (BIG_BYTES - 10, BIG_BYTES - 1))
    wanted = original(stage, BIG)
    answer = Answer(stage, BIG, "--range", ",".join(f"{first}-{last}" for first, last in spans))
    expect("the status", answer.status, 206)
    expect("Content-Length", int(answer.fields["content-length"]), len(answer.body))
    head = f"Content-Type: {answer.fields['content-type']}\r\n\r\n".encode()
    parts = email.message_from_bytes(head + answer.body).get_payload()
    # The parser takes line ends as they come, which is not what arbitrary bytes are for: the
    # bytes are looked for in the body, the parser is for the heads.
    expect(
        "Content-Range of the parts",
        [part["content-range"] for part in parts],
        [f"bytes {first}-{last}/{len(wanted)}" for first, last in spans],
    )
    for first, last in spans:
        part = b"\r\n\r\n" + wanted[first : last + 1] + b"\r\n--"
        require(part in answer.body, f"the bytes of {first}-{last} differ")


def modified_since(stage):
    """-z: unchanged, changed, and not changed after a date."""
    file = stage.root / f"main{TEXT}"
    expect("If-Modified-Since its own date", Answer(stage, TEXT, "-z", file).status, 304)
    expect("If-Modified-Since 2001", Answer(stage, TEXT, "-z", "1 Jan 2001").status, 200)
    expect("If-Unmodified-Since 2001", Answer(stage, TEXT, "-z", "-1 Jan 2001").status, 412)


def etags(stage):
    """--etag-save, then --etag-compare."""
    tag = stage.room() / "tag"
    first = Answer(stage, BIG, "--etag-save", tag)
    expect("the tag that was saved", tag.read_text().strip(), first.fields.get("etag"))
    again = Answer(stage, BIG, "--etag-compare", tag)
    expect("the status", again.status, 304)
    expect("the tag of the 304", again.fields.get("etag"), first.fields["etag"])
    tag.write_text('"another"\n')
    expect("the status with another tag", Answer(stage, BIG, "--etag-compare", tag).status, 200)


def to_the_slash(stage):
    """-L from a directory to its slash, with the query."""
    answer = Answer(stage, "/odd?sort=name&x=%2F")
    require(answer.status in (301, 302, 307, 308), f"the status is {answer.status}")
    location = answer.fields["location"].removeprefix(stage.url(""))
    expect("Location", location, "/odd/?sort=name&x=%2F")
    expect("where it leads", Answer(stage, "/page?a=b", "--location").status, 200)


def listing_as_json(stage):
    """A listing as JSON."""
    answer = Answer(stage, "/odd/", "--header", "Accept: application/json")
    expect("the type", answer.fields["content-type"].partition(";")[0], "application/json")
    entries = {entry["name"].rstrip("/") for entry in json.loads(answer.body)}
    expect("what is in it", entries, in_listing())


def error_page(stage):
    """The error page, with the status of the error."""
    answer = Answer(stage, "/nothing/here")
    expect("the status", answer.status, 404)
    require(b"Nothing at this address" in answer.body, "another page came")


def upload(stage):
    """PUT of megabytes with Expect: 100-continue is refused without waiting for them."""
    options = ("--upload-file", stage.root / f"main{BIG}", "--header", "Expect: 100-continue")
    answer = Answer(stage, BIG, *options, "--expect100-timeout", "20", "--max-time", "10")
    expect("the status", answer.status, 405)
    require("GET" in answer.fields.get("allow", ""), "Allow does not name GET")


def parallel(stage):
    """64 at once, on few connections."""
    room = stage.room()
    urls = [word for number in range(64) for word in (stage.url(TEXT), "--output", room / str(number))]
    run(*curl(stage), "--fail", "--parallel", *urls)
    for number in range(64):
        require((room / str(number)).read_bytes() == original(stage, TEXT), f"download {number} differs")


def whole_tree(stage):
    """The whole tree, compared."""
    tree, room = stage.root / "main/tree", stage.room()
    list_file = stage.work / "downloads"
    list_file.write_text("".join(downloads(stage, tree)), encoding="utf-8")
    run(*curl(stage), "--fail", "--create-dirs", "--config", list_file, cwd=room)
    return compare_trees(tree, room)


def downloads(stage, tree):
    for path in files_beneath(tree):
        name = str(path).replace("\\", "\\\\").replace('"', '\\"')
        yield f'url = "{stage.url("/tree/" + quote(str(path)))}"\noutput = "{name}"\n'


CHECKS = (
    plain,
    head,
    old_version,
    compressed,
    uncompressed,
    variant_range,
    resume,
    several_ranges,
    modified_since,
    etags,
    to_the_slash,
    listing_as_json,
    error_page,
    upload,
    parallel,
)
