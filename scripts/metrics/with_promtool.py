"""promtool checks the metrics, the rules and their unit tests; names are compared with what there is."""

import json
import re
import subprocess
from contextlib import contextmanager
from urllib.request import Request, urlopen

from outcome import expect, require

TOOLS = ("promtool",)
METRIC = re.compile(r"\b(?:tidegate|process)_[a-z0-9_]+")
PARTS_OF_HISTOGRAM = re.compile(r"_(bucket|count|sum)$")
# Only with TLS or an origin, which this server has not. The tests of the metrics have them.
OF_OTHERS = {
    "tidegate_certificate_expiry_timestamp_seconds",
    "tidegate_tls_tickets_refused_total",
    "tidegate_origin_memory_bytes",
}


@contextmanager
def session(subject):
    yield subject


def promtool(*arguments, text=None):
    done = subprocess.run(
        ["promtool", *map(str, arguments)], input=text, text=True, capture_output=True, timeout=60, check=False
    )
    require(done.returncode == 0, done.stdout + done.stderr)
    return done.stdout + done.stderr


def metrics(subject):
    """promtool check metrics has no complaint."""
    expect("what it says", promtool("check", "metrics", text=subject.metrics()), "")
    return f"{len(subject.names())} metrics"


def open_metrics(subject):
    """OpenMetrics has the same samples."""
    request = Request(subject.url("/metrics"), headers={"Accept": "application/openmetrics-text"})
    with urlopen(request, timeout=5) as response:
        text = response.read().decode()
    require(text.endswith("# EOF\n"), "it does not end as it should")
    expect("the names of the samples", samples(text), samples(subject.metrics()))


def samples(text):
    return {line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")}


def rules(subject):
    """The rules and the example of a configuration are right, and the alerts fire when they should."""
    directory = subject.root / "config/prometheus"
    promtool("check", "rules", directory / "tidegate.rules.yml")
    promtool("check", "config", directory / "scrape.yml")
    promtool("test", "rules", directory / "tidegate.rules.test.yml")
    text = (directory / "tidegate.rules.yml").read_text(encoding="utf-8")
    alerts = text.count("- alert:")
    expect("summaries and descriptions", (text.count("summary:"), text.count("description:")), (alerts, alerts))
    tested = (directory / "tidegate.rules.test.yml").read_text(encoding="utf-8")
    for alert in re.findall(r"- alert: (\w+)", text):
        require(alert in tested, f"no test of {alert}")
    return f"{alerts} alerts"


def names_in_rules(subject):
    """Every metric in the rules and their tests is one of the server."""
    directory = subject.root / "config/prometheus"
    for name in ("tidegate.rules.yml", "tidegate.rules.test.yml"):
        text = (directory / name).read_text(encoding="utf-8")
        recorded = re.findall(r"instance:\w+:\w+", text)
        for record in recorded:
            text = text.replace(record, "")
        compare(METRIC.findall(re.sub(r"tidegate\.rules|#.*", "", text)), subject)


def names_in_dashboard(subject):
    """Every metric in the dashboard is one of the server, and every one of the server is in it."""
    dashboard = json.loads((subject.root / "config/grafana/tidegate.json").read_text(encoding="utf-8"))
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", [])]
    found = METRIC.findall(" ".join(target["expr"] for target in targets))
    compare(found, subject)
    # What changes seldom or is of no use in a picture.
    left_out = {
        "tidegate_build_info", "tidegate_pipe_pages", "tidegate_pipes_made_total", "process_start_time_seconds", "tidegate_last_reload_timestamp_seconds"
    }
    missing = subject.names() - {PARTS_OF_HISTOGRAM.sub("", name) for name in found} - left_out
    expect("those that are not shown", missing, set())
    return f"{len(dashboard['panels'])} panels"


def names_in_docs(subject):
    """Every metric is in docs/metrics.md."""
    text = (subject.root / "docs/metrics.md").read_text(encoding="utf-8")
    short = [name.removeprefix("tidegate_") for name in subject.names() | OF_OTHERS]
    expect("those that are not there", [name for name in short if f"`{name}`" not in text], [])


def compare(found, subject):
    known = subject.names() | OF_OTHERS
    unknown = {name for name in found if name not in known and PARTS_OF_HISTOGRAM.sub("", name) not in known}
    expect("the unknown ones", unknown, set())


CHECKS = (metrics, open_metrics, rules, names_in_rules, names_in_dashboard, names_in_docs)
