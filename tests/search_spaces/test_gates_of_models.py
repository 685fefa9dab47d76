"""Gates of models: what a config.json says of a router, against transformers' own classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from search_spaces import UserError, load_model
from search_spaces.gate_problem import GateProblem

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 32,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_local_experts": 16,
    "num_experts": 16,
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
}


def gate_of(folder: Path, model_type: str, **fields: Any) -> GateProblem:
    values = {**SIZES, "model_type": model_type, **fields}
    (folder / "config.json").write_text(json.dumps(values))
    return load_model(folder).gate()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("mixtral-8x7b", "E8.H4096.top2.f16.softmax.renorm"),
        ("olmoe-1b-7b", "E64.H2048.top8.f16.softmax"),
        ("qwen3-30b-a3b", "E128.H2048.top8.f16.softmax.renorm"),
        # 20480 wide shared experts are 8 of 2560.
        ("qwen2-57b-a14b", "E64.H3584.top8.f16.softmax.shared8gated"),
        ("deepseek-v2-lite", "E64.H2048.top6.f16.softmax.shared2"),
    ],
)
def test_gates_of_published_models(name: str, key: str) -> None:
    gate = load_model(name).gate()
    assert gate.key == f"fused_gate/{key}"
    assert gate.label == f"{name}/gate"


def test_every_family_has_the_defaults_of_transformers(tmp_path: Path) -> None:
    """A config.json that leaves a field out means the class's default."""
    from transformers import AutoConfig

    for model_type in ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek_v2", "deepseek_v3"):
        fields = {"shared_expert_intermediate_size": 0, "n_shared_experts": 0}
        gate = gate_of(tmp_path, model_type, **fields)
        theirs = AutoConfig.for_model(model_type, **{**SIZES, **fields})
        grouped = model_type == "deepseek_v3"
        assert gate.score == ("sigmoid" if grouped else "softmax")
        assert gate.bias is grouped
        assert gate.groups == (theirs.n_group if grouped else 1)
        assert gate.topk_group == (theirs.topk_group if grouped else 1)
        expected = model_type == "mixtral" or (
            model_type != "deepseek_v2" and bool(theirs.norm_topk_prob)
        )
        assert gate.renormalise is expected
        scaling = getattr(theirs, "routed_scaling_factor", 1.0)
        assert load_model(tmp_path).router.scaling == scaling


def test_deepseek_v2_limits_groups_where_its_method_says_so(tmp_path: Path) -> None:
    fields = {"n_group": 4, "topk_group": 2, "routed_scaling_factor": 16.0, "norm_topk_prob": True}
    gate = gate_of(tmp_path, "deepseek_v2", topk_method="group_limited_greedy", **fields)
    assert gate.key == "fused_gate/E16.H64.top4.f16.softmax.g4of2max"
    assert load_model(tmp_path).router.scaling == 16.0
    gate = gate_of(tmp_path, "deepseek_v2", topk_method="greedy", **fields)
    assert gate.key == "fused_gate/E16.H64.top4.f16.softmax"


def test_deepseek_v3_sums_the_two_best_of_a_group(tmp_path: Path) -> None:
    gate = gate_of(tmp_path, "deepseek_v3", n_group=4, topk_group=2, n_shared_experts=1)
    assert gate.key == "fused_gate/E16.H64.top4.f16.sigmoid.bias.g4of2top2.renorm.shared1"
    gate = gate_of(tmp_path, "deepseek_v3", n_group=1, topk_group=1, norm_topk_prob=False)
    assert GateProblem.parse(gate.key) == gate  # one group has no score


def test_shared_experts_are_experts_of_the_routed_size(tmp_path: Path) -> None:
    gate = gate_of(tmp_path, "qwen2_moe", shared_expert_intermediate_size=80)
    assert (gate.shared, gate.shared_gate) == (3, True)
    gate = gate_of(tmp_path, "qwen2_moe", shared_expert_intermediate_size=0)
    assert (gate.shared, gate.shared_gate) == (0, False)


def test_given_logits_leave_the_router_out() -> None:
    assert load_model("olmoe-1b-7b").gate(logits=True).key == "fused_gate/E64.top8.f16.softmax"
    with pytest.raises(UserError, match="a shared gate needs"):
        load_model("qwen2-57b-a14b").gate(logits=True)


@pytest.mark.parametrize(
    ("model_type", "fields", "rule"),
    [
        ("deepseek_v3", {"n_group": 3}, "'n_group' is 3: must divide the 16 experts"),
        ("deepseek_v3", {"n_group": 4, "topk_group": 5}, "'topk_group' is 5: must lie in 1..4"),
        ("deepseek_v3", {"routed_scaling_factor": "2"}, "must be a number"),
        ("deepseek_v3", {"routed_scaling_factor": 0}, "must be above 0 and finite"),
        ("deepseek_v2", {"topk_method": "noaux_tc"}, "supported are greedy, group_limited_greedy"),
        ("deepseek_v2", {"topk_method": "group_limited_greedy"}, "'n_group' is missing"),
    ],
)
def test_a_broken_router_is_told(
    model_type: str, fields: dict[str, Any], rule: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rule):
        gate_of(tmp_path, model_type, **fields)
