"""Generated grouped GEMM kernels on a GPU against torch in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import pytest
import torch

from search_spaces import GroupedGemmConfig, Numerics, Problem, space_for
from search_spaces.bucket import Bucket
from search_spaces.numerics import tolerance, worst_case
from search_spaces.problem import EPILOGUES
from templates import CompilePool, launch_shape
from templates.device import device_spec
from tests.gpu.compiled import begin, jobs
from tests.pairs import covering
from tuner.bound_kernel import BoundKernel, bind
from tuner.inputs import Inputs, draw_inputs
from tuner.reference import Reference, full_reference
from tuner.verify import check_values, check_writes

pytestmark = pytest.mark.gpu

DEVICE = torch.device("cuda")
RAGGED = Problem("grouped_gemm", 5, 520, 1000, 2, numerics=Numerics.FP16)
WHOLE = Problem("grouped_gemm", 8, 1024, 2048, 2, numerics=Numerics.FP16)
HISTOGRAMS = ([3, 0, 70, 1, 130], [0, 0, 0, 0, 517], [1, 1, 0, 0, 0], [0, 257, 256, 255, 0])
SPACE = space_for("grouped_gemm")
ALL = tuple(parameter.name for parameter in SPACE.parameters)
Covers: TypeAlias = "dict[Problem, list[GroupedGemmConfig]]"
SPLIT = GroupedGemmConfig.parse("16x64x64_w1x2x2_s2_sw3.3.3_f32_r1x16_mn_cs_o1_g8_k8")


@pytest.fixture(scope="module")
def covers(pool: CompilePool) -> Covers:
    """Configs by problem: every pair of parameters, or with each epilogue a few.

    The compilers have all of them at once.
    """
    ragged, whole = (SPACE.view(problem, device_spec()) for problem in (RAGGED, WHOLE))
    found: Covers = {
        RAGGED: covering(ragged, ALL, seed=11, draws=100),
        WHOLE: covering(whole, ALL, seed=11, draws=100),
    }
    for seed, problem in enumerate(map(gathered, EPILOGUES)):
        # Drawn from a space that has been counted, which takes seconds.
        keep = partial(is_valid, problem)
        found[problem] = covering(ragged, ("swap", "stages"), seed, draws=60, keep=keep)
    begin(pool, [(problem, config) for problem in found for config in found[problem]])
    return found


def is_valid(problem: Problem, config: GroupedGemmConfig) -> bool:
    return not SPACE.view(problem, device_spec()).explain(config)


def gathered(epilogue: str) -> Problem:
    return replace(RAGGED, n=528, epilogue=epilogue, gather=True)


def inputs_of(problem: Problem, histogram: Sequence[int], seed: int = 0) -> Inputs:
    counts = [*histogram, *[0] * (problem.experts - len(histogram))]
    bucket = Bucket(max(sum(counts), 1) / problem.experts)
    return draw_inputs(problem, bucket, counts, seed, DEVICE)


def run(kernel: BoundKernel, inputs: Inputs) -> None:
    inputs.poison()
    kernel()
    torch.cuda.synchronize()
    reason = check_writes(inputs)
    assert reason is None, reason
    assert kernel.counters_are_zero()


def check_everywhere(
    pool: CompilePool, problem: Problem, configs: Sequence[GroupedGemmConfig]
) -> None:
    built = jobs(pool, problem, configs)
    for histogram in HISTOGRAMS:
        inputs = inputs_of(problem, histogram, seed=sum(histogram))
        reference = list(full_reference(inputs))
        for job, kernel in zip(built, bind(built, inputs), strict=True):
            run(kernel, inputs)
            verdict = check_values(inputs.c, reference, tolerance(job.config.acc, problem.k))
            assert verdict.ok, f"{job.config} on {histogram}: {verdict.reason}"


@pytest.mark.parametrize("problem", [RAGGED, WHOLE], ids=["ragged", "whole"])
def test_all_pairs_of_parameters(problem: Problem, pool: CompilePool, covers: Covers) -> None:
    check_everywhere(pool, problem, covers[problem])


@pytest.mark.parametrize("epilogue", EPILOGUES)
def test_gathered_rows_and_gated_epilogues(
    epilogue: str, pool: CompilePool, covers: Covers
) -> None:
    problem = gathered(epilogue)
    check_everywhere(pool, problem, covers[problem])


@pytest.mark.parametrize("swap", [False, True])
def test_every_row_count_from_none_to_two_tiles(swap: bool, pool: CompilePool) -> None:
    config = replace(SPLIT, split_k=1, swap=swap)
    [job] = jobs(pool, RAGGED, [config])
    for rows in range(2 * config.tile_m + 1):
        inputs = inputs_of(RAGGED, [0, rows], seed=rows)
        if rows == 0:
            assert launch_shape(RAGGED, config, 0).passes[0].grid[0] == 0  # nothing to launch
            continue
        run(bind([job], inputs)[0], inputs)
        verdict = check_values(inputs.c, full_reference(inputs), tolerance("f32", RAGGED.k))
        assert verdict.ok, f"{rows} rows: {verdict.reason}"


def test_split_k_gives_the_same_bits_every_time(pool: CompilePool) -> None:
    [job] = jobs(pool, WHOLE, [SPLIT])
    inputs = inputs_of(WHOLE, [17, 3, 0, 40, 1, 8, 9, 2])
    kernel = bind([job], inputs)[0]
    run(kernel, inputs)
    first = inputs.c.clone()
    for _ in range(50):
        run(kernel, inputs)
        assert torch.equal(inputs.c, first)


def absolute_reference(inputs: Inputs) -> list[Reference]:
    """fp64 products; ``scale`` is sum |a b|, what the worst-case bound wants."""
    a, b = inputs.a.double(), inputs.b[0].double()
    rows = torch.arange(inputs.rows, device=DEVICE)
    return [Reference(rows, (a @ b.T).float(), (a.abs() @ b.abs().T).float())]


def test_outliers_and_equal_signs_over_long_sums(pool: CompilePool) -> None:
    """K = 14336, Mixtral's longest sum, with operands that make rounding as bad as it gets."""
    problem = Problem("grouped_gemm", 1, 256, 14336, 1, numerics=Numerics.FP16)
    accs = ("f32", "f16p1", "f16p4", "f16p8", "f16")
    names = [f"64x64x64_w2x2x1_s2_sw3.3.3_{acc}_r1x8_mn_ca_o1_g8_k1" for acc in accs]
    built = jobs(pool, problem, [GroupedGemmConfig.parse(name) for name in names])
    inputs = inputs_of(problem, [96])
    inputs.a.index_fill_(1, torch.arange(7, problem.k, 1024, device=DEVICE), 30.0)
    for equal_signs in (False, True):
        if equal_signs:
            inputs.a.abs_()
            inputs.b.abs_()
        reference = absolute_reference(inputs)
        for acc, kernel in zip(accs, bind(built, inputs), strict=True):
            run(kernel, inputs)
            verdict = check_values(inputs.c, reference, worst_case(acc, problem.k))
            assert verdict.ok, f"{acc}: {verdict.reason}"


def test_fp16_sums_overflow_where_promoted_sums_do_not(pool: CompilePool) -> None:
    """The documented difference: a sum beyond 65504 on the way to a small result."""
    problem = Problem("grouped_gemm", 1, 64, 4096, 1, numerics=Numerics.FP16)
    base = GroupedGemmConfig.parse("64x64x64_w2x2x1_s2_sw3.3.3_f16_r1x8_mn_ca_o1_g8_k1")
    inputs = inputs_of(problem, [64])
    inputs.a.fill_(8.0)
    inputs.b[:, :, : problem.k // 2] = 8.0
    inputs.b[:, :, problem.k // 2 :] = -8.0
    accs = ("f16", "f16p8", "f32")
    built = jobs(pool, problem, [replace(base, acc=acc) for acc in accs])
    finite = {}
    for acc, kernel in zip(accs, bind(built, inputs), strict=True):
        run(kernel, inputs)
        finite[acc] = bool(inputs.c.isfinite().all())
    assert finite == {"f16": False, "f16p8": True, "f32": True}
