"""Headless Chromium through TLS: all that it does without, but pictures."""

import with_chromium
from outcome import expect, require

TOOLS = with_chromium.TOOLS


def session(stage):
    """The stage, seen through TLS."""
    return with_chromium.session(stage.secure())


def details(subject):
    """TLS 1.3, by what the browser tells of each answer."""
    received = [each["response"] for each in subject.tab.events("Network.responseReceived")]
    found = [each["securityDetails"] for each in received if each["url"].startswith("https:")]
    require(found, "nothing came through TLS")
    expect("the versions", {each["protocol"] for each in found}, {"TLS 1.3"})
    expect("the certificates", {each["subjectName"] for each in found}, {"ecdsa"})
    expect("whether it is a secure context", subject.tab.evaluate("window.isSecureContext"), True)
    ways = {f"{each['keyExchangeGroup']} {each['cipher']}" for each in found}
    return f"{', '.join(sorted(ways))}, {len(found)} answers"


CHECKS = (details, *(check for check in with_chromium.CHECKS if check is not with_chromium.screenshots))
