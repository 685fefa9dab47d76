"""Small problems: valid for the config, with the remainders of the real one, and cheap."""

from __future__ import annotations

import random
from itertools import accumulate

import pytest

from search_spaces import Problem, find_gpu, load_model, space_for
from search_spaces.problem import Numerics
from templates import launch_shape
from tuner.patch import ctas_of, patches, spread
from tuner.small_problem import rows_text, small_problem

GPU = find_gpu("RTX 2080 Ti")
SPACE = space_for("grouped_gemm")
PROBLEMS = {
    "whole tiles": load_model("mixtral-8x7b").problem("gate_up", Numerics.PROMOTED),
    "many experts": load_model("qwen3-30b-a3b").problem("down", Numerics.FP16),
    "odd N and K": Problem("grouped_gemm", 5, 1416, 4104, 2, numerics=Numerics.FP16),
    "smaller than small": Problem("grouped_gemm", 1, 40, 24, 1),
    "one tile": Problem("grouped_gemm", 2, 136, 72, 2, numerics=Numerics.FP32),
}


@pytest.fixture(params=PROBLEMS)
def problem(request: pytest.FixtureRequest) -> Problem:
    return PROBLEMS[request.param]


def test_every_config_stays_valid_and_shows_all_it_does(problem: Problem) -> None:
    view, rng = SPACE.view(problem, GPU), random.Random(3)
    for config in [view.default(), *(view.sample(rng) for _ in range(300))]:
        small = small_problem(problem, config)
        n, k, rows = small.problem.n, small.problem.k, small.histogram
        assert SPACE.view(small.problem, GPU).explain(config) == [], config
        assert (n % config.tile_n, k % config.tile_k) == (
            problem.n % config.tile_n,
            problem.k % config.tile_k,
        )
        assert small.problem.numerics is problem.numerics
        # Two tiles along N and once round the ring along K, unless the problem has no more.
        assert n > config.tile_n or n == problem.n
        assert k >= (config.stages + 1) * config.tile_k or k == problem.k
        assert n < 2 * config.tile_n + 8 and len(rows) == small.problem.experts
        # A whole and a begun tile of rows, an expert that has none, where there are that many.
        assert max(rows) > config.tile_m and max(rows) % config.tile_m
        assert problem.experts < 3 or 0 in rows


def test_two_configs_share_a_problem_that_suits_both() -> None:
    problem, rng = PROBLEMS["odd N and K"], random.Random(4)
    view = SPACE.view(problem, GPU)
    for _ in range(100):
        pair = view.sample(rng), view.sample(rng)
        small = small_problem(problem, *pair).problem
        for config in pair:
            assert SPACE.view(small, GPU).explain(config) == []
            assert small.n % config.tile_n == problem.n % config.tile_n
            assert small.k % config.tile_k == problem.k % config.tile_k


def test_more_experts_than_a_warp_looks_through_stay_more() -> None:
    problem = PROBLEMS["many experts"]
    small = small_problem(problem, SPACE.view(problem, GPU).default())
    assert len(small.histogram) > 32 and small.histogram[-1] > 0


def test_parts_of_c_cover_it_once_in_any_raster_order() -> None:
    problem = PROBLEMS["odd N and K"]
    view, rng = SPACE.view(problem, GPU), random.Random(5)
    histogram = [3, 0, 270, 1, 129]
    ends = list(accumulate(histogram))
    for config in (view.sample(rng) for _ in range(50)):
        found = patches(problem, config, histogram)
        shape = launch_shape(problem, config, sum(histogram))
        seen = sorted((p.rows.start, p.columns.start) for p in found)
        assert len(set(seen)) == len(seen)
        assert sum(len(p.rows) * len(p.columns) for p in found) == sum(histogram) * problem.n
        for part in found:
            first = ends[part.expert] - histogram[part.expert]
            assert first <= part.rows.start < part.rows.stop <= ends[part.expert]
            assert 0 <= part.tile < shape.passes[0].grid[0]
        ctas = ctas_of(spread(found, 5), shape)
        assert len(set(ctas)) == 5 * config.split_k
        assert max(ctas) < shape.passes[0].grid[0] * config.split_k


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_a_sample_is_spread_from_the_first_to_the_last(count: int) -> None:
    problem = PROBLEMS["odd N and K"]
    found = patches(problem, SPACE.view(problem, GPU).default(), [300, 0, 300, 5, 5])
    chosen = spread(found, count)
    assert len(chosen) == len(set(chosen)) == min(count, len(found))
    assert chosen[0] == found[0]
    assert count == 1 or chosen[-1] == found[-1]


def test_rows_are_told_in_short() -> None:
    assert rows_text([3, 0, 0, 0, 25]) == "3, 3 x 0, 25"
    assert rows_text([7]) == "7"
