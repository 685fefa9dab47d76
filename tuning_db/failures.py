"""Failures: what SQLite and PostgreSQL report, as one line that people can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, OperationalError

from search_spaces.errors import UserError
from tuning_db.url import shown

DAMAGED = "database disk image is malformed"

# By message: sqlite3 names its error codes only since Python 3.11.
_SQLITE = {
    "database is locked": "is locked by another process: wait for it, or end it",
    "readonly database": "is read-only, and this needs to write: make it writable or name another "
    "with --db",
    "file is not a database": "is no SQLite file: name another with --db",
    DAMAGED: "is damaged: restore a copy, or try sqlite3's .recover",
    "database or disk is full": "cannot grow, the disk is full: free some space, what was written "
    "so far is safe",
    "disk I/O error": "cannot be read or written (disk I/O error): check the disk and its space",
    "unable to open database file": "cannot be opened: check the permissions of the file and its "
    "directory",
}


@contextmanager
def clear_errors(url: str) -> Iterator[None]:
    """Turns the failures a user can mend into UserError; any other exception passes."""
    try:
        yield
    except DBAPIError as error:
        line = _explain(url, error)
        if line is None:
            raise
        raise UserError(line) from error


def _explain(url: str, error: DBAPIError) -> str | None:
    message = str(error.orig)
    if url.startswith("sqlite"):
        for symptom, meaning in _SQLITE.items():
            if symptom in message:
                return f"database {shown(url)} {meaning}"
        return None
    if isinstance(error, OperationalError):
        first = message.strip().splitlines()[0]
        return f"database {shown(url)} does not answer or refuses ({first}): check URL and server"
    if "read-only transaction" in message:
        return f"database {shown(url)} is read-only, and this needs to write"
    return None
