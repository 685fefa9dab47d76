"""GateProblem: keys that read back, and refusals that say why."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from search_spaces.errors import UserError
from search_spaces.gate_problem import DTYPES, GROUP_SCORES, SCORES, GateProblem

QWEN = GateProblem(128, 2048, 8, renormalise=True)


def drawn(rng: random.Random) -> GateProblem:
    size, groups = rng.randint(2, 20), rng.choice([1, 1, 2, 3, 8])
    hidden = rng.choice([0, 64, 2056])
    shared = rng.choice([0, 0, 1, 4])
    return GateProblem(
        experts=groups * size,
        hidden=hidden,
        top_k=rng.randint(1, size),
        dtype=rng.choice(DTYPES),
        score=rng.choice(SCORES),
        bias=rng.random() < 0.5,
        groups=groups,
        topk_group=rng.randint(1, groups) if groups > 1 else 1,
        group_score=rng.choice(GROUP_SCORES) if groups > 1 else "max",
        renormalise=rng.random() < 0.5,
        shared=shared,
        shared_gate=bool(shared and hidden) and rng.random() < 0.5,
    )


def test_keys_read_back() -> None:
    rng = random.Random()
    problems = {drawn(rng) for _ in range(300)}
    for problem in problems:
        assert GateProblem.parse(problem.key) == problem == GateProblem.parse(str(problem))
    assert len({problem.key for problem in problems}) == len(problems)


def test_the_label_is_no_part_of_the_problem() -> None:
    named = replace(QWEN, label="qwen3-30b-a3b/gate")
    assert named == QWEN and named.key == QWEN.key
    assert str(named) == "fused_gate/qwen3-30b-a3b/gate/E128.H2048.top8.f16.softmax.renorm"
    assert GateProblem.parse(str(named)).label == "qwen3-30b-a3b/gate"


def test_shared_experts_are_slots_and_groups_of_rows() -> None:
    problem = GateProblem(60, 2048, 4, shared=4, shared_gate=True)
    assert (problem.slots, problem.all_experts, problem.router_rows) == (8, 64, 61)
    assert problem.flops(10) == 2 * 10 * 61 * 2048


def test_traffic_is_every_byte_once() -> None:
    read = 2 * 2048 * (8192 + 128)
    assert QWEN.traffic(8192) == read + 4 * (5 * 8192 * 8 + 129)
    given = replace(QWEN, hidden=0, dtype="f32")
    assert given.traffic(8192) == 4 * 8192 * 128 + 4 * (5 * 8192 * 8 + 129)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"experts": 0}, "E=0: a gate chooses among 1..2048"),
        ({"experts": 2049}, "E=2049"),
        ({"top_k": 0}, "top_k=0: must lie in 1..32"),
        ({"top_k": 33}, "top_k=33: must lie in 1..32"),
        ({"experts": 4}, "top_k=8: must lie in 1..4 for E=4"),
        ({"hidden": 2047}, "H=2047 is no multiple of 8"),
        ({"hidden": -8}, "H=-8"),
        ({"dtype": "f64"}, "unknown dtype 'f64': choose one of f16, bf16, f32"),
        ({"score": "relu"}, "unknown score 'relu'"),
        ({"groups": 8, "topk_group": 4, "group_score": "mean"}, "unknown group score 'mean'"),
        ({"groups": 3}, "n_group=3 does not divide E=128"),
        ({"groups": 8, "topk_group": 9}, "topk_group=9: must lie in 1..n_group=8"),
        ({"groups": 64, "topk_group": 3}, "top_k=8 of 3 groups of 2: there are fewer"),
        ({"groups": 128, "topk_group": 9, "group_score": "top2"}, "no two largest scores"),
        ({"shared": 25}, "25 shared experts, top_k=8: at most 32"),
        ({"shared": -1}, "-1 shared experts"),
        ({"shared_gate": True}, "a shared gate needs shared experts"),
        ({"shared": 1, "shared_gate": True, "hidden": 0}, "and hidden states to look at"),
    ],
)
def test_what_no_kernel_has_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as error:
        replace(QWEN, **change)
    assert told in str(error.value)


@pytest.mark.parametrize("text", ["fused_gate/E8.top2", "fused_gate/E8.H64.top2.f16.tanh", "E8"])
def test_a_key_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"is no gate's key: expected e\.g\. fused_gate/E128"):
        GateProblem.parse(text)
