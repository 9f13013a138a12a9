#!/usr/bin/env python3
"""Makes config/containers/seccomp.json from Docker's default profile.

    scripts/containers/profile.py DEFAULT.json

DEFAULT.json is profiles/seccomp/default.json of Docker (https://github.com/moby/moby, Apache-2.0;
Debian: golang-github-docker-docker-dev). Prints what it allows a container without capabilities on
x86-64 and arm64, and the three calls of io_uring, in the form of the OCI runtime specification: Docker,
Podman, containerd and CRI-O read it. Docker's own form, with conditions, is for Docker alone.
"""

import json
import sys

IO_URING = ["io_uring_enter", "io_uring_register", "io_uring_setup"]
ARCHITECTURES = {"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64"}


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        default = json.load(file)
    names, others = set(IO_URING), []
    for rule in default["syscalls"]:
        if not applies(rule):
            continue
        if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args"):
            names.update(rule["names"])
        else:
            others.append(plain(rule))
    profile = {
        "defaultAction": default["defaultAction"],
        "defaultErrnoRet": default.get("defaultErrnoRet", 1),
        "architectures": sorted(ARCHITECTURES.values()),
        "syscalls": [{"names": sorted(names), "action": "SCMP_ACT_ALLOW"}, *others],
    }
    print(json.dumps(profile, indent=2))


def applies(rule):
    """Whether the rule is for a process without capabilities on one of the architectures."""
    included, excluded = rule.get("includes") or {}, rule.get("excludes") or {}
    return (
        not included.get("caps")
        and ("arches" not in included or ARCHITECTURES.keys() & set(included["arches"]))
        and not ARCHITECTURES.keys() & set(excluded.get("arches", []))
    )


def plain(rule):
    return {key: rule[key] for key in ("names", "action", "args", "errnoRet") if rule.get(key)}


main()
