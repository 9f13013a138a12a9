"""The proxies that stand in front: how each is configured and started."""

import os
import pwd
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from started import free_port, started

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Proxy:
    """One of the proxies; `words` are filled into its configuration, and its command."""

    name: str
    program: str
    config: str
    command: tuple
    words: tuple = ()

    @property
    def is_installed(self):
        return bool(shutil.which(self.program))

    @contextmanager
    def running(self, back, work):
        """Passes requests on to the port `back` while the body runs; gives its own port."""
        work.mkdir()
        work.chmod(0o777)
        port = free_port()
        words = {"PORT": port, "BACK": back, "RUN": work, **dict(self.words)}
        configuration = work / self.config
        configuration.write_text(filled((HERE / "servers" / self.config).read_text(), words))
        if self.program == "traffic_server":
            lay_out(work, words)
        command = [filled(word, words | {"CONFIG": configuration}) for word in self.command]
        with started([self.program, *command], port, work / "out.log"):
            yield port


def filled(text, words):
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    return text


def lay_out(work, words):
    """Traffic Server has many files. It refuses to run as root, and changes to its user."""
    for name in ("etc", "disk", "run", "log"):
        (work / name).mkdir()
    (work / "runroot.yaml").write_text(filled((HERE / "servers/runroot.yaml").read_text(), words))
    (work / "etc/records.config").write_text((work / "records.config").read_text())
    allow = "ip_allow: [{ apply: in, ip_addrs: 127.0.0.1, action: allow, methods: ALL }]\n"
    (work / "etc/ip_allow.yaml").write_text(allow)
    (work / "etc/remap.config").write_text(f"map / http://127.0.0.1:{words['BACK']}/\n")
    (work / "etc/storage.config").write_text(f"{work}/disk 16M\n")
    if os.geteuid() == 0:
        for path in (work, *work.rglob("*")):
            shutil.chown(path, words["USER"])


def user_of_traffic_server():
    try:
        return pwd.getpwnam("trafficserver").pw_name
    except KeyError:
        return pwd.getpwuid(os.getuid()).pw_name


STRICT, LENIENT = (("OPTION", "no option accept-invalid-http-request"),), (("OPTION", "option accept-invalid-http-request"),)
VARNISH = ("-F", "-j", "none", "-f", "@CONFIG@", "-a", "127.0.0.1:@PORT@", "-n", "@RUN@/varnish", "-s", "malloc,16m")
VARNISH += ("-p", "timeout_idle=3", "-p", "thread_pool_min=20", "-p", "thread_pools=1", "-p", "timeout_linger=0.01")
PROXIES = (
    Proxy("nginx", "nginx", "nginx.conf", ("-c", "@CONFIG@")),
    Proxy("haproxy", "haproxy", "haproxy.cfg", ("-f", "@CONFIG@", "-db"), STRICT),
    Proxy("haproxy-lenient", "haproxy", "haproxy.cfg", ("-f", "@CONFIG@", "-db"), LENIENT),
    Proxy("varnish", "varnishd", "varnish.vcl", VARNISH),
    Proxy("trafficserver", "traffic_server", "records.config", ("--run-root=@RUN@",), (("USER", user_of_traffic_server()),)),
    Proxy("apache", "apache2", "apache.conf", ("-DFOREGROUND", "-f", "@CONFIG@")),
    Proxy("h2o", "h2o", "h2o.yaml", ("-c", "@CONFIG@")),
    Proxy("caddy", "caddy", "Caddyfile", ("run", "--adapter", "caddyfile", "--config", "@CONFIG@")),
)
