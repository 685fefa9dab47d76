"""Cases that together show every valid pair of values of any two parameters, and stay cheap.

Which pairs are valid is not sampled but counted: a pair that no draw shows is either proved empty
by the search space restricted to it, or drawn from there.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from search_spaces import SearchSpace, SpaceView
from search_spaces.gpu import GpuSpec
from search_spaces.parameter import Parameter, Value
from search_spaces.problem import Problem
from tests.pairs import Pair
from tuner.small_problem import small_problem

DRAWS = 3000  # for each problem
RARE_DRAWS = 20  # for each pair that these do not show
PROBLEM = "problem"
# MMAs that take as long to emulate as all that a kernel costs besides: compiling it, mostly.
MMAS_OF_A_COMPILE = 60_000


@dataclass(frozen=True)
class Case:
    """A config, valid for ``problem``; ``name`` says which problem that is."""

    name: str
    problem: Problem
    config: Any


def possible_pairs(space: SearchSpace) -> list[Pair]:
    """The product of the values of any two parameters, valid or not."""
    return [
        ((a.name, x), (b.name, y))
        for a, b in combinations(space.parameters, 2)
        for x in a.values
        for y in b.values
    ]


def shown_pairs(case: Case, space: SearchSpace) -> set[Pair]:
    """The case's pairs of values, and each value with the name of its problem."""
    values: list[tuple[str, Any]] = [
        (p.name, getattr(case.config, p.name)) for p in space.parameters
    ]
    return {*combinations(values, 2), *(((PROBLEM, case.name), value) for value in values)}


def restricted(space: SearchSpace, fixed: Sequence[tuple[str, Value]], *where: Any) -> SpaceView:
    """The view of (problem, GPU) on the configs that have these values."""
    only = dict(fixed)
    parameters = tuple(
        Parameter(p.name, (only[p.name],)) if p.name in only else p for p in space.parameters
    )
    return replace(space, parameters=parameters).view(*where)


def cover(space: SearchSpace, problems: dict[str, Problem], gpu: GpuSpec, seed: int) -> list[Case]:
    """Greedy: again and again the case with the most new pairs for its price."""
    rng = random.Random(seed)
    pool = [case for name in problems for case in _pool(space, name, problems[name], gpu, rng)]
    number: dict[Pair, int] = {}
    shows = [_bits(shown_pairs(case, space), number) for case in pool]
    prices = [(1 + mmas(case) / MMAS_OF_A_COMPILE) ** 0.5 for case in pool]
    wanted, chosen = (1 << len(number)) - 1, []
    while wanted:
        best = max(range(len(pool)), key=lambda i: (shows[i] & wanted).bit_count() / prices[i])
        chosen.append(pool[best])
        wanted &= ~shows[best]
    return chosen


def _pool(
    space: SearchSpace, name: str, problem: Problem, gpu: GpuSpec, rng: random.Random
) -> list[Case]:
    view = space.view(problem, gpu)
    pool = [Case(name, problem, view.sample(rng)) for _ in range(DRAWS)]
    shown = set().union(*(shown_pairs(case, space) for case in pool))
    for pair in possible_pairs(space):
        if pair not in shown:
            rare = restricted(space, pair, problem, gpu)
            count = RARE_DRAWS if rare.count else 0
            pool += [Case(name, problem, rare.sample(rng)) for _ in range(count)]
    return pool


def _bits(pairs: set[Pair], number: dict[Pair, int]) -> int:
    """A bit for each pair; ``number`` grows by those that are new."""
    return sum(1 << number.setdefault(pair, len(number)) for pair in pairs)


def mmas(case: Case) -> float:
    """m16n8k8 that the small problem takes."""
    config, small = case.config, small_problem(case.problem, case.config)
    m_tiles = sum(-(-rows // config.tile_m) for rows in small.histogram)
    n_tiles = -(-small.problem.n // config.tile_n)
    return float(m_tiles * config.tile_m * n_tiles * config.tile_n * small.problem.k / 1024)
