"""Connection: a SQLAlchemy engine with the pragmas and transactions that one-file SQLite needs."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import NoSuchModuleError, OperationalError

from search_spaces.errors import UserError
from tuning_db.url import shown

BUSY_TIMEOUT_S = 20.0
WRITES = "light_moe_writes"  # execution option: this transaction will write


def make_engine(url: str, *, create: bool, readonly: bool) -> Engine:
    """Engine for ``url``; nothing is read or written yet.

    SQLite gets foreign keys, a busy timeout (``?timeout=SECONDS`` overrides it) and
    transactions that begin as IMMEDIATE when they write. Raises UserError when the file cannot be
    opened as asked, the kind of database is unknown or its driver is not installed.
    """
    parsed = make_url(url)
    try:
        if parsed.get_backend_name() != "sqlite":
            return create_engine(parsed, pool_pre_ping=True)
        return _sqlite_engine(parsed, create=create, readonly=readonly)
    except NoSuchModuleError:
        raise UserError(
            f"database URL '{shown(url)}': there is no kind of database '{parsed.drivername}', "
            "use sqlite:///FILE or postgresql://…"
        ) from None
    except ModuleNotFoundError as error:
        raise UserError(
            f"database URL '{shown(url)}' needs the Python package '{error.name}': install it "
            "(for PostgreSQL: pip install 'light-moe[postgres]')"
        ) from None


def _sqlite_engine(url: URL, *, create: bool, readonly: bool) -> Engine:
    path = Path(url.database or "")
    _check_file(path, create=create and not readonly)
    timeout = _busy_timeout(url)
    uri = f"file:{quote(str(path.absolute()))}?{_open_mode(path, create=create, readonly=readonly)}"

    def connect() -> sqlite3.Connection:
        # isolation_level=None: sqlite3 begins no transaction by itself, _begin does.
        connection = sqlite3.connect(
            uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA query_only = {readonly:d}")
        return connection

    engine = create_engine(URL.create("sqlite", database=str(path)), creator=connect)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    """A read that turns into a write fails at once when another writer came between: SQLite's busy
    timeout does not help there. So a transaction that will write takes the write lock first.
    """
    options = connection.get_execution_options()
    if options.get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(WRITES) else "BEGIN")


def use_wal(engine: Engine) -> None:
    """Lets readers read while one process writes. SQLite notes the mode in the file.

    Waits for other processes as long as the busy timeout says.
    """
    if engine.dialect.name != "sqlite":
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        wait_ms = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
        give_up = time.monotonic() + wait_ms / 1000
        while True:
            try:
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                return
            except OperationalError as error:
                # Two that switch at once hold a read lock each and both want the file alone:
                # SQLite fails one at once, for the busy timeout would pass in vain.
                if "database is locked" not in str(error.orig) or time.monotonic() > give_up:
                    raise
            time.sleep(0.005)


def _check_file(path: Path, *, create: bool) -> None:
    try:
        is_directory = path.is_dir()
    except (OSError, ValueError) as error:  # too long, or with a zero byte in it
        raise UserError(f"database {path}: {error}: name another file with --db") from None
    if is_directory:
        raise UserError(f"database {path} is a directory: name a file in it")
    if not path.parent.is_dir():
        raise UserError(f"database {path}: there is no directory {path.parent}, create it first")
    if not create and not path.exists():
        raise UserError(
            f"there is no tuning DB at {path}: run python -m tuner.search to make one, or name "
            "another with --db"
        )


def _open_mode(path: Path, *, create: bool, readonly: bool) -> str:
    """Readers open for writing too where they may: only then does the last one to leave tidy up
    the log and index files that WAL keeps beside the DB.
    """
    if not readonly:
        return "mode=rwc" if create else "mode=rw"
    if os.access(path.parent, os.W_OK, effective_ids=True):
        return "mode=rw"
    # The index file cannot be made here. Where nobody writes, immutable does without it.
    log = path.with_name(path.name + "-wal")
    return "mode=ro" if log.exists() else "mode=ro&immutable=1"


def _busy_timeout(url: URL) -> float:
    query: dict[str, Any] = dict(url.query)
    given = query.pop("timeout", BUSY_TIMEOUT_S)
    try:
        seconds = float(given)
    except (TypeError, ValueError):
        seconds = -1.0
    if query or not 0 <= seconds <= 3600:
        raise UserError(
            f"database {url.database}: the only option of a SQLite URL is ?timeout=SECONDS "
            "(0 to 3600)"
        )
    return seconds
