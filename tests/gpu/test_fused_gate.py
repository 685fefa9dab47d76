"""Generated gates on a GPU against torch in fp32, at full size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import pytest
import torch

from search_spaces import space_for
from search_spaces.gate import GateConfig
from search_spaces.gate_problem import GateProblem
from templates import CompilePool
from templates.device import device_spec
from templates.fused_gate import launch_shape
from tests.gpu.compiled import begin, jobs
from tests.pairs import covering
from tuner.bound_kernel import BoundKernel, bind_all
from tuner.gate_inputs import GateInputs, draw_gate_inputs
from tuner.gate_verdict import check_routing, reference_of
from tuner.job import Job

pytestmark = pytest.mark.gpu

DEVICE = torch.device("cuda")
SPACE = space_for("fused_gate")
TOKENS = (1, 7, 64, 513, 8192)
V3 = GateProblem(256, 7168, 8, "bf16", "sigmoid", True, 8, 4, "top2", True, 1)
MODELS = {
    "mixtral-8x7b": GateProblem(8, 4096, 2, renormalise=True),
    "mixtral-8x22b": GateProblem(8, 6144, 2, renormalise=True),
    "qwen2-57b-a14b": GateProblem(64, 3584, 8, shared=8, shared_gate=True),
    "qwen3-30b-a3b": GateProblem(128, 2048, 8, renormalise=True),
    "olmoe-1b-7b": GateProblem(64, 2048, 8),
    "deepseek-v2-lite": GateProblem(64, 2048, 6, shared=2),
    "deepseek-v3": V3,
    "logits": GateProblem(128, 0, 8, renormalise=True),
    "logits, most": GateProblem(2048, 0, 32, "f32"),
}
PAIRED = ("qwen3-30b-a3b", "deepseek-v3", "logits")
ALL = tuple(parameter.name for parameter in SPACE.parameters)
Covers: TypeAlias = "dict[str, tuple[list[GateConfig], list[GateConfig]]]"


@pytest.fixture(scope="module", autouse=True)
def covers(pool: CompilePool) -> Covers:
    """Configs by model: the default and some others, and where all pairs are asked for, those.

    The compilers have all of them at once.
    """
    found = {}
    for model, problem in MODELS.items():
        view = SPACE.view(problem, device_spec())
        few = covering(view, ("router", "tail", "swap"), seed=21, draws=60)
        pairs = covering(view, ALL, seed=22, draws=60) if model in PAIRED else []
        found[model] = [view.default(), *few], pairs
    every = [(MODELS[model], config) for model in found for some in found[model] for config in some]
    begin(pool, every)
    return found


def bound(some: Sequence[Job], inputs: GateInputs) -> list[BoundKernel]:
    shapes = [
        launch_shape(inputs.problem, job.config, inputs.tokens, inputs.scaling) for job in some
    ]
    return bind_all(some, shapes, inputs.operands, DEVICE)


def run(kernel: BoundKernel, inputs: GateInputs) -> None:
    inputs.poison()
    kernel()
    torch.cuda.synchronize()
    assert kernel.counters_are_zero()


def check_everywhere(some: Sequence[Job], problem: GateProblem, tokens: int) -> None:
    inputs = draw_gate_inputs(problem, tokens, tokens, DEVICE)
    reference = reference_of(inputs)
    for job, kernel in zip(some, bound(some, inputs), strict=True):
        run(kernel, inputs)
        verdict = check_routing(inputs, reference)
        assert verdict.ok, f"{job.config}, {tokens} tokens: {verdict.reason}"


@pytest.mark.parametrize("model", MODELS)
def test_defaults_and_some_others_at_every_size(
    model: str, pool: CompilePool, covers: Covers
) -> None:
    problem = MODELS[model]
    some = jobs(pool, problem, covers[model][0])
    for tokens in TOKENS:
        check_everywhere(some, problem, tokens)


@pytest.mark.parametrize("model", PAIRED)
def test_all_pairs_of_parameters(model: str, pool: CompilePool, covers: Covers) -> None:
    problem = MODELS[model]
    some = jobs(pool, problem, covers[model][1])
    for tokens in (1, 513):
        check_everywhere(some, problem, tokens)


def test_no_tokens(pool: CompilePool) -> None:
    names = ("none8x0x0_w2x1x1_s1_te_k1_l8_pass", "none8x0x0_w2x1x1_s1_te_k1_l8_last")
    problem = MODELS["logits"]
    inputs = draw_gate_inputs(problem, 0, 1, DEVICE)
    for kernel in bound(jobs(pool, problem, [*map(GateConfig.parse, names)]), inputs):
        run(kernel, inputs)
        assert not bool(inputs.result("offsets").any())


def test_parts_give_the_same_bits_every_time(pool: CompilePool) -> None:
    """Whichever CTA comes last: it adds in order."""
    problem = MODELS["qwen3-30b-a3b"]
    name = "mma16x32x64_w1x2x2_s2_te_k8_l8_last"
    inputs = draw_gate_inputs(problem, 200, 1, DEVICE)
    [kernel] = bound(jobs(pool, problem, [GateConfig.parse(name)]), inputs)
    run(kernel, inputs)
    first = {key: inputs.result(key).clone() for key in inputs.guarded}
    for _ in range(50):
        run(kernel, inputs)
        for key, value in first.items():
            assert torch.equal(inputs.result(key), value), key


@pytest.mark.parametrize("model", ["logits", "qwen3-30b-a3b"])
def test_a_nan_is_told_and_stays_in_its_token(model: str, pool: CompilePool) -> None:
    problem = replace(MODELS[model], dtype="f16")
    inputs = draw_gate_inputs(problem, 700, 3, DEVICE)
    inputs.x[313, 77] = torch.nan
    default = SPACE.view(problem, device_spec()).default()
    [kernel] = bound(jobs(pool, problem, [default]), inputs)
    run(kernel, inputs)
    assert int(inputs.result("flag")) == 1
    assert bool(inputs.result("weights")[:313].isfinite().all())
    ids = inputs.result("ids").sort(dim=1).values
    assert bool((ids[:, 1:] > ids[:, :-1]).all())
    assert int(ids.min()) >= 0 and int(ids.max()) < problem.experts
