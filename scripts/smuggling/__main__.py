"""Request smuggling through real proxies, and directly. Run by run.sh, which has the usage.

Only the standard library is used.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import markers
import self_test
from mutations import sequence
from parts import Report, names_among
from proxies import HERE, PROXIES, filled
from started import NotStarted, free_port, started
from ways import clipped, directly, through

WAYS = ("direct", *(proxy.name for proxy in PROXIES))


def main():
    arguments = parse()
    server = shutil.which(arguments.server)
    if not server:
        sys.exit(f"no program {arguments.server}")
    blind = list(self_test.failures())
    if blind:
        sys.exit("\n".join(["the judge does not see what is wrong:", *blind]))
    print(f"seed {arguments.seed}", flush=True)
    with working(arguments.keep) as work:
        markers.plant(work / "www")
        report = Report()
        run(str(Path(server).absolute()), work, arguments, report)
    return report.end()


def parse():
    parser = argparse.ArgumentParser(prog="scripts/smuggling/run.sh")
    parser.add_argument("--server", metavar="PROGRAM", required=True)
    parser.add_argument("--requests", metavar="N", type=int, default=100_000)
    parser.add_argument("--seed", metavar="SEED", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--only", metavar="WAY,..", type=names_among(WAYS, "way"), default=WAYS)
    parser.add_argument("--first", metavar="N", type=int, default=0)
    parser.add_argument("--examples", metavar="N", type=int, default=0)
    parser.add_argument("--keep", metavar="DIRECTORY", type=Path)
    return parser.parse_args()


@contextmanager
def working(keep):
    """A directory in which proxies that give up root can work, too."""
    if keep:
        keep.mkdir(parents=True)
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="smuggling-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@contextmanager
def serving(program, work):
    """tidegate, while the body runs: its process, its port and its log."""
    port = free_port()
    config = work / "tidegate.toml"
    words = {"PORT": port, "TREE": work / "www"}
    config.write_text(filled((HERE / "servers/tidegate.toml").read_text(), words))
    log = work / "tidegate.log"
    with started([program, "run", str(config)], port, log) as process:
        yield process, port, log


def run(server, work, arguments, report):
    """The requests on each way."""
    proxies = {proxy.name: proxy for proxy in PROXIES if proxy.name in arguments.only}
    there = [name for name in arguments.only if name == "direct" or proxies[name].is_installed]
    for name in arguments.only:
        if name not in there:
            report.skipped(name, "requests", f"{proxies[name].program} is not installed")
    at = arguments.first
    with serving(server, work) as (process, port, log):
        for index, name in enumerate(there):
            share = arguments.requests // len(there) + (index < arguments.requests % len(there))
            numbers, at = range(at, at + share), at + share
            try:
                if name == "direct":
                    seen = asyncio.run(directly(port, arguments.seed, numbers))
                else:
                    way = through(proxies[name], work / name, port, arguments.seed, numbers)
                    seen = asyncio.run(way)
            except NotStarted as error:
                report.skipped(name, "requests", str(error))
                continue
            if process.poll() is not None or "panic" in log.read_text(errors="replace"):
                seen.complain(f"tidegate: {log.read_text(errors='replace')[-2000:]}")
            tell(name, seen, arguments, report)
            if process.poll() is not None:
                return


def tell(name, seen, arguments, report):
    """Prints what was counted on a way, and what is wrong there."""
    counts = seen.counts
    words = [f"{counts['sent']} sent"]
    if name == "direct":
        words.append(f"{counts['requests']} requests")
    else:
        words += [f"{counts['requests']} forwarded", f"{counts['refused by the proxy']} refused by the proxy"]
    words += [f"{counts[each]} {each}" for each in ("refused by tidegate", "answered")]
    words.append(f"{counts['known answered']} of {counts['known']} known answered")
    if name == "direct":
        words.append(f"{counts['reset']} reset behind the last request")
    else:
        own = ("read otherwise", "without a response", "wrong by the proxy", "unreadable")
        words.append("by itself: " + ", ".join(f"{counts[each]} {each}" for each in own))
    add = report.failed if counts["problems"] else report.passed
    add(name, "requests", "; ".join(words))
    if counts["problems"]:
        print(f"  {counts['problems']} problems, the first of them:")
    for problem in seen.problems:
        print(f"  {problem}", flush=True)
    for what, number in seen.others[: arguments.examples]:
        print(f"  {what}: sequence {number}: {clipped(sequence(arguments.seed, number).data)}")


if __name__ == "__main__":
    sys.exit(main())
