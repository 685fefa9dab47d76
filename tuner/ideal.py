"""Ideal: the least that any kernel has to do for the parts of C it computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.problem import Problem
from tuner.patch import Patch

MMA_M, MMA_N, MMA_K = 16, 8, 8  # mma.m16n8k8: tokens on the 16-wide axis unless swapped
HALF_BYTES = 2
INDEX_BYTES = 4
ROUTED_BYTES = 8  # slot and weight of a row that is combined


@dataclass(frozen=True)
class Ideal:
    """``mma`` instructions without padding to CTA tiles, ``flops`` without padding at all.

    ``read_bytes`` of A and of B once each, of the index of gathered rows, and of slots and weights
    of combined ones; two experts that read the same token count as two. ``written_bytes`` of C
    once, which has a row for top_k combined ones.
    """

    mma: int
    flops: int
    read_bytes: int
    written_bytes: int


def ideal_of(problem: Problem, config: Any, parts: Sequence[Patch]) -> Ideal:
    """For all of C, or for the parts that were emulated: all where rows are combined."""
    wide, high = (MMA_M, MMA_N) if not config.swap else (MMA_N, MMA_M)
    each = problem.n // problem.columns  # columns of B that make one of C
    rows = {(part.expert, part.rows) for part in parts}
    columns = {(part.expert, part.columns) for part in parts}
    elements = sum(len(part.rows) * len(part.columns) for part in parts)
    lines = sum(len(r) for _, r in rows) + each * sum(len(c) for _, c in columns)
    blocks = sum(
        -(-len(part.rows) // wide) * -(-each * len(part.columns) // high) for part in parts
    )
    each_row = INDEX_BYTES * problem.gather + ROUTED_BYTES * bool(problem.combine)
    index = each_row * sum(len(r) for _, r in rows)
    return Ideal(
        mma=blocks * -(-problem.k // MMA_K),
        flops=2 * each * elements * problem.k,
        read_bytes=HALF_BYTES * lines * problem.k + index,
        written_bytes=HALF_BYTES * problem.rows_of_c(elements),
    )
