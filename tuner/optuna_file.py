"""Where Optuna's storage of a tuning DB lies."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy.engine import make_url


def optuna_file(db_url: str) -> Path:
    """``<db>.optuna.sqlite`` beside an SQLite DB; for a server, a file here named after it.

    Optuna has a table ``trials`` where we have a view of that name, so the two cannot share a
    server's schema. Nothing is lost on another host: a missing file is made anew from our table.
    """
    url = make_url(db_url)
    if url.get_backend_name() == "sqlite":
        return Path(f"{url.database}.optuna.sqlite")
    name = re.sub(r"[^\w.-]+", "-", f"{url.database}@{url.host or 'localhost'}")
    return Path(f"{name}.optuna.sqlite").absolute()
