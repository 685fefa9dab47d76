"""Whole layers of emulated kernels, launched by the engine's own code, against transformers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine import MoE, MoEConfig, TunedKernels
from search_spaces import Problem, find_gpu, space_for
from search_spaces.gate_problem import GateProblem
from templates import CompilePool
from tests.emulator.emulated_kernels import EmulatedLaunches, emulated_kernels
from tests.engine.moe_families import Case, make_case
from tests.engine.test_moe_parity import assert_close


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "deepseek_v3"])
def test_gate_and_two_gemms_make_a_layer(family: str, tmp_path: Path, pool: CompilePool) -> None:
    """Few tokens and many; memory is poisoned before each."""
    kernels, launches = emulated_kernels(str(tmp_path / "none.sqlite"), pool)
    for count, routing in ((1, "uniform"), (19, "one")):
        run_layer(make_case(family, routing, seed=count), count, kernels, launches)
    assert 2 * 3 <= launches.launches <= 2 * 5


def test_passes_of_their_own_sort_and_combine(tmp_path: Path, pool: CompilePool) -> None:
    kernels, launches = emulated_kernels(str(tmp_path / "none.sqlite"), pool)
    case = make_case("qwen3_moe", "skewed", seed=3)
    gate, _, down = MoEConfig.from_hf(case.config).problem.parts
    kernels.force(gate, changed(gate, tail="pass"))
    kernels.force(down, changed(down, combine="reduce"))
    run_layer(case, 19, kernels, launches)
    assert launches.launches == 5


def changed(problem: GateProblem | Problem, **values: str) -> str:
    """The default config with another value for a parameter."""
    default = space_for(problem.op).view(problem, find_gpu("RTX 2080 Ti")).default()
    return str(replace(default, **values))


def run_layer(case: Case, count: int, kernels: TunedKernels, launches: EmulatedLaunches) -> None:
    layer = MoE.from_hf(case.state, case.config, kernels, max_tokens=count)
    hidden = case.tokens(count, seed=count)
    out = torch.full_like(hidden, torch.nan)
    buffers = layer.workspace.buffers(count)
    buffers.activations.fill_(torch.nan)
    launches.know(vars(buffers.routing).values())
    launches.know([hidden, out, buffers.activations, *layer.buffers()])
    layer(hidden, out=out)
    assert_close(out, case.expected(hidden))
