"""sslyze: Mozilla's intermediate profile."""

import re
from contextlib import nullcontext

from outcome import require
from stage import run

# In PATH, to which run.sh adds what it is told by --sslyze.
TOOLS = ("sslyze",)


def session(stage):
    """The stage, seen through TLS."""
    return nullcontext(stage.secure())


def compliant(stage):
    """--mozilla_config intermediate: compliant."""
    done = run(
        *("sslyze", "--mozilla_config", "intermediate"),
        *("--certinfo_ca_file", stage.certificates.authority, f"localhost:{stage.port}"),
        # 1: not compliant.
        statuses=(0, 1),
    )
    said = done.stdout.decode(errors="replace")
    judged = said.partition("COMPLIANCE AGAINST")[2]
    require("OK - Compliant" in judged, " ".join(judged.split())[-400:])
    return re.search(r"SCANS COMPLETED IN [\d.]+ S", said)[0].lower()


CHECKS = (compliant,)
