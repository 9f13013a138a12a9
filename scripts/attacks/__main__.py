"""What scripts/attacks.sh does."""

import argparse
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts" / name) for name in ("lib", "adversary", "bench")]

import campaign  # noqa: E402
import senders  # noqa: E402
import slowloris  # noqa: E402


def parse():
    parser = argparse.ArgumentParser(prog="scripts/attacks.sh")
    parser.add_argument("--server", type=lambda name: Path(name).resolve(), default=ROOT / "target/release/tidegate")
    commands = parser.add_subparsers(required=True)
    for name, part in (("run", campaign), ("slowloris", slowloris), ("senders", senders)):
        command = commands.add_parser(name)
        command.set_defaults(part=part)
        part.add_options(command)
    return parser.parse_args()


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return options.part.run(options)


if __name__ == "__main__":
    sys.exit(main())
