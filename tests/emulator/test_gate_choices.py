"""Given logits: every kind of choice, emulated against brute force to the last id."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from search_spaces.gate_problem import GateProblem
from templates import CompilePool
from tests.emulator.gates import BuiltGate, build

V2 = GateProblem(160, 0, 6, "bf16", groups=8, topk_group=3)
V3 = GateProblem(
    256, 0, 8, "f32", "sigmoid", bias=True, groups=8, topk_group=4, group_score="top2",
    renormalise=True, shared=1,
)  # fmt: skip
# All lane counts and both tails; lanes without an expert, groups over several lanes, several
# groups in a lane, groups of odd sizes; every width of load.
KERNELS = {
    "one expert": (GateProblem(1, 0, 1), "none4x0x0_w2x1x1_s1_te_k1_l4_last"),
    "seven of seven": (GateProblem(7, 0, 7, "f32"), "none4x0x0_w2x1x1_s1_te_k1_l4_pass"),
    "mixtral": (GateProblem(8, 0, 2, renormalise=True), "none16x0x0_w2x1x1_s1_te_k1_l4_last"),
    "qwen1.5": (
        GateProblem(60, 0, 4, shared=4, score="sigmoid"), "none8x0x0_w4x1x1_s1_te_k1_l8_pass",
    ),
    "olmoe": (GateProblem(64, 0, 8), "none32x0x0_w2x1x1_s1_te_k1_l16_last"),
    "qwen3": (
        GateProblem(128, 0, 8, "bf16", renormalise=True), "none1x0x0_w2x1x1_s1_te_k1_l32_last",
    ),
    "deepseek-v2": (V2, "none8x0x0_w4x1x1_s1_te_k1_l32_pass"),
    "deepseek-v2, 8 lanes": (V2, "none64x0x0_w2x1x1_s1_te_k1_l8_pass"),
    "deepseek-v3": (V3, "none4x0x0_w2x1x1_s1_te_k1_l16_last"),
    "top 2 of softmax": (
        GateProblem(27, 0, 5, "f32", groups=3, topk_group=2, group_score="top2"),
        "none8x0x0_w2x1x1_s1_te_k1_l16_pass",
    ),
    "a group an expert": (
        GateProblem(48, 0, 5, "f16", "softmax", bias=True, groups=48, topk_group=6),
        "none8x0x0_w2x1x1_s1_te_k1_l8_last",
    ),
    "all it can": (GateProblem(2048, 0, 32), "none2x0x0_w2x1x1_s1_te_k1_l32_pass"),
}  # fmt: skip


@pytest.fixture(scope="module")
def gates(pool: CompilePool) -> Iterator[dict[str, BuiltGate]]:
    yield dict(zip(KERNELS, build(pool, *KERNELS.values()), strict=True))


def most_tokens(gate: BuiltGate) -> int:
    return 5 if gate.problem.experts > 1000 else 33


@pytest.mark.parametrize("name", KERNELS)
def test_random_logits(name: str, gates: dict[str, BuiltGate]) -> None:
    gate = gates[name]
    gate.check(gate.drawn(most_tokens(gate)))


@pytest.mark.parametrize("name", KERNELS)
def test_ties_go_to_the_lower_expert(name: str, gates: dict[str, BuiltGate]) -> None:
    """Logits of three values, both zeros among them: nearly every choice is one among equals."""
    gate = gates[name]
    inputs = gate.drawn(7 if most_tokens(gate) > 7 else 2)
    inputs.x.copy_(inputs.x.round().clamp(-1, 1))
    assert bool((inputs.x.signbit() & (inputs.x == 0)).any())
    if inputs.bias is not None:
        inputs.bias.copy_((2 * inputs.bias).round())  # sums that are equal in fp64 are in fp32
        inputs.x.zero_()
    gate.check(inputs)


@pytest.mark.parametrize("name", KERNELS)
def test_nan_and_infinity(name: str, gates: dict[str, BuiltGate]) -> None:
    """A NaN is chosen after -inf; ids stay valid and distinct, and the flag tells."""
    gate = gates[name]
    inputs = gate.drawn(9 if most_tokens(gate) > 9 else 3, seed=2)
    generator = torch.Generator().manual_seed(3)
    fate = torch.rand(inputs.x.shape, generator=generator)
    inputs.x[fate < 0.6] = -torch.inf
    inputs.x[fate < 0.3] = torch.nan
    inputs.x[0] = 1.0
    inputs.x[1:, 0] = 0.5
    inputs.x[2] = torch.nan
    gate.check(inputs)


@pytest.mark.parametrize("tokens", [0, 1, 7, 33, 65])
@pytest.mark.parametrize("name", ["qwen1.5", "qwen3", "deepseek-v2", "deepseek-v3"])
def test_numbers_of_tokens(name: str, tokens: int, gates: dict[str, BuiltGate]) -> None:
    """None, parts of a block, blocks and a part."""
    gates[name].check(gates[name].drawn(tokens, seed=tokens))


def test_large_logits(gates: dict[str, BuiltGate]) -> None:
    """Beyond what exp can hold: softmax subtracts the largest, sigmoids saturate."""
    for name in ("olmoe", "qwen1.5"):
        inputs = gates[name].drawn(8)
        inputs.x.mul_(300)
        gates[name].check(inputs)


def test_a_flag_that_was_set_stays(gates: dict[str, BuiltGate]) -> None:
    gate = gates["olmoe"]
    inputs = gate.drawn(3)
    inputs.x[1, 5] = torch.nan
    gate.run(inputs)
    assert int(inputs.result("flag")) == 1
