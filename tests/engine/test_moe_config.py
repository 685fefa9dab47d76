"""What a layer reads of a model's config, and what it says of one that it cannot read."""

from __future__ import annotations

from typing import Any

import pytest

from engine.layers import MoEConfig
from search_spaces import PRESETS, Numerics, UserError, load_model
from search_spaces.gate_problem import GateProblem
from search_spaces.layer_problem import LayerProblem
from tests.engine.moe_families import FAMILIES, make_case


def fields(family: str = "qwen2_moe", **changes: Any) -> dict[str, Any]:
    """A config's fields; a change to None takes one away."""
    values: dict[str, Any] = make_case(family, "uniform", seed=1).config.to_dict()
    values.update(changes)
    return {name: value for name, value in values.items() if value is not None}


@pytest.mark.parametrize("family", FAMILIES)
def test_an_object_and_its_fields_say_the_same(family: str) -> None:
    config = make_case(family, "uniform", seed=1).config
    assert MoEConfig.from_hf(config) == MoEConfig.from_hf(config.to_dict())


def test_sizes_of_a_padded_shared_expert() -> None:
    config = MoEConfig.from_hf(fields(), Numerics.FP32)
    gate = GateProblem(experts=12, hidden=64, top_k=4, score="softmax", shared=3, shared_gate=True)
    assert config.problem == LayerProblem(gate, 40, Numerics.FP32)
    assert config.shared_intermediate == 96
    assert (config.problem.gate_up.n, config.problem.down.k) == (80, 40)


def test_scaling_is_the_models() -> None:
    assert MoEConfig.from_hf(fields("deepseek_v3")).scaling == 1.5
    assert MoEConfig.from_hf(fields("mixtral")).scaling == 1.0


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_makes_the_layer_that_it_names(preset: str) -> None:
    model = load_model(preset)
    config = MoEConfig(model.layer(), shared_intermediate=model.shared_intermediate)
    assert config.problem.gate.shared * config.problem.intermediate >= config.shared_intermediate


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": None}, "field 'hidden_act' is None: supported are silu, swish"),
        ({"hidden_act": "gelu"}, "field 'hidden_act' is 'gelu': supported are silu, swish"),
        ({"num_experts_per_tok": 13}, "field 'num_experts_per_tok' is 13: must lie in 1..12"),
        ({"num_experts_per_tok": None}, "field 'num_experts_per_tok' is missing"),
        ({"num_experts": None}, "field 'num_experts' is missing"),
        ({"hidden_size": 60}, "field 'hidden_size' is 60: must be a multiple of 8"),
        ({"model_type": None}, "field 'model_type' is missing"),
        ({"model_type": "llama"}, "field 'model_type' is \"llama\": supported are mixtral"),
        ({"shared_expert_intermediate_size": 100}, "is 100: must be a multiple of 8"),
    ],
)
def test_a_config_that_no_layer_has(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match="the model's config: field") as caught:
        MoEConfig.from_hf(fields(**changes))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_group": 3}, "field 'n_group' is 3: must divide the 16 experts"),
        ({"topk_group": 5}, "field 'topk_group' is 5: must lie in 1..4"),
        ({"n_group": 16, "topk_group": 8}, "groups of 1 have no two largest scores"),
        ({"topk_group": 1, "num_experts_per_tok": 5}, "top_k=5 of 1 groups of 4"),
        ({"routed_scaling_factor": 0}, "field 'routed_scaling_factor' is 0"),
    ],
)
def test_groups_that_do_not_go_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        MoEConfig.from_hf(fields("deepseek_v3", **changes))
    assert message in str(caught.value)


def test_a_shared_size_that_the_gate_does_not_know() -> None:
    problem = LayerProblem(GateProblem(8, 64, 2, shared=2), 40)
    assert MoEConfig(problem).shared_intermediate == 80
    with pytest.raises(UserError, match="120 needs 3 experts of 40: the gate has 2 shared ones"):
        MoEConfig(problem, shared_intermediate=120)
    with pytest.raises(UserError, match="a shared size of 77 is no multiple of 8"):
        MoEConfig(problem, shared_intermediate=77)
