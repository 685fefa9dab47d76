"""Random grouped problems, configs and routings, emulated against torch."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from search_spaces import Problem, find_gpu, space_for
from search_spaces.problem import Numerics
from templates import Built, CompilePool, Target, render
from tuner.emulated_gemm import check_config

SPACE = space_for("grouped_gemm")
GPU = find_gpu("H200")
BATCH = 6  # kernels that share a translation unit
ROUTINGS = 2  # for each kernel
MOST_TILE_ROWS = 288  # of all m-tiles together
MOST_PRODUCTS = 1 << 24  # of a launch, tails multiplied too


def draw(rng: random.Random) -> tuple[Problem, Any]:
    """A small problem of any shape, and any config that is valid for it and cheap."""
    while True:
        experts = rng.choice([1, 2, 3, 7, rng.randrange(8, 32), rng.randrange(32, 100)])
        n, k = (
            8 * rng.randrange(1, 33),
            8 * rng.choice([rng.randrange(1, 50), rng.randrange(1, 200)]),
        )
        combine = rng.choice(["", "", "ordered", "any"])
        problem = Problem(
            "grouped_gemm", experts, n, k, rng.randrange(1, min(experts, 9) + 1) if combine else 1,
            numerics=rng.choice(list(Numerics)), label="random", combine=combine,
        )  # fmt: skip
        config = SPACE.view(problem, GPU).sample(rng)
        columns = -(-n // config.tile_n) * config.tile_n
        if MOST_TILE_ROWS * columns * k <= MOST_PRODUCTS:
            return problem, config


def route(problem: Problem, tile_m: int, rng: random.Random) -> list[int]:
    """Rows per expert: a few experts have some, by weights of all sizes, the others none."""
    most = max(1, min(problem.experts, MOST_TILE_ROWS // tile_m - 1))
    active = rng.sample(range(problem.experts), rng.randrange(1, most + 1))
    rows = rng.randrange(1, max(2, MOST_TILE_ROWS - len(active) * tile_m))
    weights = [rng.random() ** 4 + 0.01 for _ in active]
    tokens = max(1, rows // problem.top_k)
    counts = Counter(rng.choices(active, weights, k=tokens * problem.top_k))
    return [counts[expert] for expert in range(problem.experts)]


def check(seed: int, pool: CompilePool) -> None:
    rng = random.Random(seed)
    drawn = [draw(rng) for _ in range(BATCH)]
    results = pool.build([render(*one) for one in drawn], Target("compute_75", ()))
    for (problem, config), built in zip(drawn, results, strict=True):
        assert isinstance(built, Built), built
        for _ in range(ROUTINGS):
            rows = route(problem, config.tile_m, rng)
            found = check_config(problem, config, built, rows, seed=rng.randrange(1 << 30))
            assert found.ok, f"{config} on {problem.key} with rows {rows}: {found.reason}"


@pytest.mark.parametrize("seed", range(2))
def test_random_problems_agree_with_torch(seed: int, pool: CompilePool) -> None:
    check(seed, pool)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 130))
def test_many_random_problems_agree_with_torch(seed: int, pool: CompilePool) -> None:
    check(seed, pool)
