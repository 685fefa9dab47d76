"""rank: valid, diverse, better than chance, and the same for the same seed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from search_spaces import (
    Bucket,
    GroupedGemmConfig,
    UserError,
    load_model,
    predict,
    rank,
    space_for,
)
from search_spaces.grouped_gemm_space import GROUPED_GEMM
from search_spaces.ranking import PROMOTION_PRICE
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
    scores = [
        time * (1 if config.acc == "f32" else PROMOTION_PRICE)
        for config, time in zip(ranked, times(ranked), strict=True)
    ]
    assert scores == sorted(scores)


def test_ranked_configs_are_diverse(ranked: list[GroupedGemmConfig]) -> None:
    families = Counter(
        (c.tile_m, c.tile_n, c.tile_k, c.warps_m, c.warps_n, c.warps_k, c.swap) for c in ranked
    )
    assert len(families) >= 40 / 3
    assert max(families.values()) <= 3
    assert len({(c.tile_m, c.tile_n, c.tile_k) for c in ranked}) >= 6
    assert len({c.stages for c in ranked}) > 1
    assert len({c.tile_k for c in ranked}) > 1


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


@pytest.mark.parametrize("tokens", [0.25, 1, 4, 16])
def test_few_tokens_stream_long_pieces_with_warps_along_k(tokens: float) -> None:
    # on an H100 these families led: tile_k 128, tiles of 32 or 64 columns, two warps along K
    configs = rank(MIXTRAL, Bucket(tokens), HOPPER, random.Random(3), limit=16)
    assert configs[0].tile_k == 128
    assert any(c.tile_k == 128 and c.warps_k == 2 and c.tile_n <= 64 for c in configs)
    assert any(c.tile_k == 64 for c in configs)
    assert not any(c.tile_k == 32 for c in configs[:8])


def test_many_tokens_take_large_tiles_of_64_by_64_warps() -> None:
    configs = rank(MIXTRAL, Bucket(2048), HOPPER, random.Random(3), limit=16)
    tiles = {(c.tile_m, c.tile_n, c.tile_k) for c in configs[:5]}
    assert {(256, 128, 64), (128, 256, 64)} & tiles
    best = configs[0]
    assert (best.tile_m // best.warps_m, best.tile_n // best.warps_n) == (64, 64)


def test_fp16_sums_must_buy_time() -> None:
    # bound by memory, they buy none; on GeForce Turing they double the rate of the MMAs
    few, many = (
        rank(MIXTRAL, Bucket(tokens), TURING, random.Random(3), limit=8) for tokens in (4, 1024)
    )
    assert few[0].acc == "f32"
    assert many[0].acc.startswith("f16p")


def test_small_spaces_give_what_there_is() -> None:
    problem = replace(load_model("olmoe-1b-7b").problem("down"), n=8, k=8)
    configs = rank(problem, Bucket(1), TURING, random.Random(0), samples=300)
    view = GROUPED_GEMM.view(problem, TURING)
    assert 0 < len(configs) <= 64
    assert all(view.explain(config) == [] for config in configs)


def test_no_valid_config_is_told() -> None:
    with pytest.raises(UserError, match="no valid grouped_gemm config"):
        rank(MIXTRAL, BUCKET, replace(TURING, smem_per_block=64), random.Random(0), samples=10)


def test_gates_are_ranked_by_their_own_model() -> None:
    gate, bucket, limit = load_model("qwen3-30b-a3b").gate(), Bucket(16), 32
    ranked = rank(gate, bucket, TURING, random.Random(7), samples=600, limit=limit)
    view = space_for(gate.op).view(gate, TURING)
    assert len(ranked) == len({config.compile_key for config in ranked}) == limit
    assert all(view.explain(config) == [] for config in ranked)
    rows = bucket.histogram(gate, 0)
    scores = [predict(gate, config, TURING, rows).total_us for config in ranked]
    assert scores == sorted(scores)
    assert scores[0] < predict(gate, view.default(), TURING, rows).total_us
    # The model is a guess: neither a tail nor a number of lanes may fill the list.
    for name in ("tail", "lanes"):
        assert max(Counter(getattr(config, name) for config in ranked).values()) <= limit / 2
