"""Databases that cannot be used: each is one clear line, and nothing is left behind."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from search_spaces.errors import UserError
from tests.tuning_db.samples import GATE_UP, SIXTEEN, begin, trial
from tuning_db import TuningDB, frame, resolve_url
from tuning_db.doctor import examine

NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    """Without root's right to write what is read-only; for anybody else nothing changes."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def owned() -> Iterator[Path]:
    """A DB with a trial, in a folder (both are the unprivileged user's) that it can reach."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "tuning.sqlite")
        with TuningDB.open(file) as db:
            db.add_trial(trial(begin(db)))
        if os.geteuid() == 0:
            for path in (folder, file):
                os.chown(path, NOBODY, NOBODY)
        yield file
        Path(folder).chmod(0o755)


def count(file: Path) -> int:
    with TuningDB.open(file, readonly=True) as db:
        return len(db.trials(GATE_UP, SIXTEEN, "H100"))


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("readonly", [False, True])
def test_no_sqlite_file(sqlite_file: Path, readonly: bool) -> None:
    sqlite_file.write_text("GPU,config\n" * 1000)
    with pytest.raises(UserError, match=r"tuning\.sqlite is no SQLite file") as error:
        TuningDB.open(sqlite_file, readonly=readonly)
    one_line(error)
    assert sqlite_file.read_text() == "GPU,config\n" * 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "holds another program's 'something'"),
        ({"create": False}, "is no tuning DB: run python -m tuner"),
        ({"readonly": True}, "is no tuning DB: run python -m tuner"),
    ],
)
def test_another_programs_sqlite_file(
    sqlite_file: Path, options: dict[str, bool], message: str
) -> None:
    with closing(sqlite3.connect(sqlite_file)) as connection:
        connection.execute("CREATE TABLE something (x)")
    before = sqlite_file.read_bytes()
    with pytest.raises(UserError, match=message):
        TuningDB.open(sqlite_file, **options)
    assert sqlite_file.read_bytes() == before


def test_a_read_only_file_can_be_read_but_not_opened_for_writing(owned: Path) -> None:
    owned.chmod(0o444)
    with unprivileged():
        assert count(owned) == 1
        with pytest.raises(UserError, match="is read-only, and this needs to write") as error:
            TuningDB.open(owned)
    one_line(error)


def test_a_read_only_folder_can_be_read_but_not_written(owned: Path) -> None:
    owned.chmod(0o444)
    owned.parent.chmod(0o555)
    with unprivileged():
        assert count(owned) == 1
        with TuningDB.open(owned, readonly=True) as db:
            assert [found.check for found in examine(db)] == []
        with pytest.raises(UserError, match=r"is read-only|cannot be opened"):
            TuningDB.open(owned)
        with pytest.raises(UserError, match="cannot be opened: check the permissions"):
            TuningDB.open(owned.parent / "new.sqlite")


def test_an_unreadable_file(owned: Path) -> None:
    owned.chmod(0)
    with unprivileged(), pytest.raises(UserError, match="cannot be opened: check the permissions"):
        TuningDB.open(owned, readonly=True)


def test_reading_leaves_nothing_beside_the_file(sqlite_file: Path) -> None:
    with TuningDB.open(sqlite_file) as db:
        db.add_trial(trial(begin(db)))
    before = sqlite_file.read_bytes()
    assert count(sqlite_file) == 1
    assert [sqlite_file] == list(sqlite_file.parent.iterdir())
    assert sqlite_file.read_bytes() == before


def test_a_reader_cannot_write(sqlite_file: Path) -> None:
    TuningDB.open(sqlite_file).close()
    with (
        TuningDB.open(sqlite_file, readonly=True) as db,
        pytest.raises(UserError, match="is read-only"),
    ):
        begin(db)


def test_a_locked_database(sqlite_file: Path) -> None:
    quick = f"sqlite:///{sqlite_file}?timeout=0.05"
    with TuningDB.open(quick) as db, closing(sqlite3.connect(sqlite_file)) as other:
        run = begin(db)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="is locked by another process") as error:
            TuningDB.open(quick)
        one_line(error)
        with pytest.raises(UserError, match="is locked by another process"):
            db.add_trial(trial(run))
        other.rollback()
        db.add_trial(trial(run))
        assert len(db.trials(GATE_UP, SIXTEEN, "H100")) == 1


def test_a_full_disk_costs_the_trial_that_did_not_fit_alone(sqlite_file: Path) -> None:
    TuningDB.open(sqlite_file).close()
    with TuningDB.open(sqlite_file) as db:
        run = begin(db)
        kept = db.add_trial(trial(run))
        db.engine.dispose()

        def as_if_full(connection: sqlite3.Connection, _: object) -> None:
            connection.execute("PRAGMA max_page_count = 1")  # no less than it has

        event.listen(db.engine, "connect", as_if_full)
        with pytest.raises(UserError, match="cannot grow, the disk is full") as error:
            db.add_trial(trial(run, error="x" * 1_000_000))
        one_line(error)
        assert [found.id for found in db.trials(GATE_UP, SIXTEEN, "H100")] == [kept]


def test_a_directory_or_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a directory: name a file in it"):
        TuningDB.open(tmp_path)
    with pytest.raises(UserError, match=r"there is no directory .*gone, create it first"):
        TuningDB.open(tmp_path / "gone" / "tuning.sqlite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("://", "malformed database URL: expected a path, sqlite:///FILE or postgresql"),
        ("postgresql://host:port/name", "malformed database URL"),
        ("postgres://host/name", "there is no kind of database 'postgres', use sqlite"),
        ("sqlite://", "names no file: use sqlite:///tuning.sqlite"),
        ("sqlite:///:memory:", "names no file"),
        (":memory:", "':memory:' names no file: use a path"),
        ("", "'' names no file"),
        ("sqlite:///x.sqlite?timeout=soon", r"the only option of a SQLite URL is \?timeout"),
        ("sqlite:///x.sqlite?mode=ro", r"the only option of a SQLite URL is \?timeout"),
        ("mysql://host/name", "needs the Python package 'MySQLdb'"),
    ],
)
def test_a_bad_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        TuningDB.open(url)
    one_line(error)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_and_no_password_shown(postgres_url: str) -> None:
    with pytest.raises(UserError, match=r"refuses .*: check URL and") as error:
        TuningDB.open("postgresql://me:secret@127.0.0.1:1/name")
    assert "secret" not in one_line(error)


def test_which_database_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_url(None) == f"sqlite:///{tmp_path}/tuning.sqlite"
    monkeypatch.setenv("LIGHT_MOE_DB", "mine.sqlite")
    assert resolve_url(None) == f"sqlite:///{tmp_path}/mine.sqlite"
    assert resolve_url("given.sqlite") == f"sqlite:///{tmp_path}/given.sqlite"
    assert resolve_url("postgresql://u:p@h/d") == "postgresql+psycopg://u:p@h/d"
    with TuningDB.open():
        pass
    assert (tmp_path / "mine.sqlite").exists()


def test_a_path_with_url_characters_is_a_path(tmp_path: Path) -> None:
    file = tmp_path / "50% of #1?x=y µ.sqlite"
    with TuningDB.open(file) as db:
        db.add_trial(trial(begin(db)))
    assert file.exists()
    assert len(frame(file, "trials")) == 1
