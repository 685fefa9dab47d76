"""Doctor: what is wrong with a tuning DB (errors) and what has aged in it (warnings)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sqlalchemy import func, select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from search_spaces.errors import UserError
from search_spaces.fingerprint import template_fingerprint
from tuning_db import runs
from tuning_db.failures import DAMAGED, clear_errors
from tuning_db.models import GpuRow, ProblemRow, TrialRow, WinnerRow
from tuning_db.records import TrialStatus
from tuning_db.store import TuningDB

WAL = 2  # file format version for reading, SQLite file format, section 1.3.3


class Severity(str, Enum):
    """ERROR: the DB contradicts itself. WARNING: all is sound, but some of it is out of date."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One thing found: which check found it, what it is and what to do."""

    check: str
    severity: Severity
    message: str


def examine(db: TuningDB) -> list[Finding]:
    """Every check, errors first; of a damaged file the damage alone. Reads only."""
    with clear_errors(db.url):
        damage = list(_integrity(db))
    if any(finding.severity is Severity.ERROR for finding in damage):
        return damage
    with db.reading() as session:
        findings = [
            *damage,
            *_foreign_keys(session),
            *_winners(session),
            *_orphans(session),
            *_stale(session),
        ]
    return sorted(findings, key=lambda finding: finding.severity is Severity.WARNING)


def _integrity(db: TuningDB) -> Iterator[Finding]:
    """Pages and indices of the file. PostgreSQL keeps its own in order."""
    if db.engine.dialect.name != "sqlite":
        return
    # No transaction: on a damaged file even the end of one fails.
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        try:
            lines = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        except DatabaseError as error:
            if DAMAGED not in str(error.orig):
                raise
            lines = [str(error.orig)]  # too damaged to be listed
    for line in lines:
        if line != "ok":
            what = " ".join(line.split())
            yield Finding("integrity", Severity.ERROR, f"{what}: restore a copy of the database")
    # Byte 18 of the header: asked by PRAGMA, a file in a read-only folder would deny being WAL.
    with Path(db.engine.url.database or "").open("rb") as file:
        if file.read(19)[18] != WAL:
            yield Finding(
                "journal",
                Severity.WARNING,
                "the journal mode is not WAL, readers wait for the writer: python -m tuning_db "
                "doctor --migrate turns it on, except on network file systems",
            )


def _foreign_keys(session: Session) -> Iterator[Finding]:
    if session.get_bind().dialect.name != "sqlite":
        return
    for table, row, parent, _ in session.execute(text("PRAGMA foreign_key_check")):
        yield Finding(
            "foreign_keys",
            Severity.ERROR,
            f"{table} {row} points at a row that {parent} lacks: restore a copy of the database",
        )


def _winners(session: Session) -> Iterator[Finding]:
    """Each winner's trial must be ``ok``, timed and of the winner's own place."""
    query = (
        select(WinnerRow, TrialRow, GpuRow.name, ProblemRow.key)
        .join(TrialRow, TrialRow.id == WinnerRow.trial_id)
        .join(GpuRow, GpuRow.id == TrialRow.gpu_id)
        .join(ProblemRow, ProblemRow.id == WinnerRow.problem_id)
        .order_by(WinnerRow.id)
    )
    for winner, trial, gpu, key in session.execute(query):
        place = f"{key} at {winner.bucket} on {winner.gpu_name}"
        again = "search this bucket again"
        if trial.status != TrialStatus.OK.value or trial.time_us is None:
            yield Finding(
                "winners",
                Severity.ERROR,
                f"the winner of {place} is trial {trial.id}, whose status is {trial.status} and "
                f"time {trial.time_us}: {again}",
            )
        if (trial.problem_id, trial.bucket, gpu) != (
            winner.problem_id,
            winner.bucket,
            winner.gpu_name,
        ):
            yield Finding(
                "winners",
                Severity.ERROR,
                f"the winner of {place} is trial {trial.id}, made at {trial.bucket} on {gpu} for "
                f"problem {trial.problem_id}: {again}",
            )


def _orphans(session: Session) -> Iterator[Finding]:
    for run in runs.orphans(session):
        yield Finding(
            "orphaned_runs",
            Severity.WARNING,
            f"run {run.id} ({run.command}) is marked running since {run.started_at:%Y-%m-%d %H:%M} "
            "but its process is gone: its trials are safe, tuner.search --resume goes on from them",
        )


def _stale(session: Session) -> Iterator[Finding]:
    """Trials whose kernel came from a template that has changed since."""
    query = (
        select(
            ProblemRow.op,
            TrialRow.template_hash,
            func.count(TrialRow.id),
            func.count(func.distinct(WinnerRow.trial_id)),
        )
        .join(ProblemRow, ProblemRow.id == TrialRow.problem_id)
        .outerjoin(WinnerRow, WinnerRow.trial_id == TrialRow.id)
        .where(TrialRow.template_hash.is_not(None))
        .group_by(ProblemRow.op, TrialRow.template_hash)
        .order_by(ProblemRow.op, TrialRow.template_hash)
    )
    for op, fingerprint, trials, winners in session.execute(query):
        now = _fingerprint(op)
        if fingerprint != now:
            yield Finding(
                "stale_trials",
                Severity.WARNING,
                f"{trials} trials of {op}, {winners} of them winners, were made with template "
                f"{fingerprint}, today's is {now or 'gone'}: search again to see if they still win",
            )


def _fingerprint(op: str) -> str | None:
    try:
        return template_fingerprint(op)
    except UserError:
        return None  # an op of another version: it has no template here, so its trials are stale
