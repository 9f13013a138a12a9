"""The metrics and the live page of a running server. Run by run.sh, which has the usage.

Each part is a module with TOOLS, the programs it needs, and CHECKS, functions of a `Subject` whose
doc string names the check in the table. Only the standard library is used.
"""

import argparse
import importlib
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from load import under_load
from outcome import Failed, Skipped
from subject import Subject

PARTS = {
    "promtool": "with_promtool",
    "prometheus": "with_prometheus",
    "chromium": "with_live_page",
}


# The exit status if nothing could be checked.
SKIPPED = 77


def main():
    arguments = parse()
    # Ended, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    program = shutil.which(arguments.server)
    if not program:
        sys.exit(f"no program {arguments.server}")
    with tempfile.TemporaryDirectory(prefix="metrics-") as directory:
        work = Path(directory)
        with Subject.started(str(Path(program).absolute()), work, arguments.screenshot) as subject:
            with under_load(subject):
                outcomes = [one for name in arguments.only for one in outcomes_of(name, subject)]
    results = [result for _, _, result, _ in outcomes]
    for part, name, result, remark in outcomes:
        print(f"{part:<11} {name:<68} {result:<8} {remark}".rstrip())
    print(", ".join(f"{results.count(each)} {each}" for each in ("passed", "FAILED", "skipped")))
    if "FAILED" in results:
        return 1
    return 0 if "passed" in results else SKIPPED


def parse():
    parser = argparse.ArgumentParser(prog="scripts/metrics/run.sh")
    parser.add_argument("--server", metavar="PROGRAM", required=True)
    parser.add_argument("--only", metavar="PART,..", type=parts, default=list(PARTS))
    parser.add_argument("--screenshot", metavar="FILE", type=Path)
    return parser.parse_args()


def parts(text):
    names = text.split(",")
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"no part {name}; there are {', '.join(PARTS)}")
    return names


def outcomes_of(name, subject):
    part = importlib.import_module(PARTS[name])
    missing = [tool for tool in part.TOOLS if not shutil.which(tool)]
    if missing:
        return [(name, "all of it", "skipped", f"not installed: {', '.join(missing)}")]
    try:
        with part.session(subject) as session:
            return [(name, *outcome_of(check, session)) for check in part.CHECKS]
    except Exception as error:
        return [(name, "starts and ends", "FAILED", complaint(error))]


def outcome_of(check, session):
    name = check.__doc__.splitlines()[0].rstrip(".")
    begin = time.monotonic()
    try:
        outcome = (name, "passed", check(session) or "")
    except Skipped as reason:
        outcome = (name, "skipped", str(reason))
    except Exception as error:  # What came was not what the check can read, mostly.
        outcome = (name, "FAILED", complaint(error))
    print(f"{name}: {outcome[1]} after {time.monotonic() - begin:.1f} s", file=sys.stderr)
    return outcome


def complaint(error):
    text = " ".join(str(error).split())
    return text if isinstance(error, Failed) else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    sys.exit(main())
