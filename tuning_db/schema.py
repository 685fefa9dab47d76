"""Schema: which revision a database has, and the migrations up and down."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from search_spaces.errors import UserError
from tuning_db.connection import WRITES
from tuning_db.models import Base
from tuning_db.url import shown

# Alembic's own default, alembic_version, belongs to Optuna where both share a database.
VERSION_TABLE, OPTUNAS = "light_moe_version", "alembic_version"
REVISIONS = ("0001", "0002")
HEAD = REVISIONS[-1]
VIEWS = ("best_configs", "trials")
_LOCK = 0x11A7_30E  # PostgreSQL advisory lock: one migration at a time


def revision(connection: Connection) -> str | None:
    """The revision a database stands at; None when it holds no tuning DB."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return None if found is None else str(found)


def check_known(found: str | None, url: str) -> None:
    """Raises UserError for a schema that only a later version of Light-MoE knows."""
    if found is not None and found not in REVISIONS:
        raise UserError(
            f"database {shown(url)} has schema {found}, newer than {HEAD}, the newest this version "
            "of Light-MoE knows: upgrade light-moe"
        )


def upgrade(engine: Engine, url: str, target: str = HEAD) -> None:
    """Migrates up to ``target`` in one transaction; two processes may call it at once."""
    with engine.execution_options(**{WRITES: True}).begin() as connection:
        _lock(connection)
        found = revision(connection)
        check_known(found, url)
        if found is None:
            _check_vacant(connection, url)
        _alembic("upgrade", connection, target)


def check_writable(engine: Engine) -> None:
    """Writes something and takes it back: a read-only database fails now, not after a trial.

    On a read-only file SQLite lets even BEGIN IMMEDIATE pass.
    """
    with engine.execution_options(**{WRITES: True}).connect() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = version_num"))
        connection.rollback()


def downgrade(engine: Engine, target: str) -> None:
    """Migrates down to ``target`` ("base" removes everything), in one transaction."""
    with engine.execution_options(**{WRITES: True}).begin() as connection:
        _lock(connection)
        _alembic("downgrade", connection, target)


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def _check_vacant(connection: Connection, url: str) -> None:
    found = inspect(connection)
    taken = {*found.get_table_names(), *found.get_view_names()} - {VERSION_TABLE, OPTUNAS}
    # On a server databases are shared as a matter of course; a file is one program's.
    is_file = connection.dialect.name == "sqlite"
    foreign = sorted(taken if is_file else taken & {*Base.metadata.tables, *VIEWS})
    if foreign:
        raise UserError(
            f"database {shown(url)} holds another program's '{foreign[0]}' (Optuna's storage?): "
            "give the tuning DB a file, database or schema of its own"
        )


def _alembic(direction: str, connection: Connection, target: str) -> None:
    from alembic import command  # slow to import, and a database needs it once in its life
    from alembic.config import Config

    config = Config()
    # Alembic's configuration is an INI file: a percent sign in the path is doubled.
    folder = str(Path(__file__).parent / "migrations").replace("%", "%%")
    config.set_main_option("script_location", folder)
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    getattr(command, direction)(config, target)
