"""Real object stores behind the real binary. Run by run.sh, which has the usage.

Each part is a module with TOOLS, the programs it needs, `session(stage)`, a context manager that gives what its
checks are called with, and CHECKS, functions whose doc string names the check. What one returns is printed as a
remark. Only the standard library is used.
"""

import argparse
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import with_ceph
import with_fleet
import with_garage
import with_replicas
from outcome import Failed, Skipped

PARTS = {"ceph": with_ceph, "fleet": with_fleet, "garage": with_garage, "replicas": with_replicas}

# The exit status if nothing could be checked.
SKIPPED = 77


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


def main():
    arguments = parse()
    # Ended, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    server = shutil.which(arguments.server)
    if not server:
        sys.exit(f"no program {arguments.server}")
    work = (arguments.keep or arguments.work).absolute()
    work.mkdir(parents=True, exist_ok=True)
    results = []
    for name in arguments.only:
        inner = work / name
        inner.mkdir()
        garage = shutil.which(arguments.garage) or arguments.garage
        stage = Stage(os.path.abspath(server), os.path.abspath(garage), inner, arguments.apart)
        results.extend(results_of(name, PARTS[name], stage))
    print(", ".join(f"{results.count(each)} {each}" for each in ("ok", "FAILED", "skipped")))
    if "FAILED" in results:
        return 1
    return 0 if "ok" in results else SKIPPED


def parse():
    parser = argparse.ArgumentParser(prog="scripts/stores/run.sh")
    parser.add_argument("--server", metavar="PROGRAM", required=True)
    parser.add_argument("--only", metavar="PART,..", type=parts, default=list(PARTS))
    parser.add_argument("--garage", metavar="PROGRAM", default="garage")
    parser.add_argument("--keep", metavar="DIRECTORY", type=Path)
    # Those of run.sh alone.
    parser.add_argument("--work", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def parts(text):
    names = text.split(",")
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"no part {name}; there are {', '.join(PARTS)}")
    return names


def results_of(name, part, stage):
    """Prints a line for each check of a part; gives how each ended."""
    missing = [tool for tool in part.TOOLS if not shutil.which(getattr(stage, tool, tool))]
    if missing:
        yield line("skipped", name, "all of it", f"not installed: {', '.join(missing)}")
        return
    try:
        with part.session(stage) as session:
            for check in part.CHECKS:
                yield result_of(name, check, session)
    except Skipped as reason:
        yield line("skipped", name, "all of it", str(reason))
    except Exception as error:
        yield line("FAILED", name, "starts and ends", complaint(error))


def result_of(name, check, session):
    what = check.__doc__.splitlines()[0].rstrip(".")
    try:
        return line("ok", name, what, check(session) or "")
    except Skipped as reason:
        return line("skipped", name, what, str(reason))
    except Exception as error:  # What came was not what the check can read, mostly.
        return line("FAILED", name, what, complaint(error))


def line(result, name, what, remark):
    print(f"{result:<7} {name}: {what}{': ' if remark else ''}{remark}", flush=True)
    return result


def complaint(error):
    text = " ".join(str(error).split())
    return text if isinstance(error, Failed) else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    sys.exit(main())
