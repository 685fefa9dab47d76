"""Several processes on one database: a writer and its readers, and writers that are killed."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

from sqlalchemy import text

from tests.tuning_db.samples import GATE_UP, SIXTEEN, begin, trial
from tuning_db import TuningDB, doctor, frame
from tuning_db.connection import make_engine, use_wal

WRITER = """
import sys
from tests.tuning_db.samples import begin, trial
from tuning_db import TuningDB

with TuningDB.open(sys.argv[1]) as db:
    run = begin(db)
    for _ in range(int(sys.argv[2])):
        print(db.add_trial(trial(run)), flush=True)
    db.end_run(run, "finished")
"""

READER = """
import sys
from tuning_db import frame

seen = 0
while seen < int(sys.argv[2]):
    trials = frame(sys.argv[1], "trials")
    assert len(trials) >= seen, "a committed trial went missing"
    assert trials.id.is_monotonic_increasing
    seen = len(trials)
print(seen)
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> list[str]:
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return output.split()


def test_readers_read_while_one_writes(sqlite_file: Path) -> None:
    TuningDB.open(sqlite_file).close()
    readers = [start(READER, sqlite_file, 30) for _ in range(2)]
    writer = start(WRITER, sqlite_file, 30)
    assert len(finish(writer)) == 30
    assert [finish(reader) for reader in readers] == [["30"], ["30"]]


def test_wal_is_on_and_a_reader_waits_for_no_writer(sqlite_file: Path) -> None:
    with TuningDB.open(sqlite_file) as db:
        run = begin(db)
        db.add_trial(trial(run))
        with db.engine.connect() as connection:
            assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
            assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
        with db.writing() as session:
            session.execute(text("DELETE FROM trial"))
            # In any other journal mode this would wait, then fail.
            assert len(frame(f"sqlite:///{sqlite_file}?timeout=0", "trials")) == 1


def test_processes_may_open_a_new_database_at_once(db_url: str) -> None:
    """Each migrates it if it is first, and stores the same problem and card."""
    writers = [start(WRITER, db_url, 5) for _ in range(3)]
    numbers = [number for writer in writers for number in finish(writer)]
    assert len(set(numbers)) == 15
    with TuningDB.open(db_url) as db:
        assert len(db.trials(GATE_UP, SIXTEEN, "H100")) == 15
        with db.engine.connect() as connection:
            for table, count in (("problem", 1), ("gpu", 2), ("run", 3)):
                assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == count


def test_all_may_switch_a_new_file_to_wal_at_once(tmp_path: Path) -> None:
    """SQLite fails the second of two switches at once, whatever the busy timeout."""
    together = Barrier(4)

    def switch(path: Path) -> None:
        engine = make_engine(f"sqlite:///{path}", create=True, readonly=False)
        engine.connect().close()  # opens the file: what follows is the switch alone
        together.wait(timeout=30)
        use_wal(engine)
        engine.dispose()

    with ThreadPoolExecutor(together.parties) as threads:
        for number in range(250):
            path = tmp_path / f"{number}.sqlite"
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("CREATE TABLE not_empty (x)")
            list(threads.map(switch, [path] * together.parties))


def test_a_killed_writer_loses_no_finished_trial(db_url: str) -> None:
    writer = start(WRITER, db_url, 100_000)
    assert writer.stdout is not None
    finished = [int(writer.stdout.readline()) for _ in range(10)]
    writer.send_signal(signal.SIGKILL)
    finished += [int(line) for line in writer.communicate(timeout=60)[0].split()]
    assert writer.returncode == -signal.SIGKILL
    with TuningDB.open(db_url) as db:
        stored = [found.id for found in db.trials(GATE_UP, SIXTEEN, "H100")]
        # One more may have been committed that the writer had no time to tell of.
        assert stored[: len(finished)] == finished
        assert len(stored) <= len(finished) + 1
        assert [finding.check for finding in doctor.examine(db)] == ["orphaned_runs"]
        begin(db)
        assert doctor.examine(db) == []
        with db.engine.connect() as connection:
            ends = connection.execute(text("SELECT status FROM run ORDER BY id")).scalars().all()
    assert ends == ["killed", "running"]


def test_a_live_run_is_no_orphan(db_url: str) -> None:
    writer = start(WRITER, db_url, 100_000)
    assert writer.stdout is not None
    writer.stdout.readline()
    with TuningDB.open(db_url) as db:
        begin(db)
        assert doctor.examine(db) == []
    writer.kill()
    writer.communicate(timeout=60)
