"""Package managers, each with a repository of files alone: npm, pip and apt."""

import base64
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from outcome import expect, require
from servers import serving_packages
from site_tree import LONG_AGO_NS
from stage import Stage, require_modules, require_tools, run

TOOLS = ()
DAY_NS = 86_400 * 10**9
# Bytes that do not compress.
CARGO = b"".join(hashlib.sha256(bytes([at % 256, at // 256])).digest() for at in range(8192))

RELEASE = """Suite: stable
Codename: stable
Date: Sat, 01 Nov 2025 00:00:00 UTC
Architectures: all
Components: main
Acquire-By-Hash: yes
SHA256:"""


@dataclass(frozen=True)
class Subject:
    """The stage, and where the packages are: the address of the server and its root."""

    stage: Stage
    address: str
    root: Path


@contextmanager
def session(stage):
    """A server of its own, which takes an encoded slash for a slash."""
    root = stage.root / "packages"
    root.mkdir()
    with serving_packages(stage) as port:
        yield Subject(stage, f"http://127.0.0.1:{port}", root)


def publish(file, content):
    """Puts a file where the server has it, with a time that is a strong validator."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, ns=(LONG_AGO_NS, LONG_AGO_NS))


# --- npm ------------------------------------------------------------------------


def npm(subject):
    """npm installs a package and a scoped one that it depends on."""
    require_tools("npm")
    registry = subject.root / "npm"
    publish_npm(subject, registry, "@tide/leaf", {})
    publish_npm(subject, registry, "tide-tree", {"@tide/leaf": "^1.0.0"})
    room = subject.stage.room()
    (room / "package.json").write_text('{"name": "app", "version": "1.0.0"}')
    npm_install(subject, room, "tide-tree")
    found = sorted(str(file.relative_to(room)) for file in room.glob("node_modules/**/cargo.bin"))
    wanted = [f"node_modules/{name}/cargo.bin" for name in ("@tide/leaf", "tide-tree")]
    expect("what was installed", found, wanted)


def npm_again(subject):
    """npm view, npm ci from its lock, and an install that finds its cache still good."""
    require_tools("npm")
    room = subject.stage.room()
    (room / "package.json").write_text('{"name": "app", "version": "1.0.0"}')
    npm_install(subject, room, "@tide/leaf@1.0.0")
    said = run("npm", "view", *npm_options(subject, room), "@tide/leaf", "version").stdout
    expect("the version", said.decode().strip(), "1.0.0")
    run("npm", "ci", *npm_options(subject, room), cwd=room)
    shutil.rmtree(room / "node_modules")
    npm_install(subject, room, "--prefer-online")
    require((room / "node_modules/@tide/leaf/cargo.bin").exists(), "the package is not there")


def npm_install(subject, room, *options):
    run("npm", "install", *npm_options(subject, room), *options, cwd=room)


def npm_options(subject, room):
    cache = ("--cache", room / "cache", "--userconfig", room / "none")
    quiet = ("--no-audit", "--no-fund", "--fetch-retries", "0")
    return ("--registry", f"{subject.address}/npm/", *cache, *quiet)


def publish_npm(subject, registry, name, dependencies):
    """A package as a registry has it: what is known of it, and its archive beneath `-`."""
    room = subject.stage.room()
    package = {"name": name, "version": "1.0.0", "dependencies": dependencies}
    (room / "package.json").write_text(json.dumps(package))
    (room / "cargo.bin").write_bytes(CARGO)
    packed = run("npm", "pack", "--silent", cwd=room).stdout.decode().strip()
    archive = (room / packed).read_bytes()
    path = f"{name}/-/{name.rpartition('/')[2]}-1.0.0.tgz"
    integrity = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    dist = {"tarball": f"{subject.address}/npm/{path}", "integrity": f"sha512-{integrity}"}
    known = {"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {**package, "dist": dist}}}
    publish(registry / path, archive)
    publish(registry / f"{name}.json", json.dumps(known).encode())


# --- pip ------------------------------------------------------------------------


def pip_by_listings(subject):
    """pip download from an index whose pages are listings, with a dependency."""
    simple = subject.root / "pypi/listed"
    publish_wheels(simple)
    pip(subject, "--index-url", f"{subject.address}/pypi/listed/")


def pip_find_links(subject):
    """pip download --find-links, which is a listing."""
    directory = subject.root / "pypi/wheels"
    for content, name, _ in wheels():
        publish(directory / name, content)
    pip(subject, "--no-index", "--find-links", f"{subject.address}/pypi/wheels/")


def pip_by_pages(subject):
    """pip download from pages with hashes, and metadata beside the files (PEP 503, 658)."""
    simple = subject.root / "pypi/simple"
    publish_wheels(simple)
    for content, name, metadata in wheels():
        directory = simple / project(name)
        digest, of_metadata = (hashlib.sha256(each).hexdigest() for each in (content, metadata))
        link = f'<a href="{name}#sha256={digest}" data-core-metadata="sha256={of_metadata}">{name}</a>'
        publish(directory / "index.html", f"<!DOCTYPE html><title>Links</title>{link}\n".encode())
        publish(directory / f"{name}.metadata", metadata)
    said = pip(subject, "--index-url", f"{subject.address}/pypi/simple/")
    require(".whl.metadata" in said, "the metadata beside the files was not read")


def pip_by_ranges(subject):
    """pip reads the metadata of a wheel by ranges (fast-deps)."""
    simple = subject.root / "pypi/ranges"
    publish_wheels(simple)
    said = pip(subject, "--use-feature=fast-deps", "--index-url", f"{subject.address}/pypi/ranges/")
    require("206" in said, "no range was read")


def pip(subject, *source):
    """Downloads a wheel and what it needs; both are what was published."""
    require_modules(subject.stage, "pip")
    room = subject.stage.room()
    options = ("--isolated", "--disable-pip-version-check", "--cache-dir", room / "cache", "--retries", "0")
    command = (subject.stage.python, "-m", "pip", "-vv", "download", *options, *source)
    said = run(*command, "--dest", room / "got", "tide-tree").stdout.decode()
    found = {file.name: file.read_bytes() for file in (room / "got").iterdir()}
    require(found == {name: content for content, name, _ in wheels()}, f"what came is {sorted(found)}")
    return said


def publish_wheels(simple):
    for content, name, _ in wheels():
        publish(simple / project(name) / name, content)


def project(name):
    """The name of a wheel's project, as an index has it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.partition("-")[0]).lower()


def wheels():
    """Two wheels, one of which needs the other: bytes, name and metadata."""
    return [wheel("tide_leaf", ()), wheel("tide_tree", ("tide-leaf>=1.0",))]


def wheel(name, needs):
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    metadata += "".join(f"Requires-Dist: {need}\n" for need in needs)
    about = f"{name}-1.0.dist-info"
    files = {
        f"{name}/cargo.bin": CARGO,
        f"{about}/METADATA": metadata.encode(),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{about}/RECORD"))
    content = zipped({**files, f"{about}/RECORD": record.encode()})
    return content, f"{name}-1.0-py3-none-any.whl", metadata.encode()


def zipped(files):
    """The same bytes each time."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        for path, content in files.items():
            made.writestr(zipfile.ZipInfo(path), content)
    return archive.getvalue()


# --- apt ------------------------------------------------------------------------


def apt(subject):
    """apt-get update, by hash, and again with nothing new; download."""
    room = apt_room(subject)
    said = apt_get(room, "update").stdout.decode()
    require("by-hash/SHA256" in said, f"the index was not asked for by its hash: {said}")
    again = apt_get(room, "update").stdout.decode()
    require("304 Not Modified" in again, f"what is known came again: {again}")
    apt_get(room, "download", "tide-leaf", cwd=room)
    package = subject.root / "apt/pool/tide-leaf_1.0_all.deb"
    require((room / package.name).read_bytes() == package.read_bytes(), "the bytes differ")


def apt_resumes(subject):
    """apt-get goes on with a package of which it has a part, by a range and If-Range."""
    room = apt_room(subject)
    apt_get(room, "update")
    package = subject.root / "apt/pool/tide-leaf_1.0_all.deb"
    content = package.read_bytes()
    part = room / "archives/partial" / package.name
    part.write_bytes(content[: len(content) // 2])
    # When the server's file was changed, which If-Range has.
    seconds = LONG_AGO_NS // 10**9
    os.utime(part, (seconds, seconds))
    said = apt_get(room, "--download-only", "--yes", "install", "tide-leaf").stdout.decode()
    require("206 Partial Content" in said, f"it did not go on: {said[-2000:]}")
    require((room / "archives" / package.name).read_bytes() == content, "the bytes differ")


def apt_diffs(subject):
    """apt-get update by the differences of the index (pdiff)."""
    room = apt_room(subject)
    apt_get(room, "update")
    suite = subject.root / "apt/dists/stable"
    index = suite / "main/binary-all/Packages"
    older = index.read_bytes()
    newer = older.replace(b"Description: cargo", b"Description: more of it")
    publish_index(suite, newer, differences(index, older, newer))
    said = apt_get(room, "update").stdout.decode()
    require("Packages.diff/" in said and ".gz" in said, f"no difference was asked for: {said[-2000:]}")
    shown = apt_get(room, "show", "tide-leaf", program="apt-cache").stdout.decode()
    require("more of it" in shown, f"the index is the older one: {shown}")


def apt_room(subject):
    """A repository of one package, and a place for what apt knows of it."""
    require_tools("apt-get", "apt-cache", "dpkg-deb", "dpkg-scanpackages")
    root = subject.root / "apt"
    if not root.exists():
        publish_apt(subject, root)
    room = subject.stage.room()
    for path in ("lists/partial", "archives/partial", "etc"):
        (room / path).mkdir(parents=True)
    (room / "status").touch()
    (room / "sources.list").write_text(f"deb [trusted=yes] {subject.address}/apt stable main\n")
    return room


def apt_get(room, *command, program="apt-get", cwd=None):
    """apt with directories of its own, which tells what it asks for and what is answered."""
    options = {
        "Dir::Etc": room / "etc",
        "Dir::Etc::sourcelist": room / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": room / "lists",
        "Dir::State::status": room / "status",
        "Dir::State": room,
        "Dir::Cache": room,
        "Dir::Cache::archives": room / "archives",
        "APT::Architecture": "all",
        "APT::Architectures": "all",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "0",
        "Debug::NoLocking": "true",
        "Debug::Acquire::http": "true",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return run("sh", "-c", 'exec "$@" 2>&1', program, program, *words, *command, cwd=cwd)


def publish_apt(subject, root):
    source = subject.stage.room()
    (source / "DEBIAN").mkdir()
    control = "Package: tide-leaf\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@example.org>\n"
    (source / "DEBIAN/control").write_text(f"{control}Description: cargo\n")
    (source / "cargo.bin").write_bytes(CARGO)
    room = subject.stage.room()
    run("dpkg-deb", "--root-owner-group", "-b", source, room)
    publish(root / "pool/tide-leaf_1.0_all.deb", (room / "tide-leaf_1.0_all.deb").read_bytes())
    packages = run("dpkg-scanpackages", "pool", cwd=root).stdout
    publish_index(root / "dists/stable", packages, {})


def publish_index(suite, packages, beside):
    """The index of a suite, plain, compressed and by hash, with other files `beside` it, and Release,
    which lists them."""
    index = "main/binary-all/Packages"
    files = {index: packages, f"{index}.gz": compressed(packages), **beside}
    for path, content in files.items():
        publish(suite / path, content)
        publish((suite / path).parent / "by-hash/SHA256" / hashlib.sha256(content).hexdigest(), content)
    lines = [f" {sized(content)} {path}" for path, content in files.items()]
    release = "\n".join([RELEASE, *lines, ""]).encode()
    known = suite / "Release"
    # Each a day later than the one before it, since apt asks by date.
    changed = known.stat().st_mtime_ns + DAY_NS if known.exists() else LONG_AGO_NS
    publish(known, release)
    os.utime(known, ns=(changed, changed))


def differences(index, older, newer):
    """The files that tell how an index came of the one before it, as paths in their suite."""
    at = "main/binary-all/Packages.diff"
    (index.parent / "older").write_bytes(older)
    (index.parent / "newer").write_bytes(newer)
    patch = run("diff", "--ed", index.parent / "older", index.parent / "newer", statuses=(1,)).stdout
    name = "T-1"
    sums = {
        "SHA256-Current": f" {sized(newer)}",
        "SHA256-History": f"\n {sized(older)} {name}",
        "SHA256-Patches": f"\n {sized(patch)} {name}",
        "SHA256-Download": f"\n {sized(compressed(patch))} {name}.gz",
    }
    told = "".join(f"{field}:{value}\n" for field, value in sums.items())
    return {f"{at}/Index": told.encode(), f"{at}/{name}.gz": compressed(patch)}


def sized(content):
    return f"{hashlib.sha256(content).hexdigest()} {len(content)}"


def compressed(content):
    return gzip.compress(content, mtime=0)


CHECKS = (
    npm,
    npm_again,
    pip_by_listings,
    pip_find_links,
    pip_by_pages,
    pip_by_ranges,
    apt,
    apt_resumes,
    apt_diffs,
)
