"""testssl.sh: the whole scan, in which nothing may be found."""

import json
from contextlib import nullcontext

from outcome import expect, require
from stage import run

TOOLS = ("testssl",)
BAD = ("LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL")
FINDINGS_MIN = 150
# Findings that are as they should be, and why.
EXCEPTED = {
    "cert_revocation": "an authority that lasts as long as the run has no one to tell what it revoked",
    "cipher_order": "Mozilla's intermediate profile leaves the order to the client: all suites are"
    " strong, and it knows whether its processor has AES",
}


def session(stage):
    """The stage, seen through TLS."""
    return nullcontext(stage.secure())


def scan(stage):
    """The whole scan: nothing found of severity LOW or above."""
    room = stage.room()
    run(
        *("testssl", "--quiet", "--warnings", "off", "--color", "0"),
        # The name is in the certificate; nobody is asked for it.
        *("--nodns", "none", "--ip", "127.0.0.1", "--add-ca", stage.certificates.authority),
        *("--jsonfile", room / "findings.json", f"https://localhost:{stage.port}"),
        cwd=room,
        # The number of what was found, as far as it goes.
        statuses=range(200),
    )
    findings = json.loads((room / "findings.json").read_text(encoding="utf-8"))
    require(len(findings) >= FINDINGS_MIN, f"there are but {len(findings)} lines")
    bad = [each for each in findings if each["severity"] in BAD]
    left = [f"{each['id']}: {each['finding']}" for each in bad if each["id"].split()[0] not in EXCEPTED]
    expect("what was found", left, [])
    excepted = sorted({each["id"].split()[0] for each in bad})
    unmade = sorted(each["id"] for each in findings if each["severity"] == "WARN")
    return f"{len(findings)} lines; excepted: {', '.join(excepted)}; not tried: {', '.join(unmade)}"


CHECKS = (scan,)
