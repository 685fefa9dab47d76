"""ModelShape: published models, and what a broken config.json is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from search_spaces import PRESETS, Numerics, UserError, load_model

# Weights of all routed experts at 4.25 bits each (INT4, groups of 128), in GB, as published
# checkpoints of these models weigh; and (E, top_k) from the models' cards.
PUBLISHED = {
    "mixtral-8x7b": (24.0, 8, 2),
    "mixtral-8x22b": (71.9, 8, 2),
    "qwen2-57b-a14b": (26.2, 64, 8),
    "deepseek-v2-lite": (7.65, 64, 6),
    "qwen3-30b-a3b": (15.4, 128, 8),
    "olmoe-1b-7b": (3.42, 64, 8),  # 6.44 of its 6.9 billion parameters
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_published_sizes(name: str) -> None:
    model = load_model(name)
    gigabytes, experts, top_k = PUBLISHED[name]
    weights = model.moe_layers * model.experts * 3 * model.hidden * model.intermediate
    assert weights * 4.25 / 8 / 1e9 == pytest.approx(gigabytes, rel=0.005)
    assert (model.experts, model.top_k, model.name) == (experts, top_k, name)


def test_every_published_model_is_a_preset() -> None:
    assert set(PRESETS) == set(PUBLISHED)


def test_shapes_of_both_layers() -> None:
    mixtral = load_model("mixtral-8x7b")
    gate_up, down = mixtral.problem("gate_up"), mixtral.problem("down", Numerics.FP32)
    assert str(gate_up) == "grouped_gemm/mixtral-8x7b/gate_up/E8.N28672.K4096.top2.f16.promoted"
    assert str(down) == "grouped_gemm/mixtral-8x7b/down/E8.N4096.K14336.top2.f16.fp32"
    olmoe = load_model("OLMoE-1B-7B").problem("gate_up")
    assert (olmoe.n, olmoe.k, olmoe.experts, olmoe.top_k) == (2048, 2048, 64, 8)


def test_gate_up_may_be_fused_and_down_may_not() -> None:
    mixtral = load_model("mixtral-8x7b")
    fused = mixtral.problem("gate_up", epilogue="swiglu", gather=True)
    assert fused.key == f"{mixtral.problem('gate_up').key}.swiglu.gather"
    assert fused.label == "mixtral-8x7b/gate_up"
    wishes: list[dict[str, Any]] = [{"epilogue": "swiglu"}, {"gather": True}]
    for wish in wishes:
        with pytest.raises(UserError, match="layer down has neither gate columns nor tokens"):
            mixtral.problem("down", **wish)


def test_shared_experts_and_dense_layers() -> None:
    deepseek, qwen2 = load_model("deepseek-v2-lite"), load_model("qwen2-57b-a14b")
    assert (deepseek.layers, deepseek.moe_layers) == (27, 26)
    assert deepseek.shared_intermediate == 2 * 1408
    assert (qwen2.shared_intermediate, qwen2.moe_layers) == (20480, 28)
    assert load_model("mixtral-8x22b").shared_intermediate == 0


def test_renormalisation_follows_each_family() -> None:
    renormalised = {name for name in PRESETS if load_model(name).norm_topk}
    assert renormalised == {"mixtral-8x7b", "mixtral-8x22b", "qwen3-30b-a3b"}


def test_unknown_layer_names_the_valid_ones() -> None:
    with pytest.raises(UserError, match="unknown layer 'up': choose one of gate_up, down"):
        load_model("mixtral-8x7b").problem("up")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("mixtral-8x7", "mixtral-8x7b"), ("qwen3-30b", "qwen3-30b-a3b"), ("olmoe", "olmoe-1b-7b")],
)
def test_unknown_model_names_presets_and_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(UserError) as error:
        load_model(typed)
    assert str(error.value).endswith(f"did you mean {meant}?")
    assert all(name in str(error.value) for name in PRESETS)


@pytest.mark.parametrize("typed", ["zzzz", "no/such/dir", "x" * 5000, "null\0byte"])
def test_hopeless_names_get_no_suggestion(typed: str) -> None:
    with pytest.raises(UserError, match="unknown model") as error:
        load_model(typed)
    assert "did you mean" not in str(error.value)


QWEN: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "hidden_size": 64,
    "intermediate_size": 999,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 6,
    "num_experts": 16,
    "num_experts_per_tok": 4,
}


def write(folder: Path, **changes: Any) -> Path:
    values = {name: value for name, value in {**QWEN, **changes}.items() if value != "absent"}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def test_directory_and_file_give_the_same_model(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    model = load_model(write(folder))
    assert model == load_model(str(folder / "config.json"))
    assert model.name == "my-model"
    assert model.problem("gate_up").label == "my-model/gate_up"
    assert (model.hidden, model.intermediate, model.experts, model.top_k) == (64, 32, 16, 4)


def test_sparse_steps_and_dense_layers_of_qwen(tmp_path: Path) -> None:
    # layers 1, 3, 5 are sparse by step; 3 is listed as dense, 77 does not exist
    model = load_model(write(tmp_path, decoder_sparse_step=2, mlp_only_layers=[3, 77]))
    assert (model.layers, model.moe_layers) == (6, 2)


def test_unset_optional_fields_take_the_class_defaults(tmp_path: Path) -> None:
    model = load_model(write(tmp_path, norm_topk_prob=None))
    assert (model.norm_topk, model.moe_layers) == (False, 6)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("model_type", "absent", "missing"),
        ("model_type", "llama", "supported are mixtral"),
        ("model_type", 3, "text"),
        ("num_experts", "absent", "missing"),
        ("num_experts", None, "missing"),
        ("num_experts", "16", "whole number"),
        ("num_experts", True, "whole number"),
        ("num_experts", 16.0, "whole number"),
        ("num_experts", 0, "1..4096"),
        ("num_experts", 10**9, "1..4096"),
        ("num_experts_per_tok", 17, "1..16"),
        ("hidden_size", 63, "multiple of 8"),
        ("hidden_size", 1 << 40, "1..1048576"),
        ("hidden_size", -64, "1..1048576"),
        ("moe_intermediate_size", [32], "whole number"),
        ("num_hidden_layers", 0, "1..4096"),
        ("norm_topk_prob", "yes", "true or false"),
        ("mlp_only_layers", "all", "list of layer numbers"),
        ("mlp_only_layers", [1.5], "list of layer numbers"),
        ("decoder_sparse_step", 0, "1..6"),
    ],
)
def test_bad_fields_are_named_with_their_file(
    tmp_path: Path, field: str, value: Any, rule: str
) -> None:
    with pytest.raises(UserError) as error:
        load_model(write(tmp_path, **{field: value}))
    message = str(error.value)
    assert str(tmp_path / "config.json") in message
    assert f"'{field}'" in message
    assert rule in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["", "not json", "[1, 2]", "3", "{" * 50, "[" * 100_000])
def test_files_that_are_no_config_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        load_model(tmp_path)


def test_binary_file_and_empty_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no config\.json"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match="is not JSON"):
        load_model(tmp_path)
