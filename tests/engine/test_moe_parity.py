"""MoE layers on a CPU against transformers' blocks in fp32: six families, all kinds of routing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine import TunedKernels
from engine.layers import MoE
from tests.engine.moe_families import FAMILIES, HIDDEN, ROUTINGS, make_case

TOKENS = (0, 1, 7, 64, 513, 4096)
# A rounded activation, a rounded row and a rounded sum, 2^-11 each, against the largest of a token.
TOLERANCE = 3 * 2**-11


@pytest.fixture
def kernels(tmp_path: Path) -> TunedKernels:
    return TunedKernels(tmp_path / "none.sqlite", "cpu")


@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_answer_what_transformers_answers(
    family: str, routing: str, kernels: TunedKernels
) -> None:
    case = make_case(family, routing, seed=11)
    layer = MoE.from_hf(case.state, case.config, kernels)
    for count in TOKENS:
        hidden = case.tokens(count, seed=count)
        out = torch.full_like(hidden, torch.nan)
        assert layer(hidden, out=out) is out
        assert_close(out, case.expected(hidden))


def test_all_tokens_go_to_one_expert_where_that_is_asked_for(kernels: TunedKernels) -> None:
    case = make_case("deepseek_v3", "one", seed=5)
    layer = MoE.from_hf(case.state, case.config, kernels)
    layer(case.tokens(64, seed=1))
    loads = layer.workspace.buffers(64).routing.offsets.diff()
    assert loads.tolist() == [64] * 4 + [0] * 12 + [64] * 2


def test_a_block_itself_and_its_state_make_the_same_layer(kernels: TunedKernels) -> None:
    case = make_case("qwen3_moe", "uniform", seed=6)
    hidden = case.tokens(9, seed=2)
    ours = MoE.from_hf(case.block.half(), case.config, kernels)(hidden)
    assert torch.equal(ours, MoE.from_hf(case.state, case.config.to_dict(), kernels)(hidden))


@pytest.mark.parametrize("activation", ["gelu_pytorch_tanh", "relu"])
def test_other_activations(activation: str, kernels: TunedKernels) -> None:
    case = make_case("mixtral", "uniform", seed=7, hidden_act=activation)
    hidden = case.tokens(33, seed=3)
    assert_close(MoE.from_hf(case.state, case.config, kernels)(hidden), case.expected(hidden))


def test_deepseek_v2_without_groups(kernels: TunedKernels) -> None:
    case = make_case("deepseek_v2", "uniform", seed=8, topk_method="greedy")
    hidden = case.tokens(33, seed=4)
    assert_close(MoE.from_hf(case.state, case.config, kernels)(hidden), case.expected(hidden))


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Each token within TOLERANCE of its largest element.

    One in a thousand may differ: sums in another order can swap two experts whose scores are
    within 1e-6 of each other.
    """
    assert found.dtype is torch.float16 and found.shape == expected.shape
    assert expected.shape[1] == HIDDEN
    error = (found.float() - expected).abs().amax(dim=1)
    wrong = error > TOLERANCE * expected.abs().amax(dim=1)
    assert int(wrong.sum()) <= len(found) // 1000, f"{wrong.nonzero().flatten().tolist()}"
