"""Third-party HTTP suites against tidegate, nginx, Caddy and H2O, side by side.

Prints Markdown: a table of scores, and for each suite what failed. Run by
scripts/conformance.sh, which has the usage. Only the standard library is used.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import servers
import suite_dropseed
import suite_go
import suite_h2spec
import suite_hpack
import suite_llhttp
import suite_redbot
import suite_unetworking
from case import Unavailable

SUITES = (
    suite_unetworking,
    suite_dropseed,
    suite_llhttp,
    suite_go,
    suite_redbot,
    suite_h2spec,
    suite_hpack,
)
OURS = "tidegate"
SKIPPED = 77
ROOT = Path(__file__).resolve().parents[2]
REASONS = Path(__file__).parent / "reasons.toml"
# Results stand in a document after this line.
MARK = "<!-- What follows is the output of scripts/conformance.sh. -->\n"


def main():
    arguments = parse()
    given = {suite: getattr(arguments, destination(suite)) for suite in SUITES}
    given = {suite: path for suite, path in given.items() if available(suite, path)}
    if not given:
        return SKIPPED
    found = installed({kind.name: getattr(arguments, kind.name) for kind in servers.HTTP2_KINDS})
    results = {suite: run(suite, path, found) for suite, path in given.items()}
    results = {suite: outcomes for suite, outcomes in results.items() if outcomes}
    if not results:
        return SKIPPED
    reasons = tomllib.loads(REASONS.read_text(encoding="utf-8"))
    text = "\n".join(report(results, found, reasons)) + "\n"
    print(text, end="")
    if arguments.write:
        replace_results(arguments.write, text)
    return 1 if surprises(results, reasons) else 0


def parse():
    parser = argparse.ArgumentParser(prog="scripts/conformance.sh")
    for kind in servers.HTTP2_KINDS:
        name = kind.name.lower()
        default = None if name == OURS else name
        parser.add_argument(f"--{name}", dest=kind.name, default=default, metavar="PROGRAM")
    for suite in SUITES:
        parser.add_argument(f"--{suite.OPTION}", metavar="PATH", help=suite.TITLE)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the results into FILE too")
    return parser.parse_args()


def destination(suite):
    """The name of a suite's option among the parsed arguments."""
    return suite.OPTION.replace("-", "_")


def installed(programs):
    """The servers to test; tidegate has to be there, the others need not."""
    programs[OURS] = programs[OURS] or build()
    found = servers.installed(programs)
    for name in programs.keys() - {server.name for server in found}:
        if name == OURS:
            sys.exit(f"no program {programs[name]}")
        tell(f"{name}: left out, no program {programs[name]}")
    return found


def build():
    """Makes the release build; gives the path of the binary."""
    command = ["cargo", "build", "--release", "--locked", "--package", "tidegate"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    return str(ROOT / target / "release" / "tidegate")


def available(suite, path):
    if path is None:
        tell(f"{suite.TITLE}: skipped, no --{suite.OPTION} PATH given")
    elif not Path(path).exists():
        tell(f"{suite.TITLE}: skipped, there is no {path}")
    else:
        return True
    return False


def run(suite, path, found):
    """The cases of each server by its name; None if the suite cannot be run here."""
    outcomes = {}
    try:
        for server in judged(suite, found):
            tell(f"{suite.TITLE}: {server.name}")
            with tempfile.TemporaryDirectory(prefix="conformance-") as directory:
                work = Path(directory)
                # The workers of nginx may be another user.
                work.chmod(0o755)
                outcomes[server.name] = suite.run(server, work, Path(path).absolute())
    except Unavailable as reason:
        tell(f"{suite.TITLE}: skipped, {reason}")
        return None
    return outcomes


def judged(suite, found):
    """The servers that a suite is for: those of HTTP/1.1, if it names no others."""
    kinds = getattr(suite, "KINDS", servers.KINDS)
    return [server for server in found if server.kind in kinds]


# --- the report --------------------------------------------------------------


def report(results, found, reasons):
    """The lines of it."""
    judged_ones = {name for outcomes in results.values() for name in outcomes}
    found = [server for server in found if server.name in judged_ones]
    names = [server.name for server in found]
    yield row(["Cases passed", *[f"{server.name} {server.version()}" for server in found]])
    yield row(["---", *["---:" for _ in names]])
    for suite, outcomes in results.items():
        yield row([suite.TITLE, *[score(outcomes.get(name)) for name in names]])
    for suite, outcomes in results.items():
        yield from ["", f"## {suite.TITLE}", ""]
        yield from failures(outcomes, reasons.get(suite.OPTION, {}))


def failures(outcomes, reasons):
    """A row for each case that any server failed, and the reasons of our failures."""
    cases = {}
    for name, judged in outcomes.items():
        for case in judged:
            cases.setdefault(case.name, {})[name] = case
    failed = {case: by for case, by in cases.items() if not all(one.passed for one in by.values())}
    if not failed:
        yield "Nobody failed a case."
        return
    yield row(["Failed by somebody", *outcomes])
    yield row(["---"] * (len(outcomes) + 1))
    for case, by in failed.items():
        yield row([case, *[cell(by.get(name)) for name in outcomes]])
    ours = [case for case, by in failed.items() if OURS in by and not by[OURS].passed]
    if ours:
        yield from ["", "Why tidegate fails what it fails:", ""]
        yield from (f"- {case}: {reasons.get(case, '**no reason is known**')}." for case in ours)


def score(cases):
    if cases is None:
        return ""
    return f"{sum(case.passed for case in cases)} of {len(cases)}"


def cell(case):
    if case is None:
        return "not run"
    return "passed" if case.passed else case.detail or "failed"


def row(cells):
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def replace_results(file, text):
    before, mark, _ = file.read_text(encoding="utf-8").partition(MARK)
    file.write_text(f"{before}{mark or MARK}\n{text}", encoding="utf-8")


def surprises(results, reasons):
    """Tells of each case that tidegate fails without a reason, or passes despite one."""
    found = []
    for suite, outcomes in results.items():
        known = reasons.get(suite.OPTION, {})
        for case in outcomes[OURS]:
            if case.passed == (case.name in known):
                verb = "passes, but has a reason to fail" if case.passed else "fails"
                found.append(f"{suite.TITLE}: {case.name}: tidegate {verb} {case.detail}")
    for surprise in found:
        tell(surprise)
    return found


def tell(text):
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
