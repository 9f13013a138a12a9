"""Certificates for the server and for clients, from authorities that last as long as the run."""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from stage import run

DAYS = 90
ECDSA = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA = ("rsa:2048",)
# Without it, what the system's configuration adds would be there twice.
CONFIGURATION = "[req]\ndistinguished_name = subject\n[subject]\n"
OF_AUTHORITY = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
OF_CLIENT = (
    "basicConstraints=critical,CA:FALSE",
    "keyUsage=critical,digitalSignature",
    "extendedKeyUsage=clientAuth",
)
OF_SERVER = (
    "basicConstraints=critical,CA:FALSE",
    "keyUsage=critical,digitalSignature",
    "extendedKeyUsage=serverAuth",
)
# The names of the sites, and where clients find them. The first is what is served to those
# who name none.
NAMES = ("localhost", "app.localhost", "*.other.localhost")
SECOND_NAMES = ("second.test", "*.second.test")


@dataclass(frozen=True)
class Pair:
    """The PEM files of a certificate and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Certificates:
    """What an authority signed: for the same names an ECDSA and an RSA key, for others one more,
    and a client's. The `stranger` is a client whose authority nobody knows."""

    authority: Path
    ecdsa: Pair
    rsa: Pair
    second: Pair
    client: Pair
    stranger: Pair


def make(directory):
    """Makes all of them in a new directory."""
    directory.mkdir()
    (directory / "openssl.conf").write_text(CONFIGURATION, encoding="ascii")
    authority = signed(directory, "authority", ECDSA, OF_AUTHORITY)
    nobody = signed(directory, "nobody", ECDSA, OF_AUTHORITY)
    return Certificates(
        authority=authority.certificate,
        ecdsa=signed(directory, "ecdsa", ECDSA, served(NAMES), authority),
        rsa=signed(directory, "rsa", RSA, served(NAMES), authority),
        second=signed(directory, "second", ECDSA, served(SECOND_NAMES), authority),
        client=signed(directory, "client", ECDSA, OF_CLIENT, authority),
        stranger=signed(directory, "stranger", ECDSA, OF_CLIENT, nobody),
    )


def served(names):
    alternatives = ",".join([*(f"DNS:{name}" for name in names), "IP:127.0.0.1"])
    return (*OF_SERVER, f"subjectAltName={alternatives}")


def signed(directory, name, kind, extensions, authority=None):
    """A certificate for a new key, signed by the authority or else by itself."""
    pair = Pair(directory / f"{name}.pem", directory / f"{name}.key")
    by = ("-CA", authority.certificate, "-CAkey", authority.key) if authority else ()
    added = [word for extension in extensions for word in ("-addext", extension)]
    run(
        *("openssl", "req", "-x509", "-config", directory / "openssl.conf"),
        *("-newkey", *kind, "-noenc", "-subj", f"/O=clients of tidegate/CN={name}", "-days", DAYS),
        *("-keyout", pair.key, "-out", pair.certificate, *by, *added),
    )
    return pair


def pin(certificate):
    """The hash of the public key, as browsers are told it."""
    key = run("openssl", "x509", "-in", certificate, "-noout", "-pubkey").stdout
    der = base64.b64decode(b"".join(key.strip().splitlines()[1:-1]))
    return base64.b64encode(hashlib.sha256(der).digest()).decode()
