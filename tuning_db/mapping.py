"""Mapping: rows of the tables to records and back."""

from __future__ import annotations

from dataclasses import fields, replace
from enum import Enum
from typing import Any

from search_spaces.bucket import Bucket, Skew
from search_spaces.gate_problem import GateProblem
from search_spaces.layer_problem import LayerProblem
from search_spaces.problem import Numerics
from search_spaces.problems import AnyProblem, parse_problem
from tuning_db.models import GpuRow, ProblemRow, TrialRow
from tuning_db.records import GpuRecord, Source, TrialRecord, TrialStatus, Verified

CUSTOM = "custom"  # the label of a problem that belongs to no model

_ENUMS: dict[str, type[Enum]] = {
    "status": TrialStatus,
    "source": Source,
    "verified": Verified,
}
_ELSEWHERE = {"id", "problem", "bucket", "gpu_name", "gpu_uuid", "error", *_ENUMS}
# Fields of a record that are columns of ``trial`` under the same name.
PLAIN = tuple(f.name for f in fields(TrialRecord) if f.name not in _ELSEWHERE)


def trial_values(record: TrialRecord) -> dict[str, Any]:
    """Columns of ``trial`` that the record alone decides: all but keys of other tables."""
    values = {name: getattr(record, name) for name in PLAIN}
    values.update({name: getattr(record, name).value for name in _ENUMS})
    return {**values, **bucket_values(record.bucket), "error": _storable(record.error)}


def bucket_values(bucket: Bucket) -> dict[str, Any]:
    """The columns ``bucket`` (the key), ``tokens_per_expert`` and ``skew``."""
    return {
        "bucket": str(bucket),
        "tokens_per_expert": bucket.tokens_per_expert,
        "skew": str(bucket.skew),
    }


def problem_values(problem: AnyProblem) -> dict[str, Any]:
    """Columns of ``problem``; all but ``key`` and ``label`` are there for people's queries.

    A gate's N and K are those of its router, [E, hidden], which it multiplies with in fp32; a
    layer's those of its second GEMM, hidden and intermediate size.
    """
    if isinstance(problem, GateProblem):
        n, k, numerics = problem.router_rows, problem.hidden, Numerics.FP32
    elif isinstance(problem, LayerProblem):
        n, k, numerics = problem.hidden, problem.intermediate, problem.numerics
    else:
        n, k, numerics = problem.n, problem.k, problem.numerics
    return {
        "key": problem.key,
        "label": problem.label,
        "op": problem.op,
        "experts": problem.experts,
        "n": n,
        "k": k,
        "top_k": problem.top_k,
        "dtype": problem.dtype,
        "numerics": numerics.value,
    }


def gpu_values(gpu: GpuRecord) -> dict[str, Any]:
    """Columns of ``gpu``."""
    return {f.name: getattr(gpu, f.name) for f in fields(GpuRecord)}


def problem_from(row: ProblemRow) -> AnyProblem:
    """The problem with the label the DB keeps for it."""
    return replace(parse_problem(row.key), label=row.label)


def bucket_from(tokens_per_expert: float, skew: str) -> Bucket:
    """From the numeric column: the text keeps six digits only."""
    return Bucket(tokens_per_expert, Skew.parse(skew))


def trial_from(row: TrialRow, problem: ProblemRow, gpu: GpuRow) -> TrialRecord:
    """The record of a stored trial."""
    values = {name: getattr(row, name) for name in PLAIN}
    return TrialRecord(
        **values,
        id=row.id,
        problem=problem_from(problem),
        bucket=bucket_from(row.tokens_per_expert, row.skew),
        gpu_name=gpu.name,
        gpu_uuid=gpu.uuid,
        status=TrialStatus(row.status),
        source=Source(row.source),
        verified=Verified(row.verified),
        error=row.error,
    )


def _storable(text: str | None) -> str | None:
    """A compiler's log as any database takes it: no NUL (PostgreSQL), no broken UTF-8."""
    if text is None:
        return None
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
