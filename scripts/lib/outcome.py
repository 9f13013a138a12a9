"""How a check ends."""


class Failed(Exception):
    """The check did not find what it looked for; the message says what came instead."""


class Skipped(Exception):
    """The check cannot be made here; the message says why."""


def expect(what, found, wanted):
    """Fails unless `found` is `wanted`."""
    if found != wanted:
        raise Failed(f"{what} is {found!r}, not {wanted!r}")


def require(condition, complaint):
    """Fails with the complaint unless the condition holds."""
    if not condition:
        raise Failed(complaint)


def complaint(error):
    """Why a check did not pass, in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, Failed) else f"{type(error).__name__}: {text}"
