"""gnutls-cli: versions and suites that GnuTLS offers, resumption, keys that change."""

import re
import subprocess
import time
from contextlib import nullcontext

from outcome import expect, require
from stage import COMMAND_SECONDS

TOOLS = ("gnutls-cli",)
FILE = "/files/middling.bin"
# What is offered, and how GnuTLS describes what that comes to.
PRIORITIES = (
    ("NORMAL", r"TLS1\.3"),
    ("NORMAL:-CIPHER-ALL:+AES-128-GCM", r"TLS1\.3.*AES-128-GCM"),
    ("NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305", r"TLS1\.3.*CHACHA20"),
    ("NORMAL:-GROUP-ALL:+GROUP-X25519", r"TLS1\.3.*X25519"),
    ("NORMAL:-VERS-ALL:+VERS-TLS1.2", r"TLS1\.2.*ECDSA"),
    ("NORMAL:-VERS-ALL:+VERS-TLS1.2:-ECDHE-ECDSA", r"TLS1\.2.*RSA"),
    ("SECURE128", r"TLS1\.3"),
    ("PFS", r"TLS1\.3"),
)


def session(stage):
    """The stage, seen through TLS."""
    return nullcontext(stage.secure())


class Talk:
    """The `body` that came, and what gnutls-cli `said` of the connection."""

    def __init__(self, stage, *options, command=""):
        log = stage.room() / "log"
        words = ["gnutls-cli", "--x509cafile", stage.certificates.authority, "--logfile", log]
        words += ["--port", str(stage.port), *options, "127.0.0.1"]
        pipe = subprocess.PIPE
        with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
            try:
                came = converse(process, command)
            finally:
                process.kill()
        self.said = log.read_text(errors="replace")
        self.body = came.partition(b"\r\n\r\n")[2]


def converse(process, command):
    """Sends the command in a piece of its own, and a request, and gives what comes."""
    if command:
        process.stdin.write(f"{command}\n".encode())
        process.stdin.flush()
        time.sleep(0.5)
    request = f"GET {FILE} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    return process.communicate(request.encode(), COMMAND_SECONDS)[0]


def whole(stage, talk):
    """Fails unless the file came whole, and the certificate was trusted."""
    require(talk.body == (stage.root / f"main{FILE}").read_bytes(), "the bytes differ")
    require("Status: The certificate is trusted" in talk.said, "the certificate is not trusted")


def priorities(stage):
    """GET of a file, compared, with what is offered restricted in turn."""
    for priority, wanted in PRIORITIES:
        talk = Talk(stage, "--priority", priority)
        whole(stage, talk)
        described = re.search("Description: (.*)", talk.said)[1]
        require(re.search(wanted, described), f"{priority} came to {described}")
    return f"{len(PRIORITIES)} priorities"


def old_versions(stage):
    """TLS 1.0 and 1.1 are refused."""
    for version in ("1.0", "1.1"):
        talk = Talk(stage, "--priority", f"LEGACY:-VERS-ALL:+VERS-TLS{version}")
        expect(f"what came by TLS {version}", talk.body, b"")
        require("*** Received alert" in talk.said, talk.said[-200:])


def resumed(stage):
    """Sessions of both versions are resumed."""
    for version in ("1.3", "1.2"):
        talk = Talk(stage, "--resume", "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}")
        whole(stage, talk)
        require("This is a resumed session" in talk.said, f"TLS {version}: it is a new session")


def rekeyed(stage):
    """KeyUpdate right after the handshake, with and without one in return."""
    for command in ("^rekey^", "^rekey1^"):
        talk = Talk(stage, "--inline-commands", command=command)
        require("Rekey was completed" in talk.said, f"{command}: there was no rekey")
        whole(stage, talk)


CHECKS = (priorities, old_versions, resumed, rekeyed)
