"""The servers, each on a free port, with its configuration."""

from contextlib import contextmanager
from pathlib import Path

from outcome import Failed
from started import NotStarted, free_port, started

HERE = Path(__file__).parent / "servers"


@contextmanager
def serving(program, root, work):
    """The server under test, tidegate or Caddy, while the body runs; gives its port."""
    port = free_port()
    if Path(program).name.startswith("caddy"):
        config = filled("caddy.conf", work, PORT=port, ROOT=root, RUN=work)
        command = [program, "run", "--adapter", "caddyfile", "--config", config]
    else:
        config = filled("tidegate.toml", work, PORT=port, ROOT=root)
        command = [program, "run", "--config", config]
    with running(command, port, work / "server.log"):
        yield port


@contextmanager
def proxying(backend, work):
    """nginx with keep-alive in front of the port `backend`; gives its own port."""
    port = free_port()
    config = filled("nginx.conf", work, PORT=port, BACKEND=backend, RUN=work)
    with running(["nginx", "-c", config], port, work / "nginx.log"):
        yield port


def filled(name, work, **words):
    """The configuration with its words between at signs filled in, in a file in `work`."""
    text = (HERE / name).read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    file = work / name
    file.write_text(text, encoding="utf-8")
    return str(file)


@contextmanager
def running(command, port, log):
    try:
        with started(command, port, log) as process:
            yield
            if process.poll() is not None:
                raise Failed(f"{command[0]} ended: {log.read_text().strip()[-1000:]}")
    except NotStarted as error:
        raise Failed(str(error)) from error
