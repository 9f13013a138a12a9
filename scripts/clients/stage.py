"""What every check is given: the server that runs, and its files."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from outcome import Failed, Skipped

COMMAND_SECONDS = 300


@dataclass(frozen=True)
class Stage:
    """The server `program` is on `port` of the loopback and with TLS on `tls_port`, and serves
    `root`, with what certificates.make() made; `work` is to write in."""

    program: str
    port: int
    tls_port: int
    root: Path
    work: Path
    certificates: object
    screenshots: Path | None
    # An interpreter of Python with the modules of PyPI that checks use.
    python: str
    scheme: str = "http"
    # What every command of curl has, to choose a version of HTTP.
    curl_options: tuple = ()

    def secure(self):
        """The same, seen through TLS."""
        return replace(self, port=self.tls_port, scheme="https")

    def by_curl(self, *options):
        """The same, with other options of curl."""
        return replace(self, curl_options=options)

    def url(self, path, port=None):
        return f"{self.scheme}://127.0.0.1:{port or self.port}{path}"

    def room(self):
        """A new, empty directory; it goes away with `work`."""
        return Path(tempfile.mkdtemp(dir=self.work))


def require_tools(*names):
    """Skips the check unless all these programs are installed."""
    missing = [name for name in names if not shutil.which(name)]
    if missing:
        raise Skipped(f"not installed: {', '.join(missing)}")


def require_modules(stage, *modules):
    """Skips the check unless the interpreter that was given has all these modules."""
    for module in modules:
        if subprocess.run([stage.python, "-c", f"import {module}"], capture_output=True, check=False).returncode:
            raise Skipped(f"{stage.python} has no module {module}")


def run(*command, cwd=None, statuses=(0,)):
    """Runs a program to its end; gives what it wrote, or fails with another exit status."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=COMMAND_SECONDS,
    )
    if done.returncode not in statuses:
        said = done.stderr.decode(errors="replace").strip()[-500:]
        raise Failed(f"{command[0]} ended with {done.returncode}: {said}")
    return done


def files_beneath(root):
    """The regular files, as paths relative to `root`."""
    found = []
    for directory, _, names in os.walk(root):
        found += [Path(directory, name).relative_to(root) for name in names]
    return sorted(found)


def compare_trees(original, copy):
    """Fails unless both have the same files with the same bytes; gives what was compared."""
    wanted, found = files_beneath(original), files_beneath(copy)
    if wanted != found:
        missing, extra = set(wanted) - set(found), set(found) - set(wanted)
        raise Failed(f"{len(missing)} missing {some(missing)}, {len(extra)} too many {some(extra)}")
    size = 0
    for path in wanted:
        content = (original / path).read_bytes()
        size += len(content)
        if content != (copy / path).read_bytes():
            raise Failed(f"{path} differs")
    return f"{len(wanted)} files, {size >> 20} MiB, byte for byte"


def some(paths):
    return [str(path) for path in sorted(paths)[:3]]
