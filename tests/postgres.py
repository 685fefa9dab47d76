"""A private PostgreSQL server for tests: real, in a folder of its own, on a Unix socket only."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

DEBIAN = Path("/usr/lib/postgresql")
START_SECONDS = 60.0


def missing() -> str | None:
    """Why no server can be started here, or None."""
    if importlib.util.find_spec("psycopg") is None:
        return "PostgreSQL tests left out (no driver): pip install -e '.[postgres]'"
    if _binaries() is None:
        return "PostgreSQL tests left out (no server): Debian: apt-get install postgresql"
    return None


def _binaries() -> Path | None:
    """The folder with initdb and postgres; Debian keeps it off the PATH."""
    debian = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    return Path(found).parent if found else None


def _server_user() -> str | None:
    """PostgreSQL refuses to run as root; its Debian package brings this user. None: stay."""
    return "postgres" if os.geteuid() == 0 else None


class PostgresServer:
    """A running server; `new_database()` gives the URL of a fresh, empty database."""

    def __init__(self, bin_dir: Path, socket_dir: Path) -> None:
        self.bin_dir = bin_dir
        self.socket_dir = socket_dir
        self._numbers = count()

    def new_database(self) -> str:
        name = f"light_moe_{next(self._numbers)}"
        subprocess.run(
            [self.bin_dir / "createdb", "-h", self.socket_dir, "-U", "tester", name], check=True
        )
        return f"postgresql+psycopg://tester@/{name}?host={self.socket_dir}"


@contextmanager
def server() -> Iterator[PostgresServer]:
    """Starts a server and stops it at the end; call `missing()` first."""
    bin_dir = _binaries()
    assert bin_dir is not None, "missing() tells whether there is a server to start"
    user = _server_user()
    # A Unix socket's path holds 107 characters at most: pytest's own temp folders are too deep.
    with tempfile.TemporaryDirectory(prefix="lm-pg-") as folder:
        home = Path(folder)
        if user is not None:
            os.chown(home, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        data, log = home / "data", home / "log"
        initdb: list[str | Path] = [
            bin_dir / "initdb",
            "-D",
            data,
            "-U",
            "tester",
            "-A",
            "trust",
            "-E",
            "UTF8",
        ]
        initdb += ["--locale=C", "--no-sync"]
        postgres: list[str | Path] = [bin_dir / "postgres", "-D", data, "-k", home]
        postgres += ["-c", "listen_addresses=", "-c", "fsync=off"]
        with log.open("wb") as output:
            subprocess.run(initdb, check=True, stdout=output, user=user, cwd=home)
            process = subprocess.Popen(postgres, stdout=output, stderr=output, user=user, cwd=home)
        try:
            _wait_until_ready(bin_dir, home, process, log)
            yield PostgresServer(bin_dir, home)
        finally:
            process.send_signal(signal.SIGINT)  # fast shutdown: does not wait for open clients
            process.wait(timeout=START_SECONDS)


def _wait_until_ready(
    bin_dir: Path, socket_dir: Path, process: subprocess.Popen[bytes], log: Path
) -> None:
    deadline = time.monotonic() + START_SECONDS
    ready: list[str | Path] = [bin_dir / "pg_isready", "-q", "-h", socket_dir]
    while subprocess.run(ready, check=False).returncode != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}")
        time.sleep(0.1)
