"""Ideal: the least that any kernel has to do for the parts of C it computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.problem import Problem
from tuner.patch import Patch

MMA_M, MMA_N, MMA_K = 16, 8, 8  # mma.m16n8k8: tokens on the 16-wide axis unless swapped
HALF_BYTES = 2


@dataclass(frozen=True)
class Ideal:
    """``mma`` instructions without padding to CTA tiles, ``flops`` without padding at all.

    ``read_bytes`` of A and of B once each, ``written_bytes`` of C once.
    """

    mma: int
    flops: int
    read_bytes: int
    written_bytes: int


def ideal_of(problem: Problem, config: Any, parts: Sequence[Patch]) -> Ideal:
    """For all of C, or for the parts that were emulated."""
    wide, high = (MMA_M, MMA_N) if not config.swap else (MMA_N, MMA_M)
    rows = {(part.expert, part.rows) for part in parts}
    columns = {(part.expert, part.columns) for part in parts}
    elements = sum(len(part.rows) * len(part.columns) for part in parts)
    lines = sum(len(extent) for _, extent in (*rows, *columns))
    blocks = sum(-(-len(part.rows) // wide) * -(-len(part.columns) // high) for part in parts)
    return Ideal(
        mma=blocks * -(-problem.k // MMA_K),
        flops=2 * elements * problem.k,
        read_bytes=HALF_BYTES * lines * problem.k,
        written_bytes=HALF_BYTES * elements,
    )
