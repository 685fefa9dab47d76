"""Merging: another DB's trials into this one, each once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from search_spaces.bucket import Bucket, Skew
from search_spaces.errors import UserError
from search_spaces.problems import AnyProblem, parse_problem
from tuning_db import catalogue, runs, winners
from tuning_db.mapping import PLAIN, trial_values
from tuning_db.models import RunRow, TrialRow, WinnerRow
from tuning_db.records import GpuRecord, Source, TrialRecord, TrialStatus, Verified
from tuning_db.rows import Value
from tuning_db.store import TuningDB

Row = Mapping[str, Value]

_OF_RUN = ("command", "versions", "git_revision", "seed", "status", "started_at", "ended_at")
_OF_GPU = ("uuid", "arch", "sms", "memory_bytes", "driver")
_OF_TRIAL = (*(name for name in PLAIN if name != "run_id"), "error", "gpu_uuid")


@dataclass(frozen=True)
class Merged:
    """How many trials were new and how many were here before, and how many winners changed."""

    added: int
    known: int
    winners: int


def merge(db: TuningDB, rows: Sequence[Row], path: Path) -> Merged:
    """Takes in the trials that :func:`read_trials` read from ``path``, with runs, GPUs, problems.

    A trial is known by its ``uid``, so a second import adds nothing. A winner of the file becomes
    the winner here where there is none, one of a less trusted source, or a slower one of the same
    source. All or nothing: raises UserError, naming the row, when one cannot be taken.
    """
    with db.writing() as session:
        merge_into = _Merge(session)
        for number, row in enumerate(rows, 1):
            try:
                merge_into.add(row)
            except ValueError as error:
                raise UserError(f"{path} row {number}: {error}") from error
        session.flush()
        won = sum(_crown(session, row) for row in rows if row["is_winner"])
    return Merged(merge_into.added, len(rows) - merge_into.added, won)


class _Merge:
    """Adds rows, looking up each run, card and problem once."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.known = set(session.scalars(select(TrialRow.uid)))
        self.added = 0
        self._ids: dict[object, int] = {}

    def add(self, row: Row) -> None:
        """Adds the trial unless it is known. Raises ValueError for values that make no sense."""
        values: dict[str, Any] = {name: row[name] for name in _OF_TRIAL}
        record = TrialRecord(
            **values,
            run_id=self._once(row["run_uid"], lambda: _run_id(self.session, row)),
            problem=_problem(row),
            bucket=_bucket(row),
            gpu_name=str(row["gpu"]),
            status=TrialStatus(row["status"]),
            source=Source(row["source"]),
            verified=Verified(row["verified"]),
        )
        if row["uid"] in self.known:
            return
        card: dict[str, Any] = {name: row[f"gpu_{name}"] for name in _OF_GPU}
        gpu = GpuRecord(name=record.gpu_name, **card)
        problem = record.problem
        fresh = TrialRow(
            **trial_values(record),
            uid=row["uid"],
            problem_id=self._once(problem, lambda: catalogue.problem_id(self.session, problem)),
            gpu_id=self._once(gpu, lambda: catalogue.gpu_id(self.session, gpu)),
        )
        self.session.add(fresh)
        self.known.add(str(row["uid"]))
        self.added += 1

    def _once(self, key: object, find: Callable[[], int]) -> int:
        if key not in self._ids:
            self._ids[key] = find()
        return self._ids[key]


def _run_id(session: Session, row: Row) -> int:
    values: dict[str, Any] = {name: row[f"run_{name}"] for name in _OF_RUN}
    values["command"] = values["command"] or ""
    fresh = RunRow(**values, uid=row["run_uid"])
    run = catalogue.find_or_add(session, select(RunRow).where(RunRow.uid == fresh.uid), fresh)
    if run.status == runs.RUNNING and run.host is None:
        # Taken in while it was still going on elsewhere.
        run.status, run.ended_at = values["status"], values["ended_at"]
    return run.id


def _crown(session: Session, row: Row) -> bool:
    """Lets the file's winner compete; True when that changed the winner here."""
    trial = session.scalars(select(TrialRow).where(TrialRow.uid == row["uid"])).one()
    if session.scalars(select(WinnerRow.id).where(WinnerRow.trial_id == trial.id)).first():
        return False
    place = (_problem(row), _bucket(row), str(row["gpu"]))
    return winners.decide(session, *place, trial.id, only_faster=True)


def _problem(row: Row) -> AnyProblem:
    return replace(parse_problem(str(row["problem"])), label=str(row["model"]))


def _bucket(row: Row) -> Bucket:
    return Bucket(float(str(row["tokens_per_expert"])), Skew.parse(str(row["skew"])))
