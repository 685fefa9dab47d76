"""Trials: adding one and finding those of a place (problem, bucket, GPU model)."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from search_spaces.bucket import Bucket
from search_spaces.errors import UserError
from search_spaces.gpu import canonical_name
from search_spaces.problems import AnyProblem
from tuning_db import catalogue
from tuning_db.mapping import bucket_from, trial_from, trial_values
from tuning_db.models import GpuRow, ProblemRow, RunRow, TrialRow
from tuning_db.records import TrialRecord, TrialStatus


def add(session: Session, trial: TrialRecord, card: int | None) -> int:
    """Adds a trial; ``card`` is the gpu row's id where the caller knows it."""
    if session.get(RunRow, trial.run_id) is None:
        raise UserError(f"run {trial.run_id} is not in this database: begin_run comes first")
    gpu = card or catalogue.newest_card(session, trial.gpu_name, trial.gpu_uuid)
    if gpu is None:
        raise UserError(f"GPU '{trial.gpu_name}' is not in this database: gpu_id comes first")
    problem = catalogue.problem_id(session, trial.problem)
    row = TrialRow(**trial_values(trial), problem_id=problem, gpu_id=gpu)
    session.add(row)
    session.flush()
    return row.id


def find(session: Session, trial_id: int) -> TrialRow:
    """The row of a trial. Raises UserError when there is none."""
    row = session.get(TrialRow, trial_id)
    if row is None:
        raise UserError(f"trial {trial_id} is not in this database")
    return row


def select_buckets(session: Session, problem: AnyProblem, gpu_name: str) -> list[Bucket]:
    """The buckets that have trials, by skew and tokens per expert."""
    query = (
        select(TrialRow.tokens_per_expert, TrialRow.skew)
        .join(ProblemRow, ProblemRow.id == TrialRow.problem_id)
        .join(GpuRow, GpuRow.id == TrialRow.gpu_id)
        .where(ProblemRow.key == problem.key, GpuRow.name == canonical_name(gpu_name))
        .distinct()
        .order_by(TrialRow.skew, TrialRow.tokens_per_expert)
    )
    return [bucket_from(*row) for row in session.execute(query)]


def select_all(
    session: Session,
    problem: AnyProblem,
    bucket: Bucket,
    gpu_name: str,
    statuses: Iterable[TrialStatus] | None,
) -> list[TrialRecord]:
    """The trials of a place, oldest first."""
    query = (
        select(TrialRow, ProblemRow, GpuRow)
        .join(ProblemRow, ProblemRow.id == TrialRow.problem_id)
        .join(GpuRow, GpuRow.id == TrialRow.gpu_id)
        .where(
            ProblemRow.key == problem.key,
            TrialRow.bucket == str(bucket),
            GpuRow.name == canonical_name(gpu_name),
        )
        .order_by(TrialRow.id)
    )
    if statuses is not None:
        query = query.where(TrialRow.status.in_([status.value for status in statuses]))
    return [trial_from(*row) for row in session.execute(query)]
