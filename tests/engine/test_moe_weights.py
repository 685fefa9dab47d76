"""Weights under Hugging Face's names become the layer's, and wrong ones are told in a line."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from engine.kernels import interleave_gate_up
from engine.layers import MoEConfig, MoEWeights
from search_spaces import UserError
from search_spaces.layer_problem import LayerProblem
from tests.engine.moe_families import SIZE, Case, make_case

CPU = torch.device("cpu")


@pytest.fixture
def case() -> Case:
    """Qwen2-MoE: two full shared experts, a part of a third, and a shared gate."""
    return make_case("qwen2_moe", "uniform", seed=21)


def packed(case: Case, state: dict[str, torch.Tensor] | None = None) -> MoEWeights:
    config = MoEConfig.from_hf(case.config)
    return MoEWeights.from_hf(case.state if state is None else state, config, CPU)


def by_expert(
    state: dict[str, torch.Tensor], names: tuple[str, str, str]
) -> dict[str, torch.Tensor]:
    """The state as checkpoints have it on disk: a tensor for each expert and projection."""
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("experts.")}
    for expert, both in enumerate(state["experts.gate_up_proj"]):
        tensors = (*both.chunk(2), state["experts.down_proj"][expert])
        for name, tensor in zip(names, tensors, strict=True):
            kept[f"experts.{expert}.{name}.weight"] = tensor.clone()
    return kept


@pytest.mark.parametrize("names", [("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2")])
def test_fused_and_single_experts_pack_alike(case: Case, names: tuple[str, str, str]) -> None:
    ours, theirs = packed(case), packed(case, by_expert(case.state, names))
    for name in ("router", "gate_up", "down"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))


def test_routed_experts_are_interleaved(case: Case) -> None:
    weights = packed(case)
    assert torch.equal(weights.gate_up[:12], interleave_gate_up(case.state["experts.gate_up_proj"]))
    assert torch.equal(weights.down[:12], case.state["experts.down_proj"])
    assert weights.bias is None


def test_a_shared_expert_is_cut_up_and_the_rest_is_zero(case: Case) -> None:
    weights = packed(case)
    assert weights.gate_up.shape == (15, 2 * SIZE, 64)
    gate, up = weights.gate_up[12:].unflatten(1, (-1, 2, 8)).unbind(2)
    for ours, name in ((gate, "gate_proj"), (up, "up_proj")):
        rows = ours.flatten(0, 2)
        assert torch.equal(rows[:96], case.state[f"shared_expert.{name}.weight"])
        assert not rows[96:].any()
    columns = weights.down[12:].transpose(1, 2).flatten(0, 1)
    assert torch.equal(columns[:96], case.state["shared_expert.down_proj.weight"].T)
    assert not columns[96:].any()


def test_the_shared_gate_is_the_routers_last_row(case: Case) -> None:
    router = packed(case).router
    assert torch.equal(router[:12], case.state["gate.weight"])
    assert torch.equal(router[12:], case.state["shared_expert_gate.weight"])


def test_a_correction_bias_is_fp32_whatever_it_was() -> None:
    case = make_case("deepseek_v3", "uniform", seed=22)
    name = "gate.e_score_correction_bias"
    bias = packed(case, {**case.state, name: case.state[name].double()}).bias
    assert bias is not None and bias.dtype is torch.float32
    assert torch.equal(bias, case.state[name])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("gate.weight", None, "weight 'gate.weight' is missing: the state has "),
        ("experts.down_proj", None, "weight 'experts.down_proj' is missing"),
        ("experts.gate_up_proj", None, "weight 'experts.0.gate_proj.weight' is missing"),
        ("shared_expert.up_proj.weight", None, "weight 'shared_expert.up_proj.weight' is missing"),
        ("gate.weight", torch.zeros(11, 64).half(), "has shape [11, 64]: the config says [12, 64]"),
        ("experts.down_proj", torch.zeros(12, 64, 48).half(), "the config says [12, 64, 40]"),
        ("gate.weight", torch.zeros(12, 64), "is torch.float32: must be torch.float16, convert"),
        ("gate.weight", torch.zeros(12, 64).bfloat16(), "is torch.bfloat16: must be torch.float16"),
        (
            "gate.weight",
            torch.zeros(12, 64, dtype=torch.half, device="meta"),
            "is on the meta device: load its values first",
        ),
        (
            "shared_expert.gate_proj.bias",
            torch.zeros(96).half(),
            "weight 'shared_expert.gate_proj.bias' has no place in this layer",
        ),
    ],
)
def test_a_state_of_another_layer(
    case: Case, name: str, change: torch.Tensor | None, message: str
) -> None:
    state = {known: tensor for known, tensor in case.state.items() if known != name}
    if change is not None:
        state[name] = change
    with pytest.raises(UserError, match=re.escape(message)):
        packed(case, state)


def test_packed_weights_of_another_problem(case: Case) -> None:
    weights, problem = packed(case), MoEConfig.from_hf(case.config).problem
    weights.check(problem, CPU)
    wrong = LayerProblem(replace(problem.gate, shared=2), problem.intermediate)
    with pytest.raises(UserError, match=r"gate_up has shape \[15, 80, 64\]: moe_layer/.* needs"):
        weights.check(wrong, CPU)
    with pytest.raises(UserError, match="bias is missing: fused_gate/"):
        weights.check(LayerProblem(replace(problem.gate, bias=True), 40), CPU)
    with pytest.raises(UserError, match="bias is given: fused_gate/"):
        replace(weights, bias=torch.zeros(12)).check(problem, CPU)
    with pytest.raises(UserError, match="router is on cpu: must be on meta"):
        weights.check(problem, torch.device("meta"))
