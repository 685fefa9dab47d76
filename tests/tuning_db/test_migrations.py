"""Migrations up and down, on real databases with data in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

import tuning_db
from search_spaces.errors import UserError
from tests.tuning_db.samples import FULL, GATE_UP, SIXTEEN, SKEWED, begin, trial
from tuning_db import TuningDB, schema
from tuning_db.connection import make_engine
from tuning_db.models import Base
from tuning_db.url import resolve_url

TABLES = {"run", "gpu", "problem", "trial", "winner"}


def names(engine: Engine) -> set[str]:
    found = inspect(engine)
    return {*found.get_table_names(), *found.get_view_names()} - {schema.VERSION_TABLE}


def test_the_revisions_are_those_of_the_files() -> None:
    folder = Path(tuning_db.__file__).parent / "migrations"
    script = ScriptDirectory(str(folder))
    chain = [revision.revision for revision in script.walk_revisions()]
    assert tuple(reversed(chain)) == schema.REVISIONS


def test_each_step_up_and_down(db_url: str) -> None:
    url = resolve_url(db_url)
    engine = make_engine(url, create=True, readonly=False)
    schema.upgrade(engine, url, "0001")
    assert names(engine) == TABLES
    schema.upgrade(engine, url, "0002")
    assert names(engine) == TABLES | set(schema.VIEWS)
    schema.downgrade(engine, "0001")
    assert names(engine) == TABLES
    schema.downgrade(engine, "base")
    assert names(engine) == set()
    schema.upgrade(engine, url)
    assert names(engine) == TABLES | set(schema.VIEWS)
    engine.dispose()


@pytest.mark.filterwarnings("ignore:.*expression-based index")
def test_the_migrations_make_what_the_models_say(db: TuningDB) -> None:
    with db.engine.connect() as connection:
        options = {"version_table": schema.VERSION_TABLE}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []


def test_an_older_database_is_migrated_with_its_data(db_url: str) -> None:
    with TuningDB.open(db_url) as db:
        run = begin(db)
        numbers = [db.add_trial(trial(run)), db.add_trial(trial(run, **FULL))]
        db.set_winner(GATE_UP, SIXTEEN, "H100", numbers[0])
        schema.downgrade(db.engine, "0001")
    with pytest.raises(UserError, match=r"older schema 0001: run .*doctor --migrate"):
        TuningDB.open(db_url, readonly=True)
    with TuningDB.open(db_url, create=False) as db:
        stored = db.trials(GATE_UP, SIXTEEN, "H100") + db.trials(GATE_UP, SKEWED, "H100")
        assert [found.id for found in stored] == numbers
        assert [winner.trial.id for winner in db.winners("H100")] == numbers[:1]
    assert len(tuning_db.frame(db_url, "trials")) == 2


def test_a_newer_schema_is_refused_and_left_alone(db_url: str) -> None:
    with TuningDB.open(db_url) as db, db.engine.begin() as connection:
        connection.execute(text("UPDATE light_moe_version SET version_num = '0099'"))
    for readonly in (True, False):
        with pytest.raises(UserError, match=r"schema 0099, newer than 0002.*upgrade light-moe"):
            TuningDB.open(db_url, readonly=readonly)
    engine = make_engine(resolve_url(db_url), create=False, readonly=True)
    with engine.connect() as connection:
        assert schema.revision(connection) == "0099"
    engine.dispose()


def test_another_programs_alembic_table_is_left_alone(db_url: str) -> None:
    """Optuna keeps a table of that name in its own storage."""
    engine = make_engine(resolve_url(db_url), create=True, readonly=False)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('v3.2.0.a')"))
    with TuningDB.open(db_url) as db, db.engine.connect() as connection:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).all()
        assert [tuple(row) for row in found] == [("v3.2.0.a",)]
    engine.dispose()


def test_a_database_with_tables_of_our_names_is_refused(db_url: str) -> None:
    engine = make_engine(resolve_url(db_url), create=True, readonly=False)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE trials (trial_id INTEGER)"))
    with pytest.raises(UserError, match="another program's 'trials'"):
        TuningDB.open(db_url)
    assert names(engine) == {"trials"}
    engine.dispose()
