#!/usr/bin/env python3
"""The licences of all that is linked into the binary, each text once, on standard output.

    scripts/package/licenses.py TARGET

TARGET is that of the binary, such as x86_64-unknown-linux-gnu: crates of other systems are left out.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys

NAMES = re.compile(r"(licen[cs]e|copying|notice|copyright)", re.IGNORECASE)


def linked(target):
    """The packages that tidegate needs at run time."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    rest = [package["id"] for package in metadata["packages"] if package["name"] == "tidegate"]
    found = set()
    while rest:
        this = rest.pop()
        if this in found:
            continue
        found.add(this)
        for dependency in nodes[this]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                rest.append(dependency["pkg"])
    return [packages[this] for this in sorted(found)]


def texts(package):
    """The licence files of a package, those of the C libraries that come with it included."""
    directory = pathlib.Path(package["manifest_path"]).parent
    return sorted(path for path in directory.rglob("*") if path.is_file() and NAMES.match(path.name))


def main():
    crates_of = collections.defaultdict(list)
    for package in linked(sys.argv[1]):
        if package["source"] is None:
            continue
        name = f"{package['name']} {package['version']} ({package['license'] or 'see below'})"
        print(name)
        for path in texts(package):
            crates_of[path.read_text(errors="replace").strip()].append(name.split(" (")[0])
    for text, crates in crates_of.items():
        print(f"\n{'=' * 78}\n{', '.join(dict.fromkeys(crates))}\n{'=' * 78}\n\n{text}")


if __name__ == "__main__":
    main()
