"""openssl s_client: versions and suites, names, sessions, keys that change, certificates of clients."""

import re
import subprocess
import time
from contextlib import nullcontext
from pathlib import Path

from outcome import Failed, expect, require
from servers import serving_certified

TOOLS = ("openssl",)
SECONDS = 20
# RFC 8446, 6, and 5246, 7.2. OpenSSL does not have the names of all.
ALERTS = {
    0: "close_notify",
    40: "handshake_failure",
    48: "unknown_ca",
    70: "protocol_version",
    100: "no_renegotiation",
    116: "certificate_required",
    120: "no_application_protocol",
}
TEXT = "/files/alone.txt"
MODERN = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
# For TLS 1.2: the kinds of key, and what all of them are used with.
KINDS = ("ECDSA", "RSA")
CIPHERS = ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
GROUPS = ("X25519", "P-256", "P-384")
# Otherwise OpenSSL itself refuses what is old.
WEAK = ("-cipher", "ALL:@SECLEVEL=0")
# Whether the version or the rest of what is offered is looked at first.
REFUSALS = ("protocol_version", "handshake_failure")
RESUMPTIONS = 8


def session(stage):
    """The stage, seen through TLS."""
    return nullcontext(stage.secure())


class Talk:
    """A connection with a request, as s_client tells of it: `version` and `cipher`, whether it was
    `resumed`, the name of the `subject` and of the protocol `agreed`, the `status`, and the
    `alerts` of the server. What did not come is None; `said` is all of it."""

    def __init__(self, stage, *options, port=None, commands=()):
        self.said = said = talk(stage, port or stage.port, options, commands)
        found = re.search(r"^(New|Reused), (TLSv[\d.]+), Cipher is (\S+)", said, re.MULTILINE)
        how, self.version, self.cipher = found.groups() if found else (None, None, None)
        self.resumed = how == "Reused"
        self.subject = matched(r"^subject=.*CN = (\S+)", said)
        self.agreed = matched(r"^ALPN protocol: (\S+)", said)
        self.status = matched(r"^HTTP/1\.1 (\d+)", said)
        alerts = re.findall(r"^<<< .*Alert .*\n +[0-9a-f]{2} ([0-9a-f]{2})$", said, re.MULTILINE)
        self.alerts = [ALERTS.get(int(code, 16), code) for code in alerts]

    def served(self):
        """Fails unless the file came, whole, and then a close_notify."""
        expect("the status", self.status, "200")
        require("line 3999 of a text" in self.said, "the file is cut off")
        expect("the alerts", self.alerts, ["close_notify"])

    def refused(self, *alerts):
        """Fails unless nothing came but one of these alerts; gives it."""
        expect("the status", self.status, None)
        if len(self.alerts) != 1 or self.alerts[0] not in alerts:
            raise Failed(f"the alerts are {self.alerts}, not one of {alerts}")
        return self.alerts[0]


def matched(pattern, said):
    found = re.search(pattern, said, re.MULTILINE)
    return found and found[1]


def talk(stage, port, options, commands):
    """What s_client printed until the server closed. Each command is a letter that it takes
    for one, and what it says then."""
    room = stage.room()
    words = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-msg", *options]
    words += ["-CAfile", stage.certificates.authority, "-verify_return_error"]
    # Without it the end of the input would be the end of all; with it there are no commands.
    words += [] if commands else ["-ign_eof"]
    with (room / "out").open("wb") as out, (room / "err").open("wb") as err:
        # No buffer, which would have to be written to a program that has ended.
        with subprocess.Popen(words, 0, stdin=subprocess.PIPE, stdout=out, stderr=err) as process:
            try:
                converse(process, commands, room / "err")
            except subprocess.TimeoutExpired:
                raise Failed("the server did not close") from None
            finally:
                process.kill()
    return "".join((room / name).read_text(errors="replace") for name in ("out", "err"))


def converse(process, commands, err):
    for number, (letter, mark) in enumerate(commands):
        tell(process, f"{letter}\n")
        deadline = time.monotonic() + SECONDS
        while err.read_text(errors="replace").count(mark) <= number:
            require(time.monotonic() < deadline and process.poll() is None, f"no {mark} after {letter}")
            time.sleep(0.01)
    tell(process, f"GET {TEXT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    process.wait(SECONDS)


def tell(process, text):
    try:
        process.stdin.write(text.encode())
    except BrokenPipeError:  # It was refused, and what it printed tells how.
        pass


def modern(stage):
    """TLS 1.3 with each suite."""
    for suite in MODERN:
        made = Talk(stage, "-tls1_3", "-ciphersuites", suite)
        expect("version and suite", (made.version, made.cipher), ("TLSv1.3", suite))
        made.served()
    return ", ".join(MODERN)


def intermediate(stage):
    """TLS 1.2 with each suite, and the certificate of its kind."""
    suites = [(kind, f"ECDHE-{kind}-{cipher}") for kind in KINDS for cipher in CIPHERS]
    for kind, suite in suites:
        made = Talk(stage, "-tls1_2", "-cipher", suite)
        expect("version and suite", (made.version, made.cipher), ("TLSv1.2", suite))
        expect("the certificate", made.subject, kind.lower())
        made.served()
    return ", ".join(suite for _, suite in suites)


def groups(stage):
    """Each group for the keys, in both versions."""
    # In TLS 1.2 the group of an ECDSA certificate would have to be among them.
    for version in (("-tls1_3",), ("-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256")):
        for group in GROUPS:
            Talk(stage, *version, "-groups", group).served()
    return ", ".join(GROUPS)


def other_suites(stage):
    """TLS 1.2 with none of these suites is refused."""
    theirs = ":".join(f"!ECDHE-{kind}-{cipher}" for kind in KINDS for cipher in CIPHERS)
    Talk(stage, "-tls1_2", "-cipher", f"ALL:{theirs}:@SECLEVEL=0").refused("handshake_failure")


def old_versions(stage):
    """TLS 1.0 and 1.1 are refused."""
    found = [Talk(stage, version, *WEAK).refused(*REFUSALS) for version in ("-tls1", "-tls1_1")]
    return ", ".join(found)


def agreed(stage):
    """ALPN: the best is agreed, nothing without it, and what is unknown refused."""
    for offered, wanted in (("http/1.1", "http/1.1"), ("unknown,http/1.1", "http/1.1")):
        made = Talk(stage, "-alpn", offered)
        expect(f"what is agreed of {offered}", made.agreed, wanted)
        made.served()
    expect("what is agreed of both", Talk(stage, "-alpn", "http/1.1,h2").agreed, "h2")
    none = Talk(stage)
    expect("what is agreed of nothing", none.agreed, None)
    none.served()
    Talk(stage, "-alpn", "unknown").refused("no_application_protocol")


def names(stage):
    """SNI: exact names, wildcards, one level deep, and the first certificate for all others."""
    wanted = {
        "localhost": "ecdsa",
        "any.other.localhost": "ecdsa",
        "second.test": "second",
        "a.second.test": "second",
        "A.Second.TEST": "second",
        "a.b.second.test": "ecdsa",
        "unknown.test": "ecdsa",
    }
    found = {name: Talk(stage, "-servername", name).subject for name in wanted}
    expect("the certificates", found, wanted)
    expect("the certificate without a name", Talk(stage, "-noservername").subject, "ecdsa")


def resumed(stage):
    """Sessions of both versions are resumed, again and again."""
    for version in ("-tls1_3", "-tls1_2"):
        ticket = stage.room() / "session"
        first = Talk(stage, version, "-sess_out", ticket)
        expect(f"{version}: that the first is resumed", first.resumed, False)
        first.served()
        # Whichever core they come to.
        for _ in range(RESUMPTIONS):
            again = Talk(stage, version, "-sess_in", ticket)
            expect(f"{version}: that it is resumed", again.resumed, True)
            again.served()
    return f"{RESUMPTIONS} times each"


def key_update(stage):
    """KeyUpdate: followed, and answered where one is asked for."""
    # In this order: the first asks for nothing.
    made = Talk(stage, "-tls1_3", commands=[("k", "KEYUPDATE"), ("K", "KEYUPDATE")])
    sent = re.findall(r"^([<>]{3}) .*KeyUpdate$", made.said, re.MULTILINE)
    expect("who changed keys", sent, [">>>", ">>>", "<<<"])
    made.served()


def renegotiation(stage):
    """TLS 1.2: a renegotiation is refused."""
    made = Talk(stage, "-tls1_2", commands=[("R", "RENEGOTIATING")])
    return made.refused("no_renegotiation")


def certified(stage):
    """Certificates of clients: good ones are served and told, others refused, none too."""
    certificates = stage.certificates
    with serving_certified(stage) as (port, log):
        for version in ("-tls1_3", "-tls1_2"):
            Talk(stage, version, *showing(certificates.client), port=port).served()
            Talk(stage, version, *showing(certificates.stranger), port=port).refused("unknown_ca")
            Talk(stage, version, port=port).refused("certificate_required", "handshake_failure")
        told = log.read_text(encoding="utf-8").count("CN=client")
    if not Path(stage.program).name.startswith("caddy"):
        expect("how often the log has the subject", told, 2)


def showing(pair):
    return ("-cert", pair.certificate, "-key", pair.key)


CHECKS = (
    modern,
    intermediate,
    groups,
    other_suites,
    old_versions,
    agreed,
    names,
    resumed,
    key_update,
    renegotiation,
    certified,
)
