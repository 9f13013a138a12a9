"""Real object stores behind the real binary. Run by run.sh, which has the usage.

Each part is a module as scripts/lib/parts.py wants it. Only the standard library is used.
"""

import argparse
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import parts
import with_ceph
import with_fleet
import with_garage
import with_replicas

PARTS = {"ceph": with_ceph, "fleet": with_fleet, "garage": with_garage, "replicas": with_replicas}


@dataclass(frozen=True)
class Stage:
    """What all parts need."""

    # The binary under test.
    server: str
    garage: str
    # A directory to work in.
    work: Path
    # Whether this is in namespaces of its own, as root.
    is_apart: bool

    def find(self, tool):
        return shutil.which(getattr(self, tool, tool))


def main():
    arguments = parse()
    # Ended, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    server = shutil.which(arguments.server)
    if not server:
        sys.exit(f"no program {arguments.server}")
    work = (arguments.keep or arguments.work).absolute()
    work.mkdir(parents=True, exist_ok=True)
    report = parts.Report()
    for name in arguments.only:
        inner = work / name
        inner.mkdir()
        garage = shutil.which(arguments.garage) or arguments.garage
        stage = Stage(os.path.abspath(server), os.path.abspath(garage), inner, arguments.apart)
        parts.run(name, PARTS[name], stage, report, stage.find)
    return report.end()


def parse():
    parser = argparse.ArgumentParser(prog="scripts/stores/run.sh")
    parser.add_argument("--server", metavar="PROGRAM", required=True)
    parser.add_argument("--only", metavar="PART,..", type=parts.names_among(PARTS), default=list(PARTS))
    parser.add_argument("--garage", metavar="PROGRAM", default="garage")
    parser.add_argument("--keep", metavar="DIRECTORY", type=Path)
    # Those of run.sh alone.
    parser.add_argument("--work", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
