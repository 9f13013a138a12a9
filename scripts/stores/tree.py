"""Directories to be published, and what their files are known by."""

import random
import subprocess

from node import environment, sha256

FILM_BYTES = 70 << 20
PAGES = ("index.html", "dir/index.html", "kept/page.html", "page.html")
SMALL = 20


def write_site(directory, program):
    """A site of every kind of file, with variants."""
    chance = random.Random(1)
    text = "".join(f"let v{number} = {chance.random()};\n" for number in range(1000)).encode()
    files = {
        "app.js": text,
        "assets/app.0f3c9ad1be27.js": text[::-1],
        "empty.txt": b"",
        "film.bin": chance.randbytes(FILM_BYTES),
        "odd/a b+c&d=e'~ü%41.txt": b"an odd name",
        ".hidden": b"not to be served",
        **{page: f"<!doctype html><title>{page}</title>{'<p>text' * 100}".encode() for page in PAGES},
        **{f"n/{number}.txt": chance.randbytes(200 * number + 1) for number in range(SMALL)},
    }
    write(directory, files)
    command = [program, "compress", directory, "--level", "fast"]
    subprocess.run(command, check=True, capture_output=True, env=environment("", "", directory), timeout=60)


def write_objects(directory, sizes):
    """Files of these sizes that do not compress."""
    chance = random.Random(2)
    write(directory, {f"{number}.bin": chance.randbytes(size) for number, size in enumerate(sizes)})


def write(directory, files):
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def sums(directory):
    """The hash of each file that is published."""
    files = (path for path in directory.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(directory)): sha256(path.read_bytes()).digest() for path in sorted(files)}
