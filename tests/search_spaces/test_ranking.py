"""rank: valid, diverse, better than chance, and the same for the same seed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from search_spaces import Bucket, GroupedGemmConfig, UserError, load_model, predict, rank
from search_spaces.grouped_gemm_space import GROUPED_GEMM
from tests.search_spaces.spaces import HOPPER, MIXTRAL, TURING

BUCKET = Bucket(256)


def times(configs: list[GroupedGemmConfig]) -> list[float]:
    rows = BUCKET.histogram(MIXTRAL, 0)
    return [predict(MIXTRAL, config, TURING, rows).total_us for config in configs]


@pytest.fixture(scope="module")
def ranked() -> list[GroupedGemmConfig]:
    return rank(MIXTRAL, BUCKET, TURING, random.Random(7), samples=1000, limit=40)


def test_ranked_configs_are_valid_sorted_and_distinct(ranked: list[GroupedGemmConfig]) -> None:
    view = GROUPED_GEMM.view(MIXTRAL, TURING)
    assert len(ranked) == 40
    assert all(view.explain(config) == [] for config in ranked)
    assert len({config.compile_key for config in ranked}) == len(ranked)
    assert times(ranked) == sorted(times(ranked))


def test_ranked_configs_are_diverse(ranked: list[GroupedGemmConfig]) -> None:
    families = Counter(
        (c.tile_m, c.tile_n, c.tile_k, c.warps_m, c.warps_n, c.warps_k, c.swap) for c in ranked
    )
    assert len(families) >= 40 / 3
    assert max(families.values()) <= 3


def test_climbing_beats_chance_and_the_default(ranked: list[GroupedGemmConfig]) -> None:
    view, rng = GROUPED_GEMM.view(MIXTRAL, TURING), random.Random(8)
    chance = sorted(times([view.sample(rng) for _ in range(1000)]))
    assert times(ranked)[0] < 1.01 * chance[0]
    assert times(ranked)[30] < chance[30]
    assert times(ranked)[0] < times([view.default()])[0]


def test_same_seed_same_list(ranked: list[GroupedGemmConfig]) -> None:
    again = rank(MIXTRAL, BUCKET, TURING, random.Random(7), samples=1000, limit=40)
    assert again == ranked


def test_tiles_follow_the_bucket() -> None:
    few, many = (
        rank(MIXTRAL, Bucket(tokens), HOPPER, random.Random(9), samples=800, limit=10)
        for tokens in (4, 2048)
    )
    assert max(c.tile_m for c in few) <= 32
    assert min(c.tile_m for c in many) >= 64


def test_small_spaces_give_what_there_is() -> None:
    problem = replace(load_model("olmoe-1b-7b").problem("down"), n=8, k=8)
    configs = rank(problem, Bucket(1), TURING, random.Random(0), samples=300)
    view = GROUPED_GEMM.view(problem, TURING)
    assert 0 < len(configs) <= 64
    assert all(view.explain(config) == [] for config in configs)


def test_no_valid_config_is_told() -> None:
    with pytest.raises(UserError, match="no valid grouped_gemm config"):
        rank(MIXTRAL, BUCKET, replace(TURING, smem_per_block=64), random.Random(0), samples=10)
