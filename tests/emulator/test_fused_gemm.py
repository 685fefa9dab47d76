"""Gated epilogues, gathered and combined rows, emulated against torch in fp32."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from search_spaces import Bucket, GroupedGemmConfig, Numerics, Problem, find_gpu, space_for
from search_spaces.problem import EPILOGUES, GATED
from templates import Built, CompilePool, Target, launch_shape, render
from tests.emulator.all_pairs import Case
from tests.emulator.planted import Edit, built_with
from tests.emulator.value_cover import cover_values
from tuner.emulated_gemm import check_config
from tuner.emulated_passes import emulate_passes
from tuner.emulator import EmulationFault, FaultKind, Unwritten
from tuner.inputs import Inputs, draw_inputs
from tuner.small_problem import small_problem

SPACE, WIDEST = space_for("grouped_gemm"), find_gpu("H200")
PTX_ONLY = Target("compute_75", ())
# Tails in N and K and more experts than a warp scans at a time; whole tiles, and three experts a
# token, of which the last lacks some.
TAILS = Problem("grouped_gemm", 64, 2064, 4104, 2, numerics=Numerics.FP16)
WHOLE = Problem("grouped_gemm", 8, 2048, 4096, 3, numerics=Numerics.FP16)
FUSIONS = {
    "plain.gather": replace(TAILS, gather=True),
    "swiglu": replace(WHOLE, epilogue="swiglu"),
    "swiglu.gather": replace(TAILS, epilogue="swiglu", gather=True),
    "geglu": replace(TAILS, epilogue="geglu"),
    "reglu.gather": replace(WHOLE, epilogue="reglu", gather=True),
    "combine": replace(TAILS, combine="any"),
    "combine, whole": replace(WHOLE, combine="any"),
}
COMBINES = {"": {"none"}, "any": {"ordered", "atomic", "reduce"}}
TOKENS_WIDE = GroupedGemmConfig.parse("16x32x32_w1x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g4_k1")
TOKENS_NARROW = GroupedGemmConfig.parse("8x32x32_w1x2x1_s2_sw2.3.3_f32_r2x8_nm_ca_o1_g4_k1")
SPLIT = GroupedGemmConfig.parse("16x32x32_w1x2x2_s1_pad8_f16p2_r1x8_mn_cg_o1_g4_k2")
SPLIT_NARROW = GroupedGemmConfig.parse("8x64x32_w1x2x2_s1_pad8_f16p2_r1x8_nm_cg_o1_g4_k2")
BY_HAND = (TOKENS_WIDE, TOKENS_NARROW, SPLIT, SPLIT_NARROW)
SMALL = Problem("grouped_gemm", 4, 48, 264, 2, numerics=Numerics.FP16)
ROWS = (5, 0, 18, 1)


@cache
def cases(fusion: str) -> list[Case]:
    return cover_values(SPACE, fusion, FUSIONS[fusion], WIDEST, seed=11)


def build(pool: CompilePool, problem: Problem, *configs: GroupedGemmConfig) -> list[Built]:
    results = list(pool.build([render(problem, config) for config in configs], PTX_ONLY))
    return [one for one in results if isinstance(one, Built)]


def test_the_cases_hold_every_value_with_each_fusion() -> None:
    assert {problem.epilogue for problem in FUSIONS.values()} == set(EPILOGUES)
    for fusion, problem in FUSIONS.items():
        for parameter in SPACE.parameters:
            shown = {getattr(case.config, parameter.name) for case in cases(fusion)}
            values = set(parameter.values)
            wanted = COMBINES[problem.combine] if parameter.name == "combine" else values
            assert shown == wanted, (fusion, parameter.name)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_value_agrees_with_torch(fusion: str, pool: CompilePool) -> None:
    """All of C and its guard rows; a ragged histogram with an expert that has no rows."""
    some = cases(fusion)
    small = [small_problem(case.problem, case.config) for case in some]
    variants = [render(s.problem, c.config) for s, c in zip(small, some, strict=True)]
    for number, built in enumerate(pool.build(variants, PTX_ONLY)):
        assert isinstance(built, Built), built
        config, problem = some[number].config, small[number].problem
        found = check_config(problem, config, built, small[number].histogram, seed=number)
        assert found.ok, f"{config} on {problem}: {found.reason}"


@pytest.mark.parametrize("config", BY_HAND, ids=str)
def test_all_numbers_of_rows(config: GroupedGemmConfig, pool: CompilePool) -> None:
    """From one row to two tiles, over experts some of which have none, top_k from 1 to 4."""
    problem = replace(SMALL, epilogue="swiglu", gather=True)
    [built] = build(pool, problem, config)
    for rows in range(1, 2 * config.tile_m + 1):
        rng = random.Random(rows)
        cuts = sorted(rng.choices(range(rows + 1), k=3))
        histogram = [b - a for a, b in zip([0, *cuts], [*cuts, rows], strict=True)]
        drawn = replace(problem, top_k=rng.randint(1, 4))  # no part of the machine code
        found = check_config(drawn, config, built, histogram, seed=rows)
        assert found.ok, f"{histogram}: {found.reason}"


def launched(built: Built, inputs: Inputs, config: GroupedGemmConfig) -> torch.Tensor:
    """C of one emulated launch."""
    shape = launch_shape(inputs.problem, config, inputs.rows)
    counters = torch.zeros(shape.counters, dtype=torch.int32)
    a, b, c, *others = inputs.operands
    emulate_passes(built, shape, (a, b, Unwritten(c), *others), counters)
    return inputs.c.float()


def drawn(problem: Problem, seed: int = 1) -> Inputs:
    inputs = draw_inputs(problem, Bucket(6.0), ROWS, seed, torch.device("cpu"))
    inputs.poison()
    return inputs


@pytest.mark.parametrize("epilogue", GATED)
@pytest.mark.parametrize("config", (TOKENS_WIDE, TOKENS_NARROW, SPLIT), ids=str)
def test_large_activations_saturate(
    config: GroupedGemmConfig, epilogue: str, pool: CompilePool
) -> None:
    """Gates and ups of some hundreds: products far beyond 65504, both signs, no infinity."""
    problem = replace(SMALL, epilogue=epilogue)
    [built] = build(pool, problem, config)
    inputs = drawn(problem)
    inputs.a.mul_(600)
    c, expert = launched(built, inputs, config), torch.repeat_interleave(torch.tensor(ROWS))
    sums = torch.einsum("rk,rnk->rn", inputs.a.double(), inputs.b.double()[expert])
    gate, up = sums[:, 0:8], sums[:, 8:16]  # the first block of C's columns
    far = (gate > 300) & (up.abs() > 300)
    assert far.sum() > 20
    assert torch.equal(c[:, :8][far].double(), 65504 * up[far].sign())
    assert bool(c.isfinite().all())
    assert bool((c[:, :8][gate < -400] == 0).all())  # exp(400) is an infinity on the way


@pytest.mark.parametrize(
    ("config", "epilogue"),
    [(TOKENS_WIDE, "swiglu"), (TOKENS_NARROW, "reglu"), (SPLIT, "reglu"), (SPLIT_NARROW, "geglu")],
    ids=str,
)
def test_a_nan_stays_a_nan_in_its_row(
    config: GroupedGemmConfig, epilogue: str, pool: CompilePool
) -> None:
    problem = replace(SMALL, epilogue=epilogue, gather=True)
    [built] = build(pool, problem, config)
    inputs = drawn(problem)
    inputs.a[3, 17] = torch.nan
    assert inputs.tokens is not None
    wrong = launched(built, inputs, config).isnan()
    assert torch.equal(wrong.all(dim=1), inputs.tokens == 3)
    assert torch.equal(wrong.any(dim=1), inputs.tokens == 3)


def test_an_index_beyond_the_tokens_is_out_of_bounds(pool: CompilePool) -> None:
    """On a GPU it is the caller's duty; here the emulator sees what would be read."""
    problem = replace(SMALL, gather=True)
    [built] = build(pool, problem, TOKENS_WIDE)
    inputs = drawn(problem)
    assert inputs.tokens is not None
    inputs.tokens[7] = inputs.a.shape[0]
    with pytest.raises(EmulationFault) as fault:
        launched(built, inputs, TOKENS_WIDE)
    assert fault.value.kind is FaultKind.OUT_OF_BOUNDS and "ld.global" in str(fault.value)


STAGED, EPILOGUE, ACTIVATION = "staged_tile.cuh", "epilogue.cuh", "activation.cuh"
PLANTED = {
    "row of the wrong pass": Edit(STAGED, "index[row + pass * kPassRows]", "index[row]"),
    "gate for up": Edit(
        EPILOGUE, "acc.total(low, x, 2 * y), acc.total(low, x, up)",
        "acc.total(low, x, up), acc.total(low, x, 2 * y)",
    ),
    "column of the wrong pair": Edit(EPILOGUE, "(n - within) / 2 + within", "n / 2"),
    "another activation": Edit(
        ACTIVATION, "gated_by_sigmoid(x, x)", "gated_by_sigmoid(x, 1.702f * x)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str, tmp_path: Path) -> None:
    config = GroupedGemmConfig.parse("64x32x32_w2x1x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1")
    problem = replace(SMALL, epilogue="swiglu", gather=True)
    right = built_with(problem, config, tmp_path / "right")
    assert check_config(problem, config, right, (40, 0, 70, 1), seed=1).ok
    wrong = built_with(problem, config, tmp_path / "wrong", PLANTED[bug])
    assert not check_config(problem, config, wrong, (40, 0, 70, 1), seed=1).ok
