"""The servers, each on a free port, with its configuration."""

from contextlib import contextmanager
from pathlib import Path

from outcome import Failed
from started import NotStarted, free_port, started

HERE = Path(__file__).parent / "servers"


@contextmanager
def serving(program, root, work, certificates):
    """The server under test, tidegate or Caddy, while the body runs; gives its port, and the one
    with TLS."""
    ports = {"PORT": free_port(), "TLS_PORT": free_port()}
    words = {"ROOT": root, "RUN": work, **ports, **certificate_words(certificates)}
    command = command_of(program, "", work, words)
    with running(command, ports["TLS_PORT"], work / "server.log"):
        yield ports["PORT"], ports["TLS_PORT"]


@contextmanager
def serving_certified(stage):
    """The server under test once more, for clients with certificates only, while the body runs;
    gives its port, where TLS is, and its log."""
    port, log = free_port(), stage.work / "certified.log"
    words = {"ROOT": stage.root, "RUN": stage.work, "TLS_PORT": port}
    words |= certificate_words(stage.certificates)
    with running(command_of(stage.program, "-certified", stage.work, words), port, log):
        yield port, log


@contextmanager
def serving_packages(stage):
    """The server under test once more, with repositories of packages, while the body runs; gives its
    port."""
    port = free_port()
    words = {"ROOT": stage.root, "RUN": stage.work, "PORT": port}
    command = command_of(stage.program, "-packages", stage.work, words)
    with running(command, port, stage.work / "packages.log"):
        yield port


def command_of(program, variant, work, words):
    if Path(program).name.startswith("caddy"):
        config = filled(f"caddy{variant}.conf", work, **words)
        return [program, "run", "--adapter", "caddyfile", "--config", config]
    return [program, "run", "--config", filled(f"tidegate{variant}.toml", work, **words)]


def certificate_words(certificates):
    words = {"AUTHORITY": certificates.authority}
    for name in ("ecdsa", "rsa", "second"):
        pair = getattr(certificates, name)
        words |= {f"{name.upper()}_CERT": pair.certificate, f"{name.upper()}_KEY": pair.key}
    return words


@contextmanager
def proxying(backend, work):
    """nginx with keep-alive in front of the port `backend`; gives its own port."""
    port = free_port()
    config = filled("nginx.conf", work, PORT=port, BACKEND=backend, RUN=work)
    with running(["nginx", "-c", config], port, work / "nginx.log"):
        yield port


@contextmanager
def proxying_http2(program, stage):
    """HAProxy or Caddy in front, with HTTP/2 to the server; gives the port of what goes there without
    TLS, and of what goes there with it."""
    ports = {"PLAIN_PORT": free_port(), "SECURE_PORT": free_port()}
    words = {"PORT": stage.port, "TLS_PORT": stage.tls_port, "RUN": stage.work, **ports}
    words["AUTHORITY"] = stage.certificates.authority
    name = {"haproxy": "haproxy.conf", "caddy": "caddy-proxy.conf"}[program]
    config = filled(name, stage.work, **words)
    options = {"haproxy": ("-f", config), "caddy": ("run", "--adapter", "caddyfile", "--config", config)}
    command = [program, *options[program]]
    with running(command, ports["PLAIN_PORT"], stage.work / f"{program}-proxy.log"):
        yield ports["PLAIN_PORT"], ports["SECURE_PORT"]


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
