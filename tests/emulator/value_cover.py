"""A few configs that together show every valid value of every parameter, and stay cheap."""

from __future__ import annotations

import random
from typing import Any

from search_spaces import SearchSpace
from search_spaces.gpu import GpuSpec
from search_spaces.problem import Problem
from tests.emulator.all_pairs import Case, mmas, restricted

DRAWS = 300
RARE_DRAWS = 10  # for each value that these do not show
MMAS_OF_A_COMPILE = 20_000  # what a kernel costs besides its MMAs, in MMAs


def cover_values(
    space: SearchSpace, name: str, problem: Problem, gpu: GpuSpec, seed: int
) -> list[Case]:
    """Greedy: again and again the config with the most new values for its price."""
    rng, view = random.Random(seed), space.view(problem, gpu)
    pool = [Case(name, problem, view.sample(rng)) for _ in range(DRAWS)]
    seen = set().union(*(_values(case, space) for case in pool))
    for value in sorted(_all_values(space) - seen, key=str):
        rare = restricted(space, [value], problem, gpu)
        count = RARE_DRAWS if rare.count else 0
        pool += [Case(name, problem, rare.sample(rng)) for _ in range(count)]
    wanted = set().union(*(_values(case, space) for case in pool))
    prices = {id(case): 1 + mmas(case) / MMAS_OF_A_COMPILE for case in pool}
    chosen = []
    while wanted:
        best = max(pool, key=lambda case: len(_values(case, space) & wanted) / prices[id(case)])
        chosen.append(best)
        wanted -= _values(best, space)
    return chosen


def _all_values(space: SearchSpace) -> set[tuple[str, Any]]:
    return {(p.name, value) for p in space.parameters for value in p.values}


def _values(case: Case, space: SearchSpace) -> set[tuple[str, Any]]:
    return {(p.name, getattr(case.config, p.name)) for p in space.parameters}
