"""The files that are served."""

import html
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

from stage import files_beneath

PAGE = Path(__file__).parent / "page"
# A day long gone, since what changed just now is not a strong validator yet; and not a whole second, since a
# large file with such a time has no ETag before it is hashed.
LONG_AGO_NS = 1_400_000_000_123_456_789
# Fewer files than that are no real tree.
FILES_MIN = 1500
# What the documentation of `std` needs of Rust's, apart from the files beside it.
RUSTDOC_PARTS = ("std", "static.files", "search.index")
BIG_BYTES = 32 << 20
# For clients that write byte by byte what they get.
MIDDLING_BYTES = 1 << 20

# Names that go wrong where somebody forgets to escape, in HTML or in a URL.
ODD_NAMES = (
    "a b.txt",
    "a:b.txt",
    "a+b.txt",
    "a&amp;b.txt",
    "100%.txt",
    "%41.txt",
    "what?.txt",
    "#1.txt",
    "semi;colon.txt",
    "it's.txt",
    'said "so".txt',
    "<b>bold<b>.txt",
    "-rf.txt",
    "ünï.txt",
    "日本語.txt",
    "back\\slash.txt",
    "$path.txt",
    "{a,b}.txt",
    "[0].txt",
    "..dots.txt",
    "inner directory/leaf & co.txt",
)

# A tree that is known by its listings alone.
LISTED_NAMES = (
    "100.bin",
    "a b.txt",
    "a:b.txt",
    "ünï.txt",
    "inner/leaf.csv",
    "inner/deeper/leaf.csv",
    "year=2026/leaf.csv",
)
LISTED_BYTES = 100

# What stands in the pictures of the listing: name, bytes, when it was modified.
SHOWCASE = (
    ("fonts/serif.woff2", 1, 1_776_000_000),
    ("photos of the harbour/dawn.jpg", 1, 1_781_500_000),
    ("releases/1.0/notes.txt", 1, 1_790_300_000),
    ("CHANGELOG.md", 18_204, 1_790_300_500),
    ("README.md", 5_748, 1_790_200_000),
    ("chapter 2.pdf", 731_000, 1_779_000_000),
    ("chapter 10.pdf", 1_204_000, 1_779_100_000),
    ("high tide & low tide.mp4", 734_003_200, 1_785_000_000),
    ("Ebbe und Flut – Überblick.html", 48_211, 1_785_600_000),
    ("tidegate-1.0.0-x86_64-unknown-linux-musl-with-debug-symbols.tar.zst", 41_943_040, 1_790_310_000),
    ("tidegate-1.0.0.sha256", 97, 1_790_310_060),
    ("survey-2026.img", 68_719_476_736, 1_788_000_000),
)


def make(root, given):
    """Makes the roots of all sites beneath `root`; `given` is the tree asked for, if any."""
    main = root / "main"
    shutil.copytree(PAGE, main / "page")
    plant_tree(main, given)
    plant(main / "odd", {name: name.encode() for name in ODD_NAMES})
    plant(main / "listed", {name: bytes(LISTED_BYTES) for name in LISTED_NAMES})
    plant(main / "listed", {"100.bin.gz": b"a variant, which is not listed"})
    plant_files(main / "files")
    plant_showcase(main / "showcase")
    plant(main, {"404.html": b"<!doctype html><title>Lost</title><h1>Nothing at this address</h1>\n"})
    script = b"document.title = 'app at ' + location.pathname;\n"
    app = b"<!doctype html><html lang=en><title>app</title><link rel=icon href=data:,><script src=/app.js></script>\n"
    worker = b"self.addEventListener('fetch', (event) => event.respondWith(fetch(event.request)));\n"
    plant(root / "app", {"index.html": app, "app.js": script, "worker.js": worker})
    plant(root / "other", {"data.json": b'{"from": "elsewhere"}\n'})
    return root


def in_listing():
    """The names a listing of the odd ones has: what begins with a dot is hidden."""
    return {name.partition("/")[0] for name in ODD_NAMES if not name.startswith(".")}


def plant(root, files):
    """Writes `files`, a dict of path to bytes, beneath `root`."""
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, ns=(LONG_AGO_NS, LONG_AGO_NS))


def plant_files(root):
    text = "".join(f"line {number} of a text\n" for number in range(4000)).encode()
    big, middling = os.urandom(BIG_BYTES), os.urandom(MIDDLING_BYTES)
    plant(root, {"big.bin": big, "middling.bin": middling, "text.txt": text, "alone.txt": text})


def plant_showcase(root):
    for name, size, modified in SHOWCASE:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        # Sparse: only the length is looked at.
        with file.open("wb") as made:
            made.truncate(size)
        os.utime(file, (modified, modified))
        if file.parent != root:
            os.utime(root / Path(name).parts[0], (modified, modified))


# --- the tree of thousands of files -------------------------------------------


def plant_tree(main, given):
    """The tree, and a page that links to every file in it."""
    tree = main / "tree"
    source = given or next(filter(is_large, candidates()), None)
    if source:
        copy(source, tree)
    else:
        plant(tree, made_up())
    plant(main, {"links.html": page_of_links(tree)})


def candidates():
    try:
        sysroot = subprocess.check_output(["rustc", "--print", "sysroot"], text=True).strip()
        yield Path(sysroot, "share/doc/rust/html")
    except (OSError, subprocess.CalledProcessError):
        pass
    yield Path("/usr/share/doc")


def is_large(path):
    return path.is_dir() and len(files_beneath(path)) >= FILES_MIN


def copy(source, tree):
    """The files everybody may read; of Rust's documentation, the part that is about `std`."""
    whole = not (source / "std").is_dir()

    def left_out(directory, names):
        paths = [Path(directory, name) for name in names]
        some = paths if whole or Path(directory) != source else filter(of_std, paths)
        return set(names) - {path.name for path in filter(wanted, some)}

    shutil.copytree(source, tree, ignore=left_out)
    for path in files_beneath(tree):
        (tree / path).chmod(0o644)


def wanted(path):
    """The comparison is of files, not of where links lead, nor of hidden ones."""
    return not path.name.startswith(".") and not path.is_symlink()


def of_std(path):
    return path.name in RUSTDOC_PARTS or path.is_file()


def made_up():
    """Pages of some hundred bytes to some hundred kilobytes."""
    return {
        f"part{number % 40}/page{number}.html": f"<p>Page {number}</p>\n".encode() * (number % 4000 + 9)
        for number in range(3000)
    }


def page_of_links(tree):
    items = (f'<li><a href="{html.escape(href(path))}">{path.name}</a>' for path in files_beneath(tree))
    return "\n".join(["<!doctype html>", "<title>All files</title>", "<ul>", *items, ""]).encode()


def href(path):
    return "tree/" + quote(str(path))
