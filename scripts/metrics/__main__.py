"""The metrics and the live page of a running server. Run by run.sh, which has the usage.

Each part is a module as scripts/lib/parts.py wants it, whose checks get a `Subject`. Only the standard library is used.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import parts
import with_live_page
import with_prometheus
import with_promtool
from load import under_load
from subject import Subject

PARTS = {
    "promtool": with_promtool,
    "prometheus": with_prometheus,
    "chromium": with_live_page,
}


def main():
    arguments = parse()
    # Ended, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    program = shutil.which(arguments.server)
    if not program:
        sys.exit(f"no program {arguments.server}")
    report = parts.Report()
    with tempfile.TemporaryDirectory(prefix="metrics-") as directory:
        work = Path(directory)
        with Subject.started(str(Path(program).absolute()), work, arguments.screenshot) as subject:
            with under_load(subject):
                for name in arguments.only:
                    parts.run(name, PARTS[name], subject, report)
    return report.end()


def parse():
    parser = argparse.ArgumentParser(prog="scripts/metrics/run.sh")
    parser.add_argument("--server", metavar="PROGRAM", required=True)
    parser.add_argument("--only", metavar="PART,..", type=parts.names_among(PARTS), default=list(PARTS))
    parser.add_argument("--screenshot", metavar="FILE", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
