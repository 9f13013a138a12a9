"""Real clients against the real binary. Run by run.sh, which has the usage.

Each part is a module `with_TOOL`, as scripts/lib/parts.py wants it. Only the standard library is used.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import certificates
import parts
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
from outcome import Failed, complaint
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
        report = parts.Report()
        run(arguments, str(Path(program).absolute()), work, report)
    return report.end()


def parse():
    parser = argparse.ArgumentParser(prog="scripts/clients/run.sh")
    parser.add_argument("--server", metavar="PROGRAM", required=True)
    parser.add_argument("--only", metavar="PART,..", type=parts.names_among(PARTS), default=list(PARTS))
    parser.add_argument("--tree", metavar="DIR", type=Path)
    parser.add_argument("--sslyze", metavar="DIR", type=Path)
    parser.add_argument("--npm", metavar="DIR", type=Path)
    parser.add_argument("--python", metavar="PROGRAM", default="python3")
    parser.add_argument("--screenshots", metavar="DIR", type=Path)
    return parser.parse_args()


def run(arguments, program, work, report):
    """All checks, that the server starts and lasts among them."""
    root = site_tree.make(work / "www", arguments.tree)
    try:
        made = certificates.make(work / "certificates")
        with serving(program, root, work, made) as (port, tls_port):
            stage = Stage(
                program, port, tls_port, root, work, made, arguments.screenshots, arguments.python
            )
            for name in arguments.only:
                parts.run(name, PARTS[name], stage, report)
    except Failed as failure:
        report.failed("server", "starts and lasts", complaint(failure))


if __name__ == "__main__":
    sys.exit(main())
