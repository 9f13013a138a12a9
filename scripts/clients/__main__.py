"""Real clients against the real binary. Run by run.sh, which has the usage.

Each part is a module `with_TOOL` that has

- TOOLS: the programs it needs,
- `session(stage)`: a context manager that gives what its checks are called with,
- CHECKS: functions whose doc string names the check in the table. What one returns is
  printed as a remark; it raises `Failed` or `Skipped` otherwise.

Only the standard library is used.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import certificates
import site_tree
import with_caddy
import with_chromium
import with_chromium_http2
import with_chromium_tls
import with_curl
import with_curl_h2c
import with_curl_http2
import with_curl_tls
import with_ffmpeg
import with_gnutls
import with_go
import with_haproxy
import with_httpx
import with_java
import with_listings
import with_nghttp
import with_nginx
import with_node
import with_openssl
import with_packages
import with_ranges
import with_sslyze
import with_testssl
import with_wget
from outcome import Failed, Outcome, Skipped
from servers import serving
from stage import Stage

PARTS = {
    "curl": with_curl,
    "wget": with_wget,
    "ranges": with_ranges,
    "ffmpeg": with_ffmpeg,
    "listings": with_listings,
    "packages": with_packages,
    "nginx": with_nginx,
    "chromium": with_chromium,
    "openssl": with_openssl,
    "gnutls": with_gnutls,
    "curl-tls": with_curl_tls,
    "chromium-tls": with_chromium_tls,
    "sslyze": with_sslyze,
    "testssl": with_testssl,
    "curl-http2": with_curl_http2,
    "curl-h2c": with_curl_h2c,
    "nghttp": with_nghttp,
    "go": with_go,
    "httpx": with_httpx,
    "java": with_java,
    "node": with_node,
    "haproxy": with_haproxy,
    "caddy": with_caddy,
    "chromium-http2": with_chromium_http2,
}


def main():
    arguments = parse()
    program = shutil.which(arguments.server)
    if not program:
        sys.exit(f"no program {arguments.server}")
    if arguments.sslyze:
        os.environ["PATH"] += os.pathsep + str(arguments.sslyze.absolute())
    if arguments.npm:
        os.environ["NODE_PATH"] = str(arguments.npm.absolute() / "node_modules")
    with tempfile.TemporaryDirectory(prefix="clients-") as directory:
        work = Path(directory)
        # The workers of nginx may be another user.
        work.chmod(0o755)
        outcomes = list(run(arguments, str(Path(program).absolute()), work))
    print(report(outcomes))
    return 1 if any(outcome.result == "FAILED" for outcome in outcomes) else 0


def parse():
    parser = argparse.ArgumentParser(prog="scripts/clients/run.sh")
    parser.add_argument("--server", metavar="PROGRAM", required=True)
    parser.add_argument("--only", metavar="PART,..", type=parts, default=list(PARTS))
    parser.add_argument("--tree", metavar="DIR", type=Path)
    parser.add_argument("--sslyze", metavar="DIR", type=Path)
    parser.add_argument("--npm", metavar="DIR", type=Path)
    parser.add_argument("--python", metavar="PROGRAM", default="python3")
    parser.add_argument("--screenshots", metavar="DIR", type=Path)
    return parser.parse_args()


def parts(text):
    names = text.split(",")
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"no part {name}; there are {', '.join(PARTS)}")
    return names


def run(arguments, program, work):
    """What everything comes to, a server that does not start or does not last among it."""
    root = site_tree.make(work / "www", arguments.tree)
    try:
        made = certificates.make(work / "certificates")
        with serving(program, root, work, made) as (port, tls_port):
            stage = Stage(
                program, port, tls_port, root, work, made, arguments.screenshots, arguments.python
            )
            for name in arguments.only:
                yield from outcomes_of_part(name, stage)
    except Failed as failure:
        yield told(Outcome("server", "starts and lasts", "FAILED", complaint(failure)))


def outcomes_of_part(name, stage):
    """What the checks of a part come to, one after the other."""
    part = PARTS[name]
    missing = [tool for tool in part.TOOLS if not shutil.which(tool)]
    if missing:
        yield told(Outcome(name, "all of it", "skipped", f"not installed: {', '.join(missing)}"))
        return
    try:
        with part.session(stage) as subject:
            for check in part.CHECKS:
                yield told(outcome_of(name, check, subject))
    except Exception as error:
        yield told(Outcome(name, "starts and ends", "FAILED", complaint(error)))


def outcome_of(part, check, subject):
    name = check.__doc__.splitlines()[0].rstrip(".")
    begin = time.monotonic()
    try:
        remark = check(subject) or ""
    except Skipped as reason:
        return Outcome(part, name, "skipped", str(reason))
    except Exception as error:  # What came was not what the check can read, mostly.
        return Outcome(part, name, "FAILED", complaint(error))
    return Outcome(part, name, "passed", remark, time.monotonic() - begin)


def complaint(error):
    text = " ".join(str(error).split())
    return text if isinstance(error, Failed) else f"{type(error).__name__}: {text}"


def told(outcome):
    """Says it at once, for whoever is waiting."""
    print(f"{outcome.part}: {outcome.name}: {outcome.result}", file=sys.stderr)
    return outcome


def report(outcomes):
    rows = [("part", "check", "result", "s", "")]
    rows += [(o.part, o.name, o.result, f"{o.seconds:.1f}", o.remark) for o in outcomes]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(pad(row, widths)).rstrip() for row in rows]
    count = {result: 0 for result in ("passed", "FAILED", "skipped")}
    for outcome in outcomes:
        count[outcome.result] += 1
    return "\n".join([*lines, "", ", ".join(f"{n} {result}" for result, n in count.items())])


def pad(row, widths):
    cells = [cell.ljust(width) for cell, width in zip(row, widths)]
    return [*cells, row[len(widths)]]


if __name__ == "__main__":
    sys.exit(main())
