"""URL: which database a tool means."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from search_spaces.errors import UserError

DEFAULT_FILE = "tuning.sqlite"
ENVIRONMENT = "LIGHT_MOE_DB"


def resolve_url(db: str | os.PathLike[str] | None) -> str:
    """``db``, else the environment's LIGHT_MOE_DB, else ./tuning.sqlite, as a SQLAlchemy URL.

    ``db`` is a path or a URL; a path becomes ``sqlite:///…`` with an absolute path. Raises
    UserError for a malformed URL or one that names no file.
    """
    text = os.fspath(db) if db is not None else os.environ.get(ENVIRONMENT) or DEFAULT_FILE
    if "://" not in text:
        if text in ("", ":memory:"):
            raise UserError(f"database '{text}' names no file: use a path, e.g. tuning.sqlite")
        path = Path(text).expanduser().absolute()
        return URL.create("sqlite", database=str(path)).render_as_string()
    url = _parse(text)
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise UserError(f"database '{text}' names no file: use sqlite:///tuning.sqlite")
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    return url.render_as_string(hide_password=False)


def shown(url: str) -> str:
    """The URL as people may see it: a plain path for SQLite, no password for the others."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return parsed.database or url
    return parsed.render_as_string(hide_password=True)


def _parse(text: str) -> URL:
    try:
        return make_url(text)
    except (ArgumentError, ValueError) as error:
        raise UserError(
            "malformed database URL: expected a path, sqlite:///FILE or "
            "postgresql://USER:PASSWORD@HOST:PORT/NAME"
        ) from error
