"""Catalogue: GPUs and problems, each stored once."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import Select, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from search_spaces.gpu import canonical_name
from search_spaces.problems import AnyProblem
from tuning_db.mapping import CUSTOM, gpu_values, problem_values
from tuning_db.models import Base, GpuRow, ProblemRow
from tuning_db.records import GpuRecord

Row = TypeVar("Row", bound=Base)


def find_or_add(session: Session, query: Select[Row], row: Row) -> Row:
    """The row that ``query`` finds, else ``row``, stored now.

    Two hosts that add the same row at once end with one: the loser's insert is undone alone.
    """
    found = session.scalars(query).first()
    if found is not None:
        return found
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return session.scalars(query).one()
    return row


def gpu_id(session: Session, gpu: GpuRecord) -> int:
    """Id of the card under its driver."""
    values = {**gpu_values(gpu), "name": canonical_name(gpu.name)}
    query = _card(values["name"], gpu.uuid).where(GpuRow.driver.is_not_distinct_from(gpu.driver))
    return find_or_add(session, query, GpuRow(**values)).id


def newest_card(session: Session, name: str, uuid: str | None) -> int | None:
    """Id of the card under the driver it was seen with last."""
    query = _card(canonical_name(name), uuid).order_by(GpuRow.id.desc()).limit(1)
    found = session.scalars(query).first()
    return None if found is None else found.id


def problem_row(session: Session, problem: AnyProblem) -> ProblemRow:
    """The stored problem; a label that names a model replaces "custom", never another one."""
    values: dict[str, Any] = problem_values(problem)
    query = select(ProblemRow).where(ProblemRow.key == problem.key)
    row = find_or_add(session, query, ProblemRow(**values))
    if row.label == CUSTOM and problem.label != CUSTOM:
        row.label = problem.label
    return row


def problem_id(session: Session, problem: AnyProblem) -> int:
    """Id of the problem."""
    return problem_row(session, problem).id


def _card(name: str, uuid: str | None) -> Select[GpuRow]:
    return select(GpuRow).where(GpuRow.name == name, GpuRow.uuid.is_not_distinct_from(uuid))
