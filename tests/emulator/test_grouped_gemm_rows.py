"""Every number of rows from none to two tiles, spread over experts at random."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch

from search_spaces import GroupedGemmConfig, Numerics, Problem
from search_spaces.bucket import Bucket
from templates import Built, CompilePool, Target, launch_shape, render
from tuner.emulated_gemm import check_config
from tuner.emulated_passes import emulate_passes
from tuner.emulator import Unwritten
from tuner.inputs import GUARD_ROWS, POISON, Inputs, draw_inputs

EXPERTS = 6
# Tails in N and K; K long enough for two splits of four k-tiles.
PROBLEM = Problem("grouped_gemm", EXPERTS, 72, 264, 2, numerics=Numerics.FP16)
CONFIGS = [
    GroupedGemmConfig.parse(name)
    for name in (
        "16x64x32_w1x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g4_k1",
        "16x32x32_w1x2x2_s3_pad8_f16p2_r1x8_mn_cg_o1_g1_k2",
        "8x64x32_w1x2x1_s2_sw2.3.3_f32_r1x8_nm_cs_o1_g8_k1",
        "16x64x64_w2x2x1_s1_sw3.3.3_f16p4_r2x16_nm_nc_o1_g1_k1",
    )
]
by_config = pytest.mark.parametrize("config", CONFIGS, ids=str)


@pytest.fixture(scope="module")
def kernels() -> Iterator[dict[GroupedGemmConfig, Built]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with CompilePool(workers=1) as pool:
        variants = [render(PROBLEM, config) for config in CONFIGS]
        results = pool.build(variants, Target("compute_75", ()))
    yield {c: b for c, b in zip(CONFIGS, results, strict=True) if isinstance(b, Built)}
    torch.set_num_threads(threads)


def spread(rows: int, rng: random.Random) -> list[int]:
    """Rows per expert: each row goes to one of a few of the experts, all others stay empty."""
    some = rng.sample(range(EXPERTS), rng.randrange(1, EXPERTS + 1))
    counts = Counter(rng.choices(some, k=rows))
    return [counts[expert] for expert in range(EXPERTS)]


@by_config
def test_all_numbers_of_rows(
    config: GroupedGemmConfig, kernels: dict[GroupedGemmConfig, Built]
) -> None:
    for rows in range(1, 2 * config.tile_m + 1):
        histogram = spread(rows, random.Random(rows))
        found = check_config(PROBLEM, config, kernels[config], histogram, seed=rows)
        assert found.ok, f"{histogram}: {found.reason}"


@by_config
@pytest.mark.parametrize("one", [0, EXPERTS - 1])
def test_all_rows_at_the_first_or_the_last_expert(
    config: GroupedGemmConfig, one: int, kernels: dict[GroupedGemmConfig, Built]
) -> None:
    """Where tiles end: a row before, none, and a row after."""
    for tiles in (1, 2):
        for rows in (tiles * config.tile_m + beyond for beyond in (-1, 0, 1)):
            histogram = [rows if expert == one else 0 for expert in range(EXPERTS)]
            found = check_config(PROBLEM, config, kernels[config], histogram, seed=rows)
            assert found.ok, f"{histogram}: {found.reason}"


@by_config
@pytest.mark.parametrize("rows", [0, 5])
def test_a_grid_for_more_rows_than_there_are(
    config: GroupedGemmConfig, rows: int, kernels: dict[GroupedGemmConfig, Built]
) -> None:
    """A captured graph keeps its grid: what is beyond the last row, or no row at all, is left."""
    most, histogram = 2 * config.tile_m, spread(rows, random.Random(1))
    inputs = draw_inputs(PROBLEM, Bucket(1), histogram, 1, torch.device("cpu"))
    inputs.poison()
    _launch(inputs, config, kernels[config], most)
    c = inputs.guarded_c.view(torch.int16)
    assert bool((c[:GUARD_ROWS] == POISON).all()) and bool((c[GUARD_ROWS + rows :] == POISON).all())
    expected = _reference(inputs)
    torch.testing.assert_close(inputs.c.float(), expected, rtol=2e-3, atol=5e-3)


def _launch(inputs: Inputs, config: GroupedGemmConfig, built: Built, most_rows: int) -> None:
    """With a grid, a workspace and counters for ``most_rows``."""
    shape = launch_shape(PROBLEM, config, most_rows)
    counters = torch.zeros(shape.counters, dtype=torch.int32)
    a, b, c, *others = inputs.operands
    emulate_passes(built, shape, (a, b, Unwritten(c), *others), counters)
    assert not bool(counters.any())


def _reference(inputs: Inputs) -> torch.Tensor:
    ends = pairwise(inputs.offsets.tolist())
    parts = [
        inputs.a[first:last].float() @ inputs.b[expert].float().T
        for expert, (first, last) in enumerate(ends)
    ]
    return torch.cat(parts)
