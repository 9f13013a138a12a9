"""A Prometheus of its own scrapes the server with the rules, and is asked for the values."""

import json
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlencode
from urllib.request import urlopen

from outcome import expect, require
from started import free_port, started
from subject import Subject, eventually

TOOLS = ("prometheus",)


@dataclass(frozen=True)
class Session:
    """The server, and where Prometheus listens."""

    subject: Subject
    port: int

    def ask(self, path, **parameters):
        query = f"?{urlencode(parameters)}" if parameters else ""
        with urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}{query}", timeout=5) as response:
            return json.load(response)["data"]

    def value(self, expression):
        """The value of an expression with one result, or nothing."""
        results = self.ask("query", query=expression)["result"]
        require(len(results) <= 1, f"{expression} has {len(results)} results")
        return float(results[0]["value"][1]) if results else None


@contextmanager
def session(subject):
    directory = subject.work / "prometheus"
    directory.mkdir()
    source = subject.root / "config/prometheus"
    rules = (source / "tidegate.rules.yml").read_text(encoding="utf-8")
    (directory / "tidegate.rules.yml").write_text(rules, encoding="utf-8")
    example = (source / "scrape.yml").read_text(encoding="utf-8")
    changed = example.replace("127.0.0.1:9900", f"127.0.0.1:{subject.admin}")
    changed = changed.replace("_interval: 15s", "_interval: 1s").replace("scrape_timeout: 5s", "scrape_timeout: 1s")
    config = directory / "prometheus.yml"
    config.write_text(changed, encoding="utf-8")
    port = free_port()
    command = [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]
    with started(command, port, directory / "prometheus.log"):
        eventually("Prometheus is ready", lambda: is_ready(port))
        yield Session(subject, port)


def is_ready(port):
    try:
        with urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5):
            return True
    except OSError:
        return False


def scraped(session):
    """It scrapes the server without an error."""
    eventually("a scrape", lambda: session.value('up{job="tidegate"}') == 1)
    target = session.ask("targets")["activeTargets"][0]
    expect("the error of the last scrape", target["lastError"], "")
    return f"{target['lastScrapeDuration'] * 1000:.0f} ms"


def values(session):
    """A query returns the values that the server counts."""
    counted = lambda: session.value('sum(tidegate_requests_total{status="2xx"})')
    eventually("requests", lambda: (counted() or 0) > 100)
    before = counted()
    eventually("more requests", lambda: counted() > before)
    expect("what is ready", session.value("tidegate_ready"), 1)
    eventually("bytes", lambda: session.value('tidegate_response_bytes_total{source="hot"}') > 1e6)
    rate = "sum(rate(tidegate_shard_requests_total[10s]))"
    eventually("a rate", lambda: (session.value(rate) or 0) > 1)
    quantile = "histogram_quantile(0.99, sum by (le) (rate(tidegate_response_duration_seconds_bucket[10s])))"
    eventually("a quantile", lambda: session.value(quantile) is not None)
    return f"{session.value(rate):.0f} requests/s"


def typed(session):
    """It knows the type of each metric, and its help."""
    known = session.ask("metadata")
    for name in session.subject.names():
        # OpenMetrics, which it asks for, names the family without the suffix.
        family = known.get(name) or known.get(name.removesuffix("_total")) or known.get(name.removesuffix("_info"))
        require(family and family[0]["type"] != "unknown" and family[0]["help"], f"{name}: {family}")


def rules(session):
    """The rules are evaluated, and no alert fires."""
    ours = lambda: [rule for group in session.ask("rules")["groups"] for rule in group["rules"]]
    eventually("an evaluation", lambda: all(rule["health"] == "ok" for rule in ours()))
    firing = [alert["labels"]["alertname"] for alert in session.ask("alerts")["alerts"] if alert["state"] == "firing"]
    expect("the alerts that fire", firing, [])
    eventually("a recorded value", lambda: (session.value("instance:tidegate_requests:rate5m") or 0) > 1)
    return f"{len(ours())} rules"


CHECKS = (scraped, values, typed, rules)
