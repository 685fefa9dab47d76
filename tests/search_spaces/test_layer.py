"""A layer's problem and config: what they are made of, and names without loss."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from search_spaces import Bucket, Numerics, Problem, UserError, find_gpu, template_fingerprint
from search_spaces.gate_problem import GateProblem
from search_spaces.layer import LayerConfig
from search_spaces.layer_problem import LayerProblem
from search_spaces.layer_space import LayerView, part_bucket
from search_spaces.problems import parse_problem
from search_spaces.views import view_of

GPU = find_gpu("RTX 2080 Ti")
MIXTRAL = LayerProblem(
    GateProblem(8, 4096, 2, renormalise=True, label="mixtral-8x7b/gate"), 14336,
    label="mixtral-8x7b",
)  # fmt: skip
QWEN2 = LayerProblem(GateProblem(64, 3584, 8, shared=8, shared_gate=True), 2560)
DEEPSEEK = LayerProblem(
    GateProblem(256, 7168, 8, score="sigmoid", bias=True, groups=8, topk_group=4,
                group_score="top2", renormalise=True, shared=1),
    2048, numerics=Numerics.FP32, epilogue="geglu", label="deep/seek",
)  # fmt: skip
TINY = LayerProblem(GateProblem(4, 64, 2), 64)
LAYERS = (MIXTRAL, QWEN2, DEEPSEEK, TINY)


def test_a_key_tells_people_what_the_layer_is() -> None:
    shape = "E8.H4096.I14336.top2.f16.promoted.swiglu.softmax.renorm"
    assert str(MIXTRAL) == f"moe_layer/mixtral-8x7b/{shape}"
    assert MIXTRAL.key == f"moe_layer/{shape}"


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_keys_read_back(layer: LayerProblem) -> None:
    for text in (layer.key, str(layer)):
        found = parse_problem(text)
        assert isinstance(found, LayerProblem)
        assert (found, hash(found), found.key) == (layer, hash(layer), layer.key)
    assert parse_problem(str(layer)).label == layer.label


def test_every_field_but_labels_is_in_the_key() -> None:
    others = [
        replace(TINY, intermediate=128),
        replace(TINY, numerics=Numerics.FP16),
        replace(TINY, epilogue="reglu"),
        replace(TINY, gate=replace(TINY.gate, renormalise=True)),
        replace(TINY, gate=replace(TINY.gate, top_k=1)),
    ]
    assert len({layer.key for layer in (TINY, *others)}) == len({TINY, *others}) == 6
    assert replace(TINY, label="x", gate=replace(TINY.gate, label="y")) == TINY


def test_its_gemms_see_shared_experts_as_experts() -> None:
    assert QWEN2.gate_up == Problem(
        "grouped_gemm", 72, 5120, 3584, 16, epilogue="swiglu", gather=True
    )
    assert QWEN2.down == Problem("grouped_gemm", 72, 3584, 2560, 16, combine="ordered")
    assert QWEN2.parts == (QWEN2.gate, QWEN2.gate_up, QWEN2.down)
    labels = [part.label for part in MIXTRAL.parts]
    assert labels == ["mixtral-8x7b/gate", "mixtral-8x7b/gate_up", "mixtral-8x7b/down"]
    assert [part.label for part in TINY.parts] == ["custom"] * 3


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("size", [0.5, 1.0, 16.0, 300.0])
def test_all_parts_of_a_bucket_meet_as_many_tokens(layer: LayerProblem, size: float) -> None:
    bucket = Bucket(size)
    tokens = bucket.tokens(layer)
    for part in layer.parts:
        assert part_bucket(layer, part, bucket).tokens(part) == tokens
    for part in layer.parts[1:]:
        assert part_bucket(layer, part, bucket) == bucket


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("moe_layer/E8.H64", "no layer's key"),
        ("moe_layer/E4.H64.I64.top2.f16.half.swiglu.softmax", "no layer's key"),
        ("moe_layer/E4.H64.I64.top2.f16.fp32.plain.softmax", "does not join gate and up"),
        ("moe_layer/E4.H64.I64.top2.f16.fp32.swiglu.hardmax", "no gate's key"),
        ("moe_layer/E4.H64.I64.top9.f16.fp32.swiglu.softmax", "top_k=9"),
        ("moe_layer/E4.H64.I60.top2.f16.fp32.swiglu.softmax", "not a multiple of"),
        ("moe_layer/E4.H64.I64.top2.bf16.fp32.swiglu.softmax", "is no gate of a layer"),
    ],
)
def test_bad_keys_are_told(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        parse_problem(text)


def test_config_names_read_back() -> None:
    view, rng = view_of(TINY, GPU), random.Random(7)
    assert isinstance(view, LayerView)
    for _ in range(20):
        config = LayerConfig(*(part.sample(rng) for part in view.parts))
        assert LayerConfig.parse(str(config)) == config
        assert view.explain(config) == []


def test_a_config_is_valid_where_its_parts_are() -> None:
    view = view_of(TINY, GPU)
    default = view.default()
    assert default.parts == tuple(view_of(part, GPU).default() for part in TINY.parts)
    assert view.explain(default) == []
    wrong = replace(default, down=replace(default.down, combine="atomic"))
    [broken] = view.explain(wrong)
    assert "down: " in str(broken)


@pytest.mark.parametrize("text", ["", "a+b", "a+b+c", "128x128x32+1+2+3"])
def test_bad_config_names_are_told(text: str) -> None:
    with pytest.raises(UserError, match=r"is no (moe_layer|fused_gate) config"):
        LayerConfig.parse(text)


def test_a_layers_fingerprint_is_that_of_its_templates() -> None:
    parts = template_fingerprint("fused_gate"), template_fingerprint("grouped_gemm")
    assert template_fingerprint("moe_layer") not in parts
    assert len(template_fingerprint("moe_layer")) == 16
