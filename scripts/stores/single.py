"""The checks of one server in front of one bucket, whatever store has it."""

import re
import secrets
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node import Node, environment, publish, running, sha256
from outcome import expect, require
from store import BUCKET, Store, eventually
from tree import FILM_BYTES, PAGES, sums, write, write_site

# Objects below /kept may be used after their time while the store is down.
CONFIG = """
[server]
cores = 2
[cache.disk]
path = "{cache}"
size = "1g"
[[site]]
precompressed = ["br", "gzip"]
index = ["index.html"]
origin = {{ s3 = "{url}", region = "{region}" }}
[[site.cache]]
match = "/kept/**"
stale-if-error = "1d"
"""


@dataclass
class Session:
    stage: Any
    store: Store
    node: Node
    tree: Path

    def publish(self, *flags):
        """How many files were uploaded, unchanged and deleted."""
        said = publish(self.stage.server, self.tree, self.store, f"{BUCKET}/www", *flags)
        counts = re.search(r"uploaded (\d+).*unchanged (\d+), deleted (\d+), failed 0", said)
        require(counts, f"publish says {said!r}")
        return tuple(map(int, counts.groups()))

    def right(self, name, answer, status=200):
        """Fails unless an answer is the file."""
        expect(f"the status of {name}", answer.status, status)
        require(answer.body == (self.tree / name).read_bytes(), f"{name} differs")


@contextmanager
def single(stage, started):
    tree = stage.work / "tree"
    write_site(tree, stage.server)
    with started as store:
        config = config_of(store.url(f"{BUCKET}/www"), store, stage.work / "cache")
        own = environment(store.access, store.secret, stage.work)
        with running(stage.server, stage.work / "node", config, own) as node:
            yield Session(stage, store, node, tree)


def config_of(url, store, cache):
    return CONFIG.format(cache=cache, url=url, region=store.region)


def published(session):
    """A directory is published, one of its files in parts."""
    count = len(sums(session.tree))
    expect("uploaded, unchanged and deleted", session.publish(), (count, 0, 0))
    return f"{count} files"


def published_again(session):
    """Published again, all is unchanged."""
    expect("uploaded, unchanged and deleted", session.publish(), (0, len(sums(session.tree)), 0))


def missed(session):
    """Every file comes by its hash and is stored."""
    for name, expected in sums(session.tree).items():
        answer = session.node.get(f"/{name}")
        expect(f"the status of {name}", answer.status, 200)
        require(sha256(answer.body).digest() == expected, f"{name} differs")
        # Variants came with their originals.
        if not is_variant(name):
            expect(f"Cache-Status of {name}", answer.cache, "fwd=uri-miss; stored")


def hit(session):
    """Every file comes from the cache then, pages once validated."""
    for name, expected in sums(session.tree).items():
        answer = session.node.get(f"/{name}")
        expect(f"the status of {name}", answer.status, 200)
        require(sha256(answer.body).digest() == expected, f"{name} differs")
        is_page = ".html" in name
        expect(f"Cache-Status of {name}", answer.cache, "fwd=stale; fwd-status=304" if is_page else "hit")


def is_variant(name):
    return name.endswith((".br", ".gz", ".zst"))


def indexes(session):
    """Index files answer for directories, and a directory without a slash is redirected."""
    session.right("index.html", session.node.get("/"))
    session.right("dir/index.html", session.node.get("/dir/"))
    answer = session.node.get("/dir")
    expect("the status of /dir", answer.status, 301)
    require(answer.fields["location"].endswith("/dir/"), f"Location is {answer.fields['location']}")


def variants(session):
    """A client that accepts a coding gets the variant."""
    for coding, suffix in (("br", "br"), ("gzip", "gz")):
        for name in ("app.js", "page.html"):
            answer = session.node.get(f"/{name}", accept_encoding=coding)
            session.right(f"{name}.{suffix}", answer)
            expect("Content-Encoding", answer.fields["content-encoding"], coding)
            plain = session.node.get(f"/{name}").fields["content-type"]
            expect("Content-Type", answer.fields["content-type"], plain)


def ranges(session):
    """Ranges are those of the file, within a slice and across some."""
    film = (session.tree / "film.bin").read_bytes()
    mib = 1 << 20
    for first, last in ((0, 0), (4 * mib - 1, 4 * mib), (3 * mib, 14 * mib), (FILM_BYTES - 1, FILM_BYTES - 1)):
        answer = session.node.get("/film.bin", range=f"bytes={first}-{last}")
        expect("the status", answer.status, 206)
        expect("Content-Range", answer.fields["content-range"], f"bytes {first}-{last}/{FILM_BYTES}")
        require(answer.body == film[first : last + 1], f"bytes {first} to {last} differ")
    answer = session.node.get("/film.bin", range="bytes=-1000")
    require(answer.status == 206 and answer.body == film[-1000:], "the last 1000 bytes differ")
    answer = session.node.get("/film.bin", range=f"bytes={FILM_BYTES}-")
    expect("the status behind the end", answer.status, 416)
    expect("Content-Range behind the end", answer.fields["content-range"], f"bytes */{FILM_BYTES}")


def ranges_first(session):
    """A range of what is not stored has its slices alone fetched."""
    film = session.tree / "film.bin"
    write(session.tree, {"second.bin": film.read_bytes()[: 20 << 20]})
    expect("what is uploaded", session.publish()[0], 1)
    before = session.node.metric("origin_body_bytes_total")
    answer = session.node.get("/second.bin", range=f"bytes={9 << 20}-{(9 << 20) + 99}")
    expect("the status", answer.status, 206)
    require(answer.body == film.read_bytes()[9 << 20 :][:100], "the bytes differ")
    fetched = session.node.metric("origin_body_bytes_total") - before
    require(0 < fetched <= 8 << 20, f"{fetched:.0f} bytes were fetched for 100")


def conditionals(session):
    """Conditions are answered: 304 and 412."""
    for name in ("n/7.txt", "page.html", "film.bin"):
        fields = session.node.get(f"/{name}", "HEAD").fields
        for condition in ({"if_none_match": fields["etag"]}, {"if_modified_since": fields["last-modified"]}):
            answer = session.node.get(f"/{name}", **condition)
            expect(f"status and length of {name} with {condition}", (answer.status, len(answer.body)), (304, 0))
        expect("the status of another tag", session.node.get(f"/{name}", if_match='"other"').status, 412)
        expect("the status of no such tag", session.node.get(f"/{name}", "HEAD", if_none_match='"other"').status, 200)


def heads(session):
    """HEAD has the fields of GET and no body."""
    for name in ("n/7.txt", "empty.txt", "film.bin", "odd/a b+c&d=e'~ü%41.txt"):
        answer = session.node.get(f"/{name}", "HEAD")
        length = (session.tree / name).stat().st_size
        expect(f"status and body of {name}", (answer.status, answer.body), (200, b""))
        expect(f"Content-Length of {name}", answer.fields["content-length"], str(length))
        require(answer.fields["etag"], f"{name} has no ETag")


def absent(session):
    """What is not there is 404."""
    for path in ("/absent", "/n/", "/n", "/.hidden", "/film.bin/", "/dir/absent.html"):
        expect(f"the status of {path}", session.node.get(path).status, 404)


def replaced(session):
    """A page that is published anew comes at once, and what is deleted is gone."""
    write(session.tree, {"page.html": b"<!doctype html><title>new</title>" + b"<p>new" * 100})
    for path in session.tree.glob("page.html.*"):
        path.unlink()
    gone = session.tree / "n/0.txt"
    gone.unlink()
    uploaded, _, deleted = session.publish("--delete")
    expect("uploaded files", uploaded, 1)
    require(deleted >= 2, f"{deleted} are deleted")
    for coding in ("identity", "br, gzip"):
        answer = session.node.get("/page.html", accept_encoding=coding)
        session.right("page.html", answer)


def refused(session):
    """Wrong credentials are an error whose cause is in the log, and no key is."""
    store = session.store
    wrong = "".join(reversed(store.secret))
    unknown = store.access[:-6] + secrets.token_hex(3)
    for what, access, secret in (("secret", store.access, wrong), ("key", unknown, store.secret)):
        text = failing(session, f"wrong-{what}", store.url(f"{BUCKET}/www"), access, secret)
        require("secret access key is wrong" in text or "access key is not known" in text, f"the log has {text[-900:]}")
        require(access not in text and secret not in text, f"the log has the {what}")


def no_bucket(session):
    """A bucket that is not there is an error whose cause is in the log."""
    store = session.store
    text = failing(session, "no-bucket", store.url("absent-bucket"), store.access, store.secret)
    require("the bucket does not exist" in text, f"the log has {text[-900:]}")


def failing(session, name, url, access, secret):
    """The log of a server whose origin refuses it."""
    work = session.stage.work
    config = config_of(url, session.store, work / f"cache-{name}")
    with running(session.stage.server, work / name, config, environment(access, secret, work)) as node:
        status = node.get("/n/5.txt").status
        require(status in (502, 503), f"{name}: the status is {status}; the log has {node.text()[-700:]}")
        return node.text()


def killed(session):
    """While the store is killed, what is stored comes, and the rest is an error."""
    node = session.node
    fresh = [name for name in sums(session.tree) if name.startswith("n/")]
    for name in (*fresh, *PAGES):
        node.get(f"/{name}")
    never = "n/new.txt"
    write(session.tree, {never: b"published, and not asked for yet"})
    session.publish()
    errors, asked, stop = [], [0], threading.Event()
    client = threading.Thread(target=ask_on, args=(session, [*fresh, "kept/page.html"], errors, asked, stop))
    client.start()
    try:
        eventually("some requests", lambda: asked[0] > 50 or errors)
        session.store.kill()
        before = asked[0]
        eventually("requests without the store", lambda: asked[0] > before + 100 or errors)
    finally:
        stop.set()
        client.join()
    expect("errors of what is stored", errors[:3], [])
    expect("Cache-Status of a page", node.get("/kept/page.html").cache, "hit; detail=stale")
    for name in ("page.html", never):
        status = node.get(f"/{name}").status
        require(status in (502, 503, 504), f"the status of {name} is {status}")
    require("cannot connect" in node.text(), f"the log has {node.text()[-500:]}")
    return f"{asked[0]} requests of what is stored"


def ask_on(session, names, errors, asked, stop):
    """Asks for files in turn, until it is told to stop."""
    while not stop.is_set() and not errors:
        name = names[asked[0] % len(names)]
        try:
            session.right(name, session.node.get(f"/{name}"))
        except Exception as error:
            errors.append(str(error))
        asked[0] += 1


def back(session):
    """When it is started again, all is well again."""
    session.store.start()
    eventually("an object that was not stored", lambda: session.node.get("/n/new.txt").status == 200, 60)
    session.right("n/new.txt", session.node.get("/n/new.txt"))
    # A gateway that has just come back may still refuse some.
    revalidated = lambda: session.node.get("/kept/page.html").cache == "fwd=stale; fwd-status=304"
    eventually("a page that is validated", revalidated, 60)
    for name in sums(session.tree):
        session.right(name, session.node.get(f"/{name}"))


def quiet(session):
    """No panic and no key is in the log."""
    text = session.node.text()
    require("panicked" not in text, f"the log has {text[-900:]}")
    require(session.store.secret not in text and session.store.access not in text, "the log has a key")


CHECKS = (
    published, published_again, missed, hit, indexes, variants, ranges, ranges_first, conditionals, heads, absent,
    replaced, refused, no_bucket, killed, back, quiet,
)
