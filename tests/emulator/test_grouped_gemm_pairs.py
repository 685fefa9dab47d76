"""Every valid pair of values of any two parameters of grouped_gemm, emulated against torch."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import pytest

from search_spaces import Problem, find_gpu, space_for
from search_spaces.gpu import GPUS
from search_spaces.parameter import Parameter
from search_spaces.problem import Numerics
from templates import Built, CompilePool, Target, render
from tests.emulator.all_pairs import Case, cover, possible_pairs, restricted, shown_pairs
from tuner.emulated_gemm import check_config
from tuner.small_problem import SmallProblem, small_problem

# How rows are combined has tests of its own.
SPACE = replace(
    space_for("grouped_gemm"),
    parameters=tuple(
        Parameter(p.name, p.values if p.name != "combine" else ("none",))
        for p in space_for("grouped_gemm").parameters
    ),
)
# The GPU with the most of everything, and shapes that leave out no value: K for 8 splits of the
# longest tiles, N for the widest, all ways to accumulate. One of them has tails in N and K and more
# experts than a warp scans at a time, the other has neither.
WIDEST = find_gpu("H200")
PROBLEMS = {
    "tails": Problem("grouped_gemm", 64, 2056, 4104, 2, numerics=Numerics.FP16),
    "whole": Problem("grouped_gemm", 8, 2048, 4096, 2, numerics=Numerics.FP16),
}
PTX_ONLY = Target("compute_75", ())
BATCHES = 10


@cache
def cases() -> list[Case]:
    return cover(SPACE, PROBLEMS, WIDEST, seed=7)


def test_a_pair_that_no_case_shows_is_valid_nowhere() -> None:
    shown = set().union(*(shown_pairs(case, SPACE) for case in cases()))
    missing = [pair for pair in possible_pairs(SPACE) if pair not in shown]
    assert 0 < len(missing) < 30  # e.g. tokens on the 8-wide axis of the MMA with tile_m=64
    valid = [
        (pair, name)
        for pair in missing
        for name, problem in PROBLEMS.items()
        if restricted(SPACE, pair, problem, WIDEST).count
    ]
    assert valid == []


def test_no_gpu_has_more_of_anything() -> None:
    for gpu in GPUS:
        assert gpu.regs_per_sm <= WIDEST.regs_per_sm
        assert gpu.max_threads_per_sm <= WIDEST.max_threads_per_sm
        assert gpu.smem_per_block <= WIDEST.smem_per_block
        for ctas in (1, 2, 3, 4):
            room, most = (g.smem_per_sm / ctas - g.smem_reserved for g in (gpu, WIDEST))
            assert room <= most


def test_every_case_is_valid_and_every_value_meets_both_problems() -> None:
    for case in cases():
        assert SPACE.view(case.problem, WIDEST).explain(case.config) == []
    for parameter in SPACE.parameters:
        met = {(case.name, getattr(case.config, parameter.name)) for case in cases()}
        assert met == {(name, value) for name in PROBLEMS for value in parameter.values}


@pytest.mark.parametrize("batch", range(BATCHES))
def test_cases_agree_with_torch(batch: int, pool: CompilePool) -> None:
    """All of C, with its guard rows, on random operands; no fault of any kind on the way."""
    some = cases()[batch::BATCHES]
    small = [small_problem(case.problem, case.config) for case in some]
    variants = [render(s.problem, c.config) for s, c in zip(small, some, strict=True)]
    for number, built in enumerate(pool.build(variants, PTX_ONLY)):
        assert isinstance(built, Built), built
        seed = batch + BATCHES * number
        config, problem = some[number].config, small[number].problem
        rows = _ragged(small[number], config.tile_m, random.Random(seed))
        found = check_config(problem, config, built, rows, seed)
        assert found.ok, f"{config} on {problem} with rows {rows}: {found.reason}"


def _ragged(small: SmallProblem, tile_m: int, rng: random.Random) -> list[int]:
    """A few rows for one expert, a tile and a begun one for another, none for the rest."""
    rows = [0] * small.problem.experts
    few, many = rng.sample(range(len(rows)), 2)
    rows[few], rows[many] = rng.randrange(1, tile_m), tile_m + rng.randrange(1, tile_m)
    return rows
