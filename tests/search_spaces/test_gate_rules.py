"""The gate's rules answer for every config, valid or not: samplers propose what they like."""

from __future__ import annotations

import random

import pytest

from search_spaces import find_gpu, space_for
from search_spaces.gate_problem import GateProblem

DEEPSEEK_V3 = "fused_gate/E256.H7168.top8.f16.sigmoid.bias.g8of4top2.renorm.shared1"
KEYS = (
    "fused_gate/E128.H2048.top8.f16.softmax.renorm",
    "fused_gate/E64.top8.bf16.softmax",
    "fused_gate/E8.H64.top2.f32.softmax",
    DEEPSEEK_V3,
)


@pytest.mark.parametrize("key", KEYS)
def test_any_point_of_the_product_is_explained(key: str) -> None:
    space = space_for("fused_gate")
    view, rng = space.view(GateProblem.parse(key), find_gpu("RTX 2080 Ti")), random.Random()
    for _ in range(2000):
        point = space.config_type(**{p.name: rng.choice(p.values) for p in space.parameters})
        near = view.snap(point, (), rng) if not rng.randrange(200) else None
        assert near is None or not view.explain(near)
        assert all(violation.reason for violation in view.explain(point)), point


@pytest.mark.parametrize("key", KEYS)
def test_names_are_lossless_and_the_default_is_valid(key: str) -> None:
    space = space_for("fused_gate")
    view = space.view(GateProblem.parse(key), find_gpu("RTX 2080 Ti"))
    assert not view.explain(view.default())
    for _ in range(50):
        config = view.sample(random.Random())
        assert space.config_type.parse(str(config)) == config
