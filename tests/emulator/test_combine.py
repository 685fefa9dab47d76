"""Rows weighted and combined in the kernel, emulated: exact sums and equal bits."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from search_spaces import Bucket, GroupedGemmConfig, Numerics, Problem, UserError
from templates import Built, CompilePool, Target, launch_shape, render
from tuner.emulated_gemm import check_config
from tuner.emulated_passes import emulate_passes
from tuner.emulator import Unwritten
from tuner.inputs import Inputs, draw_inputs

PTX_ONLY = Target("compute_75", ())
TAILS = Problem("grouped_gemm", 9, 72, 264, 2, numerics=Numerics.FP16, combine="any")
WHOLE = replace(TAILS, n=64, k=256)
WAYS = ("ordered", "atomic", "reduce")
# Tokens on either axis of the MMA; warps along K and split K, or neither.
WIDE = GroupedGemmConfig.parse("16x32x32_w1x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g4_k1")
NARROW = GroupedGemmConfig.parse("8x32x32_w1x2x1_s2_sw2.3.3_f32_r2x8_nm_ca_o1_g4_k1")
SPLIT = GroupedGemmConfig.parse("32x32x32_w2x1x2_s1_pad8_f32_r1x8_mn_cg_o1_g4_k2")
SPLIT_NARROW = GroupedGemmConfig.parse("16x64x32_w1x2x2_s3_sw2.3.3_f32_r1x8_nm_cg_o1_g4_k2")
CONFIGS = (WIDE, NARROW, SPLIT, SPLIT_NARROW)


@pytest.fixture(scope="module")
def kernels(pool: CompilePool) -> dict[tuple[Problem, GroupedGemmConfig], Built]:
    """All ways for each config, with tails; ordered without."""
    keys = [(TAILS, replace(config, combine=way)) for config in CONFIGS for way in WAYS]
    keys += [(WHOLE, replace(config, combine="ordered")) for config in CONFIGS]
    results = pool.build([render(*key) for key in keys], PTX_ONLY)
    return {
        (problem, config): built
        for (problem, config), built in zip(keys, results, strict=True)
        if isinstance(built, Built)
    }


def spread(rows: int, rng: random.Random) -> list[int]:
    """Over the nine experts, some of which have none."""
    some = rng.sample(range(9), rng.randint(1, 9))
    counts = [0] * 9
    for expert in rng.choices(some, k=rows):
        counts[expert] += 1
    return counts


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_tokens_of_any_number_of_slots(
    config: GroupedGemmConfig, way: str, kernels: dict[tuple[Problem, GroupedGemmConfig], Built]
) -> None:
    """Every element against fp32, guard rows untouched, counters zero again."""
    found = replace(config, combine=way)
    for top_k in (1, 2, 8):
        problem = replace(TAILS, top_k=top_k)  # no part of the machine code
        for tokens in (1, 7, 33):
            rng = random.Random(f"{top_k} {tokens} {config}")
            histogram = spread(tokens * top_k, rng)
            built = kernels[TAILS, found]
            result = check_config(problem, found, built, histogram, seed=rng.randrange(1 << 30))
            assert result.ok, f"top {top_k}, {histogram}: {result.reason}"


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_whole_tiles(
    config: GroupedGemmConfig, kernels: dict[tuple[Problem, GroupedGemmConfig], Built]
) -> None:
    found = replace(config, combine="ordered")
    for tokens in (1, 24):
        histogram = spread(2 * tokens, random.Random(tokens))
        result = check_config(WHOLE, found, kernels[WHOLE, found], histogram, seed=tokens)
        assert result.ok, f"{histogram}: {result.reason}"


def drawn(problem: Problem, histogram: list[int], seed: int = 1) -> Inputs:
    inputs = draw_inputs(problem, Bucket(1.0), histogram, seed, torch.device("cpu"))
    inputs.poison()
    return inputs


def launched(built: Built, inputs: Inputs, config: GroupedGemmConfig) -> torch.Tensor:
    """C of one emulated call, whose counters have to be zero again."""
    shape = launch_shape(inputs.problem, config, inputs.rows)
    counters = torch.zeros(shape.counters, dtype=torch.int32)
    a, b, c, *others = inputs.operands
    emulate_passes(built, shape, (a, b, Unwritten(c), *others), counters)
    assert not bool(counters.any())
    return inputs.c.clone()


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_ordered_and_reduced_sums_have_the_bits_of_the_stated_arithmetic(
    config: GroupedGemmConfig, kernels: dict[tuple[Problem, GroupedGemmConfig], Built]
) -> None:
    """Weights of 1 and an A of small whole numbers: each row is exact, so that the rounding of
    parts and the order of the sum alone decide the bits."""
    problem = replace(TAILS, top_k=3)
    inputs = drawn(problem, [3, 0, 9, 1, 4, 0, 10, 1, 2])
    generator = torch.Generator().manual_seed(5)
    inputs.a.copy_(torch.randint(-8, 9, inputs.a.shape, generator=generator))
    inputs.b.copy_(torch.randint(-8, 9, inputs.b.shape, generator=generator))
    assert inputs.slots is not None and inputs.weights is not None
    inputs.weights.mul_(100)
    expert = torch.repeat_interleave(torch.arange(9), torch.tensor(inputs.histogram))
    sums = torch.einsum("rk,rnk->rn", inputs.a.float(), inputs.b.float()[expert])
    parts = torch.empty(inputs.rows, 72).half()
    slots = inputs.slots.long()
    parts[slots] = (sums * inputs.weights.flatten()[slots, None]).clamp(-65504, 65504).half()
    total = torch.zeros(10, 72)
    for part in parts.view(10, 3, 72).unbind(1):
        total += part
    expected = total.clamp(-65504, 65504).half()
    for way in ("ordered", "reduce", "ordered"):
        found = replace(config, combine=way)
        inputs.poison()
        assert torch.equal(launched(kernels[TAILS, found], inputs, found), expected), way


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("config", (WIDE, NARROW), ids=str)
def test_what_exceeds_half_saturates_and_a_nan_stays(
    config: GroupedGemmConfig, way: str, kernels: dict[tuple[Problem, GroupedGemmConfig], Built]
) -> None:
    found, inputs = replace(config, combine=way), drawn(TAILS, [2, 0, 4, 0, 0, 5, 0, 0, 1])
    inputs.a.fill_(100)
    inputs.b.fill_(100)  # sums of 2,640,000, of either sign
    inputs.b[5] *= -1
    assert inputs.slots is not None and inputs.weights is not None
    inputs.weights.copy_(torch.tensor([1.0, 1.0]))
    minus = torch.zeros(12, dtype=torch.bool)
    minus[inputs.slots[6:11].long()] = True
    inputs.a[0] = torch.nan
    c = launched(kernels[TAILS, found], inputs, found)
    bad = int(inputs.slots[0]) // 2
    assert torch.equal(c.isnan().all(dim=1), torch.arange(6) == bad)
    signs = torch.where(minus, -1, 1).view(6, 2).sum(dim=1).sign()
    for token, sign in enumerate(signs.tolist()):
        if token != bad:
            assert bool((c[token] == 65504 * sign).all()), (token, sign)


def test_rows_that_are_no_whole_tokens_are_refused() -> None:
    with pytest.raises(UserError, match="7 rows are no whole tokens of top_k=2"):
        launch_shape(TAILS, replace(WIDE, combine="ordered"), 7)
