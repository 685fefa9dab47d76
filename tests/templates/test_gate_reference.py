"""The torch reference of a gate: against brute force, and against transformers' own routers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import (
    DeepseekV2Config,
    DeepseekV3Config,
    MixtralConfig,
    OlmoeConfig,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2TopkRouter
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter
from transformers.models.mixtral.modeling_mixtral import MixtralTopKRouter
from transformers.models.olmoe.modeling_olmoe import OlmoeTopKRouter
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeTopKRouter
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeTopKRouter

from search_spaces.gate_problem import GateProblem
from templates.gate_reference import gate_reference
from tests.gate_oracle import route_all

TOKENS, HIDDEN = 200, 64
PLAIN = GateProblem(12, 0, 3, "f32")
GROUPED = replace(PLAIN, groups=4, topk_group=2)
PROBLEMS = [
    PLAIN,
    GateProblem(1, 0, 1, "f32"),
    replace(PLAIN, top_k=12, renormalise=True),
    replace(PLAIN, score="sigmoid", bias=True, renormalise=True, shared=2),
    GROUPED,
    replace(GROUPED, group_score="top2"),
    replace(GROUPED, score="sigmoid", bias=True, group_score="top2", renormalise=True),
    replace(GROUPED, groups=12, topk_group=5, score="sigmoid", bias=True),
]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_as_by_brute_force(problem: GateProblem, logits: torch.Tensor) -> None:
    bias = drawn(problem.experts, seed=5) if problem.bias else None
    ids, weights = gate_reference(problem, logits, None, bias, 2.5)
    expected_ids, expected = route_all(problem, logits, bias, 2.5)
    assert torch.equal(ids, expected_ids)
    assert ids.dtype == torch.int32 and weights.dtype == torch.float32
    torch.testing.assert_close(weights.double(), expected, rtol=3e-6, atol=1e-30, equal_nan=True)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.key)
def test_random_logits(problem: GateProblem) -> None:
    assert_as_by_brute_force(problem, drawn(TOKENS, problem.experts))


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.key)
def test_ties_go_to_the_lower_expert(problem: GateProblem) -> None:
    """Logits of three values: nearly every choice is one among equals."""
    logits = drawn(TOKENS, problem.experts).round().clamp(-1, 1)
    assert_as_by_brute_force(replace(problem, bias=False), logits)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.key)
def test_a_nan_is_chosen_after_minus_infinity(problem: GateProblem) -> None:
    logits = drawn(TOKENS, problem.experts)
    logits[drawn(TOKENS, problem.experts, seed=1) > 0.5] = -torch.inf
    logits[drawn(TOKENS, problem.experts, seed=2) > 0.5] = torch.nan
    logits[: TOKENS // 2, 0] = 1.0  # some token with a number, some without
    assert_as_by_brute_force(replace(problem, bias=False), logits)


def test_a_shared_gate_looks_at_the_hidden_states() -> None:
    problem = GateProblem(6, HIDDEN, 2, "f32", shared=3, shared_gate=True)
    x, router = drawn(TOKENS, HIDDEN), drawn(7, HIDDEN, seed=1) / 8
    ids, weights = gate_reference(problem, x, router, None, 3.0)
    assert torch.equal(ids[:, 2:], torch.tensor([6, 7, 8]).expand(TOKENS, 3).int())
    expected = (x.double() @ router[6].double()).sigmoid()
    torch.testing.assert_close(weights[:, 2:].double(), expected[:, None].expand(TOKENS, 3))
    _, routed = route_all(replace(problem, shared=0, shared_gate=False), x @ router[:6].T, None, 3)
    torch.testing.assert_close(weights[:, :2].double(), routed, rtol=1e-5, atol=0)


def sizes(experts: str) -> dict[str, int]:
    return {experts: 16, "hidden_size": HIDDEN, "num_experts_per_tok": 4}


V2 = {**sizes("n_routed_experts"), "routed_scaling_factor": 16.0}
V3 = {**sizes("n_routed_experts"), "routed_scaling_factor": 2.5, "n_group": 4, "topk_group": 2}
BASE = GateProblem(16, HIDDEN, 4, "f32")
ROUTERS = {
    "mixtral": (
        MixtralTopKRouter, MixtralConfig(**sizes("num_local_experts")),
        replace(BASE, renormalise=True),
    ),
    "qwen2": (
        Qwen2MoeTopKRouter, Qwen2MoeConfig(**sizes("num_experts"), norm_topk_prob=False), BASE,
    ),
    "qwen3": (
        Qwen3MoeTopKRouter, Qwen3MoeConfig(**sizes("num_experts"), norm_topk_prob=True),
        replace(BASE, renormalise=True),
    ),
    "olmoe": (OlmoeTopKRouter, OlmoeConfig(**sizes("num_experts")), BASE),
    "deepseek-v2-lite": (
        DeepseekV2TopkRouter, DeepseekV2Config(**V2, topk_method="greedy"), BASE,
    ),
    "deepseek-v2": (
        DeepseekV2TopkRouter,
        DeepseekV2Config(**V2, topk_method="group_limited_greedy", n_group=4, topk_group=2),
        replace(BASE, groups=4, topk_group=2),
    ),
    "deepseek-v3": (
        DeepseekV3TopkRouter, DeepseekV3Config(**V3, norm_topk_prob=True),
        replace(
            BASE, score="sigmoid", bias=True, groups=4, topk_group=2, group_score="top2",
            renormalise=True,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", ROUTERS)
def test_transformers_routers_choose_the_same(model: str) -> None:
    make, config, problem = ROUTERS[model]
    router = make(config)
    router.weight.data = drawn(16, HIDDEN, seed=3) / 8
    bias = None
    if problem.bias:
        bias = router.e_score_correction_bias = drawn(16, seed=4) / 4
    x = drawn(TOKENS, HIDDEN)
    with torch.no_grad():
        _, their_weights, their_ids = router(x)
    scaling = getattr(config, "routed_scaling_factor", None) or 1.0
    ids, weights = gate_reference(problem, x, router.weight.data, bias, scaling)
    order = their_ids.sort(dim=1).indices, ids.sort(dim=1).indices  # theirs may be in any order
    assert torch.equal(their_ids.gather(1, order[0]), ids.long().gather(1, order[1]))
    torch.testing.assert_close(
        their_weights.gather(1, order[0]), weights.gather(1, order[1]), rtol=1e-5, atol=1e-7
    )
