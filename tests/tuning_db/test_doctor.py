"""Doctor: a sound DB passes, each planted fault is found and told apart."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from search_spaces.fingerprint import template_fingerprint
from tests.tuning_db.samples import GATE_UP, SIXTEEN, SKEWED, begin, trial
from tuning_db import Source, TrialStatus, TuningDB, doctor
from tuning_db.doctor import Finding, Severity, examine
from tuning_db.records import utc_now

ERROR, WARNING = Severity.ERROR, Severity.WARNING


def sql(db: TuningDB, statement: str, **values: object) -> None:
    with db.writing() as session:
        session.execute(text(statement), values)


def kinds(findings: list[Finding]) -> list[tuple[str, Severity]]:
    return [(finding.check, finding.severity) for finding in findings]


def fill(db: TuningDB) -> int:
    """A finished run with a winner; returns the winner's trial."""
    run = begin(db)
    number = db.add_trial(trial(run, template_hash=template_fingerprint("grouped_gemm")))
    db.set_winner(GATE_UP, SIXTEEN, "H100", number)
    db.end_run(run, "finished")
    return number


def test_a_sound_database_passes(db: TuningDB) -> None:
    assert examine(db) == []
    fill(db)
    assert examine(db) == []


@pytest.mark.parametrize(
    "planted",
    ["status = 'wrong_result'", "time_us = NULL", "bucket = '2@uniform'", "gpu_id = 2"],
)
def test_a_winner_that_cannot_be_one(db: TuningDB, planted: str) -> None:
    fill(db)
    sql(db, f"UPDATE trial SET {planted}")
    findings = examine(db)
    assert kinds(findings) == [("winners", ERROR)]
    assert f"the winner of {GATE_UP.key} at 16@uniform on H100 is trial 1" in findings[0].message


def test_a_winner_without_its_trial(sqlite_file: Path) -> None:
    with TuningDB.open(sqlite_file) as db:
        fill(db)
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            connection.exec_driver_sql("DELETE FROM trial")
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        findings = examine(db)
        assert kinds(findings) == [("foreign_keys", ERROR)]
        assert "winner 1 points at a row that trial lacks" in findings[0].message


def test_a_run_whose_process_is_gone(db: TuningDB) -> None:
    begin(db)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    sql(db, "UPDATE run SET pid = :pid", pid=gone.pid)
    findings = examine(db)
    assert kinds(findings) == [("orphaned_runs", WARNING)]
    assert "run 1 (python -m tuner.search --op grouped_gemm)" in findings[0].message


@pytest.mark.parametrize(("silent_hours", "lost"), [(1, False), (25, True)])
def test_a_run_on_another_host(db: TuningDB, silent_hours: int, lost: bool) -> None:
    run = begin(db)
    long_ago, last = (utc_now() - timedelta(hours=hours) for hours in (100, silent_hours))
    sql(db, "UPDATE run SET host = 'elsewhere', started_at = :at", at=long_ago)
    db.add_trial(trial(run, created_at=last))
    assert kinds(examine(db)) == [("orphaned_runs", WARNING)] * lost


def test_stale_trials_are_counted_with_their_winners(db: TuningDB) -> None:
    fill(db)
    run = begin(db)
    for bucket in (SIXTEEN, SKEWED):
        db.add_trial(trial(run, bucket=bucket, template_hash="0" * 16))
    stale = db.add_trial(trial(run, bucket=SKEWED, template_hash="0" * 16, source=Source.REPLAYED))
    db.set_winner(GATE_UP, SKEWED, "H100", stale)
    db.add_trial(trial(run, status=TrialStatus.REJECTED, template_hash=None))
    findings = examine(db)
    assert kinds(findings) == [("stale_trials", WARNING)]
    now = template_fingerprint("grouped_gemm")
    assert findings[0].message.startswith(
        "3 trials of grouped_gemm, 1 of them winners, were made with template 0000000000000000, "
        f"today's is {now}"
    )


def test_errors_come_before_warnings(db: TuningDB) -> None:
    run = begin(db)
    number = db.add_trial(trial(run, template_hash="0" * 16))
    db.set_winner(GATE_UP, SIXTEEN, "H100", number)
    sql(db, "UPDATE trial SET status = 'timeout'")
    assert kinds(examine(db)) == [("winners", ERROR), ("stale_trials", WARNING)]


def test_another_journal_mode(sqlite_file: Path) -> None:
    with TuningDB.open(sqlite_file) as db:
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = DELETE")
        assert kinds(examine(db)) == [("journal", WARNING)]
    with TuningDB.open(sqlite_file) as db:
        assert examine(db) == []


def test_damaged_pages(sqlite_file: Path) -> None:
    with TuningDB.open(sqlite_file) as db:
        run = begin(db)
        for number in range(200):
            db.add_trial(trial(run, error=f"{number}" * 50))
    content = bytearray(sqlite_file.read_bytes())
    content[-3 * 4096 :] = b"\xa5" * (3 * 4096)  # the newest trials
    sqlite_file.write_bytes(content)
    with TuningDB.open(sqlite_file, readonly=True) as db:
        findings = doctor.examine(db)
    assert findings
    assert set(kinds(findings)) == {("integrity", ERROR)}
