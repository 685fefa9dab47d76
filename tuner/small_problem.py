"""SmallProblem: the same kernel on a problem that a CPU can emulate in a second.

N and K are baked into a kernel, and whether they are whole multiples of its tile decides which code
the compiler keeps. So a small problem leaves the same remainders as the real one: what is proved on
it is the code that the real problem runs, with its tails if it has any and without them if not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from search_spaces.bucket import Bucket
from search_spaces.grouped_gemm_space import SHORTEST_SPLIT
from search_spaces.problem import ALIGNMENT, Problem

EXPERTS = 4  # one of them without rows, if there are that many
WARP_SCAN = 32  # experts that a warp looks through at a time, to find whose rows a tile has
PROMOTION_UNIT = 16  # "f16pP" promotes every P k-steps of this many products


@dataclass(frozen=True)
class SmallProblem:
    """``histogram`` is rows per expert, [E]: whole and begun tiles of rows, and an empty expert."""

    problem: Problem
    histogram: tuple[int, ...]

    @property
    def bucket(self) -> Bucket:
        """What its rows come to per expert."""
        return Bucket(sum(self.histogram) / self.problem.experts)


def small_problem(problem: Problem, *configs: Any) -> SmallProblem:
    """A problem of the same code for which all ``configs``, valid for ``problem``, are valid too.

    At least two tiles along N, and along K enough of them to go once round the ring of stages, to
    promote and go on, and for every split as many as the search space asks for; but never more
    than the problem itself has.
    """
    tile_m, tile_n, tile_k = (
        max(getattr(config, name) for config in configs) for name in ("tile_m", "tile_n", "tile_k")
    )
    n = _reduced(problem.n, tile_n, tile_n + ALIGNMENT)
    k = _reduced(problem.k, tile_k, max(map(_depth, configs)))
    experts = min(problem.experts, EXPERTS if problem.experts <= WARP_SCAN else WARP_SCAN + 2)
    top_k = min(problem.top_k, experts)
    small = replace(problem, experts=experts, n=n, k=k, top_k=top_k, label="small")
    return SmallProblem(small, _histogram(small, tile_m))


def _depth(config: Any) -> int:
    """Fewest products along K that show all a config does there."""
    ring = (config.stages + 1) * config.tile_k
    promotion = PROMOTION_UNIT * (config.promote_every + 1) * config.warps_k
    splits = SHORTEST_SPLIT * config.split_k * config.tile_k if config.split_k > 1 else 0
    return int(max(ring, promotion, splits))


def _reduced(extent: int, tile: int, least: int) -> int:
    """``least`` or a little more, so that the remainder of ``extent`` by ``tile`` stays.

    Tiles are powers of two: the remainder by a smaller one stays as well.
    """
    return min(extent, least + (extent - least) % tile)


def _histogram(problem: Problem, tile_m: int) -> tuple[int, ...]:
    """The last expert has a whole tile and a begun one, so that all others are looked through.

    Rows that are combined are whole tokens; some of these may have several rows of one expert.
    """
    few, rows = max(1, tile_m // 4 - 1), tile_m + tile_m // 2 + 1
    if problem.experts == 1:
        return (rows,)
    if problem.combine:
        few += -(few + rows) % problem.top_k
    return (few, *[0] * (problem.experts - 2), rows)


def rows_text(histogram: Sequence[int]) -> str:
    """``3, 32 x 0, 25`` for people: equal neighbours told once."""
    runs: list[tuple[int, int]] = []
    for rows in histogram:
        before = runs[-1] if runs else (0, -1)
        if before[1] == rows:
            runs[-1] = before[0] + 1, rows
        else:
            runs.append((1, rows))
    return ", ".join(str(rows) if count == 1 else f"{count} x {rows}" for count, rows in runs)
