"""Winners: deciding who they are, and looking them up with the default's time beside."""

from __future__ import annotations

import math

from sqlalchemy import Select, column, select, table
from sqlalchemy.orm import Session

from search_spaces.bucket import Bucket
from search_spaces.errors import UserError
from search_spaces.gpu import canonical_name
from search_spaces.problems import AnyProblem
from tuning_db import catalogue, trials
from tuning_db.mapping import bucket_from, bucket_values, problem_from, trial_from
from tuning_db.models import GpuRow, ProblemRow, TrialRow, WinnerRow
from tuning_db.records import Source, TrialStatus, Winner, utc_now

# The view knows which of the default's times compares with a trial.
_VIEW = table("trials", column("id"), column("default_us"))


def decide(
    session: Session,
    problem: AnyProblem,
    bucket: Bucket,
    gpu_name: str,
    trial_id: int,
    *,
    only_faster: bool = False,
) -> bool:
    """Makes the trial its place's winner unless the present one has a better source.

    With ``only_faster`` a winner from the same source gives way to a shorter time only.
    """
    name = canonical_name(gpu_name)
    place = catalogue.problem_row(session, problem)
    trial = trials.find(session, trial_id)
    _check(session, trial, place, bucket, name)
    query = place_query(place.id, str(bucket), name).with_for_update()
    fresh = WinnerRow(
        **bucket_values(bucket), problem_id=place.id, gpu_name=name, trial_id=trial_id
    )
    winner = catalogue.find_or_add(session, query, fresh)
    if winner.trial_id != trial_id:
        present = trials.find(session, winner.trial_id)
        if not _replaces(trial, present, only_faster):
            return False
        winner.trial_id, winner.decided_at = trial_id, utc_now()
    return True


def place_query(problem_id: int, bucket: str, gpu_name: str) -> Select[WinnerRow]:
    """The winner's row of one place."""
    return select(WinnerRow).where(
        WinnerRow.problem_id == problem_id,
        WinnerRow.bucket == bucket,
        WinnerRow.gpu_name == gpu_name,
    )


def select_for(
    session: Session,
    gpu_name: str,
    *,
    op: str | None = None,
    problem: AnyProblem | None = None,
    bucket: Bucket | None = None,
) -> list[Winner]:
    """Winners of a GPU model, of one op or one place where these are given."""
    query = (
        select(WinnerRow, ProblemRow, TrialRow, GpuRow, _VIEW.c.default_us)
        .join(ProblemRow, ProblemRow.id == WinnerRow.problem_id)
        .join(TrialRow, TrialRow.id == WinnerRow.trial_id)
        .join(GpuRow, GpuRow.id == TrialRow.gpu_id)
        .join(_VIEW, _VIEW.c.id == TrialRow.id)
        .where(WinnerRow.gpu_name == canonical_name(gpu_name))
        .order_by(ProblemRow.key, WinnerRow.skew, WinnerRow.tokens_per_expert)
    )
    if op is not None:
        query = query.where(ProblemRow.op == op)
    if problem is not None:
        query = query.where(ProblemRow.key == problem.key)
    if bucket is not None:
        query = query.where(WinnerRow.bucket == str(bucket))
    return [
        Winner(
            problem=problem_from(place),
            bucket=bucket_from(row.tokens_per_expert, row.skew),
            gpu_name=row.gpu_name,
            trial=trial_from(trial, place, gpu),
            default_us=default_us,
        )
        for row, place, trial, gpu, default_us in session.execute(query)
    ]


def _replaces(trial: TrialRow, present: TrialRow, only_faster: bool) -> bool:
    trust, against = Source(trial.source).trust, Source(present.source).trust
    if trust != against or not only_faster:
        return trust >= against
    return (trial.time_us or math.inf) < (present.time_us or math.inf)


def _check(
    session: Session, trial: TrialRow, place: ProblemRow, bucket: Bucket, gpu_name: str
) -> None:
    gpu = session.get_one(GpuRow, trial.gpu_id)
    where = (trial.problem_id, trial.bucket, gpu.name)
    if where != (place.id, str(bucket), gpu_name):
        raise UserError(
            f"trial {trial.id} cannot win {place.key} at {bucket} on {gpu_name}: it was made at "
            f"{trial.bucket} on {gpu.name}, for problem {trial.problem_id} of the database"
        )
    if trial.status != TrialStatus.OK.value or trial.time_us is None:
        raise UserError(
            f"trial {trial.id} cannot win: its status is {trial.status}, its time {trial.time_us}"
        )
